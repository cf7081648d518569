//! Writing the rows of one table within a transaction.
//!
//! With full history each row is first offered to `T_history`. A version that is there already is recognised by
//! the primary key: it takes no position and no link, and its key's row of T is left alone, because it was
//! written in the same transaction as that version. Only what is new moves the chain. Then T gets one upsert or
//! delete a key, whatever the number of versions: the last.

use std::collections::HashSet;
use std::fmt::Write as _;

use commonhold_core::row::Row;
use commonhold_core::schema::Decoder;
use commonhold_core::value::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::chain::{Columns, write_clock, write_hex};
use crate::error::StoreError;
use crate::foreign::KeyRows;
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

    fn null(&mut self) -> rusqlite::Result<()> {
        self.columns.null();
        let place = self.place();
        self.statement.raw_bind_parameter(place, rusqlite::types::Null)
    }

    fn integer(&mut self, v: i64) -> rusqlite::Result<()> {
        self.columns.integer(v);
        let place = self.place();
        self.statement.raw_bind_parameter(place, v)
    }

    fn text(&mut self, v: &str) -> rusqlite::Result<()> {
        self.columns.bytes(v.as_bytes());
        let place = self.place();
        self.statement.raw_bind_parameter(place, v)
    }

    fn value(&mut self, value: ValueRef<'_>) -> rusqlite::Result<()> {
        match value {
            ValueRef::I64(v) | ValueRef::Timestamp(v) => self.integer(v),
            // A payload holds no u64 of 2^63 or more; `write_row` checks it.
            ValueRef::U64(v) => self.integer(v.cast_signed()),
            ValueRef::Bool(v) => self.integer(i64::from(v)),
            ValueRef::Text(v) | ValueRef::Json(v) => self.text(v),
            ValueRef::F64(v) => {
                self.columns.real(v);
                let place = self.place();
                self.statement.raw_bind_parameter(place, v)
            }
            ValueRef::Bytes(v) => {
                self.columns.bytes(v);
                let place = self.place();
                self.statement.raw_bind_parameter(place, v)
            }
        }
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
        let last = keys.iter().filter(|k| is_new(k.last) || replaced(k.key));
        self.write_current(last.filter_map(|k| batch.rows.get(k.last)))?;
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
            binder.integer(i64::from(row.deleted))?;
            binder.integer(position.cast_signed())
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
    fn write_current<'r>(&mut self, rows: impl Iterator<Item = &'r Row>) -> Result<(), StoreError> {
        let fail = |e| of(self.path, e);
        let mut upsert = self.conn.prepare_cached(&self.plan.upsert).map_err(fail)?;
        let mut delete = self.conn.prepare_cached(&self.plan.delete).map_err(fail)?;
        for row in rows {
            if row.deleted {
                delete.execute(params![row.key, row.version.cast_signed()]).map_err(fail)?;
            } else {
                self.bind_row(&mut upsert, row)?;
                upsert.raw_execute().map_err(fail)?;
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
        if i64::try_from(row.version).is_err() || i64::try_from(row.sequence).is_err() {
            return Err(self.bad_row(row, "its version or sequence is 2^63 or more"));
        }
        let fail = |e| of(self.path, e);
        let Scratch { columns, text } = &mut *self.scratch;
        columns.clear();
        let mut binder = Binder { statement, columns, next: 0 };
        binder.text(&row.key).map_err(fail)?;
        let fields = self.plan.spec.schema.fields();
        let mut decoder = Decoder::new(&row.payload);
        for field in fields {
            if row.deleted {
                binder.null().map_err(fail)?;
                continue;
            }
            match decoder.value(field.ty) {
                Ok(value) if value.check_range() => binder.value(value).map_err(fail)?,
                Ok(_) => {
                    return Err(self.bad_row(row, "a value that no database returns unchanged"));
                }
                Err(e) => return Err(self.bad_row(row, &e.to_string())),
            }
        }
        if let Err(e) = decoder.finish() {
            return Err(self.bad_row(row, &e.to_string()));
        }
        let mut bind_about = || {
            binder.integer(row.version.cast_signed())?;
            write_hex(text, &row.hash.to_be_bytes());
            binder.text(text)?;
            write_clock(text, &row.clock);
            binder.text(text)?;
            text.clear();
            // Writing to a string cannot fail.
            let _ = write!(text, "{}", row.writer);
            binder.text(text)?;
            binder.integer(row.sequence.cast_signed())?;
            binder.integer(row.committed_at)
        };
        bind_about().map_err(fail)?;
        Ok(binder.next)
    }

    pub(super) fn bad_row(&self, row: &Row, why: &str) -> StoreError {
        StoreError::BadRow {
            table: self.plan.spec.name.clone(),
            key: row.key.clone(),
            version: row.version,
            why: why.to_owned(),
        }
    }
}

/// The values that a database gives back as they were written.
trait CheckRange {
    fn check_range(&self) -> bool;
}

impl CheckRange for ValueRef<'_> {
    fn check_range(&self) -> bool {
        match self {
            ValueRef::U64(v) => i64::try_from(*v).is_ok(),
            ValueRef::F64(v) => v.is_finite() && v.to_bits() != (-0.0_f64).to_bits(),
            _ => true,
        }
    }
}
