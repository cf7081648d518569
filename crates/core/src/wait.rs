//! Waiting for something: a change of a record, a change of a table, durability.
//!
//! Waiters mark the very word they wait for: they set its WAITERS bit by compare-exchange and sleep on
//! exactly that value; who displaces a marked word wakes all. Nothing can be forgotten between two words,
//! because there is one.
//!
//! **Crash**: a committer killed between his exchange and his wake leaves sleepers. Every sleep is cut into
//! pieces of at most 100 ms, and the reaper wakes the slot noted in the dead's entry: the worst delay is
//! 100 ms.

use std::time::Duration;

use commonhold_segment::sync::{AtomicU64, Fault, Ordering, futex_wait, monotonic_nanos, planted};

use crate::commit::Committed;
use crate::error::Error;
use crate::handle::Handle;
use crate::head::Head;
use crate::pool::{WAIT_PIECE, announce};
use crate::read::Snapshot;
use crate::space::Space;
use crate::table::{RecordRef, TableControl};
use crate::word::{Phase, Word};

/// So many looks before a waiter sleeps: about the cost of one sleep and wake.
const SPINS: u32 = if cfg!(feature = "loom") { 1 } else { 200 };
/// A store takes longer than that: who waits for it leaves the processor to those who work.
const STORE_SPINS: u32 = 0;

/// A point in time until which to wait.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: u64,
    limit: Duration,
}

impl Deadline {
    /// `limit` from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { start: monotonic_nanos(), limit }
    }

    /// What is left; `None` when it has passed.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let left = self.limit.checked_sub(self.waited());
        left.filter(|left| !left.is_zero())
    }

    /// How long it has been.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(monotonic_nanos().saturating_sub(self.start))
    }

    pub(crate) fn timeout(&self, what: String, why: String) -> Error {
        let waited_ms = u64::try_from(self.waited().as_millis()).unwrap_or(u64::MAX);
        Error::Timeout { what, waited_ms, why }
    }
}

/// Looks `spins` times, then sleeps until `word` has moved from `seen`; false when the deadline passed first.
pub(crate) fn wait_moved(
    space: &Space,
    word: &AtomicU64,
    seen: Head,
    deadline: &Deadline,
    spins: u32,
) -> Result<bool, Error> {
    for _ in 0..spins {
        if Head::load(word, Ordering::Acquire).position() != seen.position() {
            return Ok(true);
        }
        std::hint::spin_loop();
    }
    loop {
        let now = Head::load(word, Ordering::Acquire);
        space.check_whole()?;
        if now.position() != seen.position() {
            return Ok(true);
        }
        let Some(left) = deadline.left() else { return Ok(false) };
        let now = if planted(Fault::BlindMark) { Head::load(word, Ordering::Acquire) } else { now };
        let marked = now.with_waiters();
        let mark = || {
            word.compare_exchange(now.bits(), marked.bits(), Ordering::SeqCst, Ordering::Relaxed)
        };
        if now == marked || mark().is_ok() {
            futex_wait(word, marked.bits() as u32, left.min(WAIT_PIECE));
        }
    }
}

impl Handle {
    /// Waits until `key` is there and `ready` makes something of its state; what it made.
    ///
    /// # Errors
    /// [`Error::Timeout`] when `limit` passed first; [`Error::BadKey`]; what `ready` returns.
    pub fn wait_for<T>(
        &self,
        table: usize,
        key: &str,
        limit: Duration,
        mut ready: impl FnMut(&Snapshot) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let deadline = Deadline::after(limit);
        loop {
            let moved = if let Some(record) = self.locate(table, key)? {
                let made = |seen: &Snapshot| (ready(seen), seen.head);
                match self.read_at(table, record, made)? {
                    Some((Err(e), _)) => return Err(e),
                    Some((Ok(Some(made)), _)) => return Ok(made),
                    Some((Ok(None), head)) => {
                        let word = self.space().table(table)?.slot(record.slot)?.head;
                        wait_moved(self.space(), word, head, &deadline, SPINS)?
                    }
                    None => self.wait_present(table, key, &deadline)?,
                }
            } else {
                self.wait_present(table, key, &deadline)?
            };
            if !moved {
                let name = &self.space().table(table)?.spec.name;
                return Err(deadline.timeout(format!("`{key}` in table `{name}`"), String::new()));
            }
        }
    }

    /// Waits until `ready` makes something of the state of `record`; what it made, or `None` when `deadline` passed
    /// first or the record is gone.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; what `ready` returns.
    pub fn wait_at<T>(
        &self,
        table: usize,
        record: RecordRef,
        deadline: &Deadline,
        mut ready: impl FnMut(&Snapshot) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let view = self.space().table(table)?;
        let head = view.slot(record.slot)?.head;
        loop {
            let made = |seen: &Snapshot| (ready(seen), seen.head);
            let Some((made, seen)) = self.read_at(table, record, made)? else { return Ok(None) };
            if let Some(made) = made? {
                return Ok(Some(made));
            }
            if !wait_moved(self.space(), head, seen, deadline, SPINS)? {
                return Ok(None);
            }
        }
    }

