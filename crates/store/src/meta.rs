//! The meta table `commonhold_meta(key, value)`: identity, owner, catalogue, and each table's floor and chain.
//!
//! | key | value |
//! | --- | --- |
//! | `store_id` | 32 hexadecimal digits, made with the table |
//! | `format` | of what is stored here: 1, also when it is not there |
//! | `owner` | JSON: `uuid`, `path`, `boot_id`, `node`, `host`, `device` of the segment that claimed last; `null` after a take-over |
//! | `epoch` | how often the store was claimed or taken over |
//! | `batch` | how many batches were written |
//! | `stamp` | a random number of the last batch's; 0 after a claim |
//! | `import` | JSON: the source of an import that is not finished |
//! | `catalogue` | the catalogue of the last claim, as JSON |
//! | `floor:T` | the version floor of table T |
//! | `count:T`, `link:T` | rows of `T_history` ever written, and the link of the last |
//! | `counter:N` | the value of the counter N |
//! | `ids:N` | the mark of the id allocator N: no id up to it is given out again; only ever raised |

use commonhold_core::catalogue::Catalogue;
use commonhold_core::row::EPOCH_LIMIT;
use serde::{Deserialize, Serialize};

use crate::chain::{self, Link, from_hex, hex};
use crate::error::StoreError;
use crate::node::Node;
use crate::store::{Batch, Mark, MarkKind, Owner, SegmentIdentity};

/// The key of the stamp of the last batch.
pub(crate) const STAMP: &str = "stamp";

/// The format that this program reads and writes.
const FORMAT: u64 = 1;

