//! Keys that are deleted and made again, with handles to them and kills all the while.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use commonhold::{Error, Runtime, Table};
use commonhold_tests::{FULL, Item, LATEST, Process, Random, Stage, judge, stage};

const DELETIONS: u64 = 10_000;
const PROCESSES: usize = 8;
const KILLS: u64 = 20;
const KEYS: u64 = 4;
const SLOTS: u32 = 16;

struct Worker {
    process: Process,
    left: u64,
}

fn start(stage: &Stage, table: &str, left: u64, random: &mut Random) -> Worker {
    let args = [table, &KEYS.to_string(), &left.to_string(), &random.next().to_string()];
    Worker { process: stage.role("churn", &args), left }
}

/// Hears of one deletion; false when the worker is done.
fn heard(worker: &mut Worker) -> bool {
    match worker.process.next_line().as_deref() {
        Some("deleted") => {
            worker.left -= 1;
            true
        }
        Some("done") => false,
        other => panic!("a worker said {other:?}"),
    }
}

fn reincarnate(table: &str) {
    let (stage, mut random) = (stage!(), Random::from_environment());
    let runtime = Runtime::open(stage.sized(32, SLOTS, 400)).unwrap();
    let mut holders = [0; 2].map(|_| stage.role("hold", &[table, &KEYS.to_string()]));
    holders.iter_mut().for_each(|h| drop(h.hear("ready")));
    let each = DELETIONS / PROCESSES as u64;
    let mut workers: Vec<Worker> =
        (0..PROCESSES).map(|_| start(&stage, table, each, &mut random)).collect();
    for _ in 0..KILLS {
        let victim = random.below(PROCESSES as u64) as usize;
        let worker = &mut workers[victim];
        for _ in 0..=random.below(each / 10) {
            if worker.left <= 1 || !heard(worker) {
                break;
            }
        }
        random.dawdle(Duration::from_micros(300));
        worker.process.kill();
        let said = worker.process.rest();
        let more = said.lines().filter(|line| *line == "deleted").count() as u64;
        let left = worker.left - more;
        // Of a victim that was already done there is nothing left: another round of work then.
        workers[victim] = start(&stage, table, left.max(1), &mut random);
    }
    for mut worker in workers {
        while heard(&mut worker) {}
        worker.process.end_well();
    }
    for mut holder in holders {
        holder.tell("stop");
        let held = holder.hear("held");
        let counts: Vec<u64> = held.split(' ').map(|n| n.parse().unwrap()).collect();
        assert!(counts[0] > 0 && counts[1] > 0, "handles landed and went stale: {held}");
        holder.end_well();
    }
    judge::settle(&stage, &runtime);
    let owners = judge::memory(&runtime, table);
    for (key, (owner, ..)) in owners {
        assert_eq!(key, format!("key-{owner}"));
    }
    if table == FULL {
        judge::versions_rise(&stage);
        let sql = format!("SELECT count(*) FROM {table}_history WHERE _deleted");
        let deleted = judge::number(&stage, &sql) as u64;
        // A victim may have deleted once more than it said.
        assert!((DELETIONS..=DELETIONS + 2 * KILLS).contains(&deleted), "{deleted} deletions");
    }
    refill(&runtime, table);
    judge::settle(&stage, &runtime);
}

/// The table takes as many keys as it has slots, whichever, twice over, and not one more.
fn refill(runtime: &Runtime, name: &str) {
    let handle = runtime.handle().unwrap();
    let table: Table<Item, _> = Table::new(&handle, name).unwrap();
    for round in 0..2 {
        for key in judge::memory(runtime, name).into_keys() {
            table.delete(&key).unwrap();
        }
        for i in 0..SLOTS {
            table.insert(&format!("round {round}, key {i}"), &Item::default()).unwrap();
        }
        handle.set_room_wait(Duration::ZERO);
        let full = table.insert("one more", &Item::default()).unwrap_err();
        assert!(matches!(full, Error::Full { what: "slots", limit: SLOTS, .. }), "{full}");
        handle.set_room_wait(Duration::from_secs(10));
    }
    assert_eq!(table.len().unwrap() as u32, SLOTS);
}

#[test]
fn keys_come_again_with_full_history() {
    reincarnate(FULL);
}

#[test]
fn keys_come_again_with_latest_history() {
    reincarnate(LATEST);
}
