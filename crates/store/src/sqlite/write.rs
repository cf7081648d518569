//! Writing the rows of one table within a transaction.
//!
//! With full history each row is first offered to `T_history`. A version that is there already is recognised by
//! the primary key: it takes no position and no link. Only what is new moves the chain. Then T gets one statement a
//! key, whatever the number of versions: for the last, by what the comparison found there. A statement that does not
//! change the row that it must, which takes a trigger of somebody's, is an error.

use std::collections::HashSet;

use commonhold_core::row::Row;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::chain::{Columns, write_hex};
use crate::decode::Sql;
use crate::encode::{bad_row, encode};
use crate::error::StoreError;
use crate::foreign::{KeyRows, Step, step};
use crate::sqlite::connection::of;
use crate::sqlite::meta::{self, Head};
use crate::sqlite::plan::Plan;
use crate::store::TableBatch;

/// Buffers that live from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    columns: Columns,
    text: String,
}

/// A writer of one table within a transaction.
pub(super) struct TableWriter<'a> {
    pub(super) conn: &'a Connection,
    pub(super) path: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) scratch: &'a mut Scratch,
}

/// Binds the columns of a row one after the other, and notes them for the link.
struct Binder<'s, 'c> {
    statement: &'s mut CachedStatement<'c>,
    columns: &'s mut Columns,
    next: usize,
}

impl Binder<'_, '_> {
    fn place(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn put(&mut self, value: Sql<'_>) -> rusqlite::Result<()> {
        self.columns.value(value);
        let place = self.place();
        let value = match value {
            Sql::Null => ValueRef::Null,
            Sql::Integer(v) => ValueRef::Integer(v),
            Sql::Real(v) => ValueRef::Real(v),
            Sql::Text(v) => ValueRef::Text(v),
            Sql::Blob(v) => ValueRef::Blob(v),
        };
        self.statement.raw_bind_parameter(place, ToSqlOutput::Borrowed(value))
    }
}

impl TableWriter<'_> {
    /// Writes one table's part of a batch, which has `keys`.
    pub(super) fn write(
        &mut self,
        batch: &TableBatch,
        keys: &[KeyRows<'_>],
    ) -> Result<(), StoreError> {
        let accepted: HashSet<&str> = batch.accepted.iter().map(|a| a.key.as_str()).collect();
        let replaced = |key: &str| accepted.contains(key);
        self.remove(keys.iter().map(|k| k.key).filter(|key| replaced(key)))?;
        let new = if self.plan.full { Some(self.append_history(&batch.rows)?) } else { None };
        let is_new = |i: usize| new.as_ref().is_none_or(|n| n.get(i).copied().unwrap_or(true));
        let last = keys.iter().filter_map(|key| {
            let row = batch.rows.get(key.last)?;
            step(key, row, is_new(key.last), replaced(key.key)).map(|step| (step, row))
        });
        self.write_current(last)?;
        self.raise_floor(batch.floor)
    }

    /// Makes room for what replaces foreign changes, whatever their versions.
    fn remove<'k>(&mut self, mut keys: impl Iterator<Item = &'k str>) -> Result<(), StoreError> {
        let fail = |e| of(self.path, e);
        let mut remove = self.conn.prepare_cached(&self.plan.remove).map_err(fail)?;
        keys.try_for_each(|key| remove.execute([key]).map(|_| ()).map_err(fail))
    }

    /// Appends to `T_history` what is not there, and says of each row whether it was new.
    pub(super) fn append_history(&mut self, rows: &[Row]) -> Result<Vec<bool>, StoreError> {
        let (conn, path, plan) = (self.conn, self.path, self.plan);
        let before = meta::head(conn, path, &plan.count_key, &plan.link_key)?.unwrap_or_default();
        let mut head = before;
        let mut insert = conn.prepare_cached(&plan.insert_history).map_err(|e| of(path, e))?;
        let mut new = Vec::with_capacity(rows.len());
        for row in rows {
            new.push(self.append_version(&mut insert, row, &mut head)?);
        }
        if head != before {
            meta::set_head(conn, path, &plan.count_key, &plan.link_key, &head)?;
        }
        Ok(new)
    }

