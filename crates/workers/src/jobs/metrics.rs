//! What is counted of jobs.

use std::time::Duration;

use commonhold_runtime::{Error, Handle, Histogram, MetricCounter, Metrics};

use super::records::JobOutcome;

/// The shortest time that the histogram tells from shorter ones, in nanoseconds: about a millisecond.
const SHORTEST_NS: u64 = 1 << 20;
/// The longest time that it tells from longer ones: about 18 minutes.
const LONGEST_NS: u64 = 1 << 40;

/// The counts of one job.
pub(super) struct JobMetrics<'a> {
    runs: Vec<(JobOutcome, MetricCounter<&'a Handle>)>,
    duration: Option<Histogram<&'a Handle>>,
}

impl<'a> JobMetrics<'a> {
    /// Those of the job `name`; what the segment has no room for is left out.
    pub(super) fn new(handle: &'a Handle, name: &str) -> Result<Self, Error> {
        let metrics = Metrics::new(handle).label("job", name);
        let mut runs = Vec::new();
        for outcome in JobOutcome::ALL {
            let help = "Runs of jobs that ended, by how they did.";
            let labelled = metrics.label("outcome", outcome.text());
            let counter = room(labelled.counter("commonhold_job_runs_total", help))?;
            runs.extend(counter.map(|counter| (outcome, counter)));
        }
        let help = "How long jobs ran.";
        let metric = "commonhold_job_duration_seconds";
        let duration = room(metrics.histogram_between(metric, help, SHORTEST_NS, LONGEST_NS))?;
        Ok(Self { runs, duration })
    }

    /// A run ended. A count that fails is the segment's end, which others tell.
    pub(super) fn count(&self, outcome: JobOutcome, took: Option<Duration>) {
        let counter = self.runs.iter().find(|(of, _)| *of == outcome);
        let _ = counter.map(|(_, counter)| counter.inc());
        if let (Some(duration), Some(took)) = (&self.duration, took) {
            let _ = duration.observe_time(took);
        }
    }
}

fn room<T>(metric: Result<T, Error>) -> Result<Option<T>, Error> {
    match metric {
        Ok(metric) => Ok(Some(metric)),
        Err(Error::NamesFull { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}
