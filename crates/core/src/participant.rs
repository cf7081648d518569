//! Participants: entries of the segment that handles claim, and what happens when their owner dies.
//!
//! **Fields** of an entry (two lines; the owner alone writes, anybody reads):
//! ```text
//! line 0   word (word.rs) · pid · start · pidfd inode · pid namespace
//! line 1   noted slot · commits · lost exchanges · waits for room · guard that it sleeps for, plus one
//! ```
//! **Evidence of death** comes from the kernel only: the entry's lock byte has become free, or, in the same
//! pid namespace, the identity is gone. Never a timeout: a stopped process comes back and writes.
//!
//! **Crash**: the entry stays Owned, its lock byte becomes free. Whoever takes the byte sweeps what the dead
//! left (sweep.rs), wakes the noted slot and only then frees the entry, so an entry is never reused before
//! its cells and slots were swept. A reaper killed in between leaves the entry Owned for the next one.
//!
//! The counters of an entry go on through all its owners: a dead participant's share is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use commonhold_os::lock::{LockFile, Mode};
use commonhold_os::process::{Identity, Liveness};
use commonhold_segment::layout::{ENTRY_WORDS, LINE_WORDS};
use commonhold_segment::sync::{AtomicU64, Fault, Ordering, fence, futex_wake_all, planted};

use crate::error::Error;
use crate::pool::signal_all;
use crate::space::{LOCK_ENTRIES, Space};
use crate::sweep::{Swept, sweep};
use crate::table::TableControl;
use crate::wait::Deadline;
use crate::word::{Phase, Word};

/// The most entries.
const ENTRIES_MAX: usize = 4096;
/// So long at most is waited for entries that others are just freeing.
pub(crate) const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// So often is looked meanwhile. Not a yield: it would take the processor from who is just freeing them.
pub(crate) const CLAIM_EVERY: Duration = Duration::from_millis(1);

/// A participant's words.
#[derive(Clone, Copy)]
pub(crate) struct EntryView<'a> {
    pub(crate) word: &'a AtomicU64,
    pid: &'a AtomicU64,
    start: &'a AtomicU64,
    inode: &'a AtomicU64,
    namespace: &'a AtomicU64,
    pub(crate) noted: &'a AtomicU64,
    pub(crate) commits: &'a AtomicU64,
    pub(crate) lost: &'a AtomicU64,
    pub(crate) waits: &'a AtomicU64,
    pub(crate) waiting: &'a AtomicU64,
}

/// The participants that are proved dead: their entries, each with the word it had when that was proved.
///
/// The word matters: somebody else may sweep the same dead one, free his entry, and a living participant
/// claim it, all while a sweep with this set is under way. What is Owned by an entry whose word has moved
/// on is therefore not a dead one's.
#[derive(Debug, Clone, Default)]
pub struct DeadSet(BTreeMap<u16, Word>);

/// What one participant did and is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// The entry.
    pub entry: u16,
    /// Its owner.
    pub identity: Identity,
    /// Whether the owner is there.
    pub liveness: Liveness,
    /// Commits of all owners that the entry ever had.
    pub commits: u64,
}

/// Sums over all entries, the dead and gone included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Commits.
    pub commits: u64,
    /// Exchanges lost to another participant.
    pub lost_exchanges: u64,
    /// Waits for a free cell or slot.
    pub room_waits: u64,
}

