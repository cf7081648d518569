//! Values: what one field of a record holds when no Rust type describes it.
//!
//! Only what a database returns unchanged is let in: NaN, infinities, NUL in text and `u64` of 2^63 or more are
//! refused at the door ([`ValueError`]), −0.0 becomes 0.0, times are whole microseconds.

use crate::schema::FieldType;

/// One field's value, owned.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A signed integer.
    I64(i64),
    /// An unsigned integer below 2^63.
    U64(u64),
    /// A finite float.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// UTF-8 text without NUL.
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// Text that is valid JSON.
    Json(String),
    /// Microseconds since 1970-01-01 UTC.
    Timestamp(i64),
}

/// One field's value, borrowed from an encoded payload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// A signed integer.
    I64(i64),
    /// An unsigned integer below 2^63.
    U64(u64),
    /// A finite float.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// UTF-8 text without NUL.
    Text(&'a str),
    /// Raw bytes.
    Bytes(&'a [u8]),
    /// Text that is valid JSON.
    Json(&'a str),
    /// Microseconds since 1970-01-01 UTC.
    Timestamp(i64),
}

/// Why a value is not accepted. Says what and what to do; the caller adds table, key and field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The text or bytes are longer than the field.
    #[error("{length} bytes do not fit in {limit}; shorten the value or enlarge the field")]
    TooLong {
        /// Bytes offered.
        length: usize,
        /// Bytes the field holds.
        limit: u32,
    },
    /// NaN or an infinity.
    #[error("{0} is not a finite number; no database returns it unchanged")]
    NotFinite(String),
    /// A `u64` that no database column holds.
    #[error("{0} is 2^63 or more; the largest u64 stored is 9223372036854775807")]
    TooLarge(u64),
    /// NUL in text.
    #[error("text holds a NUL character at byte {0}; remove it or use a bytes field")]
    Nul(usize),
    /// Not valid JSON.
    #[error("not valid JSON: {0}")]
    NotJson(String),
    /// Text that cannot be read as the field's type.
    #[error("`{text}` is not a value of type {ty}")]
    NotParsed {
        /// What was given.
        text: String,
        /// The field's type.
        ty: FieldType,
    },
    /// A value of another type.
    #[error("a value of type {found} was given for a field of type {ty}")]
    WrongType {
        /// The value's type.
        found: &'static str,
        /// The field's type.
        ty: FieldType,
    },
}

impl Value {
    /// The zero of a type: what a field holds that was never set.
    #[must_use]
    pub fn zero(ty: FieldType) -> Self {
        match ty {
            FieldType::I64 => Self::I64(0),
            FieldType::U64 => Self::U64(0),
            FieldType::F64 => Self::F64(0.0),
            FieldType::Bool => Self::Bool(false),
            FieldType::Text(_) => Self::Text(String::new()),
            FieldType::Bytes(_) => Self::Bytes(Vec::new()),
            FieldType::Json(_) => Self::Json("null".to_owned()),
            FieldType::Timestamp => Self::Timestamp(0),
        }
    }

    /// Reads `text` as a value of type `ty`: decimal numbers, `true`/`false`, text as it is, bytes as
    /// hexadecimal, JSON text, timestamps as microseconds.
    ///
    /// # Errors
    /// [`ValueError`] when the text is not such a value or breaks its limits.
    pub fn parse(ty: FieldType, text: &str) -> Result<Self, ValueError> {
        let not_parsed = || ValueError::NotParsed { text: text.to_owned(), ty };
        let value = match ty {
            FieldType::I64 => Self::I64(text.parse().map_err(|_| not_parsed())?),
            FieldType::U64 => Self::U64(text.parse().map_err(|_| not_parsed())?),
            FieldType::F64 => Self::F64(text.parse().map_err(|_| not_parsed())?),
            FieldType::Bool => Self::Bool(text.parse().map_err(|_| not_parsed())?),
            FieldType::Text(_) => Self::Text(text.to_owned()),
            FieldType::Bytes(_) => Self::Bytes(from_hex(text).ok_or_else(not_parsed)?),
            FieldType::Json(_) => Self::Json(text.to_owned()),
            FieldType::Timestamp => Self::Timestamp(text.parse().map_err(|_| not_parsed())?),
        };
        value.check(ty)?;
        Ok(value)
    }

    /// Borrows the value.
    #[must_use]
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::I64(v) => ValueRef::I64(*v),
            Self::U64(v) => ValueRef::U64(*v),
            Self::F64(v) => ValueRef::F64(*v),
            Self::Bool(v) => ValueRef::Bool(*v),
            Self::Text(v) => ValueRef::Text(v),
            Self::Bytes(v) => ValueRef::Bytes(v),
            Self::Json(v) => ValueRef::Json(v),
            Self::Timestamp(v) => ValueRef::Timestamp(*v),
        }
    }

    /// Checks that a field of type `ty` may hold this value.
    ///
    /// # Errors
    /// [`ValueError`] naming the broken rule.
    pub fn check(&self, ty: FieldType) -> Result<(), ValueError> {
        self.as_ref().check(ty)
    }
}

