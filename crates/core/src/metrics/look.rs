//! Metrics from outside: everything that a segment counts, as samples, summed over all participants that ever were.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use commonhold_os::process::Liveness;
use commonhold_segment::sync::Ordering;

use super::{COUNTS, Octaves, SUM, Unit, VALUE, labels};
use crate::directory::{Descriptor, NameKind};
use crate::error::Error;
use crate::guard::GuardFigures;
use crate::inspect::Phases;
use crate::space::Space;

/// What every segment counts without being asked: names and help.
const BUILT_IN: [(&str, &str); 25] = [
    ("commonhold_commits_total", "Commits of all participants."),
    ("commonhold_lost_exchanges_total", "Commits that were tried again since another was first."),
    ("commonhold_room_waits_total", "Waits for a free cell or slot."),
    ("commonhold_participants", "Participants by what the kernel says of their processes."),
    ("commonhold_participants_limit", "The most participants at once."),
    ("commonhold_steward_present", "1 when some process is steward."),
    ("commonhold_steward_terms_total", "Times that a process became steward."),
    ("commonhold_segment_bytes", "Size of the segment."),
    ("commonhold_segment_created_seconds", "When the segment was made, since 1970."),
    ("commonhold_records", "Records of the table."),
    ("commonhold_slots", "Slots of the table by phase."),
    ("commonhold_cells", "Cells of the table by phase."),
    ("commonhold_index_cells", "Cells of the table's index by phase."),
    ("commonhold_unstored_records", "Records whose last version the store has not."),
    ("commonhold_unstored_versions", "Versions that the store has not: the lag."),
    ("commonhold_store_conflicts_total", "Rows that somebody else changed in the database."),
    ("commonhold_store_stopped", "1 when nothing of the table is stored until somebody decides."),
    ("commonhold_store_refused", "1 when the store belongs to another segment or was rolled back."),
    ("commonhold_guard_acquisitions_total", "Times that the guard was taken."),
    ("commonhold_guard_contention_total", "Times that somebody had to wait for the guard."),
    ("commonhold_guard_wait_seconds_total", "Time waited for the guard, all together."),
    ("commonhold_guard_held", "1 when somebody holds the guard."),
    ("commonhold_guard_waiters", "Participants that sleep for the guard."),
    ("commonhold_counters", "Value of the named counter."),
    ("commonhold_ids_last", "The last id that the allocator gave out."),
];

/// Whether every segment has a metric of this name.
pub(super) fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(built_in, _)| *built_in == name)
}

/// A metric as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub help: String,
    /// Its labels, by name.
    pub labels: Vec<(String, String)>,
    /// What its numbers mean.
    pub unit: Unit,
    /// What it is, and how much.
    pub value: SampleValue,
}

/// The value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// It only grows; as it is counted, see [`Unit::scale`].
    Counter(u64),
    /// It rises and falls; as it is shown.
    Gauge(f64),
    /// It counts values by size.
    Histogram(HistogramSample),
}

/// A histogram as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSample {
    /// The buckets, each with the values above the bound before it up to its own.
    pub buckets: Vec<Bucket>,
    /// All values together, as they are counted.
    pub sum: u64,
}

/// A bucket of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The largest value that it counts, as it is counted; `None` for the last one.
    pub bound: Option<u64>,
    /// How many values fell into it.
    pub count: u64,
}

impl HistogramSample {
    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.wrapping_add(bucket.count))
    }

    /// Between which bounds the value lies below which a part `q` (0 to 1) of all values is: above the first, up to the
    /// second, which is `None` when there is no bound. `None` when nothing was counted.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<(u64, Option<u64>)> {
        let rank = (q.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0);
        let (mut seen, mut above) = (0_u64, 0);
        for bucket in &self.buckets {
            seen = seen.wrapping_add(bucket.count);
            if seen as f64 >= rank {
                return Some((above, bucket.bound));
            }
            above = bucket.bound.unwrap_or(above);
        }
        None
    }
}

