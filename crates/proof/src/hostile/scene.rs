//! The segment that is damaged: small, with both histories, full buckets, deleted and unstored records, and what a
//! killed participant left.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a scene that cannot be made is the check's failure

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold::catalogue::History;
use commonhold::hash::fnv1a_64;
use commonhold::{Config, Record, Runtime, Table, TableConfig, Text};
use commonhold_segment::Segment;
use commonhold_segment::sync::Ordering;
use nix::sys::signal::{Signal, raise};

use super::worker;
use crate::Failure;

/// The tables, by position.
pub(super) const TABLES: [&str; 2] = ["full", "latest"];
const SLOTS: u32 = 24;
/// What `geometry_of` makes of so many slots.
const BUCKETS: u32 = 16;
/// Within so long everything goes on once there are no more faults.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

#[derive(Record, Debug, Clone, Default, PartialEq)]
pub(super) struct Item {
    pub(super) n: i64,
    pub(super) text: Text<24>,
}

/// What every record should be; none: deleted.
pub(super) type Expected = [BTreeMap<String, Option<Item>>; 2];

/// A segment as it was made, and what it holds.
pub(super) struct Scene {
    pub(super) folder: PathBuf,
    /// The words of the sound segment.
    pub(super) base: Vec<u64>,
    pub(super) expected: Expected,
}

/// The bucket of a key.
pub(super) fn bucket_of(key: &str) -> u32 {
    let hash = fnv1a_64(key.as_bytes());
    (hash ^ hash >> 32) as u32 & (BUCKETS - 1)
}

/// Nine keys of one bucket, so that it overflows, and eight others.
fn keys() -> Vec<String> {
    let all = || (0..10_000).map(|i| format!("key-{i}"));
    let crowded = all().filter(|k| bucket_of(k) == 3).take(9);
    crowded.chain(all().filter(|k| bucket_of(k) != 3).take(8)).collect()
}

impl Scene {
    pub(super) fn segment(&self) -> PathBuf {
        self.folder.join("segment")
    }

    pub(super) fn database(&self) -> PathBuf {
        self.folder.join("store.db")
    }

    pub(super) fn config(folder: &Path) -> Config {
        let at = |name: &str| folder.join(name).display().to_string();
        let cells = SLOTS * 2 + 8 + 1 + 60;
        Config::named(&at("segment"))
            .store(&format!("sqlite:{}", at("store.db")))
            .participants(8)
            .lanes(4)
            .room_wait(LIMIT)
            .table(TableConfig::of::<Item>(TABLES[0]).slots(SLOTS).cells(cells).key_bytes(24))
            .table(
                TableConfig::of::<Item>(TABLES[1])
                    .slots(SLOTS)
                    .key_bytes(24)
                    .history(History::Latest),
            )
    }

    /// Makes the segment and its store, and a copy of the store beside it.
    pub(super) fn new(folder: &Path) -> Result<Self, Failure> {
        let mut expected = Expected::default();
        let config = Self::config(folder);
        let runtime = Runtime::open(config.clone())?;
        fill(&runtime, &mut expected)?;
        drop(runtime);
        let runtime = Runtime::open(config.attach_only().without_steward())?;
        change(&runtime, &mut expected)?;
        drop(runtime);
        leave_dead(folder)?;
        let segment = Segment::attach(&folder.join("segment"), true)?;
        let base = segment.words().iter().map(|w| w.load(Ordering::SeqCst)).collect();
        std::fs::copy(folder.join("store.db"), folder.join("store.base"))?;
        Ok(Self { folder: folder.to_owned(), base, expected })
    }

    /// Puts the store back as it was.
    pub(super) fn restore_store(&self, at: &Path) -> Result<(), Failure> {
        for end in ["-wal", "-shm", "-journal"] {
            let mut name = at.as_os_str().to_owned();
            name.push(end);
            let _ = std::fs::remove_file(name);
        }
        let _ = std::fs::remove_file(at);
        std::fs::copy(self.folder.join("store.base"), at)?;
        Ok(())
    }
}

fn item(n: i64) -> Item {
    let text = "abcdefghijklmnopqrstuvwx".get(..n as usize % 24).unwrap_or_default();
    Item { n, text: Text::new(text).unwrap() }
}

/// Everything of this is stored.
fn fill(runtime: &Runtime, expected: &mut Expected) -> Result<(), Failure> {
    for (name, expected) in TABLES.iter().zip(expected) {
        let table: Table<Item> = runtime.table(name)?;
        for (i, key) in keys().iter().enumerate() {
            let i = i as i64;
            table.insert(key, &item(i))?;
            table.update(key, |now| *now = item(i + 100))?;
            expected.insert(key.clone(), Some(item(i + 100)));
        }
        for key in keys().iter().step_by(6) {
            table.delete(key)?;
            expected.insert(key.clone(), None);
        }
        runtime.drain(LIMIT)?;
        let again = &keys()[6];
        table.insert(again, &item(7))?;
        expected.insert(again.clone(), Some(item(7)));
    }
    Ok(runtime.drain(LIMIT)?)
}

/// This is not stored.
fn change(runtime: &Runtime, expected: &mut Expected) -> Result<(), Failure> {
    for (name, expected) in TABLES.iter().zip(expected) {
        let table: Table<Item> = runtime.table(name)?;
        for (i, key) in keys().iter().enumerate().skip(1).step_by(3) {
            for n in 0..3 {
                table.update(key, |now| *now = item(i as i64 + n))?;
            }
            expected.insert(key.clone(), Some(item(i as i64 + 2)));
        }
        let gone = &keys()[5];
        table.delete(gone)?;
        expected.insert(gone.clone(), None);
        table.insert("new", &item(1))?;
        expected.insert("new".to_owned(), Some(item(1)));
    }
    Ok(())
}

/// A participant with spare cells dies.
fn leave_dead(folder: &Path) -> Result<(), Failure> {
    let config = Scene::config(folder).attach_only().without_steward();
    let child = worker::fork()?;
    let Some(child) = child else {
        let runtime = Runtime::open(config).unwrap();
        let handle = runtime.handle().unwrap();
        for name in TABLES {
            let table: Table<Item, _> = Table::new(&handle, name).unwrap();
            table.update(&keys()[1], |_| {}).unwrap();
        }
        let _ = raise(Signal::SIGKILL);
        return Ok(());
    };
    worker::reap(child);
    Ok(())
}
