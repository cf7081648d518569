//! The meta table; what stands in it is said in [`crate::meta`].
//!
//! Within a transaction it is read once and written once: what is set is kept until [`Meta::flush`]. Whoever writes holds
//! the lock of the row `store_id`, so nobody of ours changes it meanwhile.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::connection::Connection;
use super::error::of;
use super::plan::Table;
use crate::error::StoreError;
pub(super) use crate::meta::*;

/// The statement that creates the meta table.
const CREATE: &str = "CREATE TABLE commonhold_meta(key text COLLATE \"C\" PRIMARY KEY NOT NULL, value text NOT NULL)";
/// Takes the lock that every writer takes first. The row is there from the beginning.
pub(super) const LOCK: &str =
    "SELECT key, value FROM commonhold_meta WHERE key = 'store_id' FOR UPDATE";
/// Reads some values.
pub(super) const READ: &str = "SELECT key, value FROM commonhold_meta WHERE key = ANY($1::text[])";
/// Sets values.
pub(super) const WRITE: &str = "INSERT INTO commonhold_meta(key, value)
    SELECT * FROM UNNEST($1::text[], $2::text[])
    ON CONFLICT(key) DO UPDATE SET value = excluded.value";
const REMOVE: &str = "DELETE FROM commonhold_meta WHERE key = ANY($1::text[])";
/// What is locked while the tables of all stores are created; a number of ours.
const CREATION: i64 = 0x636f_6d6d_6f6e_686f;

/// The meta table within the transaction that is under way.
pub(super) struct Meta<'a> {
    conn: &'a Connection,
    /// What is there, as far as it was read; none where there is nothing.
    known: RefCell<BTreeMap<String, Option<String>>>,
    /// What is to be written; none where something is to be removed.
    changed: RefCell<BTreeMap<String, Option<String>>>,
}

impl<'a> Meta<'a> {
    pub(super) fn new(conn: &'a Connection) -> Self {
        Self { conn, known: RefCell::default(), changed: RefCell::default() }
    }

    /// Takes over what was read for `keys`.
    pub(super) fn learn(&self, keys: Vec<String>, rows: &[Row]) -> Result<(), StoreError> {
        let mut known = self.known.borrow_mut();
        known.extend(keys.into_iter().map(|key| (key, None)));
        for row in rows {
            let (key, value) = pair(row).map_err(|e| of(self.conn.path(), &e))?;
            known.insert(key, Some(value));
        }
        Ok(())
    }

    /// What is to be set; what is to be removed is removed.
    pub(super) fn take_changes(&self) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let changed = std::mem::take(&mut *self.changed.borrow_mut());
        let (mut keys, mut values, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in changed {
            match value {
                Some(value) => {
                    keys.push(key);
                    values.push(value);
                }
                None => gone.push(key),
            }
        }
        if !gone.is_empty() {
            self.conn.rows(REMOVE, &[&gone])?;
        }
        Ok((keys, values))
    }

    /// Writes what was set.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let (keys, values) = self.take_changes()?;
        if !keys.is_empty() {
            self.conn.rows(WRITE, &[&keys, &values])?;
        }
        Ok(())
    }
}

fn pair(row: &Row) -> Result<(String, String), tokio_postgres::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

impl MetaTable for Meta<'_> {
    fn get(&self, _: &str, key: &str) -> Result<Option<String>, StoreError> {
        if let Some(value) = self.known.borrow().get(key) {
            return Ok(value.clone());
        }
        let keys = vec![key.to_owned()];
        let rows = self.conn.rows(READ, &[&keys])?;
        self.learn(keys, &rows)?;
        Ok(self.known.borrow().get(key).cloned().flatten())
    }

    fn set(&self, _: &str, key: &str, value: &str) -> Result<(), StoreError> {
        let value = Some(value.to_owned());
        self.known.borrow_mut().insert(key.to_owned(), value.clone());
        self.changed.borrow_mut().insert(key.to_owned(), value);
        Ok(())
    }

    fn remove(&self, _: &str, key: &str) -> Result<(), StoreError> {
        self.known.borrow_mut().insert(key.to_owned(), None);
        self.changed.borrow_mut().insert(key.to_owned(), None);
        Ok(())
    }

    fn beginning(&self, _: &str, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        let sql = "SELECT key, value FROM commonhold_meta WHERE key >= $1 AND key < $2";
        let rows = self.conn.rows(sql, &[&prefix, &after(prefix)])?;
        let pairs = rows.iter().map(|row| pair(row).map_err(|e| of(self.conn.path(), &e)));
        pairs.collect()
    }
}

/// Whether the database has a meta table; an error when a table of this name has other columns.
pub(super) fn exists(conn: &Connection) -> Result<bool, StoreError> {
    let columns = ["key", "value"].map(|name| (name.to_owned(), "text")).to_vec();
    Table { name: "commonhold_meta".to_owned(), columns, key: "\"key\"" }.is_there(conn)
}

/// The store's identity, made together with schema and meta table when they are not there.
pub(super) fn identity(conn: &Connection, schema: &str) -> Result<[u8; 16], StoreError> {
    let path = conn.path();
    if !exists(conn)? {
        // Who creates at the same time waits here.
        conn.execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({CREATION})"))?;
        // Who may not create schemas may use one that is there.
        let there = conn.one("SELECT to_regnamespace($1::text) IS NOT NULL", &[&schema])?;
        if !there.try_get(0).map_err(|e| of(path, &e))? {
            conn.execute(&format!("CREATE SCHEMA {schema}"))?;
        }
        if !exists(conn)? {
            conn.execute(CREATE)?;
            let meta = Meta::new(conn);
            identify(&meta, path)?;
            meta.flush()?;
        }
        conn.execute("COMMIT")?;
    }
    store_id(&Meta::new(conn), path)
}
