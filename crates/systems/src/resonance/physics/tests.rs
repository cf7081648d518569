//! Checks against closed forms, conservation laws and symmetries. `tests/resonance_physics.rs` compares with
//! another integrator.

use std::f64::consts::{FRAC_PI_2, PI};

use super::*;

fn network(nodes: &[(f64, f64, f64)], fields: &[(usize, usize, f64)]) -> Network {
    let node = |(f, a, p): &(f64, f64, f64)| Oscillator::new(*f, *a, *p).unwrap();
    let field =
        |(a, b, strength): &(usize, usize, f64)| Coupling { a: *a, b: *b, strength: *strength };
    let nodes = nodes.iter().map(node).collect();
    Network::new(nodes, fields.iter().map(field).collect()).unwrap()
}

/// splitmix64, as a number from 0 to 1.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ z >> 31) as f64 / u64::MAX as f64
}

fn random(seed: u64, count: usize, spread_hz: f64) -> Network {
    let mut state = seed;
    let nodes: Vec<_> = (0..count)
        .map(|_| {
            let f = 2.0 + spread_hz * uniform(&mut state);
            (f, uniform(&mut state), TAU * uniform(&mut state))
        })
        .collect();
    let mut fields = Vec::new();
    for a in 0..count {
        for b in a + 1..count {
            if uniform(&mut state) < 0.5 {
                fields.push((a, b, 3.0 * uniform(&mut state) - 0.5));
            }
        }
    }
    network(&nodes, &fields)
}

/// The angle from `b` to `a`, in (−π, π].
fn apart(a: f64, b: f64) -> f64 {
    PI - wrap(PI - (a - b))
}

fn difference(network: &Network) -> f64 {
    let [a, b] = network.oscillators() else { panic!("not a pair") };
    apart(a.phase, b.phase)
}

#[test]
fn alone_a_phase_turns_with_its_frequency() {
    for (f, dt) in [(0.0, 3.0), (1.0, 0.25), (440.0, 1.0 / 3.0), (1e6 + 0.125, 7.0)] {
        let mut alone = network(&[(f, 1.0, 1.0)], &[]);
        alone.tick(dt).unwrap();
        let want = 1.0 + TAU * (f * dt).fract();
        assert!(apart(alone.oscillators()[0].phase, want).abs() < 1e-12, "{f} Hz for {dt} s");
    }
}

#[test]
fn equal_frequencies_close_up_as_the_closed_form_says() {
    // dψ/dt = −2K sin ψ has the solution tan(ψ/2) = tan(ψ0/2) exp(−2Kt).
    let (k, psi) = (1.7, 2.5_f64);
    for t in [0.01, 0.3, 1.0, 4.0] {
        let mut pair = network(&[(3.0, 1.0, psi), (3.0, 0.2, 0.0)], &[(0, 1, k)]);
        pair.tick(t).unwrap();
        let want = 2.0 * ((psi / 2.0).tan() * (-2.0 * k * t).exp()).atan();
        assert!((difference(&pair) - want).abs() < 1e-7, "after {t} s");
    }
}

#[test]
fn a_detuned_pair_drifts_as_the_closed_form_says() {
    // dψ/dt = δ − 2K sin ψ with s = 2K/δ < 1: tan(ψ/2) = s + √(1−s²) tan(δ√(1−s²)/2 (t + t0)).
    let (k, f) = (1.0, 0.8);
    let delta = TAU * f;
    let s: f64 = 2.0 * k / delta;
    let root = (1.0 - s * s).sqrt();
    for t in [0.05, 0.4, 1.0, 2.5] {
        let mut pair = network(&[(1.0 + f, 1.0, 0.3), (1.0, 1.0, 0.0)], &[(0, 1, k)]);
        pair.tick(t).unwrap();
        let start = ((0.15_f64.tan() - s) / root).atan();
        let half = (s + root * (delta * root / 2.0 * t + start).tan()).atan();
        // atan knows the half angle up to π, the whole angle up to 2π.
        assert!(apart(difference(&pair), 2.0 * half).abs() < 1e-6, "after {t} s");
    }
}

#[test]
fn a_pair_locks_at_the_angle_that_holds_its_detuning() {
    let (k, f) = (2.0, 0.3);
    let mut pair = network(&[(5.0 + f, 1.0, 2.0), (5.0, 1.0, 0.0)], &[(1, 0, k)]);
    (0..20).for_each(|_| pair.tick(1.0).unwrap());
    let want = (TAU * f / (2.0 * k)).asin();
    assert!((difference(&pair) - want).abs() < 1e-7, "{} is not {want}", difference(&pair));
}

