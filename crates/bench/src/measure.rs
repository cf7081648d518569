//! Timing: several ways to do one thing, measured in turns, so that what else the machine does hits all alike.

use std::time::Instant;

use crate::Outcome;
use crate::watch::{self, Watch};

/// One way's figures over all turns, in nanoseconds an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) best: f64,
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (best {})", crate::report::time(self.median), crate::report::time(self.best))
    }
}

impl Figure {
    /// The figure of `samples`; zero of none.
    pub(crate) fn of(samples: &mut [f64]) -> Self {
        samples.sort_by(f64::total_cmp);
        let median = samples.get(samples.len() / 2).copied().unwrap_or_default();
        Self { median, best: samples.first().copied().unwrap_or_default() }
    }
}

/// One way: does a batch and gives the nanoseconds of one operation in it.
pub(crate) type Way<'a> = Box<dyn FnMut() -> Outcome<f64> + 'a>;

/// Runs the ways in turns, after one turn to warm up.
pub(crate) fn in_turns<const N: usize>(turns: u32, mut ways: [Way<'_>; N]) -> Outcome<[Figure; N]> {
    let watch = Watch::start(&[])?;
    let mut samples = [const { Vec::new() }; N];
    for turn in 0..=turns {
        for (way, samples) in ways.iter_mut().zip(&mut samples) {
            let nanos = way()?;
            if turn > 0 {
                samples.push(nanos);
            }
        }
    }
    watch::note(watch.share(&[])?);
    Ok(samples.map(|mut samples| Figure::of(&mut samples)))
}

/// The nanoseconds that one of `count` operations took.
pub(crate) fn each(count: u64, mut operation: impl FnMut(u64) -> Outcome) -> Outcome<f64> {
    let start = Instant::now();
    for number in 0..count {
        operation(number)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / count as f64)
}

/// Random numbers (xorshift64, Marsaglia 2003).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `limit`.
    #[inline]
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * limit as u128) >> 64) as usize
    }
}
