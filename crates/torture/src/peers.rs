//! The other ways to update: what the runtime is measured against.

pub(crate) mod postgres;

use std::sync::atomic::Ordering;
use std::time::Duration;

use commonhold::hash::{record_prefix, state_hash};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::arena::{Arena, Violation};
use crate::worker::{Task, updates};
use crate::{Options, TortureError, key};

/// How long a peer waits for SQLite's lock: 1000 processes stand in line.
const BUSY: Duration = Duration::from_secs(600);

/// Makes the database of a peer: one table, as the store lays it out.
pub(crate) fn create_database(
    path: &std::path::Path,
    options: &Options,
) -> Result<(), TortureError> {
    let mut db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    let sql = "CREATE TABLE records (key TEXT PRIMARY KEY, value INTEGER, filler BLOB, _version INTEGER, _hash TEXT)";
    db.execute(sql, [])?;
    let filler = vec![0_u8; options.payload as usize - 12];
    let insert = db.transaction()?;
    for number in 0..options.keys {
        let row = params![key(number.into()), filler];
        insert.execute("INSERT INTO records VALUES (?, 0, ?, 1, '')", row)?;
    }
    insert.commit()?;
    Ok(())
}

fn open_database(path: &str) -> Result<Connection, TortureError> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    Ok(db)
}

/// What stands in the database: the sum of the values, and whether each version is its value plus one.
pub(crate) fn database_state(path: &std::path::Path) -> Result<(i64, bool), TortureError> {
    let db = Connection::open(path)?;
    let sql =
        "SELECT COALESCE(SUM(value), 0), COALESCE(SUM(_version <> value + 1), 0) FROM records";
    let (sum, odd): (i64, i64) = db.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok((sum, odd == 0))
}

/// Seed 002's *before*: read the row, compute, write it in a second statement. Nothing widens the window.
pub(crate) fn naive(task: &Task, arena: &Arena) -> Result<(), TortureError> {
    let db = open_database(&task.target)?;
    let mut read = db.prepare("SELECT value, _version FROM records WHERE key = ?")?;
    let mut write = db.prepare("UPDATE records SET value = ?, _version = ? WHERE key = ?")?;
    arena.wait_for_start()?;
    updates(task, &arena.worker(task.index), |number| {
        let key = task.options.key(task.index, number);
        let row = read.query_row([&key], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)));
        let (value, version) = row?;
        write.execute(params![value + 1, version + 1, key])?;
        Ok(())
    })
}

/// Each update one transaction that takes the write lock first.
pub(crate) fn store(task: &Task, arena: &Arena) -> Result<(), TortureError> {
    let mut db = open_database(&task.target)?;
    arena.wait_for_start()?;
    updates(task, &arena.worker(task.index), |number| {
        let key = task.options.key(task.index, number);
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let row = transaction
            .prepare_cached("SELECT value, _version, filler FROM records WHERE key = ?")?
            .query_row([&key], |r| {
                Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, Vec<u8>>(2)?))
            })
            .optional()?;
        if let Some((value, version, filler)) = row {
            let mut payload = (value + 1).to_le_bytes().to_vec();
            payload.extend((filler.len() as u32).to_le_bytes());
            payload.extend(filler);
            let prefix = record_prefix("records", &key);
            let hash = state_hash(prefix, (version + 1).cast_unsigned(), &payload);
            let sql = "UPDATE records SET value = ?, _version = ?, _hash = ? WHERE key = ?";
            let row = params![value + 1, version + 1, format!("{hash:016x}"), key];
            transaction.prepare_cached(sql)?.execute(row)?;
        }
        transaction.commit()?;
        Ok(())
    })
}

/// A process-shared pthread mutex around value, version, hash and payload in shared memory.
pub(crate) fn mutex(task: &Task, arena: &Arena) -> Result<(), TortureError> {
    let keys = u64::from(task.options.keys);
    let mutexes = (0..task.options.keys).map(|r| arena.mutex(r)).collect::<Result<Vec<_>, _>>()?;
    let view = arena.worker(task.index);
    let prefixes: Vec<u64> = (0..keys).map(|n| record_prefix("records", &key(n))).collect();
    let mut payload = vec![0; task.options.payload as usize];
    arena.wait_for_start()?;
    updates(task, &view, |number| {
        let at = (u64::from(task.index) + number) % keys;
        let failed = || TortureError::Options("a record of the arena is missing".to_owned());
        let mutex = mutexes.get(at as usize).ok_or_else(failed)?;
        let prefix = prefixes.get(at as usize).copied().ok_or_else(failed)?;
        let guard = mutex.lock().map_err(|e| {
            TortureError::system("lock the mutex", std::io::Error::other(e.to_string()))
        })?;
        let [value, version, hash, _, _, _, _, _, rest @ ..] = arena.record(at as u32) else {
            return Err(failed());
        };
        for (to, word) in payload.chunks_mut(8).zip(rest) {
            let bytes = word.load(Ordering::Relaxed).to_le_bytes();
            to.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        }
        let (next, next_version) =
            (value.load(Ordering::Relaxed) + 1, version.load(Ordering::Relaxed) + 1);
        if let Some(first) = payload.first_chunk_mut::<8>() {
            *first = next.to_le_bytes();
        }
        if next != next_version {
            view.violations.fetch_or(Violation::Version as u64, Ordering::Relaxed);
        }
        for (word, from) in rest.iter().zip(payload.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*from), Ordering::Relaxed);
        }
        hash.store(state_hash(prefix, next_version, &payload), Ordering::Relaxed);
        version.store(next_version, Ordering::Relaxed);
        value.store(next, Ordering::Relaxed);
        drop(guard);
        Ok(())
    })
}