#[test]
fn equal_frequencies_synchronise() {
    let mut all = random(7, 20, 0.0);
    for c in &mut all.couplings {
        c.strength = 1.0;
    }
    let before = all.order();
    (0..40).for_each(|_| all.tick(0.5).unwrap());
    assert!(before < 0.5 && all.order() > 1.0 - 1e-9, "{before} became {}", all.order());
    assert!(all.coherences().iter().all(|c| *c > 1.0 - 1e-9));
}

#[test]
fn the_error_falls_with_the_fourth_power_of_the_substep() {
    let start = random(3, 6, 1.0);
    let phases = |substeps| {
        let mut moved = start.clone();
        moved.integrate(1.0, substeps);
        moved.oscillators.iter().map(|o| o.phase).collect::<Vec<_>>()
    };
    let truth = phases(4096);
    let error = |substeps| {
        let off =
            phases(substeps).iter().zip(&truth).map(|(a, b)| apart(*a, *b).abs()).sum::<f64>();
        assert!(off > 0.0);
        off
    };
    for n in [32, 64] {
        let order = (error(n) / error(2 * n)).log2();
        assert!((3.7..4.4).contains(&order), "of order {order} from {n} to {} substeps", 2 * n);
    }
}

#[test]
fn a_tick_is_the_same_in_every_frame_and_order() {
    let start = random(11, 5, 0.5);
    let mut moved = start.clone();
    moved.tick(0.7).unwrap();
    // All phases turned alike, all frequencies raised alike: every phase is off by the same.
    let mut turned = start.clone();
    for o in &mut turned.oscillators {
        (o.frequency_hz, o.phase) = (o.frequency_hz + 3.0, wrap(o.phase + 1.0));
    }
    turned.tick(0.7).unwrap();
    let by = 1.0 + TAU * 2.1;
    // Named in the other order: the couplings' ends swapped, the oscillators reversed.
    let mut reversed = start;
    reversed.oscillators.reverse();
    reversed.couplings.iter_mut().for_each(|c| (c.a, c.b) = (4 - c.b, 4 - c.a));
    reversed.tick(0.7).unwrap();
    for (at, o) in moved.oscillators.iter().enumerate() {
        assert!(apart(turned.oscillators[at].phase, o.phase + by).abs() < 1e-9);
        assert!(apart(reversed.oscillators[4 - at].phase, o.phase).abs() < 1e-9);
    }
}

#[test]
fn a_tick_moves_phases_only() {
    let start = random(5, 6, 0.5);
    let mut moved = start.clone();
    moved.tick(0.3).unwrap();
    for (a, b) in start.oscillators.iter().zip(&moved.oscillators) {
        assert_eq!((a.frequency_hz, a.amplitude), (b.frequency_hz, b.amplitude));
        assert!((0.0..TAU).contains(&b.phase));
    }
    assert_eq!(start.energy(), moved.energy());
}

#[test]
fn resonance_conserves_the_energy_and_leaves_others_alone() {
    for seed in 0..50 {
        let start = random(seed, 7, if seed % 2 == 0 { 0.0 } else { 2.0 });
        let mut moved = start.clone();
        for round in 0..20 {
            moved.resonate(round % 7, 0.3).unwrap();
        }
        let off = (moved.energy() - start.energy()).abs() / start.energy();
        assert!(off < 1e-12, "seed {seed}: {off}");
        assert!(moved.oscillators != start.oscillators, "seed {seed}: nothing happened");
        let mut once = start.clone();
        once.resonate(0, 0.3).unwrap();
        let near = |at| at == 0 || start.couplings.iter().any(|c| c.a == 0 && c.b == at);
        for at in (0..7).filter(|at| !near(*at)) {
            assert_eq!(once.oscillators[at], start.oscillators[at]);
        }
    }
}

#[test]
fn a_resonant_pair_swings_as_the_closed_form_says() {
    // E_source = E cos² Kt.
    for t in [0.1, 0.5, FRAC_PI_2, 2.0, 30.0] {
        let mut pair = network(&[(8.0, 2.0, 0.4), (8.0, 0.0, 0.0)], &[(0, 1, 0.9)]);
        pair.resonate(0, t).unwrap();
        let [a, b] = pair.oscillators() else { panic!() };
        assert!((a.energy() - 2.0 * (0.9 * t).cos().powi(2)).abs() < 1e-12, "after {t} s");
        assert!((b.energy() - 2.0 * (0.9 * t).sin().powi(2)).abs() < 1e-12, "after {t} s");
    }
}

