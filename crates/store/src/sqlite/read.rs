//! Reading rows of a SQLite file.

use commonhold_core::row::Row;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Rows};

use crate::audit::{RowSource, Stored};
use crate::chain::hex;
use crate::decode::{Columnar, Sql, prove, read};
use crate::error::StoreError;
use crate::sqlite::connection::of;
use crate::sqlite::plan::Plan;
use crate::store::HistoryRow;

/// The rows of a statement over T or `T_history`.
pub(super) struct Reader<'a> {
    rows: Rows<'a>,
    plan: &'a Plan,
    path: &'a str,
    history: bool,
}

impl<'a> Reader<'a> {
    /// Reads `rows`, those of `T_history` if `history`.
    pub(super) fn new(rows: Rows<'a>, plan: &'a Plan, path: &'a str, history: bool) -> Self {
        Self { rows, plan, path, history }
    }
}

impl RowSource for Reader<'_> {
    fn next(&mut self, into: &mut Stored) -> Result<bool, StoreError> {
        let Some(row) = self.rows.next().map_err(|e| of(self.path, e))? else {
            return Ok(false);
        };
        let row = Current { row, path: self.path };
        read(&row, &self.plan.spec, self.history, into)?;
        Ok(true)
    }
}

/// The row that a statement is at.
pub(super) struct Current<'a> {
    pub(super) row: &'a rusqlite::Row<'a>,
    pub(super) path: &'a str,
}

impl Columnar for Current<'_> {
    fn column(&self, at: usize) -> Result<Sql<'_>, StoreError> {
        let value = self.row.get_ref(at).map_err(|e| of(self.path, e))?;
        Ok(match value {
            ValueRef::Null => Sql::Null,
            ValueRef::Integer(v) => Sql::Integer(v),
            ValueRef::Real(v) => Sql::Real(v),
            ValueRef::Text(v) => Sql::Text(v),
            ValueRef::Blob(v) => Sql::Blob(v),
        })
    }
}

/// Every row of T in the order of the keys, each proved by its hash.
pub(super) fn load(
    conn: &Connection,
    path: &str,
    plan: &Plan,
    sink: &mut dyn FnMut(Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut select = conn.prepare_cached(&plan.select).map_err(|e| of(path, e))?;
    let rows = select.query([]).map_err(|e| of(path, e))?;
    let mut reader = Reader::new(rows, plan, path, false);
    let mut stored = Stored::default();
    while reader.next(&mut stored)? {
        prove(&stored, path, &plan.spec)?;
        sink(stored.row.clone())?;
    }
    Ok(())
}

/// Every row of `T_history` of one key in the order of the versions, each proved by its hash.
pub(super) fn history(
    conn: &Connection,
    path: &str,
    plan: &Plan,
    key: &str,
    sink: &mut dyn FnMut(HistoryRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if !plan.full {
        return Ok(());
    }
    let sql = format!("{} WHERE \"key\" = ?1 ORDER BY \"_version\"", plan.select_history);
    let mut select = conn.prepare_cached(&sql).map_err(|e| of(path, e))?;
    let rows = select.query([key]).map_err(|e| of(path, e))?;
    let mut reader = Reader::new(rows, plan, path, true);
    let mut stored = Stored::default();
    while reader.next(&mut stored)? {
        prove(&stored, path, &plan.spec)?;
        let link = hex(&stored.link.unwrap_or_default());
        sink(HistoryRow { row: stored.row.clone(), position: stored.position, link })?;
    }
    Ok(())
}