    /// Appends one version after `head` and moves it, unless the version is there.
    fn append_version(
        &mut self,
        insert: &mut CachedStatement<'_>,
        row: &Row,
        head: &mut Head,
    ) -> Result<bool, StoreError> {
        let position = head.count + 1;
        let next = self.bind_row(insert, row)?;
        let columns = &mut self.scratch.columns;
        let mut binder = Binder { statement: insert, columns, next };
        let mut bind_rest = || {
            binder.put(Sql::Integer(i64::from(row.deleted)))?;
            binder.put(Sql::Integer(position.cast_signed()))
        };
        bind_rest().map_err(|e| of(self.path, e))?;
        let place = binder.place();
        let link = self.scratch.columns.link(&head.link);
        write_hex(&mut self.scratch.text, &link);
        let text = self.scratch.text.as_str();
        insert.raw_bind_parameter(place, text).map_err(|e| of(self.path, e))?;
        if insert.raw_execute().map_err(|e| of(self.path, e))? == 1 {
            *head = Head { count: position, link };
            return Ok(true);
        }
        self.same_state(row).map(|()| false)
    }

    /// Checks that the version that is there is the one that was to be written.
    fn same_state(&mut self, row: &Row) -> Result<(), StoreError> {
        let fail = |e| of(self.path, e);
        let mut select = self.conn.prepare_cached(&self.plan.select_hash).map_err(fail)?;
        let found: Option<String> = select
            .query_row(params![row.key, row.version.cast_signed()], |r| r.get(0))
            .optional()
            .map_err(fail)?;
        write_hex(&mut self.scratch.text, &row.hash.to_be_bytes());
        if found.as_deref() == Some(self.scratch.text.as_str()) {
            return Ok(());
        }
        Err(StoreError::Conflict {
            path: self.path.to_owned(),
            table: self.plan.spec.name.clone(),
            key: row.key.clone(),
            version: row.version,
        })
    }

    /// Brings T to `rows`, the last one of each key. They come in the order of the keys, so that neighbours share pages.
    fn write_current<'r>(
        &mut self,
        steps: impl Iterator<Item = (Step, &'r Row)>,
    ) -> Result<(), StoreError> {
        let fail = |e| of(self.path, e);
        let mut upsert = self.conn.prepare_cached(&self.plan.upsert).map_err(fail)?;
        let mut delete = self.conn.prepare_cached(&self.plan.delete).map_err(fail)?;
        for (step, row) in steps {
            let changed = if row.deleted {
                delete.execute(params![row.key, row.version.cast_signed()]).map_err(fail)?
            } else {
                self.bind_row(&mut upsert, row)?;
                upsert.raw_execute().map_err(fail)?
            };
            if changed == 0 && step != Step::Bring {
                let why = format!("key {:?} is not written; has it a trigger?", row.key);
                return Err(StoreError::Rejected { path: self.path.to_owned(), why });
            }
        }
        Ok(())
    }

    fn raise_floor(&mut self, floor: u64) -> Result<(), StoreError> {
        let key = &self.plan.floor_key;
        if floor > meta::number(self.conn, self.path, key)? {
            meta::set(self.conn, self.path, key, &floor.to_string())?;
        }
        Ok(())
    }

    /// Binds the columns that T and `T_history` share; gives how many.
    fn bind_row(
        &mut self,
        statement: &mut CachedStatement<'_>,
        row: &Row,
    ) -> Result<usize, StoreError> {
        let Scratch { columns, text } = &mut *self.scratch;
        columns.clear();
        let mut binder = Binder { statement, columns, next: 0 };
        encode(row, &self.plan.spec, text, &mut |value| {
            binder.put(value).map_err(|e| of(self.path, e))
        })?;
        Ok(binder.next)
    }

    pub(super) fn bad_row(&self, row: &Row, why: &str) -> StoreError {
        bad_row(&self.plan.spec, row, why)
    }
}
