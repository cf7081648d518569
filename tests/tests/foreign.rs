//! Rows that somebody else changes in the database while a segment is at work: nothing is overwritten unseen.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::atomic::{AtomicBool, Ordering};

use commonhold::catalogue::{History, OnForeignChange};
use commonhold::core::stop::{Decision, Stop};
use commonhold::metrics::prometheus_text;
use commonhold::{Config, Error, Runtime, Table, TableConfig, admin};
use commonhold_tests::stage::{LIMIT, eventually};
use commonhold_tests::{FULL, Item, LATEST, Stage, judge, stage};

/// What somebody else does in the database, as soon as the steward lets him.
fn elsewhere(stage: &Stage, sql: &str) {
    let database = rusqlite::Connection::open(stage.database()).unwrap();
    database.busy_timeout(LIMIT).unwrap();
    database.execute_batch(sql).unwrap();
}

/// The segment, both of its tables with this policy.
fn with_policy(stage: &Stage, policy: OnForeignChange) -> Config {
    let table = |name| TableConfig::of::<Item>(name).slots(64).on_foreign_change(policy);
    stage.config().table(table(FULL)).table(table(LATEST).history(History::Latest))
}

/// A record in both tables, version 1, stored.
fn with_record(runtime: &Runtime) {
    for name in [FULL, LATEST] {
        let table: Table<Item> = runtime.table(name).unwrap();
        table.insert("key", &Item { owner: 1, n: 1 }).unwrap().durable(LIMIT).unwrap();
    }
}

fn position(runtime: &Runtime, name: &str) -> usize {
    runtime.space().find_table(name).unwrap()
}

