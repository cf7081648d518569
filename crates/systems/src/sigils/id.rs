//! Ids of sigils: the state of the payload, and a number that no other sigil ever has.

use std::fmt::{self, Write};
use std::str::FromStr;

use commonhold_runtime::core::hash::fnv1a_64;
use serde::{Serialize, Serializer};

use super::error::SigilError;

/// The most bytes of an id as text.
pub(super) const ID_BYTES: usize = 33;

/// A sigil's id. As text: the state in sixteen hexadecimal digits, a hyphen, the number in hexadecimal digits without
/// leading zeros, such as `85944171f73967e8-1f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SigilId {
    /// FNV-1a 64 of the canonical payload.
    pub state: u64,
    /// What no other sigil of the segment and its store has; above 0.
    pub number: u64,
}

/// Text on the stack: keys are made for each operation.
pub(super) struct IdText {
    bytes: [u8; ID_BYTES],
    length: usize,
}

impl IdText {
    fn new(text: fmt::Arguments<'_>) -> Self {
        let mut new = Self { bytes: [0; ID_BYTES], length: 0 };
        // What is written is never longer.
        let _ = new.write_fmt(text);
        new
    }

    pub(super) fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.length).map(std::str::from_utf8);
        text.and_then(Result::ok).unwrap_or_default()
    }
}

impl Write for IdText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// The key of a state in the table of states.
pub(super) fn state_key(state: u64) -> IdText {
    IdText::new(format_args!("{state:016x}"))
}

impl SigilId {
    pub(super) fn of(payload: &str, number: u64) -> Self {
        Self { state: fnv1a_64(payload.as_bytes()), number }
    }

    pub(super) fn key(self) -> IdText {
        IdText::new(format_args!("{self}"))
    }
}

impl fmt::Display for SigilId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.state, self.number)
    }
}

impl FromStr for SigilId {
    type Err = SigilError;

    fn from_str(text: &str) -> Result<Self, SigilError> {
        let parse = || {
            let (state, number) = text.split_once('-')?;
            let state = u64::from_str_radix(state, 16).ok()?;
            let number = u64::from_str_radix(number, 16).ok().filter(|number| *number > 0)?;
            // One text for each id: no capitals, signs or zeros too many.
            Some(Self { state, number }).filter(|id| id.key().as_str() == text)
        };
        parse().ok_or_else(|| SigilError::bad_id(text))
    }
}

impl Serialize for SigilId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.key().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_nothing_else_is_one() {
        let ids = [(0, 1), (1, 0x1f), (0x8594_4171_f739_67e8, 7), (u64::MAX, u64::MAX)];
        for (state, number) in ids {
            let id = SigilId { state, number };
            assert_eq!(id.to_string().parse::<SigilId>().unwrap(), id);
            assert_eq!(id.key().as_str(), id.to_string());
        }
        assert_eq!(SigilId::of("foobar", 31).to_string(), "85944171f73967e8-1f");
        assert_eq!(state_key(0x2a).as_str(), "000000000000002a");
        for wrong in [
            "",
            "-",
            "85944171f73967e8",
            "85944171f73967e8-",
            "85944171f73967e8-0",
            "85944171f73967e8-01",
            "85944171F73967E8-1",
            "85944171f73967e8-+1",
            "+5944171f73967e8-1",
            "5944171f73967e8-1",
            "85944171f73967e8-10000000000000000",
            "85944171f73967e8-1\n",
            "ü",
        ] {
            let refused = wrong.parse::<SigilId>().unwrap_err().to_string();
            assert!(refused.contains("no sigil's id") && !refused.contains('\n'), "{refused}");
        }
    }
}
