//! Metrics: what processes count in the segment, summed over all of them, for people and for Prometheus. How they
//! are kept, and what of a reading is whole, stands in [`commonhold_core::metrics`].

mod text;

use std::borrow::Borrow;
use std::rc::Rc;
use std::time::Duration;

use commonhold_core::metrics::{GaugeRef, HistogramRef, MetricRef, NewMetric, Octaves, Unit};
use commonhold_core::{Error, Handle};

pub use commonhold_core::metrics::{Bucket, HistogramSample, Sample, SampleValue};
pub use text::{CONTENT_TYPE, prometheus_text};

/// One participant's way to metrics. Clones, and the metrics that come from it, share the participant; each thread
/// takes its own, from [`crate::Runtime::metrics`] or with a handle that it has already.
///
/// Registering a metric twice gives the same one, in whichever process: its name and labels are what it is. The name
/// says the unit: what ends in `_seconds` or `_ms` is counted in nanoseconds and shown in that unit, what ends in
/// `_bytes` in bytes; `_total` at the end is for counters, and they must have it.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use commonhold_runtime::{Config, Runtime, TableConfig};
/// # let tables = Config::ephemeral().table(TableConfig::new("sigils", &["n:i64"]));
/// let runtime = Runtime::open(tables)?;
/// let metrics = runtime.metrics()?;
/// let sweeps = metrics.counter("sigil_gc_sweep_total", "Sweeps that were done.")?;
/// let pool = metrics.gauge("resonance_worker_pool_size", "Workers of the pool.")?;
/// let tasks = metrics.label("kind", "cascade");
/// let took = tasks.histogram("resonance_worker_task_duration_ms", "How long tasks took.")?;
///
/// sweeps.inc()?;
/// pool.set(8.0)?;
/// took.observe_time(Duration::from_millis(3))?;
///
/// let text = commonhold_runtime::metrics::prometheus_text(&runtime.samples()?);
/// assert!(text.contains("\nsigil_gc_sweep_total 1\n"));
/// assert!(text.contains("\nresonance_worker_task_duration_ms_sum{kind=\"cascade\"} 3\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Metrics<H: Borrow<Handle> + Clone = Rc<Handle>> {
    handle: H,
    labels: Vec<(String, String)>,
}

/// A counter: it only grows, and is summed over all participants that ever were.
#[derive(Debug, Clone)]
pub struct MetricCounter<H: Borrow<Handle> = Rc<Handle>> {
    handle: H,
    metric: MetricRef,
}

/// A gauge: one number that everybody sets.
#[derive(Debug, Clone)]
pub struct Gauge<H: Borrow<Handle> = Rc<Handle>> {
    handle: H,
    metric: GaugeRef,
}

/// A histogram: it counts values by size, four buckets to each octave, summed over all participants that ever were.
#[derive(Debug, Clone)]
pub struct Histogram<H: Borrow<Handle> = Rc<Handle>> {
    handle: H,
    metric: HistogramRef,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<H: Borrow<Handle> + Clone> Metrics<H> {
    /// Metrics through `handle`: `&Handle`, or `Rc<Handle>` for what is kept.
    #[must_use]
    pub fn new(handle: H) -> Self {
        Self { handle, labels: Vec::new() }
    }

    /// The same, for metrics that have this label too. Take values of which there are few: each makes another metric,
    /// and none ever goes.
    #[must_use]
    pub fn label(&self, name: &str, value: &str) -> Self {
        let mut labels = self.labels.clone();
        labels.push((name.to_owned(), value.to_owned()));
        Self { handle: self.handle.clone(), labels }
    }

    /// The counter `name`.
    ///
    /// # Errors
    /// [`Error::BadName`] when name or labels are none that Prometheus knows; [`Error::OtherKind`] when the name stands
    /// for another kind of metric; [`Error::NamesFull`].
    pub fn counter(&self, name: &str, help: &str) -> Result<MetricCounter<H>, Error> {
        let metric = self.handle.borrow().metric_counter(&self.metric(name, help))?;
        Ok(MetricCounter { handle: self.handle.clone(), metric })
    }

    /// The gauge `name`. It begins at 0.
    ///
    /// # Errors
    /// As [`Metrics::counter`].
    pub fn gauge(&self, name: &str, help: &str) -> Result<Gauge<H>, Error> {
        let metric = self.handle.borrow().metric_gauge(&self.metric(name, help))?;
        Ok(Gauge { handle: self.handle.clone(), metric })
    }

    /// The histogram `name`. It tells times from a microsecond to over a minute apart, other values from 4 to 2^32.
    ///
    /// # Errors
    /// As [`Metrics::counter`]; [`Error::OtherKind`] when it is there with another range.
    pub fn histogram(&self, name: &str, help: &str) -> Result<Histogram<H>, Error> {
        self.histogram_of(name, help, Unit::of(name).octaves())
    }

    /// The histogram `name`, which tells values from `low` to `high` apart: nanoseconds for a time. It takes four words
    /// of each participant's share for each doubling, so a small range leaves room for more of them.
    ///
    /// # Errors
    /// As [`Metrics::histogram`].
    pub fn histogram_between(
        &self,
        name: &str,
        help: &str,
        low: u64,
        high: u64,
    ) -> Result<Histogram<H>, Error> {
        self.histogram_of(name, help, Octaves::between(low, high))
    }

    fn histogram_of(
        &self,
        name: &str,
        help: &str,
        octaves: Octaves,
    ) -> Result<Histogram<H>, Error> {
        let metric = self.handle.borrow().metric_histogram(&self.metric(name, help), octaves)?;
        Ok(Histogram { handle: self.handle.clone(), metric })
    }

    fn metric<'a>(&'a self, name: &'a str, help: &'a str) -> NewMetric<'a> {
        NewMetric { name, help, labels: &self.labels }
    }
}

impl<H: Borrow<Handle>> MetricCounter<H> {
    /// Adds one.
    ///
    /// # Errors
    /// As [`MetricCounter::add`].
    #[inline]
    pub fn inc(&self) -> Result<(), Error> {
        self.add(1)
    }

    /// Adds `by`: nanoseconds for a time. A load and a store, no lock.
    ///
    /// # Errors
    /// [`Error::Truncated`]; in a forked child also [`Error::Participants`], when there is no room for it.
    #[inline]
    pub fn add(&self, by: u64) -> Result<(), Error> {
        self.handle.borrow().count(self.metric, by)
    }

    /// Adds a time.
    ///
    /// # Errors
    /// As [`MetricCounter::add`].
    #[inline]
    pub fn add_time(&self, by: Duration) -> Result<(), Error> {
        self.add(nanos(by))
    }
}

impl<H: Borrow<Handle>> Gauge<H> {
    /// Sets it, in the unit that its name says.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn set(&self, value: f64) -> Result<(), Error> {
        self.handle.borrow().set_gauge(self.metric, value)
    }

    /// Adds to it; the new value.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn add(&self, by: f64) -> Result<f64, Error> {
        self.handle.borrow().add_gauge(self.metric, by)
    }
}

impl<H: Borrow<Handle>> Histogram<H> {
    /// Counts a value: nanoseconds for a time. Two loads and two stores, no lock.
    ///
    /// # Errors
    /// As [`MetricCounter::add`].
    #[inline]
    pub fn observe(&self, value: u64) -> Result<(), Error> {
        self.handle.borrow().observe(self.metric, value)
    }

    /// Counts a time.
    ///
    /// # Errors
    /// As [`MetricCounter::add`].
    #[inline]
    pub fn observe_time(&self, time: Duration) -> Result<(), Error> {
        self.observe(nanos(time))
    }
}
