//! Segments come and go; records and versions stay.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{SMALL, World, next_line};
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn after_destroy_records_and_versions_go_on() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=1"]);
    world.ok(&["set", "counters", "a", "n=2"]);
    world.ok(&["set", "counters", "b", "n=9"]);
    world.ok(&["delete", "counters", "b"]);
    let before = world.json(&["get", "counters", "a"]);
    assert_eq!(world.json(&["destroy"])["segment"], json!(world.segment()));
    assert!(!world.path("segment").exists() && !world.path("segment.lock").exists());
    world.fails(&["inspect"], 1, "create it first");
    // `tables` looks at the store and makes nothing.
    let tables = world.run(&["tables", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&tables.stdout).unwrap();
    assert_eq!((&listed["mapped"], &listed["tables"][0]["records"]), (&json!(false), &json!(1)));
    assert!(!world.path("segment").exists());
    assert_eq!(world.json(&["get", "counters", "a"]), before);
    assert_eq!(world.json(&["add", "counters", "a", "n=1"])["version"], json!(3));
    let again = world.json(&["set", "counters", "b", "n=1"])["version"].as_u64().unwrap();
    assert!(again > 2, "version {again} of a record that was deleted at 2");
    assert_eq!(world.json(&["verify"])["ok"], json!(true));
}

#[test]
fn create_adds_to_what_is_there() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=7"]);
    let create = [&["create", "flags", "--field", "on:bool"], &SMALL[..]].concat();
    for outcome in ["recreated", "unchanged"] {
        let made: serde_json::Value = serde_json::from_str(&world.ok(&create)).unwrap();
        assert_eq!(made["outcome"], json!(outcome));
        assert_eq!(made["tables"], json!(["counters", "flags"]));
    }
    assert!(world.ok(&["create", "flags", "--slots", "20"]).contains("made anew"));
    let tables = world.json(&["tables"])["tables"].clone();
    let slots: Vec<_> = tables.as_array().unwrap().iter().map(|t| &t["slots"]).collect();
    assert_eq!(slots, [&json!(16), &json!(20)]);
    assert_eq!(world.ok(&["get", "counters", "a", "n"]), "n=7\n");
}

#[test]
fn without_a_store_nothing_is_made_anew() {
    let world = World::new();
    let none = |line: &[&str]| {
        let mut command = world.command(line);
        command.env("COMMONHOLD_STORE", "none");
        common::ran(command)
    };
    let create = [&["create", "t", "--field", "n:i64"], &SMALL[..]].concat();
    assert_eq!(none(&create).code, Some(0));
    assert_eq!(none(&["set", "t", "a", "n=3"]).code, Some(0));
    none(&["create", "u", "--field", "n:i64"]).failed(1, "has no store");
    none(&["verify"]).failed(1, "no rows to audit");
    assert_eq!(none(&["get", "t", "a", "n"]).stdout, "n=3\n");
}

#[test]
fn a_segment_in_use_is_neither_removed_nor_made_anew() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=1"]);
    let watch = world.watch(&["--timeout", "300s"]);
    let user = format!("in use by process {}", watch.pid());
    for line in [
        &["destroy"][..],
        &["destroy", "--force"],
        &["create", "more", "--field", "n:i64", "--slots", "4"],
    ] {
        world.fails(line, 1, &user);
    }
    assert_eq!(world.ok(&["get", "counters", "a", "n"]), "n=1\n");
    // Who only looks has no entry and keeps nobody from anything.
    let looks = world.json(&["inspect"]);
    assert_eq!(looks["participants"]["alive"], json!(1));
    assert_eq!(looks["participants"]["list"][0]["pid"], json!(watch.pid()));
    watch.signal(Signal::SIGINT);
    assert_eq!(watch.end().code, Some(130));
    world.ok(&["destroy"]);
}

#[test]
fn sweep_frees_what_a_killed_process_left() {
    let world = World::with_counters();
    let watch = world.watch(&["--timeout", "300s"]);
    watch.signal(Signal::SIGKILL);
    assert_eq!(watch.end().code, None);
    assert_eq!(world.json(&["inspect"])["participants"]["dead"], json!(1));
    assert_eq!(world.json(&["sweep"])["participants"], json!(1));
    assert_eq!(world.json(&["inspect"])["participants"]["dead"], json!(0));
    assert_eq!(world.json(&["sweep"])["participants"], json!(0));
}

