//! Jobs: what a program does again and again, by the clock or at an interval, once in all processes together.
//!
//! There is no leader. A job is a record, and **the claim of a tick is one commit**: from Waiting to Running, over the
//! very run number and due time that the claimer saw (turn.rs). Whoever has registered the job may claim it; who ran it
//! last goes first, and the others some milliseconds later. A run whose process the kernel says is dead is ended as
//! *interrupted* by one of the others.
//!
//! **Threads**: one that looks at the records of this process's jobs, and one for each run. The first sleeps until the
//! next job is due or the table changes, a second at most. A run's thread claims nothing but ends its own record, with
//! a participant of its own; so its end is committed also when all else has stopped.
//!
//! **Crash**: a record that says Running, of a process that is dead. Time stands in the record too: no process needs
//! to have been there when a tick came due.

mod clock;
mod error;
mod job;
mod metrics;
mod records;
mod runner;
mod schedule;
mod turn;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use commonhold_os::fork;
use commonhold_os::process::Identity;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::{Error, Handle, Runtime, Table};

pub use error::JobsError;
pub use job::{Job, JobContext, JobPlan};
pub use records::{
    JOBS, JOBS_DEFAULT, JobOutcome, JobState, NAME_BYTES_MAX, StoredJob, configure, table_config,
};
pub use view::{JobView, look};

use crate::table::find_table;
use crate::worker::message;
use clock::{Clock, SystemClock};
use metrics::JobMetrics;
use runner::{Runner, Shared, change, register};
use schedule::Schedule;

/// The jobs that this process runs, with all others that registered them.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use commonhold_runtime::{Config, Runtime};
/// use commonhold_workers::jobs::{self, Job, Jobs};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::open(jobs::configure(Config::ephemeral()))?;
/// let report = Job::cron("report", "0 0 3 * * *")?.zone("Europe/Berlin")?;
/// let probe = Job::every("probe", Duration::from_secs(5))?;
/// let jobs = Jobs::start(
///     &runtime,
///     vec![report.run(|_| Ok("42 rows".to_owned())), probe.run(|_| Err("no answer".to_owned()))],
/// )?;
/// jobs.run_now("report")?;
/// while jobs.list()?.iter().all(|job| job.last_outcome.is_none()) {
///     std::thread::yield_now();
/// }
/// assert_eq!(jobs.list()?[1].message, "42 rows");
/// jobs.stop(Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Jobs {
    space: Arc<Space>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), JobsError>>>,
    /// The process that it is of, told apart from its forked children.
    generation: u64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Jobs {
    /// Registers `jobs` and runs them when they are due. A record that is there keeps what it knows, also when the job
    /// is due; if it has another schedule, it takes over this one's.
    ///
    /// # Errors
    /// [`JobsError::Duplicate`], [`JobsError::NoTable`], [`JobsError::OtherTable`], [`JobsError::Thread`];
    /// [`Error::Full`] when the table has no room for another job.
    pub fn start(runtime: &Runtime, jobs: Vec<Job>) -> Result<Self, JobsError> {
        Self::start_by(runtime, jobs, Arc::new(SystemClock))
    }

    fn start_by(
        runtime: &Runtime,
        jobs: Vec<Job>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JobsError> {
        let mut names = BTreeSet::new();
        if let Some(job) = jobs.iter().find(|job| !names.insert(job.name.as_str())) {
            return Err(JobsError::Duplicate { name: job.name.clone() });
        }
        let space = Arc::clone(runtime.space());
        check_table(&space)?;
        let handle = runtime.handle()?;
        {
            let table = Table::<StoredJob, _>::new(&handle, JOBS)?;
            let now = clock.now(space.segment().header().store_epoch);
            for job in &jobs {
                register(&table, job, &now)?;
                // So that they are there before the first run.
                JobMetrics::new(&handle, &job.name)?;
            }
        }
        let process = Identity::current().map_err(Error::from)?.into();
        let shared = Arc::new(Shared::new());
        let jobs = jobs.into_iter().map(Arc::new).collect();
        let runner = Runner {
            space: Arc::clone(&space),
            handle,
            jobs,
            clock,
            process,
            shared: Arc::clone(&shared),
        };
        let named = std::thread::Builder::new().name("commonhold-jobs".to_owned());
        let thread = named.spawn(move || runner.run()).map_err(JobsError::Thread)?;
        Ok(Self { space, shared, thread: Some(thread), generation: fork::generation() })
    }

    /// All jobs of the segment, by name, also those of other processes.
    ///
    /// # Errors
    /// [`JobsError::Runtime`] when the segment is damaged.
    pub fn list(&self) -> Result<Vec<JobView>, JobsError> {
        Ok(look(&self.space)?.unwrap_or_default())
    }

    /// The last thing that went wrong with claiming or ending runs, if something did. It was tried again.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble()
    }

    /// See [`pause`].
    ///
    /// # Errors
    /// As [`pause`].
    pub fn pause(&self, name: &str) -> Result<(), JobsError> {
        pause_in(&Handle::open(&self.space)?, name)
    }

    /// See [`resume`].
    ///
    /// # Errors
    /// As [`resume`].
    pub fn resume(&self, name: &str) -> Result<(), JobsError> {
        resume_in(&Handle::open(&self.space)?, name)
    }

    /// See [`run_now`].
    ///
    /// # Errors
    /// As [`run_now`].
    pub fn run_now(&self, name: &str) -> Result<(), JobsError> {
        run_in(&Handle::open(&self.space)?, name)
    }

    /// Stops: this process claims no tick any more, and waits for the runs that are under way, which see
    /// [`JobContext::is_stopping`]. Other processes go on.
    ///
    /// # Errors
    /// [`JobsError::StillRunning`] when `limit` passed first: those threads go on, and end their records themselves.
    /// [`JobsError::Ended`], [`JobsError::Runtime`] when the jobs' thread had ended before.
    pub fn stop(mut self, limit: Duration) -> Result<(), JobsError> {
        self.end(limit)
    }

    fn end(&mut self, limit: Duration) -> Result<(), JobsError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if self.generation != fork::generation() {
            // The parent's: it is not here to be joined.
            std::mem::forget(thread);
            return Ok(());
        }
        let until = Instant::now() + limit;
        self.shared.stopping.store(true, Ordering::Release);
        let ended = thread.join();
        let names = self.shared.wind_up(until);
        ended.unwrap_or_else(|panic| Err(JobsError::Ended { why: message(&*panic) }))?;
        if names.is_empty() { Ok(()) } else { Err(JobsError::StillRunning { names, limit }) }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        // Runs that are under way go on, and end their records.
        let _ = self.end(Duration::ZERO);
    }
}

