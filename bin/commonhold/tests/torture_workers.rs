//! `torture --system workers` as a user meets it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::World;
use serde_json::json;

#[test]
fn every_task_ends_once_when_workers_are_killed() {
    let world = World::new();
    let report = world.json(&[
        "torture",
        "--system",
        "workers",
        "--processes",
        "3",
        "--updates",
        "300",
        "--kill",
        "30",
    ]);
    assert_eq!(report["ok"], json!(true), "{report}");
    assert_eq!((&report["kills"], &report["workers_started"]), (&json!(30), &json!(33)));
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(number("done") + number("failed"), 300);
    assert!(number("kills_with_task") > 0 && report["redispatch_ns"]["p99"].as_u64() > Some(0));
    let shown = world.ok(&["torture", "--system", "workers", "--updates", "1"]);
    assert!(shown.ends_with("all holds                       yes\n"), "{shown}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let world = World::new();
    let refused = |options: &[&str], text: &str| {
        world.fails(&[&["torture", "--system", "workers"], options].concat(), 2, text);
    };
    refused(&["--keys", "2"], "cannot be used with");
    refused(&["--processes", "0"], "--processes 0");
    refused(&["--processes", "1001"], "--processes 1001: 1 to 1000 workers");
    refused(&["--updates", "0"], "--updates is at least 1");
    refused(&["--updates", "5", "--kill", "6"], "--kill 6 with 5 tasks: at most one kill a task");
}
