//! The atomic update: compute the next version from the current one and publish it with one
//! compare-exchange, or do it again on the version that was first.
//!
//! Steps (numbers as in the design): (1, 2) copy the current version (read.rs); (3) compute the next
//! payload in the closure; (4) take a free cell; (5) write the next version into it and note the slot;
//! (6) exchange the head; **won = committed**; (7) mark the cell Published; (8) flag the slot for the
//! steward and wake who waits; (9) with latest history take the displaced cell for the next update, with
//! full history leave it: the chain of previous cells down to the persisted one is the journal.
//!
//! There is nothing to unlock. **Crash**, by the step after which the participant dies: up to 5 the old
//! version stands and the cell is Owned by a dead one; from 6 on the new version stands, and what was not
//! done is done by others: 7 and 9 by the sweep, 8 by whoever reaps the dead's entry (the noted slot).
//!
//! Nothing is stored blindly after the exchange: 7 and 9 are compare-exchanges against the very word seen,
//! so a participant that was stopped for an hour between 6 and 7 harms nobody when it goes on.

use commonhold_os::clock::wall_micros;
use commonhold_segment::sync::{Fault, Ordering, fence, planted};
use crossbeam_utils::Backoff;

use crate::clock::Clock;
use crate::error::{Error, UpdateError};
use crate::fence::Fence;
use crate::handle::{Handle, Scratch};
use crate::hash;
use crate::head::Head;
use crate::participant::bump;
use crate::pool::{Owned, signal};
use crate::read::{ALL, Found, Snapshot};
use crate::row::WriterId;
use crate::table::{Place, RecordRef, SlotView, TableControl, TableView, store_bytes};
use crate::word::{Phase, Word};

/// A commit: one version of one record, in memory for all to see.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    /// The table's position in the catalogue.
    pub table: usize,
    /// The record.
    pub record: RecordRef,
    /// The version this commit made.
    pub version: u64,
    /// Its state hash.
    pub hash: u64,
    /// Its vector clock.
    pub clock: Clock,
    /// Who made it.
    pub writer: WriterId,
    /// The writer's sequence in this table.
    pub sequence: u64,
}

/// What is written into a cell beside the payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft {
    pub(crate) record: RecordRef,
    pub(crate) version: u64,
    pub(crate) previous: Head,
    pub(crate) deleted: bool,
    pub(crate) time: i64,
    pub(crate) fence: Fence,
}

/// What a commit is to be, beside its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) record: RecordRef,
    /// Whether it is the record's last.
    pub(crate) delete: bool,
    /// The guard it is made under.
    pub(crate) fence: Fence,
    pub(crate) way: Way,
}

/// How an update may be made cheaper, by who knows more about its records than their schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// From how many bytes of the current payload the next one is made, at most: only those are copied.
    pub front: usize,
    /// Nobody waits for what it makes: who waits for the record is woken by the update after it, or looks by himself
    /// within 100 ms.
    pub quiet: bool,
}

impl Default for Way {
    fn default() -> Self {
        Self { front: ALL, quiet: false }
    }
}

impl Terms {
    /// An update without a guard.
    #[inline]
    pub(crate) fn update(record: RecordRef) -> Self {
        Self { record, delete: false, fence: Fence::NONE, way: Way::default() }
    }
}

/// A slot as an entry notes it: never 0, which notes nothing.
pub(crate) fn note(table: &TableView<'_>, record: RecordRef) -> u64 {
    ((table.position as u64) << 32 | u64::from(record.slot)) + 1
}