#[test]
fn inspect_tells_what_is_there() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=1"]);
    world.ok(&["set", "counters", "a", "n=2"]);
    world.ok(&["set", "counters", "b", "n=2"]);
    let looks = world.json(&["inspect"]);
    assert_eq!((&looks["commits"], &looks["unstored_versions"]), (&json!(3), &json!(0)));
    assert_eq!((&looks["store"], &looks["store_epoch"]), (&json!(world.store()), &json!(1)));
    assert_eq!(looks["steward"]["state"], json!("none"));
    assert_eq!(looks["steward"]["last_error"], json!(null));
    let table = &looks["tables"][0];
    assert_eq!((&table["records"], &table["slots"]["total"]), (&json!(2), &json!(16)));
    let cells = &table["cells"];
    assert_eq!((&cells["total"], &cells["free"]), (&json!(300), &json!(298)));
    assert!(world.ok(&["inspect"]).contains("steward none"));
}

#[test]
fn a_store_that_fails_is_told_and_loses_nothing() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=1"]);
    std::fs::rename(world.path("store.db"), world.path("aside")).unwrap();
    std::fs::create_dir(world.path("store.db")).unwrap();
    let ran = world.run(&["add", "counters", "a", "n=1", "--durable", "--timeout", "1ms"]);
    ran.failed(1, "committed in memory, but not durable: timed out");
    assert_eq!(ran.stdout, "committed counters a version 2\n");
    let looks = world.json(&["inspect"]);
    assert_eq!(looks["unstored_versions"], json!(1));
    assert!(looks["steward"]["last_error"].as_str().unwrap().contains("store.db"), "{looks}");
    std::fs::remove_dir(world.path("store.db")).unwrap();
    std::fs::rename(world.path("aside"), world.path("store.db")).unwrap();
    assert_eq!(world.json(&["drain"])["drained"], json!(true));
    assert_eq!(world.json(&["inspect"])["steward"]["last_error"], json!(null));
    let audit = world.json(&["verify"]);
    assert_eq!((&audit["ok"], &audit["tables"][0]["history_rows"]), (&json!(true), &json!(2)));
}

#[test]
fn verify_names_the_row_that_was_changed() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "good", "n=1"]);
    world.ok(&["set", "counters", "bad", "n=2"]);
    world.ok(&["verify"]);
    let database = rusqlite::Connection::open(world.path("store.db")).unwrap();
    database.execute("UPDATE counters_history SET n = 3 WHERE key = 'bad'", []).unwrap();
    drop(database);
    let ran = world.run(&["verify"]);
    ran.failed(1, "findings");
    assert!(ran.stdout.contains("bad") && !ran.stdout.contains("good"), "{}", ran.stdout);
    let ran = world.run(&["verify", "--json"]);
    let audit: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &audit["ok"]), (Some(1), &json!(false)));
    world.run(&["history", "counters", "bad"]).failed(1, "its hash is not the one of its columns");
}

#[test]
fn watch_prints_changes_as_they_come() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "old", "n=1"]);
    let mut watch = world.watch(&["--count", "3", "--timeout", "300s"]);
    world.ok(&["set", "counters", "a", "n=1"]);
    assert_eq!(next_line(&mut watch.stdout), "a n=1 name=\"\" _version=1");
    world.ok(&["add", "counters", "old", "n=1"]);
    assert_eq!(next_line(&mut watch.stdout), "old n=2 name=\"\" _version=2");
    world.ok(&["delete", "counters", "a"]);
    assert_eq!(next_line(&mut watch.stdout), "a deleted");
    let ran = watch.end();
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    let mut watch = world.watch(&["--json", "--timeout", "300s"]);
    world.ok(&["set", "counters", "old", "n=5"]);
    let line: serde_json::Value = serde_json::from_str(&next_line(&mut watch.stdout)).unwrap();
    assert_eq!((&line["key"], &line["fields"]["n"]), (&json!("old"), &json!(5)));
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.end().code, Some(143));
}

#[test]
fn wait_ends_when_its_condition_holds() {
    let world = World::with_counters();
    let wait = world.start(&["wait", "counters", "a", "n>=2", "--timeout", "300s"]);
    world.ok(&["add", "counters", "a", "n=1"]);
    world.ok(&["add", "counters", "a", "n=1"]);
    let ran = wait.end();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "n=2\nname=\n_version=2\n"), "{ran:?}");
    let changed = world.json(&["wait", "counters", "a", "--after", "1"]);
    assert_eq!((&changed["version"], &changed["deleted"]), (&json!(2), &json!(false)));
    let wait = world.start(&["wait", "counters", "a", "--after", "2", "--timeout", "300s"]);
    world.ok(&["delete", "counters", "a"]);
    assert_eq!(wait.end().stdout, "deleted counters a\n");
    world.fails(&["wait", "counters", "a", "n=1", "--timeout", "1ms"], 1, "waiting for n=1 of `a`");
    world.fails(&["wait", "counters", "a", "--timeout", "0"], 1, "waiting for a change of `a`");
}
