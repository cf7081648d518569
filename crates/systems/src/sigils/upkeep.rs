//! What is done from time to time: what is recalled often becomes permanent, strengths are written down, and what
//! faded is swept.
//!
//! **The sweep never removes what was just touched.** It looks at all records, and what was faded then it deletes *if
//! it still is*: the deletion is one compare-exchange against the very version that was judged, so a recall that came
//! first makes the sweep judge anew, and one that comes after finds no sigil and says so. A sigil that is just being
//! encoded has its full strength in its first version.
//!
//! **Crash.** A sweep killed between the removal of a sigil and the change of its state's record leaves a record that
//! names a sigil that is gone. Who encodes an equal payload puts his own in its place. The sweep removes such records
//! when there are more states than sigils, so they never fill their table.

use std::time::{Duration, Instant};

use commonhold_runtime::core::read::Snapshot;
use commonhold_runtime::{Error, Handle};
use serde::Serialize;

use super::encode::{read_newest, write_newest};
use super::error::SigilError;
use super::id::{SigilId, state_key};
use super::identity::{SigilIdentity, Stop, key_id, settle};
use super::records::Front;

/// A strength is written down when an eighth of what the record says is gone: readers compute it anyway, so this is for
/// those who look at the store, and each write is a commit.
const WRITE_BELOW: f64 = 0.875;
/// A permanent sigil's strength.
const PERMANENT_STRENGTH: f64 = 1.0;

/// What a look for often recalled sigils did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Crystallized {
    /// How many sigils it saw.
    pub seen: u64,
    /// How many became permanent.
    pub crystallized: u64,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Decayed {
    /// How many sigils it saw.
    pub seen: u64,
    /// Of how many it wrote down the strength.
    pub written: u64,
    /// How many it removed.
    pub swept: u64,
    /// How many it had found faded and left, because they were touched meanwhile.
    pub spared: u64,
    /// How many are permanent.
    pub permanent: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// What a sweep makes of a sigil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    Write,
    Sweep,
}

impl SigilIdentity {
    /// Makes permanent what was recalled often enough ([`super::SigilOptions::crystallize_after`]) and has not faded:
    /// it has its full strength from then on, does not decay, and is never swept.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Corrupt`].
    pub fn crystallize_memory_patterns(&self) -> Result<Crystallized, SigilError> {
        let ripe = |front: &Front| {
            let options = &self.shared.options;
            !front.permanent
                && front.recalls >= options.crystallize_after
                && !self.is_faded(front, self.now())
        };
        let (mut seen, mut found) = (0, Vec::new());
        self.fronts(|key, front| {
            seen += 1;
            if ripe(front) {
                found.push(key.to_owned());
            }
        })?;
        let crystallized = self.with(|handle| {
            let mut count = 0;
            for key in &found {
                count += u64::from(self.change_front(handle, key, |front| {
                    let ripe = ripe(front);
                    front.permanent = true;
                    front.set_strength(PERMANENT_STRENGTH, self.now());
                    ripe
                })?);
            }
            handle.count(self.shared.metrics.crystallized, count)?;
            Ok(count)
        })?;
        Ok(Crystallized { seen, crystallized })
    }

