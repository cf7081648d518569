//! The text of metrics, read back by a strict reader of the format.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use commonhold_runtime::metrics::prometheus_text;
use commonhold_runtime::{Config, Error, GuardOptions, Metrics, Runtime, TableConfig};

/// A name with its labels, sorted.
type Key = (String, BTreeMap<String, String>);

/// A family as it was read.
#[derive(Debug)]
struct Family {
    kind: String,
    help: String,
    samples: Vec<(Key, f64)>,
}

fn runtime() -> Runtime {
    let config = Config::ephemeral().participants(8).table(TableConfig::new("orders", &["n:i64"]));
    // No steward: it would be a participant too.
    Runtime::open(config.without_steward()).unwrap()
}

fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `\\`, `\n` and, in labels, `\"`; nothing else may stand behind a backslash.
fn unescape(text: &str, quotes: bool) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next().unwrap() {
                'n' => '\n',
                '\\' => '\\',
                '"' if quotes => '"',
                other => panic!("\\{other} in {text:?}"),
            },
            '"' if quotes => panic!("a bare quote in {text:?}"),
            c => c,
        });
    }
    plain
}

/// `name{label="value",…} number`
fn read_sample(line: &str) -> (Key, f64) {
    let (series, number) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
        None => (series, ""),
    };
    assert!(is_name(name), "{line}");
    let mut found = BTreeMap::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, behind) = rest.split_once("=\"").unwrap();
        assert!(is_name(label), "{line}");
        // The first quote that no backslash hides.
        let mut hidden = false;
        let end = behind.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !hidden;
            hidden = *c == '\\' && !hidden;
            ends
        });
        let end = end.unwrap().0;
        let twice = found.insert(label.to_owned(), unescape(&behind[..end], true));
        assert_eq!(twice, None, "{line}");
        rest = &behind[end + 1..];
        assert!(rest.is_empty() || rest.strip_prefix(',').is_some_and(|r| !r.is_empty()), "{line}");
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    let number = match number {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().unwrap(),
    };
    ((name.to_owned(), found), number)
}

/// Reads the text: each family once, its help and type first, its samples together, none twice.
fn read(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
        let mut samples = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (key, number) = read_sample(line);
            assert!(seen.insert(key.clone()), "{line} twice");
            let ending = key.0.strip_prefix(name).unwrap();
            let endings: &[&str] = match kind {
                "counter" | "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("{other}"),
            };
            assert!(endings.contains(&ending), "{line}");
            samples.push((key, number));
        }
        assert!(!samples.is_empty(), "{name}");
        let family = Family { kind: kind.to_owned(), help: unescape(help, false), samples };
        assert!(families.insert(name.to_owned(), family).is_none(), "{name} twice");
    }
    families
}

/// The buckets rise to the count, at rising bounds; they, and the number of buckets.
fn check_histogram(family: &Family, labels: &BTreeMap<String, String>) -> (u64, f64, usize) {
    let name = family.samples[0].0.0.strip_suffix("_bucket").unwrap();
    let of = |ending: &str| {
        let key = (format!("{name}{ending}"), labels.clone());
        family.samples.iter().find(|s| s.0 == key).unwrap().1
    };
    let (mut last, mut below, mut buckets) = (f64::NEG_INFINITY, 0.0, 0);
    for ((name, labelled), count) in &family.samples {
        let mut own = labelled.clone();
        let Some(bound) = own.remove("le").filter(|_| own == *labels) else { continue };
        let bound: f64 = bound.parse().unwrap();
        assert!(name.ends_with("_bucket") && bound > last && *count >= below, "{name} {bound}");
        (last, below, buckets) = (bound, *count, buckets + 1);
    }
    assert_eq!(last, f64::INFINITY);
    assert_eq!(below, of("_count"));
    (below as u64, of("_sum"), buckets)
}

