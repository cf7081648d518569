//! Deaths that leave somebody asleep, deaths of those who clean up after the dead, and marks that come late,
//! under loom.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, missing_docs)]

mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use commonhold_core::catalogue::History;
use commonhold_core::participant::DeadSet;
use commonhold_core::sweep::sweep;
use commonhold_core::wait::Deadline;
use loom::thread;
use model::*;

/// One sleeps until a record changes; the committer is killed before his `steps`th access, and reaped. If he
/// committed nothing, another one does.
fn sleeper_on_a_record(steps: u32) {
    let space = space_of(History::Latest, 1, 0, 3);
    let (victim, waiter, other) = (open(&space), open(&space), open(&space));
    assert!(insert(&other, "a", 0));
    let record = other.locate(0, "a").unwrap().unwrap();
    let killer = thread::spawn(move || {
        dies_after(steps, || add(&victim, record));
        reap(other.space(), &victim.abandon());
        if read(&other, "a", record).unwrap().0 == 1 {
            assert_eq!(add(&other, record), Some(2));
        }
        other
    });
    let ready = |seen: &commonhold_core::Snapshot| Ok((seen.version == 2).then_some(()));
    waiter.wait_for(0, "a", LONG, ready).unwrap();
    let other = killer.join().unwrap();
    sweep(&space, &DeadSet::new()).unwrap();
    drop((waiter, other));
    assert_nothing_leaked(&space, 1);
}

/// One sleeps until anything in the table changes; the committer is killed before his `steps`th access.
fn sleeper_on_a_table(steps: u32) {
    let space = space_of(History::Full, 1, 0, 3);
    let (victim, waiter, other) = (open(&space), open(&space), open(&space));
    assert!(insert(&other, "a", 0));
    let record = other.locate(0, "a").unwrap().unwrap();
    let killer = thread::spawn(move || {
        dies_after(steps, || add(&victim, record));
        reap(other.space(), &victim.abandon());
        if read(&other, "a", record).unwrap().0 == 1 {
            assert_eq!(add(&other, record), Some(2));
        }
        other
    });
    let watched = waiter.watch_table(0).unwrap();
    if read(&waiter, "a", record).unwrap().0 == 1 {
        assert!(waiter.wait_table_changed(0, watched, &Deadline::after(LONG)).unwrap());
    }
    let other = killer.join().unwrap();
    assert_eq!(read(&other, "a", record), Some((2, 1)));
    drain_all(&other);
    sweep(&space, &DeadSet::new()).unwrap();
    drop((waiter, other));
    assert_nothing_leaked(&space, 1);
}

/// One sleeps until a key comes; who inserts it is killed before his `steps`th access, and reaped.
fn sleeper_on_a_key(steps: u32) {
    let space = space_of(History::Latest, 2, 0, 3);
    let (victim, waiter, other) = (open(&space), open(&space), open(&space));
    let killer = thread::spawn(move || {
        dies_after(steps, || insert(&victim, "a", 1));
        reap(other.space(), &victim.abandon());
        insert(&other, "a", 1);
        other
    });
    waiter.wait_for(0, "a", LONG, |seen| Ok(Some(seen.version))).unwrap();
    let other = killer.join().unwrap();
    sweep(&space, &DeadSet::new()).unwrap();
    drop((waiter, other));
    assert_nothing_leaked(&space, 1);
}

/// Every slot is taken. Who waits for room is killed before his `steps`th access; the steward ends a deletion.
fn death_of_a_waiter_for_room(steps: u32) {
    let space = space_of(History::Latest, 1, 0, 3);
    let (steward, victim) = (open(&space), open(&space));
    assert!(insert(&steward, "a", 0));
    let record = steward.locate(0, "a").unwrap().unwrap();
    delete(&steward, record).unwrap();
    let reaper = thread::spawn(move || {
        dies_after(steps, || insert(&victim, "b", 1));
        let space = victim.space_arc();
        reap(&space, &victim.abandon());
    });
    drain(&steward);
    reaper.join().unwrap();
    drain_all(&steward);
    let next = open(&space);
    if value(&space, "b").is_none() {
        assert!(insert(&next, "c", 2), "the room is there for the next");
    }
    sweep(&space, &DeadSet::new()).unwrap();
    drop((steward, next));
    assert_nothing_leaked(&space, 1);
}

