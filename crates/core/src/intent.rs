//! Changes of several records under a guard: decided at one instant, finished by whoever holds the guard next.
//!
//! **State**: the guard's second hot line has the head (head.rs) of its *intent*: the first of a chain of intent cells
//! that hold the whole planned change, or none. A cell: ownership word (word.rs), next cell plus one, bytes, the bytes.
//!
//! **Transitions**, by the holder: (1) look at records under the guard; each becomes the guard's (its fence says so)
//! before it is believed; (2) plan their next states; (3) claim cells and write the plan; (4) exchange the guard's head
//! of intents from none to the plan: **the change is decided**; (5) commit each record, each conditional on the very
//! version that was looked at; (6) exchange the head back to none; (7) free the cells.
//! By a next holder, when the one before died, was fenced off or had no room: (a) move the head's tag, so that the
//! other's exchanges (4) and (6) fail from now on; (b) read the plan, if there is one; (5) to (7).
//!
//! (5) may be done twice, by two at once, and late: a version that is not the one looked at is a change that was made.
//! A key that was not there is inserted only if the guard is still held *after* the look at the index, against which
//! the insert's exchange is made; and one that is there with this or a later number was inserted already.
//!
//! **No room**: new records go in first. Is there no room for one of them, those that went in are taken out again, and
//! nothing was changed. That too is decided by an exchange of the head, which then says *undo*: who finds it so undoes and
//! never makes, who finds it not makes. Somebody who was fenced off may just be inserting: the bucket of a key that is not
//! there is exchanged for itself, so that his exchange fails. He is told that the change is unfinished. A key that another
//! guard took meanwhile counts as no room.
//!
//! **Crash**: before (4) nothing happened, and the sweep frees the cells, which no head leads to. From (4) on the
//! cells are led to, and are left alone until the next holder, or the steward, has made them his and finished the
//! change.
//!
//! A change of one record needs no intent: its commit is the decision. Only under a hold limit it has one too, because
//! there (4) is what a holder that was fenced off cannot do any more.
//!
//! **What it does not give**: the store gets the records of a change as it gets all others, maybe in two transactions;
//! after a crash of the machine, not of processes, it may have one without the other.
//!
//! **Sources**: redo logging and idempotent replay as in J. Gray and A. Reuter, "Transaction Processing" (1993), ch. 9.

mod cells;
mod make;
mod plan;

use commonhold_segment::layout::INTENT_WORDS;
use commonhold_segment::sync::{Fault, Ordering, fence, planted};

use crate::commit::Terms;
use crate::error::Error;
use crate::fence::Fence;
use crate::guard::{Grant, Patience};
use crate::handle::Handle;
use crate::head::{Head, NO_CELL};
use crate::pool::Owned;
use crate::read::Snapshot;
use crate::table::RecordRef;
use crate::word::Phase;

use make::{Stop, ended};
pub use plan::Planned;

/// The head of the intent, among the guard's second hot words.
const INTENT: usize = 0;
/// Words of a cell before its bytes.
const CELL_HEAD: usize = 3;
/// In a head's tag: the change is to be undone.
const UNDO: u64 = 1 << 38;
/// Bytes of a plan that fit in one cell.
pub const INTENT_BYTES: usize = (INTENT_WORDS - CELL_HEAD) * 8;

fn damaged(found: u64) -> Error {
    Error::Corrupt { what: "an intent", offset: 0, found }
}

impl Handle {
    /// Looks at `key` under the guard: where it stands and what it is, or none. Nobody else changes it as long as the
    /// guard is held.
    ///
    /// A key that is not there cannot be made the guard's: who does not hold the guard can still insert it. What
    /// [`Handle::commit_planned`] then puts there replaces that record's state.
    ///
    /// # Errors
    /// [`Error::Guarded`] when it is another guard's; [`Error::Fenced`] when the guard was taken from this holder.
    pub fn read_guarded(
        &self,
        grant: &Grant,
        table: usize,
        key: &str,
    ) -> Result<Option<(RecordRef, Snapshot)>, Error> {
        self.check_finished(grant)?;
        loop {
            self.check_held(grant)?;
            let Some(record) = self.locate(table, key)? else { return Ok(None) };
            let Some(seen) = self.read_at(table, record, Clone::clone)? else {
                // Deleted; its entry is just being dropped.
                std::hint::spin_loop();
                if self.is_deleted(table, record)? {
                    return Ok(None);
                }
                continue;
            };
            if is_ours(grant, seen.fence) {
                return Ok(Some((record, seen)));
            }
            // From this commit on the record is the guard's.
            let terms = Terms { fence: grant.fence(), ..Terms::update(record) };
            let stamp = |seen: &Snapshot, next: &mut Vec<u8>| -> Result<(), Stop> {
                self.check_held(grant).map_err(Stop::Failed)?;
                if is_ours(grant, seen.fence) {
                    return Err(Stop::Made);
                }
                next.extend_from_slice(&seen.payload);
                Ok(())
            };
            ended(self.exchange(table, terms, stamp))?;
        }
    }

