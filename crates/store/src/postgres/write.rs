//! Writing the rows of one table within a transaction, few statements for however many rows.
//!
//! With full history the rows are first offered to `T_history` as if it had none of them. Where it had one, which comes of
//! an earlier try whose outcome was unknown, the transaction is begun anew and asks first ([`TableWriter::known`]): a
//! version that is there takes no position and no link. Then T gets one statement a key, whatever the number of versions:
//! for the last, by what the comparison found there.
//!
//! **What is counted**: the rows that were compared are locked, so each statement must change exactly those. Where it
//! changes fewer, somebody inserted a row behind the comparison, or a trigger or rule of somebody's takes rows away: the
//! transaction is begun anew, and fails the second time. Nothing is stored that the database did not say it wrote.

use std::collections::{HashMap, HashSet};

use commonhold_core::row::Row;
use tokio_postgres::Statement;
use tokio_postgres::types::{ToSql, Type};

use super::array::Array;
use super::connection::{Connection, in_order};
use super::error::of;
use super::meta::{self, Head, Meta};
use super::plan::Plan;
use crate::chain::{Columns, hex, write_hex};
use crate::decode::Sql;
use crate::encode::{bad_row, encode};
use crate::error::StoreError;
use crate::foreign::{KeyRows, Step, There, step};
use crate::store::TableBatch;

/// About the most bytes of rows that go into one statement.
const STATEMENT_BYTES: usize = 16 << 20;

/// How the writing of a table ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// All is written.
    All,
    /// Some rows were there, or were not, and the transaction must begin anew with a look at them.
    SomeKnown,
}

/// A statement with its arrays.
struct Run {
    sql: String,
    arrays: Vec<Array>,
    /// How many rows it must change at least.
    wanted: u64,
}

/// What becomes statements, so many bytes each.
struct Filling<'a> {
    sql: &'a str,
    types: &'a [Type],
    /// Whether each row must be changed.
    counted: bool,
    arrays: Vec<Array>,
    rows: u64,
}

impl<'a> Filling<'a> {
    fn new(sql: &'a str, types: &'a [Type], counted: bool) -> Self {
        Self { sql, types, counted, arrays: Array::all(types), rows: 0 }
    }

    /// After each row.
    fn filled(&mut self, runs: &mut Vec<Run>) {
        self.rows += 1;
        if self.arrays.iter().map(Array::bytes).sum::<usize>() >= STATEMENT_BYTES {
            self.close(runs);
        }
    }

    fn close(&mut self, runs: &mut Vec<Run>) {
        if self.rows > 0 {
            let arrays = std::mem::replace(&mut self.arrays, Array::all(self.types));
            let wanted = if self.counted { self.rows } else { 0 };
            runs.push(Run { sql: self.sql.to_owned(), arrays, wanted });
            self.rows = 0;
        }
    }
}

/// How far the head of a chain is to be moved.
struct Moved {
    from: Head,
    to: Head,
}

/// The columns of what is deleted: key and version.
const PAIR: [Type; 2] = [Type::TEXT, Type::INT8];

/// A writer of one table within a transaction.
pub(super) struct TableWriter<'a> {
    pub(super) conn: &'a Connection,
    pub(super) meta: &'a Meta<'a>,
    pub(super) plan: &'a Plan,
}

/// Appends the next cell of a row.
fn push<'c>(cells: &mut impl Iterator<Item = &'c mut Array>, value: Sql<'_>) {
    if let Some(cell) = cells.next() {
        cell.push(value);
    }
}

