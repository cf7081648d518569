//! Judging a store by its rows: our audit, SQLite's own check, and what was reported durable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use commonhold::{Error, Runtime};
use commonhold_runtime::steward::Term;
use rusqlite::{Connection, OpenFlags};

use super::crew::DELETABLE;
use super::work::{COUNTER, IDS, NAME, TABLES, Version, config};

/// So soon everything goes on when there are no more faults: within 2 s, but a loaded machine was seen to stop a
/// process for 10 s.
pub(crate) const HEALED: Duration = Duration::from_secs(5);

/// What the children said of their commits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// Empty when it is not known: who is killed may not have said all.
    pub(crate) committed: BTreeSet<Version>,
    pub(crate) durable: BTreeSet<Version>,
    /// An id that was given out although a later one had been, or the same.
    pub(crate) again: Option<u64>,
}

impl Said {
    /// What comes next in the order of events, where ids only rise.
    pub(crate) fn next(&mut self, version: &Version) {
        let mut ids = self.durable.iter().rev().filter(|v| v.table == IDS).map(|v| v.version);
        if version.table == IDS && ids.next().is_some_and(|last| last >= version.version) {
            self.again = Some(version.version);
        }
        self.durable.insert(version.clone());
    }

    /// What somebody noted, whenever.
    pub(crate) fn any(&mut self, version: Version) {
        let (is_id, id) = (version.table == IDS, version.version);
        if !self.durable.insert(version) && is_id {
            self.again = Some(id);
        }
    }
}

/// What is wrong, in one line.
type Wrong = String;

fn text(error: impl std::fmt::Display) -> Wrong {
    error.to_string()
}

/// What the audit finds and what `PRAGMA integrity_check` does; opens the store for writing, as a steward does.
pub(crate) fn whole(database: &Path) -> Result<(), Wrong> {
    let url = format!("sqlite:{}", database.display());
    let mut store = commonhold::store::open(&url).map_err(|e| format!("cannot be opened: {e}"))?;
    let audit = store.audit().map_err(|e| format!("cannot be audited: {e}"))?;
    if let Some(finding) = audit.findings().next() {
        return Err(format!("audit: {} and {} more", finding.text, audit.total() - 1));
    }
    let check = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = Connection::open_with_flags(database, flags)?;
        database.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
    };
    match check() {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(format!("integrity_check: {found}")),
        Err(e) => Err(format!("integrity_check: {e}")),
    }
}

/// Every stored version with whether it is a deletion: of the history, and of the latest rows.
fn versions(database: &Path) -> rusqlite::Result<BTreeMap<(String, String, u64), bool>> {
    let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut all = BTreeMap::new();
    for (table, from) in [(TABLES[0], "full_history"), (TABLES[1], "latest")] {
        let there = format!("SELECT 1 FROM sqlite_schema WHERE name = '{from}'");
        if !database.prepare(&there)?.exists([])? {
            continue;
        }
        let deleted = if table == TABLES[0] { "_deleted" } else { "0" };
        let mut select =
            database.prepare(&format!("SELECT key, _version, {deleted} FROM {from}"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let version: i64 = row.get(1)?;
            let deleted: i64 = row.get(2)?;
            all.insert((table.to_owned(), row.get(0)?, version.cast_unsigned()), deleted != 0);
        }
    }
    Ok(all)
}

/// The numbers of ids and counters in the store.
fn marks(database: &Path) -> rusqlite::Result<BTreeMap<String, u64>> {
    let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT key, CAST(value AS INTEGER) FROM commonhold_meta WHERE key IN (?1, ?2)";
    if !database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'commonhold_meta'")?.exists([])?
    {
        return Ok(BTreeMap::new());
    }
    let mut select = database.prepare(sql)?;
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()));
    select.query_map([IDS, COUNTER].map(|kind| format!("{kind}:{NAME}")), row)?.collect()
}