    /// Whether `record`'s last version is its deletion, or it is gone.
    fn is_deleted(&self, table: usize, record: RecordRef) -> Result<bool, Error> {
        Ok(self.read_at(table, record, |_| ())?.is_none())
    }

    /// Makes a planned change of records that were looked at under the guard: all of it or, when it is an error other
    /// than [`Error::Unfinished`], nothing of it. `serial` is [`Grant::serial`] of before the first look.
    ///
    /// # Errors
    /// [`Error::StalePlan`] when another change was committed since; [`Error::Fenced`] when the guard was taken from
    /// this holder; [`Error::IntentFull`]; [`Error::Full`]; [`Error::Unfinished`] when an update found no room: then the
    /// next holder finishes it.
    pub fn commit_planned(
        &self,
        grant: &Grant,
        serial: u64,
        planned: &[Planned],
    ) -> Result<(), Error> {
        if planned.is_empty() {
            return Ok(());
        }
        self.check_finished(grant)?;
        if grant.serial.get() != serial {
            let guard = self.space().guard_name(grant.guard.index);
            return Err(Error::StalePlan { guard });
        }
        grant.serial.set(serial + 1);
        let alone = planned.len() == 1 && !grant.guard.has_hold_limit();
        if alone || planted(Fault::NoIntent) {
            self.check_held(grant)?;
            self.make_new_ones(grant, grant.fence(), planned)?;
            return self.make_others(grant, grant.fence(), planned);
        }
        // Whatever happens from here on, who gets the guard next looks.
        grant.unfinished.set(true);
        let published = self.publish_intent(grant, planned);
        grant.unfinished.set(published.is_ok());
        let (mut head, cells) = published?;
        let unfinished = |e: Error| self.unfinished(grant, &e.to_string());
        let made = self.make_new_ones(grant, grant.fence(), planned);
        let undone = match made {
            Ok(()) => None,
            Err(e) if is_no_room(&e) => {
                head = self.decide_undo(grant, head).map_err(unfinished)?;
                Some(e)
            }
            Err(e) => return Err(unfinished(e)),
        };
        let ended = match undone {
            None => self.make_others(grant, grant.fence(), planned),
            Some(_) => self.unmake_new_ones(grant, grant.fence(), planned),
        };
        match ended {
            Ok(()) => self.clear_intent(grant, head, &cells)?,
            // It is decided, and cannot fail any more: who took the guard finishes it.
            Err(Error::Fenced { .. }) => return undone.map_or(Ok(()), Err),
            Err(e) => return Err(unfinished(e)),
        }
        grant.unfinished.set(false);
        undone.map_or(Ok(()), Err)
    }

    /// Whether everything that was decided under the guard is made.
    fn check_finished(&self, grant: &Grant) -> Result<(), Error> {
        if grant.unfinished.get() {
            return Err(self.unfinished(grant, "a change before it in the same section is not"));
        }
        Ok(())
    }

    #[cold]
    fn unfinished(&self, grant: &Grant, why: &str) -> Error {
        let guard = self.space().guard_name(grant.guard.index);
        Error::Unfinished { guard, why: why.to_owned() }
    }

    /// Steps 3 and 4: where the intent stands, and its cells.
    fn publish_intent(
        &self,
        grant: &Grant,
        planned: &[Planned],
    ) -> Result<(Head, Vec<Owned>), Error> {
        let word = self.space().name_entry(grant.guard.index)?.warm(INTENT)?;
        let before = Head::load(word, Ordering::Acquire);
        // After the look at the head: who took the guard since has moved it, or will find what is published here.
        self.check_held(grant)?;
        if before.cell() != NO_CELL {
            return Err(damaged(before.bits()));
        }
        let mut bytes = grant.fence().bits().to_le_bytes().to_vec();
        planned.iter().for_each(|p| p.encode(&mut bytes));
        let cells = self.claim_intent(grant, bytes.len().div_ceil(INTENT_BYTES))?;
        let first = self.write_intent(&cells, &bytes)?;
        let head = next(before, first, false);
        if !before.displace(word, head) {
            self.space().free_intent(&cells);
            self.check_held(grant)?;
            return Err(damaged(before.bits()));
        }
        Ok((head, cells))
    }

    /// Steps 6 and 7.
    fn clear_intent(&self, grant: &Grant, head: Head, cells: &[Owned]) -> Result<(), Error> {
        let word = self.space().name_entry(grant.guard.index)?.warm(INTENT)?;
        if planted(Fault::IntentFreedFirst) {
            self.space().free_intent(cells);
        }
        // Lost: somebody took the guard, finishes the change, and frees the cells.
        if head.displace(word, next(head, NO_CELL, false)) {
            self.space().free_intent(cells);
        }
        Ok(())
    }