impl TableWriter<'_> {
    fn path(&self) -> &str {
        self.conn.path()
    }

    /// Writes one table's part of a batch, which has `keys`; `look` says whether to ask first which versions are there.
    pub(super) fn write(
        &self,
        batch: &TableBatch,
        keys: &[KeyRows<'_>],
        look: bool,
    ) -> Result<Written, StoreError> {
        let accepted: HashSet<&str> = batch.accepted.iter().map(|a| a.key.as_str()).collect();
        let mut runs = Vec::new();
        let replaced = keys.iter().filter(|k| accepted.contains(k.key));
        self.remove(replaced.filter(|k| k.there != There::Nothing), &mut runs);
        let there = if look && self.plan.full { self.known(&batch.rows)? } else { HashSet::new() };
        let mut head = None;
        if self.plan.full {
            let rows = batch.rows.iter().enumerate().filter(|(i, _)| !there.contains(i));
            head = Some(self.history(rows.map(|(_, row)| row), &mut runs)?);
        }
        let last = keys.iter().filter_map(|key| {
            let (row, new) = (batch.rows.get(key.last)?, !there.contains(&key.last));
            step(key, row, new, accepted.contains(key.key)).map(|step| (step, row))
        });
        self.current(last, &mut runs)?;
        if self.send(&runs)? == Written::SomeKnown {
            return Ok(Written::SomeKnown);
        }
        head.map_or(Ok(()), |head| self.move_head(&head))?;
        self.raise_floor(batch.floor)?;
        Ok(Written::All)
    }

    /// Adds what makes room for what replaces foreign changes.
    fn remove<'k>(&self, keys: impl Iterator<Item = &'k KeyRows<'k>>, runs: &mut Vec<Run>) {
        let mut removed = Filling::new(&self.plan.remove, &PAIR[..1], true);
        for key in keys {
            push(&mut removed.arrays.iter_mut(), Sql::Text(key.key.as_bytes()));
            removed.filled(runs);
        }
        removed.close(runs);
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

    /// Appends to `T_history`, which should have none of `rows`.
    pub(super) fn append_history<'r>(
        &self,
        rows: impl Iterator<Item = &'r Row>,
    ) -> Result<Written, StoreError> {
        let mut runs = Vec::new();
        let head = self.history(rows, &mut runs)?;
        if self.send(&runs)? == Written::SomeKnown {
            return Ok(Written::SomeKnown);
        }
        self.move_head(&head).map(|()| Written::All)
    }

    /// Moves the chain's head.
    fn move_head(&self, moved: &Moved) -> Result<(), StoreError> {
        let (plan, Moved { from, to }) = (self.plan, moved);
        if to == from {
            return Ok(());
        }
        meta::set_head(self.meta, self.path(), &plan.count_key, &plan.link_key, to)
    }

    /// Chains `rows` to the history's head, and adds what appends them.
    fn history<'r>(
        &self,
        rows: impl Iterator<Item = &'r Row>,
        runs: &mut Vec<Run>,
    ) -> Result<Moved, StoreError> {
        let plan = self.plan;
        let before = meta::head(self.meta, self.path(), &plan.count_key, &plan.link_key)?
            .unwrap_or_default();
        let mut head = before;
        let mut filling = Filling::new(&plan.insert_history, &plan.history_types, true);
        let (mut columns, mut text) = (Columns::default(), String::new());
        for row in rows {
            let position = head.count + 1;
            columns.clear();
            let mut cells = filling.arrays.iter_mut();
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
            filling.filled(runs);
        }
        filling.close(runs);
        Ok(Moved { from: before, to: head })
    }

    /// Adds what brings T to the last row of each key.
    fn current<'r>(
        &self,
        steps: impl Iterator<Item = (Step, &'r Row)>,
        runs: &mut Vec<Run>,
    ) -> Result<(), StoreError> {
        let plan = self.plan;
        let rows = |sql, counted| Filling::new(sql, &plan.types, counted);
        let mut insert = rows(&plan.insert, true);
        let (mut replace, mut bring) = (rows(&plan.upsert, true), rows(&plan.upsert, false));
        let deletions = |counted| Filling::new(&plan.delete, &PAIR, counted);
        let (mut delete, mut end) = (deletions(true), deletions(false));
        let mut text = String::new();
        for (step, row) in steps {
            let filling = match step {
                Step::Insert => &mut insert,
                Step::Replace => &mut replace,
                Step::Delete => &mut delete,
                Step::Bring if row.deleted => &mut end,
                Step::Bring => &mut bring,
            };
            let mut cells = filling.arrays.iter_mut();
            if row.deleted {
                if i64::try_from(row.version).is_err() {
                    return Err(bad_row(&plan.spec, row, "its version is 2^63 or more"));
                }
                push(&mut cells, Sql::Text(row.key.as_bytes()));
                push(&mut cells, Sql::Integer(row.version.cast_signed()));
            } else {
                encode(row, &plan.spec, &mut text, &mut |value| {
                    push(&mut cells, value);
                    Ok(())
                })?;
            }
            filling.filled(runs);
        }
        [insert, replace, bring, delete, end].iter_mut().for_each(|filling| filling.close(runs));
        Ok(())
    }

    /// Runs the statements, each sent before the one before it has its answer.
    fn send(&self, runs: &[Run]) -> Result<Written, StoreError> {
        let statements: Vec<Statement> =
            runs.iter().map(|run| self.conn.statement(&run.sql)).collect::<Result<_, _>>()?;
        let client = self.conn.client();
        let changed = self.conn.wait(async {
            let each = statements.iter().zip(runs);
            let each = each.map(|(statement, run)| client.execute_raw(statement, &run.arrays));
            in_order(each).await.into_iter().collect::<Result<Vec<_>, _>>()
        })?;
        let all = changed.iter().zip(runs).all(|(changed, run)| *changed >= run.wanted);
        Ok(if all { Written::All } else { Written::SomeKnown })
    }

    fn raise_floor(&self, floor: u64) -> Result<(), StoreError> {
        let key = &self.plan.floor_key;
        if floor > meta::number(self.meta, self.path(), key)? {
            meta::set(self.meta, self.path(), key, &floor.to_string())?;
        }
        Ok(())
    }
}
