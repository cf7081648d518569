//! What a level is made of: observations, and their average weighted by recency.
//!
//! An observation is a level that somebody gave at some time, with some confidence. Those of a concept are a *set*, of
//! which the [`OBSERVATIONS_MAX`] latest are kept. Uniting sets, and keeping the first ones of a total order, is
//! associative, commutative and idempotent, to the bit; the level is computed from the set, in its order, so it is the
//! same whichever way the set came about.
//!
//! `level = Σ wᵢ·lᵢ / Σ wᵢ`, `wᵢ = cᵢ · 2^(−(t − tᵢ) / h)`: lᵢ the level and cᵢ the confidence of an observation, tᵢ its
//! time, t the latest time of the set, h the [`HALF_LIFE`]. (t cancels out; it keeps the weights from overflowing.) When
//! all weights are 0, the level is that of the latest observation.

use std::cmp::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::record::Bound;
use super::time;

/// An observation that is older by this than another one weighs half as much: 30 days.
pub const HALF_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// So many observations of a concept are kept, the latest.
pub const OBSERVATIONS_MAX: usize = 16;
/// What an observation without a confidence counts.
const CONFIDENCE: f64 = 1.0;
/// Averages are rounded to this; an average in a file that is off by less than two of it is the same.
const GRAIN: f64 = 1e-6;

/// A level that somebody gave at some time. The order is that of time; equal times are told apart by who it was, then by
/// level and confidence.
#[derive(Debug, Clone)]
pub(super) struct Observation {
    pub(super) at: i64,
    pub(super) by: String,
    pub(super) level: f64,
    pub(super) confidence: f64,
}

/// Observations, the latest first, without duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Observations(Vec<Observation>);

impl Observation {
    /// None, when the level is no number from 0 to 1.
    pub(super) fn new(at: i64, by: &str, level: f64, confidence: Option<f64>) -> Option<Self> {
        let confidence = confidence.and_then(unit).unwrap_or(CONFIDENCE);
        unit(level).map(|level| Self { at, by: by.to_owned(), level, confidence })
    }

    /// `[updated_at, level, confidence, learned_by]`.
    pub(super) fn to_value(&self) -> Value {
        json!([time::text(self.at), self.level, self.confidence, self.by])
    }

    pub(super) fn of_value(value: &Value) -> Option<Self> {
        let [at, level, confidence, by] = value.as_array()?.as_slice() else { return None };
        let confidence = unit(confidence.as_f64()?)?;
        Self::new(time::of_value(at)?, by.as_str()?, level.as_f64()?, Some(confidence))
    }
}

impl Ord for Observation {
    fn cmp(&self, other: &Self) -> Ordering {
        let names = || self.by.cmp(&other.by);
        let levels = || self.level.total_cmp(&other.level);
        let confidences = || self.confidence.total_cmp(&other.confidence);
        self.at.cmp(&other.at).then_with(names).then_with(levels).then_with(confidences)
    }
}

impl PartialOrd for Observation {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Observation {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Observation {}

impl Observations {
    /// The set of these.
    pub(super) fn of(observations: impl IntoIterator<Item = Observation>) -> Self {
        Self(observations.into_iter().collect()).kept()
    }

    /// The latest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Observation> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is all there is.
    pub(super) fn is_only(&self, observation: &Observation) -> bool {
        matches!(self.0.as_slice(), [only] if only == observation)
    }

    /// Both sets.
    pub(super) fn union(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self.kept()
    }

    /// Times beyond the bound count as now.
    pub(super) fn within(mut self, bound: Bound) -> Self {
        self.0.iter_mut().for_each(|one| one.at = bound.of(one.at));
        self.kept()
    }

    fn kept(mut self) -> Self {
        self.0.sort_unstable_by(|a, b| b.cmp(a));
        self.0.dedup();
        self.0.truncate(OBSERVATIONS_MAX);
        self
    }

    /// The average; none of no observation.
    pub(super) fn level(&self) -> Option<f64> {
        let (latest, more) = self.0.split_first()?;
        if more.is_empty() {
            return Some(latest.level);
        }
        let half_life = HALF_LIFE.as_micros() as f64;
        let (mut sum, mut weights) = (0.0, 0.0);
        for one in &self.0 {
            let age = latest.at.saturating_sub(one.at) as f64;
            let weight = one.confidence * (-age / half_life).exp2();
            sum += weight * one.level;
            weights += weight;
        }
        if weights <= 0.0 {
            return Some(latest.level);
        }
        Some(rounded((sum / weights).clamp(0.0, 1.0)))
    }

    /// Whether `level`, as it stands in a file, is that average.
    pub(super) fn gives(&self, level: f64) -> bool {
        self.level().is_some_and(|mine| (mine - level).abs() < 2.0 * GRAIN)
    }
}

/// To the grain: six digits.
fn rounded(level: f64) -> f64 {
    format!("{level:.6}").parse().unwrap_or(level)
}

/// A number from 0 to 1; never −0.
pub(super) fn unit(number: f64) -> Option<f64> {
    (0.0..=1.0).contains(&number).then_some(number + 0.0)
}
