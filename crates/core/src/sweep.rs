//! The sweep: gives back what dead participants left.
//!
//! For each cell, in this order: read its word; its owner is in the set of the dead; read `persisted`; read
//! `head`; judge; read `persisted` again; compare-exchange exactly the word first read. Freed are
//! - Owned by a dead one and neither head nor, with full history, on the chain from head down to persisted
//!   (on the chain or head: Published, its version is committed);
//! - Published, not head, and (latest history, or its version is persisted).
//!
//! The chain is walked in full history only (in latest, previous cells are long somebody else's), never
//! past `persisted`, and judged anew when `persisted` moved meanwhile.
//!
//! Slots Reserved by a dead one become Live when their bucket names them, else Free.
//!
//! What cannot be judged because a word is damaged is left, and the first such word is the sweep's error when all
//! else is swept.
//!
//! Everything is a compare-exchange against what was judged: the sweep may be killed anywhere, run twice at
//! once, and run beside every other operation.

use commonhold_os::lock::Mode;
use commonhold_segment::sync::{Fault, Ordering, planted};

use crate::error::Error;
use crate::head::{Head, NO_CELL};
use crate::participant::DeadSet;
use crate::pool::{Kind, signal, signal_all};
use crate::space::{LOCK_RECLAIM, Space};
use crate::table::{Place, TableControl, TableView};
use crate::word::{Phase, Word};

/// What a sweep gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Dead participants whose entries were freed.
    pub participants: u32,
    /// Cells freed, of records and of the index.
    pub cells: u32,
    /// Slots freed.
    pub slots: u32,
    /// Things of the dead that turned out to be committed, and are kept.
    pub kept: u32,
}

/// What becomes of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Leave,
    Free,
    Keep,
}

/// Sweeps every table for what the participants in `dead` left, who must be proved dead. Should somebody
/// else free one of their entries meanwhile, what its next owner has is left alone.
///
/// # Errors
/// [`Error::Corrupt`] when the segment is damaged; what is not was swept.
pub fn sweep(space: &Space, dead: &DeadSet) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let mut done = Ok(());
    for table in space.tables() {
        // Slots first: a reserved one that becomes Live keeps its cell.
        let slots = sweep_slots(space, &table, dead, &mut swept);
        let cells = sweep_pool(space, &table, Kind::Cells, dead, &mut swept);
        let index = sweep_pool(space, &table, Kind::IndexCells, dead, &mut swept);
        let room = table.control(TableControl::Room)?;
        if dead.is_empty() {
            signal(room)
        } else {
            signal_all(room)
        }
        done = done.and(slots).and(cells).and(index);
    }
    let names = space.sweep_names(dead).map(drop);
    let guards = space.sweep_guards(dead).and_then(|()| space.sweep_intents(dead));
    done.and(names).and(guards).map(|()| swept)
}

impl Space {
    /// For who finds a pool empty and was not helped by the steward: frees what the dead left, and displaced
    /// cells whose displacer died or whose owner came late. One process at a time.
    pub(crate) fn reclaim(&self, table: &TableView<'_>) -> Result<(), Error> {
        let mine = self.with_reaper(|lock| lock.try_lock(LOCK_RECLAIM, Mode::Exclusive))?;
        if matches!(mine.transpose()?, Some(false)) {
            return Ok(());
        }
        let reaped = self.reap(false).map(drop);
        let swept = self.sweep_displaced(table);
        self.with_reaper(|lock| lock.unlock(LOCK_RECLAIM))?;
        // Damage elsewhere is reported by the steward; here what counts is the room that there is now.
        let worse = |e: &Error| !e.is_damage();
        reaped.err().into_iter().chain(swept.err()).find(worse).map_or(Ok(()), Err)
    }

    fn sweep_displaced(&self, table: &TableView<'_>) -> Result<(), Error> {
        let mut swept = Swept::default();
        let cells = sweep_pool(self, table, Kind::Cells, &DeadSet::new(), &mut swept);
        let index = sweep_pool(self, table, Kind::IndexCells, &DeadSet::new(), &mut swept);
        if swept.cells > 0 {
            self.signal_room(table)?;
        }
        cells.and(index)
    }
}

