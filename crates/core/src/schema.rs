//! Schemas: named, typed, bounded fields, and the canonical encoding of a record's payload.
//!
//! The canonical encoding is what a cell holds and what the state hash covers: the fields in schema
//! order, little endian, no padding.
//!
//! | type | bytes |
//! | --- | --- |
//! | `i64`, `u64`, `f64`, `timestamp` | 8 |
//! | `bool` | 1, 0 or 1 |
//! | `text(n)`, `bytes(n)`, `json(n)` | 4 of length, then so many; `n` is the limit in bytes |

use crate::value::{
    Value, ValueError, ValueRef, check_f64, check_json, check_length, check_text, check_u64,
};

/// The largest payload of a record, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// The most fields a table has.
pub const FIELDS_MAX: usize = 128;
/// The longest name of a table or field, in bytes.
pub const NAME_BYTES_MAX: usize = 48;

/// The type of a field; the number is the limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// A signed integer.
    I64,
    /// An unsigned integer below 2^63.
    U64,
    /// A finite float.
    F64,
    /// True or false.
    Bool,
    /// UTF-8 text without NUL.
    Text(u32),
    /// Raw bytes.
    Bytes(u32),
    /// Text that is valid JSON.
    Json(u32),
    /// Microseconds since 1970-01-01 UTC.
    Timestamp,
}

/// A named, typed field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name: a column of the database, a key of the JSON.
    pub name: String,
    /// The type.
    pub ty: FieldType,
}

/// The fields of a table, in order; checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    fields: Vec<Field>,
}

/// Why a schema or a name is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Not `name:type`.
    #[error("`{0}` is not a field; write name:type, for instance cap:i64 or name:text(32)")]
    NotAField(String),
    /// An unknown type.
    #[error("`{0}` is not a type; use i64 u64 f64 bool text(n) bytes(n) json(n) timestamp")]
    UnknownType(String),
    /// A name that a database column could not have, or that is taken.
    #[error(
        "`{0}` cannot be a name; use a-z, 0-9 and _, at most 48, no digit or _ first, and not a reserved one (key, commonhold…, sqlite…, …_history)"
    )]
    BadName(String),
    /// The same name twice.
    #[error("field `{0}` stands twice in the schema")]
    Twice(String),
    /// No fields, or too many.
    #[error("{0} fields; a table has 1 to 128")]
    FieldCount(usize),
    /// The fields together are larger than a record may be.
    #[error("a record of {0} bytes; at most 65536")]
    TooLarge(usize),
}

/// An encoded payload that does not fit its schema: memory or store was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("payload does not fit its schema at byte {at}")]
pub struct DecodeError {
    /// Where, in bytes from the payload's start.
    pub at: usize,
}

impl std::fmt::Display for FieldType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::I64 => f.write_str("i64"),
            Self::U64 => f.write_str("u64"),
            Self::F64 => f.write_str("f64"),
            Self::Bool => f.write_str("bool"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Text(n) => write!(f, "text({n})"),
            Self::Bytes(n) => write!(f, "bytes({n})"),
            Self::Json(n) => write!(f, "json({n})"),
        }
    }
}

impl std::str::FromStr for FieldType {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let unknown = || SchemaError::UnknownType(text.to_owned());
        if let Some((name, rest)) = text.split_once('(') {
            let limit = rest.strip_suffix(')').and_then(|n| n.trim().parse::<u32>().ok());
            let limit = limit.filter(|n| *n > 0).ok_or_else(unknown)?;
            return match name.trim() {
                "text" => Ok(Self::Text(limit)),
                "bytes" => Ok(Self::Bytes(limit)),
                "json" => Ok(Self::Json(limit)),
                _ => Err(unknown()),
            };
        }
        match text {
            "i64" => Ok(Self::I64),
            "u64" => Ok(Self::U64),
            "f64" => Ok(Self::F64),
            "bool" => Ok(Self::Bool),
            "timestamp" => Ok(Self::Timestamp),
            _ => Err(unknown()),
        }
    }
}

impl FieldType {
    /// The most bytes a field of this type takes in a payload.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::I64 | Self::U64 | Self::F64 | Self::Timestamp => 8,
            Self::Bool => 1,
            Self::Text(n) | Self::Bytes(n) | Self::Json(n) => 4 + n as usize,
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.name, self.ty)
    }
}

impl std::str::FromStr for Field {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let (name, ty) =
            text.split_once(':').ok_or_else(|| SchemaError::NotAField(text.to_owned()))?;
        Ok(Self { name: name.trim().to_owned(), ty: ty.trim().parse()? })
    }
}

