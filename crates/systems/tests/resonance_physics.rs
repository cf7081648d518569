//! The physics against another integrator: `fixtures/resonance.json`, which `fixtures/resonance.py` made with
//! SciPy from the equations written down anew.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use commonhold_systems::resonance::physics::{Coupling, Network, Oscillator};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn cases() -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("fixtures/resonance.json")).unwrap();
    let cases = all["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 6);
    cases
}

fn network(case: &Value) -> Network {
    let node = |n: &Vec<f64>| Oscillator::new(n[0], n[1], n[2]).unwrap();
    let field = |f: &Vec<f64>| Coupling { a: f[0] as usize, b: f[1] as usize, strength: f[2] };
    let nodes = rows(&case["nodes"]).iter().map(node).collect();
    Network::new(nodes, rows(&case["fields"]).iter().map(field).collect()).unwrap()
}

/// How far two phases are apart, as the chord between them.
fn chord(a: f64, b: f64) -> f64 {
    (a.cos() - b.cos()).hypot(a.sin() - b.sin())
}

#[test]
fn a_tick_is_what_scipy_integrates() {
    for case in cases() {
        let (mut moved, dt) = (network(&case), case["dt_s"].as_f64().unwrap());
        moved.tick(dt).unwrap();
        for (o, want) in moved.oscillators().iter().zip(numbers(&case["phases"])) {
            let off = chord(o.phase, want);
            assert!(off < 2e-8, "{off} rad after {dt} s of {} nodes", moved.oscillators().len());
        }
        for (got, want) in moved.coherences().iter().zip(numbers(&case["coherences"])) {
            assert!((got - want).abs() < 2e-8, "coherence {got} is not {want}");
        }
    }
}

#[test]
fn a_resonance_is_what_scipy_integrates() {
    for case in cases() {
        let (mut moved, dt) = (network(&case), case["dt_s"].as_f64().unwrap());
        let (before, source) = (moved.energy(), case["source"].as_u64().unwrap() as usize);
        let near = |at: usize| {
            at == source
                || moved
                    .couplings()
                    .iter()
                    .any(|c| [(c.a, c.b), (c.b, c.a)].contains(&(source, at)))
        };
        let touched: Vec<bool> = (0..moved.oscillators().len()).map(near).collect();
        moved.resonate(source, dt).unwrap();
        assert!((moved.energy() / before - 1.0).abs() < 1e-13);
        let ends = moved.oscillators().iter().zip(rows(&case["resonated"])).zip(touched);
        for ((o, want), touched) in ends {
            let (x, y) = (o.amplitude * o.phase.cos(), o.amplitude * o.phase.sin());
            let off = (x - want[0]).hypot(y - want[1]);
            assert!(off < if touched { 1e-4 } else { 1e-9 }, "{off} after {dt} s from {source}");
        }
    }
}
