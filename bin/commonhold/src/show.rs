//! Records as people and programs read them: `field=value` lines, and JSON objects.

use commonhold::core::Snapshot;
use commonhold::json::ValueJson;
use commonhold::row::Row;
use commonhold::schema::Schema;
use commonhold::value::Value;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::failure::Failure;

/// One state of a record.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) key: &'a str,
    pub(crate) schema: &'a Schema,
    pub(crate) values: Vec<Value>,
    pub(crate) marks: Marks,
}

/// What a version carries beside its fields.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Marks {
    pub(crate) version: u64,
    pub(crate) hash: String,
    pub(crate) clock: Vec<u64>,
    pub(crate) writer: String,
    pub(crate) sequence: u64,
    pub(crate) committed_at: i64,
}

/// A state hash as the store writes it.
pub(crate) fn hash_text(hash: u64) -> String {
    format!("{hash:016x}")
}

impl<'a> Shown<'a> {
    /// The record `key` as it was seen in memory.
    pub(crate) fn new(key: &'a str, schema: &'a Schema, seen: &Snapshot) -> Result<Self, Failure> {
        let marks = Marks {
            version: seen.version,
            hash: hash_text(seen.hash),
            clock: seen.clock.clone(),
            writer: seen.writer.to_string(),
            sequence: seen.sequence,
            committed_at: seen.committed_at,
        };
        Ok(Self { key, schema, values: schema.decode(&seen.payload)?, marks })
    }

    /// A version as the store has it; a deletion has no values.
    pub(crate) fn stored(schema: &'a Schema, row: &'a Row) -> Result<Self, Failure> {
        let marks = Marks {
            version: row.version,
            hash: hash_text(row.hash),
            clock: row.clock.clone(),
            writer: row.writer.to_string(),
            sequence: row.sequence,
            committed_at: row.committed_at,
        };
        let values = if row.deleted { Vec::new() } else { schema.decode(&row.payload)? };
        Ok(Self { key: &row.key, schema, values, marks })
    }

    /// Names and values, in schema order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.schema.fields().iter().map(|f| f.name.as_str()).zip(&self.values)
    }

    /// The fields in one line.
    pub(crate) fn line(&self) -> String {
        let pairs: Vec<String> =
            self.fields().map(|(name, value)| format!("{name}={}", word(value))).collect();
        pairs.join(" ")
    }

    /// The record as a JSON object of its own, with the fields named in `only`, or all.
    pub(crate) fn json<'s>(&'s self, only: &'s [String]) -> RecordJson<'s> {
        RecordJson { key: self.key, fields: FieldsJson { of: self, only }, marks: &self.marks }
    }
}

/// A record as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct RecordJson<'a> {
    key: &'a str,
    fields: FieldsJson<'a>,
    #[serde(flatten)]
    marks: &'a Marks,
}

/// The fields as JSON, in schema order.
#[derive(Debug)]
pub(crate) struct FieldsJson<'a> {
    of: &'a Shown<'a>,
    only: &'a [String],
}

impl Serialize for FieldsJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (name, value) in self.of.fields() {
            if self.only.is_empty() || self.only.iter().any(|only| only == name) {
                map.serialize_entry(name, &ValueJson(value))?;
            }
        }
        map.end()
    }
}

/// A value for a line of its own: as it is, or as a JSON string when it would not stay on one line.
pub(crate) fn plain(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().any(char::is_control) || text.starts_with('"') { quoted(&text) } else { text }
}

/// A value among others: as a JSON string also when it is empty or holds a blank.
fn word(value: &Value) -> String {
    let text = value.to_string();
    if matches!(value, Value::Text(_) | Value::Json(_)) && !is_word(&text) {
        return quoted(&text);
    }
    text
}

/// A key among others.
pub(crate) fn key_word(key: &str) -> String {
    if is_word(key) { key.to_owned() } else { quoted(key) }
}

fn is_word(text: &str) -> bool {
    let strange = |c: char| c.is_control() || c.is_whitespace();
    !text.is_empty() && !text.starts_with('"') && !text.chars().any(strange)
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_on_their_line() {
        let text = |t: &str| Value::Text(t.to_owned());
        assert_eq!(plain(&text("a b")), "a b");
        assert_eq!(plain(&text("a\nb")), "\"a\\nb\"");
        assert_eq!(plain(&text("\"a")), "\"\\\"a\"");
        assert_eq!(word(&text("a b")), "\"a b\"");
        assert_eq!(word(&text("")), "\"\"");
        assert_eq!(word(&Value::I64(-5)), "-5");
        assert_eq!(key_word("c-42"), "c-42");
    }

    #[test]
    fn values_as_json() {
        let json = |v: Value| serde_json::to_string(&ValueJson(&v)).unwrap();
        assert_eq!(json(Value::Bytes(vec![0, 255])), "\"00ff\"");
        assert_eq!(json(Value::Json("{\"a\":\n1.10}".to_owned())), "{\"a\": 1.10}");
        assert_eq!(json(Value::F64(1.0)), "1.0");
        assert_eq!(json(Value::U64(u64::MAX >> 1)), "9223372036854775807");
    }
}
