//! The drain: what the steward takes out of a table for one transaction, and what he does when it is stored.
//!
//! **Order**: transaction, `persisted`, wake, then free the chain and the old base cell. Whatever is not
//! done when the steward dies is done again by the next one, because truth is `head ≠ persisted`: a batch
//! stored twice is the same rows, and displaced cells at or below `persisted` are freed by the sweep.
//!
//! Full history: the chain of previous cells from head down to `persisted` is the journal. Only the steward
//! moves `persisted` and frees cells above it, so while he walks, the chain stands. Latest history: one
//! consistent copy of the head.

use commonhold_segment::sync::{Fault, Ordering, fence, planted};

use crate::error::Error;
use crate::handle::Handle;
use crate::head::Head;
use crate::pool::Kind;
use crate::read::{Found, Snapshot, snapshot};
use crate::row::Row;
use crate::table::{RecordRef, SlotView, TableControl, TableView};
use crate::word::{Phase, Word};

/// What one table has for the store.
#[derive(Debug, Default)]
pub struct Drained {
    /// The table's position.
    pub table: usize,
    /// The rows: of one record in ascending versions.
    pub rows: Vec<Row>,
    /// The table's version floor; to be stored with the rows.
    pub floor: u64,
    marks: Vec<Mark>,
}

/// One slot of a batch.
#[derive(Debug)]
struct Mark {
    record: RecordRef,
    head: Head,
    version: u64,
    /// The cells that are no longer needed once the head is stored, with their generations.
    chain: Vec<(u32, u64)>,
    deleted: bool,
}

impl Drained {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

impl Handle {
    /// For the steward: collects what the flagged slots of the table have for the store, until there are
    /// `limit` rows or more. Slots beyond it keep their flags.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn collect(&self, table: usize, limit: usize) -> Result<Drained, Error> {
        let view = self.space().table(table)?;
        let mut drained = Drained { table, ..Drained::default() };
        let words = view.words.get(view.layout.dirty.clone()).unwrap_or_default();
        for (base, word) in (0_u32..).step_by(64).zip(words) {
            if word.load(Ordering::SeqCst) == 0 {
                continue;
            }
            let late = planted(Fault::FlagClearedLate);
            let mut bits =
                if late { word.load(Ordering::SeqCst) } else { word.swap(0, Ordering::SeqCst) };
            // Not `crossing`: slot words and heads are read with weaker orderings below.
            if !planted(Fault::NoCollectFence) {
                fence(Ordering::SeqCst);
            }
            while bits != 0 && drained.rows.len() < limit {
                let slot = base + bits.trailing_zeros();
                bits &= bits - 1;
                if slot < view.layout.geometry.slots {
                    self.collect_slot(&view, &view.slot(slot)?, &mut drained)?;
                }
            }
            if late {
                word.swap(0, Ordering::SeqCst);
            }
            if bits != 0 {
                word.fetch_or(bits, Ordering::SeqCst);
                break;
            }
        }
        drained.floor = view.control(TableControl::Floor)?.load(Ordering::SeqCst);
        Ok(drained)
    }

    fn collect_slot(
        &self,
        table: &TableView<'_>,
        slot: &SlotView<'_>,
        drained: &mut Drained,
    ) -> Result<(), Error> {
        let word = Word::load(slot.word, Ordering::Acquire);
        if !matches!(word.phase(), Phase::Published | Phase::Retired) {
            return Ok(());
        }
        let generation = word.generation();
        let Some((key, prefix)) = slot.key(generation) else { return Ok(()) };
        let record = RecordRef { slot: slot.index, generation, prefix };
        let mut seen = Snapshot::default();
        if snapshot(table, slot, generation, self.lane_count(), &mut seen)? == Found::Gone {
            return Ok(());
        }
        let persisted = Head::load(slot.persisted, Ordering::SeqCst);
        let deleted = seen.deleted;
        if seen.head.tag() == persisted.tag() && !deleted {
            return Ok(());
        }
        let (head, version) = (seen.head.position(), seen.version);
        let first = drained.rows.len();
        let mut chain = Vec::new();
        if table.is_full_history() {
            self.collect_chain(table, &key, persisted, seen, &mut drained.rows, &mut chain)?;
            drained.rows.get_mut(first..).unwrap_or_default().reverse();
        } else if head.tag() != persisted.tag() {
            drained.rows.push(seen.to_row(&key));
        }
        if deleted {
            crate::insert::raise_floor(table, version)?;
        }
        drained.marks.push(Mark { record, head, version, chain, deleted });
        Ok(())
    }

