//! Metrics in the segment: counters, gauges and histograms that any process counts in and any process reads.
//!
//! **Fields**: a metric is an entry of the directory of names (directory.rs), found by its name and labels.
//! ```text
//! counter     one word of each participant's share
//! histogram   in each participant's share: sum · values up to the first bound · each bucket · values above the last
//! gauge       the first hot word of its entry, an f64's bits, changed by everybody
//! ```
//! The words of a share are written by their participant alone, with a plain load and store; readers sum over all
//! entries. Nothing is ever taken back from a share, so what a dead participant counted stays in the sum, and the next
//! owner of its entry goes on from there.
//!
//! **What is whole**: each word is read as it was at some instant, never torn. A sum over participants is not of one
//! instant: it lies between what was counted when the reading began and when it ended. A histogram's words are read one
//! by one too: its count is the sum of the buckets that were read, and its sum may hold a value more or less.
//!
//! **Crash**: a participant that dies while counting leaves a value counted or not; in a histogram perhaps in the bucket
//! and not yet in the sum.
//!
//! **Sources**: log-linear buckets as in G. Tene's HdrHistogram, here four to each octave; names, labels and units after
//! the rules of Prometheus, <https://prometheus.io/docs/practices/naming/>.

mod labels;
mod look;

use commonhold_segment::sync::{AtomicU64, Ordering};
use crossbeam_utils::Backoff;

use crate::directory::{NameKind, NewName};
use crate::error::Error;
use crate::handle::Handle;

pub(crate) use labels::check_prefix;
pub use look::{Bucket, HistogramSample, Sample, SampleValue};

/// Buckets of an octave.
const PARTS: u32 = 4;
/// The gauge's word, among the hot ones.
const VALUE: usize = 0;
/// Words of a histogram in a share before its buckets.
const SUM: u32 = 0;
/// The first bucket's word; the one before it counts values up to the first bound.
const COUNTS: u32 = 1;

/// What a metric's numbers mean. It follows from the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    One,
    /// Counted in nanoseconds, shown in seconds: names with `_seconds`.
    Seconds,
    /// Counted in nanoseconds, shown in milliseconds: names with `_ms`.
    Milliseconds,
    /// Bytes: names with `_bytes`.
    Bytes,
}

/// A metric to be registered, or found.
#[derive(Debug, Clone, Copy)]
pub struct NewMetric<'a> {
    /// Its name, after the rules of Prometheus.
    pub name: &'a str,
    /// What it counts, for people.
    pub help: &'a str,
    /// Names and values that make it another one than others of this name.
    pub labels: &'a [(String, String)],
}

/// A counter, found by its name and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricRef {
    share: u32,
}

/// A gauge, found by its name and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaugeRef {
    index: u16,
}

/// A histogram, found by its name and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramRef {
    share: u32,
    octaves: Octaves,
}

/// The range that a histogram tells apart: values above 2^low up to 2^high, four buckets to each octave, so that a
/// bucket's bounds lie at most a quarter of the lower one apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Octaves {
    low: u32,
    high: u32,
}

impl Unit {
    /// The unit that a name says.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let name = name.strip_suffix("_total").unwrap_or(name);
        let ends = |unit| name.ends_with(unit);
        match () {
            () if ends("_seconds") => Self::Seconds,
            () if ends("_ms") => Self::Milliseconds,
            () if ends("_bytes") => Self::Bytes,
            () => Self::One,
        }
    }

    /// The unit's name; empty for plain numbers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Bytes => "bytes",
        }
    }

    /// How many of what is counted make one of what is shown.
    #[must_use]
    pub fn scale(self) -> u64 {
        match self {
            Self::One | Self::Bytes => 1,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
        }
    }

    /// What was counted, as it is shown.
    #[must_use]
    pub fn shown(self, counted: u64) -> f64 {
        counted as f64 / self.scale() as f64
    }

    /// The octaves if none are asked for: times from a microsecond to over a minute, other numbers from 4 to 2^32.
    #[must_use]
    pub fn octaves(self) -> Octaves {
        match self {
            Self::Seconds | Self::Milliseconds => Octaves { low: 10, high: 36 },
            Self::One | Self::Bytes => Octaves { low: 2, high: 32 },
        }
    }
}

