//! The bytes that the link of a history row covers, and the small encodings of `_hash`, `_link`, `_clock`.
//!
//! `link = SHA-256(previous link ‖ columns)`. A column is its length (4 bytes, little endian) and its bytes:
//! integers as decimal ASCII, floats as 8 bytes little endian, text as UTF-8, blobs as they are; NULL is the
//! length 0xFFFFFFFF and no bytes. `docs/store-format.md` states the same.

use sha2::{Digest, Sha256};

use crate::decode::Sql;

/// One SHA-256 of the chain.
pub(crate) type Link = [u8; 32];

/// The link before the first row.
pub(crate) const FIRST: Link = [0; 32];

/// The columns of one row as the link covers them.
#[derive(Debug, Default)]
pub(crate) struct Columns(Vec<u8>);

impl Columns {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first `len` bytes.
    pub(crate) fn prefix(&self, len: usize) -> &[u8] {
        self.0.get(..len).unwrap_or(&self.0)
    }

    pub(crate) fn null(&mut self) {
        self.0.extend_from_slice(&u32::MAX.to_le_bytes());
    }

    pub(crate) fn integer(&mut self, v: i64) {
        let mut digits = [0; 20];
        let digits = decimal(v.unsigned_abs(), &mut digits);
        if v < 0 {
            self.0.extend_from_slice(&(digits.len() as u32 + 1).to_le_bytes());
            self.0.push(b'-');
            self.0.extend_from_slice(digits);
        } else {
            self.bytes(digits);
        }
    }

    pub(crate) fn real(&mut self, v: f64) {
        self.bytes(&v.to_le_bytes());
    }

    /// Whatever the column holds.
    pub(crate) fn value(&mut self, v: Sql<'_>) {
        match v {
            Sql::Null => self.null(),
            Sql::Integer(v) => self.integer(v),
            Sql::Real(v) => self.real(v),
            Sql::Text(v) | Sql::Blob(v) => self.bytes(v),
        }
    }

    /// Text or a blob.
    pub(crate) fn bytes(&mut self, v: &[u8]) {
        self.0.extend_from_slice(&(v.len() as u32).to_le_bytes());
        self.0.extend_from_slice(v);
    }

    /// The link of a row with these columns after `previous`.
    pub(crate) fn link(&self, previous: &Link) -> Link {
        Sha256::new().chain_update(previous).chain_update(&self.0).finalize().into()
    }
}

/// The decimal digits of `v`, in the end of `buffer`.
fn decimal(mut v: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut start = buffer.len();
    for place in buffer.iter_mut().rev() {
        *place = b'0' + (v % 10) as u8;
        v /= 10;
        start -= 1;
        if v == 0 {
            break;
        }
    }
    buffer.get(start..).unwrap_or_default()
}

/// Appends `v` in decimal.
fn push_decimal(out: &mut String, v: u64) {
    let mut digits = [0; 20];
    out.extend(decimal(v, &mut digits).iter().map(|b| char::from(*b)));
}

/// Replaces `out` by the lanes of `clock`, joined by commas.
pub(crate) fn write_clock(out: &mut String, clock: &[u64]) {
    out.clear();
    for (i, lane) in clock.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_decimal(out, *lane);
    }
}

/// Replaces `out` by `bytes` in lower-case hexadecimal.
pub(crate) fn write_hex(out: &mut String, bytes: &[u8]) {
    out.clear();
    let digit = |n: u8| char::from(if n < 10 { b'0' + n } else { b'a' + n - 10 });
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
}

/// `bytes` in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    write_hex(&mut out, bytes);
    out
}

/// Reads exactly `N` bytes of lower-case hexadecimal.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut out = [0; N];
    for (to, [high, low]) in out.iter_mut().zip(pairs) {
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_rust_prints_them() {
        for v in [0, 1, -1, 9, 10, 1234567890, i64::MAX, i64::MIN] {
            let mut columns = Columns::default();
            columns.integer(v);
            let text = v.to_string();
            let mut want = (text.len() as u32).to_le_bytes().to_vec();
            want.extend(text.bytes());
            assert_eq!(columns.0, want);
        }
        let mut clock = String::new();
        write_clock(&mut clock, &[0, u64::MAX, 7]);
        assert_eq!(clock, "0,18446744073709551615,7");
        write_clock(&mut clock, &[]);
        assert_eq!(clock, "");
    }

    #[test]
    fn hex_is_lower_case_and_exact() {
        assert_eq!(hex(&[0, 0xab, 0x1f]), "00ab1f");
        assert_eq!(from_hex::<3>("00ab1f"), Some([0, 0xab, 0x1f]));
        for bad in ["00AB1f", "00ab1", "00ab1f0", "00ab1g", ""] {
            assert_eq!(from_hex::<3>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_link_follows_its_recipe() {
        let mut columns = Columns::default();
        columns.integer(-12);
        columns.null();
        columns.real(1.5);
        columns.bytes(b"k");
        let mut bytes = vec![7; 32];
        bytes.extend(b"\x03\0\0\0-12\xff\xff\xff\xff\x08\0\0\0\0\0\0\0\0\0\xf8\x3f\x01\0\0\0k");
        let want: Link = Sha256::digest(&bytes).into();
        assert_eq!(columns.link(&[7; 32]), want);
    }
}
