//! Foreign changes in SQLite: the comparison with what is there, and the table `commonhold_conflicts`.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::audit::Stored;
use crate::decode::read;
use crate::error::StoreError;
use crate::foreign::{
    Accepted, Conflict, ForeignChange, KeyRows, Known, columns_json, differs, known, now, ours_json,
};
use crate::sqlite::connection::of;
use crate::sqlite::plan::Plan;
use crate::sqlite::read::Current;
use crate::sqlite::write::TableWriter;
use crate::store::TableBatch;

/// Creates the table of conflicts if it is not there.
pub(super) fn create(conn: &Connection, path: &str) -> Result<(), StoreError> {
    let sql = "CREATE TABLE IF NOT EXISTS commonhold_conflicts(
                   id INTEGER PRIMARY KEY, at INTEGER NOT NULL, table_name TEXT NOT NULL,
                   key TEXT NOT NULL, stored INTEGER NOT NULL, found TEXT NOT NULL,
                   ours TEXT NOT NULL, policy TEXT NOT NULL);
               CREATE INDEX IF NOT EXISTS commonhold_conflicts_key
                   ON commonhold_conflicts(table_name, key)";
    conn.execute_batch(sql).map_err(|e| of(path, e))
}

/// Compares what is there with what the segment stored; gives the foreign changes that are not accepted, each noted, and
/// whether one of them was not noted before. Of the accepted ones it is noted what is done.
pub(super) fn compare(
    writer: &mut TableWriter<'_>,
    epoch: u64,
    part: &TableBatch,
    keys: &[KeyRows<'_>],
) -> Result<(Vec<ForeignChange>, bool), StoreError> {
    let (conn, path, plan) = (writer.conn, writer.path, writer.plan);
    let accepted: HashMap<&str, &Accepted> =
        part.accepted.iter().map(|a| (a.key.as_str(), a)).collect();
    let mut select = conn.prepare_cached(&plan.select_one).map_err(|e| of(path, e))?;
    let (mut stored, mut changes, mut noted) = (Stored::default(), Vec::new(), false);
    for key in keys.iter().filter(|k| known(part, k) != Known::Anything) {
        let there = look(&mut select, plan, path, key.key, &mut stored)?;
        let found = there.then_some(&stored);
        let why = differs(&plan.spec, epoch, part, key, found);
        // An adopted deletion differs no more, and what was done is noted all the same.
        if why.is_none() && !accepted.contains_key(key.key) {
            continue;
        }
        let found = json(&mut select, plan, path, key.key)?;
        let policy = accepted.get(key.key).filter(|a| a.found == found).map(|a| a.policy);
        if why.is_none() && policy.is_none() {
            continue;
        }
        let kept = Kept { plan, part, key, found: found.as_deref() };
        let new = note(conn, path, &kept, policy.unwrap_or_default())?;
        noted |= new;
        if let (Some(why), None) = (why, policy) {
            let payload = (there && stored.whole).then(|| stored.row.payload.clone());
            let (table, key) = (part.table, key.key.to_owned());
            changes.push(ForeignChange { table, key, why, found, payload, new });
        }
    }
    Ok((changes, noted))
}

/// Reads the row of `key`; false when there is none.
fn look(
    select: &mut CachedStatement<'_>,
    plan: &Plan,
    path: &str,
    key: &str,
    into: &mut Stored,
) -> Result<bool, StoreError> {
    let mut rows = select.query([key]).map_err(|e| of(path, e))?;
    let Some(row) = rows.next().map_err(|e| of(path, e))? else { return Ok(false) };
    read(&Current { row, path }, &plan.spec, false, into)?;
    Ok(true)
}

/// The row of `key` as JSON.
fn json(
    select: &mut CachedStatement<'_>,
    plan: &Plan,
    path: &str,
    key: &str,
) -> Result<Option<String>, StoreError> {
    let mut rows = select.query([key]).map_err(|e| of(path, e))?;
    let Some(row) = rows.next().map_err(|e| of(path, e))? else { return Ok(None) };
    columns_json(&Current { row, path }, &plan.spec).map(Some)
}

/// Both states of one key.
struct Kept<'a> {
    plan: &'a Plan,
    part: &'a TableBatch,
    key: &'a KeyRows<'a>,
    found: Option<&'a str>,
}

/// Keeps both states in the table of conflicts, once; true when they, or what is done about them, were not there yet.
fn note(
    conn: &Connection,
    path: &str,
    kept: &Kept<'_>,
    policy: commonhold_core::catalogue::OnForeignChange,
) -> Result<bool, StoreError> {
    let fail = |e| of(path, e);
    let Kept { plan, part, key, found } = kept;
    let (table, found, policy) = (&plan.spec.name, found.unwrap_or("null"), policy.to_string());
    let stored = match known(part, key) {
        Known::Version(version) => version.cast_signed(),
        Known::Nothing | Known::Anything => 0,
    };
    let sql = "SELECT id, policy FROM commonhold_conflicts
               WHERE table_name = ?1 AND key = ?2 AND stored = ?3 AND found = ?4";
    let mut select = conn.prepare_cached(sql).map_err(fail)?;
    let there: Option<(i64, String)> = select
        .query_row(params![table, key.key, stored, found], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()
        .map_err(fail)?;
    match there {
        Some((_, noted)) if noted == policy => return Ok(false),
        Some((id, _)) => {
            let sql = "UPDATE commonhold_conflicts SET policy = ?2 WHERE id = ?1";
            conn.execute(sql, params![id, policy]).map_err(fail)?;
        }
        None => {
            let ours = part.rows.get(key.last).map(|row| ours_json(&plan.spec, row));
            let sql =
                "INSERT INTO commonhold_conflicts(at, table_name, key, stored, found, ours, policy)
                       VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let mut insert = conn.prepare_cached(sql).map_err(fail)?;
            insert
                .execute(params![now(), table, key.key, stored, found, ours, policy])
                .map_err(fail)?;
        }
    }
    Ok(true)
}

/// The foreign changes that were noted.
pub(super) fn conflicts(conn: &Connection, path: &str) -> Result<Vec<Conflict>, StoreError> {
    let fail = |e| of(path, e);
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'commonhold_conflicts'";
    if conn.query_row(sql, [], |_| Ok(())).optional().map_err(fail)?.is_none() {
        return Ok(Vec::new());
    }
    let sql = "SELECT id, at, table_name, key, stored, found, ours, policy
               FROM commonhold_conflicts ORDER BY id";
    let mut select = conn.prepare(sql).map_err(fail)?;
    let conflict = |r: &rusqlite::Row<'_>| {
        Ok(Conflict {
            id: r.get::<_, i64>(0)?.cast_unsigned(),
            at: r.get(1)?,
            table: r.get(2)?,
            key: r.get(3)?,
            stored: r.get::<_, i64>(4)?.cast_unsigned(),
            found: r.get(5)?,
            ours: r.get(6)?,
            policy: r.get(7)?,
        })
    };
    select.query_map([], conflict).and_then(Iterator::collect).map_err(fail)
}
