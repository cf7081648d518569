//! Values as JSON, as the command prints them and the daemon answers them.

use commonhold_core::value::Value;
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A value as JSON: numbers, booleans and text as themselves, bytes as hexadecimal, times as microseconds since 1970,
/// JSON as what it is, on one line.
#[derive(Debug, Clone, Copy)]
pub struct ValueJson<'a>(pub &'a Value);

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::I64(v) | Value::Timestamp(v) => to.serialize_i64(*v),
            Value::U64(v) => to.serialize_u64(*v),
            Value::F64(v) => to.serialize_f64(*v),
            Value::Bool(v) => to.serialize_bool(*v),
            Value::Text(v) => to.serialize_str(v),
            Value::Bytes(_) => to.collect_str(self.0),
            Value::Json(v) => {
                // A line break cannot stand in a string of JSON: those there are lie between the tokens.
                let line = v.replace(['\n', '\r'], " ");
                RawValue::from_string(line).map_err(S::Error::custom)?.serialize(to)
            }
        }
    }
}