    /// Writes down what strengths have become, and removes the sigils whose strength is below the threshold
    /// ([`super::SigilOptions::threshold`]).
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Corrupt`].
    pub fn process_memory_decay(&self) -> Result<Decayed, SigilError> {
        let began = Instant::now();
        let mut done =
            Decayed { seen: 0, written: 0, swept: 0, spared: 0, permanent: 0, took_us: 0 };
        let mut found = Vec::new();
        self.fronts(|key, front| {
            done.seen += 1;
            done.permanent += u64::from(front.permanent);
            let verdict = self.judge(front);
            if verdict != Verdict::Keep {
                found.push((key.to_owned(), verdict));
            }
        })?;
        self.with(|handle| {
            for (key, verdict) in &found {
                if *verdict == Verdict::Write {
                    done.written += u64::from(self.write_strength(handle, key)?);
                } else if self.remove_faded(handle, key)? {
                    done.swept += 1;
                } else {
                    done.spared += 1;
                }
            }
            let left = done.seen - done.swept;
            self.drop_stale_states(handle, left)?;
            let took = began.elapsed();
            done.took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.count_sweep(handle, &done, took)?;
            Ok(done)
        })
    }

    fn count_sweep(&self, handle: &Handle, done: &Decayed, took: Duration) -> Result<(), Error> {
        let metrics = &self.shared.metrics;
        handle.count(metrics.removed, done.swept)?;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        handle.observe(metrics.sweep_duration, nanos)?;
        let fading = done.seen.saturating_sub(done.swept + done.permanent);
        handle.set_gauge(metrics.fading, fading as f64)?;
        handle.set_gauge(metrics.permanent, done.permanent as f64)?;
        handle.count(metrics.sweeps, 1)
    }

    /// Visits the fields of fixed size of every sigil.
    fn fronts(&self, mut visit: impl FnMut(&str, &Front)) -> Result<(), SigilError> {
        self.space().scan(self.shared.tables.sigils, |key, seen| {
            // What is damaged is left as it is: others' memory is looked after all the same.
            if let Ok(front) = Front::decode(&seen.payload) {
                visit(key, &front);
            }
            Ok(())
        })
    }

    fn is_faded(&self, front: &Front, now: i64) -> bool {
        !front.permanent && front.strength(now) < self.shared.options.threshold
    }

    fn judge(&self, front: &Front) -> Verdict {
        // After the record was read: only a clock that was set back is before its times.
        let now = self.now();
        if front.permanent {
            Verdict::Keep
        } else if self.is_faded(front, now) {
            Verdict::Sweep
        } else if front.strength_at > now || front.strength(now) < front.strength * WRITE_BELOW {
            Verdict::Write
        } else {
            Verdict::Keep
        }
    }

    fn write_strength(&self, handle: &Handle, key: &str) -> Result<bool, SigilError> {
        self.change_front(handle, key, |front| {
            let wanted = self.judge(front) == Verdict::Write;
            let now = self.now();
            front.set_strength(front.strength(now), now);
            wanted
        })
    }

    /// Changes the fields of fixed size as one commit, if `change` says so; false when it does not, or the sigil is gone.
    fn change_front(
        &self,
        handle: &Handle,
        key: &str,
        mut change: impl FnMut(&mut Front) -> bool,
    ) -> Result<bool, SigilError> {
        let table = self.shared.tables.sigils;
        let Some(record) = handle.locate(table, key)? else { return Ok(false) };
        let made = handle.update_at(table, record, |current, next| {
            let mut front = Front::decode(current)?;
            if !change(&mut front) {
                return Err(Stop::Not);
            }
            front.replace_in(current, next);
            Ok(())
        });
        Ok(settle(made)?.is_some())
    }

    /// Removes the sigil if it is faded in the very version that goes; false when it was touched, or is gone.
    fn remove_faded(&self, handle: &Handle, key: &str) -> Result<bool, SigilError> {
        let tables = &self.shared.tables;
        let Some(record) = handle.locate(tables.sigils, key)? else { return Ok(false) };
        let mut twin = None;
        let allow = |seen: &Snapshot| {
            let stored = tables.decode(&seen.payload)?;
            twin = stored.twin.parse::<SigilId>().ok();
            if self.judge(&stored.front) == Verdict::Sweep { Ok(()) } else { Err(Stop::Not) }
        };
        let deleted = handle.delete_at(tables.sigils, record, allow);
        if settle(deleted)?.is_none() {
            return Ok(false);
        }
        if let Ok(id) = key_id(key) {
            self.replace_newest(handle, id, twin)?;
        }
        Ok(true)
    }

    /// Sigil `gone` is: if it was the newest of its state, the one before is now, or nobody.
    fn replace_newest(
        &self,
        handle: &Handle,
        gone: SigilId,
        twin: Option<SigilId>,
    ) -> Result<(), SigilError> {
        let (states, key) = (self.shared.tables.states, state_key(gone.state));
        let Some(record) = handle.locate(states, key.as_str())? else { return Ok(()) };
        let is_it = |current: &[u8]| {
            if read_newest(current) == Some(gone) { Ok(()) } else { Err(Stop::Not) }
        };
        let done = match self.living(handle, twin)? {
            Some(twin) => handle.update_at(states, record, |current, next| {
                write_newest(twin, next);
                is_it(current)
            }),
            None => handle.delete_at(states, record, |seen| is_it(&seen.payload)),
        };
        settle(done).map(|_| ())
    }

    /// Removes records of states that name sigils that are gone, if there are more states than sigils.
    fn drop_stale_states(&self, handle: &Handle, sigils: u64) -> Result<(), SigilError> {
        let states = self.shared.tables.states;
        if u64::from(self.space().figures(states)?.slots.published) <= sigils {
            return Ok(());
        }
        let mut named = Vec::new();
        self.space().scan::<Error>(states, |key, seen| {
            named.push((key.to_owned(), read_newest(&seen.payload)));
            Ok(())
        })?;
        for (key, newest) in named {
            // A sigil is there before a record names it, so one that is not there was removed.
            if self.living(handle, newest)?.is_some() {
                continue;
            }
            let Some(record) = handle.locate(states, &key)? else { continue };
            let stale = |seen: &Snapshot| {
                if read_newest(&seen.payload) == newest { Ok(()) } else { Err(Stop::Not) }
            };
            settle(handle.delete_at::<Stop>(states, record, stale))?;
        }
        Ok(())
    }
}