/// Of what was reported durable, how many versions are there; or one that is not, or one that nobody committed.
pub(crate) fn kept(database: &Path, said: &Said) -> Result<u64, Wrong> {
    let there = versions(database).map_err(text)?;
    for ((table, key, version), deleted) in &there {
        let (table, key) = (table.clone(), key.clone());
        let stored = Version { table, key, version: *version, deleted: *deleted };
        if !said.committed.is_empty() && !said.committed.contains(&stored) {
            return Err(format!("stored and never committed: {stored}"));
        }
    }
    if let Some(id) = said.again {
        return Err(format!("id {id} was given out again"));
    }
    let marks = marks(database).map_err(text)?;
    let newest = |durable: &Version| {
        let from = (durable.table.clone(), durable.key.clone(), durable.version);
        let to = (durable.table.clone(), durable.key.clone(), u64::MAX);
        there.range(from..=to).next().is_some()
    };
    // Of a table with latest versions, a key that is not there may have been deleted later.
    let deleted_later = |durable: &Version| {
        let same = |v: &&Version| v.table == durable.table && v.key == durable.key;
        said.committed.iter().filter(same).any(|v| v.deleted && v.version >= durable.version)
    };
    for durable in &said.durable {
        let found = if [IDS, COUNTER].contains(&durable.table.as_str()) {
            let mark = marks.get(&format!("{}:{NAME}", durable.table));
            // A counter that is not there is 0.
            mark.copied().unwrap_or(0) >= durable.version
        } else if durable.table == TABLES[0] {
            let place = (durable.table.clone(), durable.key.clone(), durable.version);
            there.contains_key(&place)
        } else if durable.deleted {
            // No state before the deletion is there.
            let from = (durable.table.clone(), durable.key.clone(), 0);
            let to = (durable.table.clone(), durable.key.clone(), durable.version);
            there.range(from..=to).next().is_none()
        } else {
            newest(durable) || deleted_later(durable) || durable.key.starts_with(DELETABLE)
        };
        if !found {
            return Err(format!("reported durable and not stored: {durable}"));
        }
    }
    Ok(said.durable.len() as u64)
}

/// Drains what is left, as a steward that nothing disturbs; then memory and store must have the same, and the store
/// must be whole. What is wrong.
pub(crate) fn settled(folder: &Path, said: &Said) -> Result<u64, Wrong> {
    let start = Instant::now();
    let attach = config(folder, false).attach_only().without_steward();
    let runtime = Runtime::open(attach).map_err(|e| format!("cannot attach: {e}"))?;
    let mut term = Term::begin(runtime.space()).map_err(|e| format!("no steward: {e}"))?;
    while term.round().map_err(|e| format!("cannot drain: {e}"))? > 0 {
        if start.elapsed() > HEALED {
            return Err("not drained in time with no faults".to_owned());
        }
    }
    let database = folder.join("store").join("db");
    agree(&runtime, &database)?;
    if runtime.space().unstored_counters().map_err(text)? > 0 {
        return Err("a drained counter is not stored".to_owned());
    }
    drop((term, runtime));
    whole(&database)?;
    kept(&database, said)
}

/// Memory and store have the same records.
pub(crate) fn agree(runtime: &Runtime, database: &Path) -> Result<(), Wrong> {
    let connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(text)?;
    for table in TABLES {
        let mut memory = BTreeMap::new();
        let position = runtime.space().find_table(table).map_err(text)?;
        let note = |key: &str, seen: &commonhold::core::Snapshot| {
            memory.insert(key.to_owned(), (seen.version, format!("{:016x}", seen.hash)));
            Ok::<(), Error>(())
        };
        runtime.space().scan(position, note).map_err(text)?;
        let sql = format!("SELECT key, _version, _hash FROM {table}");
        let mut select = connection.prepare(&sql).map_err(text)?;
        let row = |row: &rusqlite::Row<'_>| {
            let version: i64 = row.get(1)?;
            Ok((row.get(0)?, (version.cast_unsigned(), row.get(2)?)))
        };
        let rows = select.query_map([], row).map_err(text)?;
        let stored: BTreeMap<String, (u64, String)> =
            rows.collect::<Result<_, _>>().map_err(text)?;
        if memory != stored {
            let differs = memory.iter().find(|(key, v)| stored.get(*key) != Some(v));
            let counts = (memory.len(), stored.len());
            return Err(format!("{table}: memory and store differ: {counts:?} rows, {differs:?}"));
        }
    }
    Ok(())
}
