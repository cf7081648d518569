//! Harmonic patterns: groups of oscillators whose frequencies stand in a ratio of small whole numbers.
//!
//! Two frequencies `f ≥ g > 0` are in the ratio p:q (coprime, `8 ≥ p ≥ q`) when `f / g` is within a relative
//! tolerance of `p / q` and no other such ratio is nearer (geometrically). The candidates are the 22 fractions of
//! the Farey sequence of order 8, upside down. For each ratio the oscillators that are linked by it, directly or
//! over others, are one pattern: for 2:1 the octaves 110, 220, 440 Hz are one.
//!
//! **Strength**, 0 to 1: each slower oscillator that has a partner has a closest one, `d` being how far, relative
//! to the tolerance, the ratio is off; the pattern's strength is the mean of `(1 − d) × √(C_slow C_fast)`, `C` the
//! coherences.
//!
//! The work is `22 n log n`: partners are found by search in the sorted frequencies, never by trying all pairs.
//!
//! # Sources
//! - R. L. Graham, D. E. Knuth, O. Patashnik, *Concrete Mathematics*, 2nd ed., section 4.5: Farey sequences
//!   and the Stern–Brocot tree, whose neighbours `p/q`, `p'/q'` have `p q' − p' q = ±1`.
//! - H. Helmholtz, *Die Lehre von den Tonempfindungen* (1863): consonance of small ratios.

use super::PhysicsError;

/// The largest number of a ratio.
pub const RATIO_TERM_MAX: u32 = 8;
/// The largest tolerance; above 0.0103 (half of 8:7 against 7:6) neighbouring ratios begin to meet, and the nearer
/// one has the pair.
pub const TOLERANCE_MAX: f64 = 0.05;

/// A ratio of small whole numbers, p ≥ q, coprime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ratio {
    /// The larger.
    pub p: u32,
    /// The smaller.
    pub q: u32,
}

/// What of an oscillator makes patterns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tone {
    /// In Hz; 0 is in no pattern.
    pub frequency_hz: f64,
    /// 0 to 1.
    pub coherence: f64,
}

/// Oscillators in one ratio.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// The ratio.
    pub ratio: Ratio,
    /// How close and coherent, 0 to 1.
    pub strength: f64,
    /// The oscillators by position, ascending; at least two.
    pub members: Vec<usize>,
}

impl Ratio {
    /// p / q.
    #[must_use]
    pub fn value(self) -> f64 {
        f64::from(self.p) / f64::from(self.q)
    }

    /// All ratios, ascending from 1:1 to 8:1.
    #[must_use]
    pub fn all() -> Vec<Self> {
        // The Farey sequence of order n: of neighbours a/b, c/d the next is (k c − a)/(k d − b), k = ⌊(n + b)/d⌋.
        let (mut a, mut b, mut c, mut d) = (0, 1, 1, RATIO_TERM_MAX);
        let mut ratios = vec![Self { p: d, q: c }];
        while c < d {
            let k = (RATIO_TERM_MAX + b) / d;
            (a, b, c, d) = (c, d, k * c - a, k * d - b);
            ratios.push(Self { p: d, q: c });
        }
        ratios.reverse();
        ratios
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.p, self.q)
    }
}

/// Whether `tolerance` can be that of a ratio.
///
/// # Errors
/// [`PhysicsError::Tolerance`].
pub fn check_tolerance(tolerance: f64) -> Result<(), PhysicsError> {
    let known = tolerance > 0.0 && tolerance <= TOLERANCE_MAX;
    if known { Ok(()) } else { Err(PhysicsError::Tolerance(tolerance)) }
}

/// The patterns among `tones`, by ratio ascending and then by their first member.
///
/// # Errors
/// [`PhysicsError::Tolerance`].
///
/// # Examples
/// ```
/// # use commonhold_systems::resonance::physics::{Ratio, Tone, detect};
/// let tone = |frequency_hz| Tone { frequency_hz, coherence: 1.0 };
/// let found = detect(&[tone(440.0), tone(660.5), tone(1013.0)], 0.01)?;
/// assert_eq!((found.len(), found[0].ratio), (1, Ratio { p: 3, q: 2 }));
/// assert_eq!(found[0].members, [0, 1]);
/// # Ok::<(), commonhold_systems::resonance::physics::PhysicsError>(())
/// ```
pub fn detect(tones: &[Tone], tolerance: f64) -> Result<Vec<Pattern>, PhysicsError> {
    check_tolerance(tolerance)?;
    let mut sorted: Vec<(usize, Tone)> =
        tones.iter().copied().enumerate().filter(|(_, t)| t.frequency_hz > 0.0).collect();
    sorted.sort_by(|(i, a), (j, b)| a.frequency_hz.total_cmp(&b.frequency_hz).then(i.cmp(j)));
    let ratios = Ratio::all();
    let values: Vec<f64> = ratios.iter().map(|r| r.value()).collect();
    let mut patterns = Vec::new();
    for (at, ratio) in ratios.iter().enumerate() {
        let value = ratio.value();
        let border = |other: Option<&f64>| other.map(|other| (other * value).sqrt());
        let below = at.checked_sub(1).and_then(|below| border(values.get(below)));
        let above = border(values.get(at + 1));
        let window = Window {
            value,
            tolerance,
            low: (value * (1.0 - tolerance)).max(below.unwrap_or(0.0)),
            high: (value * (1.0 + tolerance)).min(above.unwrap_or(f64::INFINITY)),
        };
        patterns.extend(window.groups(&sorted).into_iter().map(|(strength, members)| Pattern {
            ratio: *ratio,
            strength,
            members,
        }));
    }
    Ok(patterns)
}

