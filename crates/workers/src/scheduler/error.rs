//! What can go wrong with a scheduler.

use std::time::Duration;

use commonhold_runtime::Error;

use crate::error::TaskError;

/// Why a scheduler did not start, did not take an entry, or did not stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// Another process, or another scheduler of this one, ticks the nodes of this segment.
    #[error("this segment has a scheduler already, in process {pid}; stop that one first")]
    Held {
        /// Its process id.
        pid: u32,
    },
    /// There is an entry of this name.
    #[error("the scheduler has an entry `{name}` already; remove it first")]
    Known {
        /// The name.
        name: String,
    },
    /// There is no entry of this name.
    #[error("the scheduler has no entry `{name}`; there are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// An option of an entry is out of range.
    #[error("entry `{name}`: its {what} is {found}; it must be {must}")]
    Option {
        /// The entry.
        name: String,
        /// Which option.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        must: String,
    },
    /// No tick can be submitted with these options.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The scheduler's thread ended by itself.
    #[error("the scheduler's thread has ended: {why}; start another one")]
    Ended {
        /// Why.
        why: String,
    },
    /// Ticks that were under way did not end in time; they were given up.
    #[error("waited {} ms for {ticks} ticks to end; they were given up", limit.as_millis())]
    TimedOut {
        /// How many.
        ticks: usize,
        /// How long.
        limit: Duration,
    },
    /// A thread could not be had.
    #[error("cannot start the scheduler's thread: {0}")]
    Thread(std::io::Error),
    /// The runtime's error.
    #[error(transparent)]
    Runtime(#[from] Error),
}
