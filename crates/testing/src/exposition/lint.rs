//! What `promtool check metrics` (2.42) says of names, and what Prometheus takes for granted of the numbers.

use std::collections::BTreeMap;

use super::read::{Family, Sample};

/// Units that there is a base unit for, and that unit.
const UNITS: [(&str, &str); 14] = [
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvins", "kelvin"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
];

const BASE_UNITS: [&str; 10] = [
    "amperes", "bytes", "celsius", "grams", "joules", "kelvin", "meters", "metres", "seconds",
    "volts",
];

const PREFIXES: [&str; 18] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega",
    "mibi", "giga", "gibi", "tera", "tebi", "peta", "pebi",
];

const ABBREVIATIONS: [&str; 14] =
    ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];

const TYPES: [&str; 5] = ["counter", "gauge", "histogram", "summary", "gauge_histogram"];

/// Names that the mission demands although a rule is against them, with that rule's words.
pub const MISSION: [(&str, &str); 2] = [
    ("resonance_worker_task_duration_ms", "an abbreviated unit"),
    ("resonance_mutex_wait_time_ms", "an abbreviated unit"),
];

/// What is wrong with the families, one line each; but not what is in `known`, by name and words.
#[must_use]
pub fn lint(families: &[Family], known: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for family in families {
        let (name, mut complaints) = (family.name.as_str(), Vec::new());
        names(family, &mut complaints);
        labels(family, &mut complaints);
        match family.kind.as_str() {
            "histogram" => histograms(family, &mut complaints),
            "counter" => counters(family, &mut complaints),
            _ => {}
        }
        complaints.retain(|complaint| !known.contains(&(name, complaint.as_str())));
        found.extend(complaints.into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    found
}

fn has_capitals(name: &str) -> bool {
    name.contains(|c: char| c.is_ascii_uppercase())
}

/// The base unit that a name should have instead of the one that it has.
fn better_unit(part: &str) -> Option<&'static str> {
    let other = UNITS.iter().find(|(unit, _)| part.ends_with(unit) && is_prefix(part, unit));
    let base = BASE_UNITS.iter().find(|unit| part != **unit && is_prefix(part, unit));
    other.map(|(_, base)| *base).or(base.copied())
}

fn is_prefix(part: &str, unit: &str) -> bool {
    part.strip_suffix(unit).is_some_and(|p| p.is_empty() || PREFIXES.contains(&p))
}

fn names(family: &Family, found: &mut Vec<String>) {
    let Family { name, kind, help, .. } = family;
    let mut say = |holds: bool, what: &str| {
        if holds {
            found.push(what.to_owned());
        }
    };
    say(help.is_empty(), "no help");
    say(has_capitals(name), "capital letters");
    let parts: Vec<&str> = name.split('_').collect();
    say(parts.iter().any(|p| ABBREVIATIONS.contains(p)), "an abbreviated unit");
    for base in parts.iter().filter_map(|part| better_unit(part)) {
        say(true, &format!("the base unit is {base}"));
    }
    let total = name.ends_with("_total");
    say(kind == "counter" && !total, "a counter without `_total`");
    say(kind != "counter" && total, "`_total`, and no counter");
    for ending in ["_bucket", "_count", "_sum"] {
        say(name.ends_with(ending), &format!("the ending `{ending}`"));
    }
    for kind in TYPES {
        let inside = format!("_{name}_").contains(&format!("_{kind}_"));
        say(inside, &format!("its name has the type `{kind}` in it"));
    }
}

fn labels(family: &Family, found: &mut Vec<String>) {
    let mut names: Vec<&str> =
        family.samples.iter().flat_map(|s| s.labels.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        if has_capitals(name) {
            found.push(format!("capital letters in the label `{name}`"));
        }
        if name == "quantile" || (name == "le" && family.kind != "histogram") {
            found.push(format!("the label `{name}`"));
        }
    }
}

fn counters(family: &Family, found: &mut Vec<String>) {
    for Sample { value, .. } in &family.samples {
        if !(value.is_finite() && *value >= 0.0) {
            found.push(format!("a counter that is {value}"));
        }
    }
}

/// What a histogram is made of, for one set of labels.
#[derive(Default)]
struct Histogram {
    /// Bounds and counts, in their order.
    buckets: Vec<(String, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

fn histograms(family: &Family, found: &mut Vec<String>) {
    let mut all: BTreeMap<BTreeMap<String, String>, Histogram> = BTreeMap::new();
    for Sample { name, labels, value } in &family.samples {
        let mut own = labels.clone();
        let bound = own.remove("le");
        let one = all.entry(own).or_default();
        match (name.strip_prefix(family.name.as_str()), bound) {
            (Some("_bucket"), Some(bound)) => one.buckets.push((bound, *value)),
            (Some("_sum"), None) => one.sum = Some(*value),
            (Some("_count"), None) => one.count = Some(*value),
            _ => found.push(format!("{name}: `le` where it is not due, or not where it is")),
        }
    }
    for (labels, one) in all {
        for complaint in one.complaints() {
            found.push(format!("{complaint}, at {labels:?}"));
        }
    }
}

impl Histogram {
    fn complaints(&self) -> Vec<String> {
        let (mut found, mut last, mut below) = (Vec::new(), f64::NEG_INFINITY, 0.0);
        for (text, count) in &self.buckets {
            let bound = if text == "+Inf" { f64::INFINITY } else { text.parse().unwrap_or(last) };
            if bound <= last {
                found.push(format!("the bound {text} does not rise"));
            }
            if *count < below || count.fract() != 0.0 {
                found.push(format!("the count at {text} does not go on"));
            }
            (last, below) = (bound, *count);
        }
        if last != f64::INFINITY {
            found.push("no bucket `+Inf` at the end".to_owned());
        }
        if self.count != Some(below) {
            found.push("`_count` is not the last bucket".to_owned());
        }
        if self.sum.is_none() {
            found.push("no `_sum`".to_owned());
        }
        found
    }
}
