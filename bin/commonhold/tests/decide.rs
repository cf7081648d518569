//! `take-over` and `resolve`: a store that is not as the segment left it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::World;
use serde_json::{Value, json};

fn execute(world: &World, sql: &str) {
    let database = rusqlite::Connection::open(world.path("store.db")).unwrap();
    database.execute_batch(sql).unwrap();
}

fn n(world: &World) -> Value {
    world.json(&["get", "counters", "a"])["fields"]["n"].clone()
}

#[test]
fn a_stopped_table_is_shown_and_resolved() {
    for (decision, want) in [("--adopt", 777), ("--overwrite", 2)] {
        let world = World::with_counters();
        world.ok(&["set", "counters", "a", "n=1"]);
        execute(&world, "UPDATE counters SET n = 777");
        let set = ["set", "counters", "a", "n=2", "--durable"];
        world.run(&set).failed(1, "table `counters` is stopped");
        let looks = world.json(&["inspect"]);
        let table = &looks["tables"][0];
        assert_eq!((&table["stopped"], &table["conflicts"]), (&json!(true), &json!(1)));
        assert_eq!(looks["store_refused"], json!(false));
        assert!(world.ok(&["inspect"]).contains("`commonhold resolve counters` lets it go on"));
        world.fails(&["drain"], 1, "key \"a\"");
        world.fails(&["resolve", "counters"], 2, "--adopt");
        world.fails(&["resolve", "counters", "--adopt", "--retry"], 2, "cannot be used with");
        world.fails(&["resolve", "counters", "--retry"], 1, "its hash is not");
        world.fails(&["resolve", "nothing", "--retry"], 1, "no table `nothing`");
        let done = world.json(&["resolve", "counters", decision]);
        assert_eq!(done, json!({"table": "counters", "was_stopped": true}));
        assert_eq!(n(&world), json!(want));
        assert_eq!(world.json(&["inspect"])["tables"][0]["stopped"], json!(false));
        assert_eq!(world.json(&["verify"])["ok"], json!(true));
        assert!(world.ok(&["resolve", "counters", decision]).contains("was not stopped"));
        world.ok(&["destroy"]);
        assert_eq!(n(&world), json!(want));
    }
}

#[test]
fn a_take_over_says_what_it_did() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=1", "--durable"]);
    let taken = world.json(&["take-over"]);
    let fenced = &taken["fenced"];
    assert_eq!((&taken["epoch"], &fenced["epoch"]), (&json!(2), &json!(1)));
    assert_eq!((&fenced["segment"], &fenced["not_stored"]), (&json!(world.segment()), &json!(0)));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(fenced["host"], json!(host.trim()));
    assert_eq!(fenced["node"].as_str().unwrap().len(), 32);
    world.run(&["set", "counters", "a", "n=2", "--durable"]).failed(1, "it was taken over");
    let looks = world.json(&["inspect"]);
    assert_eq!((&looks["store_refused"], &looks["unstored_versions"]), (&json!(true), &json!(1)));
    assert!(world.ok(&["inspect"]).contains("the store refuses this segment"));
    world.fails(&["destroy"], 1, "holds 1 versions");
    let text = world.ok(&["take-over"]);
    assert!(text.contains("belonged to nobody; its epoch is 3"), "{text}");
    world.ok(&["destroy", "--force"]);
    assert_eq!(n(&world), json!(1));
    assert_eq!(world.json(&["inspect"])["store_epoch"], json!(4));
    world.ok(&["set", "counters", "a", "n=3", "--durable"]);
    let text = world.ok(&["take-over"]);
    assert!(text.contains("can store nothing any more: it had everything stored"), "{text}");
}

#[test]
fn a_take_over_makes_nothing() {
    let world = World::new();
    world.fails(&["take-over"], 1, "no such file");
    assert!(!world.path("store.db").exists());
    world.fails(&["take-over", "--store", "none"], 1, "the store is none");
    execute(&world, "CREATE TABLE mine(a)");
    world.fails(&["take-over"], 1, "not a commonhold store");
}
