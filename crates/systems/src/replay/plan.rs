//! Who is killed, and when: decided by the seed alone.

/// The next victim of a share: told from this line on, not beyond that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Victim {
    /// It tells, and is killed, once so many lines of the share are done.
    pub(crate) mark: u64,
    /// It does not go beyond so many, so that it and those after it each have one left.
    pub(crate) hold: u64,
}

/// The kills of one share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Kills {
    /// So many lines of the share are done at each, ascending.
    marks: Vec<u64>,
    /// So many were.
    done: usize,
    length: u64,
}

impl Kills {
    /// The next victim, if it starts at the line `position` of the share.
    pub(crate) fn next(&self, position: u64) -> Option<Victim> {
        let left = self.marks.len().checked_sub(self.done)?;
        // Whoever worked before may have gone on beyond this mark; one commit must be the victim's own.
        let mark = (*self.marks.get(self.done)?).max(position + 1);
        let hold = self.length.saturating_sub(left as u64);
        (mark <= hold).then_some(Victim { mark, hold })
    }

    /// A kill was done.
    pub(crate) fn count(&mut self) {
        self.done += 1;
    }
}

/// Deals `kills` to shares of these lengths: each at another line of its share, with at least one line done and one
/// left. Fewer when there are not so many lines.
pub(crate) fn deal_kills(lengths: &[u64], kills: u32, seed: u64) -> Vec<Kills> {
    let mut random = SplitMix(seed);
    let mut shares: Vec<Kills> =
        lengths.iter().map(|&length| Kills { length, ..Kills::default() }).collect();
    for _ in 0..kills {
        let open = |share: &&mut Kills| share.marks.len() as u64 + 1 < share.length;
        let count = shares.iter_mut().filter(open).count() as u64;
        let chosen =
            random.below(count).and_then(|n| shares.iter_mut().filter(open).nth(n as usize));
        let Some(share) = chosen else { break };
        let free = share.length - 1 - share.marks.len() as u64;
        // The n-th line that is not taken yet.
        let mut mark = 1 + random.below(free).unwrap_or(0);
        for taken in &share.marks {
            mark += u64::from(mark >= *taken);
        }
        let at = share.marks.partition_point(|taken| *taken < mark);
        share.marks.insert(at, mark);
    }
    shares
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough to choose by, and the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, or none when there is none.
    fn below(&mut self, limit: u64) -> Option<u64> {
        // The bias is below limit / 2^64.
        self.next().checked_rem(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_victim_can_do_one_line_and_leave_one() {
        for seed in 0..200 {
            let lengths = [0, 1, 2, 3, 20, 7];
            let capacity = 1 + 2 + 19 + 6;
            for asked in [0, 1, 5, capacity, capacity + 9] {
                let mut shares = deal_kills(&lengths, asked, seed);
                let dealt: usize = shares.iter().map(|s| s.marks.len()).sum();
                assert_eq!(dealt as u32, asked.min(capacity), "seed {seed}");
                for (share, length) in shares.iter_mut().zip(lengths) {
                    let all = share.marks.len();
                    let mut position = 0;
                    while let Some(victim) = share.next(position) {
                        assert!(position < victim.mark && victim.mark <= victim.hold);
                        assert!(victim.hold < length);
                        position = victim.hold; // the furthest it can come
                        share.count();
                    }
                    assert_eq!(share.done, all, "each kill had its victim");
                }
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let deal = |seed| deal_kills(&[1000; 8], 20, seed);
        assert_eq!(deal(1), deal(1));
        assert_ne!(deal(1), deal(2));
    }
}