/// Why the store does not take it: told at once, not when the time is up.
fn not_storable(result: Result<(), Error>) -> String {
    match result {
        Err(error @ Error::NotStorable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// What was done about the conflicts, in their order.
fn policies(stage: &Stage) -> Vec<String> {
    let mut store = commonhold::store::open_read_only(&stage.store()).unwrap();
    store.conflicts().unwrap().into_iter().map(|c| c.policy).collect()
}

#[test]
fn a_changed_row_stops_its_table_until_it_is_put_back() {
    for name in [FULL, LATEST] {
        let stage = stage!();
        let runtime = stage.open();
        with_record(&runtime);
        elsewhere(&stage, &format!("UPDATE \"{name}\" SET n = 777"));
        let table: Table<Item> = runtime.table(name).unwrap();
        let why = not_storable(table.update("key", |item| item.n += 1).unwrap().durable(LIMIT));
        for what in [name, "\"key\"", "hash", "commonhold_conflicts", "commonhold resolve"] {
            assert!(why.contains(what), "{what:?} is not in {why:?}");
        }
        // Commits go on, and none of that table is stored, drained or not.
        let fresh = table.insert("fresh", &Item { owner: 2, n: 1 }).unwrap();
        not_storable(fresh.durable(LIMIT));
        not_storable(runtime.drain(LIMIT));
        // The other table goes on.
        let other: Table<Item> = runtime.table(if name == FULL { LATEST } else { FULL }).unwrap();
        other.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
        let (space, at) = (runtime.space(), position(&runtime, name));
        let figures = space.figures(at).unwrap();
        assert_eq!((figures.conflicts, figures.stopped), (1, true));
        assert!(figures.unstored_versions > 1);
        assert!(space.steward_message().unwrap().contains("is stopped"));
        let text = prometheus_text(&runtime.samples().unwrap());
        let total = format!("commonhold_store_conflicts_total{{table=\"{name}\"}} 1\n");
        let stopped = format!("commonhold_store_stopped{{table=\"{name}\"}} 1\n");
        assert!(text.contains(&total) && text.contains(&stopped), "{text}");
        assert_eq!(judge::number(&stage, &format!("SELECT n FROM \"{name}\"")), 777);
        assert_eq!(policies(&stage), ["fail"]);
        // Put back, it goes on by itself.
        elsewhere(&stage, &format!("UPDATE \"{name}\" SET n = 1"));
        eventually("the table goes on", || space.stop_of(at).unwrap() == Stop::Goes);
        judge::settle(&stage, &runtime);
        assert_eq!(space.steward_message(), None);
        assert_eq!(space.figures(at).unwrap().conflicts, 1, "met each second, counted once");
        assert_eq!(policies(&stage), ["fail"]);
    }
}

#[test]
fn somebody_decides_about_a_stopped_table() {
    for (decision, n, done) in
        [(Decision::Adopt, 777, "adopt"), (Decision::Overwrite, 2, "overwrite")]
    {
        let stage = stage!();
        let runtime = stage.open();
        with_record(&runtime);
        elsewhere(&stage, &format!("UPDATE \"{FULL}\" SET n = 777"));
        let table: Table<Item> = runtime.table(FULL).unwrap();
        not_storable(table.update("key", |item| item.n += 1).unwrap().durable(LIMIT));
        let error = admin::resolve(&runtime, FULL, Decision::Retry, LIMIT).unwrap_err();
        assert!(matches!(error, Error::NotStorable { .. }), "{error}");
        assert!(!admin::resolve(&runtime, LATEST, decision, LIMIT).unwrap());
        assert!(admin::resolve(&runtime, FULL, decision, LIMIT).unwrap());
        assert_eq!(table.get("key").unwrap().unwrap().n, n);
        judge::settle(&stage, &runtime);
        assert_eq!(judge::number(&stage, &format!("SELECT n FROM \"{FULL}\"")), n);
        assert_eq!(policies(&stage), [done]);
        // The decision was about that change, not about the next one.
        elsewhere(&stage, &format!("UPDATE \"{FULL}\" SET n = 888"));
        not_storable(table.update("key", |item| item.n += 1).unwrap().durable(LIMIT));
        elsewhere(&stage, &format!("UPDATE \"{FULL}\" SET n = {n}"));
        assert!(admin::resolve(&runtime, FULL, Decision::Retry, LIMIT).unwrap());
        judge::settle(&stage, &runtime);
    }
}

#[test]
fn what_is_found_is_adopted_as_the_next_version() {
    for name in [FULL, LATEST] {
        let stage = stage!();
        let runtime = Runtime::open(with_policy(&stage, OnForeignChange::Adopt)).unwrap();
        with_record(&runtime);
        let table: Table<Item> = runtime.table(name).unwrap();
        elsewhere(&stage, &format!("UPDATE \"{name}\" SET n = 777"));
        table.update("key", |item| item.n += 1).unwrap();
        eventually("it is adopted", || table.get("key").unwrap().unwrap().n == 777);
        table.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
        judge::settle(&stage, &runtime);
        assert_eq!(judge::stored(&stage, name)["key"].1, 778);
        assert_eq!(judge::stored(&stage, name)["key"].2, 4, "ours, what was found, and one more");
        // A row that was removed is removed here too; one that was made stands over ours.
        elsewhere(&stage, &format!("DELETE FROM \"{name}\""));
        table.update("key", |item| item.n += 1).unwrap();
        eventually("the deletion is adopted", || table.get("key").unwrap().is_none());
        judge::settle(&stage, &runtime);
        let other = if name == FULL { LATEST } else { FULL };
        let copy = format!(
            "INSERT INTO \"{name}\" SELECT key, owner, 555, _version, _hash, _clock, _writer, _seq,
             _committed_at FROM \"{other}\""
        );
        elsewhere(&stage, &copy);
        table.insert("key", &Item { owner: 1, n: 1 }).unwrap();
        eventually("the row is adopted", || table.get("key").unwrap().is_some_and(|i| i.n == 555));
        judge::settle(&stage, &runtime);
        assert_eq!(policies(&stage), ["adopt"; 3]);
        assert!(!runtime.space().figures(position(&runtime, name)).unwrap().stopped);
    }
}

#[test]
fn what_was_deleted_here_comes_back_when_it_is_adopted() {
    let stage = stage!();
    let runtime = Runtime::open(with_policy(&stage, OnForeignChange::Adopt)).unwrap();
    with_record(&runtime);
    let table: Table<Item> = runtime.table(FULL).unwrap();
    elsewhere(&stage, &format!("UPDATE \"{FULL}\" SET n = 777"));
    table.delete("key").unwrap();
    eventually("it comes back", || table.get("key").unwrap().is_some());
    judge::settle(&stage, &runtime);
    assert_eq!(judge::stored(&stage, FULL)["key"].1, 777);
}

#[test]
fn ours_overwrites_what_is_found_and_keeps_it() {
    for name in [FULL, LATEST] {
        let stage = stage!();
        let runtime = Runtime::open(with_policy(&stage, OnForeignChange::Overwrite)).unwrap();
        with_record(&runtime);
        let table: Table<Item> = runtime.table(name).unwrap();
        elsewhere(&stage, &format!("UPDATE \"{name}\" SET n = 777, _version = 100"));
        table.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
        elsewhere(&stage, &format!("DELETE FROM \"{name}\""));
        table.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
        judge::settle(&stage, &runtime);
        assert_eq!(judge::stored(&stage, name)["key"].1, 3);
        let mut store = commonhold::store::open_read_only(&stage.store()).unwrap();
        let kept = store.conflicts().unwrap();
        assert!(kept[0].found.contains("\"n\":777") && kept[0].ours.contains("\"n\":2"));
        assert_eq!((kept[0].policy.as_str(), kept[0].stored), ("overwrite", 1));
        assert_eq!((kept[1].found.as_str(), kept[1].stored), ("null", 2));
    }
}

#[test]
fn what_is_no_row_is_not_adopted() {
    let stage = stage!();
    let runtime = Runtime::open(with_policy(&stage, OnForeignChange::Adopt)).unwrap();
    with_record(&runtime);
    let table: Table<Item> = runtime.table(FULL).unwrap();
    elsewhere(&stage, &format!("UPDATE \"{FULL}\" SET n = 'many'"));
    let why = not_storable(table.update("key", |item| item.n += 1).unwrap().durable(LIMIT));
    assert!(why.contains("no row of the table"), "{why}");
    assert!(admin::resolve(&runtime, FULL, Decision::Overwrite, LIMIT).unwrap());
    judge::settle(&stage, &runtime);
    assert_eq!(judge::stored(&stage, FULL)["key"].1, 2);
}

/// A row that this very segment stored, and deleted since, put back by somebody from a copy.
#[test]
fn an_old_row_that_was_put_back_is_met() {
    let stage = stage!();
    let runtime = stage.open();
    with_record(&runtime);
    let table: Table<Item> = runtime.table(LATEST).unwrap();
    elsewhere(&stage, &format!("CREATE TABLE old AS SELECT * FROM {LATEST}"));
    table.update("key", |item| item.n += 1).unwrap();
    table.delete("key").unwrap().durable(LIMIT).unwrap();
    elsewhere(&stage, &format!("INSERT INTO {LATEST} SELECT * FROM old; DROP TABLE old"));
    let why = not_storable(table.insert("key", &Item { owner: 1, n: 9 }).unwrap().durable(LIMIT));
    assert!(why.contains("version 1, and none was stored"), "{why}");
    elsewhere(&stage, &format!("DELETE FROM {LATEST}"));
    eventually("the table goes on", || runtime.space().stop_of(1).unwrap() == Stop::Goes);
    drop(table);
    judge::settle(&stage, &runtime);
}

/// A version that the history has with another state: its table stops, the other one goes on.
#[test]
fn a_row_that_is_not_taken_stops_its_table_alone() {
    let stage = stage!();
    let runtime = stage.open();
    with_record(&runtime);
    let columns = "owner, n, _version + 1, _hash, _clock, _writer, _seq, _committed_at, _deleted";
    elsewhere(
        &stage,
        &format!("INSERT INTO {FULL}_history SELECT key, {columns}, 99, _link FROM {FULL}_history"),
    );
    let [table, other]: [Table<Item>; 2] = [FULL, LATEST].map(|t| runtime.table(t).unwrap());
    let why = not_storable(table.update("key", |item| item.n += 1).unwrap().durable(LIMIT));
    assert!(why.contains("version 2 is stored with another state"), "{why}");
    other.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
    let error = admin::resolve(&runtime, FULL, Decision::Overwrite, LIMIT).unwrap_err();
    assert!(matches!(error, Error::NotStorable { .. }), "{error}");
    elsewhere(&stage, &format!("DELETE FROM {FULL}_history WHERE _position = 99"));
    drop(table);
    eventually("the table goes on", || runtime.space().stop_of(0).unwrap() == Stop::Goes);
    judge::settle(&stage, &runtime);
}

/// A table that was taken away, and one whose trigger refuses: the other one goes on, and that one as soon as it is mended.
#[test]
fn a_table_that_takes_no_rows_stops_alone() {
    let refuse = "CREATE TRIGGER no BEFORE UPDATE ON * BEGIN SELECT RAISE(ABORT, 'not today'); END";
    for (change, back, said) in [
        ("ALTER TABLE * RENAME TO away", "ALTER TABLE away RENAME TO *", "no such table"),
        (refuse, "DROP TRIGGER no", "not today"),
    ] {
        for (name, other) in [(FULL, LATEST), (LATEST, FULL)] {
            let stage = stage!();
            let runtime = stage.open();
            with_record(&runtime);
            elsewhere(&stage, &change.replace('*', name));
            let [table, other]: [Table<Item>; 2] = [name, other].map(|t| runtime.table(t).unwrap());
            let changed = table.update("key", |item| item.n += 1).unwrap();
            let why = not_storable(changed.durable(LIMIT));
            assert!(why.contains(said) && why.contains(&format!("table {name}")), "{why}");
            other.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
            let error = admin::resolve(&runtime, name, Decision::Overwrite, LIMIT).unwrap_err();
            assert!(matches!(error, Error::NotStorable { .. }), "{error}");
            elsewhere(&stage, &back.replace('*', name));
            drop((table, other));
            let at = position(&runtime, name);
            eventually("it goes on", || runtime.space().stop_of(at).unwrap() == Stop::Goes);
            judge::settle(&stage, &runtime);
            assert_eq!(judge::stored(&stage, name)["key"].2, 2);
        }
    }
}

/// Both are refused at about the same time, and tried again at the same time: the one that is mended gets through although
/// the other one fails before it.
#[test]
fn of_two_stopped_tables_the_mended_one_goes_on() {
    let stage = stage!();
    let runtime = stage.open();
    with_record(&runtime);
    let [full, latest]: [Table<Item>; 2] = [FULL, LATEST].map(|t| runtime.table(t).unwrap());
    let stop = |name| runtime.space().stop_of(position(&runtime, name)).unwrap();
    for _ in 0..5 {
        let database = rusqlite::Connection::open(stage.database()).unwrap();
        database.busy_timeout(LIMIT).unwrap();
        database.execute_batch("BEGIN IMMEDIATE").unwrap();
        for name in [FULL, LATEST] {
            let no = "CREATE TRIGGER no_* BEFORE UPDATE ON * BEGIN SELECT RAISE(ABORT, 'no'); END";
            database.execute_batch(&no.replace('*', name)).unwrap();
        }
        for table in [&full, &latest] {
            table.update("key", |item| item.n += 1).unwrap();
        }
        database.execute_batch("COMMIT").unwrap();
        eventually("both stop", || [FULL, LATEST].iter().all(|name| stop(name) == Stop::Stopped));
        elsewhere(&stage, &format!("DROP TRIGGER no_{LATEST}"));
        eventually("it goes on", || stop(LATEST) == Stop::Goes);
        assert_eq!(stop(FULL), Stop::Stopped);
        elsewhere(&stage, &format!("DROP TRIGGER no_{FULL}"));
        eventually("both go on", || [FULL, LATEST].iter().all(|name| stop(name) == Stop::Goes));
    }
    drop((full, latest));
    judge::settle(&stage, &runtime);
}

#[test]
fn the_next_steward_stops_the_table_too() {
    let stage = stage!();
    let first = stage.open();
    with_record(&first);
    let runtime = stage.attach();
    elsewhere(&stage, &format!("UPDATE \"{FULL}\" SET n = 777"));
    let table: Table<Item> = runtime.table(FULL).unwrap();
    not_storable(table.update("key", |item| item.n += 1).unwrap().durable(LIMIT));
    drop(first);
    let second = stage.open();
    let latest: Table<Item> = second.table(LATEST).unwrap();
    latest.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
    not_storable(table.update("key", |item| item.n += 1).unwrap().durable(LIMIT));
    assert_eq!(judge::number(&stage, "SELECT count(*) FROM commonhold_conflicts"), 1);
    assert_eq!(second.space().figures(0).unwrap().conflicts, 1);
    assert!(admin::resolve(&second, FULL, Decision::Overwrite, LIMIT).unwrap());
    judge::settle(&stage, &second);
}

/// Commits of two threads, and somebody who changes, removes and makes rows all the time: at the end memory and store
/// agree, and every change that was met is kept.
#[test]
fn nobody_is_overwritten_unseen_under_load() {
    for policy in [OnForeignChange::Adopt, OnForeignChange::Overwrite] {
        let stage = stage!();
        let runtime = Runtime::open(with_policy(&stage, policy)).unwrap();
        with_record(&runtime);
        let done = AtomicBool::new(false);
        let done = &done;
        std::thread::scope(|scope| {
            for name in [FULL, LATEST] {
                let runtime = &runtime;
                scope.spawn(move || {
                    let table: Table<Item> = runtime.table(name).unwrap();
                    while !done.load(Ordering::Relaxed) {
                        for key in ["key", "a", "b"] {
                            table.update_or_insert(key, Item::default, |item| item.n += 1).unwrap();
                        }
                    }
                });
            }
            let changes = ["UPDATE * SET n = n + 1000", "DELETE FROM * WHERE key = 'a'"];
            for round in 0..40 {
                for name in [FULL, LATEST] {
                    let sql = changes[round % 2].replace('*', &format!("\"{name}\""));
                    elsewhere(&stage, &sql);
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        // What was changed last is met when it is written next.
        for name in [FULL, LATEST] {
            let table: Table<Item> = runtime.table(name).unwrap();
            for key in ["key", "a", "b"] {
                let _ = table.update(key, |item| item.n += 1);
            }
        }
        judge::settle(&stage, &runtime);
        let figures = [0, 1].map(|at| runtime.space().figures(at).unwrap().conflicts);
        let kept = judge::number(&stage, "SELECT count(*) FROM commonhold_conflicts");
        assert!(figures.iter().all(|met| *met > 0), "{figures:?}");
        assert_eq!(figures.iter().sum::<u64>() as i64, kept);
    }
}
