//! Foreign changes: somebody else changed a row of the database since the segment stored it. They are found by comparison
//! in the very transaction that writes, so none is overwritten unseen; what is done about them is the steward's to decide.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use commonhold_core::catalogue::{OnForeignChange, TableSpec};
use commonhold_core::row::{Row, clock_text};
use commonhold_core::schema::Decoder;
use commonhold_core::value::ValueRef;
use serde::de::IgnoredAny;

use crate::audit::Stored;
use crate::chain::hex;
use crate::decode::{Columnar, Sql, typed};
use crate::error::StoreError;
use crate::layout::columns;
use crate::store::TableBatch;

/// What a segment knows the store to hold of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Known {
    /// Whatever is there: it is not compared.
    #[default]
    Anything,
    /// The segment stored nothing of it.
    Nothing,
    /// The segment stored nothing of it after this version, which may be that of its deletion.
    NothingAfter(u64),
    /// The segment last stored this version.
    Version(u64),
}

/// What one [`append`](crate::Store::append) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Appended {
    /// The batch's number; that of the one before, when nothing was written.
    pub batch: u64,
    /// Whether anything was written, be it a note.
    pub written: bool,
    /// The foreign changes that were met, in the order of the batch's tables and of the keys. Nothing of their tables
    /// was written.
    pub foreign: Vec<ForeignChange>,
}

/// A row that is not as the segment stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChange {
    /// The table's position in the catalogue.
    pub table: usize,
    /// The key.
    pub key: String,
    /// What differs, in words.
    pub why: String,
    /// What is there: every column of the row as JSON; none when the row is gone.
    pub found: Option<String>,
    /// The fields that are there as a payload of the table; none when there are none, or the table cannot hold them.
    pub payload: Option<Vec<u8>>,
    /// Whether it was noted just now; else it is one that was noted before.
    pub new: bool,
}

/// A foreign change that was noted before and is to be replaced now, if the row still is as it was found then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The key.
    pub key: String,
    /// [`ForeignChange::found`] of it.
    pub found: Option<String>,
    /// What is done: `adopt`, when the batch has the found state as a later version, or `overwrite`. It is noted with
    /// the conflict.
    pub policy: OnForeignChange,
}

/// A row of `commonhold_conflicts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its number: 1, 2, 3 …
    pub id: u64,
    /// When it was found, in microseconds since 1970.
    pub at: i64,
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// The version that the segment last stored; 0 when it had stored none.
    pub stored: u64,
    /// What was found: every column as JSON; `null` when the row was gone.
    pub found: String,
    /// What was to be written, in the same form; `null` for a deletion.
    pub ours: String,
    /// What was done: `fail` while nothing is, else `adopt` or `overwrite`.
    pub policy: String,
}

/// What is there of a key, as it was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum There {
    /// It was not looked at.
    #[default]
    Unknown,
    /// No row.
    Nothing,
    /// A row of this version. Nobody else can change it before the transaction ends.
    Version(u64),
}

/// What a batch has for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRows<'a> {
    pub(crate) key: &'a str,
    /// Its row with the lowest version.
    pub(crate) first: usize,
    /// Its row with the highest version.
    pub(crate) last: usize,
    /// Whether a deletion is among its rows.
    pub(crate) deletes: bool,
    /// What is there.
    pub(crate) there: There,
}

/// The keys of `rows` in their order; the row that is not after the one before it of the same key, if there is one.
pub(crate) fn by_key(rows: &[Row]) -> Result<Vec<KeyRows<'_>>, &Row> {
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(rows.len());
    let mut keys: Vec<KeyRows<'_>> = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        let place = *places.entry(&row.key).or_insert(keys.len());
        match keys.get_mut(place) {
            None => {
                let (deletes, there) = (row.deleted, There::Unknown);
                keys.push(KeyRows { key: &row.key, first: i, last: i, deletes, there });
            }
            Some(of) => {
                if rows.get(of.last).is_some_and(|before| before.version >= row.version) {
                    return Err(row);
                }
                of.last = i;
                of.deletes |= row.deleted;
            }
        }
    }
    keys.sort_unstable_by_key(|k| k.key);
    Ok(keys)
}

/// What brings T to the last row of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Whatever is there: the row, or the deletion, unless something newer is there.
    Bring,
    /// A row where none is.
    Insert,
    /// Another row in place of the one that is there.
    Replace,
    /// The row that is there goes.
    Delete,
}

