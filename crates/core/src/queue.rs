//! Queues: how processes that share a queue of records tell one another beside the records.
//!
//! **State**: words of the queue's entry in the directory (directory.rs). The records themselves are ordinary ones and
//! say all that is true; nothing here is more than a hint, or the word that somebody sleeps on.
//! ```text
//! hot    ready        bit 0: somebody sleeps · bit 1: somebody looks next · above: moves when there is something to do
//! hot    done         bit 0: somebody sleeps · above: moves when something was done (pool.rs: announce, signal)
//! hot    supervisor   the same, for who looks after the workers
//! hot    looks at     when the supervisor looks again, in nanoseconds of the monotonic clock; 0: there is none
//! hot    grows        1: he may start another worker
//! hot    succession   as `done`, for who stands by to look after the workers next
//! warm   hints 0..4   one word a class: a bit says that one of its 64 groups of records may have one of that class
//! ```
//! **Hints**: who makes a record one of a class sets the bit of its group *after* the commit. Who looks for one clears
//! the bit *before* he looks at the group's records, and sets it again unless he found none. So a bit that is clear
//! while there is one has somebody who is just looking, or who died between his commit and the bit: the supervisor
//! looks at all records when a worker has died, and each second.
//!
//! **Looks**: while the supervisor looks, `looks at` is as late as can be. Who wants him to look earlier lowers the word,
//! and rings if that was not during a look: then the supervisor finds it at the end of the look, when he lowers the word
//! to his own next one. So a thousand submissions during one look are one more look and no ring.
//!
//! **Sleep**: a worker that finds nothing announces itself (bit 0), looks once more, and sleeps on exactly the value that it
//! left. Who has set a hint moves the word, and wakes one sleeper if there may be any.
//!
//! **One at a time**: a wake costs more than a small task, and a woken worker takes as long to come as others need for
//! several. So who wakes one sets bit 1, and a worker that has just run out of tasks sets it for the short time in which
//! it looks out for a ring without sleeping; while it is set nobody is woken. Whoever it stands for takes it back *before*
//! he looks at the hints. A ring that found it set came before that, so its hint did too: he sees it. When he finds
//! something and there is more, he rings: so all are awake that are needed, one after the other.
//!
//! Who has waked nobody takes both bits back, and wakes once more those who fell asleep between.
//!
//! **Crash**: nothing here is owned. A worker that dies with bit 1 set, or before it rings in its turn, keeps others asleep
//! until the supervisor has learnt of it and wakes all. Where a submitter dies so, or somebody is only stopped, they sleep
//! until they look by themselves, each second.

use std::time::Duration;

use commonhold_segment::sync::{
    AtomicU64, Fault, Ordering, crossing, fence, futex_wait, futex_wake_all, futex_wake_one,
    planted,
};

use crate::directory::{Descriptor, NameKind, NewName};
use crate::error::Error;
use crate::handle::Handle;
use crate::pool::{announce, signal};
use crate::space::Space;

/// Classes of records that have hints.
pub const CLASSES: usize = 4;
/// Groups of records, each with one bit a class.
pub const GROUPS: u32 = 64;

/// Of the word for something to do: somebody may sleep.
const SLEEPERS: u64 = 1;
/// Of the same word: somebody who is awake looks next.
const SEARCHER: u64 = 1 << 1;
/// One ring.
const RING: u64 = 1 << 2;

const READY: usize = 0;
const DONE: usize = 1;
const SUPERVISOR: usize = 2;
const LOOKS_AT: usize = 3;
const GROWS: usize = 4;
const SUCCESSION: usize = 5;
/// In `looks at`: the supervisor is just looking.
const LOOKING: u64 = u64::MAX;

/// Something to sleep on until somebody rings; all sleepers wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bell {
    /// Something was done.
    Done,
    /// The supervisor is to look.
    Supervisor,
    /// There is another supervisor, or none.
    Succession,
}

impl Bell {
    fn word(self) -> usize {
        match self {
            Self::Done => DONE,
            Self::Supervisor => SUPERVISOR,
            Self::Succession => SUCCESSION,
        }
    }
}

impl Handle {
    /// The queue `name`, registered now if it is not yet.
    ///
    /// # Errors
    /// As for [`Handle::register_name`].
    pub fn register_queue(&self, name: &str) -> Result<Descriptor, Error> {
        let kind = NameKind::Queue;
        let new = NewName { kind, name, unit: "", labels: "", help: "", extra: 0, width: 0 };
        self.register_name(&new)
    }
}

