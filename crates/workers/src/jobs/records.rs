//! The record of a job, and the table of them.

use commonhold_os::process::Identity;
use commonhold_runtime::core::catalogue::History;
use commonhold_runtime::{Config, Record, TableConfig, Text, Timestamp};

use crate::records::Process;

/// The table of jobs.
pub const JOBS: &str = "jobs";
/// The longest name of a job, in bytes.
pub const NAME_BYTES_MAX: usize = 48;
/// How many jobs there is room for, unless said.
pub const JOBS_DEFAULT: u32 = 64;

/// Adds the table of jobs to a configuration, with room for [`JOBS_DEFAULT`] of them.
#[must_use]
pub fn configure(config: Config) -> Config {
    config.table(table_config(JOBS_DEFAULT))
}

/// The table of jobs, with room for so many.
#[must_use]
pub fn table_config(jobs: u32) -> TableConfig {
    let table = TableConfig::of::<StoredJob>(JOBS).history(History::Latest);
    table.slots(jobs.max(1)).key_bytes(NAME_BYTES_MAX as u32)
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It is paused: it does not run by itself.
    Stopped,
    /// It waits for its time.
    Waiting,
    /// A process runs it.
    Running,
}

impl JobState {
    pub(super) fn code(self) -> i64 {
        self as i64
    }

    /// Such as `waiting`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Running => "running",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOutcome {
    /// It returned what it did.
    Ok,
    /// It returned an error.
    Failed,
    /// It panicked.
    Panicked,
    /// Its process died.
    Interrupted,
}

impl JobOutcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Failed, Self::Panicked, Self::Interrupted];

    /// 0 is none.
    pub(super) fn code(self) -> i64 {
        self as i64 + 1
    }

    pub(super) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.code() == code)
    }

    /// Such as `failed`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A job's record. Times in nanoseconds are of the monotonic clock, which begins anew with each boot.
#[derive(Debug, Record, Clone, Default, PartialEq, Eq)]
#[record(crate = "commonhold_runtime::core")]
pub struct StoredJob {
    /// The cron expression, or the interval in words.
    pub schedule: Text<128>,
    /// The zone of the expression; empty for an interval.
    pub zone: Text<48>,
    /// The interval in nanoseconds; 0: a cron expression.
    pub period: u64,
    /// [`JobState`].
    pub state: i64,
    /// Whether it is not to run by itself, or not after the run that is under way.
    pub paused: bool,
    /// Whether a run was asked for that did not begin yet.
    pub asked: bool,
    /// When it is due, by the clock on the wall.
    pub due_at: Timestamp,
    /// When it is due, in nanoseconds; 0 with a cron expression.
    pub due: u64,
    /// The making of the segment in which its times in nanoseconds were written.
    pub epoch: u64,
    /// Runs that were begun: the number of the last one.
    pub runs: u64,
    /// Runs that ended otherwise than well.
    pub failures: u64,
    /// When the last run began, by the clock on the wall.
    pub last_started_at: Timestamp,
    /// When it began, in nanoseconds.
    pub started: u64,
    /// When the last run ended, by the clock on the wall.
    pub last_ended_at: Timestamp,
    /// How long it took, in nanoseconds; 0 when that is not known.
    pub last_duration: u64,
    /// [`JobOutcome`] plus one; 0: none has ended.
    pub last_outcome: i64,
    /// What the last run said.
    pub message: Text<256>,
    /// The participant that claimed the last run.
    pub claimer: u64,
    /// That participant's process.
    pub pid: u64,
    /// When that process started, in clock ticks since boot.
    pub start: u64,
    /// The inode of its pidfd.
    pub inode: u64,
    /// The inode of its pid namespace.
    pub namespace: u64,
}

impl StoredJob {
    /// Who claimed the last run.
    pub(super) fn process(&self) -> Identity {
        let (pid, start, inode, namespace) = (self.pid, self.start, self.inode, self.namespace);
        Process { pid, start, inode, namespace }.into()
    }

    pub(super) fn set_process(&mut self, process: Process) {
        (self.pid, self.start) = (process.pid, process.start);
        (self.inode, self.namespace) = (process.inode, process.namespace);
    }

    pub(super) fn is(&self, state: JobState) -> bool {
        self.state == state.code()
    }

    /// Where it stands; a state that there is not waits.
    pub(super) fn state(&self) -> JobState {
        let all = [JobState::Stopped, JobState::Running];
        all.into_iter().find(|state| self.is(*state)).unwrap_or(JobState::Waiting)
    }
}
