//! The index: key → slot, a hash table whose buckets are heads and whose entries stand in immutable cells.
//!
//! **State**: a bucket is a head word (head.rs, never waited on). Its cell holds up to six entries and
//! names the next cell of the bucket; a change writes the whole bucket anew, into as many cells as it
//! takes, and exchanges the head. So a table of N slots takes *any* N keys, whatever they hash to.
//!
//! ```text
//! cell    word · bucket and count of entries · next cell · (reserved) · 6 × (slot and tag, slot generation)
//! entry   bits 0..24 slot · bits 24..64 tag of the key's hash
//! ```
//!
//! **Reading**: copy the cells, acquire fence, look at the head again: while it stands where it stood, none
//! of its cells was given away (they are freed only after the head was displaced).
//!
//! **Crash**: cells Owned by the dead are Published when a head leads to them and freed otherwise; displaced
//! cells that were not freed are Published and led to by no head: the sweep frees them.

use commonhold_segment::sync::{Fault, Ordering, fence, planted};

use crate::error::Error;
use crate::handle::Handle;
use crate::hash;
use crate::head::{Head, NO_CELL};
use crate::pool::{Kind, Owned};
use crate::table::{RecordRef, TableView};
use crate::word::{Phase, Word};

/// Entries of one cell.
pub(crate) const ENTRIES: usize = 6;

/// One entry of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) slot: u32,
    pub(crate) tag: u64,
    pub(crate) generation: u64,
}

impl IndexEntry {
    /// Whether it names the slot in that generation.
    pub(crate) fn names(&self, slot: u32, generation: u64) -> bool {
        self.slot == slot && self.generation == generation
    }
}

/// A consistent copy of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) index: u32,
    pub(crate) head: Head,
    pub(crate) entries: Vec<IndexEntry>,
    cells: Vec<(u32, u64)>,
}

/// Where a key belongs: its bucket and its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: u32,
    pub(crate) tag: u64,
}

impl TableView<'_> {
    /// Where `key` belongs.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        let hash = hash::fnv1a_64(key.as_bytes());
        // FNV-1a's low bits are its best; the tag takes the others, the bucket both halves folded.
        let bucket = (hash ^ hash >> 32) as u32 & (self.layout.geometry.buckets.max(1) - 1);
        Place { bucket, tag: hash >> 24 }
    }

    /// Copies bucket `index`.
    pub(crate) fn read_bucket(&self, index: u32) -> Result<Bucket, Error> {
        let word = self.bucket(index)?;
        let mut entries = Vec::new();
        let mut cells = Vec::new();
        loop {
            let head = Head::load(word, Ordering::Acquire);
            entries.clear();
            cells.clear();
            let walked = self.walk(head, |cell, generation, entry| {
                if cells.last() != Some(&(cell, generation)) {
                    cells.push((cell, generation));
                }
                entries.extend(entry);
                true
            });
            fence(Ordering::Acquire);
            if Head::load(word, Ordering::Relaxed) == head {
                walked?;
                return Ok(Bucket { index, head, entries, cells });
            }
        }
    }

    /// Visits the cells and entries of a bucket from `head` on until `visit` says false; an empty cell is
    /// visited once without an entry. What is visited is garbage if the head moved meanwhile.
    fn walk(
        &self,
        head: Head,
        mut visit: impl FnMut(u32, u64, Option<IndexEntry>) -> bool,
    ) -> Result<(), Error> {
        let mut at = head.cell();
        let mut steps = 0;
        while at != NO_CELL {
            let [word, count, next, _, rest @ ..] = self.index_cell(at)?;
            let generation = Word::load(word, Ordering::Acquire).generation();
            let count = count.load(Ordering::Relaxed) >> 32;
            steps += 1;
            let endless = steps > self.layout.geometry.index_cells && !planted(Fault::NoChainLimit);
            if count > ENTRIES as u64 || endless {
                return Err(self.corrupt("a bucket of the index", 0, at.into()));
            }
            let mut go_on = visit(at, generation, None);
            for [place, slot_generation] in rest.as_chunks().0.iter().take(count as usize) {
                let place = place.load(Ordering::Relaxed);
                let (slot, tag) = ((place & 0xff_ffff) as u32, place >> 24);
                let generation_of_slot = slot_generation.load(Ordering::Relaxed);
                let entry = IndexEntry { slot, tag, generation: generation_of_slot };
                go_on = go_on && visit(at, generation, Some(entry));
            }
            if !go_on {
                break;
            }
            at = (next.load(Ordering::Relaxed) & u64::from(NO_CELL)) as u32;
        }
        Ok(())
    }

    /// Finds `key`: the slot that the index names for it. Writes nothing.
    pub(crate) fn locate_only(&self, key: &str) -> Result<Option<RecordRef>, Error> {
        Ok(self.search(key)?.map(|(record, _)| record))
    }

    /// Finds `key`, and the word of its slot.
    fn search(&self, key: &str) -> Result<Option<(RecordRef, Word)>, Error> {
        let place = self.place_of(key);
        let word = self.bucket(place.bucket)?;
        loop {
            let head = Head::load(word, Ordering::Acquire);
            let mut found = None;
            let walked = self.walk(head, |_, _, entry| {
                if let Some(IndexEntry { slot: index, tag, generation }) = entry
                    && tag == place.tag
                    && let Ok(slot) = self.slot(index)
                    && let Some((prefix, slot_word)) = slot.holds(generation, key)
                {
                    found = Some((RecordRef { slot: index, generation, prefix }, slot_word));
                }
                found.is_none()
            });
            fence(Ordering::Acquire);
            if Head::load(word, Ordering::Relaxed) == head {
                return walked.map(|()| found);
            }
        }
    }

    /// Finds `key`; true when it was helped to become live.
    ///
    /// A record that an insert has committed (the bucket names it) but not yet marked live is marked live
    /// here, so that the steward sees it even if its creator never comes back.
    pub(crate) fn locate(&self, key: &str) -> Result<Option<(RecordRef, bool)>, Error> {
        let Some((record, word)) = self.search(key)? else { return Ok(None) };
        let helped = word.phase() == Phase::Owned
            && word.exchange(self.slot(record.slot)?.word, word.published());
        Ok(Some((record, helped)))
    }

    /// Whether a head of the index leads to `cell`, which says that it belongs to `bucket`.
    pub(crate) fn index_leads_to(&self, bucket: u32, cell: u32) -> Result<bool, Error> {
        let word = self.bucket(bucket)?;
        loop {
            let head = Head::load(word, Ordering::Acquire);
            let mut found = false;
            let walked = self.walk(head, |at, _, _| {
                found = at == cell;
                !found
            });
            fence(Ordering::Acquire);
            if Head::load(word, Ordering::Relaxed) == head {
                return walked.map(|()| found);
            }
        }
    }

    /// The bucket that an index cell says it belongs to; garbage while it is being written.
    pub(crate) fn bucket_of_cell(&self, cell: u32) -> Result<u32, Error> {
        let [_, bucket, ..] = self.index_cell(cell)?;
        Ok(bucket.load(Ordering::Relaxed) as u32)
    }
}

