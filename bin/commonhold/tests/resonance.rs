//! `resonance`, and its torture, as a user meets them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{SMALL, World};
use serde_json::{Value, json};

fn numbers(value: &Value, name: &str) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v[name].as_f64().unwrap()).collect()
}

#[test]
fn the_first_create_makes_all_it_needs() {
    let world = World::new();
    assert_eq!(world.ok(&["resonance", "create", "--frequency", "440"]), "created node 1\n");
    let second =
        world.json(&["resonance", "create", "--frequency=660", "--amplitude=2", "--phase=-1"]);
    assert_eq!((&second["id"], &second["frequency"]), (&json!(2), &json!(660.0)));
    let dumped = world.ok(&["dump", "resonance_nodes"]);
    let lines: Vec<&str> = dumped.lines().collect();
    assert_eq!(lines[0], "key,frequency,amplitude,phase,coherence,ticks");
    assert_eq!(lines[1], "000000000001,440,1,0,1,0");
    assert!(lines[2].starts_with("000000000002,660,2,5.28") && lines.len() == 3, "{dumped}");
    let database = rusqlite::Connection::open(world.path("store.db")).unwrap();
    let sum = "SELECT sum(frequency) FROM resonance_nodes";
    let sum = database.query_row(sum, [], |row| row.get::<_, f64>(0));
    assert_eq!(sum, Ok(1100.0));
    world.ok(&["destroy"]);
    let id = world.json(&["resonance", "create", "--frequency", "1"])["id"].as_u64().unwrap();
    assert!(id > 2, "made anew from the store, and no id comes back");
    let shown = world.json(&["resonance", "show"]);
    assert_eq!(numbers(&shown["nodes"], "frequency"), [440.0, 660.0, 1.0]);
}

#[test]
fn tables_are_added_to_a_segment_and_chosen_sizes_stay() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=5"]);
    let fields = ["--field=node_a:u64", "--field=node_b:u64", "--field=strength:f64"];
    let sizes = ["--history=latest", "--slots=77"];
    world.ok(&[&["create", "resonance_fields"], &fields[..], &sizes, &SMALL[..1]].concat());
    world.fails(&["resonance", "show"], 1, "no table `resonance_nodes`");
    world.ok(&["resonance", "create", "--frequency", "1"]);
    let tables = world.json(&["tables"]);
    let slots = |name: &str| {
        let tables = tables["tables"].as_array().unwrap();
        tables.iter().find(|t| t["name"] == name).map(|t| t["slots"].as_u64().unwrap())
    };
    assert_eq!(slots("resonance_fields"), Some(77));
    assert!(slots("harmonic_patterns").is_some());
    assert_eq!(world.ok(&["get", "counters", "a", "n"]), "n=5\n");
}

#[test]
fn nodes_are_connected_moved_and_removed() {
    let world = World::new();
    for frequency in ["1", "1", "3"] {
        world.ok(&["resonance", "create", "--frequency", frequency]);
    }
    let connect = |a, b, k| world.json(&["resonance", "connect", a, b, "--strength", k]);
    let field = json!({"node_a": 1, "node_b": 2, "strength": 0.5, "before": null});
    assert_eq!(connect("2", "1", "0.5"), field);
    assert_eq!(connect("1", "2", "-2")["before"], json!(0.5));
    connect("2", "3", "1");
    let shown = world.json(&["resonance", "show", "2"]);
    assert_eq!(shown["fields"].as_array().unwrap().len(), 2);
    let ticked = world.json(&["resonance", "tick", "--dt", "0.125", "--steps", "2"]);
    assert_eq!(
        (&ticked["nodes"], &ticked["fields"], &ticked["steps"]),
        (&json!(3), &json!(2), &json!(2))
    );
    let all = world.json(&["resonance", "show"]);
    assert_eq!(numbers(&all["nodes"], "ticks"), [2.0; 3]);
    let quarter = all["nodes"][0]["phase"].as_f64().unwrap();
    assert!(
        (quarter - std::f64::consts::FRAC_PI_2).abs() < 0.5,
        "a quarter turn, and a pull: {quarter}"
    );
    let before = all["summary"]["energy"].as_f64().unwrap();
    let resonated = world.json(&["resonance", "resonate", "2", "--dt", "0.3"]);
    assert_eq!(resonated["neighbours"], json!(2));
    let after = world.json(&["resonance", "show"])["summary"]["energy"].as_f64().unwrap();
    assert!((after - before).abs() < 1e-12, "{before} became {after}");
    let found = world.json(&["resonance", "patterns"]);
    let ratios: Vec<&str> = found["patterns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["ratio"].as_str().unwrap())
        .collect();
    assert_eq!(ratios, ["1:1", "3:1"]);
    assert_eq!(found["patterns"][1]["members"], json!([1, 2, 3]));
    assert_eq!(
        world.ok(&["resonance", "disconnect", "1", "2"]),
        "disconnected 1 and 2, whose strength was -2 1/s\n"
    );
    assert_eq!(world.json(&["resonance", "remove", "3"]), json!({"id": 3, "fields": 1}));
    let left = world.json(&["resonance", "show"]);
    let counts =
        ["nodes", "fields", "patterns"].map(|what| left["summary"][what].as_u64().unwrap());
    assert_eq!(counts, [2, 0, 2], "3:1 lost a member, and 1 and 2 are left in it");
    assert_eq!(world.ok(&["dump", "resonance_fields"]), "key,node_a,node_b,strength\n");
    world.ok(&["verify"]);
    let metrics = world.ok(&["metrics"]);
    for line in [
        "commonhold_resonance_nodes_created_total 3",
        "commonhold_resonance_nodes_removed_total 1",
        "commonhold_resonance_resonances_total 1",
        "commonhold_resonance_ticks_total 2",
        "commonhold_records{table=\"resonance_nodes\"} 2",
        "resonance_mutex_contention_total 0",
        "resonance_mutex_wait_time_ms 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}:\n{metrics}");
    }
}

