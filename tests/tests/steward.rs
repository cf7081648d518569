//! The steward's role: it moves when its holder dies or leaves, and waits when he is stopped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use commonhold::{Error, Runtime, Table};
use commonhold_tests::stage::{LIMIT, eventually};
use commonhold_tests::{FULL, Item, LATEST, Process, Random, Stage, judge, stage};

fn candidate(stage: &Stage) -> Process {
    let mut process = stage.role("candidate", &[]);
    process.hear("ready");
    process
}

/// The process that serves.
fn holder(runtime: &Runtime) -> u32 {
    let (entry, _) = runtime.space().steward().unwrap();
    runtime.space().identity_of(entry).unwrap().pid
}

/// Ten times the steward goes by `ending` amid commits of two streams; the candidate who is left then serves.
fn hand_over(ending: impl Fn(&mut Process, &mut Random)) {
    let (stage, mut random) = (stage!(), Random::from_environment());
    drop(stage.open());
    let mut steward = candidate(&stage);
    steward.tell("durable");
    steward.hear("durable");
    let runtime = stage.attach();
    let mut streams = [0, 1].map(|index| {
        let acks = stage.path(&format!("acks-{index}"));
        let (own, seed) = (format!("own-{index}"), random.next().to_string());
        let mut stream = stage.role("stream", &[acks.to_str().unwrap(), &own, "worker", &seed]);
        let writer = stream.hear("writer").parse().unwrap();
        stream.hear("going");
        (stream, writer)
    });
    for round in 0..10 {
        let mut next = candidate(&stage);
        assert_eq!(holder(&runtime), steward.id(), "round {round}");
        next.tell("durable");
        random.dawdle(Duration::from_millis(5));
        ending(&mut steward, &mut random);
        next.hear("durable");
        // That may have been the last deed of the one who is gone; this is not.
        next.tell("durable");
        next.hear("durable");
        assert_eq!(holder(&runtime), next.id(), "round {round}");
        steward = next;
    }
    let (_, terms) = runtime.space().steward().unwrap();
    assert!(terms > 10, "{terms} terms");
    let mut done = Vec::new();
    for (stream, writer) in &mut streams {
        stream.tell("stop");
        done.push((*writer, stream.hear("done").parse::<u64>().unwrap()));
        stream.end_well();
    }
    judge::settle(&stage, &runtime);
    let stored = judge::writers(&stage);
    for (writer, rounds) in done {
        assert_eq!(stored.get(&writer), Some(&rounds), "{writer}");
    }
}

#[test]
fn everything_is_stored_when_stewards_are_killed() {
    hand_over(|steward, _| steward.kill());
}

#[test]
fn everything_is_stored_when_stewards_leave() {
    hand_over(|steward, _| steward.end_well());
}

#[test]
fn a_steward_leaves_although_others_commit_without_end() {
    let stage = stage!();
    let steward = stage.open();
    let table: Table<Item> = steward.table(LATEST).unwrap();
    table.insert("own", &Item { owner: 1, n: 1 }).unwrap().durable(LIMIT).unwrap();
    let others = stage.open();
    assert_eq!(holder(&others), std::process::id());
    let over = AtomicBool::new(false);
    let commits = [const { AtomicU64::new(0) }; 2];
    // Each round takes some milliseconds: there is no moment in which nothing has come.
    let slowly = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 50000) SELECT count(*) FROM c";
    let database = rusqlite::Connection::open(stage.database()).unwrap();
    database.busy_timeout(LIMIT).unwrap();
    let slow = format!("CREATE TRIGGER slow BEFORE UPDATE ON {LATEST} BEGIN {slowly}; END");
    database.execute_batch(&slow).unwrap();
    let left = std::thread::scope(|scope| {
        for (number, commits) in commits.iter().enumerate() {
            let (others, over) = (&others, &over);
            scope.spawn(move || {
                let table: Table<Item> = others.table(LATEST).unwrap();
                let key = format!("k{number}");
                while !over.load(Ordering::Relaxed) {
                    table.update_or_insert(&key, Item::default, |item| item.n += 1).unwrap();
                    commits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("others commit", || commits.iter().all(|n| n.load(Ordering::Relaxed) > 1000));
        table.update("own", |item| item.n += 1).unwrap();
        drop(table);
        let (gone, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            drop(steward);
            let _ = gone.send(());
        });
        let left = told.recv_timeout(LIMIT);
        over.store(true, Ordering::Relaxed);
        left
    });
    left.expect("the steward has gone before the others ended");
    database.execute_batch("DROP TRIGGER slow").unwrap();
    judge::settle(&stage, &others);
    let stored = judge::stored(&stage, LATEST);
    assert_eq!(stored["own"].2, 2);
    for (number, commits) in commits.iter().enumerate() {
        assert_eq!(stored[&format!("k{number}")].2, commits.load(Ordering::Relaxed));
    }
}

#[test]
fn a_stopped_steward_halts_the_store_and_nothing_else() {
    let stage = stage!();
    drop(stage.open());
    let mut steward = candidate(&stage);
    steward.tell("durable");
    steward.hear("durable");
    let runtime = stage.attach();
    let handle = runtime.handle().unwrap();
    let tables = [FULL, LATEST].map(|name| Table::<Item, _>::new(&handle, name).unwrap());
    for round in 1..=5 {
        steward.stop();
        for table in &tables {
            for n in 1..=100 {
                table.update_or_insert("key", Item::default, |item| item.n += 1).unwrap();
                assert_eq!(table.get("key").unwrap().unwrap().n, (round - 1) * 101 + n);
            }
            let commit = table.update("key", |item| item.n += 1).unwrap();
            let late = commit.durable(Duration::from_millis(150)).unwrap_err();
            let due = format!("waiting for version {} to be stored", commit.version());
            assert!(matches!(late, Error::Timeout { .. }), "{late}");
            assert!(late.to_string().contains(&due), "{late}");
            assert!(runtime.drain(Duration::from_millis(50)).is_err());
        }
        steward.resume();
        runtime.drain(LIMIT).unwrap();
        assert_eq!(judge::stored(&stage, FULL)["key"].1, round * 101);
        assert_eq!(judge::stored(&stage, LATEST)["key"].1, round * 101);
    }
    drop(handle);
    judge::settle(&stage, &runtime);
}

#[test]
fn a_steward_that_has_its_store_again_says_so_without_a_commit() {
    let stage = stage!();
    drop(stage.open());
    let (database, aside) = (stage.database(), stage.path("aside"));
    std::fs::rename(&database, &aside).unwrap();
    std::fs::create_dir(&database).unwrap();
    let mut steward = candidate(&stage);
    let runtime = stage.attach();
    let told = || runtime.space().steward_message();
    eventually("the reason", || told().is_some_and(|why| why.contains("store.db")));
    std::fs::remove_dir(&database).unwrap();
    std::fs::rename(&aside, &database).unwrap();
    eventually("the end of it", || told().is_none());
    steward.end_well();
}
