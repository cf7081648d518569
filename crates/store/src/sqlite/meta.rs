//! The meta table `commonhold_meta(key, value)`: identity, owner, catalogue, and each table's floor and chain.
//!
//! | key | value |
//! | --- | --- |
//! | `store_id` | 32 hexadecimal digits, made with the table |
//! | `owner` | JSON: `uuid`, `path`, `boot_id` of the segment that claimed last |
//! | `epoch` | how often the store was claimed |
//! | `import` | JSON: the source of an import that is not finished |
//! | `catalogue` | the catalogue of the last claim, as JSON |
//! | `floor:T` | the version floor of table T |
//! | `count:T`, `link:T` | rows of `T_history` ever written, and the link of the last |
//! | `counter:N` | the value of the counter N |
//! | `ids:N` | the mark of the id allocator N: no id up to it is given out again; only ever raised |

use commonhold_core::catalogue::Catalogue;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::chain::{self, Link, from_hex, hex};
use crate::error::StoreError;
use crate::sqlite::connection::of;
use crate::store::{Mark, MarkKind, Owner, SegmentIdentity};

/// The value `owner`.
#[derive(Serialize, Deserialize)]
struct OwnerJson {
    uuid: String,
    path: String,
    boot_id: String,
}

/// Where the chain of one history table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) count: u64,
    pub(super) link: Link,
}

impl Default for Head {
    fn default() -> Self {
        Self { count: 0, link: chain::FIRST }
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
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|e| StoreError::Database { path: path.to_owned(), why: e.to_string() })?;
    set(conn, path, "store_id", &hex(&id))
}

/// One value.
pub(super) fn get(conn: &Connection, path: &str, key: &str) -> Result<Option<String>, StoreError> {
    let mut select = conn
        .prepare_cached("SELECT value FROM commonhold_meta WHERE key = ?1")
        .map_err(|e| of(path, e))?;
    select.query_row([key], |row| row.get(0)).optional().map_err(|e| of(path, e))
}

/// Sets one value.
pub(super) fn set(conn: &Connection, path: &str, key: &str, value: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO commonhold_meta(key, value) VALUES(?1, ?2)
               ON CONFLICT(key) DO UPDATE SET value = excluded.value";
    let mut upsert = conn.prepare_cached(sql).map_err(|e| of(path, e))?;
    upsert.execute(params![key, value]).map(|_| ()).map_err(|e| of(path, e))
}

/// Removes one value, if it is there.
pub(super) fn remove(conn: &Connection, path: &str, key: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM commonhold_meta WHERE key = ?1";
    conn.execute(sql, [key]).map(|_| ()).map_err(|e| of(path, e))
}

pub(super) fn damaged(path: &str, key: &str) -> StoreError {
    let why = format!("`{key}` in commonhold_meta is missing or makes no sense");
    StoreError::Corrupt { path: path.to_owned(), why }
}

/// The store's identity.
pub(super) fn store_id(conn: &Connection, path: &str) -> Result<[u8; 16], StoreError> {
    let text = get(conn, path, "store_id")?;
    text.and_then(|t| from_hex(&t)).ok_or_else(|| damaged(path, "store_id"))
}

/// The epoch; 0 before the first claim.
pub(super) fn epoch(conn: &Connection, path: &str) -> Result<u64, StoreError> {
    number(conn, path, "epoch")
}

/// The segment that claimed last.
pub(super) fn owner(conn: &Connection, path: &str) -> Result<Option<Owner>, StoreError> {
    let Some(text) = get(conn, path, "owner")? else { return Ok(None) };
    let json: OwnerJson = serde_json::from_str(&text).map_err(|_| damaged(path, "owner"))?;
    let uuid = from_hex(&json.uuid).ok_or_else(|| damaged(path, "owner"))?;
    let epoch = epoch(conn, path)?;
    Ok(Some(Owner { uuid, path: json.path, boot_id: json.boot_id, epoch }))
}

