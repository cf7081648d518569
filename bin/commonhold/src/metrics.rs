//! `metrics`: everything that a segment counts, as Prometheus reads it or as JSON.

use commonhold::admin;
use commonhold::metrics::{HistogramSample, Sample, SampleValue, prometheus_text};
use serde::Serialize;
use std::collections::BTreeMap;

use crate::connect::Globals;
use crate::failure::Done;
use crate::output::{Format, Output, print_json};

/// Print everything that a segment counts
///
/// Prints commits, lag, cells, guards and the metrics that programs registered, summed over all processes that ever
/// used the segment, in the text format of Prometheus. Takes no entry and writes nothing: it disturbs nobody.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold metrics
  commonhold metrics --json | jq '.metrics[] | select(.name == \"commonhold_commits_total\").value'")]
pub(crate) struct Metrics {
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct All {
    metrics: Vec<MetricJson>,
}

/// A metric, in the unit that its name says.
#[derive(Debug, Serialize)]
pub(crate) struct MetricJson {
    pub(crate) name: String,
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) help: String,
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(crate) value: ValueJson,
}

/// A metric's value.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ValueJson {
    Count { value: u64 },
    Number { value: f64 },
    Histogram(HistogramJson),
}

#[derive(Debug, Serialize)]
pub(crate) struct HistogramJson {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    /// No more than this; none when it lies above the last bound, or nothing was counted.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Those that are not empty, each with the values above the bound before it up to its own.
    pub(crate) buckets: Vec<BucketJson>,
}

#[derive(Debug, Serialize)]
pub(crate) struct BucketJson {
    /// None: above the last bound.
    pub(crate) up_to: Option<f64>,
    pub(crate) count: u64,
}

impl From<Sample> for MetricJson {
    fn from(sample: Sample) -> Self {
        let unit = sample.unit;
        let histogram = |histogram: HistogramSample| {
            let shown = |counted| unit.shown(counted);
            let quantile = |q| histogram.quantile(q)?.1.map(shown);
            let buckets = histogram.buckets.iter().filter(|bucket| bucket.count > 0);
            HistogramJson {
                count: histogram.count(),
                sum: shown(histogram.sum),
                p50: quantile(0.5),
                p99: quantile(0.99),
                buckets: buckets
                    .map(|b| BucketJson { up_to: b.bound.map(shown), count: b.count })
                    .collect(),
            }
        };
        let (kind, value) = match sample.value {
            SampleValue::Counter(value) if unit.scale() == 1 => {
                ("counter", ValueJson::Count { value })
            }
            SampleValue::Counter(value) => {
                ("counter", ValueJson::Number { value: unit.shown(value) })
            }
            SampleValue::Gauge(value) => ("gauge", ValueJson::Number { value }),
            SampleValue::Histogram(value) => ("histogram", ValueJson::Histogram(histogram(value))),
        };
        let (name, help, unit) = (sample.name, sample.help, unit.name());
        Self { name, kind, unit, help, labels: sample.labels.into_iter().collect(), value }
    }
}

impl Metrics {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let samples = admin::look(&globals.config()?)?.metrics()?;
        if self.format.json {
            let metrics = samples.into_iter().map(MetricJson::from).collect();
            return print_json(&All { metrics });
        }
        let mut out = Output::new();
        out.text(prometheus_text(&samples))?;
        out.finish()
    }
}
