//! Waiting across processes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use commonhold::Table;
use commonhold::wait::Deadline;
use commonhold_tests::stage::LIMIT;
use commonhold_tests::{FULL, Item, LATEST, Process, judge, stage};

#[test]
fn a_commit_of_another_process_wakes() {
    // A sleeper whom nobody wakes looks by himself every 100 ms: so many wakes would take longer than LIMIT.
    const ROUNDS: i64 = 1000;
    for name in [FULL, LATEST] {
        let stage = stage!();
        let runtime = stage.open();
        let table: Table<Item> = runtime.table(name).unwrap();
        table.insert("ball", &Item::default()).unwrap();
        let mut pong = stage.role("pong", &[name, &ROUNDS.to_string()]);
        pong.hear("ready");
        let all = Deadline::after(LIMIT);
        for round in 0..ROUNDS {
            table.update("ball", |item| item.n += 1).unwrap();
            let left = all.left().unwrap_or_default();
            table.wait_for("ball", |item| item.n == 2 * round + 2, left).unwrap();
        }
        pong.hear("done");
        pong.end_well();
        drop(table);
        judge::settle(&stage, &runtime);
    }
}

#[test]
fn the_insert_of_a_missing_key_wakes() {
    let stage = stage!();
    let runtime = stage.open();
    for name in [FULL, LATEST] {
        let table: Table<Item> = runtime.table(name).unwrap();
        let wait = |key: &str, n: i64| {
            let mut process = stage.role("wait", &[name, key, &n.to_string()]);
            process.hear("waiting");
            process
        };
        let mut waiters: Vec<Process> = (0..4).map(|i| wait("new", i)).collect();
        table.insert("other", &Item { owner: 0, n: 9 }).unwrap();
        table.insert("new", &Item { owner: 0, n: 1 }).unwrap();
        for waiter in &mut waiters[..2] {
            assert_eq!(waiter.hear("woken"), "1");
        }
        // The others wait on, through a deletion, for another record of the same key.
        table.delete("new").unwrap();
        table.insert("new", &Item { owner: 0, n: 7 }).unwrap();
        for waiter in &mut waiters[2..] {
            assert_eq!(waiter.hear("woken"), "7");
        }
        waiters.iter_mut().for_each(Process::end_well);
    }
}

#[test]
fn who_waits_to_take_takes_what_is_there_and_no_more() {
    const CONSUMERS: i64 = 4;
    const EACH: i64 = 100;
    for name in [FULL, LATEST] {
        let stage = stage!();
        let runtime = stage.open();
        let table: Table<Item> = runtime.table(name).unwrap();
        let start = |_| stage.role("consume", &[name, &EACH.to_string()]);
        let mut consumers: Vec<Process> = (0..CONSUMERS).map(start).collect();
        consumers.iter_mut().for_each(|c| drop(c.hear("ready")));
        for _ in 0..CONSUMERS * EACH {
            let add = |item: &mut Item| (item.n, item.owner) = (item.n + 1, item.owner + 1);
            table.update_or_insert("stock", Item::default, add).unwrap();
        }
        for consumer in &mut consumers {
            consumer.hear("done");
            consumer.end_well();
        }
        let left = table.get("stock").unwrap().unwrap();
        assert_eq!(left, Item { owner: CONSUMERS * EACH, n: 0 });
        drop(table);
        judge::settle(&stage, &runtime);
    }
}
