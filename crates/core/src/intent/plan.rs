//! The plan of a change: what is to become of each record, and its bytes in an intent.

use crate::space::Space;
use crate::table::RecordRef;

/// Bytes of a planned record before its key and payload.
const PLANNED_BYTES: usize = 29;

/// What is to become of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The table's position.
    pub table: usize,
    /// The record's key; each is in a plan once.
    pub key: String,
    /// The record, and the version that was looked at; none when there was none.
    pub seen: Option<(RecordRef, u64)>,
    /// Its next payload; none: it is deleted.
    pub next: Option<Vec<u8>>,
}

impl Planned {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (record, version) = self.seen.unzip();
        let payload = self.next.as_deref().unwrap_or_default();
        out.push(u8::from(record.is_some()) | u8::from(self.next.is_none()) << 1);
        out.extend((self.table as u16).to_le_bytes());
        out.extend((self.key.len() as u16).to_le_bytes());
        out.extend((payload.len() as u32).to_le_bytes());
        out.extend(record.map_or(0, |r| r.slot).to_le_bytes());
        out.extend(record.map_or(0, |r| r.generation).to_le_bytes());
        out.extend(version.unwrap_or(0).to_le_bytes());
        out.extend(self.key.as_bytes());
        out.extend(payload);
    }

    /// The first planned record of `bytes`, and the rest.
    pub(super) fn decode<'a>(space: &Space, bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (fixed, rest) = bytes.split_first_chunk::<PLANNED_BYTES>()?;
        let number = |at: usize, count: usize| {
            let part = fixed.get(at..at + count).unwrap_or_default();
            part.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let (flags, table) = (number(0, 1), number(1, 2) as usize);
        let (key, rest) = rest.split_at_checked(number(3, 2) as usize)?;
        let (payload, rest) = rest.split_at_checked(number(5, 4) as usize)?;
        let key = String::from_utf8(key.to_vec()).ok()?;
        let name = &space.catalogue().tables.get(table)?.name;
        let prefix = crate::hash::record_prefix(name, &key);
        let record = RecordRef { slot: number(9, 4) as u32, generation: number(13, 8), prefix };
        let seen = (flags & 1 == 1).then_some((record, number(21, 8)));
        let next = (flags & 2 == 0).then(|| payload.to_vec());
        Some((Self { table, key, seen, next }, rest))
    }
}
