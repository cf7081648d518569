//! Guards and metrics that a program registered, as the commands show them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::World;
use commonhold::{Config, GuardOptions, Runtime};
use commonhold_testing::exposition::{MISSION, lint, read};
use serde_json::{Value, json};

/// A program that counts something and holds a guard once.
fn count(world: &World) {
    let config = Config::named(&world.segment()).attach_only().without_steward();
    let runtime = Runtime::open(config).unwrap();
    let metrics = runtime.metrics().unwrap();
    metrics.counter("sweeps_total", "Sweeps.").unwrap().add(5).unwrap();
    let took = metrics.label("kind", "tick").histogram("took_ms", "Time taken.").unwrap();
    took.observe(2_000_000).unwrap();
    took.observe(1 << 50).unwrap();
    let options = GuardOptions::new().metrics("resonance_mutex");
    runtime.guard_with("resonance", &options).unwrap().with(|_| ()).unwrap();
}

#[test]
fn metrics_are_printed_for_prometheus_and_as_json() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=5"]);
    count(&world);
    let text = world.ok(&["metrics"]);
    for line in [
        "# HELP sweeps_total Sweeps.",
        "# TYPE sweeps_total counter",
        "sweeps_total 5",
        "took_ms_count{kind=\"tick\"} 2",
        "commonhold_commits_total 1",
        "commonhold_records{table=\"counters\"} 1",
        "commonhold_guard_acquisitions_total{guard=\"resonance\"} 1",
        "resonance_mutex_contention_total 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    let all = world.json(&["metrics"]);
    let find = |name: &str| {
        let metrics = all["metrics"].as_array().unwrap();
        metrics.iter().find(|metric| metric["name"] == name).unwrap().clone()
    };
    let want = json!({
        "name": "sweeps_total", "kind": "counter", "unit": "", "help": "Sweeps.", "labels": {}, "value": 5
    });
    assert_eq!(find("sweeps_total"), want);
    let took = find("took_ms");
    assert_eq!((&took["kind"], &took["unit"]), (&json!("histogram"), &json!("milliseconds")));
    assert_eq!((&took["labels"], &took["count"]), (&json!({"kind": "tick"}), &json!(2)));
    assert_eq!((&took["p50"], &took["p99"]), (&json!(2.097_152), &Value::Null));
    let buckets = json!([{"up_to": 2.097_152, "count": 1}, {"up_to": null, "count": 1}]);
    assert_eq!(took["buckets"], buckets);
}

#[test]
fn inspect_and_top_show_guards_and_metrics() {
    let world = World::with_counters();
    assert_eq!(world.json(&["inspect"])["guards"], json!([]));
    count(&world);
    world.ok(&["counter", "orders", "--add", "3"]);
    world.ok(&["ids", "nodes", "--count", "2"]);
    let text = world.ok(&["metrics"]);
    assert!(text.contains("\ncommonhold_counters{counter=\"orders\"} 3\n"), "{text}");
    assert!(text.contains("\ncommonhold_ids_last{ids=\"nodes\"} 2\n"), "{text}");
    let found = lint(&read(&text).unwrap(), &MISSION);
    assert_eq!(found, ["took_ms: an abbreviated unit"], "but for what this test has named");
    let looks = world.json(&["inspect"]);
    let want = json!([{
        "name": "resonance", "holder_entry": null, "holder_pid": null, "number": 1,
        "hold_limit_ms": null, "waiters": 0, "contentions": 0, "waited_ns": 0
    }]);
    assert_eq!(looks["guards"], want);
    assert_eq!(looks["counters"], json!([{"name": "orders", "value": 3}]));
    assert_eq!(looks["ids"], json!([{"name": "nodes", "last": 2}]));
    let names = looks["metrics"].as_array().unwrap().iter().map(|m| m["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["sweeps_total", "took_ms"]);
    let text = world.ok(&["inspect"]);
    assert!(text.contains("\n2 metrics; `commonhold metrics` prints them\n"), "{text}");
    let frame = world.ok(&["top", "--once", "--interval", "10ms"]);
    let line = |begin: &str| {
        let line = frame.lines().find(|l| l.starts_with(begin));
        line.unwrap_or_else(|| panic!("{frame}")).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("resonance"), ["resonance", "-", "1", "0", "0", "0", "0", "ns"]);
    assert_eq!(line("orders"), ["orders", "counter", "3", "0"]);
    assert_eq!(line("nodes"), ["nodes", "ids", "2", "0"]);
    assert_eq!(line("sweeps_total"), ["sweeps_total", "5", "0"]);
    assert_eq!(line("took_ms"), ["took_ms{kind=tick}", "2", "0", "2.097"]);
}

#[test]
fn without_a_segment_there_are_none() {
    World::new().fails(&["metrics"], 1, "create it first");
}
