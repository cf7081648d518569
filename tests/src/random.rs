//! Seeded randomness (SplitMix64, Steele and others 2014).

use std::time::{Duration, Instant};

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A new seed, or that of `COMMONHOLD_TEST_SEED`; printed, so that a failed test shows it.
    #[must_use]
    pub fn from_environment() -> Self {
        let given = std::env::var("COMMONHOLD_TEST_SEED").ok().and_then(|s| s.parse().ok());
        let fresh = || u64::from_le_bytes(*commonhold_os::random::uuid().first_chunk().unwrap());
        let seed = given.unwrap_or_else(fresh);
        println!("COMMONHOLD_TEST_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Works for a random time below `limit`, so that what comes next hits others anywhere.
    pub fn dawdle(&mut self, limit: Duration) {
        let end = Instant::now() + Duration::from_nanos(self.below(limit.as_nanos() as u64));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
}
