//! The vector clock: a plausible clock of a fixed number of lanes.
//!
//! Each participant counts in one lane (its entry modulo the number of lanes) and takes the maximum with all
//! it has seen. Exact while no lane was shared or reused; with shared lanes it may call two concurrent
//! commits ordered, never two ordered ones concurrent. Each version's clock is strictly after its
//! predecessor's.
//!
//! **Sources**: F. J. Torres-Rojas and M. Ahamad, "Plausible clocks: constant size logical clocks for
//! distributed systems", Distributed Computing 12 (1999).

use std::cell::Cell;

/// How many lanes a [`Clock`] keeps in place.
const INLINE: usize = 8;

/// How two clocks stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockOrder {
    /// The first happened before the second.
    Before,
    /// The first happened after the second.
    After,
    /// They are the same.
    Equal,
    /// Neither knew of the other.
    Concurrent,
}

/// The clock of one commit: its first eight lanes in place; of wider clocks the rest stands in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    lanes: [u64; INLINE],
    count: u8,
}

impl Clock {
    /// The clock of a commit that was just counted into what was seen.
    #[inline]
    pub(crate) fn of(seen: &[Cell<u64>]) -> Self {
        let mut lanes = [0; INLINE];
        for (to, from) in lanes.iter_mut().zip(seen) {
            *to = from.get();
        }
        Self { lanes, count: seen.len().min(INLINE) as u8 }
    }

    /// The lanes, at most eight.
    #[must_use]
    pub fn lanes(&self) -> &[u64] {
        self.lanes.get(..usize::from(self.count)).unwrap_or_default()
    }
}

/// Compares two clocks lane by lane; a missing lane is 0.
///
/// ```
/// use commonhold_core::clock::{ClockOrder, compare};
/// assert_eq!(compare(&[1, 2], &[1, 3]), ClockOrder::Before);
/// assert_eq!(compare(&[2, 2], &[1, 3]), ClockOrder::Concurrent);
/// ```
#[must_use]
pub fn compare(a: &[u64], b: &[u64]) -> ClockOrder {
    let lane = |clock: &[u64], i: usize| clock.get(i).copied().unwrap_or(0);
    let pairs = (0..a.len().max(b.len())).map(|i| (lane(a, i), lane(b, i)));
    let (less, more) = pairs.fold((false, false), |(l, m), (x, y)| (l || x < y, m || x > y));
    match (less, more) {
        (false, false) => ClockOrder::Equal,
        (true, false) => ClockOrder::Before,
        (false, true) => ClockOrder::After,
        (true, true) => ClockOrder::Concurrent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order() {
        assert_eq!(compare(&[], &[]), ClockOrder::Equal);
        assert_eq!(compare(&[1], &[1, 0]), ClockOrder::Equal);
        assert_eq!(compare(&[0, 1], &[0]), ClockOrder::After);
        let seen: Vec<Cell<u64>> = (0..3).map(Cell::new).collect();
        let clock = Clock::of(&seen);
        assert_eq!(clock.lanes(), [0, 1, 2]);
        assert_eq!(compare(&[0, 0, 2], clock.lanes()), ClockOrder::Before);
    }
}