/// The quotients that count as one ratio.
struct Window {
    value: f64,
    tolerance: f64,
    low: f64,
    high: f64,
}

impl Window {
    /// The groups that this ratio links: strength and members.
    fn groups(&self, sorted: &[(usize, Tone)]) -> Vec<(f64, Vec<usize>)> {
        let mut links = Links::new(sorted.len());
        let mut pairs: Vec<(usize, f64)> = Vec::new();
        let frequency = |at: usize| sorted.get(at).map_or(f64::INFINITY, |(_, t)| t.frequency_hz);
        // Partners of i stand at low..high, and both bounds only grow with i.
        let (mut low, mut high) = (0, 0);
        for (i, (_, slow)) in sorted.iter().enumerate() {
            let quotient = |at: usize| frequency(at) / slow.frequency_hz;
            while low < sorted.len() && (quotient(low) < self.low || low <= i) {
                low += 1;
            }
            high = high.max(low);
            while high < sorted.len() && quotient(high) <= self.high {
                high += 1;
            }
            if low == high {
                continue;
            }
            links.join_run(i, low, high);
            let off = |at: usize| (quotient(at) / self.value - 1.0).abs();
            let best = sorted
                .get(low..high)
                .unwrap_or_default()
                .partition_point(|(_, t)| t.frequency_hz / slow.frequency_hz < self.value)
                + low;
            let nearest = [best.saturating_sub(1).max(low), best.min(high - 1)]
                .into_iter()
                .min_by(|a, b| off(*a).total_cmp(&off(*b)))
                .unwrap_or(low);
            let fast = sorted.get(nearest).map_or(0.0, |(_, t)| t.coherence);
            let closeness = (1.0 - off(nearest) / self.tolerance).max(0.0);
            pairs.push((i, closeness * (slow.coherence * fast).sqrt()));
        }
        collect(links, &pairs, sorted)
    }
}

/// Members and mean strength of each group.
fn collect(
    mut links: Links,
    pairs: &[(usize, f64)],
    sorted: &[(usize, Tone)],
) -> Vec<(f64, Vec<usize>)> {
    links.finish();
    let mut groups: Vec<(f64, f64, Vec<usize>)> = vec![(0.0, 0.0, Vec::new()); sorted.len()];
    for (at, strength) in pairs {
        let root = links.root(*at);
        if let Some((sum, count, _)) = groups.get_mut(root) {
            *sum += strength;
            *count += 1.0;
        }
    }
    for (at, (member, _)) in sorted.iter().enumerate() {
        let root = links.root(at);
        if let Some((_, _, members)) = groups.get_mut(root) {
            members.push(*member);
        }
    }
    let mut found: Vec<(f64, Vec<usize>)> = groups
        .into_iter()
        .filter(|(_, count, _)| *count > 0.0)
        .map(|(sum, count, mut members)| {
            members.sort_unstable();
            (sum / count, members)
        })
        .collect();
    found.sort_by(|(_, a), (_, b)| a.cmp(b));
    found
}

/// Which positions are linked: a forest, each position pointing towards its group's root.
struct Links {
    parents: Vec<usize>,
    /// How many runs begin at a position, less how many end there: inside a run neighbours are linked.
    runs: Vec<i64>,
}

impl Links {
    fn new(count: usize) -> Self {
        Self { parents: (0..count).collect(), runs: vec![0; count + 1] }
    }

    fn root(&mut self, of: usize) -> usize {
        let mut at = of;
        while let Some(&parent) = self.parents.get(at).filter(|parent| **parent != at) {
            // Path halving (Tarjan, van Leeuwen 1984).
            let next = self.parents.get(parent).copied().unwrap_or(parent);
            if let Some(place) = self.parents.get_mut(at) {
                *place = next;
            }
            at = next;
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if let Some(place) = self.parents.get_mut(a.max(b)) {
            *place = a.min(b);
        }
    }

    /// Links `with` to all of `low..high`, which is not empty.
    fn join_run(&mut self, with: usize, low: usize, high: usize) {
        self.join(with, low);
        for (at, change) in [(low, 1), (high - 1, -1)] {
            if let Some(place) = self.runs.get_mut(at) {
                *place += change;
            }
        }
    }

    /// Links neighbours that stand in one run.
    fn finish(&mut self) {
        let mut open = 0;
        for at in 0..self.parents.len() {
            open += self.runs.get(at).copied().unwrap_or(0);
            if open > 0 {
                self.join(at, at + 1);
            }
        }
    }
}
