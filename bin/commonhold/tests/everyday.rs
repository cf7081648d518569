//! Every command does what it says, as a user meets it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{SMALL, World, ran};
use serde_json::json;

#[test]
fn a_lone_set_lands_in_the_database() {
    let world = World::with_counters();
    assert_eq!(world.ok(&["set", "counters", "a", "n=5"]), "committed counters a version 1\n");
    let database = rusqlite::Connection::open(world.path("store.db")).unwrap();
    let row = database.query_row("SELECT n, _version FROM counters WHERE key = 'a'", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    });
    assert_eq!(row.unwrap(), (5, 1));
    let count = database.query_row("SELECT count(*) FROM counters_history", [], |row| row.get(0));
    assert_eq!(count, Ok(1_i64));
}

#[test]
fn set_add_get_and_delete_one_record() {
    let world = World::with_counters();
    let set = world.json(&["set", "counters", "k 1", "n=40", "name=a, \"b\""]);
    assert_eq!((&set["version"], &set["key"]), (&json!(1), &json!("k 1")));
    let added = world.json(&["add", "counters", "k 1", "n=2", "--durable"]);
    assert_eq!((&added["version"], &added["durable"]), (&json!(2), &json!(true)));
    assert_eq!(world.ok(&["get", "counters", "k 1"]), "n=42\nname=a, \"b\"\n_version=2\n");
    assert_eq!(world.ok(&["get", "counters", "k 1", "name", "n"]), "name=a, \"b\"\nn=42\n");
    let got = world.json(&["get", "counters", "k 1"]);
    assert_eq!(got["fields"], json!({"n": 42, "name": "a, \"b\""}));
    for mark in ["version", "hash", "clock", "writer"] {
        assert_eq!(got[mark], added[mark], "{mark}");
    }
    assert!(got["committed_at"].as_i64().unwrap() > 1_700_000_000_000_000);
    let deleted = world.json(&["delete", "counters", "k 1", "--if-version", "2", "--durable"]);
    assert_eq!((&deleted["version"], &deleted["deleted"]), (&json!(3), &json!(true)));
    world.fails(&["get", "counters", "k 1"], 1, "has no record `k 1`");
    world.ok(&["add", "counters", "k 1", "n=1", "--if-version", "0"]);
    assert_eq!(world.json(&["get", "counters", "k 1"])["version"], json!(4));
}

#[test]
fn conditions_are_decided_inside_the_change() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=4", "name=x"]);
    let spend = ["add", "counters", "a", "n=1", "--require", "n<=4", "--require", "name=x"];
    world.ok(&spend);
    world.fails(&spend, 1, "`n` is 5, which is not <= 4");
    world.fails(&["set", "counters", "a", "n=0", "--if-version", "1"], 1, "version 2, not 1");
    world.fails(&["delete", "counters", "a", "--if-version", "1"], 1, "version 2, not 1");
    assert_eq!(world.ok(&["get", "counters", "a", "n"]), "n=5\n");
}

#[test]
fn counters_and_ids_are_found_by_name_and_outlive_the_segment() {
    let world = World::with_counters();
    world.fails(&["counter", "orders"], 1, "no counter `orders` in this segment (it has: none)");
    assert_eq!(world.ok(&["counter", "orders", "--add", "5"]), "5\n");
    let added = world.json(&["counter", "orders", "--add", "-8", "--durable"]);
    assert_eq!(added, json!({"counter": "orders", "value": -3}));
    world.fails(&["counter", "order"], 1, "(it has: orders)");
    assert_eq!(world.ok(&["ids", "nodes", "--count", "3"]), "1\n2\n3\n");
    assert_eq!(world.json(&["ids", "nodes"]), json!({"allocator": "nodes", "ids": [4]}));
    world.ok(&["destroy"]);
    assert_eq!(world.ok(&["counter", "orders"]), "-3\n");
    let next = world.json(&["ids", "nodes"])["ids"][0].as_u64().unwrap();
    assert!((5..=4101).contains(&next), "{next}");
    world.ok(&["verify"]);
}