impl Octaves {
    /// The octaves that tell values from `low` to `high` apart; what is smaller or larger is counted together. Below
    /// 4 nothing is told apart.
    #[must_use]
    pub fn between(low: u64, high: u64) -> Self {
        let low = low.max(4).ilog2().min(61);
        // The first power of two that is not below `high`.
        let high = (high.max(2) - 1).ilog2() + 1;
        Self { low, high: high.clamp(low + 1, 63) }
    }

    /// Buckets between the first bound and the last.
    #[must_use]
    pub fn buckets(self) -> u32 {
        (self.high - self.low) * PARTS
    }

    /// The bucket that counts `value`: 0 up to the first bound, [`Octaves::buckets`] + 1 above the last.
    #[must_use]
    #[inline]
    pub fn bucket_of(self, value: u64) -> u32 {
        if value <= 1 << self.low {
            return 0;
        }
        // A bucket includes its upper bound, as Prometheus has it.
        let below = value - 1;
        let octave = below.ilog2();
        if octave >= self.high {
            return self.buckets() + 1;
        }
        let part = (below >> (octave - 2)) as u32 % PARTS;
        1 + (octave - self.low) * PARTS + part
    }

    /// The upper bound of a bucket, which it includes; `None` for the last one.
    #[must_use]
    pub fn bound(self, bucket: u32) -> Option<u64> {
        let Some(inner) = bucket.checked_sub(1) else { return Some(1 << self.low) };
        let (octave, part) = (self.low + inner / PARTS, u64::from(inner % PARTS));
        (octave < self.high).then(|| (1 << octave) + (part + 1) * (1 << (octave - 2)))
    }

    fn extra(self) -> u64 {
        u64::from(self.low) | u64::from(self.high) << 8
    }

    fn from_extra(extra: u64) -> Option<Self> {
        let (low, high) = ((extra & 0xff) as u32, (extra >> 8) as u32);
        (extra >> 16 == 0 && (2..high).contains(&low) && high <= 63).then_some(Self { low, high })
    }

    fn width(self) -> u16 {
        (COUNTS + self.buckets() + 2) as u16
    }
}

