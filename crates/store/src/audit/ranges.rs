//! Sets of numbers that are mostly runs: the sequences that a writer has in a history.

use std::collections::BTreeMap;

/// A set of numbers, as its runs: first → last.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    runs: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds `n`; false when it was there.
    pub(super) fn insert(&mut self, n: u64) -> bool {
        let before = self.runs.range_mut(..=n).next_back();
        let joins = match before {
            Some((_, last)) if *last >= n => return false,
            Some((first, last)) if last.checked_add(1) == Some(n) => {
                *last = n;
                Some(*first)
            }
            _ => None,
        };
        let first = joins.unwrap_or(n);
        let after = n.checked_add(1).and_then(|next| self.runs.remove(&next));
        if joins.is_none() || after.is_some() {
            self.runs.insert(first, after.unwrap_or(n));
        }
        true
    }

    /// The gaps from 1 up to the largest number, as (first, last).
    pub(super) fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut expected = 1;
        self.runs.iter().filter_map(move |(first, last)| {
            let gap = (*first > expected).then(|| (expected, first - 1));
            expected = last.saturating_add(1);
            gap
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_and_gaps_show() {
        let mut set = Ranges::default();
        for n in [5, 2, 1, 7, 6, 10] {
            assert!(set.insert(n), "{n} is new");
            assert!(!set.insert(n), "{n} is there");
        }
        assert_eq!(set.gaps().collect::<Vec<_>>(), [(3, 4), (8, 9)]);
        assert!(set.insert(4) && set.insert(3));
        assert_eq!(set.gaps().collect::<Vec<_>>(), [(8, 9)]);
        assert_eq!(set.runs.len(), 2, "1 to 7 is one run");
        assert!(set.insert(u64::MAX) && !set.insert(u64::MAX));
    }

    #[test]
    fn any_order_gives_the_same_set() {
        // Multiplication by an odd number permutes the residues of 64.
        for factor in (1..64_u64).step_by(2) {
            let mut set = Ranges::default();
            assert!((0..64).all(|i| set.insert(1 + i * factor % 64)));
            assert_eq!(set.runs.len(), 1);
            assert_eq!(set.gaps().count(), 0);
        }
    }
}
