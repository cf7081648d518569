//! Values of fields as JSON: numbers, booleans and text as themselves, bytes as hexadecimal, times as microseconds
//! since 1970, JSON as what it is.

use commonhold::schema::{FieldType, Schema};
use commonhold::value::Value;
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// The largest whole number that a float tells from its neighbours.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a JSON value as a field of type `ty`.
///
/// # Errors
/// What is wrong with it, and what to give.
pub fn read(ty: FieldType, raw: &RawValue) -> Result<Value, String> {
    let text = raw.get();
    let value = match ty {
        FieldType::I64 => Value::I64(whole(text)?),
        FieldType::Timestamp => Value::Timestamp(whole(text)?),
        FieldType::U64 => {
            let number = whole(text)?;
            let number = u64::try_from(number);
            Value::U64(number.map_err(|_| format!("{} is below 0", shown(text)))?)
        }
        FieldType::F64 => Value::F64(number(text)?),
        FieldType::Bool => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(format!("{}; give true or false", found(text))),
        },
        FieldType::Text(_) => Value::Text(string(text)?),
        FieldType::Bytes(_) => {
            let hex = string(text)?;
            Value::parse(ty, &hex).map_err(|_| {
                format!("{} is no pairs of hexadecimal digits that fit in {ty}", shown(text))
            })?
        }
        FieldType::Json(_) => Value::Json(text.to_owned()),
    };
    value.check(ty).map_err(|e| e.to_string())?;
    Ok(value)
}

/// What may be added to a field of type `ty`: for a number without a sign and a time, a number with one.
///
/// # Errors
/// What is wrong with it.
pub fn read_addend(ty: FieldType, raw: &RawValue) -> Result<Value, String> {
    match ty {
        FieldType::I64 | FieldType::U64 | FieldType::Timestamp => read(FieldType::I64, raw),
        FieldType::F64 => read(ty, raw),
        _ => Err(format!("nothing can be added to a field of type {ty}; set it")),
    }
}

/// The first characters of a JSON text.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{}`", short.replace(['\n', '\r'], " "))
}

fn found(text: &str) -> String {
    let kind = match text.bytes().next() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    };
    format!("found {kind}")
}

fn is_number(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b == b'-' || b.is_ascii_digit())
}

fn whole(text: &str) -> Result<i64, String> {
    if !is_number(text) {
        return Err(format!("{}; give a whole number", found(text)));
    }
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    if !text.contains(['.', 'e', 'E']) {
        return Err(format!("{} is beyond 64 bits", shown(text)));
    }
    // To JSON, 1.0 and 1e3 are whole numbers.
    let float = number(text)?;
    if float.fract() != 0.0 || float.abs() > EXACT {
        return Err(format!("{} is no whole number that is kept exactly", shown(text)));
    }
    Ok(float as i64)
}

fn number(text: &str) -> Result<f64, String> {
    let number = is_number(text).then(|| text.parse::<f64>());
    match number {
        Some(Ok(number)) if number.is_finite() => Ok(number),
        Some(_) => Err(format!("{} is beyond what a 64-bit float holds", shown(text))),
        None => Err(format!("{}; give a number", found(text))),
    }
}

fn string(text: &str) -> Result<String, String> {
    if !text.starts_with('"') {
        return Err(format!("{}; give a string", found(text)));
    }
    serde_json::from_str(text).map_err(|_| format!("{} is no text in Unicode", shown(text)))
}

/// A value as JSON.
struct ValueJson<'a>(&'a Value);

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
                let raw = RawValue::from_string(v.trim().to_owned());
                raw.map_err(S::Error::custom)?.serialize(to)
            }
        }
    }
}

/// The fields of a record: values in the order of the schema.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    /// Names and types.
    pub schema: &'a Schema,
    /// Their values.
    pub values: &'a [Value],
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.values.len()))?;
        for (field, value) in self.schema.fields().iter().zip(self.values) {
            map.serialize_entry(&field.name, &ValueJson(value))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(ty: FieldType, text: &str) -> Result<Value, String> {
        read(ty, &RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let cases = [
            (FieldType::I64, Value::I64(i64::MIN)),
            (FieldType::U64, Value::U64(u64::MAX >> 1)),
            (FieldType::F64, Value::F64(1e300)),
            (FieldType::F64, Value::F64(-0.1)),
            (FieldType::Bool, Value::Bool(true)),
            (FieldType::Text(9), Value::Text("ä\n\"".to_owned())),
            (FieldType::Bytes(2), Value::Bytes(vec![0, 255])),
            (FieldType::Json(20), Value::Json("{\"a\": 1.10}".to_owned())),
            (FieldType::Timestamp, Value::Timestamp(-1)),
        ];
        for (ty, value) in cases {
            let text = serde_json::to_string(&ValueJson(&value)).unwrap();
            assert_eq!(read_text(ty, &text), Ok(value), "{text}");
        }
    }

    #[test]
    fn whole_numbers_may_be_written_as_floats() {
        assert_eq!(read_text(FieldType::I64, "1.0"), Ok(Value::I64(1)));
        assert_eq!(read_text(FieldType::U64, "2e3"), Ok(Value::U64(2000)));
        assert_eq!(read_text(FieldType::F64, "7"), Ok(Value::F64(7.0)));
    }

    #[test]
    fn other_values_are_refused() {
        let cases = [
            (FieldType::I64, "9223372036854775808", "beyond 64 bits"),
            (FieldType::I64, "1.5", "no whole number"),
            (FieldType::I64, "1e17", "exactly"),
            (FieldType::I64, "\"1\"", "found a string"),
            (FieldType::I64, "null", "found null"),
            (FieldType::U64, "-1", "below 0"),
            (FieldType::U64, "9223372036854775808", "beyond"),
            (FieldType::F64, "1e999", "beyond"),
            (FieldType::F64, "\"NaN\"", "found a string"),
            (FieldType::Bool, "1", "give true or false"),
            (FieldType::Text(2), "\"abc\"", "do not fit in 2"),
            (FieldType::Text(9), "\"a\\u0000\"", "NUL"),
            (FieldType::Text(9), "\"\\ud800\"", "Unicode"),
            (FieldType::Text(9), "[]", "found an array"),
            (FieldType::Bytes(2), "\"0\"", "hexadecimal"),
            (FieldType::Bytes(2), "\"000000\"", "fit in bytes(2)"),
            (FieldType::Json(2), "[1]", "do not fit in 2"),
            (FieldType::Timestamp, "true", "found a boolean"),
        ];
        for (ty, text, words) in cases {
            let error = read_text(ty, text).expect_err(text);
            assert!(error.contains(words), "{ty} {text}: {error}");
        }
        let raw = RawValue::from_string("1".to_owned()).unwrap();
        assert!(read_addend(FieldType::Text(3), &raw).is_err());
        assert_eq!(read_addend(FieldType::U64, &raw), Ok(Value::I64(1)));
    }
}