impl DeadSet {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `entry`, whose owner was proved dead while its word was `word`.
    pub fn insert(&mut self, entry: u16, word: Word) {
        self.0.insert(entry, word);
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the entry still is that of one of the dead.
    pub(crate) fn has(&self, space: &Space, entry: u16) -> bool {
        let now = space.entry(entry).map(|e| Word::load(e.word, Ordering::Acquire));
        self.0.get(&entry).is_some_and(|dead| now.is_ok_and(|now| now == *dead))
    }

    /// Whether `word`, read before this call from a cell or slot, says Owned by one of the dead.
    pub(crate) fn owns(&self, space: &Space, word: Word) -> bool {
        // The entry is read after the word: if a later owner of the entry had claimed the cell, his claim
        // of the entry would be visible here.
        let as_proved = |dead: &Word| {
            let entry = space.entry(word.owner());
            let same = entry.is_ok_and(|e| Word::load(e.word, Ordering::Acquire) == *dead);
            same || planted(Fault::SweepReused)
        };
        word.phase() == Phase::Owned
            && (self.0.get(&word.owner()).is_some_and(as_proved) || planted(Fault::SweepLiving))
    }
}

/// Adds one to a word that one thread alone writes.
#[inline]
pub(crate) fn bump(word: &AtomicU64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

impl Space {
    /// The entry `index`.
    pub(crate) fn entry(&self, index: u16) -> Result<EntryView<'_>, Error> {
        let start = self.layout().entries.start + usize::from(index) * ENTRY_WORDS;
        let words = self.segment().words().get(start..start + ENTRY_WORDS).unwrap_or_default();
        let second = words.get(LINE_WORDS.max(5)..).unwrap_or_default();
        match (words, second) {
            (
                [word, pid, start, inode, namespace, ..],
                [noted, commits, lost, waits, waiting, ..],
            ) if u32::from(index) < self.catalogue().participants => Ok(EntryView {
                word,
                pid,
                start,
                inode,
                namespace,
                noted,
                commits,
                lost,
                waits,
                waiting,
            }),
            _ => Err(Error::Corrupt { what: "an entry", offset: 0, found: index.into() }),
        }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (u16, EntryView<'_>)> {
        let count = self.catalogue().participants.min(ENTRIES_MAX as u32) as u16;
        (0..count).filter_map(|i| self.entry(i).ok().map(|e| (i, e)))
    }

    /// Claims a free entry for this process: its word, and the lock that proves its owner alive.
    ///
    /// There is none when all belong to the living. While others are just freeing some (a reaper sweeps before he
    /// frees, and holds the lock of an entry for a moment after it became Free), it waits for them.
    pub(crate) fn claim_entry(&self) -> Result<(u16, Word, Option<LockFile>), Error> {
        let lock = self.segment().lock_file()?;
        if let Some(lock) = &lock {
            self.hold_usage(lock)?;
        }
        let identity = if lock.is_some() { Identity::current()? } else { Identity::default() };
        let deadline = Deadline::after(CLAIM_WAIT);
        loop {
            let mut coming = false;
            for (index, entry) in self.entries() {
                match claim(index, &entry, lock.as_ref(), &identity)? {
                    Claimed::Mine(word) => {
                        self.check_whole()?;
                        return Ok((index, word, lock));
                    }
                    Claimed::Passing => coming = true,
                    Claimed::Taken => {}
                }
            }
            let reaped = self.with_reaper(|lock| self.reap_with(lock, true))?.transpose()?;
            // None: another thread of this process reaps; or there is no file, and all are this process's own.
            coming |= reaped.map_or(lock.is_some(), |(swept, held)| swept.participants + held > 0);
            if !coming || deadline.left().is_none() || planted(Fault::NoClaimWait) {
                return Err(Error::Participants { limit: self.catalogue().participants });
            }
            std::thread::sleep(CLAIM_EVERY);
        }
    }

    /// Finds the dead, sweeps what they left and frees their entries.
    ///
    /// With `thorough` also those whose lock a forked child still holds: they are swept, and their entries
    /// become free when the child has gone.
    ///
    /// # Errors
    /// [`Error`] when the segment is damaged or the locks do not work.
    pub fn reap(&self, thorough: bool) -> Result<Swept, Error> {
        self.try_reap(thorough).map(Option::unwrap_or_default)
    }

    /// Like [`Space::reap`]; `None` when another thread of this process is at it.
    ///
    /// # Errors
    /// As [`Space::reap`].
    pub fn try_reap(&self, thorough: bool) -> Result<Option<Swept>, Error> {
        let reaped = self.with_reaper(|lock| self.reap_with(lock, thorough))?.transpose()?;
        Ok(reaped.map(|(swept, _)| swept))
    }

    /// What was swept, and how many of the dead have entries that somebody else holds.
    fn reap_with(&self, lock: &LockFile, thorough: bool) -> Result<(Swept, u32), Error> {
        let mut dead = DeadSet::new();
        let (mut locked, mut found, mut held) = (Vec::new(), 0, 0);
        for (index, entry) in self.entries() {
            let before = Word::load(entry.word, Ordering::Acquire);
            if before.phase() != Phase::Owned {
                continue;
            }
            let byte = LOCK_ENTRIES + u64::from(index);
            if lock.try_lock(byte, Mode::Exclusive)? {
                let word = Word::load(entry.word, Ordering::Acquire);
                if word.phase() == Phase::Owned {
                    if planted(Fault::EntrySweptLast) {
                        word.exchange(entry.word, word.freed());
                    }
                    dead.insert(index, word);
                    locked.push((index, entry));
                } else {
                    lock.unlock(byte);
                }
            } else if thorough && entry.identity_under(before).is_some_and(|i| is_dead(&i)) {
                // Its lock is held by a forked child, or by another reaper: see `DeadSet`.
                dead.insert(index, before);
                held += 1;
            }
        }
        // Thorough also where nobody died: a living owner who marked his cell Published only after it was
        // displaced and stored left a cell that nobody else frees.
        let idle = dead.is_empty() && !thorough;
        let swept = if idle { Ok(Swept::default()) } else { sweep(self, &dead) };
        // What is damaged is left as it is, now and later: no reason to keep the entries.
        let done = swept.as_ref().err().is_none_or(Error::is_damage);
        for (index, entry) in locked {
            if done {
                self.wake_noted(&entry);
                let word = Word::load(entry.word, Ordering::Acquire);
                word.exchange(entry.word, word.freed());
                found += 1;
            }
            lock.unlock(LOCK_ENTRIES + u64::from(index));
        }
        self.whole(swept.map(|swept| (Swept { participants: found, ..swept }, held)))
    }

    /// Wakes who may have been left sleeping by a death between exchange and wake (on the record, on the
    /// table), and flags the slot. It stays noted until that is done: this reaper may die too.
    fn wake_noted(&self, entry: &EntryView<'_>) {
        let Some(noted) = entry.noted.load(Ordering::Acquire).checked_sub(1) else { return };
        if planted(Fault::NotedForgotten) {
            entry.noted.store(0, Ordering::Release);
        }
        let position = (noted >> 32) as usize;
        if let Ok(table) = self.table(position)
            && let Ok(slot) = table.slot(noted as u32)
        {
            self.flag(&table, slot.index);
            if !planted(Fault::NoNotedWake) {
                futex_wake_all(slot.head);
                // He may have moved the word and died before his wake: its bit says nothing then.
                let _ = table.control(TableControl::Watch).map(signal_all);
            }
        }
        entry.noted.store(0, Ordering::Release);
    }

    /// Who owns, or last owned, an entry.
    #[must_use]
    pub fn identity_of(&self, entry: u16) -> Option<Identity> {
        self.entry(entry).ok().map(|e| e.identity())
    }

    /// For models: frees the entries of `dead`, who were swept, as a reaper does who holds their locks.
    #[cfg(feature = "loom")]
    pub fn bury(&self, dead: &DeadSet) {
        for (index, word) in &dead.0 {
            if let Ok(entry) = self.entry(*index)
                && Word::load(entry.word, Ordering::Acquire) == *word
            {
                self.wake_noted(&entry);
                word.exchange(entry.word, word.freed());
            }
        }
    }

    /// Everybody who has an entry.
    #[must_use]
    pub fn participants(&self) -> Vec<Participant> {
        let entries = self.entries().filter(|(_, e)| e.is_owned());
        let participant = |(entry, e): (u16, EntryView<'_>)| {
            let identity = e.identity();
            let commits = e.commits.load(Ordering::Relaxed);
            Participant { entry, identity, liveness: identity.find().0, commits }
        };
        entries.map(participant).collect()
    }

    /// The counters, summed over all participants that ever were.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.entries().fold(Totals::default(), |sum, (_, e)| Totals {
            commits: sum.commits.wrapping_add(e.commits.load(Ordering::Relaxed)),
            lost_exchanges: sum.lost_exchanges.wrapping_add(e.lost.load(Ordering::Relaxed)),
            room_waits: sum.room_waits.wrapping_add(e.waits.load(Ordering::Relaxed)),
        })
    }
}

