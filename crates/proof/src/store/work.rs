//! The work that is disturbed: one thread commits, drains what it committed as the steward does, and says what it
//! was told to be durable.
//!
//! What it commits and what it knows to be durable it writes as lines to [`MARKS`], where the watcher of its system
//! calls sees them in order: `C TABLE KEY VERSION DELETED` and `A TABLE KEY VERSION DELETED`. An id that it was given, and
//! the value of a counter that it was told to be stored, it writes as `A` with a table of its own ([`IDS`], [`COUNTER`]).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a child that dies is a verdict

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold::catalogue::History;
use commonhold::{Bytes, Config, Counter, Error, Handle, Ids, Record, Runtime, Table, TableConfig};
use commonhold_runtime::steward::Term;

use crate::random::Random;

/// Where the marks go.
pub(crate) const MARKS: &str = "/dev/null";
/// The tables: of the first every version is stored, of the second the latest.
pub(crate) const TABLES: [&str; 2] = ["full", "latest"];
/// Stands for a table where an id is reported: none up to it may be given out again.
pub(crate) const IDS: &str = "ids";
/// Stands for a table where the stored value of a counter is reported; it only grows.
pub(crate) const COUNTER: &str = "counter";
/// The allocator and the counter.
pub(crate) const NAME: &str = "work";
/// The most ids taken in one round: a step of the store's mark in a few rounds.
const IDS_MAX: u64 = 3000;
const KEYS: u64 = 12;
const SLOTS: u32 = 24;
const TRIES: u32 = 4;

/// A record.
#[derive(Record, Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Item {
    /// Counts updates.
    pub(crate) n: i64,
    /// So that rows fill pages.
    pub(crate) filler: Bytes<2000>,
}

/// What is to be done, where.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// The folder with segment and store.
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
    /// How often it commits and drains.
    pub(crate) rounds: u32,
    /// The most commits before it drains.
    pub(crate) commits: u64,
    /// The most bytes of a record's filler.
    pub(crate) filler: u64,
    /// The store's database is opened so that commits are not synced.
    pub(crate) unsynced: bool,
    /// What a program that closes and reopens the store, and one that makes checkpoints, do in percent of the rounds.
    pub(crate) strangers: u64,
}

/// One version of a key; with whether it is a deletion.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) version: u64,
    pub(crate) deleted: bool,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, key, version, deleted } = self;
        write!(f, "{table}/{key} {version}{}", if *deleted { " (deletion)" } else { "" })
    }
}

impl Version {
    /// Reads a line of [`MARKS`]; true: it is durable.
    pub(crate) fn read(line: &str) -> Option<(bool, Self)> {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [kind, table, key, version, deleted] = parts.as_slice() else { return None };
        let version = version.parse().ok()?;
        let (table, key) = ((*table).to_owned(), (*key).to_owned());
        Some((*kind == "A", Self { table, key, version, deleted: *deleted == "1" }))
    }

    pub(crate) fn line(&self, kind: char) -> String {
        let Self { table, key, version, deleted } = self;
        format!("{kind} {table} {key} {version} {}\n", u8::from(*deleted))
    }
}

impl Work {
    /// The folder that only the store is in.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// The segment and its tables.
    pub(crate) fn config(&self) -> Config {
        config(&self.folder, self.unsynced)
    }

    /// Does it. False when the work itself could not be done.
    pub(crate) fn run(&self) -> bool {
        let mut tried = (0..TRIES).map(|_| Runtime::open(self.config().without_steward()));
        let Some(runtime) = tried.find_map(Result::ok) else { return true };
        let Ok(handle) = runtime.handle() else { return true };
        handle.set_room_wait(Duration::from_millis(20));
        let tables = TABLES.map(|name| Table::<Item, &Handle>::new(&handle, name).unwrap());
        let names = (Ids::new(&handle, NAME).unwrap(), Counter::new(&handle, NAME).unwrap());
        let mut worker = Worker {
            work: self,
            runtime: &runtime,
            marks: File::options().write(true).open(MARKS).unwrap(),
            random: Random::of(self.seed, 1),
            term: None,
            outstanding: Vec::new(),
        };
        worker.settle(&handle);
        for _ in 0..self.rounds {
            worker.commit(&tables);
            worker.drain();
            worker.acknowledge();
            worker.names(&names.0, &names.1);
            worker.stranger();
        }
        worker.settle(&handle);
        worker.acknowledge();
        true
    }
}