/// Stops a job from running by itself, in all processes, until [`resume`]. A run that is under way goes on.
///
/// # Errors
/// [`JobsError::Unknown`]; [`JobsError::NoTable`], [`JobsError::OtherTable`].
pub fn pause(runtime: &Runtime, name: &str) -> Result<(), JobsError> {
    pause_in(&runtime.handle()?, name)
}

/// Has a job run by itself again. It is due at the first time from now on: a pause is no miss.
///
/// # Errors
/// As [`pause`].
pub fn resume(runtime: &Runtime, name: &str) -> Result<(), JobsError> {
    resume_in(&runtime.handle()?, name)
}

/// Asks for a run now, paused or not; when one is under way, for another one after it. Its schedule stays as it is. One
/// of the processes that have registered the job does it; when there is none, the next one.
///
/// # Errors
/// As [`pause`].
pub fn run_now(runtime: &Runtime, name: &str) -> Result<(), JobsError> {
    run_in(&runtime.handle()?, name)
}

fn pause_in(handle: &Handle, name: &str) -> Result<(), JobsError> {
    set(handle, name, |stored| {
        let paused = stored.paused;
        stored.pause();
        Ok(!paused)
    })
}

fn resume_in(handle: &Handle, name: &str) -> Result<(), JobsError> {
    let now = SystemClock.now(handle.space().segment().header().store_epoch);
    set(handle, name, |stored| {
        let (schedule, paused) = (Schedule::of(name, stored)?, stored.paused);
        stored.resume(&schedule, &now);
        Ok(paused)
    })
}

fn run_in(handle: &Handle, name: &str) -> Result<(), JobsError> {
    set(handle, name, |stored| Ok(!std::mem::replace(&mut stored.asked, true)))
}

/// Changes the record of a job, if there is one and `step` changes something.
fn set(
    handle: &Handle,
    name: &str,
    mut step: impl FnMut(&mut StoredJob) -> Result<bool, JobsError>,
) -> Result<(), JobsError> {
    check_table(handle.space())?;
    let table = Table::<StoredJob, _>::new(handle, JOBS)?;
    let (mut found, mut failed) = (false, None);
    let step = |stored: &mut StoredJob| {
        found = true;
        step(stored).unwrap_or_else(|e| {
            failed = Some(e);
            false
        })
    };
    match change(&table, name, step) {
        Err(JobsError::Runtime(Error::BadKey { .. })) | Ok(false) if !found => {
            let names = look(handle.space())?.unwrap_or_default().into_iter().map(|job| job.name);
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(JobsError::Unknown { name: name.to_owned(), known })
        }
        other => other.and(failed.map_or(Ok(()), Err)),
    }
}

fn check_table(space: &Space) -> Result<(), JobsError> {
    match (find_table::<StoredJob>(space, JOBS), space.find_table(JOBS)) {
        (Some(_), _) => Ok(()),
        (None, Ok(_)) => Err(JobsError::OtherTable),
        (None, Err(_)) => Err(JobsError::NoTable),
    }
}

#[cfg(test)]
mod tests;