#[test]
fn what_is_wrong_is_one_line_and_changes_nothing() {
    let world = World::new();
    let usage: [(&[&str], &str); 10] = [
        (&["create", "--frequency", "nan"], "frequency NaN Hz"),
        (&["create", "--frequency", "inf"], "frequency inf Hz"),
        (&["create", "--frequency", "-1"], "frequency -1 Hz"),
        (&["create", "--frequency", "x"], "write a number"),
        (&["create"], "--frequency"),
        (&["connect", "1", "1", "--strength", "1"], "cannot be connected to itself"),
        (&["connect", "1", "2", "--strength", "nan"], "strength NaN"),
        (&["tick", "--dt", "0"], "time of 0 s"),
        (&["tick", "--steps", "0"], "not in 1.."),
        (&["patterns", "--tolerance", "1"], "tolerance 1"),
    ];
    for (line, why) in usage {
        world.fails(&[&["resonance"], line].concat(), 2, why);
    }
    assert_eq!(std::fs::read_dir(world.path("")).unwrap().count(), 0, "nothing was made");
    world.fails(&["resonance", "tick"], 1, "no segment");
    world.ok(&["resonance", "create", "--frequency", "1"]);
    world.ok(&["resonance", "create", "--frequency", "1e12"]);
    let before = world.json(&["resonance", "show"]);
    let refused: [(&[&str], &str); 6] = [
        (&["connect", "1", "9", "--strength", "1"], "no node 9"),
        (&["disconnect", "1", "2"], "nodes 1 and 2 are not connected"),
        (&["remove", "9"], "no node 9"),
        (&["resonate", "9"], "no node 9"),
        (&["show", "9"], "no node 9"),
        (&["show", "18446744073709551615"], "no node"),
    ];
    for (line, why) in refused {
        world.fails(&[&["resonance"], line].concat(), 1, why);
    }
    assert_eq!(world.json(&["resonance", "show"]), before);
    world.ok(&["resonance", "connect", "1", "2", "--strength", "1"]);
    world.fails(&["resonance", "tick", "--dt", "1"], 1, "give a time of at most");
}

#[test]
fn many_ticks_end_between_two_of_them() {
    let world = World::new();
    world.ok(&["resonance", "create", "--frequency", "1"]);
    let ticks = || {
        let shown = world.json(&["resonance", "show", "1"]);
        shown["ticks"].as_i64().unwrap()
    };
    let running = world.start(&["resonance", "tick", "--steps", "1000000000000"]);
    while ticks() == 0 {
        std::thread::yield_now();
    }
    running.signal(nix::sys::signal::Signal::SIGINT);
    let ran = running.end();
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(130), "", ""));
    assert!(ticks() > 0);
    world.ok(&["verify"]);
}

/// The torture with `arguments` holds; its report.
fn torture(arguments: &[&str]) -> Value {
    let world = World::new();
    let report = world.json(&[&["torture", "--system", "resonance"], arguments].concat());
    assert_eq!(report["ok"], json!(true), "{report}");
    report
}

#[test]
fn of_128_processes_that_create_at_once_each_has_a_node_of_its_own() {
    let report = torture(&["--processes", "128", "--updates", "1"]);
    let counts = ["nodes_created", "nodes", "ids_given_twice"].map(|n| report[n].as_u64().unwrap());
    assert_eq!(counts, [128, 128, 0]);
}

#[test]
fn nothing_is_lost_or_half_done_when_workers_are_killed() {
    let report = torture(&["--processes", "24", "--updates", "60", "--kill", "12", "--seed", "3"]);
    assert_eq!(report["kills"], json!(12));
    for some in ["nodes_removed", "fields", "ticks", "guard_contentions"] {
        assert!(report[some].as_u64().unwrap() > 0, "no {some}: {report}");
    }
}

#[test]
fn a_system_is_tortured_by_its_own_operations_only() {
    let world = World::new();
    world.fails(&["torture", "--system", "resonance", "--keys", "2"], 2, "cannot be used with");
    world.fails(&["torture", "--system", "git"], 2, "not a system");
    world.fails(
        &["torture", "--system", "resonance", "--updates", "1", "--kill", "1"],
        2,
        "--updates 2",
    );
}
