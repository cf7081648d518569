//! What is counted of sigils, for whoever looks at the metrics.

use commonhold_runtime::core::metrics::{GaugeRef, HistogramRef, MetricRef, NewMetric, Octaves};
use commonhold_runtime::{Error, Handle};

/// A sweep's duration is told apart from 100 µs to a minute: in nanoseconds.
const SWEEP_RANGE: (u64, u64) = (100_000, 60_000_000_000);

/// The metrics, all there from the start. Each participant counts in its own share.
#[derive(Debug, Clone, Copy)]
pub(super) struct SigilMetrics {
    pub(super) encoded: MetricRef,
    pub(super) recalls: MetricRef,
    pub(super) crystallized: MetricRef,
    pub(super) removed: MetricRef,
    pub(super) sweeps: MetricRef,
    pub(super) sweep_duration: HistogramRef,
    pub(super) fading: GaugeRef,
    pub(super) permanent: GaugeRef,
}

impl SigilMetrics {
    pub(super) fn register(handle: &Handle) -> Result<Self, Error> {
        let counter = |name, help| handle.metric_counter(&NewMetric { name, help, labels: &[] });
        let gauge = |kind: &str| {
            let labels = [("kind".to_owned(), kind.to_owned())];
            let help = "Sigils that the last sweep left, by whether they fade or are permanent.";
            handle.metric_gauge(&NewMetric { name: "commonhold_sigils", help, labels: &labels })
        };
        let duration = NewMetric {
            name: "commonhold_sigil_sweep_duration_seconds",
            help: "How long sweeps of faded sigils took.",
            labels: &[],
        };
        let (low, high) = SWEEP_RANGE;
        Ok(Self {
            encoded: counter("commonhold_sigils_encoded_total", "Sigils that were encoded.")?,
            recalls: counter("commonhold_sigil_recalls_total", "Recalls of sigils.")?,
            crystallized: counter(
                "commonhold_sigils_crystallized_total",
                "Sigils that became permanent.",
            )?,
            removed: counter("commonhold_sigils_swept_total", "Faded sigils that were swept.")?,
            sweeps: counter("sigil_gc_sweep_total", "Sweeps of faded sigils that were done.")?,
            sweep_duration: handle.metric_histogram(&duration, Octaves::between(low, high))?,
            fading: gauge("fading")?,
            permanent: gauge("permanent")?,
        })
    }
}
