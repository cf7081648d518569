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
    judge::settle(&stage, &runtime, 0);
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
        stream.stop();
        assert_eq!(runtime.sweep().unwrap().participants, 0, "round {round}");
        if round % 10 == 0 {
            assert_eq!(dead_seen_by_another(&stage), 0, "round {round}");
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
    judge::settle(&stage, &runtime, 0);
    assert_eq!(judge::writers(&stage).get(&writer), Some(&rounds));
    let (_, n, ..) = judge::memory(&runtime, LATEST).remove("own").unwrap();
    assert_eq!(n as u64, rounds);
    let sum: i64 = judge::memory(&runtime, FULL).into_values().map(|seen| seen.1).sum();
    assert_eq!(sum as u64, rounds);
}