    /// Waits until `key` may have come; false when the deadline passed first.
    fn wait_present(&self, table: usize, key: &str, deadline: &Deadline) -> Result<bool, Error> {
        let watched = self.watch_table(table)?;
        let view = self.space().table(table)?;
        if let Some(record) = view.locate_only(key)?
            && self.read_at(table, record, |_| ())?.is_some()
        {
            return Ok(true);
        }
        self.wait_table_changed(table, watched, deadline)
    }

    /// Where a table's watch word stands: take it before looking, then pass it to
    /// [`Handle::wait_table_changed`].
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn watch_table(&self, table: usize) -> Result<u64, Error> {
        let view = self.space().table(table)?;
        Ok(announce(view.control(TableControl::Watch)?))
    }

    /// Waits until any record of the table was committed since `watched`; false when `deadline` passed.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn wait_table_changed(
        &self,
        table: usize,
        watched: u64,
        deadline: &Deadline,
    ) -> Result<bool, Error> {
        let view = self.space().table(table)?;
        let word = view.control(TableControl::Watch)?;
        loop {
            let now = word.load(Ordering::SeqCst);
            self.space().check_whole()?;
            if now | 1 != watched | 1 {
                return Ok(true);
            }
            let Some(left) = deadline.left() else { return Ok(false) };
            futex_wait(word, watched as u32, left.min(WAIT_PIECE));
        }
    }

    /// Waits until the store has `commit`.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the store's last error when `limit` passed first; [`Error::NotStorable`] at once when
    /// the table is stopped, or the store refuses the segment.
    pub fn wait_durable(&self, commit: &Committed, limit: Duration) -> Result<(), Error> {
        let view = self.space().table(commit.table)?;
        let slot = view.slot(commit.record.slot)?;
        let wanted = Head::new(0, commit.version);
        let deadline = Deadline::after(limit);
        loop {
            let persisted = Head::load(slot.persisted, Ordering::Acquire);
            let word = Word::load(slot.word, Ordering::Acquire);
            self.space().check_whole()?;
            if !wanted.is_newer_than(persisted) {
                return Ok(());
            }
            // A deleted record's slot is freed when the store has all of it.
            if word.generation() != commit.record.generation || word.phase() == Phase::Free {
                return Ok(());
            }
            let what = || format!("version {} in table `{}`", commit.version, view.spec.name);
            self.space().check_storable(Some(commit.table), what)?;
            self.space().hurry_steward()?;
            let piece = Deadline::after(deadline.left().unwrap_or_default().min(WAIT_PIECE));
            let moved = wait_moved(self.space(), slot.persisted, persisted, &piece, STORE_SPINS)?;
            if !moved && deadline.left().is_none() {
                let what = format!("version {} to be stored", commit.version);
                let why = self.space().why_not_stored();
                return Err(deadline.timeout(what, why));
            }
        }
    }

    /// Waits until the store has every commit that was made before this call, and every counter as it was then or later.
    /// Ids need no wait: none is given out before the store covers it.
    ///
    /// # Errors
    /// As for [`Handle::wait_durable`].
    pub fn wait_drained(&self, limit: Duration) -> Result<(), Error> {
        let deadline = Deadline::after(limit);
        // All heads first: what is committed while we wait is not waited for.
        let mut behind = Vec::new();
        for table in self.space().tables() {
            for slot in table.slots() {
                let wanted = Head::load(slot.head, Ordering::SeqCst);
                let word = Word::load(slot.word, Ordering::SeqCst);
                let persisted = Head::load(slot.persisted, Ordering::SeqCst);
                let stored = !wanted.is_newer_than(persisted) && word.phase() != Phase::Retired;
                if matches!(word.phase(), Phase::Published | Phase::Retired) && !stored {
                    behind.push((table.position, slot, word, wanted));
                }
            }
        }
        self.space().check_whole()?;
        behind.iter().try_for_each(|(table, slot, word, wanted)| {
            self.wait_stored(*table, slot, *word, *wanted, &deadline)
        })?;
        self.wait_counters(&deadline)
    }

    fn wait_stored(
        &self,
        table: usize,
        slot: &crate::table::SlotView<'_>,
        word: Word,
        wanted: Head,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        loop {
            let persisted = Head::load(slot.persisted, Ordering::Acquire);
            let now = Word::load(slot.word, Ordering::Acquire);
            self.space().check_whole()?;
            let ended = now.generation() != word.generation() || now.phase() == Phase::Free;
            // A deletion is finished when its slot is free again.
            if ended || (!wanted.is_newer_than(persisted) && now.phase() != Phase::Retired) {
                return Ok(());
            }
            let name = || self.space().table(table).map_or("", |t| t.spec.name.as_str());
            let what = || format!("what was committed in table `{}`", name());
            self.space().check_storable(Some(table), what)?;
            self.space().hurry_steward()?;
            let piece = Deadline::after(deadline.left().unwrap_or_default().min(WAIT_PIECE));
            // Stored, and its slot is about to be freed.
            if now.phase() == Phase::Retired && !wanted.is_newer_than(persisted) {
                std::thread::yield_now();
            } else {
                wait_moved(self.space(), slot.persisted, persisted, &piece, STORE_SPINS)?;
            }
            if deadline.left().is_none() {
                let why = self.space().why_not_stored();
                return Err(deadline.timeout("the store to have everything".to_owned(), why));
            }
        }
    }
}