fn sweep_pool(
    space: &Space,
    table: &TableView<'_>,
    kind: Kind,
    dead: &DeadSet,
    swept: &mut Swept,
) -> Result<(), Error> {
    let mut done = Ok(());
    for (index, atomic) in table.pool(kind).words() {
        let word = Word::load(atomic, Ordering::Acquire);
        if word.phase() == Phase::Free && !planted(Fault::NoHintRepair) {
            table.pool(kind).hint_free(index); // its hint may have died with who freed it
        }
        let of_dead = dead.owns(space, word);
        let published = word.phase() == Phase::Published && !planted(Fault::NoLateSweep);
        if !of_dead && !published {
            continue;
        }
        let verdict = match kind {
            Kind::IndexCells => judge_index(table, index, of_dead),
            _ => judge_cell(table, index, of_dead),
        };
        match verdict {
            Ok(Verdict::Free) if table.pool(kind).free(index, word) => swept.cells += 1,
            Ok(Verdict::Keep) if word.exchange(atomic, word.published()) => swept.kept += 1,
            Ok(_) => {}
            Err(e) => done = done.and(Err(e)),
        }
    }
    done
}

/// Judges a cell of records that is Owned by a dead one or Published.
fn judge_cell(table: &TableView<'_>, index: u32, of_dead: bool) -> Result<Verdict, Error> {
    let cell = table.cell(index)?;
    let unreferenced = if of_dead { Verdict::Free } else { Verdict::Leave };
    let referenced = if of_dead { Verdict::Keep } else { Verdict::Leave };
    let place = Place::from_bits(cell.place.load(Ordering::Relaxed));
    // A cell that a head leads to was written whole before; if this is garbage, none does.
    let Ok(slot) = table.slot(place.slot()) else { return Ok(unreferenced) };
    let version = Head::new(index, cell.version.load(Ordering::Relaxed));
    loop {
        let persisted = Head::load(slot.persisted, Ordering::SeqCst);
        let head = Head::load(slot.head, Ordering::SeqCst);
        if head.cell() == index {
            return Ok(referenced);
        }
        if !table.is_full_history() {
            return Ok(Verdict::Free);
        }
        let walks = of_dead && !planted(Fault::NoChainWalk);
        let on_chain = walks && chain_holds(table, head, persisted, index)?;
        if Head::load(slot.persisted, Ordering::SeqCst).position() != persisted.position() {
            continue;
        }
        return Ok(match (of_dead, on_chain) {
            (true, true) => referenced,
            (true, false) => unreferenced,
            (false, _) if version.is_newer_than(persisted) => Verdict::Leave,
            (false, _) => Verdict::Free,
        });
    }
}

/// Whether the chain from `head` down to, not including, `persisted` holds cell `index`.
fn chain_holds(
    table: &TableView<'_>,
    head: Head,
    persisted: Head,
    index: u32,
) -> Result<bool, Error> {
    let mut at = head;
    for _ in 0..table.layout.geometry.cells {
        if at.cell() == NO_CELL || !at.is_newer_than(persisted) {
            return Ok(false);
        }
        if at.cell() == index {
            return Ok(true);
        }
        // A chain that is cut while we walk it (`persisted` moves) leads anywhere; the caller looks again.
        let Ok(cell) = table.cell(at.cell()) else { return Ok(false) };
        at = Head::from_bits(cell.previous.load(Ordering::Acquire));
    }
    Ok(false)
}

fn judge_index(table: &TableView<'_>, index: u32, of_dead: bool) -> Result<Verdict, Error> {
    let bucket = table.bucket_of_cell(index)?;
    let led = bucket < table.layout.geometry.buckets && table.index_leads_to(bucket, index)?;
    Ok(match (led, of_dead) {
        (false, _) => Verdict::Free,
        (true, true) => Verdict::Keep,
        (true, false) => Verdict::Leave,
    })
}