/// A segment with its store in `folder`.
pub(crate) fn config(folder: &Path, unsynced: bool) -> Config {
    let database = folder.join("store").join("db");
    let synced = if unsynced { "?synchronous=normal" } else { "" };
    Config::named(&folder.join("segment").display().to_string())
        .store(&format!("sqlite:{}{synced}", database.display()))
        .participants(32)
        .lanes(4)
        .table(TableConfig::of::<Item>(TABLES[0]).slots(SLOTS).cells(SLOTS * 2 + 800))
        .table(TableConfig::of::<Item>(TABLES[1]).slots(SLOTS).history(History::Latest))
}

struct Worker<'a> {
    work: &'a Work,
    runtime: &'a Runtime,
    marks: File,
    random: Random,
    term: Option<Term>,
    outstanding: Vec<(Version, commonhold::Commit<'a>)>,
}

impl<'a> Worker<'a> {
    fn mark(&mut self, kind: char, version: &Version) {
        self.marks.write_all(version.line(kind).as_bytes()).unwrap();
    }

    fn commit(&mut self, tables: &'a [Table<Item, &'a Handle>; 2]) {
        for _ in 0..=self.random.below(self.work.commits) {
            let table = &tables[self.random.below(2) as usize];
            let key = format!("k{}", self.random.below(KEYS));
            let length = self.random.below(self.work.filler + 1) as usize;
            let filler = Bytes::new(&vec![self.random.next() as u8; length]).unwrap();
            let deleted = self.random.chance(15) && matches!(table.find(&key), Ok(Some(_)));
            let done = if deleted {
                table.delete(&key).ok()
            } else {
                let initial = || Item { n: 1, filler };
                let change = |item: &mut Item| {
                    item.n += 1;
                    item.filler = filler;
                };
                table.update_or_insert(&key, initial, change).ok()
            };
            let Some(commit) = done else { continue };
            let table = table.name().to_owned();
            let version = Version { table, key, version: commit.version(), deleted };
            self.mark('C', &version);
            self.outstanding.push((version, commit));
        }
    }

    /// Takes ids as far as the store covers them, and counts. It waits for nobody, being the steward.
    fn names(&mut self, ids: &Ids<&Handle>, counter: &Counter<&Handle>) {
        let mut last = None;
        for _ in 0..self.random.below(IDS_MAX) {
            let Ok(id) = ids.next_within(Duration::ZERO) else { break };
            assert!(last.is_none_or(|last| id == last + 1), "{id} after {last:?}");
            last = Some(id);
        }
        if let Some(id) = last {
            self.report(IDS, id);
        }
        counter.add(1).unwrap();
    }

    fn report(&mut self, table: &str, version: u64) {
        let (table, key) = (table.to_owned(), NAME.to_owned());
        self.mark('A', &Version { table, key, version, deleted: false });
    }

    /// One round, in a new term when the last one failed.
    fn drain(&mut self) -> Option<usize> {
        if self.term.is_none() {
            self.term = Term::begin(self.runtime.space()).ok();
        }
        let done = self.term.as_mut().and_then(|term| term.round().ok());
        if done.is_none() {
            self.term = None;
        }
        done
    }

    /// Says what it can now know to be durable.
    fn acknowledge(&mut self) {
        for (version, commit) in std::mem::take(&mut self.outstanding) {
            match commit.durable(Duration::ZERO) {
                Ok(()) => self.mark('A', &version),
                Err(_) => self.outstanding.push((version, commit)),
            }
        }
    }

    /// Drains until nothing is left, and says that all of memory is durable if that is so.
    fn settle(&mut self, handle: &Handle) {
        let mut failures = 0;
        while failures < TRIES {
            match self.drain() {
                Some(0) => break,
                Some(_) => {}
                None => failures += 1,
            }
        }
        if handle.wait_drained(Duration::ZERO).is_err() {
            return;
        }
        let counted = Counter::new(handle, NAME).unwrap().get().unwrap();
        self.report(COUNTER, counted.cast_unsigned());
        for (position, table) in TABLES.into_iter().enumerate() {
            let mut all = Vec::new();
            let note = |key: &str, seen: &commonhold::core::Snapshot| {
                let (table, key) = (table.to_owned(), key.to_owned());
                all.push(Version { table, key, version: seen.version, deleted: seen.deleted });
                Ok::<(), Error>(())
            };
            self.runtime.space().scan(position, note).unwrap();
            all.iter().for_each(|version| self.mark('A', version));
        }
    }

    /// What other programs do with the database.
    fn stranger(&mut self) {
        if self.random.chance(self.work.strangers) {
            self.term = None;
        }
        if self.random.chance(self.work.strangers) {
            let database = self.work.store().join("db");
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
            if let Ok(other) = rusqlite::Connection::open_with_flags(database, flags) {
                let _ = other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            }
        }
    }
}
