//! What the store does not take: one table, because somebody else changed its rows in the database; or everything, because
//! the store belongs to another segment or was rolled back. And number and stamp of the last batch, by which the latter
//! shows, and that a copy of the segment stores too.
//!
//! A table's word:
//!
//! | from | to | by |
//! | --- | --- | --- |
//! | Goes | Stopped | the steward, who met a foreign change and is not to decide about it himself |
//! | Stopped | Asked | anybody: adopt what is there, overwrite it, or try again |
//! | Asked | Stopped | the steward: it was done or tried, and there is still a foreign change |
//! | Stopped, Asked | Goes | the steward: all of it is stored |
//!
//! A damaged word says nothing: these values are none that damage makes by chance.
//!
//! Who waits for durability looks at these words and fails at once. Commits go on in memory.

use commonhold_os::random;
use commonhold_segment::layout::LINE_WORDS;
use commonhold_segment::sync::{AtomicU64, Ordering};

use crate::commit::Committed;
use crate::error::{Error, UpdateError};
use crate::handle::Handle;
use crate::insert::Inserted;
use crate::space::{Space, control};
use crate::table::TableControl;

/// The upper half of a table's word that is not Goes, and of the word that says that the store refuses the segment.
const STOPPED: u64 = (u32::from_le_bytes(*b"STOP") as u64) << 32;
/// The bits of a batch's number; those above are a check.
const NUMBER_BITS: u32 = 48;

/// What somebody wants done about a stopped table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// What stands in the database becomes the next version.
    Adopt,
    /// What stands in the segment replaces it.
    Overwrite,
    /// The row was mended by hand: look again.
    Retry,
}

/// Whether a table is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is.
    Goes,
    /// It is not, until somebody decides.
    Stopped,
    /// Somebody has decided, and the steward is at it.
    Asked(Decision),
}

impl Stop {
    fn from_bits(bits: u64) -> Self {
        match bits ^ STOPPED {
            1 => Self::Stopped,
            2 => Self::Asked(Decision::Adopt),
            3 => Self::Asked(Decision::Overwrite),
            4 => Self::Asked(Decision::Retry),
            _ => Self::Goes,
        }
    }

    fn bits(self) -> u64 {
        match self {
            Self::Goes => 0,
            Self::Stopped => STOPPED | 1,
            Self::Asked(Decision::Adopt) => STOPPED | 2,
            Self::Asked(Decision::Overwrite) => STOPPED | 3,
            Self::Asked(Decision::Retry) => STOPPED | 4,
        }
    }
}

/// The word for a batch's number.
fn checked(number: u64) -> u64 {
    let number = number & ((1 << NUMBER_BITS) - 1);
    // Any odd factor will do: a word with a wrong bit has another check.
    let check = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> NUMBER_BITS;
    number | check << NUMBER_BITS
}

impl Space {
    /// Whether the table is stored.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Corrupt`].
    pub fn stop_of(&self, table: usize) -> Result<Stop, Error> {
        // No model has a store, and every load is a state more.
        if cfg!(feature = "loom") {
            return Ok(Stop::Goes);
        }
        let word = self.table(table)?.control(TableControl::Stop)?;
        Ok(Stop::from_bits(word.load(Ordering::SeqCst)))
    }

    /// For the steward: turns the table's word from `before`; false when somebody else turned it first.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Corrupt`].
    pub fn turn_stop(&self, table: usize, before: Stop, after: Stop) -> Result<bool, Error> {
        let word = self.table(table)?.control(TableControl::Stop)?;
        let now = word.load(Ordering::SeqCst);
        let turn = || word.compare_exchange(now, after.bits(), Ordering::SeqCst, Ordering::SeqCst);
        Ok(Stop::from_bits(now) == before && turn().is_ok())
    }

    /// Asks the steward to do `decision` about a stopped table; false when it is not stopped.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Corrupt`].
    pub fn decide(&self, table: usize, decision: Decision) -> Result<bool, Error> {
        let asked = self.turn_stop(table, Stop::Stopped, Stop::Asked(decision))?;
        if asked {
            self.hurry_steward()?;
        }
        Ok(asked)
    }

    pub(crate) fn is_stopped(&self, table: usize) -> bool {
        self.stop_of(table).is_ok_and(|stop| stop == Stop::Stopped)
    }

    /// For the steward: counts foreign changes that he met in the table.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Corrupt`].
    pub fn count_conflicts(&self, table: usize, count: u64) -> Result<(), Error> {
        let word = self.table(table)?.control(TableControl::Conflicts)?;
        word.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// For the steward: flags every slot of the table whose truth is `head ≠ persisted`.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Corrupt`].
    pub fn flag_table(&self, table: usize) -> Result<(), Error> {
        self.flag_behind(&self.table(table)?);
        self.check_whole()
    }

    /// The highest number of a batch of the store that this segment has seen; 0 when the word is damaged.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn seen_batch(&self) -> Result<u64, Error> {
        let word = self.control_line(control::BATCH)?.load(Ordering::SeqCst);
        let number = word & ((1 << NUMBER_BITS) - 1);
        Ok(if checked(number) == word { number } else { 0 })
    }

