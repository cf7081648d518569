//! What a pool counts (W4), for whoever looks at the metrics.

use commonhold_runtime::{Error, Gauge, Handle, Histogram, MetricCounter, Metrics};

use crate::error::Reason;

/// What workers, and the supervisor in their place, count: each its own share.
#[derive(Debug)]
pub(crate) struct TaskMetrics<'a> {
    /// One for each of [`Reason::LABELS`], there from the start.
    errors: Vec<(&'static str, MetricCounter<&'a Handle>)>,
    pub(crate) duration: Histogram<&'a Handle>,
    pub(crate) wait: Histogram<&'a Handle>,
}

impl<'a> TaskMetrics<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Result<Self, Error> {
        let metrics = Metrics::new(handle);
        let duration = metrics.histogram(
            "resonance_worker_task_duration_ms",
            "How long tasks ran, each attempt that came to an end.",
        )?;
        let wait = metrics.histogram(
            "commonhold_task_wait_seconds",
            "How long tasks waited from submission to the begin of their first attempt.",
        )?;
        let labels = Reason::LABELS.into_iter();
        let errors = labels.map(|label| Ok::<_, Error>((label, errors(handle, label)?)));
        Ok(Self { errors: errors.collect::<Result<_, _>>()?, duration, wait })
    }

    /// Counts a task without a result. A metric that cannot be counted is no task's fault.
    pub(crate) fn count_error(&self, reason: &Reason) {
        let counter = self.errors.iter().find(|(label, _)| *label == reason.label());
        let _ = counter.map(|(_, counter)| counter.inc());
    }
}

/// Counts a task that a submitter ended without a result.
pub(crate) fn count_error(handle: &Handle, reason: &Reason) -> Result<(), Error> {
    errors(handle, reason.label())?.inc()
}

fn errors<'a>(handle: &'a Handle, reason: &str) -> Result<MetricCounter<&'a Handle>, Error> {
    let help = "Tasks that ended without a result, by reason.";
    Metrics::new(handle).label("reason", reason).counter("commonhold_task_errors_total", help)
}

/// What the supervisor says about the pool each time that it looks, at least each second.
#[derive(Debug)]
pub(crate) struct PoolMetrics<'a> {
    pub(crate) size: Gauge<&'a Handle>,
    pub(crate) busy: Gauge<&'a Handle>,
    pub(crate) idle: Gauge<&'a Handle>,
    pub(crate) queued: Gauge<&'a Handle>,
    pub(crate) died: MetricCounter<&'a Handle>,
}

impl<'a> PoolMetrics<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Result<Self, Error> {
        let metrics = Metrics::new(handle);
        let size = "Worker processes.";
        let busy = "Worker processes that have a task.";
        let idle = "Worker processes that have none.";
        let queued = "Tasks that wait for a worker.";
        let died = "Worker processes that ended without being told to.";
        Ok(Self {
            size: metrics.gauge("resonance_worker_pool_size", size)?,
            busy: metrics.gauge("commonhold_workers_busy", busy)?,
            idle: metrics.gauge("commonhold_workers_idle", idle)?,
            queued: metrics.gauge("commonhold_tasks_queued", queued)?,
            died: metrics.counter("commonhold_worker_deaths_total", died)?,
        })
    }
}
