//! Where a test takes place: a folder in shared memory with a segment, its store and the files of its roles.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use commonhold::catalogue::History;
use commonhold::workers::{self, Capacity, Pool, PoolOptions};
use commonhold::{Config, Record, Runtime, TableConfig};
use tempfile::TempDir;

use crate::door::Door;
use crate::process::Process;
use crate::tasks;

/// The table of which every version is stored; at position 0.
pub const FULL: &str = "full";
/// The table of which the latest version is stored; at position 1.
pub const LATEST: &str = "latest";
/// So long is waited for what must come.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Returns when `holds` does; what does not come within [`LIMIT`] is a failure.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "{what}: not within {} s", LIMIT.as_secs());
        std::thread::yield_now();
    }
}

/// A record of both tables.
#[derive(Record, Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// The number of the key it belongs to.
    pub owner: i64,
    /// Counts updates.
    pub n: i64,
}

/// Folder, segment, store, and the program of the roles.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    program: &'static str,
    /// The store's url; else it is the database in the folder.
    store: Option<String>,
}

/// A stage of its own for the test that calls it.
#[macro_export]
macro_rules! stage {
    () => {
        $crate::Stage::new(env!("CARGO_BIN_EXE_commonhold-test-role"))
    };
}

impl Stage {
    /// See [`stage!`](crate::stage!).
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix("commonhold-tests-").tempdir_in("/dev/shm").unwrap();
        Self { folder, program, store: None }
    }

    /// The same with another store than the SQLite database in its folder.
    #[must_use]
    pub fn with_store(self, url: &str) -> Self {
        Self { store: Some(url.to_owned()), ..self }
    }

    /// A file of this stage.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The segment's file.
    #[must_use]
    pub fn segment(&self) -> String {
        self.path("segment").display().to_string()
    }

    /// The database, if the store is SQLite.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path("store.db")
    }

    /// The store's url.
    #[must_use]
    pub fn store(&self) -> String {
        let database = || format!("sqlite:{}", self.database().display());
        self.store.clone().unwrap_or_else(database)
    }

    /// The segment with its tables, small enough that every pool runs dry at times.
    #[must_use]
    pub fn config(&self) -> Config {
        self.sized(64, 64, 1500)
    }

    /// The segment with so many participants, slots, and versions that may wait for the store.
    #[must_use]
    pub fn sized(&self, participants: u32, slots: u32, waiting: u32) -> Config {
        let cells = slots * 2 + participants + 1 + waiting;
        Config::named(&self.segment())
            .store(&self.store())
            .participants(participants)
            .lanes(8)
            .table(TableConfig::of::<Item>(FULL).slots(slots).cells(cells))
            .table(TableConfig::of::<Item>(LATEST).slots(slots).history(History::Latest))
    }

    /// The segment with the tables of a queue.
    #[must_use]
    pub fn with_queue(&self, capacity: &Capacity) -> Config {
        let config = Config::named(&self.segment()).store(&self.store()).participants(128).lanes(8);
        workers::configure(config, capacity)
    }

    /// A pool whose workers are processes of the roles' program.
    #[must_use]
    pub fn pool(&self, runtime: &Runtime, options: PoolOptions) -> Pool {
        Pool::start(runtime, tasks::kinds(), self.workers(options)).unwrap()
    }

    /// The options, with the roles' program as the workers' program.
    #[must_use]
    pub fn workers(&self, options: PoolOptions) -> PoolOptions {
        options.command(self.program, Vec::<String>::new())
    }

    /// A door before which tasks `hold` wait.
    #[must_use]
    pub fn door(&self, name: &str) -> Door {
        Door::new(self.path(name))
    }

    /// The segment that is there.
    #[must_use]
    pub fn there(&self) -> Config {
        Config::named(&self.segment()).attach_only()
    }

    /// Makes the segment, or attaches to it.
    #[must_use]
    pub fn open(&self) -> Runtime {
        Runtime::open(self.config()).unwrap()
    }

    /// Attaches without standing for the steward's role.
    #[must_use]
    pub fn attach(&self) -> Runtime {
        Runtime::open(self.there().without_steward()).unwrap()
    }

    /// Starts a role on the segment.
    #[must_use]
    pub fn role(&self, role: &str, args: &[&str]) -> Process {
        Process::start(self.program, role, &self.segment(), args)
    }
}