/// Checks the name of a field.
///
/// # Errors
/// [`SchemaError::BadName`].
pub fn check_name(name: &str) -> Result<(), SchemaError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if first && name != "key" && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(SchemaError::BadName(name.to_owned()))
    }
}

impl Schema {
    /// A schema of `fields`, in this order.
    ///
    /// # Errors
    /// [`SchemaError`] when a name is unfit or doubled, or the record too large.
    pub fn new(fields: Vec<Field>) -> Result<Self, SchemaError> {
        if fields.is_empty() || fields.len() > FIELDS_MAX {
            return Err(SchemaError::FieldCount(fields.len()));
        }
        for (i, field) in fields.iter().enumerate() {
            check_name(&field.name)?;
            if fields.iter().take(i).any(|other| other.name == field.name) {
                return Err(SchemaError::Twice(field.name.clone()));
            }
        }
        let schema = Self { fields };
        let bytes = schema.payload_bytes_max();
        if bytes > PAYLOAD_BYTES_MAX { Err(SchemaError::TooLarge(bytes)) } else { Ok(schema) }
    }

    /// The fields, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The position of the field `name`.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// The most bytes an encoded payload takes.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.fields.iter().map(|f| f.ty.bytes_max()).sum()
    }

    /// The values of an encoded payload, in order, borrowed from it. Text and JSON are checked to be UTF-8.
    #[must_use]
    pub fn values<'a>(&'a self, payload: &'a [u8]) -> Values<'a> {
        Values { fields: self.fields.iter(), decoder: Decoder::new(payload) }
    }

    /// Decodes a payload into owned values.
    ///
    /// # Errors
    /// [`DecodeError`] when the payload is damaged, too short or too long.
    pub fn decode(&self, payload: &[u8]) -> Result<Vec<Value>, DecodeError> {
        let mut values = self.values(payload);
        let mut out = Vec::with_capacity(self.fields.len());
        for value in &mut values {
            out.push(value?.to_value());
        }
        values.decoder.finish()?;
        Ok(out)
    }

    /// Encodes one value for each field, appended to `out`.
    ///
    /// # Errors
    /// The position of the first field whose value is refused, and why.
    ///
    /// # Panics
    /// Never: values beyond the fields are ignored, missing ones encode as the type's zero.
    pub fn encode(&self, values: &[Value], out: &mut Vec<u8>) -> Result<(), (usize, ValueError)> {
        let mut encoder = Encoder { out };
        for (i, field) in self.fields.iter().enumerate() {
            let zero = Value::zero(field.ty);
            let value = values.get(i).unwrap_or(&zero).as_ref();
            encoder.value(value, field.ty).map_err(|e| (i, e))?;
        }
        Ok(())
    }
}

/// The values of one payload; see [`Schema::values`].
#[derive(Debug)]
pub struct Values<'a> {
    fields: std::slice::Iter<'a, Field>,
    decoder: Decoder<'a>,
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<ValueRef<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fields.next().map(|f| self.decoder.value(f.ty))
    }
}

