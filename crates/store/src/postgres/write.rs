//! Writing the rows of one table within a transaction, few statements for however many rows.
//!
//! With full history the rows are inserted into `T_history` as if it had none of them. Where it had one, which comes of
//! an earlier try whose outcome was unknown, the transaction fails, and the next asks first ([`TableWriter::known`]): a
//! version that is there takes no position and no link, and its key's row of T is left alone, because it was written in
//! the same transaction as that version. T gets one upsert or delete a key, whatever the number of versions: the last.

use std::collections::{HashMap, HashSet};

use commonhold_core::row::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Statement};

use super::array::Array;
use super::connection::{Connection, in_order};
use super::error::of;
use super::meta::{self, Head, Meta};
use super::plan::Plan;
use crate::chain::{Columns, hex, write_hex};
use crate::decode::Sql;
use crate::encode::{bad_row, encode};
use crate::error::StoreError;
use crate::foreign::KeyRows;
use crate::store::TableBatch;

/// About the most bytes of rows that go into one statement.
const STATEMENT_BYTES: usize = 16 << 20;

/// A writer of one table within a transaction.
pub(super) struct TableWriter<'a> {
    pub(super) conn: &'a Connection,
    pub(super) meta: &'a Meta<'a>,
    pub(super) plan: &'a Plan,
}

/// Statements with their arrays, to be run one after the other.
pub(super) type Statements = Vec<(Statement, Vec<Array>)>;

/// Appends the next cell of a row.
fn push<'c>(cells: &mut impl Iterator<Item = &'c mut Array>, value: Sql<'_>) {
    if let Some(cell) = cells.next() {
        cell.push(value);
    }
}

/// How the writing of rows ended.
#[derive(Debug)]
pub(super) enum Written {
    /// All is written.
    All,
    /// Something was there already, a version it seems: the transaction is to be rolled back.
    SomeKnown(Error),
}

/// Runs a statement, unless its arrays are empty.
async fn run(client: &Client, (statement, arrays): &(Statement, Vec<Array>)) -> Result<(), Error> {
    match arrays.first() {
        Some(first) if !first.is_empty() => client.execute_raw(statement, arrays).await.map(drop),
        _ => Ok(()),
    }
}

/// Runs statements whose arrays are not empty, each sent before the one before it has its answer.
pub(super) async fn send(client: &Client, statements: &Statements) -> Result<Written, Error> {
    match in_order(statements.iter().map(|statement| run(client, statement))).await {
        Ok(_) => Ok(Written::All),
        Err(e) if e.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(Written::SomeKnown(e)),
        Err(e) => Err(e),
    }
}

