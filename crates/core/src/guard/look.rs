//! Guards from outside: what they look like, and what the sweep takes from the dead.

use std::time::Duration;

use commonhold_segment::sync::{Fault, Ordering, planted};

use super::word::GuardWord;
use super::{CONTENTIONS, GuardRef, Previous, WAITED, WORD, wake_next};
use crate::directory::NameKind;
use crate::error::Error;
use crate::participant::DeadSet;
use crate::space::Space;

/// What a guard looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardFigures {
    /// Its name.
    pub name: String,
    /// The prefix of its metrics, if it was given one.
    pub metrics: String,
    /// The holder's entry.
    pub holder: Option<u16>,
    /// How often it was taken.
    pub number: u64,
    /// What happened to the last holder.
    pub previous: Previous,
    /// The longest that somebody may hold it, if that is limited.
    pub hold_limit: Option<Duration>,
    /// Participants that sleep for it now.
    pub waiters: u32,
    /// How often somebody had to wait for it.
    pub contentions: u64,
    /// How long they waited, all together.
    pub waited: Duration,
}

impl Space {
    /// For the sweep: takes the guards of the dead from them. Their entries are not free yet, so what a guard's word
    /// says of one of them it says of a dead one. Wakes who sleeps for a guard that is free.
    pub(crate) fn sweep_guards(&self, dead: &DeadSet) -> Result<(), Error> {
        if dead.is_empty() || planted(Fault::NoGuardSweep) {
            return Ok(());
        }
        for guard in self.names()?.iter().filter(|d| d.kind == NameKind::Guard) {
            let word = self.name_entry(guard.index)?.hot(WORD)?;
            let left = loop {
                let now = GuardWord::load(word, Ordering::Acquire);
                let left = now.left(Previous::Died);
                if !now.holder().is_some_and(|holder| dead.has(self, holder)) {
                    break now;
                }
                if now.exchange(word, left) {
                    break left;
                }
            };
            // Also who died after he left it, or on being woken, may have left somebody sleeping.
            if left.holder().is_none() && left.has_waiters() {
                wake_next(word, left);
            }
        }
        Ok(())
    }

    /// Every guard, as it looks now.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn guards(&self) -> Result<Vec<GuardFigures>, Error> {
        let names = self.names()?;
        let guards = names.into_iter().filter(|d| d.kind == NameKind::Guard);
        let figures = guards.map(|guard| {
            let now = GuardWord::load(self.name_entry(guard.index)?.hot(WORD)?, Ordering::Acquire);
            let mine = u64::from(guard.index) + 1;
            let waits = |e: &u64| *e == mine;
            let owned = self.entries().filter(|(_, e)| e.is_owned());
            let waiting = owned.map(|(_, e)| e.waiting.load(Ordering::Relaxed));
            Ok(GuardFigures {
                waiters: waiting.filter(waits).count() as u32,
                holder: now.holder(),
                number: now.number(),
                previous: now.previous(),
                hold_limit: Some(Duration::from_nanos(guard.extra)).filter(|l| !l.is_zero()),
                contentions: self.sum_shares(guard.offset + CONTENTIONS)?,
                waited: Duration::from_nanos(self.sum_shares(guard.offset + WAITED)?),
                metrics: guard.labels,
                name: guard.name,
            })
        });
        figures.collect()
    }

    /// Guards that nobody holds and whose last holder left something to be looked at.
    pub(crate) fn left_guards(&self) -> Result<Vec<GuardRef>, Error> {
        let names = self.names()?;
        let guards = names.iter().filter(|d| d.kind == NameKind::Guard);
        let mut left = Vec::new();
        for guard in guards {
            let now = GuardWord::load(self.name_entry(guard.index)?.hot(WORD)?, Ordering::Acquire);
            if now.holder().is_none() && now.previous() != Previous::Released {
                let (index, share) = (guard.index, guard.offset);
                left.push(GuardRef { index, share, hold_limit_ns: guard.extra });
            }
        }
        Ok(left)
    }
}
