//! One committed version of a record as it leaves memory: what the steward hands to the store and what
//! the store hands back when a segment is built from it.

use std::fmt;
use std::str::FromStr;

/// Who committed: a participant's identity, never used twice.
///
/// Packed as store epoch (20 bits), entry (12), entry generation (32); written `epoch-entry-generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WriterId(u64);

/// The first store epoch that no writer id can hold.
pub const EPOCH_LIMIT: u64 = 1 << 20;

impl WriterId {
    /// The writer of `epoch`, `entry` and `generation`; each is cut to its bits.
    #[must_use]
    pub fn new(epoch: u64, entry: u16, generation: u64) -> Self {
        let epoch = (epoch & (EPOCH_LIMIT - 1)) << 44;
        Self(epoch | u64::from(entry & 0xfff) << 32 | generation & 0xffff_ffff)
    }

    /// The store's epoch that it wrote in.
    #[must_use]
    pub fn epoch(self) -> u64 {
        self.0 >> 44
    }

    /// The writer in one word.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The writer from one word.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (epoch, entry, generation) = (self.0 >> 44, self.0 >> 32 & 0xfff, self.0 & 0xffff_ffff);
        write!(f, "{epoch}-{entry}-{generation}")
    }
}

impl FromStr for WriterId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-').map(|p| p.parse::<u64>());
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(epoch)), Some(Ok(entry)), Some(Ok(generation)))
                if epoch < EPOCH_LIMIT && entry < 0x1000 && generation <= 0xffff_ffff =>
            {
                Ok(Self::new(epoch, entry as u16, generation))
            }
            _ => Err(()),
        }
    }
}

/// One committed version of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The record's key.
    pub key: String,
    /// The payload in the canonical encoding; empty when deleted.
    pub payload: Vec<u8>,
    /// The version.
    pub version: u64,
    /// The state hash.
    pub hash: u64,
    /// The vector clock, one counter a lane.
    pub clock: Vec<u64>,
    /// Who committed.
    pub writer: WriterId,
    /// The writer's sequence in this table: 1, 2, 3 … in a history table, 0 elsewhere.
    pub sequence: u64,
    /// When, in microseconds since 1970-01-01 UTC (a coarse clock: some milliseconds).
    pub committed_at: i64,
    /// Whether this version is the record's deletion: the last one of this incarnation.
    pub deleted: bool,
}

/// A clock as the store writes it: its lanes joined by commas.
#[must_use]
pub fn clock_text(clock: &[u64]) -> String {
    clock.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// Reads a clock as the store writes it.
#[must_use]
pub fn parse_clock(text: &str) -> Option<Vec<u64>> {
    text.split(',').map(|lane| lane.parse().ok()).collect()
}
