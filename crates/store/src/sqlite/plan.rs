//! What is said to SQLite about one table: its columns, its statements, its keys in the meta table. Made once, at a
//! claim or join; nothing is formatted a row.

use commonhold_core::catalogue::{History, TableSpec};
use commonhold_core::schema::FieldType;
use rusqlite::Connection;

use crate::error::StoreError;
use crate::sqlite::connection::of;

/// The columns of `T` after its fields.
const ABOUT: [(&str, &str); 6] = [
    ("_version", "INTEGER"),
    ("_hash", "TEXT"),
    ("_clock", "TEXT"),
    ("_writer", "TEXT"),
    ("_seq", "INTEGER"),
    ("_committed_at", "INTEGER"),
];
/// The columns that `T_history` has beyond those.
const ABOUT_HISTORY: [(&str, &str); 3] =
    [("_deleted", "INTEGER"), ("_position", "INTEGER"), ("_link", "TEXT")];

/// A column: its name and declared type.
type Column = (String, &'static str);

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

fn column_type(ty: FieldType) -> &'static str {
    match ty {
        FieldType::I64 | FieldType::U64 | FieldType::Bool | FieldType::Timestamp => "INTEGER",
        FieldType::F64 => "REAL",
        FieldType::Text(_) | FieldType::Json(_) => "TEXT",
        FieldType::Bytes(_) => "BLOB",
    }
}

/// The columns of T that are no field, with the key in front: what the row of any table has.
pub(super) const fn about() -> [(&'static str, &'static str); 6] {
    ABOUT
}

/// `"a", "b", "c"`.
fn names(columns: &[Column]) -> String {
    columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// `?1, ?2, ?3`.
fn places(columns: &[Column]) -> String {
    (1..=columns.len()).map(|i| format!("?{i}")).collect::<Vec<_>>().join(", ")
}

fn columns(spec: &TableSpec) -> Vec<Column> {
    let key = std::iter::once(("key".to_owned(), "TEXT"));
    let fields = spec.schema.fields().iter().map(|f| (f.name.clone(), column_type(f.ty)));
    let about = ABOUT.iter().map(|(name, ty)| ((*name).to_owned(), *ty));
    key.chain(fields).chain(about).collect()
}

fn history_columns(spec: &TableSpec) -> Vec<Column> {
    let mut all = columns(spec);
    all.extend(ABOUT_HISTORY.iter().map(|(name, ty)| ((*name).to_owned(), *ty)));
    all
}

impl Plan {
    pub(super) fn new(spec: &TableSpec) -> Self {
        let name = &spec.name;
        let (current, history) = (columns(spec), history_columns(spec));
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
            let columns: Vec<_> = columns.iter().map(|(name, ty)| define(name, ty)).collect();
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
        let mut tables = vec![(self.spec.name.clone(), columns(&self.spec), "\"key\"")];
        if self.full {
            let columns = history_columns(&self.spec);
            tables.push((self.history_name(), columns, "\"key\", \"_version\""));
        }
        let check = |(table, columns, key): (String, Vec<Column>, _)| {
            let exists = compare(conn, path, &table, &columns, key)?;
            Ok((table, columns, key, exists))
        };
        tables.into_iter().map(check).collect()
    }
}

/// The definition of one column. The fields of a history row may be NULL: they are in a deletion.
fn define(name: &str, ty: &str) -> String {
    let never_null = name == "key" || name.starts_with('_');
    format!("\"{name}\" {ty}{}", if never_null { " NOT NULL" } else { "" })
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
    let differs = |why| {
        Err(StoreError::SchemaDiffers { path: path.to_owned(), table: table.to_owned(), why })
    };
    for (i, (name, ty)) in want.iter().enumerate() {
        match rows.get(i) {
            None => return differs(format!("column `{name}` ({ty}) is missing")),
            Some((found, _, _)) if found != name => {
                return differs(format!("column {} is `{found}`, not `{name}`", i + 1));
            }
            Some((_, found, _)) if !found.eq_ignore_ascii_case(ty) => {
                return differs(format!("column `{name}` is {found}, not {ty}"));
            }
            Some(_) => {}
        }
    }
    if let Some((extra, _, _)) = rows.get(want.len()) {
        return differs(format!("column `{extra}` is not in the schema"));
    }
    let mut keys: Vec<_> = rows.iter().filter(|(.., pk)| *pk > 0).collect();
    keys.sort_by_key(|(.., pk)| *pk);
    let found: Vec<_> = keys.iter().map(|(name, ..)| format!("\"{name}\"")).collect();
    if found.join(", ") != key {
        return differs(format!("its primary key is ({}), not ({key})", found.join(", ")));
    }
    Ok(true)
}
