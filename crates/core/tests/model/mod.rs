//! What the models share: a small segment, operations on its only table, and how a model is run.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::participant::DeadSet;
use commonhold_core::row::Row;
use commonhold_core::schema::Schema;
use commonhold_core::sweep::sweep;
use commonhold_core::{Committed, Error, Handle, Inserted, RecordRef, Space};
use commonhold_segment::NamedGeometry;
pub use commonhold_segment::sync::Fault;
use commonhold_segment::sync::model::{self, plant};

/// A segment of one table, "t", with one field, and one lane. No cells: as few as the protocol needs.
pub fn space_of(history: History, slots: u32, cells: u32, participants: u32) -> Arc<Space> {
    space_with(history, slots, cells, participants, NamedGeometry::default())
}

/// Like [`space_of`], with names.
pub fn space_with(
    history: History,
    slots: u32,
    cells: u32,
    participants: u32,
    named: NamedGeometry,
) -> Arc<Space> {
    let schema = Schema::new(vec!["n:i64".parse().unwrap()]).unwrap();
    let mut table =
        TableSpec { history, slots, cells, key_bytes: 1, ..TableSpec::new("t", schema) };
    if cells == 0 {
        table.cells = table.cells_min(participants);
    }
    let catalogue = Catalogue::new(participants, 1, vec![table]).unwrap();
    let catalogue = catalogue.with_named(named).unwrap();
    Space::in_heap(&catalogue).unwrap()
}

pub fn open(space: &Arc<Space>) -> Handle {
    let handle = Handle::open(space).unwrap();
    handle.set_room_wait(Duration::from_secs(3600));
    handle
}

pub fn insert(handle: &Handle, key: &str, n: i64) -> bool {
    matches!(handle.insert(0, key, &n.to_le_bytes()).unwrap(), Inserted::Committed(_))
}

/// Adds one; the version, or none when the record is gone.
pub fn add(handle: &Handle, record: RecordRef) -> Option<u64> {
    commit(handle, record).map(|c| c.version)
}

/// Like [`add`]; the commit.
pub fn commit(handle: &Handle, record: RecordRef) -> Option<Committed> {
    let step = |now: &[u8], next: &mut Vec<u8>| {
        let value = i64::from_le_bytes(now.try_into().unwrap()) + 1;
        next.extend_from_slice(&value.to_le_bytes());
        Ok::<(), Error>(())
    };
    handle.update_at(0, record, step).unwrap()
}

pub fn delete(handle: &Handle, record: RecordRef) -> Option<u64> {
    handle.delete_at(0, record, |_| Ok::<(), Error>(())).unwrap().map(|c| c.version)
}

/// Version and value of a record; its state hash is right.
pub fn read(handle: &Handle, key: &str, record: RecordRef) -> Option<(u64, i64)> {
    let copied = handle.read_at(0, record, Clone::clone).unwrap()?;
    assert_eq!(copied.hash, state_hash(record_prefix("t", key), copied.version, &copied.payload));
    Some((copied.version, i64::from_le_bytes(copied.payload.try_into().unwrap())))
}

/// Version and value of a key, as everybody sees it.
pub fn value(space: &Space, key: &str) -> Option<(u64, i64)> {
    let copied = space.peek(0, key).unwrap()?;
    assert_eq!(copied.hash, state_hash(record_prefix("t", key), copied.version, &copied.payload));
    Some((copied.version, i64::from_le_bytes(copied.payload.try_into().unwrap())))
}

/// What a steward does in one round.
pub fn drain(steward: &Handle) -> Vec<Row> {
    let mut drained = steward.collect(0, 100).unwrap();
    if !drained.is_empty() {
        steward.complete(&drained).unwrap();
    }
    std::mem::take(&mut drained.rows)
}

/// Rounds until nothing is left.
pub fn drain_all(steward: &Handle) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let more = drain(steward);
        if more.is_empty() && steward.collect(0, 100).unwrap().is_empty() {
            return rows;
        }
        rows.extend(more);
    }
}

