//! Segments to measure on: ephemeral, with a SQLite store in a temporary folder. Both go with the value.

use commonhold::catalogue::History;
use commonhold::{Bytes, Config, Handle, Record, RecordRef, Runtime, Table, TableConfig};
use tempfile::TempDir;

use crate::Outcome;

/// The table with latest history, and its position.
pub(crate) const LATEST: &str = "latest";
pub(crate) const LATEST_AT: usize = 0;
/// The table with full history.
pub(crate) const FULL: &str = "full";
/// The guard.
pub(crate) const GUARD: &str = "bench";
/// Records of either table that are there from the start.
pub(crate) const RECORDS: u32 = 1024;

/// A record of `N` + 12 bytes of payload: a number, and bytes that an update copies.
#[derive(Debug, Record, Clone, Default)]
pub(crate) struct Sample<const N: usize> {
    pub(crate) value: i64,
    rest: Bytes<N>,
}

/// The record of 256 bytes.
pub(crate) type Sample256 = Sample<244>;

/// A segment and its store.
pub(crate) struct Place {
    // Dropped in this order: the steward drains into the folder.
    pub(crate) runtime: Runtime,
    pub(crate) folder: TempDir,
}

/// The key of record `number`: 16 bytes.
pub(crate) fn key(number: usize) -> String {
    format!("record-{number:09}")
}

impl<const N: usize> Sample<N> {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self { value: 0, rest: Bytes::new(&[7; N])? })
    }
}

/// The next state of a record in its encoding, without decoding it: the number that it begins with plus one.
#[inline]
pub(crate) fn raise(current: &[u8], next: &mut Vec<u8>) -> Result<(), ()> {
    let value = current.first_chunk().ok_or(())?;
    next.extend_from_slice(current);
    let raised = i64::from_le_bytes(*value) + 1;
    *next.first_chunk_mut().ok_or(())? = raised.to_le_bytes();
    Ok(())
}

/// A temporary folder that goes with the value.
pub(crate) fn folder() -> Outcome<TempDir> {
    Ok(tempfile::Builder::new().prefix("commonhold-bench-").tempdir()?)
}

impl Place {
    /// A segment with the tables and sizes that `with` asks for, a SQLite store and its steward in this process.
    pub(crate) fn new(with: impl FnOnce(Config) -> Config) -> Outcome<Self> {
        let folder = folder()?;
        let store = format!("sqlite:{}", folder.path().join("bench.db").display());
        let runtime = Runtime::open(with(Config::ephemeral().store(&store)))?;
        Ok(Self { runtime, folder })
    }

    /// A segment with both tables of [`Sample`], [`RECORDS`] in each.
    pub(crate) fn both<const N: usize>(participants: u32, journal: u32) -> Outcome<Self> {
        Self::both_with::<N>(participants, journal, |config| config)
    }

    /// The same, with more asked for.
    pub(crate) fn both_with<const N: usize>(
        participants: u32,
        journal: u32,
        with: impl FnOnce(Config) -> Config,
    ) -> Outcome<Self> {
        let table = |name, history| {
            TableConfig::of::<Sample<N>>(name).history(history).slots(RECORDS).key_bytes(16)
        };
        let cells = 2 * RECORDS + participants + 1 + journal;
        let place = Self::new(|config| {
            let config = config.participants(participants).table(table(LATEST, History::Latest));
            with(config.table(table(FULL, History::Full).cells(cells)))
        })?;
        for name in [LATEST, FULL] {
            fill(&place.runtime.table::<Sample<N>>(name)?, RECORDS as usize)?;
        }
        if place.runtime.space().steward().is_some() {
            place.runtime.drain(std::time::Duration::from_secs(60))?;
        }
        Ok(place)
    }

    /// The segment's file.
    pub(crate) fn path(&self) -> Outcome<String> {
        let path = self.runtime.path().ok_or("the segment has no file")?;
        Ok(path.display().to_string())
    }
}

/// Inserts records 0 to `count`; where they stand.
pub(crate) fn fill<const N: usize>(
    table: &Table<Sample<N>, impl std::borrow::Borrow<Handle>>,
    count: usize,
) -> Outcome<Vec<RecordRef>> {
    let sample = Sample::new()?;
    let insert = |number| Ok(table.insert(&key(number), &sample)?.record());
    (0..count).map(insert).collect()
}

/// Where records 0 to `count` stand.
pub(crate) fn find<const N: usize>(
    table: &Table<Sample<N>, impl std::borrow::Borrow<Handle>>,
    count: usize,
) -> Outcome<Vec<RecordRef>> {
    (0..count).map(|n| Ok(table.find(&key(n))?.ok_or("a record is missing")?)).collect()
}
