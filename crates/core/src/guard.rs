//! Guards: a short section over several records, held by one participant at a time.
//!
//! **State** of the guard's word (the first hot word of its entry in the directory):
//! ```text
//! bit   0      WAITERS  somebody sleeps on this word; who leaves the guard wakes one
//! bits  1..3   reason   how the last holder left: Released, Died, Fenced, Unfinished
//! bits  3..15  holder   entry of the participant plus one; 0: nobody
//! bits 16..64  number   the fencing number: one more with each time the guard is taken
//! ```
//! **Transitions**: by compare-exchange against the exact word that was judged.
//!
//! | from | to | by |
//! | --- | --- | --- |
//! | nobody | holder p, number + 1 | p, who wants it |
//! | holder p | nobody, Released or Unfinished | p, who leaves it |
//! | holder p | nobody, Died | who has proved p dead, as everywhere (participant.rs): a waiter, or the reaper |
//! | holder p | holder q, number + 1, Fenced | q, who saw the same number for longer than the guard's hold limit |
//!
//! WAITERS stays set while the guard changes hands: each who leaves wakes one sleeper, and takes the bit away only
//! when there was none to wake. So a sleeper who dies on being woken takes nobody else's wake-up with him: the next
//! who leaves wakes the next.
//!
//! **Waiting**: sleepers sleep on the word in pieces of 100 ms. One of them, who has the lease in the second hot word,
//! sleeps in pieces of 3 ms and then asks the kernel whether the holder is dead; so that a thousand waiters cost one
//! look each 3 ms. He who has the lease and gets the guard, or gives up, wakes one more, who takes the lease.
//!
//! **What a guard promises** to who holds it: nobody else holds it, unless it has a hold limit and he held it longer;
//! records that he looked at under it (`intent.rs`) are not changed by anybody else, holder or not; and he never sees
//! a part of a change of several records: what a holder had decided when he died, was fenced off or had no room, is
//! finished by the next one before anything else. Who reads such records without the guard sees each of them whole,
//! as ever, but may see some of them after the change and some before.
//!
//! **Crash**: the holder dies: his number stays in the word until somebody proves him dead, and then a reason says that
//! the next one must first look at the intent. A stopped holder without a hold limit keeps the guard; with one he is
//! fenced off: his commits carry an older number than the records that the new holder looked at.
//!
//! **Deadlock**: a thread holds one guard at most; asking for another one is refused.
//!
//! **Sources**: U. Drepper, "Futexes are tricky" (2011), for the word and its waiters; fencing numbers as in
//! M. Burrows, "The Chubby lock service" (OSDI 2006), there called sequencers.

mod look;
mod waiter;
mod word;

use std::time::Duration;

use commonhold_os::fork;
use commonhold_segment::sync::{AtomicU64, Fault, Ordering, futex_wake_one, planted};

use crate::directory::{NameKind, NewName};
use crate::error::Error;
use crate::fence::Fence;
use crate::handle::Handle;
use crate::metrics::check_prefix;
use crate::participant::bump;
use crate::wait::Deadline;

pub use look::GuardFigures;
use waiter::Waiter;
use word::GuardWord;
pub use word::Previous;

/// The guard's word, among the hot ones.
const WORD: usize = 0;
/// When the lease of the sleeper who looks after the holder ends, in milliseconds of the monotonic clock.
const LEASE: usize = 1;
/// So many looks before a waiter sleeps: 10 to 25 µs, less than the 40 µs of a sleep and a wake-up.
const SPINS: u32 = if cfg!(feature = "loom") { 1 } else { 20 };
/// The longest pause between two looks, in `spin_loop`s; the first is one, each other twice the one before. Measured
/// (docs/performance.md, row 12): 100 looks without pauses gave half the sections of 64 processes, 7 looks with pauses
/// that grow to 64 let more of them sleep, for milliseconds.
const PAUSES_MAX: u32 = 32;
/// So long sleeps who looks after the holder.
const WATCH_PIECE: Duration = Duration::from_millis(3);
/// So long a lease lasts; longer than a piece, however late its owner wakes up.
const LEASE_MS: u64 = 20;
/// Words of a guard in each participant's share.
const SHARE_WORDS: u16 = 2;
/// Times that somebody had to wait.
const CONTENTIONS: u32 = 0;
/// Nanoseconds waited.
const WAITED: u32 = 1;

