//! Durable waits, and the steward's role going from one to the next, under loom. The role's lock is the
//! kernel's: a new steward begins when the old one has ended.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, missing_docs)]

mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use commonhold_core::catalogue::History;
use commonhold_core::participant::DeadSet;
use commonhold_core::sweep::sweep;
use loom::thread;
use model::*;

/// One commits `times` times and each time waits until it is durable; the steward sleeps, stores and paces.
fn durable_wait(history: History, times: u64) {
    let space = space_of(history, 1, 6, 2);
    let (writer, steward) = (open(&space), open(&space));
    let stored = Stored::default();
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    stored.all(&steward);
    let its = stored.clone();
    let steward = thread::spawn(move || {
        its.serve_until(&steward, 1 + times);
        steward
    });
    for version in 2..2 + times {
        let commit = commit(&writer, record).unwrap();
        assert_eq!(commit.version, version);
        writer.wait_durable(&commit, LONG).unwrap();
        assert!(stored.last() >= version, "durable is what is stored");
    }
    drop((writer, steward.join().unwrap()));
    assert_eq!(stored.versions(), (1..2 + times).collect::<Vec<_>>());
    assert_nothing_leaked(&space, 1);
}

/// One deletes and waits until that is durable, while the steward ends the deletion and frees the slot.
fn durable_deletion(history: History) {
    let space = space_of(history, 1, 6, 2);
    let (writer, steward) = (open(&space), open(&space));
    let stored = Stored::default();
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    stored.all(&steward);
    let its = stored.clone();
    let steward = thread::spawn(move || {
        its.serve_until(&steward, 2);
        steward
    });
    let allow = |_: &commonhold_core::Snapshot| Ok::<(), commonhold_core::Error>(());
    let commit = writer.delete_at(0, record, allow).unwrap().unwrap();
    writer.wait_durable(&commit, LONG).unwrap();
    assert_eq!(stored.last(), 2, "durable is what is stored");
    let steward = steward.join().unwrap();
    stored.all(&steward);
    drop((writer, steward));
    assert_nothing_leaked(&space, 0);
}

/// A steward is killed before his `steps`th access; the next one takes over. One commits meanwhile and waits
/// until it is durable.
fn hand_over(history: History, steps: u32) {
    let space = space_of(history, 1, 6, 3);
    let (writer, old) = (open(&space), open(&space));
    let stored = Stored::default();
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    stored.all(&old);
    assert_eq!(add(&writer, record), Some(2));
    let its = stored.clone();
    let stewards = thread::spawn(move || {
        dies_after(steps, || its.serve_until(&old, 3));
        let space = old.space_arc();
        let next = take_over(&space, &old.abandon());
        its.serve_until(&next, 3);
        // Who died between `persisted` and the wake left a sleeper, who looks again by himself.
        time_passes();
        next
    });
    let commit = commit(&writer, record).unwrap();
    writer.wait_durable(&commit, LONG).unwrap();
    assert_eq!(stored.last(), 3, "durable is what is stored");
    let next = stewards.join().unwrap();
    stored.all(&next);
    let versions = stored.versions();
    if history == History::Full {
        assert_eq!(versions, [1, 2, 3], "the store has every version");
    }
    assert_eq!(value(&space, "a"), Some((3, 2)));
    sweep(&space, &DeadSet::new()).unwrap();
    drop((writer, next));
    assert_nothing_leaked(&space, 1);
}

/// A steward leaves, or is killed before his `steps`th access, while one commits: the commit is stored, or
/// somebody is told.
fn leaving(steps: u32) {
    let space = space_of(History::Latest, 1, 0, 3);
    let (writer, old) = (open(&space), open(&space));
    let (stored, told) = (Stored::default(), Arc::new(AtomicBool::new(false)));
    let tell = Arc::clone(&told);
    space.on_no_steward(Box::new(move || tell.store(true, Ordering::Relaxed)));
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    stored.all(&old);
    let its = stored.clone();
    let leaver = thread::spawn(move || {
        let left = dies_after(steps, || {
            its.all(&old);
            while old.space().serve(false).unwrap() {
                old.space().serve(true).unwrap();
                its.all(&old);
            }
        });
        (left.is_some(), old)
    });
    assert_eq!(add(&writer, record), Some(2));
    let (left, old) = leaver.join().unwrap();
    let woken = told.load(Ordering::Relaxed) || !left; // the kernel tells of a death
    assert!(woken || stored.last() == 2, "neither stored nor told");
    let next = take_over(&space, &old.abandon());
    stored.all(&next);
    assert_eq!(stored.last(), 2);
    sweep(&space, &DeadSet::new()).unwrap();
    drop((writer, next));
    assert_nothing_leaked(&space, 1);
}

#[test]
fn who_waits_for_durability_is_woken() {
    for history in [History::Latest, History::Full] {
        let name = format!("durable wait, {history}");
        holds(&name, bound(2, 3), move || durable_wait(history, 1));
        let name = format!("two durable waits, {history}");
        holds(&name, bound(1, 2), move || durable_wait(history, 2));
        let name = format!("durable deletion, {history}");
        holds(&name, bound(2, 3), move || durable_deletion(history));
        for fault in [Fault::NoStoredWake, Fault::BlindMark] {
            finds(fault, 2, move || durable_wait(history, 1));
        }
        finds(Fault::NoHurry, 1, move || durable_wait(history, 2));
    }
}

#[test]
fn a_new_steward_goes_on_where_the_old_one_died() {
    for history in [History::Latest, History::Full] {
        let name = format!("hand-over of the steward, {history}");
        at_every_step(&name, bound(1, 2), move |steps| hand_over(history, steps));
        finds_at_some_step(Fault::NoFlagAll, 1, move |steps| hand_over(history, steps));
    }
}

#[test]
fn who_commits_while_the_steward_leaves_is_served() {
    holds("the steward leaves", bound(3, 4), || leaving(u32::MAX));
    at_every_step("death of a leaving steward", bound(1, 2), leaving);
    finds(Fault::BlindLeaver, 3, || leaving(u32::MAX));
    finds(Fault::NoRing, 3, || leaving(u32::MAX));
}
