//! Judging a segment and its store when nobody else is at work.

use std::collections::BTreeMap;
use std::time::Instant;

use commonhold::{Error, Runtime, WriterId};
use rusqlite::{Connection, OpenFlags};

use crate::stage::{FULL, LATEST, LIMIT, Stage};

/// A record: owner, n, version, hash in hexadecimal digits.
pub type Seen = (i64, i64, u64, String);

/// Every record of a table in memory.
#[must_use]
pub fn memory(runtime: &Runtime, table: &str) -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::new();
    let position = runtime.space().find_table(table).unwrap();
    let visit = |key: &str, seen: &commonhold::core::Snapshot| {
        let words = seen.payload.as_chunks::<8>().0;
        let [owner, n] = [0, 1].map(|i| i64::from_le_bytes(words[i]));
        let old =
            all.insert(key.to_owned(), (owner, n, seen.version, format!("{:016x}", seen.hash)));
        assert_eq!(old, None, "{key} is there twice");
        Ok::<(), Error>(())
    };
    runtime.space().scan(position, visit).unwrap();
    all
}

/// The database, for reading.
#[must_use]
pub fn database(stage: &Stage) -> Connection {
    Connection::open_with_flags(stage.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// One number from the database.
#[must_use]
pub fn number(stage: &Stage, sql: &str) -> i64 {
    database(stage).query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Every record of a table in the store.
#[must_use]
pub fn stored(stage: &Stage, table: &str) -> BTreeMap<String, Seen> {
    let mut store = commonhold::store::open_read_only(&stage.store()).unwrap();
    let tables = store.catalogue().unwrap().unwrap().tables;
    let position = tables.iter().position(|spec| spec.name == table).unwrap();
    let mut all = BTreeMap::new();
    let mut visit = |row: commonhold::row::Row| {
        let words = row.payload.as_chunks::<8>().0;
        let [owner, n] = [0, 1].map(|i| i64::from_le_bytes(words[i]));
        all.insert(row.key, (owner, n, row.version, format!("{:016x}", row.hash)));
        Ok(())
    };
    store.load(position, &mut visit).unwrap();
    all
}

/// Sweeps, drains, and checks that memory and store agree, that the audit finds nothing and that nothing leaked.
pub fn settle(stage: &Stage, runtime: &Runtime) {
    runtime.sweep().unwrap();
    runtime.drain(LIMIT).unwrap();
    runtime.sweep().unwrap();
    for (position, table) in [FULL, LATEST].into_iter().enumerate() {
        assert_eq!(memory(runtime, table), stored(stage, table), "{table}: memory, store");
        let figures = runtime.space().figures(position).unwrap();
        let slots = runtime.catalogue().tables[position].slots;
        assert_eq!(figures.slots.free + figures.slots.published, slots, "{table}: {figures:?}");
        assert_eq!(figures.index_cells.owned, 0, "{table}: {figures:?}");
        assert_eq!(figures.unstored_versions, 0, "{table}: {figures:?}");
        let leaked = leaked(runtime, position);
        assert_eq!(leaked, 0, "{table}: {leaked} cells leaked: {figures:?}");
    }
    audit(runtime);
}

/// The cells that nothing leads to. What is stored is reported before the cells behind it are freed, so the steward
/// may still be at that.
fn leaked(runtime: &Runtime, position: usize) -> u32 {
    let start = Instant::now();
    loop {
        let leaked = runtime.space().unreferenced_cells(position).unwrap();
        if leaked == 0 || start.elapsed() > LIMIT {
            return leaked;
        }
        std::thread::yield_now();
    }
}

/// The audit finds nothing.
pub fn audit(runtime: &Runtime) {
    let audit = runtime.store().unwrap().audit().unwrap();
    let findings: Vec<&str> = audit.findings().map(|f| f.text.as_str()).collect();
    assert!(audit.ok(), "{findings:#?}");
}

/// How many commits of each writer the history has.
#[must_use]
pub fn writers(stage: &Stage) -> BTreeMap<WriterId, u64> {
    let mut store = commonhold::store::open_read_only(&stage.store()).unwrap();
    store.highest_sequences(0).unwrap()
}

/// The versions of every key rise in the order of writing.
pub fn versions_rise(stage: &Stage) {
    let database = database(stage);
    let sql = format!("SELECT key, _version FROM {FULL}_history ORDER BY _position");
    let mut select = database.prepare(&sql).unwrap();
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    for (key, version) in rows.map(|row| row.unwrap()) {
        let before = last.insert(String::clone(&key), version).unwrap_or(0);
        assert!(version > before, "{key}: {version} after {before}");
    }
}