/// Makes `segment` the owner, of `epoch`.
pub(super) fn set_owner(
    conn: &Connection,
    path: &str,
    segment: &SegmentIdentity,
    epoch: u64,
) -> Result<(), StoreError> {
    let json = OwnerJson {
        uuid: hex(&segment.uuid),
        path: segment.path.clone(),
        boot_id: segment.boot_id.clone(),
    };
    let text = serde_json::to_string(&json)
        .map_err(|e| StoreError::Database { path: path.to_owned(), why: e.to_string() })?;
    set(conn, path, "owner", &text)?;
    set(conn, path, "epoch", &epoch.to_string())
}

/// The catalogue of the last claim.
pub(super) fn catalogue(conn: &Connection, path: &str) -> Result<Option<Catalogue>, StoreError> {
    let Some(text) = get(conn, path, "catalogue")? else { return Ok(None) };
    Catalogue::from_json(&text).map(Some).map_err(|e| StoreError::Corrupt {
        path: path.to_owned(),
        why: format!("`catalogue` in commonhold_meta: {e}"),
    })
}

/// A number; 0 when it was never set.
pub(super) fn number(conn: &Connection, path: &str, key: &str) -> Result<u64, StoreError> {
    match get(conn, path, key)? {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| damaged(path, key)),
    }
}

/// Where the chain of a table stands; none when it never had a history.
pub(super) fn head(
    conn: &Connection,
    path: &str,
    count_key: &str,
    link_key: &str,
) -> Result<Option<Head>, StoreError> {
    match (get(conn, path, count_key)?, get(conn, path, link_key)?) {
        (None, None) => Ok(None),
        (Some(count), Some(link)) => {
            let count = count.parse().map_err(|_| damaged(path, count_key))?;
            let link = from_hex(&link).ok_or_else(|| damaged(path, link_key))?;
            Ok(Some(Head { count, link }))
        }
        (None, _) => Err(damaged(path, count_key)),
        (_, None) => Err(damaged(path, link_key)),
    }
}

/// Moves the chain's head.
pub(super) fn set_head(
    conn: &Connection,
    path: &str,
    count_key: &str,
    link_key: &str,
    head: &Head,
) -> Result<(), StoreError> {
    set(conn, path, count_key, &head.count.to_string())?;
    set(conn, path, link_key, &hex(&head.link))
}

/// What the key of a mark begins with.
fn mark_prefix(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::Counter => "counter:",
        MarkKind::Ids => "ids:",
    }
}

/// Sets the mark of a counter; raises that of an id allocator, if it is lower.
pub(super) fn write_mark(conn: &Connection, path: &str, mark: &Mark) -> Result<(), StoreError> {
    let key = format!("{}{}", mark_prefix(mark.kind), mark.name);
    let stored = match mark.kind {
        MarkKind::Counter => None,
        MarkKind::Ids => get(conn, path, &key)?,
    };
    if let Some(stored) = stored
        && stored_value(path, MarkKind::Ids, &key, &stored)? >= mark.value
    {
        return Ok(());
    }
    set(conn, path, &key, &mark.value.to_string())
}

/// Every mark, in the order of kind and name.
pub(super) fn marks(conn: &Connection, path: &str) -> Result<Vec<Mark>, StoreError> {
    let fail = |e| of(path, e);
    let sql = "SELECT key, value FROM commonhold_meta
               WHERE key >= 'counter:' AND key < 'counter;' OR key >= 'ids:' AND key < 'ids;'";
    let mut select = conn.prepare_cached(sql).map_err(fail)?;
    let mut rows = select.query([]).map_err(fail)?;
    let mut marks = Vec::new();
    while let Some(row) = rows.next().map_err(fail)? {
        let (key, value): (String, String) = (row.get(0).map_err(fail)?, row.get(1).map_err(fail)?);
        for kind in [MarkKind::Counter, MarkKind::Ids] {
            if let Some(name) = key.strip_prefix(mark_prefix(kind)) {
                let value = stored_value(path, kind, &key, &value)?;
                marks.push(Mark { kind, name: name.to_owned(), value });
            }
        }
    }
    marks.sort_unstable();
    Ok(marks)
}

fn stored_value(path: &str, kind: MarkKind, key: &str, text: &str) -> Result<i64, StoreError> {
    let value: i64 = text.parse().map_err(|_| damaged(path, key))?;
    if kind == MarkKind::Ids && value < 0 {
        return Err(damaged(path, key));
    }
    Ok(value)
}