fn sweep_slots(
    space: &Space,
    table: &TableView<'_>,
    dead: &DeadSet,
    swept: &mut Swept,
) -> Result<(), Error> {
    let mut done = Ok(());
    for slot in table.slots() {
        let word = Word::load(slot.word, Ordering::Acquire);
        if word.phase() == Phase::Free {
            table.pool(Kind::Slots).hint_free(slot.index);
        }
        if !dead.owns(space, word) {
            continue;
        }
        let named = match slot.key(word.generation()) {
            Some((key, _)) if !planted(Fault::NoBucketLook) => {
                match table.read_bucket(table.place_of(&key).bucket) {
                    Ok(b) => b.entries.iter().any(|e| e.names(slot.index, word.generation())),
                    Err(e) => {
                        done = done.and(Err(e));
                        continue;
                    }
                }
            }
            _ => false,
        };
        if named {
            if word.exchange(slot.word, word.published()) {
                space.flag(table, slot.index);
                signal(table.control(TableControl::Watch)?);
                swept.kept += 1;
            }
        } else if table.pool(Kind::Slots).free(slot.index, word) {
            swept.slots += 1;
        }
    }
    done
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::sync::Arc;

    use commonhold_segment::{NewSegment, Segment, new_uuid};

    use super::*;
    use crate::catalogue::{Catalogue, History, TableSpec};
    use crate::commit::Draft;
    use crate::read::{Found, Snapshot};
    use crate::schema::Schema;
    use crate::space::geometry_of;
    use crate::{Handle, Inserted};

    fn space() -> Arc<Space> {
        let schema = Schema::new(vec!["n:i64".parse().unwrap()]).unwrap();
        let history = History::Full;
        let table = TableSpec { history, slots: 1, cells: 8, ..TableSpec::new("t", schema) };
        let catalogue = Catalogue::new(4, 1, vec![table]).unwrap();
        let json = catalogue.to_json();
        let new = NewSegment {
            geometry: geometry_of(&catalogue),
            catalogue: json.as_bytes(),
            store_id: [0; 16],
            store_epoch: 1,
            store_url: "none",
            uuid: new_uuid(),
        };
        let name = format!("commonhold-late-mark-{}", std::process::id());
        Space::new(Segment::create_ephemeral(&name, &new).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn a_mark_that_came_late_is_swept_although_nobody_died() {
        let space = space();
        let (slow, other) = (Handle::open(&space).unwrap(), Handle::open(&space).unwrap());
        let drain = || other.complete(&other.collect(0, 100).unwrap()).unwrap();
        let inserted = other.insert(0, "a", &0_i64.to_le_bytes()).unwrap();
        let Inserted::Committed(first) = inserted else { panic!("{inserted:?}") };
        drain();
        // One commits as far as his exchange, and not yet his mark.
        let (table, record) = (space.table(0).unwrap(), first.record);
        let mut seen = Snapshot::default();
        assert_eq!(slow.look(&table, record, &mut seen).unwrap(), Found::Version);
        let own = slow.spare(&table).unwrap();
        let draft = Draft {
            record,
            version: 2,
            previous: seen.head.position(),
            deleted: false,
            time: 0,
            fence: crate::fence::Fence::NONE,
        };
        slow.write(&table, own, &draft, &seen.payload).unwrap();
        let head = table.slot(record.slot).unwrap().head;
        assert!(seen.head.displace(head, Head::new(own.index, 2)));
        slow.keep_spare(&table, None);
        // His version is stored, displaced, and the next one is stored.
        space.flag_all().unwrap();
        drain();
        let again = |now: &[u8], next: &mut Vec<u8>| {
            next.extend_from_slice(now);
            Ok::<(), Error>(())
        };
        assert_eq!(other.update_at(0, record, again).unwrap().map(|c| c.version), Some(3));
        drain();
        // Now he marks it: nobody comes by that cell any more.
        let word = table.cell(own.index).unwrap().word;
        assert!(own.word.exchange(word, own.word.published()));
        assert_eq!(space.unreferenced_cells(0).unwrap(), 1);
        assert_eq!(space.reap(false).unwrap(), Swept::default());
        assert_eq!(space.reap(true).unwrap(), Swept { cells: 1, ..Swept::default() });
        assert_eq!(space.unreferenced_cells(0).unwrap(), 0);
    }
}