/// No limit of a wait: a model's time stands still.
pub const LONG: Duration = Duration::from_secs(3600);

/// What a steward's store has: the rows in the order of writing, those written twice twice.
#[derive(Clone, Default)]
pub struct Stored(Arc<Mutex<Vec<Row>>>);

impl Stored {
    /// One round of a steward; how many rows. They are stored when this appends them, not before.
    pub fn round(&self, steward: &Handle) -> usize {
        let drained = steward.collect(0, 100).unwrap();
        if drained.is_empty() {
            return 0;
        }
        self.0.lock().unwrap().extend(drained.rows.iter().cloned());
        steward.complete(&drained).unwrap();
        drained.rows.len().max(1)
    }

    /// Rounds until nothing is left.
    pub fn all(&self, steward: &Handle) {
        while self.round(steward) > 0 {}
    }

    /// A steward's term until `version` is stored: he sleeps when there is nothing to do, and paces himself
    /// after a batch until somebody waits.
    pub fn serve_until(&self, steward: &Handle, version: u64) {
        loop {
            let rows = self.round(steward);
            if self.last() >= version {
                return;
            }
            steward.space().sleep_as_steward(rows > 0, LONG).unwrap();
        }
    }

    /// The highest version of `a`.
    pub fn last(&self) -> u64 {
        self.versions().last().copied().unwrap_or(0)
    }

    /// The versions of `a` in the order in which each was first written; they rise. What is written again is
    /// the same.
    pub fn versions(&self) -> Vec<u64> {
        let rows = self.0.lock().unwrap();
        let mut first: Vec<&Row> = Vec::new();
        for row in rows.iter().filter(|r| r.key == "a") {
            if let Some(same) = first.iter().find(|r| r.version == row.version) {
                assert_eq!((row.hash, row.deleted), (same.hash, same.deleted));
            } else {
                first.push(row);
            }
        }
        let versions: Vec<u64> = first.iter().map(|r| r.version).collect();
        assert!(versions.is_sorted(), "the store got {versions:?}");
        versions
    }
}

/// What a reaper does about `dead`, whose locks he holds.
pub fn reap(space: &Space, dead: &DeadSet) {
    sweep(space, dead).unwrap();
    space.bury(dead);
}

/// The start of a steward's term, after the death of the last one.
pub fn take_over(space: &Arc<Space>, dead: &DeadSet) -> Handle {
    let steward = open(space);
    space.announce_steward(steward.entry_index()).unwrap();
    space.serve(true).unwrap();
    reap(space, dead);
    space.flag_all().unwrap();
    steward
}

/// With nobody at work and no handle open: heads lead to all cells that are not free, nothing is Owned,
/// and the index has what the live records need.
pub fn assert_nothing_leaked(space: &Space, records: u32) {
    assert_eq!(space.unreferenced_cells(0).unwrap(), 0, "cells that nobody leads to");
    let figures = space.figures(0).unwrap();
    assert_eq!((figures.slots.owned, figures.cells.owned), (0, 0), "{figures:?}");
    assert_eq!(figures.index_cells.owned, 0, "{figures:?}");
    assert_eq!(figures.slots.published, records, "{figures:?}");
    assert!(figures.cells.published >= records, "a head leads to a free cell: {figures:?}");
    assert!(figures.index_cells.published <= 1, "{figures:?}");
    assert_eq!(space.hidden_things(0).unwrap(), 0, "free, but hinted taken");
}

