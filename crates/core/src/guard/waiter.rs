//! Waiting for a guard: who sleeps, who looks after the holder, and who takes the guard from him.

use std::time::Duration;

use commonhold_os::lock::Mode;
use commonhold_segment::sync::{
    AtomicU64, Fault, Ordering, futex_wait, futex_wake_one, monotonic_nanos, planted,
};

use super::word::GuardWord;
use super::{GuardRef, LEASE, LEASE_MS, PAUSES_MAX, Patience, Previous, SPINS, WATCH_PIECE};
use crate::error::Error;
use crate::handle::Handle;
use crate::pool::WAIT_PIECE;
use crate::space::{LOCK_ENTRIES, Space};
use crate::wait::Deadline;

/// One who waits for a guard.
pub(super) struct Waiter<'a> {
    handle: &'a Handle,
    guard: GuardRef,
    word: &'a AtomicU64,
    /// The hold that is under way, and since when it is watched, in nanoseconds.
    held: Option<(GuardWord, u64)>,
    /// Until when it is he who looks after the holder.
    leased: Option<u64>,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(handle: &'a Handle, guard: GuardRef, word: &'a AtomicU64) -> Self {
        Self { handle, guard, word, held: None, leased: None }
    }

    pub(super) fn take(
        &mut self,
        patience: Patience,
        deadline: &Deadline,
    ) -> Result<Option<GuardWord>, Error> {
        let mut looks = 0;
        loop {
            let now = GuardWord::load(self.word, Ordering::Acquire);
            let next = now.taken_by(self.handle.entry_index());
            if now.holder().is_none() || planted(Fault::GuardSecondHolder) {
                if now.exchange(self.word, next) {
                    return Ok(Some(next));
                }
                continue;
            }
            if self.is_overdue(now) && now.exchange(self.word, next.with_previous(Previous::Fenced))
            {
                return Ok(Some(next.with_previous(Previous::Fenced)));
            }
            if looks < SPINS && patience != Patience::Try {
                // Each look takes the line from the holder, who wants it next; so they become fewer.
                (0..PAUSES_MAX.min(1 << looks)).for_each(|_| std::hint::spin_loop());
                looks += 1;
                continue;
            }
            self.handle.space().check_whole()?;
            match deadline.left() {
                Some(left) => self.sleep(now, left)?,
                None if self.look_after(now)? => {}
                None if patience == Patience::Try => return Ok(None),
                None => return Err(self.timeout(now, deadline)),
            }
        }
    }

    /// Whether the guard has a hold limit and this hold was watched for longer.
    fn is_overdue(&mut self, now: GuardWord) -> bool {
        if !self.guard.has_hold_limit() {
            return false;
        }
        let time = monotonic_nanos();
        match self.held {
            // In a model, where time stands still, any hold may be too long.
            Some((hold, since)) if hold.is_hold_of(now) => {
                cfg!(feature = "loom") || time.saturating_sub(since) > self.guard.hold_limit_ns
            }
            _ => {
                self.held = Some((now, time));
                false
            }
        }
    }

    /// Sleeps until the guard may be free, at most `left`.
    fn sleep(&mut self, now: GuardWord, left: Duration) -> Result<(), Error> {
        let marked = now.with_waiters();
        if now != marked && !now.exchange(self.word, marked) {
            return Ok(());
        }
        self.lease()?;
        let piece = if self.leased.is_some() { WATCH_PIECE } else { WAIT_PIECE };
        let waiting = self.handle.entry()?.waiting;
        waiting.store(u64::from(self.guard.index) + 1, Ordering::Relaxed);
        futex_wait(self.word, marked.low_half(), piece.min(left));
        waiting.store(0, Ordering::Relaxed);
        self.look_after(marked).map(drop)
    }

    /// Takes the lease if nobody has it, or keeps it if nobody has taken it.
    fn lease(&mut self) -> Result<(), Error> {
        let lease = self.lease_word()?;
        let time_ms = monotonic_nanos() / 1_000_000;
        let now = lease.load(Ordering::Relaxed);
        if self.leased == Some(now) || now < time_ms {
            let ends = time_ms + LEASE_MS;
            let mine = lease.compare_exchange(now, ends, Ordering::Relaxed, Ordering::Relaxed);
            self.leased = mine.is_ok().then_some(ends);
        } else {
            self.leased = None;
        }
        Ok(())
    }

    fn lease_word(&self) -> Result<&AtomicU64, Error> {
        self.handle.space().name_entry(self.guard.index)?.hot(LEASE)
    }

    /// Takes the guard from `seen`'s holder if he still has it and is dead; whether he was.
    fn look_after(&self, seen: GuardWord) -> Result<bool, Error> {
        let Some(holder) = seen.holder() else { return Ok(false) };
        if !GuardWord::load(self.word, Ordering::Relaxed).is_hold_of(seen) {
            return Ok(false);
        }
        self.handle.space().release_if_dead(self.word, seen, holder)
    }

    /// He waits no more. Who looked after the holder wakes another one, who does.
    pub(super) fn leave(&mut self) {
        if let (Some(ends), Ok(lease)) = (self.leased, self.lease_word()) {
            let ended = lease.compare_exchange(ends, 0, Ordering::Relaxed, Ordering::Relaxed);
            let waiters = GuardWord::load(self.word, Ordering::Relaxed).has_waiters();
            if ended.is_ok() && waiters {
                futex_wake_one(self.word);
            }
        }
    }

    fn timeout(&self, now: GuardWord, deadline: &Deadline) -> Error {
        let space = self.handle.space();
        let what = format!("guard `{}`", space.guard_name(self.guard.index));
        let pid = now.holder().and_then(|entry| space.identity_of(entry)).map_or(0, |i| i.pid);
        let why = format!(": process {pid} holds it; see whether it is stopped");
        Error::Timeout { what, waited_ms: deadline.waited().as_millis() as u64, why }
    }
}

impl Space {
    /// Takes a guard from `holder` if the kernel says that he is dead; whether it did.
    fn release_if_dead(
        &self,
        word: &AtomicU64,
        seen: GuardWord,
        holder: u16,
    ) -> Result<bool, Error> {
        let entry = self.entry(holder)?;
        let byte = LOCK_ENTRIES + u64::from(holder);
        let leave =
            |now: GuardWord| now.is_hold_of(seen) && now.exchange(word, now.left(Previous::Died));
        let released = self.with_reaper(|lock| -> Result<bool, Error> {
            if lock.try_lock(byte, Mode::Exclusive)? {
                // Nobody has the byte, so its last owner is gone; nobody claims the entry while it is ours here.
                let left = leave(GuardWord::load(word, Ordering::Acquire));
                lock.unlock(byte);
                return Ok(left);
            }
            // A child that he forked may hold the lock for him.
            let now = GuardWord::load(word, Ordering::Acquire);
            Ok(entry.is_owner_dead() && leave(now))
        })?;
        released.unwrap_or(Ok(false))
    }
}
