//! The heal phase of a batch: everybody was killed, no more faults. The segment must be whole and go on at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use commonhold_core::{Error, Handle, Inserted, Snapshot, Space};

use crate::linear::spec::step;
use crate::linear::stage::{SLOTS, Stage, TABLE, drain_all, key};
use crate::{Failure, Outcome};

/// Full progress comes within so long.
const LIMIT: Duration = Duration::from_secs(5);
/// Updates that make up full progress.
const UPDATES: u64 = 300;

/// Sweeps, drains, judges and goes on.
pub(crate) fn heal(
    stage: &Stage,
    space: &Arc<Space>,
    keys: u64,
    name: &str,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let start = Instant::now();
    let states = || -> Result<Vec<Option<(u64, u64)>>, Error> {
        let one = |at| Ok(space.peek(TABLE, key(at))?.map(|s| (s.version, s.hash)));
        (0..keys as usize).map(one).collect()
    };
    let before = states()?;
    space.reap(true)?;
    settle(space)?;
    let after = states()?;
    outcome
        .demand(before == after, || format!("{name}: the sweep changed {before:?} to {after:?}"));
    judge(space, name, outcome)?;
    if let Err(e) = go_on(stage, space, keys) {
        outcome.violation(format!("{name}: after all were killed: {e}"));
    }
    settle(space)?;
    judge(space, name, outcome)?;
    outcome.demand(start.elapsed() < LIMIT, || format!("{name}: healed in {:?}", start.elapsed()));
    Ok(())
}

fn settle(space: &Arc<Space>) -> Result<(), Failure> {
    let handle = Handle::open(space)?;
    drain_all(space, &handle)?;
    drop(handle);
    space.reap(true)?;
    Ok(())
}

/// Nothing is left of anybody.
fn judge(space: &Space, name: &str, outcome: &mut Outcome) -> Result<(), Failure> {
    let figures = space.figures(TABLE)?;
    let slots = figures.slots.free + figures.slots.published;
    let clean = slots == SLOTS && figures.index_cells.owned == 0 && figures.unstored_versions == 0;
    outcome.demand(clean, || format!("{name}: left over: {figures:?}"));
    let leaked = space.unreferenced_cells(TABLE)?;
    outcome.demand(leaked == 0, || format!("{name}: {leaked} cells leaked: {figures:?}"));
    let there = space.participants();
    outcome.demand(there.is_empty(), || format!("{name}: entries are left: {there:?}"));
    Ok(())
}

/// A fresh handle inserts, updates, deletes, and fills the table to its last slot.
fn go_on(stage: &Stage, space: &Arc<Space>, keys: u64) -> Result<(), Failure> {
    let handle = Handle::open(space)?;
    handle.set_room_wait(Duration::ZERO);
    for at in 0..keys as usize {
        let mut payload = Vec::new();
        stage.encode(at, 1, &mut payload);
        let (Inserted::Committed(_) | Inserted::Exists(_)) =
            handle.insert(TABLE, key(at), &payload)?;
        for n in 0..UPDATES {
            update(stage, &handle, at, n)?;
            drain_all(space, &handle)?;
        }
        handle.delete(TABLE, key(at), |_| Ok::<(), Error>(()))?;
        drain_all(space, &handle)?;
    }
    let mut payload = Vec::new();
    stage.encode(4, 1, &mut payload);
    for n in 0..SLOTS {
        match handle.insert(TABLE, &format!("new {n}"), &payload)? {
            Inserted::Committed(_) => {}
            Inserted::Exists(_) => return Err("a key that was never made exists".into()),
        }
    }
    match handle.insert(TABLE, "one more", &payload) {
        Err(Error::Full { what: "slots", .. }) => Ok(()),
        other => Err(format!("the table takes more than it has slots: {other:?}").into()),
    }
}

fn update(stage: &Stage, handle: &Handle, at: usize, n: u64) -> Result<(), Failure> {
    let record = handle.locate(TABLE, key(at))?.ok_or("a key is lost")?;
    let change = |seen: &Snapshot, next: &mut Vec<u8>| {
        let value = stage.decode(at, seen)?;
        stage.encode(at, step(value, n.cast_signed()), next);
        Ok::<(), String>(())
    };
    handle.update_seen(TABLE, record, change)?.ok_or("a key is gone")?;
    Ok(())
}
