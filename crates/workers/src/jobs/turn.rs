//! What becomes of a job's record: pure steps, each of which is one commit where it is used.
//!
//! ```text
//! Waiting ──► Running ──► Waiting     its time came, or it was asked for · it ended, or its process died
//!    │▲          │           ▲
//!    ▼└ resume   └► Stopped ─┘        paused meanwhile
//! Stopped ─► Running                  asked for
//! ```
//! **The claim of a tick is the step to Running**, made over the run number and the time that the claimer saw. Two that
//! saw the same tick saw the same number; the first one's commit moves it, and the other's is refused.
//!
//! **Time**: a cron expression is due when the wall clock has reached the time in the record; the next time is looked
//! for behind *now*, so that what was missed is run once. The time in the record lies at most so far ahead as one that
//! is looked for now, or an hour later for a job that is due at one time of the day ([`Schedule::set_back_max`]): else
//! the clock was set back, and the next time is looked for anew. No clock of its own is kept for that.

use std::time::Duration;

use commonhold_runtime::{Text, Timestamp};

use super::clock::Moment;
use super::records::{JobOutcome, JobState, StoredJob};
use super::schedule::{NEVER, Schedule};
use crate::records::Process;

/// Who claims a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimer {
    /// The participant, as a number.
    pub(super) participant: u64,
    /// Its process.
    pub(super) process: Process,
}

impl StoredJob {
    /// A new job, due for the first time after `now`.
    pub(super) fn new(schedule: &Schedule, now: &Moment) -> Self {
        let mut job = Self { state: JobState::Waiting.code(), ..Self::default() };
        job.reschedule(schedule, now);
        job
    }

    /// Takes over a schedule; whether it is another one.
    pub(super) fn reschedule(&mut self, schedule: &Schedule, now: &Moment) -> bool {
        let other = !schedule.is_of(self);
        if other {
            // Both were measured when the schedule was made.
            self.schedule = Text::new(&schedule.text()).unwrap_or_default();
            self.zone = Text::new(schedule.zone_name()).unwrap_or_default();
            self.period = schedule.period();
            self.begin_anew(schedule, now);
        }
        other
    }

    /// Due at the first time behind `now`, or one interval later.
    pub(super) fn begin_anew(&mut self, schedule: &Schedule, now: &Moment) {
        match schedule {
            Schedule::Cron { .. } => self.due_at = at(schedule.after(now.wall)),
            Schedule::Every(_) => self.set_due(now.monotonic.saturating_add(self.period), now),
        }
    }

    fn set_due(&mut self, due: u64, now: &Moment) {
        (self.due, self.epoch) = (due, now.epoch);
        let left = i64::try_from(due.saturating_sub(now.monotonic) / 1000).unwrap_or(NEVER);
        self.due_at = Timestamp(now.wall.saturating_add(left));
    }

    /// Corrects the time at which it is due, when that is of another clock than today's; whether it did.
    pub(super) fn settle(&mut self, schedule: &Schedule, now: &Moment) -> bool {
        match schedule {
            Schedule::Cron { .. } => {
                let latest = now.wall.saturating_add(schedule.set_back_max());
                let ahead = self.due_at.0.saturating_sub(latest) > 0;
                let anew = ahead && schedule.after(latest).is_some_and(|at| at < self.due_at.0);
                if anew {
                    self.begin_anew(schedule, now);
                }
                anew
            }
            // Of another making of the segment, maybe of before a boot: what was left then is left still.
            Schedule::Every(_) if self.epoch != now.epoch => {
                let left = self.due_at.0.saturating_sub(now.wall).max(0).cast_unsigned();
                let left = left.saturating_mul(1000).min(self.period);
                self.set_due(now.monotonic.saturating_add(left), now);
                true
            }
            Schedule::Every(_) => false,
        }
    }