impl Space {
    fn bell(&self, queue: &Descriptor, bell: Bell) -> Result<&AtomicU64, Error> {
        self.name_entry(queue.index)?.hot(bell.word())
    }

    fn ready(&self, queue: &Descriptor) -> Result<&AtomicU64, Error> {
        self.name_entry(queue.index)?.hot(READY)
    }

    fn hints_of(&self, queue: &Descriptor, class: usize) -> Result<&AtomicU64, Error> {
        self.name_entry(queue.index)?.warm(class)
    }

    /// Says that there is something to do. Wakes one who sleeps for that, unless somebody is awake who looks next; whether
    /// there is one of either.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn ring_ready(&self, queue: &Descriptor) -> Result<bool, Error> {
        let word = self.ready(queue)?;
        let mut now = word.fetch_add(RING, Ordering::SeqCst).wrapping_add(RING);
        loop {
            if now & SEARCHER != 0 || now & SLEEPERS == 0 {
                return Ok(now & SEARCHER != 0);
            }
            let sent = now | SEARCHER;
            match word.compare_exchange(now, sent, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(other) => now = other,
            }
        }
        if futex_wake_one(word) {
            return Ok(true);
        }
        // Nobody slept. Who falls asleep from here on has found nothing; he is woken once more, and announces himself anew.
        word.fetch_and(!(SLEEPERS | SEARCHER), Ordering::SeqCst);
        if !planted(Fault::NoSecondWake) {
            futex_wake_all(word);
        }
        Ok(false)
    }

    /// Wakes all who sleep for something to do.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn ring_ready_all(&self, queue: &Descriptor) -> Result<(), Error> {
        let word = self.ready(queue)?;
        word.fetch_add(RING, Ordering::SeqCst);
        word.fetch_and(!(SLEEPERS | SEARCHER), Ordering::SeqCst);
        futex_wake_all(word);
        Ok(())
    }

    /// Where the word for something to do stands: take it before looking, then pass it to [`Space::search_ready`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn listen_ready(&self, queue: &Descriptor) -> Result<u64, Error> {
        Ok(self.ready(queue)?.load(Ordering::SeqCst))
    }

    /// For who has found nothing to do: stays awake a moment longer, so that who rings meanwhile need not wake anybody.
    /// Not when somebody else does so already. It looks at the word `spins` times. Whether somebody has rung since
    /// `heard`; to be followed by a look.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn search_ready(&self, queue: &Descriptor, heard: u64, spins: u32) -> Result<bool, Error> {
        let word = self.ready(queue)?;
        let has_rung = |now: u64| now / RING != heard / RING;
        let now = word.load(Ordering::SeqCst);
        if has_rung(now) || now & SEARCHER != 0 {
            return Ok(has_rung(now));
        }
        let search = now | SEARCHER;
        if word.compare_exchange(now, search, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return Ok(true);
        }
        for _ in 0..spins {
            if has_rung(word.load(Ordering::Relaxed)) {
                break;
            }
            std::hint::spin_loop();
        }
        Ok(has_rung(word.fetch_and(!SEARCHER, Ordering::SeqCst)))
    }

    /// Announces a sleeper: take it before the last look, then pass it to [`Space::sleep_ready`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn announce_ready(&self, queue: &Descriptor) -> Result<u64, Error> {
        let heard = self.ready(queue)?.fetch_or(SLEEPERS, Ordering::SeqCst) | SLEEPERS;
        // What the sleeper looks at next is read with weaker orderings.
        fence(Ordering::SeqCst);
        Ok(heard)
    }

    /// Sleeps until somebody rings, if nobody has since `heard`; at most `limit`. To be followed by a look; who finds
    /// something then, and sees that there is more, rings in his turn.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn sleep_ready(
        &self,
        queue: &Descriptor,
        heard: u64,
        limit: Duration,
    ) -> Result<(), Error> {
        let word = self.ready(queue)?;
        if word.load(Ordering::SeqCst) == heard {
            futex_wait(word, heard as u32, limit);
        }
        // Before the look: who rings behind this wakes another one.
        if !planted(Fault::SearcherStays) {
            word.fetch_and(!SEARCHER, Ordering::SeqCst);
        }
        self.check_whole()
    }

    /// Rings `bell`: wakes all who announced themselves.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn ring_bell(&self, queue: &Descriptor, bell: Bell) -> Result<(), Error> {
        signal(self.bell(queue, bell)?);
        Ok(())
    }

    /// Announces a sleeper; to be called before looking. What [`Space::sleep_bell`] needs.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn listen_bell(&self, queue: &Descriptor, bell: Bell) -> Result<u64, Error> {
        Ok(announce(self.bell(queue, bell)?))
    }

    /// Sleeps until somebody rings, if nobody has since `heard`; at most `limit`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn sleep_bell(
        &self,
        queue: &Descriptor,
        bell: Bell,
        heard: u64,
        limit: Duration,
    ) -> Result<(), Error> {
        let word = self.bell(queue, bell)?;
        if word.load(Ordering::SeqCst) == heard {
            futex_wait(word, heard as u32, limit);
        }
        self.check_whole()
    }

    /// Has the supervisor look by `at`, in nanoseconds of the monotonic clock, if he would look later. To be called after
    /// the commit that he is to see.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn look_by(&self, queue: &Descriptor, at: u64) -> Result<(), Error> {
        let word = self.name_entry(queue.index)?.hot(LOOKS_AT)?;
        crossing();
        if word.load(Ordering::SeqCst) <= at {
            return Ok(());
        }
        let before = word.fetch_min(at, Ordering::SeqCst);
        if before > at && before != LOOKING {
            self.ring_bell(queue, Bell::Supervisor)
        } else {
            Ok(())
        }
    }

    /// For the supervisor: the look begins. What was committed before is seen by it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn begin_look(&self, queue: &Descriptor) -> Result<(), Error> {
        self.name_entry(queue.index)?.hot(LOOKS_AT)?.swap(LOOKING, Ordering::SeqCst);
        // What he looks at is read with weaker orderings.
        if !planted(Fault::NoLookFence) {
            fence(Ordering::SeqCst);
        }
        Ok(())
    }

    /// For the supervisor: the look ends, and the next one is to be at `at`; or earlier, when somebody asked for that
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn end_look(&self, queue: &Descriptor, at: u64) -> Result<u64, Error> {
        let word = self.name_entry(queue.index)?.hot(LOOKS_AT)?;
        if planted(Fault::LookOverwritten) {
            word.store(at, Ordering::SeqCst);
            return Ok(at);
        }
        Ok(word.fetch_min(at, Ordering::SeqCst).min(at))
    }

    /// For the supervisor: there is none from now on.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn end_looks(&self, queue: &Descriptor) -> Result<(), Error> {
        self.name_entry(queue.index)?.hot(LOOKS_AT)?.store(0, Ordering::SeqCst);
        Ok(())
    }

    /// For the supervisor: whether he may start another worker.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn set_grows(&self, queue: &Descriptor, grows: bool) -> Result<(), Error> {
        self.name_entry(queue.index)?.hot(GROWS)?.store(grows.into(), Ordering::SeqCst);
        Ok(())
    }

    /// Whether the supervisor may start another worker.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn grows(&self, queue: &Descriptor) -> Result<bool, Error> {
        Ok(self.name_entry(queue.index)?.hot(GROWS)?.load(Ordering::SeqCst) != 0)
    }

    /// The groups that may have a record of `class`, one bit each.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn hints(&self, queue: &Descriptor, class: usize) -> Result<u64, Error> {
        Ok(self.hints_of(queue, class)?.load(Ordering::SeqCst))
    }

    /// Says that `group` may have a record of `class`. To be called after the commit that made it one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn set_hint(&self, queue: &Descriptor, class: usize, group: u32) -> Result<(), Error> {
        // Even where it is set already: who clears it after this sees the commit.
        let (word, bit) = (self.hints_of(queue, class)?, 1 << (group % GROUPS));
        if planted(Fault::HintSkipped) && word.load(Ordering::SeqCst) & bit != 0 {
            return Ok(());
        }
        word.fetch_or(bit, Ordering::SeqCst);
        Ok(())
    }

    /// Clears the hint of `group`; whether it was set. To be called before looking at the group's records.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn clear_hint(&self, queue: &Descriptor, class: usize, group: u32) -> Result<bool, Error> {
        let (word, bit) = (self.hints_of(queue, class)?, 1 << (group % GROUPS));
        Ok(word.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
    }
}
