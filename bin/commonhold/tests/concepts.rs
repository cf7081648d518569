//! `concepts`, as a user meets it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::World;
use serde_json::json;

fn learn(world: &World, file: &str, name: &str, level: &str, by: &str) {
    world.ok(&["concepts", "learn", name, "--level", level, "--by", by, "--file", file]);
}

#[test]
fn concepts_are_learned_and_shown() {
    let world = World::new();
    let learn = ["concepts", "learn", "tides", "--level", "0.7", "--confidence=0.9", "--by=maria"];
    let learned = world.json(&[&learn[..], &["--description", "twice a day"]].concat());
    assert_eq!((&learned["path"], &learned["written"]), (&json!("human.jsonc"), &json!(true)));
    let concept = &learned["concept"];
    assert_eq!((&concept["level"], &concept["learned_by"]), (&json!(0.7), &json!("maria")));
    let told = world.ok(&["concepts", "learn", "tides", "--level", "0.1", "--by", "otto"]);
    assert!(told.starts_with("human.jsonc: tides 0.38421"), "{told}");
    let shown = world.json(&["concepts", "show", "tides"]);
    assert_eq!((&shown["learned_by"], &shown["confidence"]), (&json!("otto"), &json!(0.9)));
    assert_eq!(shown["description"], "twice a day");
    let all = world.json(&["concepts", "show"]);
    assert_eq!(all["concepts"].as_array().unwrap().len(), 1);
    let table = world.ok(&["concepts", "show"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("name ") && lines[1].starts_with("tides  0.384 "), "{table}");
    assert!(lines[1].ends_with("Z  twice a day"), "{table}");
}

#[test]
fn names_are_shown_in_one_line() {
    let world = World::new();
    let by = "otto\n\u{1b}[31mmaria";
    let told = world.ok(&["concepts", "learn", "a\nb", "--level", "0.5", "--by", by]);
    assert_eq!(told, "human.jsonc: a b 0.5\n");
    let table = world.ok(&["concepts", "show"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(!table.contains('\u{1b}') && table.contains("otto \\u{1b}[31mmaria"), "{table}");
}

#[test]
fn maps_are_merged_once_or_often() {
    let world = World::new();
    for (file, name, level, by) in [
        ("a.jsonc", "common", "0.2", "a"),
        ("a.jsonc", "of a", "1", "a"),
        ("b.jsonc", "common", "0.8", "b"),
        ("b.jsonc", "of b", "0", "b"),
    ] {
        learn(&world, file, name, level, by);
    }
    std::fs::write(world.path("human.jsonc"), "// kept\n{\"concepts\": []}\n").unwrap();
    let merged = world.json(&["concepts", "merge", "a.jsonc", "b.jsonc"]);
    assert_eq!((&merged["added"], &merged["changed"]), (&json!(3), &json!(1)));
    let once = std::fs::read_to_string(world.path("human.jsonc")).unwrap();
    assert!(once.starts_with("// kept\n"), "{once}");
    let level = world.json(&["concepts", "show", "common"])["level"].as_f64().unwrap();
    assert!((level - 0.5).abs() < 0.001, "{level}");
    let again = world.ok(&["concepts", "merge", "b.jsonc", "a.jsonc"]);
    assert_eq!(again, "human.jsonc: 0 added, 0 changed\n");
    assert_eq!(std::fs::read_to_string(world.path("human.jsonc")).unwrap(), once);
    let names = world.json(&["concepts", "show"]);
    let names: Vec<&str> =
        names["concepts"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["common", "of a", "of b"]);
}

#[test]
fn processes_learn_at_once_and_nothing_is_lost() {
    let world = World::new();
    let learners = (0..12).map(|n| {
        let name = format!("c{n}");
        world.start(&["concepts", "learn", &name, "--level", "0.5", "--by", "crowd"])
    });
    let learners: Vec<_> = learners.collect();
    for learner in learners {
        let ran = learner.end();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
    let all = world.json(&["concepts", "show"]);
    assert_eq!(all["concepts"].as_array().unwrap().len(), 12);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let world = World::new();
    std::fs::write(world.path("list.json"), "[]").unwrap();
    std::fs::write(world.path("bad.json"), "{\"concepts\": [").unwrap();
    let table: [(&[&str], i32, &str); 9] = [
        (&["learn", "n", "--level", "1.5"], 2, "give a number from 0 to 1"),
        (&["learn", "n", "--level", "NaN"], 2, "give a number from 0 to 1"),
        (&["learn", "n", "--confidence=-1"], 2, "give a number from 0 to 1"),
        (&["learn", "", "--level", "1"], 2, "a concept needs a name"),
        (&["learn", "n", "--file", "list.json"], 1, "list.json: it is a list, not an object"),
        (&["learn", "n", "--file", "bad.json"], 1, "bad.json:1:"),
        (&["show"], 1, "there is no human.jsonc"),
        (&["show", "n", "--file", "list.json"], 1, "list.json: it is a list"),
        (&["merge", "none.json"], 1, "there is no none.json"),
    ];
    for (arguments, code, why) in table {
        world.fails(&[&["concepts"], arguments].concat(), code, why);
    }
    assert!(!world.path("human.jsonc").exists());
    learn(&world, "human.jsonc", "n", "1", "a");
    world.fails(&["concepts", "show", "m"], 1, "human.jsonc: there is no \"m\"");
}