/// Adds to a word that one thread alone writes.
#[inline]
fn grow(word: &AtomicU64, by: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl Handle {
    /// The counter of this name and these labels, registered now if it is not yet.
    ///
    /// # Errors
    /// [`Error::BadName`] when name or labels are none that Prometheus knows; [`Error::OtherKind`] when the name stands
    /// for another kind of metric; [`Error::NamesFull`].
    pub fn metric_counter(&self, new: &NewMetric<'_>) -> Result<MetricRef, Error> {
        let share = self.metric(NameKind::MetricCounter, new, 0, 1)?.1;
        Ok(MetricRef { share })
    }

    /// The gauge of this name and these labels, registered now if it is not yet. It begins at 0.
    ///
    /// # Errors
    /// As [`Handle::metric_counter`].
    pub fn metric_gauge(&self, new: &NewMetric<'_>) -> Result<GaugeRef, Error> {
        let index = self.metric(NameKind::Gauge, new, 0, 0)?.0;
        Ok(GaugeRef { index })
    }

    /// The histogram of this name and these labels, registered now if it is not yet.
    ///
    /// # Errors
    /// As [`Handle::metric_counter`]; [`Error::OtherKind`] when it is there with other octaves.
    pub fn metric_histogram(
        &self,
        new: &NewMetric<'_>,
        octaves: Octaves,
    ) -> Result<HistogramRef, Error> {
        let (extra, width) = (octaves.extra(), octaves.width());
        let share = self.metric(NameKind::Histogram, new, extra, width)?.1;
        Ok(HistogramRef { share, octaves })
    }

    /// The entry and the share of a metric.
    fn metric(
        &self,
        kind: NameKind,
        new: &NewMetric<'_>,
        extra: u64,
        width: u16,
    ) -> Result<(u16, u32), Error> {
        let NewMetric { name, help, labels } = *new;
        labels::check_name(kind, name)?;
        let labels = labels::text(kind, name, labels)?;
        let unit = Unit::of(name).name();
        let new = NewName { kind, name, unit, labels: &labels, help, extra, width };
        let found = self.register_name(&new)?;
        Ok((found.index, found.offset))
    }

    /// Adds to a counter: a load and a store, no lock.
    ///
    /// # Errors
    /// [`Error::Truncated`]; in a forked child that is no participant yet also [`Error::Participants`] and the like.
    #[inline]
    pub fn count(&self, counter: MetricRef, by: u64) -> Result<(), Error> {
        self.check_fork()?;
        let space = self.space();
        grow(space.share(self.entry_index(), counter.share)?, by);
        space.check_whole()
    }

    /// Sets a gauge.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn set_gauge(&self, gauge: GaugeRef, value: f64) -> Result<(), Error> {
        let space = self.space();
        space.name_entry(gauge.index)?.hot(VALUE)?.store(value.to_bits(), Ordering::Relaxed);
        space.check_whole()
    }

    /// Adds to a gauge; the new value.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn add_gauge(&self, gauge: GaugeRef, by: f64) -> Result<f64, Error> {
        let space = self.space();
        let word = space.name_entry(gauge.index)?.hot(VALUE)?;
        let backoff = Backoff::new();
        let mut now = word.load(Ordering::Relaxed);
        loop {
            let next = f64::from_bits(now) + by;
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            match word.compare_exchange(now, next.to_bits(), success, failure) {
                Ok(_) => return space.check_whole().map(|()| next),
                Err(found) => now = found,
            }
            backoff.spin();
        }
    }

    /// Counts a value in a histogram: two loads and two stores, no lock.
    ///
    /// # Errors
    /// As [`Handle::count`].
    #[inline]
    pub fn observe(&self, histogram: HistogramRef, value: u64) -> Result<(), Error> {
        self.check_fork()?;
        let (space, entry) = (self.space(), self.entry_index());
        let bucket = COUNTS + histogram.octaves.bucket_of(value);
        grow(space.share(entry, histogram.share + bucket)?, 1);
        grow(space.share(entry, histogram.share + SUM)?, value);
        space.check_whole()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_a_quarter_of_an_octave() {
        let octaves = Octaves { low: 2, high: 5 };
        assert_eq!((octaves.buckets(), octaves.width()), (12, 15));
        let bounds: Vec<_> = (0..14).map(|bucket| octaves.bound(bucket)).collect();
        let want = [4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32].map(Some);
        assert_eq!(bounds[..13], want);
        assert_eq!(bounds[13], None);
        let mut bucket = 0;
        for value in 0..40 {
            while octaves.bound(bucket).is_some_and(|bound| value > bound) {
                bucket += 1;
            }
            assert_eq!(octaves.bucket_of(value), bucket, "{value}");
        }
        assert_eq!(octaves.bucket_of(u64::MAX), 13);
        let widest = Octaves::between(0, u64::MAX);
        assert_eq!((widest.low, widest.high), (2, 63));
        assert_eq!(widest.bucket_of(u64::MAX), widest.buckets() + 1);
        assert_eq!(widest.bound(widest.buckets()), Some(1 << 63));
    }

    #[test]
    fn octaves_hold_what_was_asked_for() {
        for (low, high) in [(0, 0), (4, 5), (5, 8), (1000, 9), (1 << 20, 1 << 30), (7, u64::MAX)] {
            let octaves = Octaves::between(low, high);
            assert!(octaves.bound(0) <= Some(low.max(4)), "{low} {high}: {octaves:?}");
            let last = octaves.bound(octaves.buckets()).unwrap();
            assert!(last >= high.min(1 << 63), "{low} {high}: {octaves:?}");
            assert_eq!(Octaves::from_extra(octaves.extra()), Some(octaves));
        }
        for wrong in [0, 1 | 5 << 8, 5 | 5 << 8, 2 | 64 << 8, u64::MAX] {
            assert_eq!(Octaves::from_extra(wrong), None, "{wrong:#x}");
        }
    }

    #[test]
    fn a_name_says_its_unit() {
        assert_eq!(Unit::of("a_seconds"), Unit::Seconds);
        assert_eq!(Unit::of("a_seconds_total"), Unit::Seconds);
        assert_eq!(Unit::of("resonance_worker_task_duration_ms"), Unit::Milliseconds);
        assert_eq!(Unit::of("a_bytes_total"), Unit::Bytes);
        assert_eq!(Unit::of("seconds"), Unit::One);
        assert_eq!(Unit::Milliseconds.shown(2_500_000).to_string(), "2.5");
    }
}