#[test]
fn a_detuned_pair_exchanges_the_share_that_the_closed_form_says() {
    // Rabi's formula: K²/(K² + δ²/4) sin²(√(K² + δ²/4) t).
    let (k, f) = (1.0, 0.5);
    let half = TAU * f / 2.0;
    let rate = (k * k + half * half).sqrt();
    for t in [0.2, 0.7, 1.5] {
        for (source, detuned) in [(0, f), (1, -f)] {
            let nodes = [(8.0, 1.0, 0.0), (8.0 + detuned, 0.0, 0.0)];
            let mut pair = network(&nodes, &[(0, 1, k)]);
            pair.resonate(source, t).unwrap();
            let share = pair.oscillators()[1].energy() / 0.5;
            let want = (k / rate * (rate * t).sin()).powi(2);
            assert!((share - want).abs() < 1e-3, "after {t} s: {share} is not {want}");
        }
    }
}

#[test]
fn energy_flows_by_strength_amplitudes_and_phase() {
    // d(A²/2)/dt of the source is −K A B sin(φ_b − φ_a).
    let t = 1e-6;
    for (k, phase) in [(1.0, 0.3), (2.0, 0.3), (-1.0, 1.0), (1.0, -FRAC_PI_2), (1.0, 0.0)] {
        let mut pair = network(&[(1.0, 2.0, 0.0), (1.0, 3.0, phase)], &[(0, 1, k)]);
        pair.resonate(0, t).unwrap();
        let power = (pair.oscillators()[0].energy() - 2.0) / t;
        assert!((power + k * 6.0 * phase.sin()).abs() < 1e-4, "{power} with {k} at {phase}");
    }
}

#[test]
fn ratios_are_the_coprime_ones() {
    let gcd = |mut a: u32, mut b: u32| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut want = Vec::new();
    for p in 1..=RATIO_TERM_MAX {
        want.extend((1..=p).filter(|q| gcd(p, *q) == 1).map(|q| Ratio { p, q }));
    }
    want.sort_by(|a, b| a.value().total_cmp(&b.value()));
    assert_eq!(Ratio::all(), want);
}

fn tones(frequencies: &[f64]) -> Vec<Tone> {
    frequencies.iter().map(|f| Tone { frequency_hz: *f, coherence: 1.0 }).collect()
}

fn found(frequencies: &[f64], tolerance: f64) -> Vec<(String, Vec<usize>)> {
    let patterns = detect(&tones(frequencies), tolerance).unwrap();
    patterns.into_iter().map(|p| (p.ratio.to_string(), p.members)).collect()
}

fn pattern(ratio: &str, members: &[usize]) -> (String, Vec<usize>) {
    (ratio.to_owned(), members.to_vec())
}

#[test]
fn patterns_are_groups_of_one_ratio() {
    assert_eq!(found(&[440.0, 880.0], 0.01), [pattern("2:1", &[0, 1])]);
    let chain = [pattern("2:1", &[0, 1, 2]), pattern("4:1", &[1, 2])];
    assert_eq!(found(&[220.0, 440.0, 110.0, 77.7], 0.01), chain);
    let two = found(&[100.0, 200.0, 103.0, 206.0], 0.01);
    assert_eq!(two, [pattern("2:1", &[0, 1]), pattern("2:1", &[2, 3])]);
    assert_eq!(found(&[0.0, 0.0, 440.0, 1234.5], 0.01), []);
    assert_eq!(found(&[], 0.01), []);
    assert_eq!(found(&[440.0, 440.0, 440.0], 0.01), [pattern("1:1", &[0, 1, 2])]);
}

#[test]
fn a_pattern_is_as_strong_as_it_is_close_and_coherent() {
    let strength = |f: f64, coherence: f64| {
        let pair =
            [Tone { frequency_hz: 100.0, coherence: 1.0 }, Tone { frequency_hz: f, coherence }];
        detect(&pair, 0.01).unwrap().first().map(|p| p.strength)
    };
    let close = |f, coherence, want: f64| {
        let got: f64 = strength(f, coherence).unwrap();
        assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    };
    close(200.0, 1.0, 1.0);
    close(201.0, 1.0, 0.5);
    close(199.0, 1.0, 0.5);
    close(200.0, 0.25, 0.5);
    assert_eq!(strength(203.0, 1.0), None);
}