impl Handle {
    /// Updates `record`: `compute` gets the current payload and appends the next one. It may run several
    /// times and must be pure. `None` when the record is gone: look its key up again.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with what `compute` returned, [`UpdateError::Failed`] when there is no free
    /// cell or the segment is damaged. Nothing was changed then.
    #[inline]
    pub fn update_at<E>(
        &self,
        table: usize,
        record: RecordRef,
        mut compute: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Option<Committed>, UpdateError<E>> {
        let terms = Terms::update(record);
        self.exchange(table, terms, |current, next| compute(&current.payload, next))
    }

    /// Like [`Handle::update_at`], the way that is asked for.
    ///
    /// # Errors
    /// As [`Handle::update_at`].
    #[inline]
    pub fn update_way_at<E>(
        &self,
        table: usize,
        record: RecordRef,
        way: Way,
        mut compute: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Option<Committed>, UpdateError<E>> {
        let terms = Terms { way, ..Terms::update(record) };
        self.exchange(table, terms, |current, next| compute(&current.payload, next))
    }

    /// Like [`Handle::update_at`], for closures that look at the version too.
    ///
    /// # Errors
    /// As [`Handle::update_at`].
    pub fn update_seen<E>(
        &self,
        table: usize,
        record: RecordRef,
        compute: impl FnMut(&Snapshot, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Option<Committed>, UpdateError<E>> {
        self.exchange(table, Terms::update(record), compute)
    }

    /// The loop of steps 1 to 9. A commit that the record's fence does not let pass is an error.
    #[inline]
    pub(crate) fn exchange<E>(
        &self,
        table: usize,
        terms: Terms,
        mut compute: impl FnMut(&Snapshot, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Option<Committed>, UpdateError<E>> {
        let record = terms.record;
        let view = self.space().table(table)?;
        let slot = view.slot(record.slot)?;
        let time = wall_micros();
        let backoff = Backoff::new();
        let mut scratch = self.take_scratch();
        let made = loop {
            match self.look_front(&view, record, terms.way.front, &mut scratch.seen) {
                Ok(Found::Version) if !scratch.seen.deleted => {}
                Ok(_) => {
                    break self.space().check_whole().map(|()| None).map_err(UpdateError::Failed);
                }
                Err(e) => break Err(self.space().check_whole().err().unwrap_or(e).into()),
            }
            let found = scratch.seen.fence;
            if !terms.fence.may_displace(found) {
                break Err(self.space().refused_by_fence(table, terms.fence, found).into());
            }
            scratch.next.clear();
            if let Err(refused) = compute(&scratch.seen, &mut scratch.next) {
                break Err(UpdateError::Refused(refused));
            }
            match self.attempt(&view, &slot, terms, time, &scratch) {
                Ok(Some(hash)) => {
                    let version = scratch.seen.version.wrapping_add(1);
                    break Ok(Some((version, hash)));
                }
                Ok(None) => backoff.spin(),
                Err(e) => break Err(e.into()),
            }
        };
        self.put_scratch(scratch);
        // The commit is large: made here, where it is returned, it is not moved.
        match made {
            Ok(Some((version, hash))) => Ok(Some(self.committed(table, record, version, hash))),
            Ok(None) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Steps 4 to 9: the state hash of the version that was committed, or `None` when another was first.
    #[inline]
    fn attempt(
        &self,
        table: &TableView<'_>,
        slot: &SlotView<'_>,
        terms: Terms,
        time: i64,
        scratch: &Scratch,
    ) -> Result<Option<u64>, Error> {
        self.check_fork()?;
        let Terms { record, delete: deleted, fence, way } = terms;
        let seen = &scratch.seen;
        let version = seen.version.wrapping_add(1);
        let owned = self.spare(table)?;
        // The hash is most of an attempt: not for one that is lost already.
        if Head::load(slot.head, Ordering::Relaxed).position() != seen.head.position() {
            bump(self.entry()?.lost);
            return Ok(None);
        }
        let previous = seen.head.position();
        let draft = Draft { record, version, previous, deleted, time, fence };
        let hash = self.write(table, owned, &draft, &scratch.next)?;
        let entry = self.entry()?;
        if !planted(Fault::NoNote) {
            entry.noted.store(note(table, record), Ordering::Relaxed);
        }
        let next = Head::new(owned.index, version);
        let won = if way.quiet {
            seen.head.displace_quietly(slot.head, next)
        } else {
            seen.head.displace(slot.head, next)
        };
        if !won {
            bump(entry.lost);
            return Ok(None);
        }
        self.keep_spare(table, None);
        self.count_commit(table.position, &entry);
        let cell = table.cell(owned.index)?;
        if planted(Fault::BlindPublish) {
            cell.word.store(owned.word.published().bits(), Ordering::Release);
        }
        owned.word.exchange(cell.word, owned.word.published());
        self.space().flag(table, slot.index);
        signal(table.control(TableControl::Watch)?);
        if !table.is_full_history() {
            self.take_displaced(table, seen)?;
        }
        // A commit into a page that is gone is none.
        self.space().check_whole()?;
        Ok(Some(hash))
    }

    /// A commit that this handle just made and counted.
    #[inline]
    pub(crate) fn committed(
        &self,
        table: usize,
        record: RecordRef,
        version: u64,
        hash: u64,
    ) -> Committed {
        let (clock, writer) = (Clock::of(self.seen()), self.writer());
        Committed { table, record, version, hash, clock, writer, sequence: self.sequence(table) }
    }

    /// Step 5: everything behind the cell's word; the state hash.
    #[inline]
    pub(crate) fn write(
        &self,
        table: &TableView<'_>,
        owned: Owned,
        draft: &Draft,
        payload: &[u8],
    ) -> Result<u64, Error> {
        let limit = table.layout.geometry.payload_bytes as usize;
        if payload.len() > limit {
            return Err(table.corrupt("a payload's length", 0, payload.len() as u64));
        }
        self.reserve_tick()?;
        let cell = table.cell(owned.index)?;
        let hash = hash::state_hash(draft.record.prefix, draft.version, payload);
        let sequence = self.next_sequence(table.position);
        // The generation bump of the claim comes before every word behind it, for whoever sees one of them.
        if !planted(Fault::NoWriteFence) {
            fence(Ordering::Release);
        }
        let place = Place::new(draft.record.slot, draft.deleted, payload.len());
        cell.place.store(place.bits(), Ordering::Relaxed);
        cell.slot_generation.store(draft.record.generation, Ordering::Relaxed);
        cell.version.store(draft.version, Ordering::Relaxed);
        cell.previous.store(draft.previous.bits(), Ordering::Relaxed);
        cell.hash.store(hash, Ordering::Relaxed);
        cell.writer.store(self.writer().to_bits(), Ordering::Relaxed);
        cell.sequence.store(sequence, Ordering::Relaxed);
        cell.time.store(draft.time.cast_unsigned(), Ordering::Relaxed);
        cell.fence.store(draft.fence.bits(), Ordering::Relaxed);
        let (lanes, rest) = cell.rest.split_at(self.lane_count().min(cell.rest.len()));
        for (lane, (to, seen)) in lanes.iter().zip(self.seen()).enumerate() {
            let tick = u64::from(lane == self.lane());
            to.store(seen.get().saturating_add(tick), Ordering::Relaxed);
        }
        store_bytes(rest, payload);
        Ok(hash)
    }

    /// Step 9: the displaced cell, still at the generation that was read, becomes this handle's spare.
    #[inline]
    fn take_displaced(&self, table: &TableView<'_>, seen: &Snapshot) -> Result<(), Error> {
        let index = seen.head.cell();
        let cell = table.cell(index)?;
        loop {
            let now = Word::load(cell.word, Ordering::Relaxed);
            if now.generation() != seen.cell.generation() || now.phase() == Phase::Free {
                return Ok(()); // the sweep was first
            }
            let mut word = now.claimed_by(self.entry_index());
            if planted(Fault::NoBump) {
                word = word.back();
            }
            if now.exchange(cell.word, word) {
                self.keep_spare(table, Some(Owned { index, word }));
                return Ok(());
            }
        }
    }
}
