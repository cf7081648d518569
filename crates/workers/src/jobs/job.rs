//! A job as a program registers it, and what a run of it knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::JobsError;
use super::records::NAME_BYTES_MAX;
use super::schedule::Schedule;

type Work = dyn Fn(&JobContext<'_>) -> Result<String, String> + Send + Sync;

/// A job: a name, when it is due, and what is done.
#[derive(Clone)]
pub struct Job {
    pub(super) name: String,
    pub(super) schedule: Schedule,
    pub(super) work: Arc<Work>,
}

/// A job that lacks what is done; [`JobPlan::run`] makes it one.
#[derive(Debug, Clone)]
pub struct JobPlan {
    name: String,
    schedule: Schedule,
}

/// What a run knows about itself.
#[derive(Debug)]
pub struct JobContext<'a> {
    pub(super) name: &'a str,
    pub(super) number: u64,
    pub(super) due_at: i64,
    pub(super) stopping: &'a AtomicBool,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({}, {})", self.name, self.schedule.text())
    }
}

impl Job {
    /// A job that is due by a cron expression: second (may be left out), minute, hour, day of the month, month, day of
    /// the week; also `@daily` and the like. In UTC unless [`JobPlan::zone`] says otherwise.
    ///
    /// # Errors
    /// [`JobsError::Name`]; [`JobsError::Cron`] naming the field that is wrong.
    ///
    /// # Examples
    /// ```
    /// use commonhold_workers::jobs::Job;
    ///
    /// let report = Job::cron("report", "0 30 3 * * MON-FRI")?.zone("Europe/Berlin")?;
    /// let report = report.run(|_| Ok("42 rows".to_owned()));
    /// assert_eq!(report.name(), "report");
    /// let error = Job::cron("report", "0 30 25 * * *").unwrap_err().to_string();
    /// assert!(error.contains("the hour `25` (column 6)"), "{error}");
    /// # Ok::<(), commonhold_workers::jobs::JobsError>(())
    /// ```
    pub fn cron(name: &str, expression: &str) -> Result<JobPlan, JobsError> {
        check_name(name)?;
        Ok(JobPlan { name: name.to_owned(), schedule: Schedule::cron(name, expression)? })
    }

    /// A job that is due again and again after the same time, whatever becomes of the clock on the wall.
    ///
    /// # Errors
    /// [`JobsError::Name`]; [`JobsError::Interval`] when it is less than a millisecond.
    pub fn every(name: &str, period: Duration) -> Result<JobPlan, JobsError> {
        check_name(name)?;
        Ok(JobPlan { name: name.to_owned(), schedule: Schedule::every(name, period)? })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl JobPlan {
    /// The same expression in another time zone, such as `Europe/Berlin`.
    ///
    /// # Errors
    /// [`JobsError::Zone`] when there is no such zone, or the job has an interval.
    pub fn zone(self, zone: &str) -> Result<Self, JobsError> {
        Ok(Self { schedule: self.schedule.zone(&self.name, zone)?, name: self.name })
    }

    /// The job that does `work` each time: what it did in a few words, or why it failed. A panic is such a failure.
    #[must_use]
    pub fn run(
        self,
        work: impl Fn(&JobContext<'_>) -> Result<String, String> + Send + Sync + 'static,
    ) -> Job {
        Job { name: self.name, schedule: self.schedule, work: Arc::new(work) }
    }
}

impl JobContext<'_> {
    /// The job's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// The how-manieth run of the job this is, in all processes together.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was due by the clock on the wall, in microseconds since 1970; a run that was asked for ahead of its time
    /// has that of the tick to come.
    #[must_use]
    pub fn due_at(&self) -> i64 {
        self.due_at
    }

    /// Whether this process stops its jobs: a long run looks now and then, and ends early.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

fn check_name(name: &str) -> Result<(), JobsError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let why = match name {
        "" => "it is empty",
        _ if name.len() > NAME_BYTES_MAX => "it is too long",
        _ if !name.bytes().all(allowed) => "it has another character",
        _ => return Ok(()),
    };
    Err(JobsError::Name { name: name.to_owned(), why })
}
