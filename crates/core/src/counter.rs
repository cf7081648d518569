//! Named counters: signed numbers that everybody adds to, and that the store keeps.
//!
//! **State**: two words of the counter's entry in the directory (directory.rs), and one control word for all counters.
//! ```text
//! hot      value   what everybody adds to, by compare-exchange
//! warm     kept    what the store has; the steward alone writes it
//! control  ASKED   bit 0: somebody waits for the store to have all counters · above: rounds that served such a wait
//! ```
//! An addition is one compare-exchange and tells nobody. The steward stores the counters whose value is not the kept one
//! about once a second, before he leaves, and when he is asked. So what survives a crash of the machine is at most
//! about a second old, or as new as the last drain; a killed process loses nothing, for the values are in the segment.
//!
//! **Asking** (`drain`): set the bit, ring, and sleep on that very word until a round has moved it that *read the
//! values after the bit was set*. The steward reads the word before the values and moves it after storing them, only
//! if its bit was set when he read it. So for whoever set the bit himself the next move is such a round; who found it
//! set came in while a round may have been under way, and waits for one more.
//!
//! **Crash.** Who dies has added or has not. A steward killed between transaction and `kept` leaves a value that differs:
//! it is stored again. The bit stays until a round has served it.

use commonhold_segment::sync::{AtomicU64, Fault, Ordering, crossing, futex_wait, planted};
use crossbeam_utils::Backoff;

use crate::directory::{Descriptor, NameKind, NewName};
use crate::error::Error;
use crate::handle::Handle;
use crate::pool::{WAIT_PIECE, signal};
use crate::space::{Space, control};
use crate::wait::Deadline;

const WAITERS: u64 = 1;

/// The words of one counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CounterWords<'a> {
    value: &'a AtomicU64,
    kept: &'a AtomicU64,
}

impl CounterWords<'_> {
    /// The value, if the store has another one.
    pub(crate) fn unstored(self) -> Option<i64> {
        let value = self.value.load(Ordering::Acquire);
        (value != self.kept.load(Ordering::Acquire)).then_some(value.cast_signed())
    }

    /// The store has `value`.
    pub(crate) fn keep(self, value: i64) {
        self.kept.store(value.cast_unsigned(), Ordering::Release);
    }

    /// Before anybody else sees the segment: goes on with a stored value.
    pub(crate) fn load(self, value: i64) {
        self.keep(value);
        self.value.store(value.cast_unsigned(), Ordering::Release);
    }
}

impl Space {
    pub(crate) fn counter_words(&self, index: u16) -> Result<CounterWords<'_>, Error> {
        let entry = self.name_entry(index)?;
        Ok(CounterWords { value: entry.hot(0)?, kept: entry.warm(0)? })
    }

    /// A counter's value.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn counter_value(&self, counter: &Descriptor) -> Result<i64, Error> {
        let value = self.counter_words(counter.index)?.value.load(Ordering::Acquire);
        self.whole(Ok(value.cast_signed()))
    }

    /// How many counters have a value that the store has not.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn unstored_counters(&self) -> Result<u64, Error> {
        let mut count = 0;
        self.each_name_of(NameKind::Counter, |index| {
            count += u64::from(self.counter_words(index)?.unstored().is_some());
            Ok(())
        })?;
        self.whole(Ok(count))
    }

    fn asked_word(&self) -> Result<&AtomicU64, Error> {
        self.control_line(control::ASKED)
    }

    /// Whether somebody waits for the store to have all counters.
    pub(crate) fn counters_asked(&self) -> Result<bool, Error> {
        Ok(self.asked_word()?.load(Ordering::SeqCst) & WAITERS != 0)
    }

    /// A round that found them asked for has stored the counters.
    pub(crate) fn counters_served(&self) -> Result<(), Error> {
        signal(self.asked_word()?);
        Ok(())
    }
}

impl Handle {
    /// The counter `name`, registered now with 0 if it is not yet.
    ///
    /// # Errors
    /// As for [`Handle::register_name`].
    pub fn register_counter(&self, name: &str) -> Result<Descriptor, Error> {
        let kind = NameKind::Counter;
        let new = NewName { kind, name, unit: "", labels: "", help: "", extra: 0, width: 0 };
        self.register_name(&new)
    }

    /// Adds to a counter; the value that this made.
    ///
    /// # Errors
    /// [`Error::CounterOverflow`] when the sum is none: nothing was added; [`Error::Corrupt`].
    #[inline]
    pub fn add_counter(&self, counter: &Descriptor, add: i64) -> Result<i64, Error> {
        let word = self.space().counter_words(counter.index)?.value;
        let backoff = Backoff::new();
        let mut now = word.load(Ordering::Relaxed);
        loop {
            let value = now.cast_signed();
            let Some(sum) = value.checked_add(add) else {
                self.space().check_whole()?;
                return Err(Error::CounterOverflow { name: counter.name.clone(), value, add });
            };
            let next = sum.cast_unsigned();
            match word.compare_exchange(now, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return self.space().check_whole().map(|()| sum),
                Err(other) => now = other,
            }
            backoff.spin();
        }
    }

    /// Waits until the store has what every counter was when this was called, or a later value.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the store's last error when the deadline passed first.
    pub(crate) fn wait_counters(&self, deadline: &Deadline) -> Result<(), Error> {
        if self.space().unstored_counters()? == 0 {
            return Ok(());
        }
        let word = self.space().asked_word()?;
        let first = word.fetch_or(WAITERS, Ordering::SeqCst);
        let mine = first & WAITERS == 0 || planted(Fault::OneRound);
        let rounds = if mine { 1 } else { 2 };
        loop {
            // Set again when the first of two rounds has cleared it.
            let now = word.load(Ordering::SeqCst);
            self.space().check_whole()?;
            if (now >> 1).wrapping_sub(first >> 1) >= rounds {
                return Ok(());
            }
            self.space().check_storable(None, || "the counters".to_owned())?;
            let Some(left) = deadline.left() else {
                let why = self.space().why_not_stored();
                return Err(deadline.timeout("the store to have every counter".to_owned(), why));
            };
            let marked = now | WAITERS;
            let mark = || word.compare_exchange(now, marked, Ordering::SeqCst, Ordering::Relaxed);
            if now == marked || mark().is_ok() {
                crossing();
                self.space().hurry_steward()?;
                futex_wait(word, marked as u32, left.min(WAIT_PIECE));
            }
        }
    }
}