/// Whether the kernel says that it has ended; not knowing is no evidence.
fn is_dead(identity: &Identity) -> bool {
    match identity.find().0 {
        Liveness::Dead => true,
        Liveness::Alive => false,
        Liveness::Unknown => planted(Fault::UnknownIsDead),
    }
}

/// What came of an entry.
enum Claimed {
    /// It is this participant's, with this word.
    Mine(Word),
    /// It is free, but somebody holds its lock for a moment.
    Passing,
    /// It has an owner, dead or alive.
    Taken,
}

fn claim(
    index: u16,
    entry: &EntryView<'_>,
    lock: Option<&LockFile>,
    identity: &Identity,
) -> Result<Claimed, Error> {
    if Word::load(entry.word, Ordering::Acquire).phase() != Phase::Free {
        return Ok(Claimed::Taken);
    }
    let byte = LOCK_ENTRIES + u64::from(index);
    if let Some(lock) = lock
        && !lock.try_lock(byte, Mode::Exclusive)?
    {
        return Ok(Claimed::Passing);
    }
    let word = Word::load(entry.word, Ordering::Acquire);
    let next = word.claimed_by(index);
    if word.phase() == Phase::Free {
        entry.store(identity);
        if word.exchange(entry.word, next) {
            return Ok(Claimed::Mine(next));
        }
    }
    if let Some(lock) = lock {
        lock.unlock(byte);
    }
    Ok(Claimed::Taken)
}

