//! Insert, delete and the reuse of slots, under loom.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod model;

use commonhold_core::catalogue::History;
use commonhold_core::hash::fnv1a_64;
use commonhold_core::participant::DeadSet;
use commonhold_core::sweep::sweep;
use loom::thread;
use model::*;

/// Two insert the same key: one wins.
fn two_inserts() {
    let space = space_of(History::Latest, 2, 0, 2);
    let (first, second) = (open(&space), open(&space));
    let second = thread::spawn(move || (insert(&second, "a", 2), second));
    let own = insert(&first, "a", 1);
    let (other, second) = second.join().unwrap();
    assert_ne!(own, other);
    assert_eq!(value(&space, "a"), Some((1, if own { 1 } else { 2 })));
    drop((first, second));
    assert_nothing_leaked(&space, 1);
}

/// A record is deleted, stored and its slot given to another key, while one updates through a stale handle.
fn stale_handle() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (owner, stale) = (open(&space), open(&space));
    assert!(insert(&owner, "a", 0));
    let record = owner.locate(0, "a").unwrap().unwrap();
    drain(&owner);
    let stale = thread::spawn(move || (add(&stale, record), stale));
    let last = delete(&owner, record).unwrap();
    drain_all(&owner);
    assert!(insert(&owner, "b", 7));
    let (update, stale) = stale.join().unwrap();
    assert!(update.is_none() || last == 3);
    assert_eq!(value(&space, "a"), None);
    assert_eq!(value(&space, "b"), Some((last + 1, 7)));
    drop((owner, stale));
    assert_nothing_leaked(&space, 1);
}

/// A key is deleted and inserted again while another inserts it: versions never fall.
fn versions_never_fall() {
    let space = space_of(History::Latest, 3, 0, 2);
    let (first, second) = (open(&space), open(&space));
    assert!(insert(&first, "a", 0));
    let record = first.locate(0, "a").unwrap().unwrap();
    let second = thread::spawn(move || (insert(&second, "a", 1), second));
    let last = delete(&first, record).unwrap();
    let own = insert(&first, "a", 2);
    let (other, second) = second.join().unwrap();
    assert!(own || other);
    let (version, _) = value(&space, "a").unwrap();
    assert!(version > last, "{version} after {last}");
    drain_all(&first);
    drop((first, second));
    assert_nothing_leaked(&space, 1);
}

/// An insert is killed before its `steps`th access while another inserts the same key; then it is swept.
fn death_of_an_insert(steps: u32) {
    let space = space_of(History::Latest, 2, 0, 2);
    let (victim, other) = (open(&space), open(&space));
    let reaper = thread::spawn(move || {
        let won = dies_after(steps, || insert(&victim, "a", 1));
        let space = victim.space_arc();
        let dead = victim.abandon();
        sweep(&space, &dead).unwrap();
        space.bury(&dead);
        won
    });
    let own = insert(&other, "a", 2);
    let told = reaper.join().unwrap();
    assert!(told != Some(own));
    assert_eq!(value(&space, "a"), Some((1, if own { 2 } else { 1 })));
    let rows = drain_all(&other);
    assert_eq!(rows.len(), 1, "the store has it");
    sweep(&space, &DeadSet::new()).unwrap();
    drop(other);
    assert_nothing_leaked(&space, 1);
}

/// A delete is killed before its `steps`th access while another updates; then it is swept and drained.
fn death_of_a_delete(steps: u32) {
    let space = space_of(History::Latest, 1, 0, 2);
    let (victim, other) = (open(&space), open(&space));
    assert!(insert(&other, "a", 0));
    let record = other.locate(0, "a").unwrap().unwrap();
    let reaper = thread::spawn(move || {
        let told = dies_after(steps, || delete(&victim, record)).flatten();
        let space = victim.space_arc();
        let dead = victim.abandon();
        sweep(&space, &dead).unwrap();
        space.bury(&dead);
        told
    });
    let own = add(&other, record);
    let told = reaper.join().unwrap();
    let left = value(&space, "a");
    assert!(told.is_none() || left.is_none());
    assert_eq!(own.is_some() && left.is_some(), left == Some((2, 1)));
    drain_all(&other);
    sweep(&space, &DeadSet::new()).unwrap();
    drop(other);
    assert_nothing_leaked(&space, u32::from(left.is_some()));
}

/// Eight keys of one bucket of four.
fn keys_of_one_bucket() -> Vec<String> {
    let bucket = |key: &str| {
        let hash = fnv1a_64(key.as_bytes());
        (hash ^ hash >> 32) & 3
    };
    let keys = ('!'..='~').map(String::from).filter(|key| bucket(key) == 0);
    keys.take(8).collect()
}

/// A bucket's cell is full with six keys. Two insert another one each, so that it needs a second cell; then two
/// keys are deleted, and it needs one again.
fn overflow() {
    let space = space_of(History::Latest, 8, 0, 2);
    let (first, second) = (open(&space), open(&space));
    let keys = keys_of_one_bucket();
    let (six, more) = keys.split_at(6);
    assert!(six.iter().all(|key| insert(&first, key, 0)));
    assert_eq!(space.figures(0).unwrap().index_cells.published, 1);
    let gone = first.locate(0, &six[0]).unwrap().unwrap();
    let last = first.locate(0, &six[1]).unwrap().unwrap();
    let (seventh, theirs) = (more[0].clone(), more[0].clone());
    let second = thread::spawn(move || {
        assert!(insert(&second, &theirs, 7));
        second
    });
    assert!(insert(&first, &more[1], 8));
    let second = second.join().unwrap();
    assert!(keys.iter().all(|key| value(&space, key).is_some()), "all eight are there");
    assert_eq!(space.figures(0).unwrap().index_cells.published, 2);
    assert!(delete(&first, gone).is_some());
    assert!(delete(&second, last).is_some());
    let left = keys.iter().filter(|key| value(&space, key).is_some()).count();
    assert!(left == 6 && value(&space, &seventh).is_some());
    drain_all(&first);
    sweep(&space, &DeadSet::new()).unwrap();
    drop((first, second));
    assert_nothing_leaked(&space, 6);
}

#[test]
fn a_bucket_may_overflow() {
    holds("bucket overflow", bound(1, 2), overflow);
    finds(Fault::StaleBucket, 1, overflow);
}

#[test]
fn one_insert_wins() {
    holds("two inserts", 2, two_inserts);
    finds(Fault::StaleBucket, 2, two_inserts);
}

#[test]
fn a_stale_handle_changes_nothing() {
    holds("stale handle", 1, stale_handle);
    finds(Fault::NoSlotGeneration, 1, stale_handle);
}

#[test]
fn versions_do_not_fall() {
    holds("versions never fall", 1, versions_never_fall);
    finds(Fault::NoFloor, 1, versions_never_fall);
}

#[test]
fn an_insert_may_die_at_any_step() {
    at_every_step("death of an insert", 1, death_of_an_insert);
}

#[test]
fn a_delete_may_die_at_any_step() {
    at_every_step("death of a delete", 1, death_of_a_delete);
}
