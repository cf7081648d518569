//! Ids: numbers that are given out once, for ever: 1, 2, 3 …
//!
//! The store has a *mark* for each allocator, and a segment that is made anew goes on above it. So an id may be given
//! out as soon as the store's mark is not below it, and not before. The steward raises marks by [`STEP`] at a time;
//! between two raises an id is one compare-exchange.
//!
//! **State**: two words of the allocator's entry in the directory (directory.rs).
//! ```text
//! hot   next    the last id that was given out
//! warm  stored  bit 0 WAITERS · bit 1 LOW · bits 2–63 the mark, which the store has
//! ```
//! **Transitions**
//!
//! | word | change | by |
//! | --- | --- | --- |
//! | next | one more, as long as it is below the mark | takers: this gives the id out |
//! | stored | WAITERS set: next is at the mark | a taker, before he rings for the steward and sleeps on this very word |
//! | stored | LOW set: less than half a step is left | a taker, before he rings: nobody waits yet |
//! | stored | a higher mark, both bits cleared | the steward, once the store has the mark; he wakes all if WAITERS was set |
//!
//! A bit that is set is the steward's flag: he looks at all of them before he sleeps or leaves (flag.rs has the crossing
//! with the doorbell). There is no other word that says that somebody asked, so nothing can fall between two.
//!
//! **Crash.** A taker killed behind his exchange has taken one id, which nobody else gets. A steward killed after the
//! transaction leaves the bits set: the next one stores a mark again, at least as high. One killed between the exchange
//! and the wake leaves sleepers, who look again after at most 100 ms.
//!
//! **Gaps.** Without kills and restarts there are none. A segment made anew from its store goes on at the mark, so it
//! leaves out what was not given out below it: at most [`STEP`] ids each time. The store `none` keeps no marks: there
//! ids are unique as long as the segment is there.

use std::time::Duration;

use commonhold_segment::sync::{
    AtomicU64, Fault, Ordering, crossing, futex_wait, futex_wake_all, planted,
};
use crossbeam_utils::Backoff;

use crate::directory::{Descriptor, NameKind, NewName};
use crate::error::Error;
use crate::handle::Handle;
use crate::participant::bump;
use crate::pool::WAIT_PIECE;
use crate::space::Space;
use crate::wait::Deadline;

/// So many ids the store gives at a time. More would leave larger gaps after a restart; at this number the wait for the
/// store (milliseconds) is one exchange in thousands.
pub const STEP: u64 = if cfg!(feature = "loom") { 2 } else { 4096 };
/// The last id of an allocator: the mark has 62 bits.
pub const LAST: u64 = (1 << 62) - 1;

const WAITERS: u64 = 1;
const LOW: u64 = 2;
const BITS: u32 = 2;

/// The words of one allocator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdWords<'a> {
    next: &'a AtomicU64,
    stored: &'a AtomicU64,
}

/// What became of a try.
enum Taken {
    /// This id.
    Id(u64),
    /// This id, and few are left.
    Last(u64),
    /// None: the last one that was given out is the store's mark.
    AtMark(u64),
}

