//! The replay: an access log fed through many worker processes into one table of clients.
//!
//! **Dealing.** The coordinator reads the log once. Its parsed lines, counted from 0 without those that do not
//! parse, are dealt round-robin: line i goes to worker i mod N. Each share is written to a file of its own in a
//! temporary folder (client and size are all that counts), so that a log that grows meanwhile changes nothing.
//!
//! **Workers** are processes of the same executable that attach to the segment, report who they are (their
//! [`WriterId`](commonhold_runtime::WriterId)), start together and make one commit a line; nobody is ever more than a
//! window of 64 lines ahead of another (pace.rs says why).
//!
//! **Crash.** A worker may be killed at any instruction. Each line is one commit in a table with full history, and the
//! commits of a writer have the sequences 1, 2, 3 … without gap, so how far a share has come is the sum of the
//! highest sequences of those who worked on it. The coordinator lets the dead one be swept, drains, asks the store
//! and starts another worker at that line: no line counts twice, none never. Nothing a worker said is needed for it.
//! The others wait for it at the end of their window. Workers end with their coordinator (`PR_SET_PDEATHSIG`).
//!
//! **Kills** on purpose: seeded are their number in each share and the lines from which on they come. A victim tells when
//! it is there and works on; the kill meets it wherever it is by then. So that it is not too late, a victim stops before
//! the last lines that it must leave.
//!
//! **What is checked at the end**: for each client, requests and denied grew by the number of his lines, and without
//! caps bytes by their sizes; nobody exceeds a cap (or what he had before); the history grew by one row a line; the store's
//! audit finds nothing. A segment that is there already may have clients: only what is added is checked, so nobody
//! else should write to the table meanwhile.

mod check;
mod crew;
mod message;
mod pace;
mod place;
mod plan;
mod report;
mod seat;
mod shares;
mod signals;
mod worker;

use std::path::PathBuf;
use std::time::Instant;

use commonhold_runtime::store::StoreError;
use commonhold_runtime::{Error, OpenError};

use crate::access_log::LogError;
use crate::clients::Caps;

pub use report::Report;
pub use worker::{WORKER_ARGUMENT, worker};

/// The most workers.
pub const WORKERS_MAX: u32 = 4000;

/// What to replay, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The log.
    pub log: PathBuf,
    /// How many processes; 1 to [`WORKERS_MAX`].
    pub workers: u32,
    /// What each client may have.
    pub caps: Caps,
    /// How many workers are killed.
    pub kills: u32,
    /// Decides who is killed, and when.
    pub seed: u64,
    /// The segment; one of its own that goes at the end if not named.
    pub segment: Option<String>,
    /// The store; if neither it nor the segment is named, one that goes at the end.
    pub store: Option<String>,
}

/// Why a replay did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The segment cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The segment cannot be used.
    #[error(transparent)]
    Core(#[from] Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of the system.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The number of workers.
    #[error("{0} workers; give 1 to {WORKERS_MAX}")]
    Workers(u32),
    /// Kills without a store.
    #[error(
        "kills need a store, since what a killed worker committed is read from it; name another than `none`"
    )]
    KillsWithoutStore,
    /// The table has no history.
    #[error(
        "table `clients` of segment {0} has latest history; replay needs full history, name another --segment"
    )]
    LatestHistory(String),
    /// A client that is too long for the table.
    #[error(
        "table `clients` has keys of at most {limit} bytes and the log a client of {found}; name another --segment"
    )]
    LongClient {
        /// The longest key.
        limit: u32,
        /// The longest client.
        found: usize,
    },
    /// A worker failed, or ended in another way than by a signal.
    #[error("worker {index}: {why}")]
    Worker {
        /// Whose share it had.
        index: usize,
        /// What it said, or how it ended.
        why: String,
    },
    /// A signal came.
    #[error(
        "stopped by signal {0}; what was committed stays, the rest of the log was not replayed"
    )]
    Stopped(i32),
}

impl ReplayError {
    pub(crate) fn system(what: impl Into<String>, error: impl Into<std::io::Error>) -> Self {
        Self::System { what: what.into(), error: error.into() }
    }

    fn worker(index: usize, why: impl std::fmt::Display) -> Self {
        Self::Worker { index, why: why.to_string() }
    }
}

/// Replays a log; `notice` is told what did not parse, line by line, of the first such lines.
///
/// The executable must hand its arguments to [`worker`] when the first is [`WORKER_ARGUMENT`]. SIGINT, SIGTERM and
/// SIGHUP are held back in this thread meanwhile and end the replay with [`ReplayError::Stopped`].
///
/// # Errors
/// [`ReplayError`]. That a check at the end does not hold is in the [`Report`].
pub fn run(options: &Options, notice: &mut dyn FnMut(&str)) -> Result<Report, ReplayError> {
    let started = Instant::now();
    if options.workers == 0 || options.workers > WORKERS_MAX {
        return Err(ReplayError::Workers(options.workers));
    }
    // Dropped last to first: workers, segment, the folder with the shares and perhaps the store, signals.
    let signals = signals::Signals::hold()?;
    let shares = shares::Shares::deal(options, &signals, notice)?;
    let place = place::Place::open(options, &shares)?;
    place.drain(&signals)?;
    let before = check::State::of(&place)?;
    let tally = crew::Crew::new(options, &place, &shares, &signals)?.run()?;
    let drained = Instant::now();
    place.drain(&signals)?;
    let drain_ms = drained.elapsed().as_millis() as u64;
    let mut report = report::Report::new(options, &place, &shares, &tally);
    check::check(&mut report, options, &place, &shares, &before)?;
    signals.check()?;
    Ok(Report { drain_ms, total_ms: started.elapsed().as_millis() as u64, ..report })
}
