//! Reading rows: what the server sends becomes columns, and a cursor hands them out a piece at a time.

use std::cell::Cell;
use std::error::Error;

use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, Statement};

use super::connection::Connection;
use super::error::of;
use super::plan::Plan;
use crate::audit::{RowSource, Stored};
use crate::decode::{Columnar, Sql, read};
use crate::error::StoreError;

/// Rows that are fetched at a time.
const ROWS: u32 = 500;

impl<'a> FromSql<'a> for Sql<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *ty {
            Type::INT8 => Self::Integer(i64::from_be_bytes(raw.try_into()?)),
            Type::BOOL => Self::Integer(i64::from(raw != [0])),
            Type::FLOAT8 => Self::Real(f64::from_be_bytes(raw.try_into()?)),
            Type::TEXT | Type::JSON => Self::Text(raw),
            _ => Self::Blob(raw),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A row, and the store that it is of.
pub(super) struct Found<'a> {
    pub(super) row: &'a Row,
    pub(super) path: &'a str,
}

impl Columnar for Found<'_> {
    fn column(&self, at: usize) -> Result<Sql<'_>, StoreError> {
        self.row.try_get(at).map_err(|e| of(self.path, &e))
    }
}

/// An open cursor over T or `T_history`.
pub(super) struct Reader<'a> {
    conn: &'a Connection,
    plan: &'a Plan,
    history: bool,
    name: String,
    fetch: Statement,
    rows: std::vec::IntoIter<Row>,
    more: bool,
}

impl<'a> Reader<'a> {
    /// Opens a cursor for `sql`; `history` says of which table. `count` numbers the cursors of a transaction.
    pub(super) fn open(
        conn: &'a Connection,
        plan: &'a Plan,
        sql: &str,
        history: bool,
        count: &Cell<u32>,
    ) -> Result<Self, StoreError> {
        count.set(count.get() + 1);
        let name = format!("rows_{}", count.get());
        conn.execute(&format!("DECLARE {name} NO SCROLL CURSOR FOR {sql}"))?;
        let fetch = conn.wait(conn.client().prepare(&format!("FETCH {ROWS} FROM {name}")))?;
        Ok(Self { conn, plan, history, name, fetch, rows: Vec::new().into_iter(), more: true })
    }

    /// Closes the cursor.
    pub(super) fn close(self) -> Result<(), StoreError> {
        self.conn.execute(&format!("CLOSE {}", self.name))
    }
}

impl RowSource for Reader<'_> {
    fn next(&mut self, into: &mut Stored) -> Result<bool, StoreError> {
        if self.rows.len() == 0 && self.more {
            let rows = self.conn.wait(self.conn.client().query(&self.fetch, &[]))?;
            self.more = rows.len() == ROWS as usize;
            self.rows = rows.into_iter();
        }
        let Some(row) = self.rows.next() else { return Ok(false) };
        let found = Found { row: &row, path: self.conn.path() };
        read(&found, &self.plan.spec, self.history, into)?;
        Ok(true)
    }
}
