//! What must hold after an injection, whoever died or stood still.

use std::collections::BTreeMap;
use std::sync::Arc;

use commonhold::{Error, Handle};
use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::row::{Row, WriterId};

use super::spec::{Event, Key, Seen};
use super::subject::Subject;
use super::world::{TABLES, World, value_of};
use crate::Failure;
use crate::store::judge::{agree, whole};

/// One injection.
#[derive(Debug)]
pub(crate) struct Injection {
    pub(crate) subject: &'static Subject,
    /// After how many instructions.
    pub(crate) n: u64,
    /// What others do meanwhile.
    pub(crate) script: u64,
    /// By single steps all the way: the child's way is not quite that which was recorded.
    pub(crate) stepwise: bool,
}

/// Whether the child's operation fits among what others saw.
pub(crate) fn fits(before: Key, others: &[Event], own: Event, first: bool) -> Result<(), Failure> {
    if before.allows(others, own, first) {
        return Ok(());
    }
    let early = if first { ", returned before" } else { "" };
    Err(format!("{own:?}{early} fits nowhere among {others:?} from {before:?}").into())
}

/// Whether the child that went on has said what came of its operation.
pub(crate) fn told(own: Event) -> Result<(), Failure> {
    match own.seen {
        Seen::Unknown => Err("it went on and did not return".into()),
        _ => Ok(()),
    }
}

/// Sweeps and drains, and judges what then is there: `dead` participants are found (any number when none is said), the rows are the commits, every
/// cell is free or reachable, and there is as much room as in a fresh segment. `rows` were drained before.
pub(crate) fn settle(
    world: &World,
    other: Handle,
    dead: Option<u32>,
    mut rows: [Vec<Row>; TABLES.len()],
) -> Result<(), Failure> {
    find_dead(world, dead)?;
    for (rows, mut more) in rows.iter_mut().zip(world.drain(&other)?) {
        rows.append(&mut more);
    }
    drop(other);
    world.space().reap(true)?;
    for (table, rows) in rows.iter().enumerate() {
        journal(world, table, rows)?;
    }
    room(world)
}

/// Like [`settle`], of a world with a database: the next steward stores, and the database has the commits.
pub(crate) fn settle_stored(
    world: &World,
    other: Handle,
    dead: Option<u32>,
) -> Result<(), Failure> {
    let Some((runtime, database)) = world.stored_in() else { return Ok(()) };
    find_dead(world, dead)?;
    drop(other);
    world.serve()?;
    world.space().reap(true)?;
    whole(database)?;
    agree(runtime, database)?;
    room(world)
}

/// Sweeps; so many participants must be found dead.
pub(crate) fn find_dead(world: &World, dead: Option<u32>) -> Result<(), Failure> {
    let found = world.space().reap(true)?.participants;
    match dead {
        Some(dead) if dead != found => {
            Err(format!("{found} participants were found dead, not {dead}").into())
        }
        _ => Ok(()),
    }
}

/// With nobody at work: every cell is free or reachable, and there is as much room as in a fresh segment.
fn room(world: &World) -> Result<(), Failure> {
    for table in 0..TABLES.len() {
        reachable(world, table)?;
    }
    let room = world.capacity()?;
    if room != world.room {
        return Err(
            format!("there is room for {room:?}, in a fresh segment {:?}", world.room).into()
        );
    }
    Ok(())
}

/// The rows of a table are its commits.
fn journal(world: &World, table: usize, rows: &[Row]) -> Result<(), Failure> {
    let name = TABLES.get(table).copied().unwrap_or_default();
    let full = table == 0;
    let mut last: BTreeMap<&str, &Row> = BTreeMap::new();
    let mut writers: BTreeMap<WriterId, Vec<u64>> = BTreeMap::new();
    for row in rows {
        let (key, version) = (row.key.as_str(), row.version);
        let value = value_of(&row.payload);
        let right =
            row.deleted || row.hash == state_hash(record_prefix(name, key), version, &row.payload);
        if !right || (!row.deleted && value.is_none()) {
            return Err(format!("{name}: the row of {key}, version {version}, is torn").into());
        }
        let before = last.insert(key, row);
        let next = match before {
            Some(before) if full && !before.deleted => {
                let adds = row.deleted || value == value_of(&before.payload).map(|v| v + 1);
                version == before.version + 1 && adds
            }
            Some(before) => version > before.version,
            None => world
                .stored(table, key)
                .is_none_or(|stored| if full { version == stored + 1 } else { version > stored }),
        };
        if !next {
            let before = before.map(|b| b.version);
            return Err(format!("{name}: {key} has version {version} after {before:?}").into());
        }
        writers.entry(row.writer).or_default().push(row.sequence);
    }
    if full {
        writers.iter_mut().try_for_each(|(writer, numbers)| sequence(*writer, numbers))?;
    }
    as_in_memory(world, table, &last)
}

/// A writer's numbers have no gap.
fn sequence(writer: WriterId, numbers: &mut [u64]) -> Result<(), Failure> {
    numbers.sort_unstable();
    match numbers.windows(2).find(|pair| pair.first().map(|a| a + 1) != pair.last().copied()) {
        Some(gap) => {
            Err(format!("writer {writer}: its rows {gap:?} do not follow each other").into())
        }
        None => Ok(()),
    }
}

/// What was written last is what is in memory, and nothing else is.
fn as_in_memory(world: &World, table: usize, last: &BTreeMap<&str, &Row>) -> Result<(), Failure> {
    let mut seen = Vec::new();
    let note = |key: &str, copy: &commonhold_core::Snapshot| {
        seen.push((key.to_owned(), copy.version));
        Ok::<(), Error>(())
    };
    let space = Arc::clone(world.space());
    space.scan(table, note)?;
    for (key, version) in &seen {
        world.peek(table, key)?;
        let written = last.get(key.as_str());
        let known = match written {
            Some(row) => !row.deleted && row.version == *version,
            None => world.stored(table, key) == Some(*version),
        };
        if !known {
            let written = written.map(|r| (r.version, r.deleted));
            return Err(format!("{key} is in memory at {version}, written at {written:?}").into());
        }
    }
    let lost = last.iter().find(|(key, row)| !row.deleted && seen.iter().all(|(k, _)| k != *key));
    match lost {
        Some((key, row)) => {
            Err(format!("{key}, written at {}, is not in memory", row.version).into())
        }
        None => Ok(()),
    }
}

/// With nobody at work: every cell is free or a head leads to it.
fn reachable(world: &World, table: usize) -> Result<(), Failure> {
    let space = world.space();
    let (figures, leaked) = (space.figures(table)?, space.unreferenced_cells(table)?);
    let owned = figures.slots.owned + figures.cells.owned + figures.index_cells.owned;
    if leaked + owned + figures.slots.retired > 0 {
        return Err(format!("{leaked} cells are leaked: {figures:?}").into());
    }
    Ok(())
}