    /// How long it is to the time at which it is due; zero when that has come.
    pub(super) fn due_in(&self, now: &Moment) -> Duration {
        if self.period == 0 {
            let left = self.due_at.0.saturating_sub(now.wall).max(0);
            return Duration::from_micros(left.cast_unsigned());
        }
        Duration::from_nanos(self.due.saturating_sub(now.monotonic))
    }

    /// How long since that time.
    pub(super) fn late(&self, now: &Moment) -> Duration {
        if self.period == 0 {
            let late = now.wall.saturating_sub(self.due_at.0).max(0);
            return Duration::from_micros(late.cast_unsigned());
        }
        Duration::from_nanos(now.monotonic.saturating_sub(self.due))
    }

    /// Whether it may be claimed.
    pub(super) fn is_ripe(&self, now: &Moment) -> bool {
        let is_due = self.is(JobState::Waiting) && self.due_in(now).is_zero();
        !self.is(JobState::Running) && (is_due || self.asked)
    }

    /// Due at the next time behind `now`, if this one has come.
    fn advance(&mut self, schedule: &Schedule, now: &Moment) {
        if !self.due_in(now).is_zero() {
            return;
        }
        match schedule {
            Schedule::Cron { .. } => self.begin_anew(schedule, now),
            Schedule::Every(_) => {
                let passed = now.monotonic.saturating_sub(self.due) / self.period.max(1);
                let step = self.period.saturating_mul(passed.saturating_add(1));
                self.set_due(self.due.saturating_add(step), now);
            }
        }
    }

    /// Claims the tick that `seen` showed: false when it is not there any more.
    pub(super) fn claim(
        &mut self,
        seen: &Self,
        schedule: &Schedule,
        now: &Moment,
        by: &Claimer,
    ) -> bool {
        let same = self.runs == seen.runs && self.due_at == seen.due_at && self.due == seen.due;
        let settled = self.period == 0 || self.epoch == now.epoch;
        if !same || !settled || self.schedule != seen.schedule || !self.is_ripe(now) {
            return false;
        }
        if self.is(JobState::Waiting) {
            self.advance(schedule, now);
        }
        self.state = JobState::Running.code();
        self.asked = false;
        self.runs += 1;
        (self.last_started_at, self.started) = (Timestamp(now.wall), now.monotonic);
        self.epoch = now.epoch;
        self.claimer = by.participant;
        self.set_process(by.process);
        true
    }

    /// Ends run `number`; false when it is not under way. What came due meanwhile is left out.
    pub(super) fn end(
        &mut self,
        number: u64,
        schedule: &Schedule,
        now: &Moment,
        outcome: JobOutcome,
        message: Text<256>,
    ) -> bool {
        if !self.is(JobState::Running) || self.runs != number {
            return false;
        }
        let known = outcome != JobOutcome::Interrupted;
        let took = now.monotonic.saturating_sub(self.started);
        self.last_duration = if known { took } else { 0 };
        if known {
            self.advance(schedule, now);
        }
        self.settle(schedule, now);
        self.state = if self.paused { JobState::Stopped } else { JobState::Waiting }.code();
        self.last_ended_at = Timestamp(now.wall);
        self.last_outcome = outcome.code();
        self.failures += u64::from(outcome != JobOutcome::Ok);
        self.message = message;
        true
    }

    /// It does not run by itself any more.
    pub(super) fn pause(&mut self) {
        self.paused = true;
        if self.is(JobState::Waiting) {
            self.state = JobState::Stopped.code();
        }
    }

    /// It runs by itself again, at the first time behind `now`: what a pause left out is not missed.
    pub(super) fn resume(&mut self, schedule: &Schedule, now: &Moment) {
        if std::mem::take(&mut self.paused) && self.is(JobState::Stopped) {
            self.state = JobState::Waiting.code();
            self.begin_anew(schedule, now);
        }
    }
}

fn at(time: Option<i64>) -> Timestamp {
    Timestamp(time.unwrap_or(NEVER))
}

#[cfg(test)]
mod tests;
