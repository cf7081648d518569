//! Samples as Prometheus reads them: its text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write;

use commonhold_core::metrics::{HistogramSample, Sample, SampleValue, Unit};

/// The media type of [`prometheus_text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All samples as text. Those of one name stand together, where the first of them stood.
///
/// A histogram's buckets are shown by whole octaves: the quarters would be four times as many lines at each reading.
#[must_use]
pub fn prometheus_text(samples: &[Sample]) -> String {
    let mut families: Vec<(&str, Vec<&Sample>)> = Vec::new();
    for sample in samples {
        match families.iter_mut().find(|(name, _)| *name == sample.name) {
            Some((_, family)) => family.push(sample),
            None => families.push((&sample.name, vec![sample])),
        }
    }
    let mut text = String::new();
    for (name, family) in families {
        let Some(first) = family.first() else { continue };
        let kind = match first.value {
            SampleValue::Counter(_) => "counter",
            SampleValue::Gauge(_) => "gauge",
            SampleValue::Histogram(_) => "histogram",
        };
        let help = first.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in family {
            let labels = labels(&sample.labels, None);
            let value = match &sample.value {
                SampleValue::Counter(counted) => counted_text(sample.unit, *counted),
                SampleValue::Gauge(value) => number(*value),
                SampleValue::Histogram(histogram) => {
                    write_histogram(&mut text, sample, histogram);
                    continue;
                }
            };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}

fn write_histogram(text: &mut String, sample: &Sample, histogram: &HistogramSample) {
    let Sample { name, unit, .. } = sample;
    let mut below = 0_u64;
    for bucket in &histogram.buckets {
        below = below.wrapping_add(bucket.count);
        let bound = match bucket.bound {
            Some(bound) if bound.is_power_of_two() => counted_text(*unit, bound),
            Some(_) => continue,
            None => "+Inf".to_owned(),
        };
        let labels = labels(&sample.labels, Some(&bound));
        let _ = writeln!(text, "{name}_bucket{labels} {below}");
    }
    let labels = labels(&sample.labels, None);
    let sum = counted_text(*unit, histogram.sum);
    let _ = writeln!(text, "{name}_sum{labels} {sum}\n{name}_count{labels} {below}");
}

/// Labels in braces, `bound` as the last one; nothing when there are none.
fn labels(labels: &[(String, String)], bound: Option<&String>) -> String {
    let escape =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let own = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value)));
    let all: Vec<String> = own.chain(bound.map(|bound| format!("le=\"{bound}\""))).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

/// What was counted, in the unit it is shown in; whole numbers exactly.
fn counted_text(unit: Unit, counted: u64) -> String {
    match unit.scale() {
        1 => counted.to_string(),
        _ => number(unit.shown(counted)),
    }
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonhold_core::metrics::Bucket;

    fn sample(name: &str, labels: &[(&str, &str)], value: SampleValue) -> Sample {
        Sample {
            name: name.to_owned(),
            help: "What\nit \\ is.".to_owned(),
            labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            unit: Unit::of(name),
            value,
        }
    }

    #[test]
    fn the_text_of_each_kind() {
        let bucket = |bound, count| Bucket { bound, count };
        let buckets = vec![
            bucket(Some(1 << 20), 2),
            bucket(Some(1_310_720), 1),
            bucket(Some(1 << 21), 0),
            bucket(None, 4),
        ];
        let samples = [
            sample("a_total", &[("k", "x")], SampleValue::Counter(u64::MAX)),
            sample("g", &[], SampleValue::Gauge(f64::NEG_INFINITY)),
            sample("a_total", &[("k", "\"\\\n")], SampleValue::Counter(0)),
            sample("t_seconds_total", &[], SampleValue::Counter(1_500_000_000)),
            sample(
                "h_ms",
                &[("k", "x")],
                SampleValue::Histogram(HistogramSample { buckets, sum: 9_000_000 }),
            ),
        ];
        let want = r#"# HELP a_total What\nit \\ is.
# TYPE a_total counter
a_total{k="x"} 18446744073709551615
a_total{k="\"\\\n"} 0
# HELP g What\nit \\ is.
# TYPE g gauge
g -Inf
# HELP t_seconds_total What\nit \\ is.
# TYPE t_seconds_total counter
t_seconds_total 1.5
# HELP h_ms What\nit \\ is.
# TYPE h_ms histogram
h_ms_bucket{k="x",le="1.048576"} 2
h_ms_bucket{k="x",le="2.097152"} 3
h_ms_bucket{k="x",le="+Inf"} 7
h_ms_sum{k="x"} 9
h_ms_count{k="x"} 7
"#;
        assert_eq!(prometheus_text(&samples), want);
    }
}