impl IdWords<'_> {
    /// Takes the next id that the store covers.
    fn take(self) -> Taken {
        let backoff = Backoff::new();
        loop {
            // A mark only rises, so one that is old by now refuses at worst.
            let stored = self.stored.load(Ordering::Acquire);
            let (mark, last) = (stored >> BITS, self.next.load(Ordering::Acquire));
            if last >= mark && !planted(Fault::IdBeforeStored) {
                return Taken::AtMark(last);
            }
            let id = last.wrapping_add(1);
            if self.next.compare_exchange(last, id, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                let low = mark.saturating_sub(id) < STEP / 2 && stored & LOW == 0;
                return if low { Taken::Last(id) } else { Taken::Id(id) };
            }
            backoff.spin();
        }
    }

    /// The mark that somebody asks for, if somebody does.
    pub(crate) fn asked(self) -> Option<u64> {
        // With it comes what the asker saw of `next`.
        let stored = self.stored.load(Ordering::SeqCst);
        if stored & (WAITERS | LOW) == 0 {
            return None;
        }
        let last = self.next.load(Ordering::Acquire);
        Some(last.saturating_add(STEP).clamp(stored >> BITS, LAST))
    }

    /// Whether somebody asks for a higher mark.
    pub(crate) fn is_asked(self) -> bool {
        self.stored.load(Ordering::SeqCst) & (WAITERS | LOW) != 0
    }

    /// The store has `mark`.
    pub(crate) fn raise(self, mark: u64) {
        let mut now = self.stored.load(Ordering::Relaxed);
        loop {
            let next = (now >> BITS).max(mark) << BITS;
            match self.stored.compare_exchange(now, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) if now & WAITERS != 0 && !planted(Fault::NoMarkWake) => {
                    return futex_wake_all(self.stored);
                }
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
    }

    /// Before anybody else sees the segment: goes on above a stored mark.
    pub(crate) fn load(self, mark: u64) {
        let mark = mark.min(LAST);
        self.next.store(mark, Ordering::Relaxed);
        self.stored.store(mark << BITS, Ordering::Release);
    }

    /// Sleeps until the steward has raised the mark, or for a piece of the wait.
    fn sleep(self, space: &Space, deadline: &Deadline) -> Result<(), Error> {
        let seen = self.stored.fetch_or(WAITERS, Ordering::SeqCst);
        crossing();
        if self.next.load(Ordering::Acquire) < seen >> BITS {
            return Ok(()); // he just has
        }
        space.hurry_steward()?;
        let left = deadline.left().unwrap_or_default();
        futex_wait(self.stored, (seen | WAITERS) as u32, left.min(WAIT_PIECE));
        Ok(())
    }
}

impl Space {
    pub(crate) fn id_words(&self, index: u16) -> Result<IdWords<'_>, Error> {
        let entry = self.name_entry(index)?;
        Ok(IdWords { next: entry.hot(0)?, stored: entry.warm(0)? })
    }

    /// The last id that an allocator gave out; 0 before the first one. One made anew from its store begins at its mark.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn last_id(&self, ids: &Descriptor) -> Result<u64, Error> {
        let last = self.id_words(ids.index)?.next.load(Ordering::Acquire);
        self.whole(Ok(last))
    }
}

impl Handle {
    /// The id allocator `name`, registered now if it is not yet.
    ///
    /// # Errors
    /// As for [`Handle::register_name`].
    pub fn register_ids(&self, name: &str) -> Result<Descriptor, Error> {
        let kind = NameKind::Ids;
        let new = NewName { kind, name, unit: "", labels: "", help: "", extra: 0, width: 0 };
        self.register_name(&new)
    }

    /// The next id; waits at most `limit` for the store to cover it.
    ///
    /// # Errors
    /// [`Error::Timeout`] saying why the store does not; [`Error::IdsSpent`] after [`LAST`] ids; [`Error::Corrupt`].
    #[inline]
    pub fn next_id(&self, ids: &Descriptor, limit: Duration) -> Result<u64, Error> {
        let words = self.space().id_words(ids.index)?;
        match words.take() {
            Taken::Id(id) => self.space().check_whole().map(|()| id),
            Taken::Last(id) => self.taken_low(words, id),
            Taken::AtMark(_) => self.wait_for_id(ids, words, limit),
        }
    }

    /// Asks for a higher mark before anybody has to wait for one.
    #[cold]
    fn taken_low(&self, words: IdWords<'_>, id: u64) -> Result<u64, Error> {
        words.stored.fetch_or(LOW, Ordering::SeqCst);
        self.space().ring_steward()?;
        self.space().check_whole().map(|()| id)
    }

    #[cold]
    fn wait_for_id(
        &self,
        ids: &Descriptor,
        words: IdWords<'_>,
        limit: Duration,
    ) -> Result<u64, Error> {
        self.check_fork()?;
        bump(self.entry()?.waits);
        let deadline = Deadline::after(limit);
        loop {
            let last = match words.take() {
                Taken::Id(id) => return self.space().check_whole().map(|()| id),
                Taken::Last(id) => return self.taken_low(words, id),
                Taken::AtMark(last) => last,
            };
            self.space().check_whole()?;
            let name = &ids.name;
            if last >= LAST {
                return Err(Error::IdsSpent { name: name.clone(), last });
            }
            self.space().check_storable(None, || format!("the mark of `{name}`"))?;
            if deadline.left().is_none() {
                let why = self.space().why_not_stored();
                return Err(
                    deadline.timeout(format!("the store to cover more ids of `{name}`"), why)
                );
            }
            words.sleep(self.space(), &deadline)?;
        }
    }
}
