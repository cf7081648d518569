//! The metrics of the resonance torture against what happened.

use commonhold::metrics::{Sample, SampleValue};
use commonhold::systems::resonance::{METRICS_PREFIX, NODES};

/// What a metric may be: from what was acknowledged to that and what the killed had begun.
pub(super) struct Due {
    pub(super) name: String,
    label: Option<(&'static str, &'static str)>,
    low: u64,
    high: u64,
}

impl Due {
    /// A counter of the networks.
    pub(super) fn counted(name: &str, acknowledged: u64, begun: u64) -> Self {
        let name = format!("commonhold_resonance_{name}_total");
        Self { name, label: None, low: acknowledged, high: acknowledged + begun }
    }

    /// How many nodes there are.
    pub(super) fn nodes(nodes: u64) -> Self {
        let name = "commonhold_records".to_owned();
        Self { name, label: Some(("table", NODES)), low: nodes, high: nodes }
    }

    /// How often somebody had to wait for the guard.
    pub(super) fn contentions(contentions: u64) -> Self {
        let name = format!("{METRICS_PREFIX}_contention_total");
        Self { name, label: None, low: contentions, high: contentions }
    }

    fn is_met_by(&self, sample: &Sample) -> bool {
        let named = |(name, value)| sample.labels.iter().any(|(n, v)| n == name && v == value);
        let value = match sample.value {
            SampleValue::Counter(value) => value as f64,
            SampleValue::Gauge(value) => value,
            SampleValue::Histogram(_) => return false,
        };
        let within = (self.low as f64..=self.high as f64).contains(&value);
        sample.name == self.name && self.label.is_none_or(named) && within
    }
}

/// The metrics that are not what they should be.
pub(super) fn wrong(due: &[Due], samples: &[Sample]) -> Vec<String> {
    let off = due.iter().filter(|due| !samples.iter().any(|sample| due.is_met_by(sample)));
    off.map(|due| due.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use commonhold::core::metrics::Unit;

    use super::*;

    fn sample(name: &str, labels: &[(&str, &str)], value: SampleValue) -> Sample {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let labels = labels.iter().map(own).collect();
        let (name, help, unit) = (name.to_owned(), String::new(), Unit::of(name));
        Sample { name, help, labels, unit, value }
    }

    #[test]
    fn what_is_off_is_named() {
        let due = [Due::counted("ticks", 5, 2), Due::nodes(7), Due::contentions(3)];
        let samples = |ticks, nodes, contentions| {
            [
                sample("commonhold_resonance_ticks_total", &[], SampleValue::Counter(ticks)),
                sample("commonhold_records", &[("table", "t")], SampleValue::Gauge(7.0)),
                sample("commonhold_records", &[("table", NODES)], SampleValue::Gauge(nodes)),
                sample("resonance_mutex_contention_total", &[], SampleValue::Counter(contentions)),
            ]
        };
        for ticks in 5..=7 {
            assert_eq!(wrong(&due, &samples(ticks, 7.0, 3)), [""; 0]);
        }
        for ticks in [4, 8] {
            assert_eq!(wrong(&due, &samples(ticks, 7.0, 3)), ["commonhold_resonance_ticks_total"]);
        }
        assert_eq!(wrong(&due, &samples(5, 6.0, 3)), ["commonhold_records"]);
        assert_eq!(wrong(&due, &samples(5, 7.0, 2)), ["resonance_mutex_contention_total"]);
        assert_eq!(wrong(&due, &[]).len(), 3);
    }
}
