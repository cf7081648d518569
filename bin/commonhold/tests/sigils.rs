//! `sigils` as a user meets them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::World;
use serde_json::{Value, json};

/// A world in which `payload` was encoded, with room for few; the id.
fn encoded(world: &World, payload: &str) -> String {
    let sigil = world.json(&["sigils", "encode", payload, "--capacity", "8"]);
    sigil["id"].as_str().unwrap().to_owned()
}

fn listed(world: &World) -> Vec<Value> {
    world.json(&["sigils", "show"])["sigils"].as_array().unwrap().clone()
}

#[test]
fn the_first_encode_makes_all_it_needs() {
    let world = World::new();
    let said = world.ok(&["sigils", "encode", " {\"b\": 1.50, \"a\": [null]} ", "--capacity=8"]);
    assert_eq!(said, "encoded sigil c3bd86c5c4b31ff5-1\n");
    let shown = world.json(&["sigils", "show", "c3bd86c5c4b31ff5-1"]);
    assert_eq!(shown["payload"], json!({"a": [null], "b": 1.5}));
    let found = [&shown["recalls"], &shown["permanent"], &shown["twin"], &shown["node"]];
    assert_eq!(found, [&json!(0), &json!(false), &json!(null), &json!(null)]);
    let database = rusqlite::Connection::open(world.path("store.db")).unwrap();
    let row = "SELECT key || payload || half_life_s FROM sigils";
    let row = database.query_row(row, [], |row| row.get::<_, String>(0));
    assert_eq!(row.unwrap(), r#"c3bd86c5c4b31ff5-1{"a":[null],"b":1.5}3600.0"#);
    world.ok(&["destroy"]);
    let again = world.json(&["sigils", "encode", "{\"a\":[null],\"b\":1.5}", "--node=7"]);
    assert_eq!(again["twin"], json!("c3bd86c5c4b31ff5-1"), "made anew from the store");
    assert_ne!(again["id"], json!("c3bd86c5c4b31ff5-1"), "no id comes back");
    assert_eq!((&again["node"], listed(&world).len()), (&json!(7), 2));
}

#[test]
fn sigils_are_recalled_and_become_permanent() {
    let world = World::new();
    let (often, seldom) = (encoded(&world, "\"often\""), encoded(&world, "\"seldom\""));
    let said = world.ok(&["sigils", "recall", &often]);
    assert_eq!(said, format!("recalled sigil {often} (1 time so far): \"often\"\n"));
    assert_eq!(world.json(&["sigils", "recall", &often])["recalls"], json!(2));
    world.ok(&["sigils", "recall", &seldom]);
    let done = world.json(&["sigils", "crystallize", "--recalls", "2"]);
    assert_eq!(done, json!({"seen": 2, "crystallized": 1}));
    // Nothing has the strength 1 any more a moment later, but what is permanent.
    let said = world.ok(&["sigils", "decay", "--threshold", "1"]);
    assert_eq!(said, "of 2 sigils 1 were removed; 1 are permanent\n");
    let left = listed(&world);
    assert_eq!((left.len(), &left[0]["id"]), (1, &json!(often)));
    let shown = world.ok(&["sigils", "show"]);
    assert!(shown.lines().count() == 2 && shown.contains("permanent"), "{shown}");
    world.fails(&["sigils", "recall", &seldom], 1, "it faded and was swept");
}

#[test]
fn sigils_are_linked() {
    let world = World::new();
    let [a, b] = ["1", "-2"].map(|payload| encoded(&world, payload));
    let link = |strength: &str| world.json(&["sigils", "link", &a, &b, "--strength", strength]);
    assert_eq!(link("0.5"), json!({"from": a, "to": b, "strength": 0.5, "before": null}));
    assert_eq!(link("1")["before"], json!(0.5));
    let shown = world.json(&["sigils", "show", &a]);
    assert_eq!(shown["links"], json!([{"to": b, "strength": 1.0}]));
    let shown = world.ok(&["sigils", "show", &a]);
    assert!(shown.ends_with(&format!("linked to {b} with strength 1\n")), "{shown}");
    assert_eq!(link("0"), json!({"from": a, "to": b, "strength": null, "before": 1.0}));
    assert_eq!(world.json(&["sigils", "show", &a])["links"], json!([]));
    world.fails(&["sigils", "link", &a, &a, "--strength=1"], 1, "cannot be linked to itself");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let world = World::new();
    world.fails(&["sigils", "encode", "{"], 2, "not valid JSON");
    world.fails(&["sigils", "encode", "1", "--node", "0"], 2, "--node");
    world.fails(&["sigils", "recall", "ABC"], 2, "no sigil's id");
    world.fails(&["sigils", "show", "c3bd86c5c4b31ff5-01"], 2, "no sigil's id");
    world.fails(&["sigils", "decay", "--threshold", "2"], 2, "0 to 1");
    world.fails(&["sigils", "crystallize", "--recalls", "0"], 2, "--recalls");
    world.fails(&["sigils", "show"], 1, "");
    let id = encoded(&world, "1");
    let large = format!("\"{}\"", "x".repeat(999));
    world.fails(&["sigils", "encode", &large], 1, "has 1001 bytes");
    world.fails(&["sigils", "link", &id, "00000000000000ab-1", "--strength=1"], 1, "no sigil 00");
    world.fails(&["sigils", "encode", "1", "--half-life", "0s"], 1, "half-life");
    assert_eq!(listed(&world).len(), 1);
    let other = World::with_counters();
    other.fails(&["sigils", "show"], 1, "no table `sigils`");
    assert!(encoded(&other, "1").ends_with("-1"), "the tables are added");
}