/// A guard, found by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardRef {
    pub(crate) index: u16,
    share: u32,
    /// 0: none.
    hold_limit_ns: u64,
}

/// How long to wait for a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    Try,
    /// At most so long.
    Within(Duration),
    /// As long as it takes.
    Forever,
}

/// What its holder knows of a guard.
#[derive(Debug)]
pub struct Grant {
    pub(crate) guard: GuardRef,
    /// The word as this holder made it.
    word: GuardWord,
    /// What happened to the holder before.
    pub previous: Previous,
    /// How long this holder had to wait.
    pub waited: Duration,
    /// Whether a change was left unfinished: by the one before, or by this one.
    pub(crate) unfinished: std::cell::Cell<bool>,
    /// How many changes were committed under it.
    pub(crate) serial: std::cell::Cell<u64>,
    generation: u64,
}

impl GuardRef {
    /// What a commit under `word` carries.
    fn fence(&self, word: GuardWord) -> Fence {
        Fence::new(self.index, word.number())
    }

    /// Whether waiters may take the guard from who holds it for too long.
    pub(crate) fn has_hold_limit(&self) -> bool {
        self.hold_limit_ns > 0
    }
}

impl Grant {
    /// Of a guard that is not held yet: to be taken by [`Handle::acquire_into`].
    #[must_use]
    #[inline]
    pub fn of(guard: GuardRef) -> Self {
        let (word, previous, waited) = (GuardWord::NEVER, Previous::Released, Duration::ZERO);
        let (unfinished, serial) = (false.into(), 0.into());
        Self { guard, word, previous, waited, unfinished, serial, generation: 0 }
    }

    /// The fencing number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.word.number()
    }

    /// How many changes were committed under this grant: a plan is good as long as it stays the same.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial.get()
    }

    /// What commits under this grant carry.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.guard.fence(self.word)
    }
}

/// Which guard this thread holds. A model runs all its threads on one thread of the system: there nobody is asked.
#[cfg(not(feature = "loom"))]
mod nesting {
    use std::cell::Cell;

    thread_local! {
        /// The space's address and the guard's entry.
        static HELD: Cell<Option<(usize, u16)>> = const { Cell::new(None) };
    }

    pub(super) fn held() -> Option<(usize, u16)> {
        HELD.get()
    }

    pub(super) fn set(held: Option<(usize, u16)>) {
        HELD.set(held);
    }
}

#[cfg(feature = "loom")]
mod nesting {
    pub(super) fn held() -> Option<(usize, u16)> {
        None
    }

    pub(super) fn set(_held: Option<(usize, u16)>) {}
}

impl Handle {
    /// The guard `name`, registered now if it is not yet. With a hold limit, waiters take it from who holds it longer.
    /// `metrics`: what its own metrics are to be called, or nothing.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::OtherKind`] when it is there with another hold limit; [`Error::NamesFull`].
    pub fn guard(
        &self,
        name: &str,
        hold_limit: Option<Duration>,
        metrics: &str,
    ) -> Result<GuardRef, Error> {
        if !metrics.is_empty() {
            check_prefix(name, metrics)?;
        }
        let limit = hold_limit.map_or(0, |limit| limit.as_nanos().max(1));
        let extra = u64::try_from(limit).unwrap_or(u64::MAX);
        let (kind, width) = (NameKind::Guard, SHARE_WORDS);
        let new = NewName { kind, name, unit: "", labels: metrics, help: "", extra, width };
        let found = self.register_name(&new)?;
        Ok(GuardRef { index: found.index, share: found.offset, hold_limit_ns: extra })
    }

    /// Takes the guard; `None` when somebody has it and `patience` is [`Patience::Try`]. What the holder before left
    /// unfinished is finished first.
    ///
    /// # Errors
    /// [`Error::Nested`] when this thread holds one; [`Error::Timeout`] naming the holder; [`Error::Unfinished`] when what
    /// was left cannot be finished now (nobody holds the guard then).
    pub fn acquire(&self, guard: GuardRef, patience: Patience) -> Result<Option<Grant>, Error> {
        let mut grant = Grant::of(guard);
        Ok(self.acquire_into(&mut grant, patience)?.then_some(grant))
    }