#[test]
fn what_was_counted_is_read_back_from_the_text() {
    let runtime = runtime();
    let metrics = runtime.metrics().unwrap();
    let odd = "a \"quoted\" \\ back\nslash, ä=\"b\"";
    let plain = metrics.counter("sigil_gc_sweep_total", "Sweeps \\ done,\nin all.").unwrap();
    let labelled = metrics.label("reason", odd).counter("sigil_gc_sweep_total", "").unwrap();
    let gauge = metrics.gauge("resonance_worker_pool_size", "Workers.").unwrap();
    let kinds = ["cascade", "tick"].map(|kind| {
        let metrics = metrics.label("kind", kind);
        metrics.histogram("resonance_worker_task_duration_ms", "How long.").unwrap()
    });
    let waited = metrics.counter("waited_seconds_total", "Time waited.").unwrap();
    plain.add(3).unwrap();
    labelled.inc().unwrap();
    gauge.set(f64::NEG_INFINITY).unwrap();
    waited.add_time(Duration::from_millis(2500)).unwrap();
    for millis in [0, 1, 5, 5, 70_000] {
        kinds[0].observe_time(Duration::from_millis(millis)).unwrap();
    }
    let options = GuardOptions::new().metrics("resonance_mutex");
    let guard = runtime.guard_with("resonance", &options).unwrap();
    guard.with(|_| ()).unwrap();

    let families = read(&prometheus_text(&runtime.samples().unwrap()));
    let none = BTreeMap::new();
    let label = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let value = |name: &str, labels: &BTreeMap<String, String>| {
        let found = families[name].samples.iter().find(|s| s.0.1 == *labels);
        found.unwrap_or_else(|| panic!("{name} {labels:?}")).1
    };
    assert_eq!(families["sigil_gc_sweep_total"].help, "Sweeps \\ done,\nin all.");
    assert_eq!(families["sigil_gc_sweep_total"].kind, "counter");
    assert_eq!(value("sigil_gc_sweep_total", &none), 3.0);
    assert_eq!(value("sigil_gc_sweep_total", &label("reason", odd)), 1.0);
    assert_eq!(value("resonance_worker_pool_size", &none), f64::NEG_INFINITY);
    assert_eq!(value("waited_seconds_total", &none), 2.5);
    assert_eq!(families["resonance_mutex_contention_total"].kind, "counter");
    assert_eq!(families["resonance_mutex_wait_time_ms"].kind, "gauge");
    assert_eq!(value("resonance_mutex_contention_total", &none), 0.0);
    assert_eq!(value("commonhold_guard_acquisitions_total", &label("guard", "resonance")), 1.0);
    assert_eq!(value("commonhold_records", &label("table", "orders")), 0.0);
    assert_eq!(value("commonhold_participants_limit", &none), 8.0);
    let took = &families["resonance_worker_task_duration_ms"];
    assert_eq!(check_histogram(took, &label("kind", "cascade")), (5, 70_011.0, 28));
    assert_eq!(check_histogram(took, &label("kind", "tick")), (0, 0.0, 28));
}

#[test]
fn a_guards_metrics_are_what_was_waited() {
    const WAITERS: u32 = 4;
    let runtime = runtime();
    let options = GuardOptions::new().metrics("resonance_mutex");
    let guard = runtime.guard_with("resonance", &options).unwrap();
    let waits = || {
        let guard = runtime.guard_with("resonance", &options).unwrap();
        guard.with(|held| held.waited()).unwrap()
    };
    let waited: Vec<Duration> = std::thread::scope(|scope| {
        let all = guard.with(|_| {
            let all: Vec<_> = (0..WAITERS).map(|_| scope.spawn(waits)).collect();
            // All wait for this section, so none gets the guard without having waited.
            while runtime.space().guards().unwrap()[0].waiters < WAITERS {
                std::thread::yield_now();
            }
            all
        });
        all.unwrap().into_iter().map(|one| one.join().unwrap()).collect()
    });
    let by_hand: Duration = waited.iter().sum();
    assert!(waited.iter().all(|waited| !waited.is_zero()));
    let families = read(&prometheus_text(&runtime.samples().unwrap()));
    let value = |name: &str| families[name].samples[0].1;
    assert_eq!(value("resonance_mutex_contention_total"), f64::from(WAITERS));
    assert_eq!(value("resonance_mutex_wait_time_ms"), by_hand.as_nanos() as f64 / 1e6);
    assert_eq!(value("commonhold_guard_acquisitions_total"), f64::from(WAITERS + 1));
}

#[test]
fn the_page_about_metrics_has_those_of_every_segment() {
    let page = include_str!("../../../docs/metrics.md");
    // What comes after is there in some segments only.
    let page = page.split_once("\n## Of a worker pool\n").unwrap().0;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `commonhold_"));
    let columns = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    let mut told = BTreeMap::new();
    for row in columns {
        for name in row[0].split(", ") {
            let name = name.trim_matches('`');
            let name = name.strip_prefix("commonhold_").unwrap_or(name);
            told.insert(format!("commonhold_{name}"), row[1].to_owned());
        }
    }
    let runtime = runtime();
    runtime.guard("g").unwrap();
    runtime.counter("c").unwrap();
    runtime.ids("i").unwrap();
    let there = read(&prometheus_text(&runtime.samples().unwrap()));
    let there: BTreeMap<_, _> = there.into_iter().map(|(name, f)| (name, f.kind)).collect();
    assert_eq!(told, there);
}

#[test]
fn metrics_share_a_participant_or_borrow_one() {
    let runtime = runtime();
    let metrics = runtime.metrics().unwrap();
    let many: Vec<_> = (0..20).map(|i| metrics.gauge(&format!("g{i}"), "").unwrap()).collect();
    let handle = runtime.handle().unwrap();
    let borrowed = Metrics::new(&handle).gauge("g3", "").unwrap();
    assert_eq!(borrowed.add(1.5).unwrap(), 1.5);
    assert_eq!(many[3].add(1.0).unwrap(), 2.5, "the same gauge");
    let mine = std::process::id();
    let entries = runtime.space().participants();
    assert_eq!(entries.iter().filter(|p| p.identity.pid == mine).count(), 2, "{entries:?}");
    let other = metrics.histogram("g3", "").unwrap_err();
    assert!(matches!(other, Error::OtherKind { .. }), "{other}");
}