/// What is to be done in T for the last row of a key, `row`; nothing when it is there already. `new`: `T_history` did not
/// have it. What was `accepted` is removed before.
pub(crate) fn step(key: &KeyRows<'_>, row: &Row, new: bool, accepted: bool) -> Option<Step> {
    match key.there {
        There::Unknown => (new || accepted).then_some(Step::Bring),
        There::Version(version) if !accepted => {
            let step = if row.deleted { Step::Delete } else { Step::Replace };
            (version < row.version).then_some(step)
        }
        There::Nothing | There::Version(_) => (!row.deleted).then_some(Step::Insert),
    }
}

/// What the segment last stored of a key, as the batch says.
pub(crate) fn known(part: &TableBatch, key: &KeyRows<'_>) -> Known {
    part.known.get(key.first).copied().unwrap_or_default()
}

/// How the row that is there differs from what the segment stored; none when it does not. See
/// [`append`](crate::Store::append).
pub(crate) fn differs(
    spec: &TableSpec,
    epoch: u64,
    part: &TableBatch,
    key: &KeyRows<'_>,
    found: Option<&Stored>,
) -> Option<String> {
    let known = known(part, key);
    let Some(found) = found else {
        return match known {
            Known::Version(version) if !key.deletes => {
                Some(format!("the row is gone, version {version} was stored"))
            }
            _ => None,
        };
    };
    if known == Known::Anything {
        return None;
    }
    if let Some(fault) = found.fault(&spec.name) {
        return Some(fault);
    }
    let version = found.row.version;
    let last = part.rows.get(key.last);
    let sent = last.map_or(0, |row| row.version);
    // The version that is sent is there only with the state that is sent.
    let other = last.is_some_and(|row| row.version == version && row.hash != found.row.hash);
    // Behind a deletion the record that came after it may be there, stored with the deletion or before it was known to be.
    let beyond = last.is_some_and(|row| row.deleted);
    let tried = |after| {
        let ours = found.row.writer.epoch() == epoch && !other;
        ours && version > after && (version <= sent || beyond)
    };
    let gone = |after| {
        let why = || format!("a row is there, version {version}, and none was stored");
        (!tried(after)).then(why)
    };
    match known {
        Known::Version(stored) if version == stored || tried(stored) => None,
        Known::Version(stored) => {
            Some(format!("version {version} is there, version {stored} was stored"))
        }
        Known::Nothing => gone(0),
        Known::NothingAfter(after) => gone(after),
        Known::Anything => None,
    }
}

/// Both states of one key, as they are noted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept<'a> {
    pub(crate) table: &'a str,
    pub(crate) key: &'a str,
    /// The version that the segment last stored; 0 when it had stored none.
    pub(crate) stored: i64,
    pub(crate) found: &'a str,
}

