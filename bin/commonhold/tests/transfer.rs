//! Whole stores from one place to another.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{World, next_line};
use nix::sys::signal::Signal;
use serde_json::json;

/// A world with two records, one of them changed, and a counter.
fn world() -> World {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=1"]);
    world.ok(&["set", "counters", "b", "n=5", "name=x"]);
    world.ok(&["add", "counters", "a", "n=41"]);
    world.ok(&["counter", "orders", "--add", "7"]);
    world
}

#[test]
fn an_export_and_an_import_make_the_same_segment() {
    let from = world();
    let middle = format!("sqlite:{}", from.text_path("copy.db"));
    let exported = from.json(&["export", &middle]);
    assert_eq!((&exported["ok"], &exported["rows"]), (&json!(true), &json!(3)));
    assert_eq!((&exported["source"], &exported["target"]), (&json!(from.store()), &json!(middle)));
    assert_eq!(exported["tables"][0]["versions"], json!(3));
    let to = World::new();
    let imported = to.ok(&["import", &middle]);
    let link = exported["tables"][0]["link"].as_str().unwrap();
    assert!(imported.contains(&format!("counters: 2 records, 3 versions, chain ends with {link}")));
    assert_eq!(to.json(&["get", "counters", "a"]), from.json(&["get", "counters", "a"]));
    assert_eq!(to.json(&["counter", "orders"])["value"], json!(7));
    assert_eq!(to.json(&["set", "counters", "b", "n=6"])["version"], json!(2));
    let audit = to.json(&["verify"]);
    assert_eq!((&audit["ok"], &audit["epoch"]), (&json!(true), &json!(2)));
    // Neither goes over what is there.
    from.fails(&["export", &middle], 1, "holds the tables of a segment");
    to.fails(&["import", &middle], 1, "it belongs to segment");
}

#[test]
fn a_source_that_lacks_commits_is_refused() {
    let world = world();
    std::fs::rename(world.path("store.db"), world.path("aside")).unwrap();
    std::fs::create_dir(world.path("store.db")).unwrap();
    world.run(&["add", "counters", "a", "n=1"]).failed(1, "the store still lacks 1");
    std::fs::remove_dir(world.path("store.db")).unwrap();
    std::fs::rename(world.path("aside"), world.path("store.db")).unwrap();
    let copy = format!("sqlite:{}", world.text_path("copy.db"));
    world.fails(&["export", &copy], 1, "run `commonhold drain` on it first");
    assert!(!world.path("copy.db").exists());
    world.ok(&["drain"]);
    assert_eq!(world.json(&["export", &copy])["rows"], json!(4));
}

#[test]
fn a_copy_that_was_broken_off_goes_on() {
    let world = world();
    let copy = format!("sqlite:{}", world.text_path("copy.db"));
    world.ok(&["export", &copy]);
    // As a killed one leaves it: the last rows are not there, and the source is named.
    let database = rusqlite::Connection::open(world.path("copy.db")).unwrap();
    let source = rusqlite::Connection::open(world.path("store.db")).unwrap();
    let id = "SELECT value FROM commonhold_meta WHERE key = 'store_id'";
    let id: String = source.query_row(id, [], |row| row.get(0)).unwrap();
    let importing = json!({ "source": world.store(), "source_id": id }).to_string();
    let sql = "INSERT INTO commonhold_meta(key, value) VALUES('import', ?1)";
    database.execute(sql, [importing]).unwrap();
    let unfinished = "is not finished; run that again";
    let verify = world.run(&["verify", "--store", &copy, "--json"]);
    verify.failed(1, unfinished);
    assert!(verify.stdout.contains("\"ok\":false"), "{verify:?}");
    let create = ["create", "t", "--field", "n:i64", "--segment", "./t", "--store", &copy];
    world.fails(&create, 1, unfinished);
    // A signal ends it while it waits for the database, and nothing is done by halves.
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut export = world.start(&["export", &copy, "--progress"]);
    let told = next_line(&mut export.stderr);
    assert_eq!(told, format!("copying {} to {copy}", world.store()));
    export.signal(Signal::SIGINT);
    let ended = export.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""));
    assert_eq!(ended.stderr, "broken off; the same command goes on\n");
    database.execute_batch("ROLLBACK").unwrap();
    let done = world.run(&["export", &copy, "--progress"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("0 rows copied at 0 rows/s, 3 by an earlier run"), "{done:?}");
    assert_eq!(world.json(&["verify", "--store", &copy])["ok"], json!(true));
}
