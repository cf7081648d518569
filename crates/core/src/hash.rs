//! FNV-1a: the canonical 32- and 64-bit hashes, and the state hash `fnv1a64x4` built on them.
//!
//! FNV-1a finds accidents, not malice: whoever can write the memory can write a matching hash.
//! It also spreads its last bytes little (`docs/store-format.md` has the measured figures), so
//! nothing here decides a compare-exchange; the version does.
//!
//! **Recipe of the state hash** (`docs/store-format.md` repeats it, `scripts/verify_history.py`
//! recomputes it):
//! 1. `prefix` = FNV-1a 64 over the table's name, a zero byte, the key, a zero byte;
//! 2. `h` = FNV-1a 64 continued from `prefix` over the version, 8 bytes little endian;
//! 3. four lanes, each FNV-1a 64 from the offset basis; lane `j` takes payload bytes `j`, `j+4`, …;
//! 4. for each lane in order: `h = (h ^ lane) * prime`.
//!
//! Four lanes because one FNV-1a chain is bound by the latency of its multiplication (1.3 ns a
//! byte); four independent chains keep the multiplier busy (0.4 ns a byte).
//!
//! **Sources**: G. Fowler, L. C. Noll, K.-P. Vo, D. Eastlake, "The FNV Non-Cryptographic Hash
//! Algorithm" (constants and test vectors).

use std::hash::Hasher;

/// The offset basis of FNV-1a 64.
pub const BASIS_64: u64 = 0xcbf2_9ce4_8422_2325;
/// The prime of FNV-1a 64.
pub const PRIME_64: u64 = 0x0000_0100_0000_01b3;
/// The offset basis of FNV-1a 32.
pub const BASIS_32: u32 = 0x811c_9dc5;
/// The prime of FNV-1a 32.
pub const PRIME_32: u32 = 0x0100_0193;

/// FNV-1a 32 of `bytes`.
///
/// ```
/// assert_eq!(commonhold_core::hash::fnv1a_32(b"foobar"), 0xbf9c_f968);
/// ```
#[must_use]
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(BASIS_32, |h, b| (h ^ u32::from(*b)).wrapping_mul(PRIME_32))
}

/// FNV-1a 64 of `bytes`.
///
/// ```
/// assert_eq!(commonhold_core::hash::fnv1a_64(b"foobar"), 0x8594_4171_f739_67e8);
/// ```
#[must_use]
pub fn fnv1a_64(bytes: &[u8]) -> u64 {
    continue_64(BASIS_64, bytes)
}

/// FNV-1a 64 continued from `state` over `bytes`.
#[must_use]
pub fn continue_64(state: u64, bytes: &[u8]) -> u64 {
    let mut hasher = fnv::FnvHasher::with_key(state);
    hasher.write(bytes);
    hasher.finish()
}

/// The part of the state hash that belongs to a record whatever its state: table and key.
#[must_use]
pub fn record_prefix(table: &str, key: &str) -> u64 {
    let h = continue_64(BASIS_64, table.as_bytes());
    let h = continue_64(h, &[0]);
    let h = continue_64(h, key.as_bytes());
    continue_64(h, &[0])
}

/// The state hash `fnv1a64x4` of one version of a record.
#[must_use]
pub fn state_hash(prefix: u64, version: u64, payload: &[u8]) -> u64 {
    let mut h = continue_64(prefix, &version.to_le_bytes());
    for lane in lanes(payload) {
        h = (h ^ lane).wrapping_mul(PRIME_64);
    }
    h
}

/// The four interleaved FNV-1a 64 lanes over `payload`.
#[inline]
fn lanes(payload: &[u8]) -> [u64; 4] {
    let [mut a, mut b, mut c, mut d] = [BASIS_64; 4];
    let step = |h: u64, byte: u8| (h ^ u64::from(byte)).wrapping_mul(PRIME_64);
    let (quads, rest) = payload.as_chunks::<4>();
    for [p, q, r, s] in quads {
        a = step(a, *p);
        b = step(b, *q);
        c = step(c, *r);
        d = step(d, *s);
    }
    for (lane, byte) in [&mut a, &mut b, &mut c].into_iter().zip(rest) {
        *lane = step(*lane, *byte);
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published vectors of the FNV authors' test suite.
    const VECTORS: [(&[u8], u32, u64); 7] = [
        (b"", 0x811c_9dc5, 0xcbf2_9ce4_8422_2325),
        (b"a", 0xe40c_292c, 0xaf63_dc4c_8601_ec8c),
        (b"b", 0xe70c_2de5, 0xaf63_df4c_8601_f1a5),
        (b"fo", 0x6222_e842, 0x0898_5907_b541_d342),
        (b"foo", 0xa9f3_7ed7, 0xdcb2_7518_fed9_d577),
        (b"foobar", 0xbf9c_f968, 0x8594_4171_f739_67e8),
        (b"chongo was here!\n", 0xd499_30d5, 0x4681_0940_eff5_f915),
    ];

    #[test]
    fn published_vectors() {
        for (input, want_32, want_64) in VECTORS {
            assert_eq!(fnv1a_32(input), want_32, "32 bit of {input:?}");
            assert_eq!(fnv1a_64(input), want_64, "64 bit of {input:?}");
        }
    }

    #[test]
    fn state_hash_follows_its_recipe() {
        // The recipe once more, byte by byte, for every length around the lane count.
        for len in 0..40_u8 {
            let payload: Vec<u8> = (0..len).map(|i| i.wrapping_mul(37) ^ 11).collect();
            let mut lanes = [BASIS_64; 4];
            for (i, b) in payload.iter().enumerate() {
                lanes[i % 4] = (lanes[i % 4] ^ u64::from(*b)).wrapping_mul(PRIME_64);
            }
            let mut text = b"t\0k\0".to_vec();
            text.extend(9_u64.to_le_bytes());
            let mut h = fnv1a_64(&text);
            for lane in lanes {
                h = (h ^ lane).wrapping_mul(PRIME_64);
            }
            assert_eq!(state_hash(record_prefix("t", "k"), 9, &payload), h, "length {len}");
            assert_eq!(h, state_hash(record_prefix("t", "k"), 9, &payload), "deterministic");
        }
    }

    /// Mean number of the 64 bits that change when one input bit is flipped, by byte position.
    fn avalanche(len: usize) -> Vec<f64> {
        let base: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(97) ^ 0x5a).collect();
        let prefix = record_prefix("clients", "avalanche");
        let h = state_hash(prefix, 1, &base);
        let flips = |i: usize| {
            let changed: u32 = (0..8)
                .map(|bit| {
                    let mut other = base.clone();
                    other[i] ^= 1 << bit;
                    (state_hash(prefix, 1, &other) ^ h).count_ones()
                })
                .sum();
            f64::from(changed) / 8.0
        };
        (0..len).map(flips).collect()
    }

    #[test]
    fn avalanche_is_what_the_docs_state() {
        // docs/store-format.md: about 29 of 64 bits on average over 64 bytes, fewer at the end.
        let by_byte = avalanche(64);
        let mean = by_byte.iter().sum::<f64>() / 64.0;
        println!("avalanche of fnv1a64x4 over 64 bytes: mean {mean:.1} of 64 bits");
        println!("by byte, the last four: {:?}", &by_byte[60..]);
        assert!((24.0..=34.0).contains(&mean), "mean {mean}");
        assert!(by_byte.iter().all(|b| *b >= 5.0), "{by_byte:?}");
    }
}
