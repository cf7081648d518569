//! The text of metrics, read back by a strict reader of the format.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use commonhold_runtime::metrics::prometheus_text;
use commonhold_runtime::{Config, Error, GuardOptions, Metrics, Runtime, TableConfig};
use commonhold_testing::exposition::{self, Family, Sample};

fn runtime() -> Runtime {
    let config = Config::ephemeral().participants(8).table(TableConfig::new("orders", &["n:i64"]));
    // No steward: it would be a participant too.
    Runtime::open(config.without_steward()).unwrap()
}

/// The families by name; the text is as it should be.
fn read(text: &str) -> BTreeMap<String, Family> {
    let families = exposition::read(text).unwrap();
    let none: [String; 0] = [];
    assert_eq!(exposition::lint(&families, &exposition::MISSION), none, "{text}");
    families.into_iter().map(|family| (family.name.clone(), family)).collect()
}

/// A histogram's count, sum, and number of buckets.
fn histogram(family: &Family, labels: &BTreeMap<String, String>) -> (f64, f64, usize) {
    let named = |ending: &str, sample: &&Sample| {
        sample.name.strip_prefix(family.name.as_str()) == Some(ending)
            && labels.iter().all(|(name, value)| sample.labels.get(name) == Some(value))
    };
    let one = |ending| family.samples.iter().find(|s| named(ending, s)).unwrap().value;
    let buckets = family.samples.iter().filter(|s| named("_bucket", s)).count();
    (one("_count"), one("_sum"), buckets)
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
        let found = families[name].samples.iter().find(|s| s.labels == *labels);
        found.unwrap_or_else(|| panic!("{name} {labels:?}")).value
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
    assert_eq!(histogram(took, &label("kind", "cascade")), (5.0, 70_011.0, 28));
    assert_eq!(histogram(took, &label("kind", "tick")), (0.0, 0.0, 28));
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
    let value = |name: &str| families[name].samples[0].value;
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