impl EntryView<'_> {
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            pid: self.pid.load(Ordering::Relaxed) as u32,
            start_ticks: self.start.load(Ordering::Relaxed),
            pidfd_inode: self.inode.load(Ordering::Relaxed),
            pid_namespace: self.namespace.load(Ordering::Relaxed),
        }
    }

    /// Who owns the entry as long as its word is `word`; `None` when it is not any more.
    fn identity_under(&self, word: Word) -> Option<Identity> {
        let identity = self.identity();
        // Pairs with the fence in `store`: a later owner's words would show the entry free or his.
        fence(Ordering::Acquire);
        (Word::load(self.word, Ordering::Relaxed) == word).then_some(identity)
    }

    /// Whether it has an owner.
    pub(crate) fn is_owned(&self) -> bool {
        Word::load(self.word, Ordering::Acquire).phase() == Phase::Owned
    }

    /// Whether the kernel says that its owner has ended, if it has one.
    pub(crate) fn is_owner_dead(&self) -> bool {
        let word = Word::load(self.word, Ordering::Acquire);
        word.phase() == Phase::Owned && self.identity_under(word).is_some_and(|i| is_dead(&i))
    }

    /// Writes who owns the entry; the caller has its lock, and it is Free.
    fn store(&self, identity: &Identity) {
        fence(Ordering::Release);
        self.pid.store(identity.pid.into(), Ordering::Relaxed);
        self.start.store(identity.start_ticks, Ordering::Relaxed);
        self.inode.store(identity.pidfd_inode, Ordering::Relaxed);
        self.namespace.store(identity.pid_namespace, Ordering::Relaxed);
        self.noted.store(0, Ordering::Relaxed);
        self.waiting.store(0, Ordering::Relaxed);
    }
}
