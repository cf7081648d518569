//! Hostile and broken segments: words of a live segment are changed, its file is cut short. Whatever the words are, an
//! operation gives an error or a correct answer, and what is not damaged works on.

pub(crate) mod flips;
mod heal;
mod map;
mod ops;
mod scene;
pub(crate) mod truncate;
mod worker;

/// Seeded randomness (SplitMix64, Steele and others 2014).
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    /// The stream of injection `number` under `seed`.
    fn of(seed: u64, number: u64) -> Self {
        let mut random = Self(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}