/// The value `owner`.
#[derive(Serialize, Deserialize)]
struct OwnerJson {
    uuid: String,
    path: String,
    boot_id: String,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    host: String,
    #[serde(default)]
    device: u64,
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

/// The meta table of an open database, within the transaction that is under way.
pub(crate) trait MetaTable {
    /// One value.
    fn get(&self, path: &str, key: &str) -> Result<Option<String>, StoreError>;
    /// Sets one value.
    fn set(&self, path: &str, key: &str, value: &str) -> Result<(), StoreError>;
    /// Removes one value, if it is there.
    fn remove(&self, path: &str, key: &str) -> Result<(), StoreError>;
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

/// Sets a new identity, and the format.
pub(crate) fn identify(conn: &dyn MetaTable, path: &str) -> Result<(), StoreError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|e| StoreError::Database { path: path.to_owned(), why: e.to_string() })?;
    set(conn, path, "format", &FORMAT.to_string())?;
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

pub(crate) fn damaged(path: &str, key: &str) -> StoreError {
    let why = format!("`{key}` in commonhold_meta is missing or makes no sense");
    StoreError::Corrupt { path: path.to_owned(), why }
}

/// The store's identity; fails when a later program made it in a format that this one does not know.
pub(crate) fn store_id(conn: &dyn MetaTable, path: &str) -> Result<[u8; 16], StoreError> {
    let format = number(conn, path, "format")?;
    if format > FORMAT {
        return Err(StoreError::Newer { path: path.to_owned(), format, known: FORMAT });
    }
    let text = get(conn, path, "store_id")?;
    text.and_then(|t| from_hex(&t)).ok_or_else(|| damaged(path, "store_id"))
}

/// The epoch; 0 before the first claim.
pub(crate) fn epoch(conn: &dyn MetaTable, path: &str) -> Result<u64, StoreError> {
    number(conn, path, "epoch")
}

/// The number of the last batch; 0 before the first.
pub(crate) fn batch(conn: &dyn MetaTable, path: &str) -> Result<u64, StoreError> {
    number(conn, path, "batch")
}

/// The segment that claimed last; none after a take-over.
pub(crate) fn owner(conn: &dyn MetaTable, path: &str) -> Result<Option<Owner>, StoreError> {
    let Some(text) = get(conn, path, "owner")? else { return Ok(None) };
    let json: Option<OwnerJson> =
        serde_json::from_str(&text).map_err(|_| damaged(path, "owner"))?;
    let Some(json) = json else { return Ok(None) };
    let uuid = from_hex(&json.uuid).ok_or_else(|| damaged(path, "owner"))?;
    let node = json.node.map(|id| Node { id, host: json.host });
    let (boot_id, device, epoch) = (json.boot_id, json.device, epoch(conn, path)?);
    Ok(Some(Owner { uuid, path: json.path, boot_id, node, device, epoch }))
}

/// Makes `segment` the owner, of `epoch`; nobody, when there is none.
pub(crate) fn set_owner(
    conn: &dyn MetaTable,
    path: &str,
    segment: Option<&SegmentIdentity>,
    epoch: u64,
) -> Result<(), StoreError> {
    let json = segment.map(|segment| OwnerJson {
        uuid: hex(&segment.uuid),
        path: segment.path.clone(),
        boot_id: segment.boot_id.clone(),
        node: Some(segment.node.id.clone()),
        host: segment.node.host.clone(),
        device: segment.device,
    });
    let text = serde_json::to_string(&json)
        .map_err(|e| StoreError::Database { path: path.to_owned(), why: e.to_string() })?;
    set(conn, path, "owner", &text)?;
    set(conn, path, STAMP, "0")?;
    set(conn, path, "epoch", &epoch.to_string())
}

/// Fails unless the store belongs to the segment `uuid` with `epoch`.
pub(crate) fn check_owner(
    conn: &dyn MetaTable,
    path: &str,
    uuid: [u8; 16],
    epoch: u64,
) -> Result<(), StoreError> {
    let (owner, owner_epoch) = (owner(conn, path)?, self::epoch(conn, path)?);
    if owner.is_none() && owner_epoch == 0 {
        return Err(StoreError::Unclaimed(path.to_owned()));
    }
    if owner.as_ref().is_some_and(|o| o.uuid == uuid && o.epoch == epoch) {
        return Ok(());
    }
    let nobody = "nobody, since it was taken over";
    Err(StoreError::Fenced {
        path: path.to_owned(),
        owner: owner.map_or_else(|| nobody.to_owned(), |owner| owner.to_string()),
        owner_epoch,
        segment: hex(&uuid),
        epoch,
    })
}

/// The number of the last batch; fails when it is before `seen`.
pub(crate) fn check_batch(conn: &dyn MetaTable, path: &str, seen: u64) -> Result<u64, StoreError> {
    let stored = batch(conn, path)?;
    if stored < seen {
        return Err(StoreError::RolledBack { path: path.to_owned(), stored, seen });
    }
    Ok(stored)
}

/// The stamp of the last batch; 0 after a claim.
pub(crate) fn stamp(conn: &dyn MetaTable, path: &str) -> Result<u64, StoreError> {
    number(conn, path, STAMP)
}

/// The number of the last batch, behind which `next` comes; fails when that one is not what the segment knows.
pub(crate) fn check_last(
    conn: &dyn MetaTable,
    path: &str,
    next: &Batch,
) -> Result<u64, StoreError> {
    let last = check_batch(conn, path, next.seen)?;
    if next.stamps.sent != 0 {
        next.stamps.check(path, stamp(conn, path)?)?;
    }
    Ok(last)
}

/// Notes that batch `number` is written.
pub(crate) fn set_last(
    conn: &dyn MetaTable,
    path: &str,
    next: &Batch,
    number: u64,
) -> Result<(), StoreError> {
    set(conn, path, "batch", &number.to_string())?;
    if next.stamps.sent == 0 {
        return Ok(());
    }
    set(conn, path, STAMP, &next.stamps.sent.to_string())
}

/// The epoch after the last one, which must be `seen` if that is given.
pub(crate) fn next_epoch(
    conn: &dyn MetaTable,
    path: &str,
    seen: Option<u64>,
) -> Result<u64, StoreError> {
    let last = epoch(conn, path)?;
    if seen.is_some_and(|seen| seen != last) {
        return Err(StoreError::ClaimedMeanwhile(path.to_owned()));
    }
    let epoch = last.saturating_add(1);
    if epoch >= EPOCH_LIMIT {
        return Err(StoreError::EpochsSpent(path.to_owned()));
    }
    Ok(epoch)
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

/// The key of a mark.
pub(crate) fn mark_key(mark: &Mark) -> String {
    format!("{}{}", mark_prefix(mark.kind), mark.name)
}

/// Sets the mark of a counter; raises that of an id allocator, if it is lower.
pub(crate) fn write_mark(conn: &dyn MetaTable, path: &str, mark: &Mark) -> Result<(), StoreError> {
    let key = mark_key(mark);
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
