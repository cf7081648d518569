//! Ids and counters under loom: an id is unique and below what the store has, a drain covers what was added before it,
//! and no wake-up is lost, whoever is killed. A lost wake-up shows as a deadlock.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, missing_docs)]

mod model;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64 as Plain, Ordering};

use commonhold_core::catalogue::Catalogue;
use commonhold_core::directory::{Descriptor, NameKind};
use commonhold_core::ids::STEP;
use commonhold_core::{Handle, Space};
use commonhold_segment::NamedGeometry;
use commonhold_segment::sync::{AtomicU64, futex_wait, futex_wake_all};
use loom::thread;
use model::*;

/// A segment without tables that has room for one name.
fn space_of_names(participants: u32) -> Arc<Space> {
    let named = NamedGeometry { names: 1, share_words: 0, intents: 0 };
    let catalogue = Catalogue::new(participants, 1, Vec::new()).unwrap().with_named(named).unwrap();
    Space::in_heap(&catalogue).unwrap()
}

/// What the store has; appending is not an access of the model, so a death comes before it or after it.
#[derive(Debug, Clone, Default)]
struct Store(Arc<(Plain, AtomicI64)>);

impl Store {
    fn mark(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }

    fn value(&self) -> i64 {
        self.0.1.load(Ordering::Relaxed)
    }

    /// One round of a steward; whether there was something to do.
    fn round(&self, space: &Space) -> bool {
        let marks = space.collect_marks(false).unwrap();
        if marks.is_empty() {
            return false;
        }
        for mark in &marks.marks {
            match mark.kind {
                NameKind::Ids => drop(self.0.0.fetch_max(mark.value as u64, Ordering::Relaxed)),
                _ => self.0.1.store(mark.value, Ordering::Relaxed),
            }
        }
        space.complete_marks(&marks).unwrap();
        true
    }

    /// A term of a steward: he sleeps when there is nothing to do, and paces himself after a batch.
    fn serve(&self, space: &Space, ended: impl Fn() -> bool) {
        loop {
            let did = self.round(space);
            if ended() {
                return;
            }
            space.sleep_as_steward(did, LONG).unwrap();
        }
    }
}

/// Takes an id, which the store covers.
fn take(handle: &Handle, ids: &Descriptor, store: &Store) -> u64 {
    let id = handle.next_id(ids, LONG).unwrap();
    assert!(id <= store.mark(), "{id} was given out, the store has {}", store.mark());
    id
}

/// Two take so many ids while the steward sleeps, stores and paces: all of them, none left out.
fn taking(counts: [u64; 2]) {
    let count = counts[0] + counts[1];
    let space = space_of_names(3);
    let handles = [open(&space), open(&space)];
    let ids = handles[0].register_ids("n").unwrap();
    let (store, all) = (Store::default(), Arc::new(Mutex::new(Vec::new())));
    let (its, its_space) = (store.clone(), Arc::clone(&space));
    let steward = thread::spawn(move || its.serve(&its_space, || its.mark() >= count));
    let mut counts = counts.into_iter();
    let takers = handles.map(|handle| {
        let each = counts.next().unwrap_or(0);
        let (store, all, ids) = (store.clone(), Arc::clone(&all), ids.clone());
        move || {
            let taken: Vec<u64> = (0..each).map(|_| take(&handle, &ids, &store)).collect();
            assert!(taken.is_sorted());
            all.lock().unwrap().extend(taken);
        }
    });
    let [first, second] = takers;
    let first = thread::spawn(first);
    second();
    first.join().unwrap();
    steward.join().unwrap();
    let mut all = std::mem::take(&mut *all.lock().unwrap());
    all.sort_unstable();
    assert!(all.iter().copied().eq(1..=count), "{all:?}");
    assert!(store.mark() <= count + STEP);
}

/// A steward is killed before his `steps`th access, and the next one takes over, while one takes three ids.
fn hand_over(steps: u32) {
    let space = space_of_names(3);
    let (taker, old) = (open(&space), open(&space));
    let ids = taker.register_ids("n").unwrap();
    let store = Store::default();
    let (its, its_space) = (store.clone(), Arc::clone(&space));
    let stewards = thread::spawn(move || {
        let ended = || its.mark() >= 3;
        let _ = dies_after(steps, || its.serve(&its_space, ended));
        let next = take_over(&its_space, &old.abandon());
        // Who died between the exchange and the wake left a sleeper, who looks again by himself.
        time_passes();
        its.serve(&its_space, ended);
        next
    });
    for id in 1..=3 {
        assert_eq!(take(&taker, &ids, &store), id);
    }
    stewards.join().unwrap();
}

