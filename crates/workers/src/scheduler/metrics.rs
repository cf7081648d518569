//! What a scheduler counts, for whoever looks at the metrics.

use std::time::Duration;

use commonhold_runtime::{Error, Handle, Histogram, MetricCounter, Metrics};

use super::entry::EntryFigures;

/// The shortest time that the histogram of ticks tells from shorter ones, in nanoseconds.
const SHORTEST_NS: u64 = 1 << 16;
/// The longest time that it tells from longer ones.
const LONGEST_NS: u64 = 1 << 33;

/// The counts of all entries together.
#[derive(Debug)]
pub(super) struct TickMetrics<'a> {
    ticks: MetricCounter<&'a Handle>,
    late: MetricCounter<&'a Handle>,
    retried: MetricCounter<&'a Handle>,
    failed: MetricCounter<&'a Handle>,
    /// Not there in a segment that has no room for it.
    duration: Option<Histogram<&'a Handle>>,
}

impl<'a> TickMetrics<'a> {
    pub(super) fn new(handle: &'a Handle) -> Result<Self, Error> {
        let metrics = Metrics::new(handle);
        let counter = |name, help| metrics.counter(name, help);
        let late = "Ticks of nodes that were due and skipped, late ones and those whose node changed each time.";
        let retried = "Ticks of nodes that were sent again because the node changed meanwhile.";
        let took = "How long ticks took, from when they were sent to their commit.";
        let (name, low, high) = ("commonhold_tick_seconds", SHORTEST_NS, LONGEST_NS);
        Ok(Self {
            ticks: counter("commonhold_ticks_total", "Ticks of nodes that were committed.")?,
            late: counter("commonhold_ticks_late_total", late)?,
            retried: counter("commonhold_ticks_retried_total", retried)?,
            failed: counter("commonhold_ticks_failed_total", "Ticks of nodes that failed.")?,
            duration: match metrics.histogram_between(name, took, low, high) {
                Ok(histogram) => Some(histogram),
                Err(Error::NamesFull { .. }) => None,
                Err(e) => return Err(e),
            },
        })
    }

    /// A tick was committed so long after it was sent. A count that fails is the segment's end, which others tell.
    pub(super) fn took(&self, time: Duration) {
        if let Some(duration) = &self.duration {
            let _ = duration.observe_time(time);
        }
    }

    /// Counts what was added to an entry's figures.
    pub(super) fn count(&self, before: &EntryFigures, now: &EntryFigures) {
        let late = |figures: &EntryFigures| figures.late + figures.beaten;
        let _ = self.ticks.add(now.ticks.saturating_sub(before.ticks));
        let _ = self.late.add(late(now).saturating_sub(late(before)));
        let _ = self.retried.add(now.retried.saturating_sub(before.retried));
        let _ = self.failed.add(now.failed.saturating_sub(before.failed));
    }
}