/// Every slot is taken; one waits for room. The steward, who ends a deletion, is killed before his `steps`th
/// access, and the next one goes on.
fn death_of_who_makes_room(steps: u32) {
    let space = space_of(History::Latest, 1, 0, 3);
    let (victim, waiter) = (open(&space), open(&space));
    assert!(insert(&waiter, "a", 0));
    let record = waiter.locate(0, "a").unwrap().unwrap();
    delete(&waiter, record).unwrap();
    let stewards = thread::spawn(move || {
        dies_after(steps, || drain(&victim));
        let space = victim.space_arc();
        let next = take_over(&space, &victim.abandon());
        drain(&next);
        next
    });
    assert!(insert(&waiter, "b", 1));
    let next = stewards.join().unwrap();
    drain_all(&next);
    sweep(&space, &DeadSet::new()).unwrap();
    drop((waiter, next));
    assert_nothing_leaked(&space, 1);
}

/// Every cell of the journal is taken, one by a dead participant; one waits for a cell, the reaper frees it.
fn room_from_the_sweep() {
    let space = space_of(History::Full, 1, 6, 3);
    let (victim, waiter) = (open(&space), open(&space));
    assert!(insert(&waiter, "a", 0));
    let record = waiter.locate(0, "a").unwrap().unwrap();
    victim.take_cell(0).unwrap();
    (0..4).for_each(|_| assert!(add(&waiter, record).is_some()));
    let (dead, reaped) = (victim.abandon(), space.clone());
    let reaper = thread::spawn(move || reap(&reaped, &dead));
    assert_eq!(add(&waiter, record), Some(6));
    reaper.join().unwrap();
    drain_all(&waiter);
    sweep(&space, &DeadSet::new()).unwrap();
    drop(waiter);
    assert_nothing_leaked(&space, 1);
}

/// A participant was killed before access `killed` of an update. His reaper is killed before his `steps`th
/// access, a second one ends it, and one commits meanwhile, if `beside`. The store gets all of it without a full
/// scan.
fn death_of_a_reaper(history: History, beside: bool, killed: u32, steps: u32) {
    let space = space_of(history, 1, 6, 3);
    let (victim, writer) = (open(&space), open(&space));
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    drain_all(&writer);
    died_after(killed, || add(&victim, record));
    let (dead, reaped) = (victim.abandon(), space.clone());
    let reaper = thread::spawn(move || {
        dies_after(steps, || reap(&reaped, &dead));
        reap(&reaped, &dead);
        reaped
    });
    let own = if beside { add(&writer, record) } else { None };
    reaper.join().unwrap();
    let (version, value) = read(&writer, "a", record).unwrap();
    assert!(version as i64 == value + 1 && own.is_none_or(|own| own == version));
    let rows = drain_all(&writer);
    let stored = rows.last().map_or(1, |r| r.version);
    assert_eq!(stored, version, "the store has what the dead one committed");
    sweep(&space, &DeadSet::new()).unwrap();
    drop(writer);
    assert_nothing_leaked(&space, 1);
}

/// The same for one who was killed before access `killed` of an insert; another inserts the key meanwhile.
fn death_of_an_inserters_reaper(killed: u32, steps: u32) {
    let space = space_of(History::Latest, 2, 0, 3);
    let (victim, other) = (open(&space), open(&space));
    died_after(killed, || insert(&victim, "a", 1));
    let (dead, reaped) = (victim.abandon(), space.clone());
    let reaper = thread::spawn(move || {
        dies_after(steps, || reap(&reaped, &dead));
        reap(&reaped, &dead);
    });
    let own = insert(&other, "a", 2);
    reaper.join().unwrap();
    assert_eq!(value(&space, "a"), Some((1, if own { 2 } else { 1 })));
    assert_eq!(drain_all(&other).len(), 1, "the store has it");
    sweep(&space, &DeadSet::new()).unwrap();
    drop(other);
    assert_nothing_leaked(&space, 1);
}