    /// Like [`Handle::acquire`], into a grant that stays where it is: moving one costs as much as taking the guard.
    /// False instead of `None`.
    ///
    /// # Errors
    /// As [`Handle::acquire`].
    pub fn acquire_into(&self, grant: &mut Grant, patience: Patience) -> Result<bool, Error> {
        let generation = fork::generation();
        let usual = self.is_of(generation) && nesting::held().is_none();
        if usual && self.take_left(grant)? {
            grant.generation = generation;
            self.space().check_whole()?;
            nesting::set(Some((self.space_address(), grant.guard.index)));
            return Ok(true);
        }
        self.acquire_any(grant, patience)
    }

    /// Takes a guard that nobody has and that its last holder has left as it should be; false when it is not so.
    #[inline]
    fn take_left(&self, grant: &mut Grant) -> Result<bool, Error> {
        let word = self.guard_word(grant.guard)?;
        let now = GuardWord::load(word, Ordering::Relaxed);
        let next = now.taken_by(self.entry_index());
        if !now.is_left() || !now.exchange(word, next) {
            return Ok(false);
        }
        grant.word = next;
        (grant.previous, grant.waited) = (Previous::Released, Duration::ZERO);
        *grant.unfinished.get_mut() = false;
        *grant.serial.get_mut() = 0;
        Ok(true)
    }

    /// Takes a guard, however it stands.
    #[cold]
    fn acquire_any(&self, grant: &mut Grant, patience: Patience) -> Result<bool, Error> {
        self.check_fork()?;
        if let Some(held) = nesting::held() {
            return Err(self.nested(held, grant.guard));
        }
        let word = self.guard_word(grant.guard)?;
        let now = GuardWord::load(word, Ordering::Relaxed);
        let next = now.taken_by(self.entry_index());
        if now.holder().is_some() || !now.exchange(word, next) {
            return self.acquire_slow(grant, word, patience);
        }
        match self.granted(grant, next, Duration::ZERO) {
            Err(Error::Fenced { .. }) => self.acquire_slow(grant, word, patience),
            other => other.map(|()| true),
        }
    }

    /// The guard is this handle's; what the holder before left is finished, or the guard left as it was.
    fn granted(&self, grant: &mut Grant, word: GuardWord, waited: Duration) -> Result<(), Error> {
        self.space().check_whole()?;
        nesting::set(Some((self.space_address(), grant.guard.index)));
        let previous = word.previous();
        let unfinished = (previous != Previous::Released).into();
        let (serial, generation) = (0.into(), fork::generation());
        let guard = grant.guard;
        *grant = Grant { guard, word, previous, waited, unfinished, serial, generation };
        if previous == Previous::Released {
            return Ok(());
        }
        self.finish_or_leave(grant)
    }

    /// Finishes what the holder before left, or leaves the guard as it was.
    #[cold]
    fn finish_or_leave(&self, grant: &Grant) -> Result<(), Error> {
        let finished =
            if planted(Fault::NoRollForward) { Ok(()) } else { self.finish_intent(grant) };
        match finished {
            Ok(()) => {
                grant.unfinished.set(false);
                Ok(())
            }
            // Fenced off, whatever it met: what is left is somebody else's to finish.
            Err(error) => Err(self.release(grant).err().unwrap_or(error)),
        }
    }

    /// Leaves the guard.
    ///
    /// # Errors
    /// [`Error::Fenced`] when it was taken from this holder before.
    pub fn release(&self, grant: &Grant) -> Result<(), Error> {
        nesting::set(None);
        if fork::generation() != grant.generation {
            return Ok(()); // a forked child: it is the parent's
        }
        let word = self.guard_word(grant.guard)?;
        let previous = if grant.unfinished.get() { left_behind(grant) } else { Previous::Released };
        let mine = grant.word.without_waiters();
        if !mine.exchange(word, mine.left(previous)) {
            return self.release_slow(grant, word, previous);
        }
        Ok(())
    }

