//! A key that is deleted and comes again in another slot, against the drain, under loom: the store gets its
//! versions in order.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, missing_docs)]

mod model;

use commonhold_core::catalogue::History;
use commonhold_core::participant::DeadSet;
use commonhold_core::sweep::sweep;
use commonhold_core::{RecordRef, Space};
use loom::thread;
use model::*;

/// The store has what the memory has, and with full history every version.
fn assert_stored(space: &Space, history: History, stored: &Stored) {
    let versions = stored.versions();
    let (version, _) = value(space, "a").unwrap();
    assert_eq!(versions.last(), Some(&version), "the store has the last version");
    if history == History::Full {
        assert_eq!(versions, (1..=version).collect::<Vec<_>>());
    }
}

/// "a" lives in the first slot and is stored; the second slot is free and has a flag left.
fn stored_record(writer: &commonhold_core::Handle, stored: &Stored) -> RecordRef {
    assert!(insert(writer, "a", 0) && insert(writer, "b", 0));
    let other = writer.locate(0, "b").unwrap().unwrap();
    assert!(delete(writer, other).is_some());
    stored.all(writer);
    writer.flag_record(0, other).unwrap();
    writer.locate(0, "a").unwrap().unwrap()
}

/// One deletes the key and inserts it again during a round of the steward. `pending`: with a version before
/// that he may have collected already.
fn comes_again(history: History, pending: bool) {
    let space = space_of(history, 2, 0, 3);
    // Two handles, so that none writes into a cell that it displaced: that is another model's.
    let (deleter, writer, steward) = (open(&space), open(&space), open(&space));
    let stored = Stored::default();
    let old = stored_record(&writer, &stored);
    if pending {
        assert_eq!(add(&writer, old), Some(2));
    }
    let writer = thread::spawn(move || {
        assert!(delete(&deleter, old).is_some());
        assert!(insert(&writer, "a", 7));
        (deleter, writer)
    });
    stored.round(&steward);
    let writer = writer.join().unwrap();
    stored.all(&steward);
    assert_eq!(value(&space, "a").unwrap().1, 7);
    assert_stored(&space, history, &stored);
    drop((writer, steward));
    assert_nothing_leaked(&space, 1);
}

/// One deletes, another inserts the key again, the steward drains: all at once.
fn slow_deleter(history: History) {
    let space = space_of(history, 2, 0, 3);
    let (deleter, inserter, steward) = (open(&space), open(&space), open(&space));
    let stored = Stored::default();
    assert!(insert(&inserter, "a", 0));
    let old = inserter.locate(0, "a").unwrap().unwrap();
    stored.all(&steward);
    let inserter = thread::spawn(move || (insert(&inserter, "a", 7), inserter));
    let its = stored.clone();
    let steward = thread::spawn(move || {
        its.round(&steward);
        steward
    });
    assert!(delete(&deleter, old).is_some());
    let ((again, inserter), steward) = (inserter.join().unwrap(), steward.join().unwrap());
    assert!(again || insert(&inserter, "a", 7));
    stored.all(&steward);
    assert_stored(&space, history, &stored);
    sweep(&space, &DeadSet::new()).unwrap(); // marks that came late
    drop((deleter, inserter, steward));
    assert_nothing_leaked(&space, 1);
}

/// The deleter is killed before his `steps`th access; then the key comes again, during a round of the
/// steward; then the dead one is reaped.
fn death_of_the_deleter(history: History, steps: u32) {
    let space = space_of(history, 2, 0, 3);
    let (victim, other, steward) = (open(&space), open(&space), open(&space));
    let stored = Stored::default();
    assert!(insert(&other, "a", 0));
    let old = other.locate(0, "a").unwrap().unwrap();
    stored.all(&steward);
    let writers = thread::spawn(move || {
        dies_after(steps, || delete(&victim, old));
        let again = insert(&other, "a", 7);
        (victim, other, again)
    });
    stored.round(&steward);
    let (victim, other, again) = writers.join().unwrap();
    stored.all(&steward);
    reap(&space, &victim.abandon());
    stored.all(&steward);
    assert_eq!(value(&space, "a").unwrap().1, if again { 7 } else { 0 });
    assert_stored(&space, history, &stored);
    sweep(&space, &DeadSet::new()).unwrap();
    drop((other, steward));
    assert_nothing_leaked(&space, 1);
}

/// Who inserts over a deletion is killed before his `steps`th access, during a round of the steward.
fn death_of_the_inserter(history: History, steps: u32) {
    let space = space_of(history, 2, 0, 3);
    let (victim, other, steward) = (open(&space), open(&space), open(&space));
    let stored = Stored::default();
    assert!(insert(&other, "a", 0));
    let old = other.locate(0, "a").unwrap().unwrap();
    stored.all(&steward);
    let writers = thread::spawn(move || {
        assert!(delete(&other, old).is_some());
        dies_after(steps, || insert(&victim, "a", 7));
        (victim, other)
    });
    stored.round(&steward);
    let (victim, other) = writers.join().unwrap();
    stored.round(&steward);
    reap(&space, &victim.abandon());
    insert(&other, "a", 7);
    assert_eq!(value(&space, "a"), Some((3, 7)));
    stored.all(&steward);
    assert_stored(&space, history, &stored);
    sweep(&space, &DeadSet::new()).unwrap();
    drop((other, steward));
    assert_nothing_leaked(&space, 1);
}

const HISTORIES: [History; 2] = [History::Latest, History::Full];

#[test]
fn a_key_that_comes_again_is_stored_in_order() {
    for history in HISTORIES {
        let name = format!("key comes again, {history}");
        every_switch(|| {
            holds(&name, bound(1, 2), move || comes_again(history, false));
            finds(Fault::NoPredecessors, 1, move || comes_again(history, false));
        });
    }
}

#[test]
fn a_key_that_comes_again_is_stored_in_order_although_collected_before() {
    for history in HISTORIES {
        let name = format!("key comes again, collected before, {history}");
        holds(&name, bound(2, 3), move || comes_again(history, true));
        every_switch(|| finds(Fault::NoPredecessors, 1, move || comes_again(history, true)));
    }
}

#[test]
fn a_deleter_may_be_slow() {
    for history in HISTORIES {
        let name = format!("slow deleter, {history}");
        holds(&name, bound(1, 2), move || slow_deleter(history));
    }
}

#[test]
fn deleter_and_inserter_may_die_at_any_step() {
    for history in HISTORIES {
        let name = format!("death of a deleter, key comes again, {history}");
        every_switch(|| at_every_step(&name, 1, move |steps| death_of_the_deleter(history, steps)));
        finds_at_some_step(Fault::NoOldFlag, 1, move |s| death_of_the_deleter(history, s));
        let name = format!("death of an insert over a deletion, {history}");
        every_switch(|| {
            at_every_step(&name, 1, move |steps| death_of_the_inserter(history, steps))
        });
    }
}
