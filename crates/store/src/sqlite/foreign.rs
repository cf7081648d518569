//! Foreign changes in SQLite: the comparison with what is there, and the table `commonhold_conflicts`.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::audit::Stored;
use crate::decode::read;
use crate::error::StoreError;
use crate::foreign::{Comparing, Conflict, Kept, columns_json, now};
use crate::sqlite::connection::of;
use crate::sqlite::plan::Plan;
use crate::sqlite::read::Found;

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

/// The rows of a table for the comparison.
pub(super) struct Current<'a> {
    conn: &'a Connection,
    path: &'a str,
    plan: &'a Plan,
    select: CachedStatement<'a>,
}

impl<'a> Current<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        path: &'a str,
        plan: &'a Plan,
    ) -> Result<Self, StoreError> {
        let select = conn.prepare_cached(&plan.select_one).map_err(|e| of(path, e))?;
        Ok(Self { conn, path, plan, select })
    }
}

impl Comparing for Current<'_> {
    fn look(&mut self, key: &str, into: &mut Stored) -> Result<bool, StoreError> {
        let path = self.path;
        let mut rows = self.select.query([key]).map_err(|e| of(path, e))?;
        let Some(row) = rows.next().map_err(|e| of(path, e))? else { return Ok(false) };
        read(&Found { row, path }, &self.plan.spec, false, into)?;
        Ok(true)
    }

    fn json(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        let path = self.path;
        let mut rows = self.select.query([key]).map_err(|e| of(path, e))?;
        let Some(row) = rows.next().map_err(|e| of(path, e))? else { return Ok(None) };
        columns_json(&Found { row, path }, &self.plan.spec).map(Some)
    }

    fn noted(&mut self, kept: &Kept<'_>) -> Result<Option<(i64, String)>, StoreError> {
        let sql = "SELECT id, policy FROM commonhold_conflicts
                   WHERE table_name = ?1 AND key = ?2 AND stored = ?3 AND found = ?4";
        let mut select = self.conn.prepare_cached(sql).map_err(|e| of(self.path, e))?;
        let values = params![kept.table, kept.key, kept.stored, kept.found];
        let there = select.query_row(values, |r| Ok((r.get(0)?, r.get(1)?))).optional();
        there.map_err(|e| of(self.path, e))
    }

    fn set_policy(&mut self, id: i64, policy: &str) -> Result<(), StoreError> {
        let sql = "UPDATE commonhold_conflicts SET policy = ?2 WHERE id = ?1";
        self.conn.execute(sql, params![id, policy]).map(|_| ()).map_err(|e| of(self.path, e))
    }

    fn note(&mut self, kept: &Kept<'_>, ours: &str, policy: &str) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO commonhold_conflicts(at, table_name, key, stored, found, ours, policy)
                   VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let mut insert = self.conn.prepare_cached(sql).map_err(|e| of(self.path, e))?;
        let Kept { table, key, stored, found } = kept;
        let values = params![now(), table, key, stored, found, ours, policy];
        insert.execute(values).map(|_| ()).map_err(|e| of(self.path, e))
    }
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