    /// Walks from the head, already copied in `seen`, down to `persisted`: newest first.
    fn collect_chain(
        &self,
        table: &TableView<'_>,
        key: &str,
        persisted: Head,
        mut seen: Snapshot,
        rows: &mut Vec<Row>,
        chain: &mut Vec<(u32, u64)>,
    ) -> Result<(), Error> {
        let mut at = seen.head;
        let (slot_generation, mut version) = (seen.slot_generation, seen.version);
        let mut first = true;
        while at.is_newer_than(persisted) {
            if !first {
                let cell = table.cell(at.cell())?;
                seen.cell = Word::load(cell.word, Ordering::Acquire);
                let whole = seen.copy(table, &cell, self.lane_count());
                if !whole
                    || seen.slot_generation != slot_generation
                    || seen.version.wrapping_add(1) != version
                {
                    return Err(table.corrupt("the journal of a record", 0, at.bits()));
                }
                chain.push((at.cell(), seen.cell.generation()));
            }
            first = false;
            version = seen.version;
            rows.push(seen.to_row(key));
            at = seen.previous;
        }
        Ok(())
    }

    /// For the steward: the batch is stored. Moves `persisted`, wakes who waits for that, frees what is no
    /// longer needed, and ends the deletions.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged; [`Error::Full`] when a deletion found no cell of the
    /// index: its slot stays flagged.
    pub fn complete(&self, drained: &Drained) -> Result<(), Error> {
        let view = self.space().table(drained.table)?;
        for mark in &drained.marks {
            let slot = view.slot(mark.record.slot)?;
            let base = Head::load(slot.persisted, Ordering::SeqCst);
            if base.tag() != mark.head.tag() {
                Head::replace(slot.persisted, mark.head);
            }
            for (cell, generation) in &mark.chain {
                view.pool(Kind::Cells).free_generation(*cell, *generation);
            }
            if view.is_full_history() {
                free_base(&view, &slot, mark, base)?;
            }
        }
        let mut ended = Ok(());
        for mark in drained.marks.iter().filter(|m| m.deleted) {
            let this = self.finish_deletion(&view, mark.record, mark.version, true);
            if this.is_err() {
                self.space().flag(&view, mark.record.slot);
            }
            ended = ended.and(this);
        }
        self.space().signal_room(&view)?;
        ended
    }

    /// For the steward: the batch is not stored; its slots are flagged again.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn return_batch(&self, drained: &Drained) -> Result<(), Error> {
        let view = self.space().table(drained.table)?;
        for mark in &drained.marks {
            self.space().flag(&view, mark.record.slot);
        }
        Ok(())
    }
}

/// Frees the cell that was the stored version before this batch, once the head has moved on.
fn free_base(
    table: &TableView<'_>,
    slot: &SlotView<'_>,
    mark: &Mark,
    base: Head,
) -> Result<(), Error> {
    if base.cell() == mark.head.cell() {
        return Ok(());
    }
    let Ok(cell) = table.cell(base.cell()) else { return Ok(()) };
    let word = Word::load(cell.word, Ordering::Acquire);
    // While Published its content does not change, so if it still says that it is this record's, it is.
    let place = crate::table::Place::from_bits(cell.place.load(Ordering::Relaxed));
    let same = place.slot() == slot.index
        && cell.slot_generation.load(Ordering::Relaxed) == mark.record.generation
        && base.is_version(cell.version.load(Ordering::Relaxed));
    if same && word.phase() == Phase::Published {
        table.pool(Kind::Cells).free(base.cell(), word);
    }
    Ok(())
}