impl Space {
    /// Everything that the segment counts: what every segment does, its guards, then the registered metrics. Each name
    /// and set of labels once. What of it is of one instant, [`crate::metrics`] says.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged; [`Error::Truncated`].
    pub fn metrics(&self) -> Result<Vec<Sample>, Error> {
        let mut gathered = Gathered::default();
        self.built_in(&mut gathered)?;
        for position in 0..self.catalogue().tables.len() {
            self.table_metrics(position, &mut gathered)?;
        }
        guard_metrics(&self.guards()?, &mut gathered);
        for name in self.names()? {
            match name.kind {
                NameKind::Counter => {
                    let value = self.counter_value(&name)? as f64;
                    gathered.gauge("commonhold_counters", &[("counter", &name.name)], value);
                }
                NameKind::Ids => {
                    let last = self.last_id(&name)? as f64;
                    gathered.gauge("commonhold_ids_last", &[("ids", &name.name)], last);
                }
                _ => gathered.push_if(self.sample(name)?),
            }
        }
        self.check_whole()?;
        Ok(gathered.samples)
    }

    /// The metrics that were registered, in that order.
    ///
    /// # Errors
    /// As [`Space::metrics`].
    pub fn registered_metrics(&self) -> Result<Vec<Sample>, Error> {
        let samples = self.names()?.into_iter().filter_map(|name| self.sample(name).transpose());
        let samples = samples.collect::<Result<_, _>>()?;
        self.check_whole()?;
        Ok(samples)
    }

    fn built_in(&self, to: &mut Gathered) -> Result<(), Error> {
        let totals = self.totals();
        to.counter("commonhold_commits_total", &[], totals.commits);
        to.counter("commonhold_lost_exchanges_total", &[], totals.lost_exchanges);
        to.counter("commonhold_room_waits_total", &[], totals.room_waits);
        let participants = self.participants();
        for (state, liveness) in
            [("alive", Liveness::Alive), ("dead", Liveness::Dead), ("unknown", Liveness::Unknown)]
        {
            let count = participants.iter().filter(|p| p.liveness == liveness).count();
            to.gauge("commonhold_participants", &[("state", state)], count as f64);
        }
        let limit = self.catalogue().participants;
        to.gauge("commonhold_participants_limit", &[], limit.into());
        let terms = self.steward().map_or(0, |(_, terms)| terms);
        let present = self.steward_state() != crate::flag::Doorbell::None;
        to.gauge("commonhold_steward_present", &[], f64::from(u8::from(present)));
        to.counter("commonhold_steward_terms_total", &[], terms);
        to.gauge("commonhold_store_refused", &[], f64::from(u8::from(self.is_refused())));
        to.gauge("commonhold_segment_bytes", &[], self.layout().total as f64 * 8.0);
        let created = self.segment().header().created_at as f64 / 1e6;
        to.gauge("commonhold_segment_created_seconds", &[], created);
        Ok(())
    }

    fn table_metrics(&self, position: usize, to: &mut Gathered) -> Result<(), Error> {
        let figures = self.figures(position)?;
        let table = self.table(position)?;
        let name = [("table", table.spec.name.as_str())];
        to.gauge("commonhold_records", &name, figures.slots.published.into());
        let unstored = figures.unstored_versions + u64::from(figures.slots.retired);
        to.gauge("commonhold_unstored_records", &name, figures.unstored_records as f64);
        to.gauge("commonhold_unstored_versions", &name, unstored as f64);
        to.counter("commonhold_store_conflicts_total", &name, figures.conflicts);
        to.gauge("commonhold_store_stopped", &name, f64::from(u8::from(figures.stopped)));
        for (metric, phases) in [
            ("commonhold_slots", figures.slots),
            ("commonhold_cells", figures.cells),
            ("commonhold_index_cells", figures.index_cells),
        ] {
            let Phases { free, owned, published, retired } = phases;
            for (phase, count) in
                [("free", free), ("owned", owned), ("published", published), ("retired", retired)]
            {
                to.gauge(metric, &[("phase", phase), ("table", &table.spec.name)], count.into());
            }
        }
        Ok(())
    }

