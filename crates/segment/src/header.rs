//! The header: who made the segment, how it is laid out and which store it belongs to. Written once before
//! the segment gets its name, never again; its last word is an FNV-1a over everything before it and the
//! catalogue.
//!
//! ```text
//! word  0      magic "COMMONHD"
//!       1      format version, byte-order mark (32 bits each)
//!       2      words of the whole segment
//!       3  4   segment uuid            5  6   boot id
//!       7      created at, microseconds since 1970
//!       8      participants, lanes     9      tables, bytes of the catalogue
//!      10 11   store id               12      store epoch
//!      13..17  creator: pid, start, pidfd inode, pid namespace
//!      17      bytes of the store's URL
//!      18      flags: 1 = ephemeral
//!      19      names, words of a share   20      cells of intents
//!      32..224 tables, 3 words each: slots, cells · key, payload bytes · buckets, index cells
//!     256..384 the store's URL
//!     511      FNV-1a 64 of words 0..511 and of the catalogue
//! ```

use std::hash::Hasher;

use crate::layout::{Geometry, HEADER_WORDS, NamedGeometry, TableGeometry};

const MAGIC: u64 = u64::from_le_bytes(*b"COMMONHD");
/// The format this build reads and writes.
pub const FORMAT_VERSION: u32 = 4;
const ORDER_MARK: u32 = 0x0102_0304;
const TABLES: usize = 32;
const TABLES_MAX: usize = 64;
const URL: usize = 256;
/// The longest URL of a store, in bytes.
pub const URL_BYTES_MAX: usize = 1024;
const CHECKSUM: usize = HEADER_WORDS - 1;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The segment's own id; another one for every segment ever made.
    pub uuid: [u8; 16],
    /// The boot of the machine during which it was made.
    pub boot_id: [u8; 16],
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
    /// The sizes.
    pub geometry: Geometry,
    /// The store's own id.
    pub store_id: [u8; 16],
    /// How many segments the store has had, this one included.
    pub store_epoch: u64,
    /// The store's URL.
    pub store_url: String,
    /// Who made it: pid, start, pidfd inode, pid namespace.
    pub creator: [u64; 4],
    /// Whether it goes with its creator.
    pub ephemeral: bool,
}

/// Why a file is not a segment that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a segment at all.
    #[error("it is not a Commonhold segment; give another --segment")]
    Foreign,
    /// Shorter than it says.
    #[error(
        "it is truncated: {found} bytes of {expected}; remove it, the store has what was stored"
    )]
    Truncated {
        /// Bytes that are there.
        found: u64,
        /// Bytes that should be.
        expected: u64,
    },
    /// Another format.
    #[error(
        "its format is {found}, this build reads {FORMAT_VERSION}; drain and destroy it with the build that made it"
    )]
    Version {
        /// The format found.
        found: u32,
    },
    /// Made on a machine of the other byte order.
    #[error("it was made on a machine of the other byte order; remove it")]
    ByteOrder,
    /// The checksum or the sizes do not fit.
    #[error("its header is damaged ({what}); remove it, the store has what was stored")]
    Damaged {
        /// What does not fit.
        what: &'static str,
    },
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn unpair(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

fn id_words(id: [u8; 16]) -> [u64; 2] {
    let all = u128::from_le_bytes(id);
    [all as u64, (all >> 64) as u64]
}

fn id_bytes(words: &[u64; HEADER_WORDS], at: usize) -> [u8; 16] {
    let [low, high] = [at, at + 1].map(|i| u128::from(words.get(i).copied().unwrap_or(0)));
    (low | high << 64).to_le_bytes()
}

fn checksum(words: &[u64; HEADER_WORDS], catalogue: &[u8]) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    for word in words.iter().take(CHECKSUM) {
        hasher.write(&word.to_le_bytes());
    }
    hasher.write(catalogue);
    hasher.finish()
}