thread_local! {
    static KILLS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// See [`commonhold_segment::sync::model::dies_after`]; kills are counted for [`at_every_step`].
pub fn dies_after<T>(steps: u32, work: impl FnOnce() -> T) -> Option<T> {
    let done = model::dies_after(steps, work);
    KILLS.set(KILLS.get() + u64::from(done.is_none()));
    done
}

/// See [`commonhold_segment::sync::model::stops_after`]; stops are counted for [`at_every_step`].
pub fn stops_after<T>(
    steps: u32,
    work: impl FnOnce() -> T,
    meanwhile: impl FnOnce() + 'static,
) -> T {
    let (done, stopped) = model::stops_after(steps, work, meanwhile);
    KILLS.set(KILLS.get() + u64::from(stopped));
    done
}

/// A death that is the same in every run of [`at_every_step`].
pub fn died_after<T>(steps: u32, work: impl FnOnce() -> T) -> Option<T> {
    model::dies_after(steps, work)
}

/// Every sleeper looks again, as he does after at most 100 ms.
pub fn time_passes() {
    model::time_passes();
}

/// Runs models in which every interleaving is tried that the bound allows, without loom's reduction.
pub fn every_switch(models: impl FnOnce()) {
    model::every_switch(true);
    models();
    model::every_switch(false);
}

/// `fast`, or with `COMMONHOLD_LOOM_LONG` set `long`.
pub fn bound(fast: usize, long: usize) -> usize {
    if std::env::var_os("COMMONHOLD_LOOM_LONG").is_some() { long } else { fast }
}

/// Holds for a death before the first access, the second, and so on, until nobody reaches that far.
pub fn at_every_step(
    name: &str,
    bound: usize,
    model: impl Fn(u32) + Clone + Send + Sync + 'static,
) {
    let start = Instant::now();
    let mut count = 0;
    for steps in 0.. {
        let before = KILLS.get();
        let model = model.clone();
        count += run(bound, None, move || model(steps));
        if KILLS.get() == before {
            let seconds = start.elapsed().as_secs_f64();
            return println!("{name}: {steps} steps, {count} executions, {seconds:.1} s");
        }
    }
}

/// Holds in each case, with nobody else at work.
pub fn holds_each<T: Copy + Send + Sync + 'static>(
    name: &str,
    cases: impl Iterator<Item = T>,
    model: impl Fn(T) + Clone + Send + Sync + 'static,
) {
    let start = Instant::now();
    let mut count = 0;
    for case in cases {
        let model = model.clone();
        count += run(1, None, move || model(case));
    }
    println!("{name}: {count} executions, {:.1} s", start.elapsed().as_secs_f64());
}

fn run(bound: usize, fault: Option<Fault>, model: impl Fn() + Send + Sync + 'static) -> u64 {
    plant(fault);
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = 20_000;
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    count.load(Ordering::Relaxed)
}

/// Holds in every interleaving with at most `bound` preemptions.
pub fn holds(name: &str, bound: usize, model: impl Fn() + Send + Sync + 'static) {
    let start = Instant::now();
    let count = run(bound, None, model);
    println!("{name}: {count} executions, {:.1} s", start.elapsed().as_secs_f64());
}

/// Is found to fail, for a death before some access, once `fault` is planted.
pub fn finds_at_some_step(
    fault: Fault,
    bound: usize,
    model: impl Fn(u32) + Clone + Send + Sync + 'static,
) {
    assert!(found_at_some_step(fault, bound, model), "{fault:?} was not found");
}

/// Whether it is found to fail, for a death before some access, once `fault` is planted.
pub fn found_at_some_step(
    fault: Fault,
    bound: usize,
    model: impl Fn(u32) + Clone + Send + Sync + 'static,
) -> bool {
    let start = Instant::now();
    for steps in 0.. {
        let before = KILLS.get();
        let model = model.clone();
        let found =
            catch_unwind(AssertUnwindSafe(|| run(bound, Some(fault), move || model(steps))));
        plant(None);
        if found.is_err() {
            let seconds = start.elapsed().as_secs_f64();
            println!("{fault:?}: found at step {steps} after {seconds:.1} s");
            return true;
        }
        if KILLS.get() == before {
            break;
        }
    }
    false
}

/// Is found to fail once `fault` is planted.
pub fn finds(fault: Fault, bound: usize, model: impl Fn() + Send + Sync + 'static) {
    let start = Instant::now();
    let found = catch_unwind(AssertUnwindSafe(|| run(bound, Some(fault), model)));
    plant(None);
    println!("{fault:?}: found after {:.1} s", start.elapsed().as_secs_f64());
    assert!(found.is_err(), "{fault:?} was not found in {found:?} executions");
}