#[test]
fn dump_and_scan_are_in_the_order_of_bytes() {
    let world = World::with_counters();
    for (key, name) in [("b", "x"), ("ä", ""), ("B", "a,b"), ("a", "q\"q"), ("a,1", "l\nl")] {
        world.ok(&["set", "counters", key, "n=-1", &format!("name={name}")]);
    }
    let csv = "key,n,name\nB,-1,\"a,b\"\na,-1,\"q\"\"q\"\n\"a,1\",-1,\"l\nl\"\nb,-1,x\nä,-1,\n";
    assert_eq!(world.ok(&["dump", "counters"]), csv);
    let dumped = world.json(&["dump", "counters"]);
    assert_eq!(dumped, world.json(&["scan", "counters"]));
    let records = dumped["records"].as_array().unwrap();
    let keys: Vec<_> = records.iter().map(|r| r["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["B", "a", "a,1", "b", "ä"]);
    assert_eq!(records[2]["fields"], json!({"n": -1, "name": "l\nl"}));
    let text = world.ok(&["dump", "counters", "--format", "json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), dumped);
    let lines = world.ok(&["scan", "counters", "--prefix", "a"]);
    assert_eq!(lines, "a n=-1 name=q\"q _version=1\na,1 n=-1 name=\"l\\nl\" _version=1\n");
}

#[test]
fn every_type_comes_back_as_it_was_given() {
    let world = World::new();
    let types = ["i:i64", "u:u64", "f:f64", "b:bool", "t:text(9)", "y:bytes(4)", "j:json(40)"];
    let fields: Vec<_> = types.iter().flat_map(|t| ["--field", t]).collect();
    let time = ["--field", "at:timestamp"];
    world.ok(&[&["create", "all"], &fields[..], &time[..], &SMALL[..]].concat());
    let values = [
        "i=-9223372036854775808",
        "u=9223372036854775807",
        "f=-0.1",
        "b=true",
        "t=ünü",
        "y=00ff",
        "j={\"a\": [1.10,\n2]}",
        "at=-5",
    ];
    world.ok(&[&["set", "all", "k"], &values[..]].concat());
    let want = json!({"i": i64::MIN, "u": i64::MAX, "f": -0.1, "b": true, "t": "ünü", "y": "00ff",
        "j": {"a": [1.1, 2]}, "at": -5});
    assert_eq!(world.json(&["get", "all", "k"])["fields"], want);
    world.ok(&["add", "all", "k", "u=-7", "f=0.25", "at=6", "i=1"]);
    let got = world.json(&["get", "all", "k"])["fields"].clone();
    assert_eq!((&got["u"], &got["f"]), (&json!(i64::MAX - 7), &json!(0.15)));
    assert_eq!((&got["at"], &got["i"]), (&json!(1), &json!(i64::MIN + 1)));
}

#[test]
fn history_has_every_version_with_the_deletions() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=1"]);
    world.ok(&["set", "counters", "a", "n=2", "name=x y"]);
    world.ok(&["delete", "counters", "a"]);
    world.ok(&["set", "counters", "a", "n=4"]);
    let history = world.json(&["history", "counters", "a"]);
    let versions = history["versions"].as_array().unwrap();
    let seen: Vec<_> = versions.iter().map(|v| (&v["version"], &v["deleted"])).collect();
    let (no, yes) = (json!(false), json!(true));
    let numbers = [1, 2, 3, 4].map(|n| json!(n));
    let want = [(&numbers[0], &no), (&numbers[1], &no), (&numbers[2], &yes), (&numbers[3], &no)];
    assert_eq!(seen, want);
    assert_eq!(versions[1]["fields"], json!({"n": 2, "name": "x y"}));
    assert_eq!(versions[3]["hash"], world.json(&["get", "counters", "a"])["hash"]);
    assert!(versions.iter().all(|v| v["link"].as_str().unwrap().len() == 64));
    let text = world.ok(&["history", "counters", "a"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("a n=2 name=\"x y\" _version=2 "), "{text}");
    assert!(lines[2].starts_with("a deleted _version=3 "), "{text}");
    world.fails(&["history", "counters", "b"], 1, "has no record `b`");
}

#[test]
fn a_table_of_latest_versions_has_no_history() {
    let world = World::new();
    let latest = ["create", "t", "--field", "n:i64", "--history", "latest"];
    world.ok(&[&latest[..], &SMALL[..]].concat());
    world.ok(&["set", "t", "a", "n=1"]);
    world.ok(&["set", "t", "a", "n=2"]);
    world.fails(&["history", "t", "a"], 1, "history = latest");
    assert_eq!(world.json(&["verify"])["tables"][0]["rows"], json!(1));
}

#[test]
fn many_processes_add_and_nothing_is_lost() {
    let world = World::with_counters();
    let adds: Vec<_> = (0..12).map(|_| world.start(&["add", "counters", "a", "n=1"])).collect();
    for add in adds {
        let ran = add.end();
        assert!(ran.code == Some(0) && ran.stderr.is_empty(), "{ran:?}");
    }
    assert_eq!(world.ok(&["get", "counters", "a"]), "n=12\nname=\n_version=12\n");
    world.ok(&["drain"]);
    let audit = world.json(&["verify"]);
    assert_eq!((&audit["ok"], &audit["tables"][0]["history_rows"]), (&json!(true), &json!(12)));
}

#[test]
fn global_options_stand_before_or_after() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=3"]);
    let (segment, store) = (world.segment(), world.store());
    let get = ["get", "counters", "a", "n"];
    let options = ["--segment", &segment, "--store", &store];
    for line in [[&options[..], &get[..]].concat(), [&get[..], &options[..]].concat()] {
        // The options win over the environment, wherever they stand.
        for elsewhere in ["", "/dev/shm/commonhold-not-there/segment"] {
            let mut command = world.bare();
            command.env("COMMONHOLD_SEGMENT", elsewhere).args(&line);
            let ran = ran(command);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "n=3\n"), "{line:?}: {ran:?}");
        }
    }
}

#[test]
fn a_configuration_makes_its_tables() {
    let world = World::new();
    let text = format!(
        "segment = \"{}\"\nstore = \"sqlite:store.db\"\nparticipants = 16\n\
         [tables.one]\nfields = [\"n:i64\"]\nslots = 8\ncells = 100\n\
         [tables.two]\nfields = [\"b:bool\"]\nslots = 8\ncells = 100\n",
        world.segment()
    );
    std::fs::write(world.path("shop.toml"), &text).unwrap();
    for line in [
        &["--config", "shop.toml", "create"][..],
        &["set", "two", "k", "b=true", "--config", "shop.toml"],
    ] {
        let mut command = world.bare();
        command.args(line);
        let ran = ran(command);
        assert_eq!(ran.code, Some(0), "{line:?}: {ran:?}");
    }
    assert!(world.path("store.db").exists(), "a store is beside its configuration");
    // In the working directory it needs no option.
    std::fs::rename(world.path("shop.toml"), world.path("commonhold.toml")).unwrap();
    let mut command = world.bare();
    command.args(["get", "two", "k", "b"]);
    assert_eq!(ran(command).stdout, "b=true\n");
}

#[test]
fn a_plan_is_exact_and_creates_nothing() {
    let world = World::new();
    let create = ["create", "counters", "--field", "n:i64"];
    let plan = [&create[..], &["--plan"], &SMALL[..]].concat();
    let text = world.ok(&plan);
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(std::fs::read_dir(world.path("")).unwrap().count(), 0);
    let table = &plan["tables"][0]["bytes"];
    let parts = ["slots", "cells", "index", "control"].map(|p| table[p].as_u64().unwrap());
    assert_eq!(table["total"], json!(parts.iter().sum::<u64>()));
    world.ok(&[&create[..], &SMALL[..]].concat());
    let length = std::fs::metadata(world.path("segment")).unwrap().len();
    assert_eq!(plan["total_bytes"], json!(length));
    assert!(world.ok(&["create", "two", "--field", "n:i64", "--plan"]).contains("\ntwo "));
    assert_eq!(world.json(&["tables"])["tables"].as_array().unwrap().len(), 1);
}

#[test]
fn help_version_and_completions() {
    let world = World::new();
    assert!(world.ok(&["--version"]).starts_with("commonhold "));
    assert!(world.ok(&["--help"]).contains("Exit codes:"));
    assert!(world.ok(&["set", "--help"]).contains("Examples:"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.ok(&["completions", shell]);
        assert!(script.contains("commonhold") && script.contains("inspect"), "{shell}");
    }
    let bare = world.run(&[]);
    assert_eq!((bare.code, bare.stdout.as_str()), (Some(2), ""));
    assert!(bare.stderr.contains("Usage: commonhold"));
}

#[test]
fn doctor_says_what_its_exit_code_says() {
    let ran = World::new().run(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["ok"], json!(ran.code == Some(0)), "{ran:?}");
    let names: Vec<_> = report["checks"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    let want =
        ["shared memory", "unnamed files", "open files", "kernel", "/proc", "boot id", "RemoveIPC"];
    assert_eq!(names, want.map(|n| json!(n)).each_ref());
}