impl TableWriter<'_> {
    fn path(&self) -> &str {
        self.conn.path()
    }

    /// Adds what writes one table's part of a batch, which has `keys`; `look` says whether to ask first which versions are
    /// there.
    pub(super) fn write(
        &self,
        batch: &TableBatch,
        keys: &[KeyRows<'_>],
        look: bool,
        statements: &mut Statements,
    ) -> Result<(), StoreError> {
        let accepted: HashSet<&str> = batch.accepted.iter().map(|a| a.key.as_str()).collect();
        let replaced = |key: &str| accepted.contains(key);
        let mut removed = Array::new(Type::TEXT);
        for key in keys.iter().filter(|k| replaced(k.key)) {
            removed.push(Sql::Text(key.key.as_bytes()));
        }
        statements.push((self.conn.statement(&self.plan.remove)?, vec![removed]));
        let there = if look && self.plan.full { self.known(&batch.rows)? } else { HashSet::new() };
        if self.plan.full {
            let rows = batch.rows.iter().enumerate().filter(|(i, _)| !there.contains(i));
            self.history(rows.map(|(_, row)| row), statements)?;
        }
        let last = keys.iter().filter(|k| !there.contains(&k.last) || replaced(k.key));
        self.current(last.filter_map(|k| batch.rows.get(k.last)), statements)?;
        self.raise_floor(batch.floor)
    }

    /// Which of `rows`, by position, `T_history` has already; fails when one has another state.
    fn known(&self, rows: &[Row]) -> Result<HashSet<usize>, StoreError> {
        let mut pairs = Array::all(&[Type::TEXT, Type::INT8]);
        let mut places: HashMap<(&str, u64), usize> = HashMap::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            if let [keys, versions] = pairs.as_mut_slice() {
                keys.push(Sql::Text(row.key.as_bytes()));
                versions.push(Sql::Integer(row.version.cast_signed()));
            }
            places.insert((&row.key, row.version), i);
        }
        let select = self.conn.statement(&self.plan.select_hashes)?;
        let mut known = HashSet::new();
        let pairs: Vec<&(dyn ToSql + Sync)> = pairs.iter().map(|a| a as _).collect();
        for found in self.conn.wait(self.conn.client().query(&select, &pairs))? {
            let fail = |e| of(self.path(), &e);
            let key: &str = found.try_get(0).map_err(fail)?;
            let version: i64 = found.try_get(1).map_err(fail)?;
            let hash: &str = found.try_get(2).map_err(fail)?;
            let Some(i) = places.get(&(key, version.cast_unsigned())) else { continue };
            let Some(row) = rows.get(*i) else { continue };
            if hash != hex(&row.hash.to_be_bytes()) {
                return Err(StoreError::Conflict {
                    path: self.path().to_owned(),
                    table: self.plan.spec.name.clone(),
                    key: row.key.clone(),
                    version: row.version,
                });
            }
            known.insert(*i);
        }
        Ok(known)
    }

    /// Appends to `T_history`, which has none of `rows`.
    pub(super) fn append_history<'r>(
        &self,
        rows: impl Iterator<Item = &'r Row>,
    ) -> Result<Written, StoreError> {
        let mut statements = Statements::new();
        self.history(rows, &mut statements)?;
        self.conn.wait(send(self.conn.client(), &statements))
    }

    /// Chains `rows` to the history's head, and adds what appends them.
    fn history<'r>(
        &self,
        rows: impl Iterator<Item = &'r Row>,
        statements: &mut Statements,
    ) -> Result<(), StoreError> {
        let plan = self.plan;
        let before = meta::head(self.meta, self.path(), &plan.count_key, &plan.link_key)?
            .unwrap_or_default();
        let mut head = before;
        let insert = self.conn.statement(&plan.insert_history)?;
        let mut arrays = Array::all(&plan.history_types);
        let (mut columns, mut text) = (Columns::default(), String::new());
        for row in rows {
            let position = head.count + 1;
            columns.clear();
            let mut cells = arrays.iter_mut();
            let mut put = |value: Sql<'_>| {
                columns.value(value);
                push(&mut cells, value);
                Ok(())
            };
            encode(row, &plan.spec, &mut text, &mut put)?;
            put(Sql::Integer(i64::from(row.deleted)))?;
            put(Sql::Integer(position.cast_signed()))?;
            let link = columns.link(&head.link);
            write_hex(&mut text, &link);
            push(&mut cells, Sql::Text(text.as_bytes()));
            head = Head { count: position, link };
            if arrays.iter().map(Array::bytes).sum::<usize>() >= STATEMENT_BYTES {
                let full = std::mem::replace(&mut arrays, Array::all(&plan.history_types));
                statements.push((insert.clone(), full));
            }
        }
        statements.push((insert, arrays));
        if head != before {
            meta::set_head(self.meta, self.path(), &plan.count_key, &plan.link_key, &head)?;
        }
        Ok(())
    }

    /// Adds what brings T to `rows`, the last one of each key.
    fn current<'r>(
        &self,
        rows: impl Iterator<Item = &'r Row>,
        statements: &mut Statements,
    ) -> Result<(), StoreError> {
        let plan = self.plan;
        let upsert = self.conn.statement(&plan.upsert)?;
        let mut deletions = Array::all(&[Type::TEXT, Type::INT8]);
        let mut arrays = Array::all(&plan.types);
        let mut text = String::new();
        for row in rows {
            if row.deleted {
                if i64::try_from(row.version).is_err() {
                    return Err(bad_row(&plan.spec, row, "its version is 2^63 or more"));
                }
                if let [keys, versions] = deletions.as_mut_slice() {
                    keys.push(Sql::Text(row.key.as_bytes()));
                    versions.push(Sql::Integer(row.version.cast_signed()));
                }
                continue;
            }
            let mut cells = arrays.iter_mut();
            encode(row, &plan.spec, &mut text, &mut |value| {
                push(&mut cells, value);
                Ok(())
            })?;
            if arrays.iter().map(Array::bytes).sum::<usize>() >= STATEMENT_BYTES {
                let full = std::mem::replace(&mut arrays, Array::all(&plan.types));
                statements.push((upsert.clone(), full));
            }
        }
        statements.push((upsert, arrays));
        statements.push((self.conn.statement(&plan.delete)?, deletions));
        Ok(())
    }

    fn raise_floor(&self, floor: u64) -> Result<(), StoreError> {
        let key = &self.plan.floor_key;
        if floor > meta::number(self.meta, self.path(), key)? {
            meta::set(self.meta, self.path(), key, &floor.to_string())?;
        }
        Ok(())
    }
}
