//! What is said to PostgreSQL about one table: its columns, its statements, its keys in the meta table. Made once, at a
//! claim or join; nothing is formatted a row.

use commonhold_core::catalogue::{History, TableSpec};
use tokio_postgres::types::Type;

use super::connection::Connection;
use super::error::of;
use crate::error::StoreError;
use crate::layout::{self, Column, Kind};

/// One table in the terms of PostgreSQL.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) spec: TableSpec,
    pub(super) full: bool,
    pub(super) floor_key: String,
    pub(super) count_key: String,
    pub(super) link_key: String,
    /// The types of the columns of T, and of those of `T_history`.
    pub(super) types: Vec<Type>,
    pub(super) history_types: Vec<Type>,
    /// Upserts rows of T, given as an array a column, unless they are older than what is there.
    pub(super) upsert: String,
    /// Inserts rows into T, given as an array a column, where none of their key is.
    pub(super) insert: String,
    /// Deletes rows of T by key unless they are newer than the deletion.
    pub(super) delete: String,
    /// Deletes rows of T by key, whatever their version.
    pub(super) remove: String,
    /// Appends rows of `T_history`, given as an array a column, unless that version is there.
    pub(super) insert_history: String,
    /// Which of some versions `T_history` has, with their hashes.
    pub(super) select_hashes: String,
    /// All rows of T by key.
    pub(super) select: String,
    /// The rows of T of some keys; nobody else changes them before the transaction ends.
    pub(super) select_some: String,
    /// All rows of `T_history`; a condition and an order are to be appended.
    pub(super) select_history: String,
}

fn type_of(kind: Kind) -> (Type, &'static str) {
    match kind {
        Kind::Integer => (Type::INT8, "bigint"),
        Kind::Bool => (Type::BOOL, "boolean"),
        Kind::Real => (Type::FLOAT8, "double precision"),
        Kind::Text => (Type::TEXT, "text"),
        Kind::Json => (Type::JSON, "json"),
        Kind::Bytes => (Type::BYTEA, "bytea"),
    }
}

fn typed(columns: &[(String, Kind)]) -> Vec<Column> {
    columns.iter().map(|(name, kind)| (name.clone(), type_of(*kind).1)).collect()
}

