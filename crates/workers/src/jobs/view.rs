//! What jobs look like, found by looking; no participant is needed.

use std::time::Duration;

use commonhold_os::process::Liveness;
use commonhold_runtime::core::schema::Decoder;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::{Error, Record};

use super::records::{JOBS, JobOutcome, JobState, StoredJob};
use super::schedule::NEVER;
use crate::table::find_table;

/// A job as it was seen. Times are in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// Its cron expression, or such as `every 5s`.
    pub schedule: String,
    /// The zone of the expression; none for an interval.
    pub zone: Option<String>,
    /// Where it stands. A run whose process is dead is over, also before somebody has ended its record.
    pub state: JobState,
    /// Whether it is paused; the run that is under way goes on.
    pub paused: bool,
    /// Whether a run was asked for that did not begin yet.
    pub asked: bool,
    /// When it is due next; none when it is paused, and when no such time comes.
    pub due_at: Option<i64>,
    /// Runs that were begun.
    pub runs: u64,
    /// Runs that did not end well.
    pub failures: u64,
    /// When the last run began.
    pub last_started_at: Option<i64>,
    /// When the last run that has ended did.
    pub last_ended_at: Option<i64>,
    /// How long the last run took, or takes.
    pub last_duration: Option<Duration>,
    /// How the last run that has ended did.
    pub last_outcome: Option<JobOutcome>,
    /// What it said.
    pub message: String,
    /// The process that runs it, or did last.
    pub pid: Option<u32>,
}

/// The jobs of a segment, by name; `None` when it has none.
///
/// # Errors
/// [`Error::Corrupt`] when the segment is damaged.
pub fn look(space: &Space) -> Result<Option<Vec<JobView>>, Error> {
    let Some((position, _)) = find_table::<StoredJob>(space, JOBS) else { return Ok(None) };
    let mut views = Vec::new();
    space.scan(position, |key, seen| {
        let damaged = |at: usize| Error::Corrupt { what: "a job", offset: 0, found: at as u64 };
        let job = StoredJob::decode(&mut Decoder::new(&seen.payload)).map_err(|e| damaged(e.at))?;
        views.push(see(space, key, &job));
        Ok::<(), Error>(())
    })?;
    views.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(views))
}

/// Whether the run that the record says is under way cannot be: its process is dead.
pub(super) fn is_left(space: &Space, job: &StoredJob) -> bool {
    if job.epoch != space.segment().header().store_epoch {
        return true; // nobody of that making is there
    }
    let claimer = job.process();
    let entry = u16::try_from(job.claimer).unwrap_or(u16::MAX);
    // The claimer keeps the entry as long as the run is under way.
    if space.identity_of(entry).is_none_or(|owner| owner != claimer) {
        return true;
    }
    match claimer.find().0 {
        Liveness::Dead => true,
        Liveness::Alive => false,
        // Of another pid namespace: then its entry is free once the kernel has freed its lock.
        Liveness::Unknown => {
            !space.participants().iter().any(|p| p.entry == entry && p.identity == claimer)
        }
    }
}

fn see(space: &Space, name: &str, job: &StoredJob) -> JobView {
    let some = |time: i64| Some(time).filter(|time| *time != 0);
    let runs = job.is(JobState::Running);
    let left = runs && is_left(space, job);
    let state = match job.state() {
        JobState::Running if left && job.paused => JobState::Stopped,
        JobState::Running if left => JobState::Waiting,
        state => state,
    };
    let took = match (state, job.last_duration) {
        (JobState::Running, _) => {
            let now = commonhold_os::clock::monotonic_nanos();
            Some(now.saturating_sub(job.started))
        }
        _ if left => None,
        (_, 0) => None,
        (_, took) => Some(took),
    };
    let outcome = JobOutcome::from_code(job.last_outcome);
    JobView {
        name: name.to_owned(),
        schedule: job.schedule.as_str().to_owned(),
        zone: Some(job.zone.as_str().to_owned()).filter(|zone| !zone.is_empty()),
        state,
        paused: job.paused,
        asked: job.asked,
        due_at: Some(job.due_at.0).filter(|due| *due != NEVER && !job.paused),
        runs: job.runs,
        failures: job.failures + u64::from(left),
        last_started_at: some(job.last_started_at.0),
        last_ended_at: some(job.last_ended_at.0),
        last_duration: took.map(Duration::from_nanos),
        last_outcome: if left { Some(JobOutcome::Interrupted) } else { outcome },
        message: if left { interrupted(job) } else { job.message.as_str().to_owned() },
        pid: u32::try_from(job.pid).ok().filter(|pid| *pid != 0),
    }
}

/// What is said of a run whose process died.
pub(super) fn interrupted(job: &StoredJob) -> String {
    format!("process {} died while it ran", job.pid)
}
