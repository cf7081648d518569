//! What is said to SQLite about one table: its columns, its statements, its keys in the meta table. Made once, at a
//! claim or join; nothing is formatted a row.

use commonhold_core::catalogue::{History, TableSpec};
use rusqlite::Connection;

use crate::error::StoreError;
use crate::layout::{self, Column, Kind};
use crate::sqlite::connection::of;

/// One table in the terms of SQLite.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) spec: TableSpec,
    pub(super) full: bool,
    pub(super) floor_key: String,
    pub(super) count_key: String,
    pub(super) link_key: String,
    /// Upserts a row of T unless it is older than what is there.
    pub(super) upsert: String,
    /// Deletes a row of T by key unless it is newer than the deletion.
    pub(super) delete: String,
    /// Deletes a row of T by key, whatever its version.
    pub(super) remove: String,
    /// Appends a row of `T_history` unless that version is there.
    pub(super) insert_history: String,
    /// The hash that a version of a key has in `T_history`.
    pub(super) select_hash: String,
    /// All rows of T by key.
    pub(super) select: String,
    /// The row of T of one key.
    pub(super) select_one: String,
    /// All rows of `T_history`; an order is to be appended.
    pub(super) select_history: String,
}

fn typed(columns: Vec<(String, Kind)>) -> Vec<Column> {
    let of = |kind| match kind {
        Kind::Integer | Kind::Bool => "INTEGER",
        Kind::Real => "REAL",
        Kind::Text | Kind::Json => "TEXT",
        Kind::Bytes => "BLOB",
    };
    columns.into_iter().map(|(name, kind)| (name, of(kind))).collect()
}

/// `"a", "b", "c"`.
fn names(columns: &[Column]) -> String {
    columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// `?1, ?2, ?3`.
fn places(columns: &[Column]) -> String {
    (1..=columns.len()).map(|i| format!("?{i}")).collect::<Vec<_>>().join(", ")
}

impl Plan {
    pub(super) fn new(spec: &TableSpec) -> Self {
        let name = &spec.name;
        let (current, history) =
            (typed(layout::columns(spec)), typed(layout::history_columns(spec)));
        let sets: Vec<_> = current
            .iter()
            .skip(1)
            .map(|(column, _)| format!("\"{column}\" = excluded.\"{column}\""))
            .collect();
        let (some, these, sets) = (names(&current), places(&current), sets.join(", "));
        let (all, places) = (names(&history), places(&history));
        Self {
            spec: spec.clone(),
            full: spec.history == History::Full,
            floor_key: format!("floor:{name}"),
            count_key: format!("count:{name}"),
            link_key: format!("link:{name}"),
            upsert: format!(
                "INSERT INTO \"{name}\"({some}) VALUES({these}) ON CONFLICT(\"key\") DO UPDATE \
                 SET {sets} WHERE excluded.\"_version\" > \"{name}\".\"_version\""
            ),
            delete: format!("DELETE FROM \"{name}\" WHERE \"key\" = ?1 AND \"_version\" < ?2"),
            remove: format!("DELETE FROM \"{name}\" WHERE \"key\" = ?1"),
            insert_history: format!(
                "INSERT INTO \"{name}_history\"({all}) VALUES({places}) \
                 ON CONFLICT(\"key\", \"_version\") DO NOTHING"
            ),
            select_hash: format!(
                "SELECT \"_hash\" FROM \"{name}_history\" WHERE \"key\" = ?1 AND \"_version\" = ?2"
            ),
            select: format!("SELECT {some} FROM \"{name}\" ORDER BY \"key\""),
            select_one: format!("SELECT {some} FROM \"{name}\" WHERE \"key\" = ?1"),
            select_history: format!("SELECT {all} FROM \"{name}_history\""),
        }
    }

    /// The name of the history table.
    pub(super) fn history_name(&self) -> String {
        format!("{}_history", self.spec.name)
    }

    /// Creates the tables that are not there.
    pub(super) fn create(&self, conn: &Connection, path: &str) -> Result<(), StoreError> {
        for (table, columns, key, exists) in self.tables(conn, path)? {
            if exists {
                continue;
            }
            let columns: Vec<_> =
                columns.iter().map(|(name, ty)| layout::define(name, ty)).collect();
            let columns = columns.join(", ");
            let sql = format!("CREATE TABLE \"{table}\"({columns}, PRIMARY KEY({key}))");
            conn.execute_batch(&sql).map_err(|e| of(path, e))?;
        }
        Ok(())
    }

    /// The tables of this plan that are missing; an error when one has other columns than it must.
    pub(super) fn missing(&self, conn: &Connection, path: &str) -> Result<Vec<String>, StoreError> {
        let tables = self.tables(conn, path)?;
        Ok(tables.into_iter().filter(|(.., exists)| !exists).map(|(name, ..)| name).collect())
    }

    /// Each table of this plan with its columns, its primary key, and whether it is there (then it was compared).
    #[expect(clippy::type_complexity, reason = "private to this file")]
    fn tables(
        &self,
        conn: &Connection,
        path: &str,
    ) -> Result<Vec<(String, Vec<Column>, &'static str, bool)>, StoreError> {
        let mut tables =
            vec![(self.spec.name.clone(), typed(layout::columns(&self.spec)), "\"key\"")];
        if self.full {
            let columns = typed(layout::history_columns(&self.spec));
            tables.push((self.history_name(), columns, "\"key\", \"_version\""));
        }
        let check = |(table, columns, key): (String, Vec<Column>, _)| {
            let exists = compare(conn, path, &table, &columns, key)?;
            Ok((table, columns, key, exists))
        };
        tables.into_iter().map(check).collect()
    }
}

/// Whether `table` is there; an error when it is with other columns or another primary key.
fn compare(
    conn: &Connection,
    path: &str,
    table: &str,
    want: &[Column],
    key: &str,
) -> Result<bool, StoreError> {
    let fail = |e| of(path, e);
    let mut info = conn
        .prepare_cached("SELECT name, type, pk FROM pragma_table_info(?1) ORDER BY cid")
        .map_err(fail)?;
    let rows = info
        .query_map([table], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .and_then(Iterator::collect::<Result<Vec<(String, String, i64)>, _>>)
        .map_err(fail)?;
    if rows.is_empty() {
        return Ok(false);
    }
    let columns: Vec<_> = rows.iter().map(|(name, ty, _)| (name.as_str(), ty.as_str())).collect();
    let mut keys: Vec<_> = rows.iter().filter(|(.., pk)| *pk > 0).collect();
    keys.sort_by_key(|(.., pk)| *pk);
    let keys: Vec<_> = keys.iter().map(|(name, ..)| format!("\"{name}\"")).collect();
    match layout::difference(want, &columns).or_else(|| layout::other_key(&keys.join(", "), key)) {
        None => Ok(true),
        Some(why) => {
            let (path, table) = (path.to_owned(), table.to_owned());
            Err(StoreError::SchemaDiffers { path, table, why })
        }
    }
}