/// `"a", "b", "c"`.
fn names(columns: &[(String, Kind)]) -> String {
    columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// `UNNEST($1::text[], $2::bigint[])`.
fn unnest(columns: &[(String, Kind)]) -> String {
    let arrays = columns.iter().zip(1..);
    let arrays = arrays.map(|((_, kind), i)| format!("${i}::{}[]", type_of(*kind).1));
    format!("UNNEST({})", arrays.collect::<Vec<_>>().join(", "))
}

impl Plan {
    pub(super) fn new(spec: &TableSpec) -> Self {
        let name = &spec.name;
        let (current, history) = (layout::columns(spec), layout::history_columns(spec));
        let sets: Vec<_> = current
            .iter()
            .skip(1)
            .map(|(column, _)| format!("\"{column}\" = excluded.\"{column}\""))
            .collect();
        let (some, all, sets) = (names(&current), names(&history), sets.join(", "));
        let types = |columns: &[(String, Kind)]| columns.iter().map(|c| type_of(c.1).0).collect();
        let pairs = "UNNEST($1::text[], $2::bigint[]) AS u(k, v)";
        Self {
            spec: spec.clone(),
            full: spec.history == History::Full,
            floor_key: format!("floor:{name}"),
            count_key: format!("count:{name}"),
            link_key: format!("link:{name}"),
            types: types(&current),
            history_types: types(&history),
            upsert: format!(
                "INSERT INTO \"{name}\"({some}) SELECT * FROM {} ON CONFLICT(\"key\") DO UPDATE \
                 SET {sets} WHERE excluded.\"_version\" > \"{name}\".\"_version\"",
                unnest(&current)
            ),
            insert: format!(
                "INSERT INTO \"{name}\"({some}) SELECT * FROM {} ON CONFLICT(\"key\") DO NOTHING",
                unnest(&current)
            ),
            delete: format!(
                "DELETE FROM \"{name}\" t USING {pairs} WHERE t.\"key\" = u.k AND t.\"_version\" < u.v"
            ),
            remove: format!(
                "DELETE FROM \"{name}\" USING UNNEST($1::text[]) AS _u(_k) WHERE \"key\" = _k"
            ),
            insert_history: format!(
                "INSERT INTO \"{name}_history\"({all}) SELECT * FROM {} \
                 ON CONFLICT(\"key\", \"_version\") DO NOTHING",
                unnest(&history)
            ),
            select_hashes: format!(
                "SELECT h.\"key\", h.\"_version\", h.\"_hash\" FROM \"{name}_history\" h, {pairs} \
                 WHERE h.\"key\" = u.k AND h.\"_version\" = u.v"
            ),
            select: format!("SELECT {some} FROM \"{name}\" ORDER BY \"key\""),
            select_some: format!(
                "SELECT {some} FROM \"{name}\", UNNEST($1::text[]) AS _u(_k) WHERE \"key\" = _k \
                 FOR NO KEY UPDATE OF \"{name}\""
            ),
            select_history: format!("SELECT {all} FROM \"{name}_history\""),
        }
    }

    /// The name of the history table.
    pub(super) fn history_name(&self) -> String {
        format!("{}_history", self.spec.name)
    }

    /// Creates the tables that are not there.
    pub(super) fn create(&self, conn: &Connection) -> Result<(), StoreError> {
        for table in self.tables() {
            if table.is_there(conn)? {
                continue;
            }
            let columns = table.columns.iter().map(|(name, ty)| match name.as_str() {
                "key" => layout::define(name, "text COLLATE \"C\""),
                // It serves the chain: audits and exports read it in this order.
                "_position" => format!("{} UNIQUE", layout::define(name, ty)),
                _ => layout::define(name, ty),
            });
            let columns = columns.collect::<Vec<_>>().join(", ");
            let (name, key) = (&table.name, table.key);
            conn.execute(&format!("CREATE TABLE \"{name}\"({columns}, PRIMARY KEY({key}))"))?;
        }
        Ok(())
    }

    /// The tables of this plan that are missing; an error when one has other columns than it must.
    pub(super) fn missing(&self, conn: &Connection) -> Result<Vec<String>, StoreError> {
        let mut missing = Vec::new();
        for table in self.tables() {
            if !table.is_there(conn)? {
                missing.push(table.name);
            }
        }
        Ok(missing)
    }

    fn tables(&self) -> Vec<Table> {
        let (name, columns) = (self.spec.name.clone(), typed(&layout::columns(&self.spec)));
        let mut tables = vec![Table { name, columns, key: "\"key\"" }];
        if self.full {
            let columns = typed(&layout::history_columns(&self.spec));
            let (name, key) = (self.history_name(), "\"key\", \"_version\"");
            tables.push(Table { name, columns, key });
        }
        tables
    }
}

/// A table as it must be.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The columns of its primary key.
    pub(super) key: &'static str,
}

/// The columns of a table in their order; keys must be in the order of their bytes.
const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)
        || CASE WHEN a.attname = 'key' AND c.collname <> 'C'
           THEN ' COLLATE ' || c.collname ELSE '' END,
        array_position(i.indkey::int2[], a.attnum)
    FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
    LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
    WHERE a.attrelid = to_regclass(quote_ident($1::text)) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

impl Table {
    /// Whether it is there; an error when it is with other columns or another primary key.
    pub(super) fn is_there(&self, conn: &Connection) -> Result<bool, StoreError> {
        let mut rows: Vec<(String, String, Option<i32>)> = Vec::new();
        for row in conn.rows(COLUMNS, &[&self.name])? {
            let column = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
            rows.push(column().map_err(|e| of(conn.path(), &e))?);
        }
        if rows.is_empty() {
            return Ok(false);
        }
        let columns: Vec<_> =
            rows.iter().map(|(name, ty, _)| (name.as_str(), ty.as_str())).collect();
        let mut keys: Vec<_> =
            rows.iter().filter_map(|(name, _, at)| at.map(|at| (at, name))).collect();
        keys.sort_unstable();
        let keys: Vec<_> = keys.iter().map(|(_, name)| format!("\"{name}\"")).collect();
        let other = || layout::other_key(&keys.join(", "), self.key);
        match layout::difference(&self.columns, &columns).or_else(other) {
            None => Ok(true),
            Some(why) => {
                let (path, table) = (conn.path().to_owned(), self.name.clone());
                Err(StoreError::SchemaDiffers { path, table, why })
            }
        }
    }
}
