//! What can go wrong with jobs.

use std::time::Duration;

use commonhold_runtime::Error;

use super::records::{JOBS, NAME_BYTES_MAX};

/// Why a job is not accepted, or jobs did not start, change or stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// No job may have this name.
    #[error(
        "job name `{}`: {why}; a name has 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`",
        name.escape_debug()
    )]
    Name {
        /// The name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Two jobs of one [`super::Jobs`] have the same name.
    #[error("job `{name}` is there twice; give each job a name of its own")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// It is no cron expression.
    #[error("job `{job}`: cron expression `{}`: {why}", expression.escape_debug())]
    Cron {
        /// The job.
        job: String,
        /// The expression.
        expression: String,
        /// What is wrong, and where.
        why: String,
    },
    /// It is no time zone.
    #[error("job `{job}`: zone `{}`: {why}", zone.escape_debug())]
    Zone {
        /// The job.
        job: String,
        /// The zone.
        zone: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The interval is out of range.
    #[error("job `{job}`: its interval is {period:?}; it must be from 1 ms to 100 years")]
    Interval {
        /// The job.
        job: String,
        /// The interval.
        period: Duration,
    },
    /// The segment has no jobs.
    #[error(
        "the segment has no table `{JOBS}`; add it with `workers::jobs::configure` and create the segment anew"
    )]
    NoTable,
    /// The table is somebody else's.
    #[error("the segment's table `{JOBS}` is not one of jobs; use another segment")]
    OtherTable,
    /// There is no job of this name.
    #[error("there is no job `{}`; there are: {known}", name.escape_debug())]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// Jobs did not end in time.
    #[error(
        "waited {} ms for {} to end; each goes on in its thread and ends its record itself",
        limit.as_millis(), names.join(", ")
    )]
    StillRunning {
        /// Which jobs.
        names: Vec<String>,
        /// How long was waited.
        limit: Duration,
    },
    /// A thread could not be had.
    #[error("cannot start the thread of the jobs: {0}")]
    Thread(std::io::Error),
    /// The thread of the jobs ended by itself.
    #[error("the thread of the jobs has ended: {why}; start the jobs again")]
    Ended {
        /// Why.
        why: String,
    },
    /// The runtime's error.
    #[error(transparent)]
    Runtime(#[from] Error),
}
