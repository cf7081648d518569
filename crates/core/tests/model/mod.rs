//! What the models share: a small segment, operations on its only table, and how a model is run.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::row::Row;
use commonhold_core::schema::Schema;
use commonhold_core::space::geometry_of;
use commonhold_core::{Error, Handle, Inserted, RecordRef, Space};
pub use commonhold_segment::sync::Fault;
use commonhold_segment::sync::model::{self, plant};
use commonhold_segment::{NewSegment, Segment};

/// A segment of one table, "t", with one field, and one lane. No cells: as few as the protocol needs.
pub fn space_of(history: History, slots: u32, cells: u32, participants: u32) -> Arc<Space> {
    let schema = Schema::new(vec!["n:i64".parse().unwrap()]).unwrap();
    let mut table =
        TableSpec { history, slots, cells, key_bytes: 1, ..TableSpec::new("t", schema) };
    if cells == 0 {
        table.cells = table.cells_min(participants);
    }
    let catalogue = Catalogue::new(participants, 1, vec![table]).unwrap();
    let json = catalogue.to_json();
    let new = NewSegment {
        geometry: geometry_of(&catalogue),
        catalogue: json.as_bytes(),
        store_id: [0; 16],
        store_epoch: 1,
        store_url: "none",
        uuid: [7; 16],
    };
    Space::new(Segment::in_heap(&new).unwrap()).unwrap().unwrap()
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
    let step = |now: &[u8], next: &mut Vec<u8>| {
        let value = i64::from_le_bytes(now.try_into().unwrap()) + 1;
        next.extend_from_slice(&value.to_le_bytes());
        Ok::<(), Error>(())
    };
    handle.update_at(0, record, step).unwrap().map(|c| c.version)
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

/// Is found to fail once `fault` is planted.
pub fn finds(fault: Fault, bound: usize, model: impl Fn() + Send + Sync + 'static) {
    let start = Instant::now();
    let found = catch_unwind(AssertUnwindSafe(|| run(bound, Some(fault), model)));
    plant(None);
    println!("{fault:?}: found after {:.1} s", start.elapsed().as_secs_f64());
    assert!(found.is_err(), "{fault:?} was not found in {found:?} executions");
}
