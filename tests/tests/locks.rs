//! What proves a participant alive.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs::File;
use std::time::Duration;

use commonhold::Table;
use commonhold_tests::{FULL, Item, LATEST, Random, Stage, judge, stage};

fn dead_seen_by_another(stage: &Stage) -> u32 {
    let mut sweeper = stage.role("sweep", &[]);
    let dead = sweeper.hear("dead").parse().unwrap();
    sweeper.end_well();
    dead
}

#[test]
fn closing_another_descriptor_of_the_segment_frees_no_lock() {
    let stage = stage!();
    let runtime = stage.open();
    let table: Table<Item> = runtime.table(LATEST).unwrap();
    table.insert("key", &Item::default()).unwrap();
    for _ in 0..3 {
        for path in [stage.segment(), "/proc/self/exe".to_owned()] {
            drop(File::open(path).unwrap());
        }
        let file = File::options().read(true).write(true).open(stage.segment()).unwrap();
        drop(file.try_clone().unwrap());
        drop(file);
        drop(stage.attach()); // a whole runtime of this process comes and goes
        assert_eq!(dead_seen_by_another(&stage), 0);
        table.update("key", |item| item.n += 1).unwrap();
    }
    assert_eq!(table.get("key").unwrap().unwrap().n, 3);
    let writers = table.handle().sequence(1);
    assert_eq!(writers, 4, "it is still the same participant");
    drop(table);
    judge::settle(&stage, &runtime);
}

#[test]
fn a_stopped_writer_is_not_robbed() {
    let (stage, mut random) = (stage!(), Random::from_environment());
    let runtime = stage.open();
    let acks = stage.path("acks");
    let args = [acks.to_str().unwrap(), "own", "worker", "1"];
    let mut stream = stage.role("stream", &args);
    let writer = stream.hear("writer").parse().unwrap();
    stream.hear("going");
    let table: Table<Item> = runtime.table(LATEST).unwrap();
    for round in 1..=40 {
        random.dawdle(Duration::from_micros(500));
        let mut victim = stage.role("attach", &[&random.next().to_string()]);
        victim.hear("going");
        stream.stop();
        victim.kill();
        // There is somebody dead to sweep after (the steward may be first), and somebody who only looks so.
        runtime.sweep().unwrap();
        let there = runtime.space().participants();
        let has_entry = |pid| there.iter().any(|p| p.identity.pid == pid);
        assert!(has_entry(stream.id()) && !has_entry(victim.id()), "round {round}: {there:?}");
        if round % 10 == 0 {
            assert_eq!(dead_seen_by_another(&stage), 0, "round {round}");
        }
        // Were a cell of his swept, it would soon be one of these records, and he would write over it.
        for i in 0..30 {
            let (key, item) = (format!("bystander-{i}"), Item { owner: round, n: i });
            if round > 1 {
                let before = table.get(&key).unwrap();
                assert_eq!(before, Some(Item { owner: round - 1, n: i }), "{key}");
                table.delete(&key).unwrap();
            }
            table.insert(&key, &item).unwrap();
        }
        for _ in 0..50 {
            // On its very record too, past whatever it was just doing.
            table.update_or_insert("own", Item::default, |item| item.owner += 1).unwrap();
        }
        assert_eq!(table.get("own").unwrap().unwrap().owner, round * 50);
        stream.resume();
    }
    stream.tell("stop");
    let rounds: u64 = stream.hear("done").parse().unwrap();
    stream.end_well();
    drop(table);
    judge::settle(&stage, &runtime);
    assert_eq!(judge::writers(&stage).get(&writer), Some(&rounds));
    let (_, n, ..) = judge::memory(&runtime, LATEST).remove("own").unwrap();
    assert_eq!(n as u64, rounds);
    let shared = judge::memory(&runtime, FULL).into_iter().filter(|r| r.0.starts_with("shared"));
    assert_eq!(shared.map(|(_, seen)| seen.1).sum::<i64>() as u64, rounds);
}