/// The current rows of a table and the noted conflicts, within the transaction that writes.
pub(crate) trait Comparing {
    /// Reads the row of `key`; false when there is none.
    fn look(&mut self, key: &str, into: &mut Stored) -> Result<bool, StoreError>;
    /// The row of `key` as JSON; none when there is none.
    fn json(&mut self, key: &str) -> Result<Option<String>, StoreError>;
    /// The number and the policy of the conflict that was noted of these states.
    fn noted(&mut self, kept: &Kept<'_>) -> Result<Option<(i64, String)>, StoreError>;
    /// Notes that something else is done about a conflict.
    fn set_policy(&mut self, id: i64, policy: &str) -> Result<(), StoreError>;
    /// Notes a conflict.
    fn note(&mut self, kept: &Kept<'_>, ours: &str, policy: &str) -> Result<(), StoreError>;
}

/// Compares what is there with what the segment stored; gives the foreign changes that are not accepted, each noted, and
/// whether one of them was not noted before. Of the accepted ones it is noted what is done. In `keys` it is noted what is
/// there.
pub(crate) fn compare(
    rows: &mut dyn Comparing,
    spec: &TableSpec,
    epoch: u64,
    part: &TableBatch,
    keys: &mut [KeyRows<'_>],
) -> Result<(Vec<ForeignChange>, bool), StoreError> {
    let accepted: HashMap<&str, &Accepted> =
        part.accepted.iter().map(|a| (a.key.as_str(), a)).collect();
    let (mut stored, mut changes, mut noted) = (Stored::default(), Vec::new(), false);
    for key in keys.iter_mut().filter(|k| known(part, k) != Known::Anything) {
        let there = rows.look(key.key, &mut stored)?;
        key.there = if there { There::Version(stored.row.version) } else { There::Nothing };
        let key = &*key;
        let found = there.then_some(&stored);
        let why = differs(spec, epoch, part, key, found);
        // An adopted deletion differs no more, and what was done is noted all the same.
        if why.is_none() && !accepted.contains_key(key.key) {
            continue;
        }
        let found = rows.json(key.key)?;
        let policy = accepted.get(key.key).filter(|a| a.found == found).map(|a| a.policy);
        if why.is_none() && policy.is_none() {
            continue;
        }
        let kept = Kept {
            table: &spec.name,
            key: key.key,
            stored: match known(part, key) {
                Known::Version(version) => version.cast_signed(),
                Known::Nothing | Known::NothingAfter(_) | Known::Anything => 0,
            },
            found: found.as_deref().unwrap_or("null"),
        };
        let ours = part.rows.get(key.last).map(|row| ours_json(spec, row)).unwrap_or_default();
        let new = note(rows, &kept, &ours, &policy.unwrap_or_default().to_string())?;
        noted |= new;
        if let (Some(why), None) = (why, policy) {
            let payload = (there && stored.whole).then(|| stored.row.payload.clone());
            let (table, key) = (part.table, key.key.to_owned());
            changes.push(ForeignChange { table, key, why, found, payload, new });
        }
    }
    Ok((changes, noted))
}

/// Keeps both states, once; true when they, or what is done about them, were not there yet.
fn note(
    rows: &mut dyn Comparing,
    kept: &Kept<'_>,
    ours: &str,
    policy: &str,
) -> Result<bool, StoreError> {
    match rows.noted(kept)? {
        Some((_, noted)) if noted == policy => return Ok(false),
        Some((id, _)) => rows.set_policy(id, policy)?,
        None => rows.note(kept, ours, policy)?,
    }
    Ok(true)
}

/// Now, in microseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// An object of JSON, member by member.
#[derive(Debug)]
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a member whose value is JSON already.
    pub(crate) fn raw(&mut self, name: &str, json: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(json);
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.raw(name, &quoted(text));
    }

    pub(crate) fn value(&mut self, name: &str, value: ValueRef<'_>) {
        match value {
            ValueRef::I64(v) | ValueRef::Timestamp(v) => self.raw(name, &v.to_string()),
            ValueRef::U64(v) => self.raw(name, &v.to_string()),
            ValueRef::Bool(v) => self.raw(name, if v { "true" } else { "false" }),
            ValueRef::F64(v) => self.real(name, v),
            ValueRef::Text(v) => self.text(name, v),
            ValueRef::Bytes(v) => self.text(name, &hex(v)),
            ValueRef::Json(v) if serde_json::from_str::<IgnoredAny>(v).is_ok() => self.raw(name, v),
            ValueRef::Json(v) => self.text(name, v),
        }
    }

    /// A number, or the text of what is none in JSON.
    pub(crate) fn real(&mut self, name: &str, v: f64) {
        match serde_json::to_string(&v) {
            Ok(json) if v.is_finite() => self.raw(name, &json),
            _ => self.text(name, &v.to_string()),
        }
    }

    pub(crate) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A row that was to be written, as JSON; `null` for a deletion.
pub(crate) fn ours_json(spec: &TableSpec, row: &Row) -> String {
    if row.deleted {
        return "null".to_owned();
    }
    let mut object = Object::new();
    object.text("key", &row.key);
    let mut decoder = Decoder::new(&row.payload);
    for field in spec.schema.fields() {
        if let Ok(value) = decoder.value(field.ty) {
            object.value(&field.name, value);
        }
    }
    object.raw("_version", &row.version.to_string());
    object.text("_hash", &hex(&row.hash.to_be_bytes()));
    object.text("_clock", &clock_text(&row.clock));
    object.text("_writer", &row.writer.to_string());
    object.raw("_seq", &row.sequence.to_string());
    object.raw("_committed_at", &row.committed_at.to_string());
    object.finish()
}

/// A row of T that is there, as JSON: fields as what they are, columns that cannot be what was written as the database
/// has them.
pub(crate) fn columns_json(from: &dyn Columnar, spec: &TableSpec) -> Result<String, StoreError> {
    let mut object = Object::new();
    let types = spec.schema.fields().iter().map(|field| Some(field.ty));
    let types = std::iter::once(None).chain(types).chain(std::iter::repeat(None));
    for (at, ((name, _), ty)) in columns(spec).iter().zip(types).enumerate() {
        let value = from.column(at)?;
        match ty.and_then(|ty| typed(value, ty)) {
            Some(value) => object.value(name, value),
            None => raw(&mut object, name, value),
        }
    }
    Ok(object.finish())
}

fn raw(object: &mut Object, name: &str, value: Sql<'_>) {
    match value {
        Sql::Null => object.raw(name, "null"),
        Sql::Integer(v) => object.raw(name, &v.to_string()),
        Sql::Real(v) => object.real(name, v),
        Sql::Text(v) => object.text(name, &String::from_utf8_lossy(v)),
        Sql::Blob(v) => object.text(name, &hex(v)),
    }
}
