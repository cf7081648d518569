//! The drain: what the steward takes out of a table for one transaction, and what he does when it is stored.
//!
//! **Order**: transaction, `persisted`, wake, then free the chain and the old base cell. Whatever is not
//! done when the steward dies is done again by the next one, because truth is `head ≠ persisted`: a batch
//! stored twice is the same rows, and displaced cells at or below `persisted` are freed by the sweep.
//!
//! Full history: the chain of previous cells from head down to `persisted` is the journal. Only the steward
//! moves `persisted` and frees cells above it, so while he walks, the chain stands. Latest history: one
//! consistent copy of the head.
//!
//! **Incarnations**: a key that was deleted and came again is two records in two slots, and the store must get the
//! first one's rows before or with the second one's. Who inserts over a deletion has the old slot flagged before the
//! new record can be found. So when the steward has collected the new one, the old slot was collected, now or
//! earlier, since it was deleted; or its flag is set, and [`Handle::collect`] takes it into the same batch. If an
//! earlier state of it is in the batch already, the new record waits for the next one.
//!
//! **Damage**: a record is stored only if its key has its hash prefix and every version its state hash. One that has
//! not is left out and reported ([`Drained::damage`]); the others go on being stored.

use std::collections::BTreeSet;

use commonhold_segment::sync::{AtomicU64, Fault, Ordering, fence, planted};

use crate::error::Error;
use crate::handle::Handle;
use crate::hash;
use crate::head::{Head, NO_CELL, TAG_MASK};
use crate::pool::Kind;
use crate::read::{ALL, Found, Snapshot, snapshot};
use crate::row::Row;
use crate::table::{RecordRef, SlotView, TableControl, TableView};
use crate::word::{Phase, Word};

/// Rows of about so many bytes make a batch: what a store takes in a second or two.
const BATCH_BYTES: usize = 16 << 20;

/// What one table has for the store.
#[derive(Debug, Default)]
pub struct Drained {
    /// The table's position.
    pub table: usize,
    /// The rows: of one record in ascending versions.
    pub rows: Vec<Row>,
    /// For each row, what the store has of its record.
    pub known: Vec<Base>,
    /// The table's version floor; to be stored with the rows.
    pub floor: u64,
    /// The first record that was left out because it is damaged, in words.
    pub damage: Option<String>,
    /// Flagged slots were left for the next batch.
    pub cut: bool,
    marks: Vec<Mark>,
}

/// What the store has of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// This version.
    Stored(u64),
    /// Nothing; versions up to this one are of records before it.
    After(u64),
    /// It cannot be told: the word that says so is damaged.
    Unknown,
}

