//! Guards under loom: one holder at a time, no lost wake-up, and changes of two records that are made wholly or not
//! at all whoever dies or is fenced off.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod model;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use commonhold_core::catalogue::History;
use commonhold_core::guard::{Grant, GuardRef, Patience, Previous};
use commonhold_core::intent::Planned;
use commonhold_core::participant::DeadSet;
use commonhold_core::sweep::sweep;
use commonhold_core::{Error, Handle, Space};
use commonhold_segment::NamedGeometry;
use commonhold_segment::sync::{AtomicU64, Ordering};
use loom::thread;
use model::*;

/// A hold limit: in a model every hold that is seen twice is too long.
const LIMIT: Option<Duration> = Some(Duration::from_secs(1));

fn guarded(slots: u32, participants: u32) -> Arc<Space> {
    let named = NamedGeometry { names: 1, share_words: 2, intents: 2 };
    space_with(History::Latest, slots, 0, participants, named)
}

fn guard(handle: &Handle, limit: Option<Duration>) -> GuardRef {
    handle.guard("g", limit, "").unwrap()
}

fn take(handle: &Handle, guard: GuardRef) -> Grant {
    handle.acquire(guard, Patience::Forever).unwrap().unwrap()
}

/// Adds one to a word as only its holder may: two at once would lose one.
fn count(word: &AtomicU64) {
    word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// So many take it once each.
fn takers(number: u64) {
    let space = guarded(1, number as u32);
    let word = Arc::new(AtomicU64::new(0));
    let handles: Vec<Handle> = (0..number).map(|_| open(&space)).collect();
    let all: Vec<_> = handles
        .into_iter()
        .map(|handle| {
            let (word, guard) = (Arc::clone(&word), guard(&handle, None));
            thread::spawn(move || {
                let grant = take(&handle, guard);
                count(&word);
                handle.release(&grant).unwrap();
                handle
            })
        })
        .collect();
    let handles: Vec<Handle> = all.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(word.load(Ordering::Relaxed), number);
    let figures = space.guards().unwrap().remove(0);
    assert_eq!(
        (figures.number, figures.holder, figures.previous),
        (number, None, Previous::Released)
    );
    assert_eq!(figures.waiters, 0);
    drop(handles);
}

/// One dies before its `steps`th access while it takes and leaves the guard, and is reaped; another one waits.
fn dead_holder(steps: u32) {
    let space = guarded(1, 3);
    let (victim, reaper, waiter) = (open(&space), open(&space), open(&space));
    let (mine, its) = (guard(&victim, None), guard(&waiter, None));
    let word = Arc::new(AtomicU64::new(0));
    let inside = Arc::clone(&word);
    let killer = thread::spawn(move || {
        dies_after(steps, || {
            let grant = take(&victim, mine);
            count(&inside);
            victim.release(&grant).unwrap();
        });
        reap(reaper.space(), &victim.abandon());
        reaper
    });
    let grant = take(&waiter, its);
    count(&word);
    waiter.release(&grant).unwrap();
    drop((killer.join().unwrap(), waiter));
    assert!(space.guards().unwrap().remove(0).holder.is_none());
}

/// Two sleep for the guard; one of them dies before its `steps`th access, which may be on being woken.
fn dead_sleeper(steps: u32) {
    let space = guarded(1, 3);
    let (holder, victim, waiter) = (open(&space), open(&space), open(&space));
    let guard = guard(&holder, None);
    let grant = take(&holder, guard);
    let dies = thread::spawn(move || {
        dies_after(steps, || {
            let grant = take(&victim, guard);
            victim.release(&grant).unwrap();
        });
        victim.abandon()
    });
    let waits = thread::spawn(move || {
        let grant = take(&waiter, guard);
        waiter.release(&grant).unwrap();
        waiter
    });
    holder.release(&grant).unwrap();
    let dead = dies.join().unwrap();
    reap(&space, &dead);
    // Who was to be woken by the dead one looks again after at most 100 ms.
    time_passes();
    drop((waits.join().unwrap(), holder));
}

/// The planned change that adds `n` to both records, which must be equal.
fn add_to_both(handle: &Handle, grant: &Grant, n: i64) -> Result<Vec<Planned>, Error> {
    let mut planned = Vec::new();
    let mut values = Vec::new();
    for key in ["a", "b"] {
        let (record, seen) = handle.read_guarded(grant, 0, key)?.unwrap();
        let value = i64::from_le_bytes(seen.payload.as_slice().try_into().unwrap());
        values.push(value);
        let next = Some((value + n).to_le_bytes().to_vec());
        planned.push(Planned {
            table: 0,
            key: key.into(),
            seen: Some((record, seen.version)),
            next,
        });
    }
    assert_eq!(values[0], values[1], "a holder sees a half-done change");
    Ok(planned)
}

/// Takes the guard and adds `n` to both; whether that was committed.
fn change(handle: &Handle, guard: GuardRef, n: i64) -> bool {
    let grant = take(handle, guard);
    let planned = add_to_both(handle, &grant, n);
    let committed = planned.and_then(|planned| handle.commit_planned(&grant, 0, &planned));
    let left = handle.release(&grant);
    for error in [committed.as_ref().err(), left.as_ref().err()].into_iter().flatten() {
        assert!(matches!(error, Error::Fenced { .. }), "{error}");
    }
    committed.is_ok()
}

fn both(space: &Space) -> (i64, i64) {
    let of = |key| value(space, key).unwrap().1;
    (of("a"), of("b"))
}

fn settled(space: &Space, handles: impl Sized) {
    sweep(space, &DeadSet::new()).unwrap();
    drop(handles);
    assert_eq!(space.intents_in_use().unwrap(), 0, "cells of intents are leaked");
    assert_nothing_leaked_of(space, 2);
}

fn assert_nothing_leaked_of(space: &Space, records: u32) {
    let figures = space.figures(0).unwrap();
    assert_eq!((figures.slots.owned, figures.cells.owned), (0, 0), "{figures:?}");
    assert_eq!(figures.slots.published, records, "{figures:?}");
    assert_eq!(space.unreferenced_cells(0).unwrap(), 0, "cells that nobody leads to");
}

/// Two records, both 0.
fn pair(participants: u32, limit: Option<Duration>) -> (Arc<Space>, Handle, GuardRef) {
    let space = guarded(2, participants);
    let first = open(&space);
    assert!(insert(&first, "a", 0) && insert(&first, "b", 0));
    let guard = guard(&first, limit);
    (space, first, guard)
}

/// One dies before its `steps`th access in a change of two records; the next one adds to both. Who recovers dies
/// before his `later`th access, if he comes so far, and another one after him recovers.
fn dead_changer(steps: u32, later: u32) {
    let (space, first, guard) = pair(4, None);
    let (victim, second) = (open(&space), open(&space));
    let done = dies_after(steps, || change(&victim, guard, 1));
    let ended = done.is_some();
    reap(&space, &victim.abandon());
    let again = died_after(later, || change(&second, guard, 10));
    reap(&space, &second.abandon());
    assert!(change(&first, guard, 100));
    let (a, b) = both(&space);
    let (ones, tens) = (a % 10, a / 10 % 10);
    assert_eq!(a, b, "half a change");
    assert!(a / 100 == 1 && ones <= 1 && tens <= 1);
    assert!(!ended || ones == 1);
    assert!(again.is_none() || tens == 1);
    settled(&space, first);
}

/// The steward finishes what a dead one had decided, although nobody comes.
fn nobody_comes(steps: u32) {
    let (space, steward, guard) = pair(3, None);
    let victim = open(&space);
    dies_after(steps, || change(&victim, guard, 1));
    reap(&space, &victim.abandon());
    steward.finish_left_intents().unwrap();
    let (a, b) = both(&space);
    assert_eq!(a, b, "half a change, and nobody finished it");
    let told = take(&steward, guard);
    assert!(told.previous == Previous::Released || told.previous == Previous::Died);
    steward.release(&told).unwrap();
    settled(&space, steward);
}

/// One is stopped before its `steps`th access in a change of both records; another one fences it off and changes both
/// too; then the first goes on.
fn fenced_off(steps: u32) {
    let (space, one, guard) = pair(2, LIMIT);
    let two = Rc::new(open(&space));
    let (its, second) = (Rc::clone(&two), Rc::new(Cell::new(false)));
    let done = Rc::clone(&second);
    let first = stops_after(
        steps,
        || change(&one, guard, 1),
        move || {
            done.set(change(&its, guard, 10));
            assert!(done.get(), "nobody took it from this one");
        },
    );
    let want = i64::from(first) + 10 * i64::from(second.get());
    assert_eq!(both(&space), (want, want));
    settled(&space, (one, two));
}

/// One reads a record twice under the guard; one that it fenced off before, at its `steps`th access, goes on between.
fn sure_of_what_was_read(steps: u32) {
    let (space, one, guard) = pair(2, LIMIT);
    let two = Rc::new(open(&space));
    let (its, seen) = (Rc::clone(&two), Rc::new(Cell::new(None)));
    let (grants, version) = (Rc::new(RefCell::new(None)), Rc::clone(&seen));
    let kept = Rc::clone(&grants);
    let read = |two: &Handle, grant: &Grant| {
        two.read_guarded(grant, 0, "a").unwrap().map(|(_, seen)| seen.version)
    };
    let first = stops_after(
        steps,
        || {
            let grant = take(&one, guard);
            let found = one.read_guarded(&grant, 0, "a").map(|found| found.unwrap());
            let planned = found.map(|(record, seen)| Planned {
                table: 0,
                key: "a".into(),
                seen: Some((record, seen.version)),
                next: Some(7_i64.to_le_bytes().to_vec()),
            });
            let _ = planned.and_then(|planned| one.commit_planned(&grant, 0, &[planned]));
            one.release(&grant).is_ok()
        },
        move || {
            let grant = take(&its, guard);
            version.set(read(&its, &grant));
            kept.replace(Some(grant));
        },
    );
    // Unless it was first out of the guard, the one that went on changed nothing.
    if let (false, Some(grant)) = (first, grants.take()) {
        assert_eq!(read(&two, &grant), seen.get(), "it changed under who holds the guard");
        two.release(&grant).unwrap();
    }
    let grant = take(&two, guard);
    two.release(&grant).unwrap();
    settled(&space, (one, two));
}

/// One is stopped before its `steps`th access while it changes a record under the guard; one who has none changes it.
fn against_who_has_no_guard(steps: u32) {
    let (space, one, guard) = pair(2, None);
    let two = Rc::new(open(&space));
    let (its, added) = (Rc::clone(&two), Rc::new(Cell::new(false)));
    let done = Rc::clone(&added);
    let add_ten = move || {
        let record = its.locate(0, "a").unwrap().unwrap();
        let step = |now: &[u8], next: &mut Vec<u8>| {
            let value = i64::from_le_bytes(now.try_into().unwrap()) + 10;
            next.extend_from_slice(&value.to_le_bytes());
            Ok::<(), Error>(())
        };
        done.set(its.update_at(0, record, step).is_ok());
    };
    let add_one = || {
        let grant = take(&one, guard);
        let (record, seen) = one.read_guarded(&grant, 0, "a").unwrap().unwrap();
        let now = i64::from_le_bytes(seen.payload.as_slice().try_into().unwrap());
        let (seen, next) = (Some((record, seen.version)), Some((now + 1).to_le_bytes().to_vec()));
        let planned = Planned { table: 0, key: "a".into(), seen, next };
        one.commit_planned(&grant, 0, &[planned]).unwrap();
        one.release(&grant).unwrap();
    };
    stops_after(steps, add_one, add_ten);
    assert_eq!(both(&space), (1 + 10 * i64::from(added.get()), 0), "an update is lost");
    settled(&space, (one, two));
}

/// A change of `a` with two new records, for one of which there is no room. What came of it.
fn too_much(handle: &Handle, guard: GuardRef) -> Result<(), Error> {
    let grant = take(handle, guard);
    let plan = || {
        let mut planned = Vec::new();
        for (key, n) in [("a", 1_i64), ("c", 2), ("d", 3)] {
            let seen = handle.read_guarded(&grant, 0, key)?.map(|(r, seen)| (r, seen.version));
            let next = Some(n.to_le_bytes().to_vec());
            planned.push(Planned { table: 0, key: key.into(), seen, next });
        }
        Ok(planned)
    };
    let made = plan().and_then(|planned| handle.commit_planned(&grant, 0, &planned));
    let left = handle.release(&grant);
    made.and(left)
}

fn nothing_of_it(space: &Space) {
    assert_eq!(both(space), (0, 0), "half a change");
    assert!(value(space, "c").is_none() && value(space, "d").is_none(), "half a change");
}

/// Two records, room for one more; nobody waits for room.
fn narrow(participants: u32, limit: Option<Duration>) -> (Arc<Space>, Handle, GuardRef) {
    let space = guarded(3, participants);
    let first = open(&space);
    first.set_room_wait(Duration::ZERO);
    assert!(insert(&first, "a", 0) && insert(&first, "b", 0));
    let guard = guard(&first, limit);
    (space, first, guard)
}

fn open_impatient(space: &Arc<Space>) -> Handle {
    let handle = open(space);
    handle.set_room_wait(Duration::ZERO);
    handle
}

/// One dies before its `steps`th access in a change that does not fit.
fn dead_without_room(steps: u32) {
    let (space, first, guard) = narrow(3, None);
    let victim = open_impatient(&space);
    if let Some(ended) = dies_after(steps, || too_much(&victim, guard)) {
        assert!(matches!(ended, Err(Error::Full { .. })), "{ended:?}");
    }
    reap(&space, &victim.abandon());
    let grant = take(&first, guard);
    nothing_of_it(&space);
    first.release(&grant).unwrap();
    settle_deletions(&space, first);
}

/// One is stopped before its `steps`th access in a change that does not fit, and fenced off; another one takes the guard
/// as often as it can; then the first goes on, and ends.
fn fenced_off_without_room(steps: u32) {
    let (space, two, guard) = narrow(3, LIMIT);
    let (one, two) = (open_impatient(&space), Rc::new(two));
    let its = Rc::clone(&two);
    let try_it = move |handle: &Handle| match handle.acquire(guard, Patience::Forever) {
        Ok(grant) => handle.release(&grant.unwrap()).unwrap(),
        Err(Error::Unfinished { .. }) => {}
        Err(e) => panic!("{e}"),
    };
    let ended = stops_after(steps, || too_much(&one, guard), move || try_it(&its));
    match ended {
        Err(Error::Full { .. } | Error::Fenced { .. }) => nothing_of_it(&space),
        Err(Error::Unfinished { .. }) => {}
        other => panic!("{other:?}"),
    }
    drop(one);
    let grant = take(&two, guard);
    nothing_of_it(&space);
    two.release(&grant).unwrap();
    settle_deletions(&space, two);
}

/// As [`settled`], once the steward has ended the deletions.
fn settle_deletions(space: &Arc<Space>, handles: impl Sized) {
    drop(handles);
    let steward = open(space);
    space.flag_all().unwrap();
    drain_all(&steward);
    settled(space, steward);
}

#[test]
fn a_change_that_does_not_fit_is_none() {
    at_every_step("dead without room", 1, dead_without_room);
    at_every_step("fenced off without room", 1, fenced_off_without_room);
    finds_at_some_step(Fault::NoBucketTouch, 1, fenced_off_without_room);
}

#[test]
fn one_holder_at_a_time() {
    holds("two take a guard", bound(3, 5), || takers(2));
    holds("three take a guard", bound(2, 3), || takers(3));
    finds(Fault::GuardSecondHolder, 2, || takers(2));
    finds(Fault::GuardBlindRelease, 2, || takers(2));
}

#[test]
fn deaths_of_holders_and_sleepers() {
    at_every_step("the holder dies", bound(2, 3), dead_holder);
    at_every_step("a sleeper dies", bound(1, 2), dead_sleeper);
    finds_at_some_step(Fault::NoGuardSweep, 1, dead_holder);
}

#[test]
fn a_change_is_whole_whoever_dies() {
    at_every_step("the changer dies", 1, |steps| dead_changer(steps, u32::MAX));
    let cases = (0..300)
        .step_by(bound(11, 1))
        .flat_map(|steps| (0..500).step_by(bound(7, 1)).map(move |later| (steps, later)));
    holds_each("then the next one dies", cases, |(steps, later)| dead_changer(steps, later));
    at_every_step("nobody comes", 1, nobody_comes);
    for fault in [Fault::NoIntent, Fault::NoRollForward, Fault::IntentFreedFirst] {
        finds_at_some_step(fault, 1, |steps| dead_changer(steps, u32::MAX));
    }
    finds_at_some_step(Fault::NoRollForward, 1, nobody_comes);
}

#[test]
fn who_is_fenced_off_changes_nothing() {
    at_every_step("fenced off", 1, fenced_off);
    at_every_step("sure of what was read", 1, sure_of_what_was_read);
    at_every_step("against who has no guard", 1, against_who_has_no_guard);
    finds_at_some_step(Fault::NoIntentBump, 1, sure_of_what_was_read);
    finds_at_some_step(Fault::NoStamp, 1, against_who_has_no_guard);
}
