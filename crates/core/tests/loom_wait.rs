//! Waiting and waking, flags and doorbell, under loom: a lost wake-up shows as a deadlock.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, missing_docs)]

mod model;

use std::time::Duration;

use commonhold_core::catalogue::History;
use loom::thread;
use model::*;

const LONG: Duration = Duration::from_secs(3600);

/// One waits for a change of a record, one commits it.
fn wait_for_a_record() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (writer, waiter) = (open(&space), open(&space));
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    let waiter = thread::spawn(move || {
        let ready = |seen: &commonhold_core::Snapshot| Ok((seen.version == 2).then_some(()));
        waiter.wait_for(0, "a", LONG, ready).unwrap();
        waiter
    });
    assert_eq!(add(&writer, record), Some(2));
    drop((waiter.join().unwrap(), writer));
    assert_nothing_leaked(&space, 1);
}

/// One waits for a key to come, one inserts it.
fn wait_for_a_key() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (writer, waiter) = (open(&space), open(&space));
    let waiter = thread::spawn(move || {
        waiter.wait_for(0, "a", LONG, |seen| Ok(Some(seen.version))).unwrap();
        waiter
    });
    assert!(insert(&writer, "a", 0));
    drop((waiter.join().unwrap(), writer));
    assert_nothing_leaked(&space, 1);
}

/// Every slot is taken; one waits for room to insert, and the steward ends a deletion.
fn wait_for_room() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (steward, waiter) = (open(&space), open(&space));
    assert!(insert(&steward, "a", 0));
    let record = steward.locate(0, "a").unwrap().unwrap();
    delete(&steward, record).unwrap();
    let waiter = thread::spawn(move || (insert(&waiter, "b", 1), waiter));
    drain(&steward);
    let (inserted, waiter) = waiter.join().unwrap();
    assert!(inserted);
    drop((steward, waiter));
    assert_nothing_leaked(&space, 1);
}

/// Every cell is a version that the store has not; one waits for a cell, and the steward drains.
fn wait_for_cells() {
    let space = space_of(History::Full, 1, 5, 2);
    let (steward, waiter) = (open(&space), open(&space));
    assert!(insert(&steward, "a", 0));
    let record = steward.locate(0, "a").unwrap().unwrap();
    (0..4).for_each(|_| assert!(add(&steward, record).is_some()));
    let waiter = thread::spawn(move || (add(&waiter, record), waiter));
    drain(&steward);
    let (version, waiter) = waiter.join().unwrap();
    assert_eq!(version, Some(6));
    drain_all(&steward);
    drop((steward, waiter));
    assert_nothing_leaked(&space, 1);
}

/// A committer against the steward's round: what he does not take is flagged.
fn flag_against_drain(history: History, spawn_steward: bool) {
    let space = space_of(history, 1, 0, 2);
    let (writer, steward) = (open(&space), open(&space));
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    drain(&steward);
    assert_eq!(add(&writer, record), Some(2));
    let commit = move || {
        assert_eq!(add(&writer, record), Some(3));
        writer
    };
    let round = move || (drain(&steward).last().map_or(1, |r| r.version), steward);
    // Loom explores more of what the spawned one may see: each is it once.
    let (writer, (mut last, steward)) = if spawn_steward {
        let round = thread::spawn(round);
        (commit(), round.join().unwrap())
    } else {
        let commit = thread::spawn(commit);
        let done = round();
        (commit.join().unwrap(), done)
    };
    last = drain(&steward).last().map_or(last, |r| r.version);
    assert_eq!(last, 3, "the store has the last version");
    drop((writer, steward));
    assert_nothing_leaked(&space, 1);
}

/// An insert against the steward's round, who skips Reserved slots.
fn flag_against_insert() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (writer, steward) = (open(&space), open(&space));
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    delete(&writer, record).unwrap();
    drain(&steward);
    steward.flag_record(0, record).unwrap(); // as if left over from the slot's last record
    let writer = thread::spawn(move || {
        assert!(insert(&writer, "a", 0));
        writer
    });
    let mut last = drain(&steward).last().map(|r| r.version);
    let writer = writer.join().unwrap();
    last = drain(&steward).last().map(|r| r.version).or(last);
    assert_eq!(last, value(&space, "a").map(|v| v.0), "the store has the insert");
    drop((writer, steward));
    assert_nothing_leaked(&space, 1);
}

/// The steward sleeps until there is something to store; one commits.
fn sleep_against_ring(spawn_steward: bool) {
    let space = space_of(History::Latest, 1, 0, 2);
    let (writer, steward) = (open(&space), open(&space));
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    drain(&steward);
    let serve = move || {
        while drain(&steward).is_empty() {
            steward.space().sleep_as_steward(false, LONG).unwrap();
        }
        steward
    };
    let commit = move || {
        assert_eq!(add(&writer, record), Some(2));
        writer
    };
    if spawn_steward {
        let serve = thread::spawn(serve);
        drop((commit(), serve.join().unwrap()));
    } else {
        let commit = thread::spawn(commit);
        drop((serve(), commit.join().unwrap()));
    }
    assert_nothing_leaked(&space, 1);
}

/// The steward paces himself for ever unless somebody waits; one does, for durability.
fn hurry_against_pace() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (writer, steward) = (open(&space), open(&space));
    assert!(insert(&writer, "a", 0));
    let steward = thread::spawn(move || {
        steward.space().sleep_as_steward(true, LONG).unwrap();
        drain(&steward);
        steward
    });
    writer.wait_drained(LONG).unwrap();
    drop((steward.join().unwrap(), writer));
    assert_nothing_leaked(&space, 1);
}

#[test]
fn who_waits_for_a_record_is_woken() {
    holds("wait for a record", 3, wait_for_a_record);
    finds(Fault::NoHeadWake, 3, wait_for_a_record);
}

#[test]
fn who_waits_for_a_key_is_woken() {
    holds("wait for a key", 2, wait_for_a_key);
    finds(Fault::NoRoomWake, 2, wait_for_a_key);
    finds(Fault::NoAnnounceFence, 2, wait_for_a_key);
}

#[test]
fn who_waits_for_room_is_woken() {
    holds("wait for room", 2, wait_for_room);
    finds(Fault::NoRoomWake, 2, wait_for_room);
    holds("wait for cells", 2, wait_for_cells);
    finds(Fault::NoRoomWake, 2, wait_for_cells);
    finds(Fault::NoLookAfterMark, 2, wait_for_room);
}

#[test]
fn no_flag_is_lost() {
    for spawned in [false, true] {
        holds("flag against drain, latest", 3, move || {
            flag_against_drain(History::Latest, spawned)
        });
        holds("flag against drain, full", 3, move || flag_against_drain(History::Full, spawned));
    }
    holds("flag against insert", 3, flag_against_insert);
    finds(Fault::FlagClearedLate, 3, || flag_against_drain(History::Latest, false));
    finds(Fault::NoCollectFence, 3, || flag_against_drain(History::Latest, false));
}

#[test]
fn the_steward_is_woken() {
    for spawned in [false, true] {
        holds("sleep against ring", 3, move || sleep_against_ring(spawned));
        finds(Fault::NoRing, 3, move || sleep_against_ring(spawned));
        finds(Fault::NoLookAtFlags, 3, move || sleep_against_ring(spawned));
    }
    holds("hurry against pace", 3, hurry_against_pace);
}
