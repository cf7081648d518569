//! Reading one version of a record: a consistent copy without a lock.
//!
//! 1. `h = head`; `g = generation(cell(h))`; look at head again: another position → start over. (So `g` is
//!    the generation under which the cell was published as `h`: a recycled cell cannot pass for it.)
//! 2. Copy the cell. Acquire fence. Its generation is no longer `g` → start over. The cell's slot generation
//!    is not the one expected → the record is gone. Else the copy is a consistent state of this record.
//!
//! **Orderings**: the load of `head` acquires what its displacer released, so the cell's content and
//! generation are at least those he published. Whoever recycles the cell bumps the generation, then fences
//! (release), then writes: if the copy holds one of his words, the fence here (acquire) makes his bump
//! visible to the last look.
//!
//! 3. A consistent copy that is another slot's or another version's than the head says: the segment is damaged.
//!
//! A reader is never waited for and writes nothing.

use commonhold_segment::sync::{Fault, Ordering, fence, planted};

use crate::error::Error;
use crate::fence::Fence;
use crate::handle::Handle;
use crate::head::{Head, NO_CELL};
use crate::row::{Row, WriterId};
use crate::table::{CellView, Place, RecordRef, SlotView, TableView, load_bytes};
use crate::word::Word;

/// All bytes of a payload.
pub(crate) const ALL: usize = usize::MAX;

/// A consistent copy of one version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) head: Head,
    pub(crate) cell: Word,
    pub(crate) previous: Head,
    slot: u32,
    pub(crate) slot_generation: u64,
    /// The version.
    pub version: u64,
    /// The state hash.
    pub hash: u64,
    /// Who committed it.
    pub writer: WriterId,
    /// The writer's sequence in this table.
    pub sequence: u64,
    /// When, in microseconds since 1970-01-01 UTC (a coarse clock).
    pub committed_at: i64,
    /// The guard it was committed under.
    pub fence: Fence,
    /// Whether this version is the record's deletion.
    pub deleted: bool,
    /// The clock's lanes.
    pub clock: Vec<u64>,
    /// The payload in the canonical encoding; its beginning, where no more was asked for.
    pub payload: Vec<u8>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            head: Head::new(NO_CELL, 0),
            cell: Word::from_bits(0),
            previous: Head::new(NO_CELL, 0),
            slot: 0,
            slot_generation: 0,
            version: 0,
            hash: 0,
            writer: WriterId::default(),
            sequence: 0,
            committed_at: 0,
            fence: Fence::NONE,
            deleted: false,
            clock: Vec::new(),
            payload: Vec::new(),
        }
    }
}

/// What a slot holds for the generation asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Found {
    /// A version; it may be the deletion.
    Version,
    /// Another record by now.
    Gone,
}

impl Snapshot {
    /// Copies everything behind a cell's word, of the payload at most `front` bytes. May be torn until the word is looked at again. False when
    /// the length is beyond the cell.
    #[inline]
    pub(crate) fn copy(
        &mut self,
        table: &TableView<'_>,
        cell: &CellView<'_>,
        lanes: usize,
        front: usize,
    ) -> bool {
        let place = Place::from_bits(cell.place.load(Ordering::Relaxed));
        self.slot = place.slot();
        self.slot_generation = cell.slot_generation.load(Ordering::Relaxed);
        self.version = cell.version.load(Ordering::Relaxed);
        self.previous = Head::from_bits(cell.previous.load(Ordering::Relaxed));
        self.hash = cell.hash.load(Ordering::Relaxed);
        self.writer = WriterId::from_bits(cell.writer.load(Ordering::Relaxed));
        self.sequence = cell.sequence.load(Ordering::Relaxed);
        self.committed_at = cell.time.load(Ordering::Relaxed).cast_signed();
        self.fence = Fence::from_bits(cell.fence.load(Ordering::Relaxed));
        self.deleted = place.deleted();
        let (clock, payload) = cell.rest.split_at(lanes.min(cell.rest.len()));
        self.clock.resize(clock.len(), 0);
        for (to, from) in self.clock.iter_mut().zip(clock) {
            *to = from.load(Ordering::Relaxed);
        }
        let fits = place.length() <= table.layout.geometry.payload_bytes as usize;
        let length = if fits { place.length().min(front) } else { 0 };
        load_bytes(payload, length, &mut self.payload);
        fits
    }

    /// The row of this version.
    #[must_use]
    pub fn to_row(&self, key: &str) -> Row {
        Row {
            key: key.to_owned(),
            payload: self.payload.clone(),
            version: self.version,
            hash: self.hash,
            clock: self.clock.clone(),
            writer: self.writer,
            sequence: self.sequence,
            committed_at: self.committed_at,
            deleted: self.deleted,
        }
    }
}