    /// A registered metric; `None` for what is none, or is registered as no metric can be.
    fn sample(&self, of: Descriptor) -> Result<Option<Sample>, Error> {
        let value = match of.kind {
            NameKind::MetricCounter => SampleValue::Counter(self.sum_shares(of.offset)?),
            NameKind::Gauge => {
                let word = self.name_entry(of.index)?.hot(VALUE)?;
                SampleValue::Gauge(f64::from_bits(word.load(Ordering::Relaxed)))
            }
            NameKind::Histogram => match Octaves::from_extra(of.extra) {
                Some(octaves) => SampleValue::Histogram(self.histogram(of.offset, octaves)?),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let labels =
            labels::parse(&of.labels).filter(|_| labels::check_name(of.kind, &of.name).is_ok());
        let unit = Unit::of(&of.name);
        Ok(labels.map(|labels| Sample { name: of.name, help: of.help, labels, unit, value }))
    }

    fn histogram(&self, share: u32, octaves: Octaves) -> Result<HistogramSample, Error> {
        let mut counts = vec![0; octaves.buckets() as usize + 2];
        self.sum_shares_from(share + COUNTS, &mut counts)?;
        let bounds = (0..).map(|i| octaves.bound(i));
        let buckets = bounds.zip(counts).map(|(bound, count)| Bucket { bound, count }).collect();
        Ok(HistogramSample { buckets, sum: self.sum_shares(share + SUM)? })
    }
}

fn guard_metrics(guards: &[GuardFigures], to: &mut Gathered) {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut own: BTreeMap<&str, (u64, Duration)> = BTreeMap::new();
    for guard in guards {
        let name = [("guard", guard.name.as_str())];
        to.counter("commonhold_guard_acquisitions_total", &name, guard.number);
        to.counter("commonhold_guard_contention_total", &name, guard.contentions);
        to.counter("commonhold_guard_wait_seconds_total", &name, nanos(guard.waited));
        let held = u8::from(guard.holder.is_some());
        to.gauge("commonhold_guard_held", &name, held.into());
        to.gauge("commonhold_guard_waiters", &name, guard.waiters.into());
        // Guards with the same prefix are told as one.
        if labels::check_prefix(&guard.name, &guard.metrics).is_ok() {
            let sum = own.entry(&guard.metrics).or_default();
            *sum = (sum.0.wrapping_add(guard.contentions), sum.1.saturating_add(guard.waited));
        }
    }
    for (prefix, (contentions, waited)) in own {
        let sample = |name: String, help: &str, value| Sample {
            unit: Unit::of(&name),
            name,
            help: help.to_owned(),
            labels: Vec::new(),
            value,
        };
        let help = "Times that somebody had to wait for the guard.";
        let value = SampleValue::Counter(contentions);
        to.push(sample(format!("{prefix}_contention_total"), help, value));
        let help = "Milliseconds waited for the guard, all together.";
        let value = SampleValue::Gauge(Unit::Milliseconds.shown(nanos(waited)));
        to.push(sample(format!("{prefix}_wait_time_ms"), help, value));
    }
}

/// Samples, each name and set of labels once and each name of one kind.
#[derive(Default)]
struct Gathered {
    samples: Vec<Sample>,
    seen: BTreeSet<(String, Vec<(String, String)>)>,
    kinds: BTreeMap<String, std::mem::Discriminant<SampleValue>>,
}

impl Gathered {
    fn push(&mut self, sample: Sample) {
        let kind = std::mem::discriminant(&sample.value);
        let known = *self.kinds.entry(sample.name.clone()).or_insert(kind);
        if known == kind && self.seen.insert((sample.name.clone(), sample.labels.clone())) {
            self.samples.push(sample);
        }
    }

    fn push_if(&mut self, sample: Option<Sample>) {
        if let Some(sample) = sample {
            self.push(sample);
        }
    }

    fn built_in(&mut self, name: &str, labels: &[(&str, &str)], value: SampleValue) {
        let help = BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.push(Sample {
            name: name.to_owned(),
            help: help.map_or("", |(_, help)| help).to_owned(),
            labels: labels.collect(),
            unit: Unit::of(name),
            value,
        });
    }

    fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.built_in(name, labels, SampleValue::Counter(value));
    }

    fn gauge(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.built_in(name, labels, SampleValue::Gauge(value));
    }
}
