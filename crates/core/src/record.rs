//! Records as Rust types: the [`Record`] trait, which `#[derive(Record)]` implements, and the bounded
//! field types [`Text`], [`Bytes`], [`Json`] and [`Timestamp`], which live on the stack.

use crate::schema::{DecodeError, Decoder, Encoder, Field, FieldType};
use crate::value::{ValueError, check_json, check_length, check_text};

/// A field as a derive knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticField {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub ty: FieldType,
}

impl From<StaticField> for Field {
    fn from(field: StaticField) -> Self {
        Self { name: field.name.to_owned(), ty: field.ty }
    }
}

/// A value that a named field refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {error}")]
pub struct FieldError {
    /// The field.
    pub field: String,
    /// Why.
    pub error: ValueError,
}

/// A Rust type that is a record of a table. Derive it; the fields of the struct are the fields of the table.
pub trait Record: Sized {
    /// The fields, in order.
    const FIELDS: &'static [StaticField];

    /// Appends the record in the canonical encoding.
    ///
    /// # Errors
    /// [`FieldError`] naming the field whose value is refused.
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), FieldError>;

    /// Reads a record in the canonical encoding.
    ///
    /// # Errors
    /// [`DecodeError`] when the payload is damaged.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// A Rust type that is a field of a record.
pub trait FieldValue: Sized {
    /// The field's type.
    const TYPE: FieldType;

    /// Appends the value.
    ///
    /// # Errors
    /// [`ValueError`] when it may not be stored.
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), ValueError>;

    /// Reads the value.
    ///
    /// # Errors
    /// [`DecodeError`] when the payload is damaged.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// Microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

macro_rules! plain {
    ($rust:ty, $ty:expr, |$v:ident, $out:ident| $encode:expr, |$in:ident| $decode:expr) => {
        impl FieldValue for $rust {
            const TYPE: FieldType = $ty;
            #[inline]
            fn encode(&self, $out: &mut Encoder<'_>) -> Result<(), ValueError> {
                let $v = self;
                $encode
            }
            #[inline]
            fn decode($in: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                $decode
            }
        }
    };
}
plain!(
    i64,
    FieldType::I64,
    |v, out| {
        out.i64(*v);
        Ok(())
    },
    |input| input.i64()
);
plain!(u64, FieldType::U64, |v, out| out.u64(*v), |input| input.u64());
plain!(f64, FieldType::F64, |v, out| out.f64(*v), |input| input.f64());
plain!(
    bool,
    FieldType::Bool,
    |v, out| {
        out.bool(*v);
        Ok(())
    },
    |input| input.bool()
);
plain!(
    Timestamp,
    FieldType::Timestamp,
    |v, out| {
        out.i64(v.0);
        Ok(())
    },
    |input| input.i64().map(Timestamp)
);

/// At most `N` bytes in place, without an allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Inline<const N: usize> {
    length: u32,
    bytes: [u8; N],
}

impl<const N: usize> Inline<N> {
    const EMPTY: Self = Self { length: 0, bytes: [0; N] };
    const LIMIT: u32 = {
        assert!(N > 0 && N <= crate::schema::PAYLOAD_BYTES_MAX, "a field has 1 to 65536 bytes");
        N as u32
    };

    #[inline]
    fn new(from: &[u8]) -> Result<Self, ValueError> {
        check_length(from.len(), Self::LIMIT)?;
        let mut inline = Self::EMPTY;
        inline.length = from.len() as u32;
        if let Some(to) = inline.bytes.get_mut(..from.len()) {
            to.copy_from_slice(from);
        }
        Ok(inline)
    }

    #[inline]
    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length as usize).unwrap_or_default()
    }

    /// The bytes as text; they were checked when they came in.
    fn text(&self) -> &str {
        std::str::from_utf8(self.get()).unwrap_or_default()
    }
}

/// UTF-8 text of at most `N` bytes, without NUL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const N: usize>(Inline<N>);

/// At most `N` raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes<const N: usize>(Inline<N>);

/// JSON text of at most `N` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Json<const N: usize>(Inline<N>);

impl<const N: usize> Text<N> {
    /// `text`, copied.
    ///
    /// # Errors
    /// [`ValueError::TooLong`], [`ValueError::Nul`].
    pub fn new(text: &str) -> Result<Self, ValueError> {
        check_text(text, Inline::<N>::LIMIT)?;
        Inline::new(text.as_bytes()).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.text()
    }
}

impl<const N: usize> Bytes<N> {
    /// `bytes`, copied.
    ///
    /// # Errors
    /// [`ValueError::TooLong`].
    pub fn new(bytes: &[u8]) -> Result<Self, ValueError> {
        Inline::new(bytes).map(Self)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.get()
    }
}

impl<const N: usize> Json<N> {
    /// `text`, copied.
    ///
    /// # Errors
    /// [`ValueError::TooLong`], [`ValueError::Nul`], [`ValueError::NotJson`].
    pub fn new(text: &str) -> Result<Self, ValueError> {
        check_json(text, Inline::<N>::LIMIT)?;
        Inline::new(text.as_bytes()).map(Self)
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if self.0.length == 0 { "null" } else { self.0.text() }
    }
}

macro_rules! inline_field {
    ($name:ident, $variant:ident, $show:ident, |$v:ident, $out:ident| $encode:expr, |$in:ident| $decode:expr) => {
        impl<const N: usize> Default for $name<N> {
            fn default() -> Self {
                Self(Inline::EMPTY)
            }
        }

        impl<const N: usize> std::fmt::Debug for $name<N> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", self.$show())
            }
        }

        impl<const N: usize> FieldValue for $name<N> {
            const TYPE: FieldType = FieldType::$variant(Inline::<N>::LIMIT);
            #[inline]
            fn encode(&self, $out: &mut Encoder<'_>) -> Result<(), ValueError> {
                let $v = self;
                $encode
            }
            #[inline]
            fn decode($in: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                $decode.map(Self).map_err(|_| DecodeError { at: 0 })
            }
        }
    };
}
inline_field!(Text, Text, as_str, |v, out| out.text(v.as_str(), Inline::<N>::LIMIT), |input| {
    Inline::new(input.text(Inline::<N>::LIMIT)?.as_bytes())
});
inline_field!(
    Bytes,
    Bytes,
    as_bytes,
    |v, out| out.bytes(v.as_bytes(), Inline::<N>::LIMIT),
    |input| Inline::new(input.bytes(Inline::<N>::LIMIT)?)
);
inline_field!(Json, Json, as_str, |v, out| out.json(v.as_str(), Inline::<N>::LIMIT), |input| {
    Inline::new(input.text(Inline::<N>::LIMIT)?.as_bytes())
});

impl<const N: usize> std::ops::Deref for Text<N> {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> std::ops::Deref for Bytes<N> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<const N: usize> std::fmt::Display for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> TryFrom<&str> for Text<N> {
    type Error = ValueError;
    fn try_from(text: &str) -> Result<Self, ValueError> {
        Self::new(text)
    }
}

impl<const N: usize> PartialEq<&str> for Text<N> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}