/// Copies the current version of the record that `slot` holds in `generation` into `out`.
#[inline]
pub(crate) fn snapshot(
    table: &TableView<'_>,
    slot: &SlotView<'_>,
    generation: u64,
    lanes: usize,
    out: &mut Snapshot,
) -> Result<Found, Error> {
    snapshot_front(table, slot, generation, lanes, ALL, out)
}

/// The same, with at most `front` bytes of the payload.
#[inline]
fn snapshot_front(
    table: &TableView<'_>,
    slot: &SlotView<'_>,
    generation: u64,
    lanes: usize,
    front: usize,
    out: &mut Snapshot,
) -> Result<Found, Error> {
    loop {
        let head = Head::load(slot.head, Ordering::Acquire);
        if head.cell() == NO_CELL {
            return Ok(Found::Gone);
        }
        let cell = match table.cell(head.cell()) {
            Ok(cell) => cell,
            Err(e) if Head::load(slot.head, Ordering::Acquire) == head => return Err(e),
            Err(_) => continue,
        };
        let before = Word::load(cell.word, Ordering::Acquire);
        let again = Head::load(slot.head, Ordering::Acquire);
        if again.position() != head.position() && !planted(Fault::NoSecondLook) {
            continue;
        }
        let fits = out.copy(table, &cell, lanes, front);
        if !planted(Fault::NoReadFence) {
            fence(Ordering::Acquire);
        }
        let after = Word::load(cell.word, Ordering::Relaxed);
        if after.generation() != before.generation() && !planted(Fault::NoGenerationCheck) {
            continue;
        }
        if out.slot_generation != generation && !planted(Fault::NoSlotGeneration) {
            return Ok(Found::Gone);
        }
        if !fits {
            let found = cell.place.load(Ordering::Relaxed);
            return Err(table.corrupt("a payload's length", 0, found));
        }
        if out.slot != slot.index || !head.is_version(out.version) {
            return Err(table.corrupt("the head of a slot", 0, head.bits()));
        }
        out.head = head;
        out.cell = before;
        return Ok(Found::Version);
    }
}

impl Handle {
    #[inline]
    pub(crate) fn lane_count(&self) -> usize {
        self.seen().len()
    }

    /// Copies the current version of `record` and takes its clock into what this handle has seen. The caller asks
    /// whether the segment is whole before he answers.
    #[inline]
    pub(crate) fn look(
        &self,
        table: &TableView<'_>,
        record: RecordRef,
        out: &mut Snapshot,
    ) -> Result<Found, Error> {
        self.look_front(table, record, ALL, out)
    }

    /// The same, with at most `front` bytes of the payload.
    #[inline]
    pub(crate) fn look_front(
        &self,
        table: &TableView<'_>,
        record: RecordRef,
        front: usize,
        out: &mut Snapshot,
    ) -> Result<Found, Error> {
        let slot = table.slot(record.slot)?;
        let lanes = self.lane_count();
        let found = snapshot_front(table, &slot, record.generation, lanes, front, out)?;
        if found == Found::Version {
            for (seen, read) in self.seen().iter().zip(&out.clock) {
                seen.set(seen.get().max(*read));
            }
        }
        Ok(found)
    }

    /// Reads the current version of `record` through `use_it`; `None` when the record is gone.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    #[inline]
    pub fn read_at<T>(
        &self,
        table: usize,
        record: RecordRef,
        use_it: impl FnOnce(&Snapshot) -> T,
    ) -> Result<Option<T>, Error> {
        self.read_front_at(table, record, ALL, use_it)
    }

    /// Like [`Handle::read_at`], for who needs no more than the first `front` bytes of the payload: only those are copied.
    ///
    /// # Errors
    /// As [`Handle::read_at`].
    #[inline]
    pub fn read_front_at<T>(
        &self,
        table: usize,
        record: RecordRef,
        front: usize,
        use_it: impl FnOnce(&Snapshot) -> T,
    ) -> Result<Option<T>, Error> {
        let view = self.space().table(table)?;
        let mut scratch = self.take_scratch();
        let found = self.space().whole(self.look_front(&view, record, front, &mut scratch.seen));
        let used = match found {
            Ok(Found::Version) if !scratch.seen.deleted => Ok(Some(use_it(&scratch.seen))),
            Ok(_) => Ok(None),
            Err(e) => Err(e),
        };
        self.put_scratch(scratch);
        used
    }
}