/// A participant leaves and is killed before his `steps`th access, while another commits.
fn death_of_who_leaves(steps: u32) {
    let space = space_of(History::Latest, 1, 0, 2);
    let (victim, writer) = (open(&space), open(&space));
    assert!(insert(&victim, "a", 0));
    let record = victim.locate(0, "a").unwrap().unwrap();
    assert_eq!(add(&victim, record), Some(2)); // so that he has a spare
    let (dead, reaped) = (victim.as_dead(), space.clone());
    let reaper = thread::spawn(move || {
        dies_after(steps, || drop(victim));
        reap(&reaped, &dead);
    });
    assert_eq!(add(&writer, record), Some(3));
    reaper.join().unwrap();
    sweep(&space, &DeadSet::new()).unwrap();
    drop(writer);
    drop([open(&space), open(&space)]);
    assert_nothing_leaked(&space, 1);
}

/// One commits and is slow to mark his cell Published; it is stored and displaced meanwhile. What that leaves
/// is counted, and a thorough sweep frees it.
fn late_mark(left: &AtomicU64) {
    let space = space_of(History::Full, 1, 6, 2);
    let (slow, other) = (open(&space), open(&space));
    assert!(insert(&other, "a", 0));
    let record = other.locate(0, "a").unwrap().unwrap();
    let other = thread::spawn(move || {
        drain(&other);
        let own = add(&other, record);
        drain(&other);
        (own, other)
    });
    let late = add(&slow, record);
    let (own, other) = other.join().unwrap();
    assert_eq!(own.unwrap() + late.unwrap(), 5);
    drain_all(&other);
    drop((slow, other));
    left.fetch_add(space.unreferenced_cells(0).unwrap().into(), Ordering::Relaxed);
    sweep(&space, &DeadSet::new()).unwrap();
    assert_nothing_leaked(&space, 1);
}

/// The same with a deletion, whose slot is used again once it is free.
fn late_mark_of_a_deletion(left: &AtomicU64) {
    let space = space_of(History::Full, 1, 6, 2);
    let (slow, other) = (open(&space), open(&space));
    assert!(insert(&other, "a", 0));
    let record = other.locate(0, "a").unwrap().unwrap();
    let other = thread::spawn(move || {
        drain(&other);
        let free = other.space().figures(0).unwrap().slots.free == 1;
        assert!(!free || insert(&other, "b", 7));
        other
    });
    assert!(delete(&slow, record).is_some());
    let other = other.join().unwrap();
    drain_all(&other);
    drop((slow, other));
    left.fetch_add(space.unreferenced_cells(0).unwrap().into(), Ordering::Relaxed);
    sweep(&space, &DeadSet::new()).unwrap();
    assert_nothing_leaked(&space, u32::from(value(&space, "b").is_some()));
}

/// Two sweep for the same dead at once; one of them buries, and one commits.
fn two_sweeps() {
    let space = space_of(History::Latest, 1, 0, 3);
    let (victim, writer) = (open(&space), open(&space));
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    victim.take_cell(0).unwrap();
    let dead = victim.abandon();
    let (other, same) = (space.clone(), dead.clone());
    let second = thread::spawn(move || sweep(&other, &same).unwrap());
    let writer = thread::spawn(move || {
        assert_eq!(add(&writer, record), Some(2));
        writer
    });
    reap(&space, &dead);
    let (_, writer) = (second.join().unwrap(), writer.join().unwrap());
    assert_eq!(read(&writer, "a", record), Some((2, 1)));
    drop(writer);
    drop([open(&space), open(&space), open(&space)]);
    assert_nothing_leaked(&space, 1);
}