/// Writes values in the canonical encoding, checking each.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends `value` as a field of type `ty`.
    ///
    /// # Errors
    /// [`ValueError`] when the field may not hold it.
    pub fn value(&mut self, value: ValueRef<'_>, ty: FieldType) -> Result<(), ValueError> {
        match (value, ty) {
            (ValueRef::I64(v), FieldType::I64) => self.i64(v),
            (ValueRef::Timestamp(v), FieldType::Timestamp) => self.i64(v),
            (ValueRef::U64(v), FieldType::U64) => self.u64(v)?,
            (ValueRef::F64(v), FieldType::F64) => self.f64(v)?,
            (ValueRef::Bool(v), FieldType::Bool) => self.bool(v),
            (ValueRef::Text(v), FieldType::Text(limit)) => self.text(v, limit)?,
            (ValueRef::Bytes(v), FieldType::Bytes(limit)) => self.bytes(v, limit)?,
            (ValueRef::Json(v), FieldType::Json(limit)) => self.json(v, limit)?,
            _ => return Err(ValueError::WrongType { found: value.type_name(), ty }),
        }
        Ok(())
    }

    /// Appends an `i64` or a timestamp.
    #[inline]
    pub fn i64(&mut self, v: i64) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    /// Appends a `u64`.
    ///
    /// # Errors
    /// [`ValueError::TooLarge`].
    #[inline]
    pub fn u64(&mut self, v: u64) -> Result<(), ValueError> {
        check_u64(v)?;
        self.out.extend_from_slice(&v.to_le_bytes());
        Ok(())
    }

    /// Appends an `f64`, −0.0 as 0.0.
    ///
    /// # Errors
    /// [`ValueError::NotFinite`].
    #[inline]
    pub fn f64(&mut self, v: f64) -> Result<(), ValueError> {
        check_f64(v)?;
        self.out.extend_from_slice(&(if v == 0.0 { 0.0 } else { v }).to_le_bytes());
        Ok(())
    }

    /// Appends a `bool`.
    #[inline]
    pub fn bool(&mut self, v: bool) {
        self.out.push(u8::from(v));
    }

    /// Appends text of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ValueError::TooLong`], [`ValueError::Nul`].
    pub fn text(&mut self, v: &str, limit: u32) -> Result<(), ValueError> {
        check_text(v, limit)?;
        self.sized(v.as_bytes());
        Ok(())
    }

    /// Appends at most `limit` bytes.
    ///
    /// # Errors
    /// [`ValueError::TooLong`].
    #[inline]
    pub fn bytes(&mut self, v: &[u8], limit: u32) -> Result<(), ValueError> {
        check_length(v.len(), limit)?;
        self.sized(v);
        Ok(())
    }

    /// Appends JSON text of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ValueError::TooLong`], [`ValueError::Nul`], [`ValueError::NotJson`].
    pub fn json(&mut self, v: &str, limit: u32) -> Result<(), ValueError> {
        check_json(v, limit)?;
        self.sized(v.as_bytes());
        Ok(())
    }

    #[inline]
    fn sized(&mut self, v: &[u8]) {
        // A length is at most a field's limit, which is a u32.
        self.out.extend_from_slice(&(v.len() as u32).to_le_bytes());
        self.out.extend_from_slice(v);
    }
}

/// Reads values in the canonical encoding.
#[derive(Debug)]
pub struct Decoder<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Reads `payload` from its start.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }

    /// The next value, of type `ty`.
    ///
    /// # Errors
    /// [`DecodeError`] when the payload is damaged there.
    pub fn value(&mut self, ty: FieldType) -> Result<ValueRef<'a>, DecodeError> {
        Ok(match ty {
            FieldType::I64 => ValueRef::I64(self.i64()?),
            FieldType::Timestamp => ValueRef::Timestamp(self.i64()?),
            FieldType::U64 => ValueRef::U64(self.u64()?),
            FieldType::F64 => ValueRef::F64(self.f64()?),
            FieldType::Bool => ValueRef::Bool(self.bool()?),
            FieldType::Text(limit) => ValueRef::Text(self.text(limit)?),
            FieldType::Bytes(limit) => ValueRef::Bytes(self.bytes(limit)?),
            FieldType::Json(limit) => ValueRef::Json(self.text(limit)?),
        })
    }

    /// The next `i64` or timestamp.
    ///
    /// # Errors
    /// [`DecodeError`].
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    /// The next `u64`.
    ///
    /// # Errors
    /// [`DecodeError`].
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next `f64`.
    ///
    /// # Errors
    /// [`DecodeError`].
    #[inline]
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.array().map(f64::from_le_bytes)
    }

    /// The next `bool`.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none, or it is neither 0 nor 1.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(DecodeError { at: self.at - 1 }),
        }
    }

    /// The next text or JSON, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when it is cut, too long or not UTF-8.
    pub fn text(&mut self, limit: u32) -> Result<&'a str, DecodeError> {
        let at = self.at;
        std::str::from_utf8(self.bytes(limit)?).map_err(|_| DecodeError { at })
    }

    /// The next bytes, at most `limit`.
    ///
    /// # Errors
    /// [`DecodeError`] when they are cut or too many.
    #[inline]
    pub fn bytes(&mut self, limit: u32) -> Result<&'a [u8], DecodeError> {
        let at = self.at;
        let length = u32::from_le_bytes(self.array()?);
        if length > limit {
            return Err(DecodeError { at });
        }
        self.take(length as usize)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError`] at the first byte too many.
    #[inline]
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.at == self.payload.len() { Ok(()) } else { Err(DecodeError { at: self.at }) }
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(count).ok_or(DecodeError { at: self.at })?;
        let bytes = self.payload.get(self.at..end).ok_or(DecodeError { at: self.at })?;
        self.at = end;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| DecodeError { at })
    }
}
