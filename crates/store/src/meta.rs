//! The meta table `commonhold_meta(key, value)`: identity, owner, catalogue, and each table's floor and chain.
//!
//! | key | value |
//! | --- | --- |
//! | `store_id` | 32 hexadecimal digits, made with the table |
//! | `owner` | JSON: `uuid`, `path`, `boot_id` of the segment that claimed last |
//! | `epoch` | how often the store was claimed |
//! | `catalogue` | the catalogue of the last claim, as JSON |
//! | `floor:T` | the version floor of table T |
//! | `count:T`, `link:T` | rows of `T_history` ever written, and the link of the last |
//! | `counter:N` | the value of the counter N |
//! | `ids:N` | the mark of the id allocator N: no id up to it is given out again; only ever raised |

use commonhold_core::catalogue::Catalogue;
use serde::{Deserialize, Serialize};

use crate::chain::{self, Link, from_hex, hex};
use crate::error::StoreError;
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
pub(crate) struct Head {
    pub(crate) count: u64,
    pub(crate) link: Link,
}

impl Default for Head {
    fn default() -> Self {
        Self { count: 0, link: chain::FIRST }
    }
}

/// The statement that creates the meta table.
pub(crate) const CREATE: &str =
    "CREATE TABLE commonhold_meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)";

/// The meta table of an open database, within the transaction that is under way.
pub(crate) trait MetaTable {
    /// One value.
    fn get(&self, path: &str, key: &str) -> Result<Option<String>, StoreError>;
    /// Sets one value.
    fn set(&self, path: &str, key: &str, value: &str) -> Result<(), StoreError>;
    /// Every key that begins with `prefix`, with its value.
    fn beginning(&self, path: &str, prefix: &str) -> Result<Vec<(String, String)>, StoreError>;
}

/// What follows every text that begins with `prefix`, which ends with an ASCII character.
pub(crate) fn after(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    if let Some(last) = end.pop() {
        end.push(char::from_u32(u32::from(last) + 1).unwrap_or(char::MAX));
    }
    end
}

/// Sets a new identity.
pub(crate) fn identify(conn: &dyn MetaTable, path: &str) -> Result<(), StoreError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|e| StoreError::Database { path: path.to_owned(), why: e.to_string() })?;
    set(conn, path, "store_id", &hex(&id))
}

/// One value.
pub(crate) fn get(
    conn: &dyn MetaTable,
    path: &str,
    key: &str,
) -> Result<Option<String>, StoreError> {
    conn.get(path, key)
}

/// Sets one value.
pub(crate) fn set(
    conn: &dyn MetaTable,
    path: &str,
    key: &str,
    value: &str,
) -> Result<(), StoreError> {
    conn.set(path, key, value)
}

fn damaged(path: &str, key: &str) -> StoreError {
    let why = format!("`{key}` in commonhold_meta is missing or makes no sense");
    StoreError::Corrupt { path: path.to_owned(), why }
}

/// The store's identity.
pub(crate) fn store_id(conn: &dyn MetaTable, path: &str) -> Result<[u8; 16], StoreError> {
    let text = get(conn, path, "store_id")?;
    text.and_then(|t| from_hex(&t)).ok_or_else(|| damaged(path, "store_id"))
}

/// The epoch; 0 before the first claim.
pub(crate) fn epoch(conn: &dyn MetaTable, path: &str) -> Result<u64, StoreError> {
    number(conn, path, "epoch")
}

/// The segment that claimed last.
pub(crate) fn owner(conn: &dyn MetaTable, path: &str) -> Result<Option<Owner>, StoreError> {
    let Some(text) = get(conn, path, "owner")? else { return Ok(None) };
    let json: OwnerJson = serde_json::from_str(&text).map_err(|_| damaged(path, "owner"))?;
    let uuid = from_hex(&json.uuid).ok_or_else(|| damaged(path, "owner"))?;
    let epoch = epoch(conn, path)?;
    Ok(Some(Owner { uuid, path: json.path, boot_id: json.boot_id, epoch }))
}

/// Makes `segment` the owner, of `epoch`.
pub(crate) fn set_owner(
    conn: &dyn MetaTable,
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
pub(crate) fn catalogue(conn: &dyn MetaTable, path: &str) -> Result<Option<Catalogue>, StoreError> {
    let Some(text) = get(conn, path, "catalogue")? else { return Ok(None) };
    Catalogue::from_json(&text).map(Some).map_err(|e| StoreError::Corrupt {
        path: path.to_owned(),
        why: format!("`catalogue` in commonhold_meta: {e}"),
    })
}

/// A number; 0 when it was never set.
pub(crate) fn number(conn: &dyn MetaTable, path: &str, key: &str) -> Result<u64, StoreError> {
    match get(conn, path, key)? {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| damaged(path, key)),
    }
}

/// Where the chain of a table stands; none when it never had a history.
pub(crate) fn head(
    conn: &dyn MetaTable,
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
pub(crate) fn set_head(
    conn: &dyn MetaTable,
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
pub(crate) fn write_mark(conn: &dyn MetaTable, path: &str, mark: &Mark) -> Result<(), StoreError> {
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
pub(crate) fn marks(conn: &dyn MetaTable, path: &str) -> Result<Vec<Mark>, StoreError> {
    let mut marks = Vec::new();
    for kind in [MarkKind::Counter, MarkKind::Ids] {
        let prefix = mark_prefix(kind);
        for (key, value) in conn.beginning(path, prefix)? {
            let value = stored_value(path, kind, &key, &value)?;
            let name = key.strip_prefix(prefix).unwrap_or_default().to_owned();
            marks.push(Mark { kind, name, value });
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