impl Header {
    /// The header's words, for the catalogue that will stand behind it.
    ///
    /// # Errors
    /// [`HeaderError::Damaged`] when there are too many tables or the URL is too long.
    pub fn encode(
        &self,
        total_words: usize,
        catalogue: &[u8],
    ) -> Result<[u64; HEADER_WORDS], HeaderError> {
        let tables = &self.geometry.tables;
        if tables.len() > TABLES_MAX {
            return Err(HeaderError::Damaged { what: "more than 64 tables" });
        }
        if self.store_url.len() > URL_BYTES_MAX {
            return Err(HeaderError::Damaged { what: "the store's URL is longer than 1024 bytes" });
        }
        let mut words = [0; HEADER_WORDS];
        let [uuid, boot, store] = [self.uuid, self.boot_id, self.store_id].map(id_words);
        let [pid, start, inode, namespace] = self.creator;
        let fixed = [
            MAGIC,
            pair(FORMAT_VERSION, ORDER_MARK),
            total_words as u64,
            uuid[0],
            uuid[1],
            boot[0],
            boot[1],
            self.created_at.cast_unsigned(),
            pair(self.geometry.participants, self.geometry.lanes),
            pair(tables.len() as u32, self.geometry.catalogue_bytes),
            store[0],
            store[1],
            self.store_epoch,
            pid,
            start,
            inode,
            namespace,
            self.store_url.len() as u64,
            u64::from(self.ephemeral),
            pair(self.geometry.named.names, self.geometry.named.share_words),
            self.geometry.named.intents.into(),
        ];
        put(&mut words, 0, fixed);
        let geometries = tables.iter().flat_map(|t| {
            [(t.slots, t.cells), (t.key_bytes, t.payload_bytes), (t.buckets, t.index_cells)]
        });
        put(&mut words, TABLES, geometries.map(|(low, high)| pair(low, high)));
        let url = self
            .store_url
            .as_bytes()
            .chunks(8)
            .map(|chunk| chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        put(&mut words, URL, url);
        let sum = checksum(&words, catalogue);
        put(&mut words, CHECKSUM, [sum]);
        Ok(words)
    }

    /// Reads the first words of a file of `file_bytes`; `catalogue` yields so many bytes behind the header.
    ///
    /// # Errors
    /// [`HeaderError`] saying what is wrong with it.
    pub fn decode(
        words: &[u64; HEADER_WORDS],
        file_bytes: u64,
        catalogue: impl FnOnce(u32) -> Option<Vec<u8>>,
    ) -> Result<(Self, Vec<u8>), HeaderError> {
        let at = |i: usize| words.get(i).copied().unwrap_or(0);
        let damaged = |what| HeaderError::Damaged { what };
        if at(0) == MAGIC.swap_bytes() {
            return Err(HeaderError::ByteOrder);
        }
        if at(0) != MAGIC {
            return Err(HeaderError::Foreign);
        }
        match unpair(at(1)) {
            (FORMAT_VERSION, ORDER_MARK) => {}
            (found, ORDER_MARK) => return Err(HeaderError::Version { found }),
            _ => return Err(HeaderError::ByteOrder),
        }
        let expected = at(2).saturating_mul(8);
        if file_bytes < expected {
            return Err(HeaderError::Truncated { found: file_bytes, expected });
        }
        let (participants, lanes) = unpair(at(8));
        let (table_count, catalogue_bytes) = unpair(at(9));
        let catalogue = catalogue(catalogue_bytes).ok_or(damaged("the catalogue's length"))?;
        if at(CHECKSUM) != checksum(words, &catalogue) {
            return Err(damaged("checksum"));
        }
        let table_words = words.get(TABLES..).unwrap_or_default().as_chunks::<3>().0;
        let tables = table_words.get(..table_count as usize).ok_or(damaged("too many tables"))?;
        let (names, share_words) = unpair(at(19));
        let (intents, _) = unpair(at(20));
        let geometry = Geometry {
            participants,
            lanes,
            catalogue_bytes,
            named: NamedGeometry { names, share_words, intents },
            tables: tables.iter().map(table).collect(),
        };
        let url_bytes: Vec<u8> = words
            .get(URL..CHECKSUM)
            .unwrap_or_default()
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        let url = usize::try_from(at(17)).ok().and_then(|n| url_bytes.get(..n.min(URL_BYTES_MAX)));
        let store_url = url.and_then(|u| String::from_utf8(u.to_vec()).ok());
        let header = Self {
            uuid: id_bytes(words, 3),
            boot_id: id_bytes(words, 5),
            created_at: at(7).cast_signed(),
            geometry,
            store_id: id_bytes(words, 10),
            store_epoch: at(12),
            store_url: store_url.ok_or(damaged("the store's URL"))?,
            creator: [at(13), at(14), at(15), at(16)],
            ephemeral: at(18) & 1 == 1,
        };
        Ok((header, catalogue))
    }
}

fn put(words: &mut [u64; HEADER_WORDS], at: usize, from: impl IntoIterator<Item = u64>) {
    for (to, from) in words.iter_mut().skip(at).zip(from) {
        *to = from;
    }
}

fn table(words: &[u64; 3]) -> TableGeometry {
    let [(slots, cells), (key_bytes, payload_bytes), (buckets, index_cells)] = words.map(unpair);
    TableGeometry { slots, cells, key_bytes, payload_bytes, buckets, index_cells }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn example() -> (Header, Vec<u8>) {
        let table = TableGeometry {
            slots: 1,
            cells: 2,
            key_bytes: 3,
            payload_bytes: 4,
            buckets: 5,
            index_cells: 6,
        };
        let named = NamedGeometry { names: 10, share_words: 11, intents: 12 };
        let geometry = Geometry {
            participants: 9,
            lanes: 8,
            catalogue_bytes: 5,
            named,
            tables: vec![table; 3],
        };
        let header = Header {
            uuid: [1; 16],
            boot_id: [2; 16],
            created_at: -3,
            geometry,
            store_id: [4; 16],
            store_epoch: 5,
            store_url: "sqlite:/somewhere/ä.db".to_owned(),
            creator: [6, 7, 8, 9],
            ephemeral: true,
        };
        (header, b"hello".to_vec())
    }

    #[test]
    fn what_is_written_is_read() {
        let (header, catalogue) = example();
        let words = header.encode(1024, &catalogue).expect("fits");
        let read =
            Header::decode(&words, 8192, |n| catalogue.get(..n as usize).map(<[u8]>::to_vec));
        assert_eq!(read, Ok((header, catalogue)));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (header, catalogue) = example();
        let words = header.encode(1024, &catalogue).expect("fits");
        for bit in 0..HEADER_WORDS * 64 {
            let mut other = words;
            other[bit / 64] ^= 1 << (bit % 64);
            let read =
                Header::decode(&other, 8192, |n| catalogue.get(..n as usize).map(<[u8]>::to_vec));
            assert!(read.is_err(), "bit {bit}");
        }
        let other = b"hellp".to_vec();
        assert!(Header::decode(&words, 8192, |_| Some(other)).is_err());
        let short = Header::decode(&words, 8191, |_| None);
        assert_eq!(short, Err(HeaderError::Truncated { found: 8191, expected: 8192 }));
    }
}