/// A taker is killed before his `steps`th access, then another takes ids beyond the first mark, while the steward works:
/// the dead one took one id at most, and nobody gets that one again.
fn killed_taker(steps: u32) {
    let space = space_of_names(3);
    let (victim, taker) = (open(&space), open(&space));
    let ids = taker.register_ids("n").unwrap();
    let store = Store::default();
    let (its, its_space) = (store.clone(), Arc::clone(&space));
    let steward = thread::spawn(move || its.serve(&its_space, || its.mark() > STEP));
    let lost = dies_after(steps, || take(&victim, &ids, &store));
    let _ = victim.abandon();
    // Who was killed between ringing and the wake left the steward asleep; he looks again by himself.
    time_passes();
    let mut own = vec![take(&taker, &ids, &store)];
    while own.last().is_some_and(|id| *id <= STEP) {
        own.push(take(&taker, &ids, &store));
    }
    steward.join().unwrap();
    assert!(own.is_sorted() && lost.is_none_or(|id| !own.contains(&id)), "{own:?}, {lost:?}");
    let taken = space.last_id(&ids).unwrap() - own.len() as u64;
    assert!(taken <= 1 && taken >= u64::from(lost.is_some()), "{own:?}, {lost:?}: {taken}");
}

/// A steward leaves while one takes an id: he serves the taker, or the taker's own candidate is told and does.
fn leaving() {
    const TOLD: u64 = 1;
    const TAKEN: u64 = 2;
    let space = space_of_names(3);
    let (taker, old) = (open(&space), open(&space));
    let ids = taker.register_ids("n").unwrap();
    let (store, bell) = (Store::default(), Arc::new(AtomicU64::new(0)));
    let rings = Arc::clone(&bell);
    space.on_no_steward(Box::new(move || {
        rings.fetch_or(TOLD, Ordering::SeqCst);
        futex_wake_all(&rings);
    }));
    let (its, its_space) = (store.clone(), Arc::clone(&space));
    let leaver = thread::spawn(move || {
        its.round(&its_space);
        while its_space.serve(false).unwrap() {
            its_space.serve(true).unwrap();
            while its.round(&its_space) {}
        }
        old
    });
    let (its, done) = (store.clone(), Arc::clone(&bell));
    let taker = thread::spawn(move || {
        assert_eq!(take(&taker, &ids, &its), 1);
        done.fetch_or(TAKEN, Ordering::SeqCst);
        futex_wake_all(&done);
    });
    let old = leaver.join().unwrap();
    // The candidate sleeps until he is told.
    while bell.load(Ordering::SeqCst) == 0 {
        futex_wait(&bell, 0, LONG);
    }
    let _next = take_over(&space, &old.abandon());
    store.round(&space);
    taker.join().unwrap();
}

/// Adds one and drains: the store then has what was added.
fn drain_one(handle: &Handle, counter: &Descriptor, store: &Store) {
    let value = handle.add_counter(counter, 1).unwrap();
    handle.wait_drained(LONG).unwrap();
    assert!(store.value() >= value, "the store has {}, not {value}", store.value());
}

/// Two add to a counter and drain at once, then one of them again.
fn draining() {
    let space = space_of_names(2);
    let [first, second] = [open(&space), open(&space)];
    let counter = first.register_counter("n").unwrap();
    let store = Store::default();
    let (its, its_space) = (store.clone(), Arc::clone(&space));
    let steward = thread::spawn(move || its.serve(&its_space, || its.value() == 3));
    let (its, its_counter) = (store.clone(), counter.clone());
    let other = thread::spawn(move || drain_one(&first, &its_counter, &its));
    drain_one(&second, &counter, &store);
    other.join().unwrap();
    drain_one(&second, &counter, &store);
    steward.join().unwrap();
}

/// A steward is killed before his `steps`th access, and the next one takes over, while one adds and drains twice.
fn draining_over(steps: u32) {
    let space = space_of_names(3);
    let (drainer, old) = (open(&space), open(&space));
    let counter = drainer.register_counter("n").unwrap();
    let store = Store::default();
    let (its, its_space) = (store.clone(), Arc::clone(&space));
    let stewards = thread::spawn(move || {
        let ended = || its.value() == 2;
        let _ = dies_after(steps, || its.serve(&its_space, ended));
        let next = take_over(&its_space, &old.abandon());
        // Who was killed between moving the word and the wake left a sleeper, who looks again by himself.
        time_passes();
        its.serve(&its_space, ended);
        // What the dead had stored and not said.
        its.round(&its_space);
        next
    });
    drain_one(&drainer, &counter, &store);
    drain_one(&drainer, &counter, &store);
    stewards.join().unwrap();
    assert_eq!(space.unstored_counters().unwrap(), 0);
}

#[test]
fn every_id_is_given_out_once_and_covered_by_the_store() {
    holds("two take an id each", bound(2, 3), || taking([1, 1]));
    holds("two take three ids", bound(1, 2), || taking([1, 2]));
    finds(Fault::NoMarkWake, 2, || taking([1, 1]));
    finds(Fault::IdBeforeStored, 2, || taking([1, 1]));
    finds(Fault::NoHurry, 2, || taking([1, 2]));
}

#[test]
fn ids_go_on_where_a_steward_died() {
    at_every_step("hand-over of the steward of ids", bound(1, 2), hand_over);
    at_every_step("death of a taker", bound(1, 2), killed_taker);
}

#[test]
fn who_takes_an_id_while_the_steward_leaves_is_served() {
    holds("the steward leaves a taker", bound(3, 4), leaving);
    finds(Fault::BlindLeaver, 3, leaving);
}

#[test]
fn a_drain_covers_the_counters() {
    holds("two drain a counter", bound(1, 2), draining);
    at_every_step("death of the steward of a counter", bound(1, 2), draining_over);
    finds(Fault::OneRound, 2, draining);
}
