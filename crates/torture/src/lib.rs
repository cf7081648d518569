//! The torture: many operating-system processes update the same records at once, and everything that was
//! acknowledged must be there afterwards, in memory and in the database.
//!
//! Four ways to update, over the same start line and the same bookkeeping:
//!
//! | mode | an update is |
//! | --- | --- |
//! | `cas` | the runtime's atomic update |
//! | `naive` | seed 002's *before*: read the row from the database, compute, write it in a second statement |
//! | `mutex` | a process-shared pthread mutex around a record in shared memory (the pessimistic way) |
//! | `store` | one transaction of the database |
//!
//! **Who counts**: a worker counts an update as acknowledged after the call returned, in memory that the
//! runtime does not own (arena.rs). **Kills** are `SIGKILL`s by a kernel timer that the victim armed at a
//! random one of its updates, so that they hit any instruction; a kill counts only when the victim had
//! acknowledged at least one update and had at least one left.

mod arena;
mod coordinator;
pub mod files;
pub mod histogram;
mod judge;
mod peers;
mod report;
pub mod resonance;
mod signals;
mod worker;
pub mod workers;

use std::str::FromStr;

use commonhold::catalogue::History;

pub use coordinator::{compare, run};
pub use report::{Comparison, Latency, Report};
pub use worker::{WORKER, worker};

/// How an update is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The runtime's compare-exchange.
    Cas,
    /// Read from the database, compute, write back.
    Naive,
    /// A process-shared mutex.
    Mutex,
    /// One transaction of the database each.
    Store,
}

/// A system whose own operations are tortured, in place of updates of plain records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Resonance networks.
    Resonance,
    /// The pool of worker processes, and its tasks.
    Workers,
    /// A shared file, beside the ways in which files are shared without it.
    Files,
}

/// What to do to the records.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many processes.
    pub processes: u32,
    /// How many updates each makes.
    pub updates: u64,
    /// Over how many records, one after the other.
    pub keys: u32,
    /// How an update is made.
    pub mode: Mode,
    /// The system whose operations are the updates, if it is not plain records.
    pub system: Option<System>,
    /// Which versions are stored.
    pub history: History,
    /// Bytes of a record's payload.
    pub payload: u32,
    /// Lanes of the vector clock.
    pub lanes: u32,
    /// How many processes to kill.
    pub kill: u32,
    /// Decides who is killed and when.
    pub seed: u64,
    /// The store; SQLite in a temporary folder if none is named.
    pub store: Option<String>,
}

/// Why a torture could not be run, or was stopped.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    /// The options do not fit together.
    #[error("{0}")]
    Options(String),
    /// The segment or the store.
    #[error(transparent)]
    Open(#[from] commonhold::OpenError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] commonhold::Error),
    /// The pool of workers.
    #[error(transparent)]
    Pool(#[from] commonhold::workers::PoolError),
    /// A task.
    #[error(transparent)]
    Task(#[from] commonhold::workers::TaskError),
    /// The resonance networks.
    #[error(transparent)]
    Network(#[from] commonhold::systems::resonance::NetworkError),
    /// The store.
    #[error(transparent)]
    Store(#[from] commonhold::store::StoreError),
    /// The kernel.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// The answer.
        error: std::io::Error,
    },
    /// The database of a peer.
    #[error("peer database: {0}")]
    Database(#[from] rusqlite::Error),
    /// A worker that ended by itself.
    #[error("worker {index} failed{why}; its message is above")]
    Worker {
        /// Which.
        index: u32,
        /// How it ended.
        why: String,
    },
    /// Stopped by a signal, cleanly.
    #[error("stopped by signal {0}")]
    Stopped(i32),
}

impl TortureError {
    pub(crate) fn system(what: &str, error: impl Into<std::io::Error>) -> Self {
        Self::System { what: what.to_owned(), error: error.into() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            processes: 1000,
            updates: 1,
            keys: 1,
            mode: Mode::Cas,
            system: None,
            history: History::Full,
            payload: 64,
            lanes: 8,
            kill: 0,
            seed: 1,
            store: None,
        }
    }
}

impl Options {
    /// Checks that the options fit together.
    ///
    /// # Errors
    /// [`TortureError::Options`] saying which do not.
    pub fn check(&self) -> Result<(), TortureError> {
        let no = |text: String| Err(TortureError::Options(text));
        if !(1..=2000).contains(&self.processes) {
            return no(format!("--processes {}: 1 to 2000", self.processes));
        }
        if self.updates == 0 || self.keys == 0 || self.keys > 1_000_000 {
            return no("--updates is at least 1, --keys 1 to 1000000".to_owned());
        }
        match self.system {
            Some(System::Workers) => return workers::check(self),
            Some(System::Files) => return files::check(self),
            _ => {}
        }
        if !(16..=65_536).contains(&self.payload) {
            return no(format!("--payload {}: 16 to 65536 bytes", self.payload));
        }
        if self.kill > 0 && self.mode == Mode::Mutex {
            return no("--kill with --mode mutex: a killed holder of a pthread mutex blocks everyone for ever, which is what this runtime is for; use --mode cas".to_owned());
        }
        if self.kill > 0 && self.updates < 2 {
            return no("--kill needs --updates 2 or more: a victim has made one and has one left"
                .to_owned());
        }
        if self.system.is_some()
            && u64::from(self.processes).saturating_mul(self.updates) > 10_000_000
        {
            return no(
                "--system with more than 10000000 updates in all; lower --updates".to_owned()
            );
        }
        if self.kill > self.processes {
            return no(format!("--kill {} of {} processes", self.kill, self.processes));
        }
        Ok(())
    }

    /// The name of what is tortured.
    pub(crate) fn name(&self) -> &'static str {
        self.system.map_or(self.mode.name(), System::name)
    }

    /// The key of the record that worker `index` updates in its `update`-th update.
    pub(crate) fn key(&self, index: u32, update: u64) -> String {
        key((u64::from(index) + update) % u64::from(self.keys))
    }
}

/// The name of record `number`.
pub(crate) fn key(number: u64) -> String {
    format!("record-{number:06}")
}

impl Mode {
    /// The mode's name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cas => "cas",
            Self::Naive => "naive",
            Self::Mutex => "mutex",
            Self::Store => "store",
        }
    }
}

impl System {
    /// The system's name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resonance => "resonance",
            Self::Workers => "workers",
            Self::Files => "files",
        }
    }
}

impl FromStr for System {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Resonance, Self::Workers, Self::Files];
        let known = all.into_iter().find(|s| s.name() == text);
        known.ok_or_else(|| format!("`{text}` is not a system; use resonance, workers or files"))
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Cas, Self::Naive, Self::Mutex, Self::Store]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| format!("`{text}` is not a mode; use cas, naive, mutex or store"))
    }
}
