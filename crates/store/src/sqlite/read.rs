//! Reading rows of a SQLite file.

use rusqlite::Rows;
use rusqlite::types::ValueRef;

use crate::audit::{RowSource, Stored};
use crate::decode::{Columnar, Sql, read};
use crate::error::StoreError;
use crate::sqlite::connection::of;
use crate::sqlite::plan::Plan;

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
        let row = Found { row, path: self.path };
        read(&row, &self.plan.spec, self.history, into)?;
        Ok(true)
    }
}

/// The row that a statement is at.
pub(super) struct Found<'a> {
    pub(super) row: &'a rusqlite::Row<'a>,
    pub(super) path: &'a str,
}

impl Columnar for Found<'_> {
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
