//! The meta table of a SQLite file; what stands in it is said in [`crate::meta`].

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::error::StoreError;
pub(super) use crate::meta::*;
use crate::sqlite::connection::of;

impl MetaTable for Connection {
    fn get(&self, path: &str, key: &str) -> Result<Option<String>, StoreError> {
        let mut select = self
            .prepare_cached("SELECT value FROM commonhold_meta WHERE key = ?1")
            .map_err(|e| of(path, e))?;
        select.query_row([key], |row| row.get(0)).optional().map_err(|e| of(path, e))
    }

    fn set(&self, path: &str, key: &str, value: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO commonhold_meta(key, value) VALUES(?1, ?2)
                   ON CONFLICT(key) DO UPDATE SET value = excluded.value";
        let mut upsert = self.prepare_cached(sql).map_err(|e| of(path, e))?;
        upsert.execute(params![key, value]).map(|_| ()).map_err(|e| of(path, e))
    }

    fn remove(&self, path: &str, key: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM commonhold_meta WHERE key = ?1";
        self.execute(sql, [key]).map(|_| ()).map_err(|e| of(path, e))
    }

    fn beginning(&self, path: &str, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        let sql = "SELECT key, value FROM commonhold_meta WHERE key >= ?1 AND key < ?2";
        let mut select = self.prepare_cached(sql).map_err(|e| of(path, e))?;
        let rows = select.query_map([prefix, &after(prefix)], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.and_then(Iterator::collect).map_err(|e| of(path, e))
    }
}

impl MetaTable for Transaction<'_> {
    fn get(&self, path: &str, key: &str) -> Result<Option<String>, StoreError> {
        MetaTable::get(&**self, path, key)
    }

    fn set(&self, path: &str, key: &str, value: &str) -> Result<(), StoreError> {
        MetaTable::set(&**self, path, key, value)
    }

    fn remove(&self, path: &str, key: &str) -> Result<(), StoreError> {
        MetaTable::remove(&**self, path, key)
    }

    fn beginning(&self, path: &str, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        MetaTable::beginning(&**self, path, prefix)
    }
}

/// Whether the database has a meta table.
pub(super) fn exists(conn: &Connection, path: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'commonhold_meta'";
    let found = conn.query_row(sql, [], |_| Ok(())).optional().map_err(|e| of(path, e))?;
    Ok(found.is_some())
}

/// Creates the meta table with a new identity.
pub(super) fn create(conn: &Connection, path: &str) -> Result<(), StoreError> {
    let sql = "CREATE TABLE commonhold_meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)";
    conn.execute_batch(sql).map_err(|e| of(path, e))?;
    identify(conn, path)
}