    /// Whether this holder still holds the guard.
    ///
    /// # Errors
    /// [`Error::Fenced`] when it was taken from him, or he is a forked child.
    #[inline]
    pub(crate) fn check_held(&self, grant: &Grant) -> Result<(), Error> {
        let now = GuardWord::load(self.guard_word(grant.guard)?, Ordering::Acquire);
        if now.is_hold_of(grant.word) && fork::generation() == grant.generation {
            return Ok(());
        }
        Err(self.fenced(grant, now))
    }

    #[cold]
    fn fenced(&self, grant: &Grant, now: GuardWord) -> Error {
        let guard = self.space().guard_name(grant.guard.index);
        Error::Fenced { guard, number: grant.number(), found: now.number() }
    }

    #[inline]
    fn guard_word(&self, guard: GuardRef) -> Result<&AtomicU64, Error> {
        self.space().name_entry(guard.index)?.hot(WORD)
    }

    fn space_address(&self) -> usize {
        std::ptr::from_ref(self.space()).addr()
    }

    #[cold]
    fn nested(&self, held: (usize, u16), asked: GuardRef) -> Error {
        let here = held.0 == self.space_address();
        let name = |index| self.space().guard_name(index);
        let held = if here { name(held.1) } else { "of another segment".to_owned() };
        Error::Nested { held, asked: name(asked.index) }
    }

    /// Leaves a guard that somebody waits for, or that was taken away.
    #[cold]
    fn release_slow(
        &self,
        grant: &Grant,
        word: &AtomicU64,
        previous: Previous,
    ) -> Result<(), Error> {
        loop {
            let now = GuardWord::load(word, Ordering::Relaxed);
            if !now.is_hold_of(grant.word) {
                return Err(self.fenced(grant, now));
            }
            let left = now.left(previous);
            if now.exchange(word, left) {
                if left.has_waiters() && !planted(Fault::GuardBlindRelease) {
                    wake_next(word, left);
                }
                return Ok(());
            }
        }
    }

    /// Takes a guard that somebody has, or had a moment ago.
    #[cold]
    fn acquire_slow(
        &self,
        grant: &mut Grant,
        word: &AtomicU64,
        patience: Patience,
    ) -> Result<bool, Error> {
        let deadline = Deadline::after(match patience {
            Patience::Try => Duration::ZERO,
            Patience::Within(limit) => limit,
            Patience::Forever => Duration::MAX,
        });
        loop {
            let mut waiter = Waiter::new(self, grant.guard, word);
            let taken = waiter.take(patience, &deadline);
            waiter.leave();
            if matches!(taken, Ok(None)) {
                return Ok(false);
            }
            let waited = deadline.waited();
            self.count_wait(grant.guard, waited)?;
            let Some(taken) = taken? else { return Ok(false) };
            match self.granted(grant, taken, waited) {
                // Finishing took longer than the hold limit: somebody else does it; wait again.
                Err(Error::Fenced { .. }) => {}
                other => return other.map(|()| true),
            }
        }
    }

    fn count_wait(&self, guard: GuardRef, waited: Duration) -> Result<(), Error> {
        let (space, entry) = (self.space(), self.entry_index());
        bump(space.share(entry, guard.share + CONTENTIONS)?);
        let sum = space.share(entry, guard.share + WAITED)?;
        let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        sum.store(sum.load(Ordering::Relaxed).wrapping_add(nanos), Ordering::Relaxed);
        Ok(())
    }
}

/// Why the guard is not simply Released: what the holder before left, or this one.
fn left_behind(grant: &Grant) -> Previous {
    match grant.previous {
        Previous::Released => Previous::Unfinished,
        other => other,
    }
}

/// Wakes one who sleeps for the guard that was just left as `left`; nobody sleeps: the mark goes.
fn wake_next(word: &AtomicU64, left: GuardWord) {
    if !futex_wake_one(word) {
        // Nobody sleeps on a word that says nobody's, so nobody can have begun to since.
        left.exchange(word, left.without_waiters());
    }
}