impl ValueRef<'_> {
    /// The name of the value's type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::I64(_) => "i64",
            Self::U64(_) => "u64",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Json(_) => "json",
            Self::Timestamp(_) => "timestamp",
        }
    }

    /// An owned copy.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match *self {
            Self::I64(v) => Value::I64(v),
            Self::U64(v) => Value::U64(v),
            Self::F64(v) => Value::F64(v),
            Self::Bool(v) => Value::Bool(v),
            Self::Text(v) => Value::Text(v.to_owned()),
            Self::Bytes(v) => Value::Bytes(v.to_owned()),
            Self::Json(v) => Value::Json(v.to_owned()),
            Self::Timestamp(v) => Value::Timestamp(v),
        }
    }

    /// Checks that a field of type `ty` may hold this value.
    ///
    /// # Errors
    /// [`ValueError`] naming the broken rule.
    pub fn check(&self, ty: FieldType) -> Result<(), ValueError> {
        match (*self, ty) {
            (Self::I64(_), FieldType::I64)
            | (Self::Bool(_), FieldType::Bool)
            | (Self::Timestamp(_), FieldType::Timestamp) => Ok(()),
            (Self::U64(v), FieldType::U64) => check_u64(v),
            (Self::F64(v), FieldType::F64) => check_f64(v),
            (Self::Text(v), FieldType::Text(limit)) => check_text(v, limit),
            (Self::Bytes(v), FieldType::Bytes(limit)) => check_length(v.len(), limit),
            (Self::Json(v), FieldType::Json(limit)) => check_json(v, limit),
            _ => Err(ValueError::WrongType { found: self.type_name(), ty }),
        }
    }
}

impl std::fmt::Display for ValueRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::I64(v) | Self::Timestamp(v) => write!(f, "{v}"),
            Self::U64(v) => write!(f, "{v}"),
            Self::F64(v) => write!(f, "{v}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Text(v) | Self::Json(v) => f.write_str(v),
            Self::Bytes(v) => v.iter().try_for_each(|b| write!(f, "{b:02x}")),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_ref().fmt(f)
    }
}

pub(crate) fn check_u64(v: u64) -> Result<(), ValueError> {
    if i64::try_from(v).is_ok() { Ok(()) } else { Err(ValueError::TooLarge(v)) }
}

pub(crate) fn check_f64(v: f64) -> Result<(), ValueError> {
    if v.is_finite() { Ok(()) } else { Err(ValueError::NotFinite(v.to_string())) }
}

pub(crate) fn check_length(length: usize, limit: u32) -> Result<(), ValueError> {
    if length <= limit as usize { Ok(()) } else { Err(ValueError::TooLong { length, limit }) }
}

pub(crate) fn check_text(v: &str, limit: u32) -> Result<(), ValueError> {
    check_length(v.len(), limit)?;
    v.bytes().position(|b| b == 0).map_or(Ok(()), |at| Err(ValueError::Nul(at)))
}

/// As deep as the parsers of programs and databases go.
const NESTING_MAX: usize = 127;

pub(crate) fn check_json(v: &str, limit: u32) -> Result<(), ValueError> {
    check_text(v, limit)?;
    serde_json::from_str::<serde::de::IgnoredAny>(v)
        .map_err(|e| ValueError::NotJson(e.to_string()))?;
    let deepest = nesting(v);
    let say = || format!("it is nested {deepest} deep; {NESTING_MAX} is the most");
    if deepest > NESTING_MAX { Err(ValueError::NotJson(say())) } else { Ok(()) }
}

/// How deep arrays and objects of valid JSON stand within each other.
fn nesting(json: &str) -> usize {
    let (mut now, mut deepest, mut within, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            _ if within => {}
            b'[' | b'{' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_not_nested_too_deep() {
        let nested =
            |open: &str, close: &str, depth| open.repeat(depth) + "0" + &close.repeat(depth);
        for (open, close, levels) in [("[", "]", 1), ("{\"[\\\"{\":", "}", 1), ("[[], [", "]]", 2)]
        {
            let most = NESTING_MAX / levels;
            assert_eq!(nesting(&nested(open, close, 10)), 10 * levels);
            assert_eq!(check_json(&nested(open, close, most), 10_000), Ok(()));
            let error = check_json(&nested(open, close, most + 1), 10_000);
            assert!(matches!(error, Err(ValueError::NotJson(_))), "{error:?}");
        }
        let flat = format!("[{}\"{}\"]", "[],".repeat(1000), "[{".repeat(1000));
        assert_eq!(check_json(&flat, 10_000), Ok(()));
    }
}
