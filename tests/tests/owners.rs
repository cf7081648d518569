//! A store knows its owner: a second segment is refused, a take-over fences the first, and an older state of the store is
//! not taken for the newer one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use commonhold::{Config, Error, OpenError, Runtime, Table, admin};
use commonhold_tests::stage::{LIMIT, eventually};
use commonhold_tests::{FULL, Item, Stage, judge, stage};

fn refused(config: Config) -> String {
    match Runtime::open(config).map(|_| ()) {
        Err(error @ OpenError::StoreInUse { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn not_storable(result: Result<(), Error>) -> String {
    match result {
        Err(error @ Error::NotStorable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The segment with one stored record.
fn with_record(stage: &Stage) -> Runtime {
    let runtime = stage.open();
    let table: Table<Item> = runtime.table(FULL).unwrap();
    table.insert("key", &Item { owner: 1, n: 1 }).unwrap().durable(LIMIT).unwrap();
    drop(table);
    runtime
}

/// Another segment of the same stage, on the store `url`.
fn second(stage: &Stage, url: &str) -> Config {
    let path = stage.path("second").display().to_string();
    stage.config().with_segment(Some(&path)).store(url)
}

fn says(text: &str, what: &[&str]) {
    assert!(!text.contains('\n'), "{text:?}");
    what.iter().for_each(|what| assert!(text.contains(what), "{what:?} is not in {text:?}"));
}

fn execute(path: &std::path::Path, sql: &str) {
    let database = rusqlite::Connection::open(path).unwrap();
    database.busy_timeout(LIMIT).unwrap();
    database.execute_batch(sql).unwrap();
}

/// Gives the store's owner another member of its description.
fn owner_with(path: &std::path::Path, member: &str, value: &str) {
    execute(
        path,
        &format!(
            "UPDATE commonhold_meta SET value = json_set(value, '$.{member}', {value})
             WHERE key = 'owner'"
        ),
    );
}

#[test]
fn a_copied_database_belongs_to_the_segment_of_the_first() {
    let stage = stage!();
    let runtime = with_record(&stage);
    let copy = stage.path("copy.db");
    execute(&stage.database(), &format!("VACUUM INTO '{}'", copy.display()));
    let config = second(&stage, &format!("sqlite:{}", copy.display()));
    says(&refused(config.clone()), &["copy.db", &stage.segment(), "epoch 1", "is still there"]);
    // Taken over, the copy goes its own way, and the first one goes on with its store.
    let taken = admin::take_over(&format!("sqlite:{}", copy.display())).unwrap();
    assert_eq!((taken.behind, taken.taken.epoch), (Some(0), 2));
    let other = Runtime::open(config).unwrap();
    let [table, copied]: [Table<Item>; 2] = [&runtime, &other].map(|r| r.table(FULL).unwrap());
    table.update("key", |item| item.n = 5).unwrap().durable(LIMIT).unwrap();
    copied.update("key", |item| item.n = 6).unwrap().durable(LIMIT).unwrap();
    judge::settle(&stage, &runtime);
    drop(copied);
    other.drain(LIMIT).unwrap();
}

#[test]
fn a_store_of_another_machine_is_refused_until_it_is_taken_over() {
    let stage = stage!();
    drop(with_record(&stage));
    std::fs::remove_file(stage.path("segment")).unwrap();
    owner_with(&stage.database(), "node", "'00ff'");
    owner_with(&stage.database(), "host", "'far-away'");
    // Also under the very path that its own segment has there.
    for config in [stage.config(), second(&stage, &stage.store())] {
        let why = refused(config);
        says(&why, &["host far-away", "node 00ff", "epoch 1", &stage.segment(), "take-over"]);
    }
    let taken = admin::take_over(&stage.store()).unwrap();
    assert_eq!(taken.taken.fenced.unwrap().node.unwrap().host, "far-away");
    let runtime = stage.open();
    assert_eq!(runtime.space().segment().header().store_epoch, 3);
    let table: Table<Item> = runtime.table(FULL).unwrap();
    table.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
    drop(table);
    judge::settle(&stage, &runtime);
}

#[test]
fn a_segment_that_cannot_be_seen_is_not_taken_for_gone() {
    let stage = stage!();
    drop(with_record(&stage));
    std::fs::remove_file(stage.path("segment")).unwrap();
    // Another folder is mounted under that path where it was made: in a container, say.
    owner_with(&stage.database(), "device", "1");
    for config in [stage.config(), second(&stage, &stage.store())] {
        says(&refused(config), &[&stage.segment(), "cannot be seen from here", "take-over"]);
    }
    // After the machine's next start nothing of it is left.
    owner_with(&stage.database(), "boot_id", "'earlier'");
    judge::settle(&stage, &stage.open());
}

#[test]
fn a_store_that_was_claimed_before_nodes_were_kept_is_followed() {
    let stage = stage!();
    drop(with_record(&stage));
    std::fs::remove_file(stage.path("segment")).unwrap();
    let old = "UPDATE commonhold_meta SET value =
               json_remove(value, '$.node', '$.host', '$.device') WHERE key = 'owner'";
    execute(&stage.database(), old);
    judge::settle(&stage, &stage.open());
}

#[test]
fn a_take_over_fences_a_segment_that_is_at_work() {
    let stage = stage!();
    let runtime = with_record(&stage);
    let taken = admin::take_over(&stage.store()).unwrap();
    assert_eq!(taken.taken.fenced.unwrap().path, stage.segment());
    let table: Table<Item> = runtime.table(FULL).unwrap();
    // Told at once, and again when it is known; commits go on in memory.
    for n in 2..5 {
        let commit = table.update("key", |item| item.n = n).unwrap();
        let why = not_storable(commit.durable(LIMIT));
        says(&why, &["version", "belongs to nobody, since it was taken over", "epoch 2"]);
    }
    not_storable(runtime.drain(LIMIT));
    assert!(runtime.space().is_refused());
    assert_eq!(table.get("key").unwrap().unwrap().n, 4);
    assert_eq!(judge::stored(&stage, FULL)["key"].1, 1, "nothing more of it is stored");
    let next = Runtime::open(second(&stage, &stage.store())).unwrap();
    let other: Table<Item> = next.table(FULL).unwrap();
    other.update("key", |item| item.n = 9).unwrap().durable(LIMIT).unwrap();
    let commit = table.update("key", |item| item.n = 5).unwrap();
    eventually("the first one hears of its successor", || {
        not_storable(commit.durable(LIMIT)).contains("second")
    });
    assert_eq!(judge::stored(&stage, FULL)["key"].1, 9);
    judge::audit(&next);
}

#[test]
fn a_steward_that_was_stopped_is_fenced_when_it_goes_on() {
    let stage = stage!();
    drop(stage.open());
    let mut process = stage.role("candidate", &[]);
    process.hear("ready");
    process.tell("durable");
    process.hear("durable");
    let runtime = stage.attach();
    process.stop();
    let table: Table<Item> = runtime.table(FULL).unwrap();
    let late = table.insert("late", &Item { owner: 1, n: 1 }).unwrap();
    admin::take_over(&stage.store()).unwrap();
    let next = Runtime::open(second(&stage, &stage.store())).unwrap();
    process.resume();
    says(&not_storable(late.durable(LIMIT)), &["second", "epoch 3"]);
    assert!(!judge::stored(&stage, FULL).contains_key("late"));
    judge::audit(&next);
}

/// As a snapshot of a machine that runs on beside it, or in its place.
#[test]
fn of_a_segment_and_its_copy_one_stores() {
    let stage = stage!();
    let first = with_record(&stage);
    first.drain(LIMIT).unwrap();
    std::fs::copy(stage.segment(), stage.path("second")).unwrap();
    let second = Runtime::open(second(&stage, &stage.store()).attach_only()).unwrap();
    let [table, copied]: [Table<Item>; 2] = [&first, &second].map(|r| r.table(FULL).unwrap());
    // Both make version 2.
    table.update("key", |item| item.n = 5).unwrap().durable(LIMIT).unwrap();
    let commit = copied.update("key", |item| item.n = 6).unwrap();
    says(&not_storable(commit.durable(LIMIT)), &["a copy of it", "take-over"]);
    assert!(second.space().is_refused() && !first.space().is_refused());
    for n in 6..9 {
        table.update("key", |item| item.n = n).unwrap().durable(LIMIT).unwrap();
    }
    not_storable(second.drain(LIMIT));
    assert_eq!(copied.get("key").unwrap().unwrap().n, 6, "it goes on in memory");
    drop((table, copied));
    judge::settle(&stage, &first);
    assert_eq!(judge::stored(&stage, FULL)["key"].1, 8);
}

#[test]
fn an_older_state_of_the_store_is_refused() {
    let stage = stage!();
    let runtime = with_record(&stage);
    let backup = stage.path("backup.db");
    execute(&stage.database(), &format!("VACUUM INTO '{}'", backup.display()));
    let table: Table<Item> = runtime.table(FULL).unwrap();
    for _ in 0..3 {
        table.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
    }
    let newest = stage.path("newest.db");
    execute(&stage.database(), &format!("VACUUM INTO '{}'", newest.display()));
    let restore = |from: &std::path::Path| {
        let tables = [FULL, "full_history", "latest", "commonhold_meta"];
        let each =
            tables.map(|t| format!("DELETE FROM {t}; INSERT INTO {t} SELECT * FROM old.{t};"));
        let sql = format!(
            "ATTACH '{}' AS old; BEGIN IMMEDIATE; {} COMMIT",
            from.display(),
            each.concat()
        );
        execute(&stage.database(), &sql);
    };
    restore(&backup);
    let commit = table.update("key", |item| item.n += 1).unwrap();
    let why = not_storable(commit.durable(LIMIT));
    says(&why, &["older than what this segment stored", "backup", "take-over"]);
    assert_eq!(judge::stored(&stage, FULL)["key"].2, 1, "nothing is written over it");
    // With the newer one back it goes on, and nothing is lost.
    restore(&newest);
    eventually("it goes on", || !runtime.space().is_refused());
    drop(table);
    judge::settle(&stage, &runtime);
    assert_eq!(judge::stored(&stage, FULL)["key"].1, 5);
}
