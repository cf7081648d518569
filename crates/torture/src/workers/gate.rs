//! Keeps submitters and killer in step: kills are spread over all tasks, and neither waits for the other for ever.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Options, TortureError, signals};

/// By how many kills the submitters may be ahead of the killer.
const AHEAD: u64 = 4;
/// The longest sleep before a signal is seen.
const PIECE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Counts {
    kills: u64,
    ended: u64,
    /// Somebody failed: all stop.
    closed: bool,
}

/// Kills that were made and tasks that have ended, and who waits for more of them.
#[derive(Debug)]
pub(super) struct Gate {
    tasks: u64,
    kills: u64,
    counts: Mutex<Counts>,
    moved: Condvar,
}

impl Gate {
    pub(super) fn new(options: &Options) -> Self {
        let (tasks, kills) = (options.updates, options.kill.into());
        Self { tasks, kills, counts: Mutex::default(), moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks may be begun when so many kills were made.
    fn allowed(&self, kills: u64) -> u64 {
        if kills >= self.kills {
            return self.tasks;
        }
        self.due(kills + AHEAD)
    }

    /// How many tasks have ended when kill `number` is made, and may be begun when `number` are.
    fn due(&self, number: u64) -> u64 {
        let share = u128::from(self.tasks) * u128::from(number) / u128::from(self.kills.max(1) + 1);
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Waits until `ready`; false when somebody failed.
    fn wait(&self, ready: impl Fn(&Counts) -> bool) -> Result<bool, TortureError> {
        let mut counts = self.lock();
        while !counts.closed && !ready(&counts) {
            signals::check()?;
            counts = self
                .moved
                .wait_timeout(counts, PIECE)
                .map_or_else(|e| e.into_inner().0, |(counts, _)| counts);
        }
        signals::check()?;
        Ok(!counts.closed)
    }

    /// Whether task `number` may be submitted now.
    pub(super) fn is_open(&self, number: u64) -> bool {
        number < self.allowed(self.lock().kills)
    }

    /// Waits until task `number` may be submitted; false when somebody failed.
    pub(super) fn pass(&self, number: u64) -> Result<bool, TortureError> {
        self.wait(|counts| number < self.allowed(counts.kills))
    }

    /// Waits until kill `number` is due; false when somebody failed.
    pub(super) fn await_kill(&self, number: u64) -> Result<bool, TortureError> {
        self.wait(|counts| counts.ended >= self.due(number))
    }

    pub(super) fn ended(&self) {
        self.lock().ended += 1;
        self.moved.notify_all();
    }

    pub(super) fn killed(&self) {
        self.lock().kills += 1;
        self.moved.notify_all();
    }

    /// Stops all others when this is an error.
    pub(super) fn close_on_error<T>(
        &self,
        done: Result<T, TortureError>,
    ) -> Result<T, TortureError> {
        if done.is_err() {
            self.lock().closed = true;
            self.moved.notify_all();
        }
        done
    }
}
