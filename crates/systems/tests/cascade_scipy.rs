//! The harmonic analysis against NumPy and SciPy: `fixtures/cascade.json`, which `fixtures/cascade.py` made from the
//! definitions written down anew, and with another estimator beside.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use commonhold_systems::cascade::{
    Analysis, CascadeArgs, Options, Signal, analyze_resonance, coherence,
};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

fn cases() -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("fixtures/cascade.json")).unwrap();
    let cases = all["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 3);
    cases
}

fn channels(case: &Value) -> Vec<Vec<f64>> {
    case["channels"].as_array().unwrap().iter().map(numbers).collect()
}

fn analyse(case: &Value, window: &str) -> Analysis {
    let signal = Signal::new(case["rate_hz"].as_f64().unwrap(), channels(case)).unwrap();
    let harmonics = case["harmonics"].as_u64().unwrap() as u32;
    let window = window.parse().unwrap();
    let options = Options { window, harmonics, ..Options::default() };
    analyze_resonance(&CascadeArgs::new(signal, options).unwrap()).unwrap()
}

/// Fails unless `got` is `want` within `share` of it.
fn close(got: f64, want: &Value, share: f64, what: &str) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= share * want.abs(), "{what}: {got} is not {want}");
}

/// Runs `compare` on each node's analysis here and there.
fn nodes(compare: impl Fn(&commonhold_systems::cascade::Node, &Value)) {
    let mut compared = 0;
    for case in cases() {
        for window in ["hann", "blackman-harris"] {
            let analysis = analyse(&case, window);
            for (node, theirs) in analysis.nodes.iter().zip(case["nodes"].as_array().unwrap()) {
                let theirs = theirs.as_array().unwrap().iter();
                compare(node, theirs.clone().find(|theirs| theirs["window"] == window).unwrap());
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 12);
}

#[test]
fn a_node_is_what_scipy_finds() {
    nodes(|node, theirs| {
        close(node.mean, &theirs["mean"], 1e-9, "mean");
        close(node.rms, &theirs["rms"], 1e-12, "rms");
        // Their search for the maximum ends at a part in 1e8: |X|² is flat there.
        close(node.fundamental_hz.unwrap(), &theirs["fundamental_hz"], 1e-7, "fundamental");
        let lines = theirs["harmonics"].as_array().unwrap();
        assert_eq!(node.harmonics.len(), lines.len());
        for (harmonic, line) in node.harmonics.iter().zip(lines) {
            close(harmonic.amplitude, &line[0], 1e-5, "amplitude");
            close(harmonic.phase, &line[1], 1e-4, "phase");
        }
        close(node.thd.unwrap(), &theirs["thd"], 1e-5, "distortion");
        close(node.noise_density.unwrap(), &theirs["noise_density"], 1e-9, "noise");
    });
}

#[test]
fn another_estimator_finds_about_the_same() {
    nodes(|node, theirs| {
        for (harmonic, line) in node.harmonics.iter().zip(theirs["fit"].as_array().unwrap()) {
            let off = (harmonic.amplitude - line[0].as_f64().unwrap()).abs() / node.amplitude();
            assert!(off < 0.06, "{harmonic:?} is not {line}");
        }
    });
}

#[test]
fn coherence_is_that_of_scipy() {
    for case in cases() {
        let (both, rate_hz) = (channels(&case), case["rate_hz"].as_f64().unwrap());
        let segment = case["segment"].as_u64().unwrap() as u32;
        let bins = coherence(rate_hz, &both[0], &both[1], segment).unwrap();
        let theirs = case["coherence"].as_array().unwrap();
        assert_eq!(bins.len(), theirs.len());
        for (got, want) in bins.into_iter().zip(theirs) {
            close(got, want, 1e-9, "coherence");
        }
    }
}