    /// For the steward: notes that the store has batch `number`.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn note_batch(&self, number: u64) -> Result<(), Error> {
        if number > self.seen_batch()? {
            self.control_line(control::BATCH)?.store(checked(number), Ordering::SeqCst);
        }
        Ok(())
    }

    /// The stamps of the last batch that is known to be stored and of the one under way, each 0 when there was none; `None`
    /// when one of the words is damaged.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn stamps(&self) -> Result<Option<[u64; 2]>, Error> {
        let mut stamps = [0; 2];
        for (at, stamp) in stamps.iter_mut().enumerate() {
            let word = self.stamp_word(at)?.load(Ordering::SeqCst);
            *stamp = word & ((1 << NUMBER_BITS) - 1);
            if word != 0 && checked(*stamp) != word {
                return Ok(None);
            }
        }
        Ok(Some(stamps))
    }

    /// For the steward: the same for the next batch. One whose outcome is not known keeps its stamp, also for the next
    /// steward.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn next_stamps(&self) -> Result<Option<[u64; 2]>, Error> {
        let Some([stored, sent]) = self.stamps()? else { return Ok(None) };
        if sent != stored {
            return Ok(Some([stored, sent]));
        }
        let random = u128::from_le_bytes(random::uuid()) % ((1 << NUMBER_BITS) - 1);
        let next = random as u64 + 1;
        self.stamp_word(1)?.store(checked(next), Ordering::SeqCst);
        Ok(Some([stored, next]))
    }

    /// For the steward: the batch with stamp `sent` is stored. To be noted after its number.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn note_stamp(&self, sent: u64) -> Result<(), Error> {
        self.stamp_word(0)?.store(checked(sent), Ordering::SeqCst);
        Ok(())
    }

    /// The words behind that of the last batch's number.
    fn stamp_word(&self, at: usize) -> Result<&AtomicU64, Error> {
        self.word(self.layout().control.start + control::BATCH * LINE_WORDS + 1 + at)
    }

    /// For the steward: says whether the store refuses this segment for good.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn set_refused(&self, refused: bool) -> Result<(), Error> {
        let word = if refused { STOPPED } else { 0 };
        self.control_line(control::REFUSED)?.store(word, Ordering::SeqCst);
        Ok(())
    }

    /// Whether the store refuses this segment for good.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        if cfg!(feature = "loom") {
            return false; // as above
        }
        self.control_line(control::REFUSED).is_ok_and(|word| word.load(Ordering::SeqCst) == STOPPED)
    }

    /// Fails when it is no use to wait until the store has `what`, of `table` if of one.
    pub(crate) fn check_storable(
        &self,
        table: Option<usize>,
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if self.is_refused() || table.is_some_and(|table| self.is_stopped(table)) {
            return Err(Error::NotStorable { what: what(), why: self.why_not_stored() });
        }
        Ok(())
    }
}

impl Handle {
    /// Makes `payload` the state of `key`, whatever it is now; nothing, its deletion. `None` when there was nothing to do.
    ///
    /// # Errors
    /// [`Error::BadKey`]; [`Error::Full`]; [`Error::Fenced`] when the record belongs to a guard; [`Error::Corrupt`].
    pub fn put(
        &self,
        table: usize,
        key: &str,
        payload: Option<&[u8]>,
    ) -> Result<Option<Committed>, Error> {
        let Some(payload) = payload else {
            return match self.delete::<std::convert::Infallible>(table, key, |_| Ok(())) {
                Err(UpdateError::Failed(Error::NotFound { .. })) => Ok(None),
                deleted => Ok(Some(deleted?)),
            };
        };
        loop {
            let record = match self.insert(table, key, payload)? {
                Inserted::Committed(committed) => return Ok(Some(committed)),
                Inserted::Exists(record) => record,
            };
            let updated =
                self.update_at::<std::convert::Infallible>(table, record, |_, next| {
                    next.extend_from_slice(payload);
                    Ok(())
                })?;
            if updated.is_some() {
                return Ok(updated);
            }
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_word_says_nothing() {
        let decisions = [Decision::Adopt, Decision::Overwrite, Decision::Retry].map(Stop::Asked);
        for stop in [Stop::Goes, Stop::Stopped].into_iter().chain(decisions) {
            assert_eq!(Stop::from_bits(stop.bits()), stop);
        }
        for number in [0, 1, 2, 255, 1 << 40, (1 << NUMBER_BITS) - 1] {
            assert_eq!(checked(number) & ((1 << NUMBER_BITS) - 1), number);
            for bit in 0..64 {
                let damaged = checked(number) ^ 1 << bit;
                let found = damaged & ((1 << NUMBER_BITS) - 1);
                assert_ne!(checked(found), damaged, "bit {bit} of {number}");
                assert_eq!(Stop::from_bits(1 << bit), Stop::Goes);
            }
        }
    }
}