    /// Finishes what a holder before had decided.
    ///
    /// # Errors
    /// [`Error::Unfinished`] when it cannot be finished now.
    #[cold]
    pub(crate) fn finish_intent(&self, grant: &Grant) -> Result<(), Error> {
        let word = self.space().name_entry(grant.guard.index)?.warm(INTENT)?;
        let head = loop {
            let now = Head::load(word, Ordering::Acquire);
            let moved = next(now, now.cell(), is_undo(now));
            if planted(Fault::NoIntentBump) {
                break now;
            }
            // Nobody waits for this word, but who was fenced off may just publish.
            if now.displace(word, moved) {
                break moved;
            }
        };
        if head.cell() == NO_CELL {
            return Ok(());
        }
        let cells = self.take_over(grant, head)?;
        let bytes = self.space().intent_bytes(&cells)?;
        // Were it not ours any more, it might have been freed under the copy.
        fence(Ordering::Acquire);
        self.check_held(grant)?;
        let (published, mut rest) = bytes.split_first_chunk().ok_or_else(|| damaged(0))?;
        let mut planned = Vec::new();
        while !rest.is_empty() {
            let decoded = Planned::decode(self.space(), rest);
            let (next, behind) = decoded.ok_or_else(|| damaged(rest.len() as u64))?;
            planned.push(next);
            rest = behind;
        }
        let published = Fence::from_bits(u64::from_le_bytes(*published));
        let done = self.make_or_undo(grant, published, head, &planned);
        match done {
            Ok(head) => self.clear_intent(grant, head, &cells),
            Err(e @ (Error::Fenced { .. } | Error::Corrupt { .. } | Error::Truncated { .. })) => {
                Err(e)
            }
            Err(e) => Err(self.unfinished(grant, &e.to_string())),
        }
    }

    /// Finishes what another one had decided; the head of intents then.
    fn make_or_undo(
        &self,
        grant: &Grant,
        published: Fence,
        mut head: Head,
        planned: &[Planned],
    ) -> Result<Head, Error> {
        if !is_undo(head) {
            match self.make_new_ones(grant, published, planned) {
                Ok(()) => {
                    self.make_others(grant, published, planned)?;
                    return Ok(head);
                }
                Err(e) if !is_no_room(&e) => return Err(e),
                Err(e) if self.has_begun(planned)? => return Err(e),
                Err(_) => head = self.decide_undo(grant, head)?,
            }
        }
        self.unmake_new_ones(grant, published, planned)?;
        Ok(head)
    }

    /// Decides that the change is undone, if it still is this holder's to decide; the head then.
    fn decide_undo(&self, grant: &Grant, head: Head) -> Result<Head, Error> {
        let word = self.space().name_entry(grant.guard.index)?.warm(INTENT)?;
        let undo = next(head, head.cell(), true);
        if head.displace(word, undo) {
            return Ok(undo);
        }
        self.check_held(grant)?;
        Err(damaged(head.bits()))
    }

    /// Makes the cells of an intent this holder's, so that they are swept if he dies and nobody else's if he lives.
    fn take_over(&self, grant: &Grant, head: Head) -> Result<Vec<Owned>, Error> {
        let mut cells = self.space().intent_chain(head.cell())?;
        for owned in &mut cells {
            let cell = self.space().intent_cell(owned.index)?;
            let word = owned.word.claimed_by(self.entry_index());
            let mine = owned.word.phase() == Phase::Owned && owned.word.exchange(cell.word, word);
            if !mine {
                self.check_held(grant)?;
                return Err(damaged(owned.word.bits()));
            }
            owned.word = word;
        }
        Ok(cells)
    }

    /// For the steward: finishes what dead holders had decided, where nobody else has come to it. The next holder is
    /// still told. How many guards.
    ///
    /// # Errors
    /// As [`Handle::acquire`].
    pub fn finish_left_intents(&self) -> Result<u32, Error> {
        let (mut finished, mut failed) = (0, Ok(()));
        for guard in self.space().left_guards()? {
            let word = self.space().name_entry(guard.index)?.warm(INTENT)?;
            if Head::load(word, Ordering::Acquire).cell() == NO_CELL {
                continue;
            }
            match self.acquire(guard, Patience::Try) {
                Ok(Some(grant)) => {
                    grant.unfinished.set(true); // for the next one to be told
                    // Fenced: somebody else has it, who finishes what is left.
                    let _ = self.release(&grant);
                    finished += 1;
                }
                Ok(None) => {}
                Err(e) => failed = failed.and(Err(e)),
            }
        }
        failed.map(|()| finished)
    }
}

/// The head after `head`: another one, whatever was there before.
fn next(head: Head, first: u32, undo: bool) -> Head {
    Head::new(first, (head.tag().wrapping_add(1) & !UNDO) | if undo { UNDO } else { 0 })
}

fn is_undo(head: Head) -> bool {
    head.tag() & UNDO != 0
}

/// Whether it says that a new record of a change finds no place.
fn is_no_room(error: &Error) -> bool {
    matches!(error, Error::Full { .. } | Error::Guarded { .. })
}

/// Whether a record with this fence is changed by the holder of `grant` alone.
fn is_ours(grant: &Grant, found: Fence) -> bool {
    let same_guard = found.guard() == Some(grant.guard.index);
    let enough = !grant.guard.has_hold_limit() || found == grant.fence();
    (same_guard && enough) || planted(Fault::NoStamp)
}