impl Handle {
    /// Finds `key`.
    ///
    /// # Errors
    /// [`Error::BadKey`], [`Error::Corrupt`].
    pub fn locate(&self, table: usize, key: &str) -> Result<Option<RecordRef>, Error> {
        let view = self.space().table(table)?;
        view.check_key(key)?;
        let found = match view.locate(key) {
            // Whoever then works on it asks whether the segment is whole.
            Ok(Some(found)) => Some(found),
            missing => self.space().whole(missing)?,
        };
        if let Some((record, true)) = found {
            self.space().flag(&view, record.slot);
        }
        Ok(found.map(|(record, _)| record))
    }

    /// Exchanges a bucket, as it was read, for one with `entries`; false when somebody was first. The cells
    /// of the loser, or those displaced, are freed.
    pub(crate) fn exchange_bucket(
        &self,
        table: &TableView<'_>,
        bucket: &Bucket,
        entries: &[IndexEntry],
    ) -> Result<bool, Error> {
        // Before the claim: the cells would be the parent's otherwise.
        self.check_fork()?;
        let count = entries.len().div_ceil(ENTRIES);
        let cells = self.claim_many(table, Kind::IndexCells, count)?;
        let first = write_bucket(table, bucket.index, &cells, entries)?;
        let next = Head::new(first, bucket.head.tag() + 1);
        if !bucket.head.displace(table.bucket(bucket.index)?, next) {
            self.give_back(table, Kind::IndexCells, &cells);
            return Ok(false);
        }
        for owned in &cells {
            let [word, ..] = table.index_cell(owned.index)?;
            owned.word.exchange(word, owned.word.published());
        }
        for (cell, generation) in &bucket.cells {
            table.pool(Kind::IndexCells).free_generation(*cell, *generation);
        }
        self.space().signal_room(table)?;
        Ok(true)
    }
}

/// Writes `entries` into `cells`, each naming the next; the first cell, or none.
fn write_bucket(
    table: &TableView<'_>,
    bucket: u32,
    cells: &[Owned],
    entries: &[IndexEntry],
) -> Result<u32, Error> {
    fence(Ordering::Release);
    let mut next = NO_CELL;
    for (owned, chunk) in cells.iter().zip(entries.chunks(ENTRIES)).rev() {
        let [_, count, link, _, rest @ ..] = table.index_cell(owned.index)?;
        count.store((chunk.len() as u64) << 32 | u64::from(bucket), Ordering::Relaxed);
        link.store(next.into(), Ordering::Relaxed);
        for ([place, generation], entry) in rest.as_chunks().0.iter().zip(chunk) {
            place.store(entry.tag << 24 | u64::from(entry.slot), Ordering::Relaxed);
            generation.store(entry.generation, Ordering::Relaxed);
        }
        next = owned.index;
    }
    Ok(next)
}