#[test]
fn patterns_are_those_that_trying_all_pairs_finds() {
    let mut state = 99;
    for round in 0..200 {
        let tolerance = [0.002, 0.01, 0.05][round % 3];
        let count = 2 + round % 23;
        let f: Vec<f64> = (0..count).map(|_| 100.0 * 12_f64.powf(uniform(&mut state))).collect();
        let ratios = Ratio::all();
        let mut want = Vec::new();
        for ratio in &ratios {
            let linked = |a: usize, b: usize| {
                let quotient = f[a].max(f[b]) / f[a].min(f[b]);
                let off = |r: &Ratio| (quotient / r.value()).ln().abs();
                let nearest = ratios.iter().min_by(|a, b| off(a).total_cmp(&off(b))).unwrap();
                nearest == ratio && (quotient / ratio.value() - 1.0).abs() <= tolerance
            };
            let mut left: Vec<usize> = (0..count).collect();
            while let Some(first) = left.first().copied() {
                let mut group = vec![first];
                let mut at = 0;
                while at < group.len() {
                    let from = group[at];
                    group.extend(
                        (0..count)
                            .filter(|b| *b != from && linked(from, *b))
                            .filter(|b| !group.contains(b))
                            .collect::<Vec<_>>(),
                    );
                    at += 1;
                }
                left.retain(|n| !group.contains(n));
                group.sort_unstable();
                if group.len() > 1 {
                    want.push((ratio.to_string(), group));
                }
            }
        }
        assert_eq!(found(&f, tolerance), want, "round {round}: {f:?} within {tolerance}");
    }
}

#[test]
fn what_is_no_quantity_is_refused() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for f in [nan, inf, -inf, -1.0, 1e16] {
        assert!(matches!(Oscillator::new(f, 1.0, 0.0), Err(PhysicsError::Frequency(_))), "{f}");
        assert!(matches!(Oscillator::new(1.0, f * 1e90, 0.0), Err(PhysicsError::Amplitude(_))));
    }
    assert!(matches!(Oscillator::new(1.0, 1.0, nan), Err(PhysicsError::Phase(_))));
    for zero in [Oscillator::new(-0.0, -0.0, -0.0), Oscillator::new(0.0, 0.0, -1e-300)] {
        let zero = zero.unwrap();
        let signs = [zero.frequency_hz, zero.amplitude, zero.phase].map(f64::is_sign_positive);
        assert_eq!((zero, signs), (Oscillator::default(), [true; 3]), "no store keeps -0");
    }
    let two = vec![Oscillator::default(); 2];
    let one = |a, b, strength| Network::new(two.clone(), vec![Coupling { a, b, strength }]);
    for (a, b) in [(0, 0), (0, 2), (2, 1)] {
        assert!(matches!(one(a, b, 1.0), Err(PhysicsError::Coupling { .. })));
    }
    for strength in [nan, inf, -inf, 1e16] {
        assert!(matches!(one(0, 1, strength), Err(PhysicsError::Strength(_))));
    }
    let mut network = one(0, 1, 1.0).unwrap();
    for dt in [nan, inf, 0.0, -1.0, 1e7] {
        assert!(matches!(network.tick(dt), Err(PhysicsError::Time(_))));
        assert!(matches!(network.resonate(0, dt), Err(PhysicsError::Time(_))));
    }
    for tolerance in [nan, inf, 0.0, -0.1, 0.051] {
        assert!(matches!(detect(&[], tolerance), Err(PhysicsError::Tolerance(_))));
    }
}

#[test]
fn too_much_at_once_names_the_time_that_can_be_had() {
    let start = network(&[(1e9, 1.0, 0.0), (1.0, 1.0, 0.0)], &[(0, 1, 1.0)]);
    let refused = |result| match result {
        Err(PhysicsError::TooFast { dt_s_max, .. }) => dt_s_max,
        other => panic!("{other:?}"),
    };
    let mut moved = start.clone();
    let most = refused(moved.tick(1.0));
    assert!(moved == start && most > 1e-6 && most < 1.0, "{most}");
    assert!((refused(moved.resonate(0, 1.0)) / most - 1.0).abs() < 1e-6);
    assert_eq!(moved, start);
    moved.tick(most * 0.01).unwrap();
    moved.couplings[0].strength = 1e15;
    assert!(refused(moved.tick(1.0)) < most);
}
