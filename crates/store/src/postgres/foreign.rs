//! Foreign changes in PostgreSQL: the rows that are compared, and the table `commonhold_conflicts`.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Row, Statement};

use super::array::Array;
use super::connection::Connection;
use super::error::of;
use super::plan::Plan;
use super::read::Found;
use crate::audit::Stored;
use crate::decode::{Sql, read};
use crate::error::StoreError;
use crate::foreign::{Comparing, Conflict, Kept, KeyRows, Known, columns_json, known, now};
use crate::store::TableBatch;

/// Keys whose rows are fetched at a time.
const KEYS: usize = 2000;

/// Whether the table of conflicts is there.
fn exists(conn: &Connection) -> Result<bool, StoreError> {
    let row = conn.one("SELECT to_regclass('commonhold_conflicts') IS NOT NULL", &[])?;
    row.try_get(0).map_err(|e| of(conn.path(), &e))
}

/// Creates the table of conflicts if it is not there.
pub(super) fn create(conn: &Connection) -> Result<(), StoreError> {
    // Who may not create tables may use those that are there.
    if exists(conn)? {
        return Ok(());
    }
    conn.execute(
        "CREATE TABLE commonhold_conflicts(
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint NOT NULL,
             table_name text NOT NULL, key text COLLATE \"C\" NOT NULL, stored bigint NOT NULL,
             found text NOT NULL, ours text NOT NULL, policy text NOT NULL);
         CREATE INDEX commonhold_conflicts_key ON commonhold_conflicts(table_name, key)",
    )
}

/// The rows of a table for the comparison, fetched for many keys at a time, in the order in which they are asked for.
pub(super) struct Current<'a> {
    conn: &'a Connection,
    plan: &'a Plan,
    /// The keys that will be asked for.
    keys: Vec<&'a str>,
    /// How many of them were fetched.
    fetched: usize,
    rows: HashMap<String, Row>,
}

impl<'a> Current<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        plan: &'a Plan,
        part: &TableBatch,
        keys: &[KeyRows<'a>],
    ) -> Self {
        let compared = keys.iter().filter(|key| known(part, key) != Known::Anything);
        let keys = compared.map(|key| key.key).collect();
        Self { conn, plan, keys, fetched: 0, rows: HashMap::new() }
    }

    /// What gives the next rows, for [`Current::take`]; none when there are no more keys.
    pub(super) fn next(&mut self) -> Result<Option<(Statement, Array)>, StoreError> {
        let piece = self.keys.get(self.fetched..).unwrap_or_default();
        if piece.is_empty() {
            return Ok(None);
        }
        let mut keys = Array::new(Type::TEXT);
        piece.iter().take(KEYS).for_each(|key| keys.push(Sql::Text(key.as_bytes())));
        self.fetched += KEYS;
        Ok(Some((self.conn.statement(&self.plan.select_some)?, keys)))
    }

    /// Takes the rows that were fetched.
    pub(super) fn take(&mut self, rows: Vec<Row>) -> Result<(), StoreError> {
        self.rows.clear();
        for row in rows {
            let key = row.try_get(0).map_err(|e| of(self.conn.path(), &e))?;
            self.rows.insert(key, row);
        }
        Ok(())
    }

    fn fetch(&mut self) -> Result<(), StoreError> {
        let rows = match self.next()? {
            Some((select, keys)) => self.conn.wait(self.conn.client().query(&select, &[&keys]))?,
            None => Vec::new(),
        };
        self.take(rows)
    }

    fn found(&self, key: &str) -> Option<Found<'_>> {
        self.rows.get(key).map(|row| Found { row, path: self.conn.path() })
    }
}

impl Comparing for Current<'_> {
    fn look(&mut self, key: &str, into: &mut Stored) -> Result<bool, StoreError> {
        // Keys come in the order of `keys`, each once: what is behind the fetched ones needs the next piece.
        let fetched = self.keys.iter().take(self.fetched).next_back();
        if fetched.is_none_or(|last| key > *last) {
            self.fetch()?;
        }
        let Some(found) = self.found(key) else { return Ok(false) };
        read(&found, &self.plan.spec, false, into)?;
        Ok(true)
    }

    fn json(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.found(key).map(|found| columns_json(&found, &self.plan.spec)).transpose()
    }

    fn noted(&mut self, kept: &Kept<'_>) -> Result<Option<(i64, String)>, StoreError> {
        let sql = "SELECT id, policy FROM commonhold_conflicts
                   WHERE table_name = $1 AND key = $2 AND stored = $3 AND found = $4
                   ORDER BY id LIMIT 1";
        let with: super::connection::Parameters<'_> =
            &[&kept.table, &kept.key, &kept.stored, &kept.found];
        let rows = self.conn.rows(sql, with)?;
        let pair = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.first().map(pair).transpose().map_err(|e| of(self.conn.path(), &e))
    }

    fn set_policy(&mut self, id: i64, policy: &str) -> Result<(), StoreError> {
        let sql = "UPDATE commonhold_conflicts SET policy = $2 WHERE id = $1";
        self.conn.rows(sql, &[&id, &policy]).map(|_| ())
    }

    fn note(&mut self, kept: &Kept<'_>, ours: &str, policy: &str) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO commonhold_conflicts(at, table_name, key, stored, found, ours, policy)
                   VALUES($1, $2, $3, $4, $5, $6, $7)";
        let Kept { table, key, stored, found } = kept;
        self.conn.rows(sql, &[&now(), table, key, stored, found, &ours, &policy]).map(|_| ())
    }
}

/// The foreign changes that were noted.
pub(super) fn conflicts(conn: &Connection) -> Result<Vec<Conflict>, StoreError> {
    let fail = |e| of(conn.path(), &e);
    if !exists(conn)? {
        return Ok(Vec::new());
    }
    let sql = "SELECT id, at, table_name, key, stored, found, ours, policy
               FROM commonhold_conflicts ORDER BY id";
    let conflict = |r: &Row| {
        Ok(Conflict {
            id: r.try_get::<_, i64>(0)?.cast_unsigned(),
            at: r.try_get(1)?,
            table: r.try_get(2)?,
            key: r.try_get(3)?,
            stored: r.try_get::<_, i64>(4)?.cast_unsigned(),
            found: r.try_get(5)?,
            ours: r.try_get(6)?,
            policy: r.try_get(7)?,
        })
    };
    conn.rows(sql, &[])?.iter().map(conflict).collect::<Result<_, _>>().map_err(fail)
}
