//! What can go wrong with a task, and with a pool.

use std::time::Duration;

use commonhold_runtime::{Error, OpenError};

use crate::records::TaskId;

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// What it returned as its error.
    Error(String),
    /// It panicked, with this message.
    Panic(String),
    /// Its worker died each time it was begun; how the last one did.
    WorkerDied {
        /// How often it was begun.
        attempts: u64,
        /// How the last worker ended.
        how: String,
    },
    /// It was not done in the time it was given; where it was then.
    Deadline(String),
    /// Its result has more bytes than a result may have, or there was no room for it.
    Result(String),
    /// It was cancelled.
    Cancelled,
}

impl Reason {
    /// All that [`Reason::label`] gives.
    pub(crate) const LABELS: [&'static str; 6] =
        ["error", "panic", "worker_died", "deadline", "result", "cancelled"];

    pub(crate) fn code(&self) -> i64 {
        match self {
            Self::Error(_) => 1,
            Self::Panic(_) => 2,
            Self::WorkerDied { .. } => 3,
            Self::Deadline(_) => 4,
            Self::Result(_) => 5,
            Self::Cancelled => 6,
        }
    }

    /// The words that are kept with the code.
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Error(text) | Self::Panic(text) | Self::Deadline(text) | Self::Result(text) => {
                text
            }
            Self::WorkerDied { how, .. } => how,
            Self::Cancelled => "",
        }
    }

    pub(crate) fn from_parts(code: i64, words: &str, attempts: u64) -> Self {
        let words = words.to_owned();
        match code {
            2 => Self::Panic(words),
            3 => Self::WorkerDied { attempts, how: words },
            4 => Self::Deadline(words),
            5 => Self::Result(words),
            6 => Self::Cancelled,
            _ => Self::Error(words),
        }
    }

    /// The value of the label `reason` of `commonhold_task_errors_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Panic(_) => "panic",
            Self::WorkerDied { .. } => "worker_died",
            Self::Deadline(_) => "deadline",
            Self::Result(_) => "result",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(text) => write!(f, "it failed: {text}"),
            Self::Panic(text) => write!(f, "it panicked: {text}"),
            Self::WorkerDied { attempts: 1, how } => write!(f, "its worker {how}"),
            Self::WorkerDied { attempts, how } => {
                write!(f, "its worker died in each of {attempts} attempts; the last one {how}")
            }
            Self::Deadline(text) | Self::Result(text) => f.write_str(text),
            Self::Cancelled => f.write_str("it was cancelled"),
        }
    }
}

/// Why a task was not taken on, or has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// No kind of this name is registered.
    #[error("no task kind `{kind}` is registered; there are: {known}")]
    UnknownKind {
        /// The name that was asked for.
        kind: String,
        /// The names that there are.
        known: String,
    },
    /// The arguments are not what the kind takes. Nothing was dispatched.
    #[error("the arguments of a task `{kind}` are not valid: {why}")]
    Arguments {
        /// The kind.
        kind: String,
        /// What is wrong with them.
        why: String,
    },
    /// The arguments have too many bytes. Nothing was dispatched.
    #[error("the arguments of a task `{kind}` have {bytes} bytes; at most {limit} fit")]
    TooLarge {
        /// The kind.
        kind: String,
        /// How many they have.
        bytes: usize,
        /// How many they may have.
        limit: usize,
    },
    /// There is no room for another task. Nothing was dispatched.
    #[error(
        "the queue is full: {limit} {what} are in use; wait for results, or raise the capacity's `{raise}`"
    )]
    Full {
        /// What there is none left of.
        what: &'static str,
        /// How many there are.
        limit: u32,
        /// What to raise.
        raise: &'static str,
    },
    /// An option of the task is out of range.
    #[error("a task's {what} is {found}; it must be {must}")]
    Option {
        /// Which one.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        must: String,
    },
    /// The task ended without a result.
    #[error("task {id} (`{kind}`): {reason}")]
    Failed {
        /// The task.
        id: TaskId,
        /// Its kind.
        kind: String,
        /// Why.
        reason: Reason,
    },
    /// It has not ended within the time that the caller waited. It goes on.
    #[error("task {id} has not ended within {} ms{why}", limit.as_millis())]
    TimedOut {
        /// The task.
        id: TaskId,
        /// How long the caller waited.
        limit: Duration,
        /// What is known of the cause.
        why: String,
    },
    /// The result was taken already, or given up because nobody took it.
    #[error("task {id} is not there any more: its result was taken, or nobody took it in time")]
    Gone {
        /// The task.
        id: TaskId,
    },
    /// The runtime's error.
    #[error(transparent)]
    Runtime(#[from] Error),
}

/// Why a pool did not start or did not stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The segment was made without the tables of a queue.
    #[error(
        "the segment has no table `{table}`; make it with `workers::configure`, or `commonhold create --workers N`"
    )]
    NoTables {
        /// The one that is missing.
        table: &'static str,
    },
    /// A table has the name of one of the queue's and other fields: it is of another version, or somebody else's.
    #[error(
        "the table `{table}` of the segment has other fields than this version's queue; use another segment for it"
    )]
    OtherTable {
        /// The table.
        table: &'static str,
    },
    /// The segment has no file, so that other processes cannot attach.
    #[error("the segment is in this process's memory alone; a pool needs one that has a name")]
    NoName,
    /// An option is out of range.
    #[error("the pool's {what} is {found}; it must be {must}")]
    Option {
        /// Which one.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        must: String,
    },
    /// Another process, or another pool of this one, supervises the workers of this segment.
    #[error(
        "the workers of this segment have a supervisor already, process {pid}; `Pool::attach` submits to it"
    )]
    Supervised {
        /// Its process id.
        pid: u32,
    },
    /// This process is a worker itself: it came past `workers::init`.
    #[error(
        "this process is a worker: call `workers::init` first thing in `main`, before a pool is started"
    )]
    InWorker,
    /// A worker process could not be started.
    #[error("start a worker process with `{program}`: {error}; give the pool another command")]
    Spawn {
        /// The program.
        program: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// Workers of a supervisor before this one are still there.
    #[error("worker process {pid} of an earlier supervisor is still alive after {} ms; end it", waited.as_millis())]
    LeftOver {
        /// Its process id.
        pid: u64,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It did not happen in time.
    #[error("waited {} ms for {what}", limit.as_millis())]
    TimedOut {
        /// For what.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// A thread, pipe or descriptor could not be had.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
    /// The segment could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The runtime's error.
    #[error(transparent)]
    Runtime(#[from] Error),
}