/// Two take a cell and give it back, beside a sweep: a free cell's hint says so in the end.
fn hints() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (first, second) = (open(&space), open(&space));
    let takers = [first, second].map(|handle| {
        thread::spawn(move || {
            handle.take_cell(0).unwrap();
            drop(handle);
        })
    });
    sweep(&space, &DeadSet::new()).unwrap();
    takers.into_iter().for_each(|taker| taker.join().unwrap());
    assert_nothing_leaked(&space, 0);
}

/// The accesses of an update, and of an insert, are fewer.
const ACCESSES: usize = 80;

/// Some of them; all with `COMMONHOLD_LOOM_LONG`.
fn some_deaths(every: usize) -> impl Iterator<Item = u32> {
    (0..ACCESSES as u32).step_by(bound(every, 1))
}

/// A model with its name.
type Named<F> = (&'static str, F);

#[test]
fn who_slept_when_the_waker_died_is_woken() {
    let models: [Named<fn(u32)>; 3] = [
        ("on a record", sleeper_on_a_record),
        ("on a table", sleeper_on_a_table),
        ("on a key", sleeper_on_a_key),
    ];
    for (on, model) in models {
        at_every_step(&format!("death of a waker, {on}"), bound(1, 2), model);
        finds_at_some_step(Fault::NoNotedWake, 1, model);
    }
}

#[test]
fn who_waits_for_room_may_die_at_any_step() {
    at_every_step("death of a waiter for room", bound(2, 3), death_of_a_waiter_for_room);
    holds("room from the sweep", bound(2, 3), room_from_the_sweep);
    finds(Fault::NoRoomWake, 2, room_from_the_sweep);
}

#[test]
fn who_makes_room_may_die_at_any_step() {
    at_every_step("death of who makes room", bound(1, 2), death_of_who_makes_room);
    finds_at_some_step(Fault::NoReapWake, 1, death_of_who_makes_room);
}

#[test]
fn a_reaper_may_die_at_any_step() {
    for history in [History::Latest, History::Full] {
        for killed in some_deaths(12) {
            let name = format!("death of a reaper, {history}, of one dead at {killed}");
            let model = move |steps| death_of_a_reaper(history, true, killed, steps);
            at_every_step(&name, bound(1, 2), model);
        }
    }
    let found = (0..ACCESSES as u32).any(|killed| {
        let model = move |steps| death_of_a_reaper(History::Full, false, killed, steps);
        found_at_some_step(Fault::NotedForgotten, 0, model)
    });
    assert!(found);
}

#[test]
fn a_reaper_of_an_insert_may_die_at_any_step() {
    for killed in some_deaths(18) {
        let name = format!("death of a reaper, of an insert dead at {killed}");
        at_every_step(&name, bound(1, 2), move |s| death_of_an_inserters_reaper(killed, s));
    }
}

#[test]
fn who_leaves_may_die_at_any_step() {
    at_every_step("death of who leaves", bound(1, 2), death_of_who_leaves);
}

#[test]
fn a_late_mark_is_swept() {
    let models: [Named<fn(&AtomicU64)>; 2] =
        [("late mark", late_mark), ("late mark of a deletion", late_mark_of_a_deletion)];
    for (name, model) in models {
        let left = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&left);
        holds(name, 1, move || model(&count));
        let left = left.load(Ordering::Relaxed);
        println!("{name}: left a cell in {left} executions");
        assert!(left > 0, "the model does not come to a late mark");
        let none = AtomicU64::new(0);
        finds(Fault::NoLateSweep, 1, move || model(&none));
    }
}

#[test]
fn two_may_sweep_at_once() {
    holds("two sweeps beside a writer", bound(1, 2), two_sweeps);
    finds(Fault::SweepLiving, 1, two_sweeps);
}

#[test]
fn no_free_thing_stays_hidden() {
    holds("hints", bound(2, 3), hints);
    finds(Fault::HintFirst, 2, hints);
    if bound(0, 1) == 1 {
        every_switch(|| finds(Fault::NoHintCrossing, 2, hints)); // about a minute
    }
}