/// One slot of a batch.
#[derive(Debug)]
struct Mark {
    record: RecordRef,
    head: Head,
    version: u64,
    /// Which rows of the batch are its own: from the first to before the second.
    rows: (usize, usize),
    /// Nothing of the record is stored yet, and its table has had deletions: it may have a predecessor.
    succeeds: bool,
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
    /// `limit` rows or more, or rows of some 16 MiB. Slots beyond it keep their flags, and come first the next time.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn collect(&self, table: usize, limit: usize) -> Result<Drained, Error> {
        let drained = self.collect_all(table, limit);
        // Nothing is stored that was read behind a cut.
        self.space().whole(drained)
    }

    /// For the steward: collects what the records of `keys` have for the store, flagged or not, and nothing else.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn collect_keys(&self, table: usize, keys: &BTreeSet<String>) -> Result<Drained, Error> {
        let view = self.space().table(table)?;
        let mut drained = Drained { table, ..Drained::default() };
        for slot in view.slots() {
            let word = Word::load(slot.word, Ordering::Acquire);
            let lives = matches!(word.phase(), Phase::Published | Phase::Retired);
            let asked = |(key, _): (String, u64)| keys.contains(&key);
            if lives && slot.key(word.generation()).is_some_and(asked) {
                unflag(&view, slot.index);
                self.collect_slot(&view, &slot, &mut drained)?;
            }
        }
        self.collected(&view, &mut drained)?;
        self.space().whole(Ok(drained))
    }

    fn collect_all(&self, table: usize, limit: usize) -> Result<Drained, Error> {
        let view = self.space().table(table)?;
        let mut drained = Drained { table, ..Drained::default() };
        let words = view.words.get(view.layout.dirty.clone()).unwrap_or_default();
        let mut bytes = 0;
        for (word, base, mask) in from(words, self.resume(table)) {
            if word.load(Ordering::SeqCst) & mask == 0 {
                continue;
            }
            let late = planted(Fault::FlagClearedLate);
            let all = if late {
                word.load(Ordering::SeqCst)
            } else {
                word.fetch_and(!mask, Ordering::SeqCst)
            };
            let mut bits = all & mask;
            // Not `crossing`: slot words and heads are read with weaker orderings below.
            if !planted(Fault::NoCollectFence) {
                fence(Ordering::SeqCst);
            }
            while bits != 0 && drained.rows.len() < limit && bytes < BATCH_BYTES {
                let (slot, before) = (base + bits.trailing_zeros(), drained.rows.len());
                bits &= bits - 1;
                if slot < view.layout.geometry.slots {
                    self.collect_slot(&view, &view.slot(slot)?, &mut drained)?;
                }
                let rows = drained.rows.get(before..).unwrap_or_default();
                bytes += rows.iter().map(|row| row.payload.len()).sum::<usize>();
            }
            if late {
                word.fetch_and(!mask, Ordering::SeqCst);
            }
            if bits != 0 {
                word.fetch_or(bits, Ordering::SeqCst);
                drained.cut = true;
                self.resume_at(table, base + bits.trailing_zeros());
                break;
            }
        }
        self.collected(&view, &mut drained)?;
        Ok(drained)
    }

    /// Completes a batch whose slots are collected.
    fn collected(&self, table: &TableView<'_>, drained: &mut Drained) -> Result<(), Error> {
        if drained.marks.iter().any(|m| m.succeeds) && !planted(Fault::NoPredecessors) {
            self.collect_predecessors(table, drained)?;
        }
        drained.floor = table.control(TableControl::Floor)?.load(Ordering::SeqCst);
        Ok(())
    }

    /// Takes the flagged predecessors of the batch's records into it, and brings the rows of each key in order.
    fn collect_predecessors(
        &self,
        table: &TableView<'_>,
        drained: &mut Drained,
    ) -> Result<(), Error> {
        let mut late = BTreeSet::new();
        let mut known = 0;
        while known < drained.marks.len() {
            known = drained.marks.len();
            let taken: BTreeSet<u32> = drained.marks.iter().map(|m| m.record.slot).collect();
            let succeeding = drained.marks.iter().filter(|m| m.succeeds);
            let keys: BTreeSet<u64> = succeeding.map(|m| m.record.prefix).collect();
            for (index, prefix) in flagged_deletions(table) {
                if !keys.contains(&prefix) {
                    continue;
                }
                if taken.contains(&index) {
                    late.insert((prefix, index));
                    continue;
                }
                unflag(table, index);
                self.collect_slot(table, &table.slot(index)?, drained)?;
            }
        }
        for (prefix, slot) in late {
            self.put_off(table, drained, prefix, slot);
        }
        let known = std::mem::take(&mut drained.known);
        let mut rows: Vec<_> = std::mem::take(&mut drained.rows).into_iter().zip(known).collect();
        rows.retain(|(row, _)| !row.key.is_empty());
        // Of one record they are in order already; of two with one key the versions decide.
        rows.sort_by_key(|(row, _)| row.version);
        (drained.rows, drained.known) = rows.into_iter().unzip();
        Ok(())
    }

    /// Takes the records that came after the one in `slot` out of the batch.
    fn put_off(&self, table: &TableView<'_>, drained: &mut Drained, prefix: u64, slot: u32) {
        let of_slot = |m: &&Mark| m.record.slot == slot;
        let Some(version) = drained.marks.iter().find(of_slot).map(|m| m.version) else { return };
        let later = |m: &Mark| m.record.prefix == prefix && m.version > version;
        let (off, stay): (Vec<Mark>, Vec<Mark>) =
            std::mem::take(&mut drained.marks).into_iter().partition(later);
        drained.marks = stay;
        for mark in off {
            for row in drained.rows.get_mut(mark.rows.0..mark.rows.1).unwrap_or_default() {
                row.key.clear(); // no key is empty
            }
            self.space().flag(table, mark.record.slot);
        }
    }

    /// Takes what the slot has into the batch, or notes that it is damaged.
    fn collect_slot(
        &self,
        table: &TableView<'_>,
        slot: &SlotView<'_>,
        drained: &mut Drained,
    ) -> Result<(), Error> {
        let rows = drained.rows.len();
        let Err(error) = self.collect_sound(table, slot, drained) else { return Ok(()) };
        if planted(Fault::DamageBlocks) {
            return Err(error);
        }
        drained.rows.truncate(rows);
        let (name, index) = (&table.spec.name, slot.index);
        let say = || format!("table `{name}`, slot {index}, which is not stored: {error}");
        drained.damage.get_or_insert_with(say);
        Ok(())
    }

    fn collect_sound(
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
        // What is not there is another's by now, or damaged.
        let gone = |what| match Word::load(slot.word, Ordering::Acquire) {
            now if now == word => Err(table.corrupt(what, 0, slot.index.into())),
            _ => Ok(()),
        };
        let Some((key, prefix)) = slot.key(generation) else { return gone("the key of a slot") };
        if prefix != hash::record_prefix(&table.spec.name, &key) {
            return gone("the key of a slot");
        }
        let record = RecordRef { slot: slot.index, generation, prefix };
        let mut seen = Snapshot::default();
        if snapshot(table, slot, generation, self.lane_count(), &mut seen)? == Found::Gone {
            return gone("the head of a slot");
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
        drained.rows.iter().skip(first).try_for_each(|row| sound(table, prefix, row))?;
        if deleted {
            crate::insert::raise_floor(table, version)?;
        }
        let rows = (first, drained.rows.len());
        // A head has the lower bits of a version alone. A wrong one above them shows in the hash of the cell that the store
        // has; with latest history that cell is another's by now.
        let high = version > TAG_MASK;
        let known = match version.checked_sub(head.versions_since(persisted)) {
            Some(_) if high && !table.is_full_history() => Base::Unknown,
            Some(base) if high && persisted.cell() != NO_CELL => {
                self.check_stored(table, prefix, persisted, base)?;
                Base::Stored(base)
            }
            Some(base) if persisted.cell() != NO_CELL => Base::Stored(base),
            Some(base) => Base::After(base),
            None => Base::Unknown,
        };
        // Only rows that are sound get here.
        drained.known.resize(rows.1, known);
        // With the first version after a floor of 0 no record of the table was deleted before it.
        let succeeds = persisted.cell() == NO_CELL && persisted.tag() != 0;
        drained.marks.push(Mark { record, head, version, rows, succeeds, chain, deleted });
        Ok(())
    }

    /// Fails when the cell that the store has, of version `base`, is not what its writer wrote.
    fn check_stored(
        &self,
        table: &TableView<'_>,
        prefix: u64,
        persisted: Head,
        base: u64,
    ) -> Result<(), Error> {
        let mut seen = Snapshot::default();
        let whole = seen.copy(table, &table.cell(persisted.cell())?, self.lane_count(), ALL);
        let hash = hash::state_hash(prefix, base, &seen.payload);
        let sound = whole && seen.version == base && seen.hash == hash;
        if sound { Ok(()) } else { Err(table.corrupt("the version of a cell", 0, base)) }
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
                let whole = seen.copy(table, &cell, self.lane_count(), ALL);
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
            // A damaged bucket stays one; who looks through all slots comes to it again.
            if this.as_ref().is_err_and(|e| !e.is_damage()) {
                self.space().flag(&view, mark.record.slot);
            }
            ended = ended.and(this);
        }
        self.space().signal_room(&view)?;
        self.space().whole(ended)
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

/// The words of flags from that of slot `first` on, round about: each with its first slot, and with those of its bits whose
/// turn it is. The first word's lower bits come last.
fn from(words: &[AtomicU64], first: u32) -> impl Iterator<Item = (&AtomicU64, u32, u64)> {
    let (start, high) = (first as usize / 64, u64::MAX << (first % 64));
    let at = move |(turn, index): (usize, usize)| {
        let mask = match turn {
            0 => high,
            last if last == words.len() => !high,
            _ => u64::MAX,
        };
        words.get(index).map(|word| (word, index as u32 * 64, mask))
    };
    let round = (0..words.len()).cycle().skip(start).take(words.len() + 1);
    round.enumerate().filter_map(at)
}

/// Whether a version is what its writer wrote, and can be stored.
fn sound(table: &TableView<'_>, prefix: u64, row: &Row) -> Result<(), Error> {
    if hash::state_hash(prefix, row.version, &row.payload) != row.hash {
        return Err(table.corrupt("the state hash of a version", 0, row.hash));
    }
    if row.deleted != row.payload.is_empty() {
        return Err(table.corrupt("the length of a version", 0, row.payload.len() as u64));
    }
    let beyond = row.version.max(row.sequence) > i64::MAX as u64;
    if beyond { Err(table.corrupt("the sequence of a version", 0, row.sequence)) } else { Ok(()) }
}

/// Flagged slots whose record is deleted, each with the hash prefix of its key.
fn flagged_deletions(table: &TableView<'_>) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    let words = table.words.get(table.layout.dirty.clone()).unwrap_or_default();
    for (base, word) in (0_u32..).step_by(64).zip(words) {
        let mut bits = word.load(Ordering::SeqCst);
        while bits != 0 {
            let index = base + bits.trailing_zeros();
            bits &= bits - 1;
            found.extend(deleted_prefix(table, index).map(|prefix| (index, prefix)));
        }
    }
    found
}

/// The hash prefix of the key in slot `index`, if its record is deleted.
fn deleted_prefix(table: &TableView<'_>, index: u32) -> Option<u64> {
    let slot = table.slot(index).ok()?;
    let word = Word::load(slot.word, Ordering::Acquire);
    let deleted = || {
        let cell = table.cell(Head::load(slot.head, Ordering::Acquire).cell()).ok()?;
        Some(crate::table::Place::from_bits(cell.place.load(Ordering::Relaxed)).deleted())
    };
    let gone = match word.phase() {
        Phase::Retired => true,
        Phase::Published => deleted()?,
        Phase::Free | Phase::Owned => false,
    };
    if gone { slot.key(word.generation()).map(|(_, prefix)| prefix) } else { None }
}

/// Clears the flag of a slot that is then collected.
fn unflag(table: &TableView<'_>, index: u32) {
    let words = table.words.get(table.layout.dirty.clone()).unwrap_or_default();
    if let Some(word) = words.get(index as usize / 64) {
        word.fetch_and(!(1 << (index % 64)), Ordering::SeqCst);
        fence(Ordering::SeqCst);
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
