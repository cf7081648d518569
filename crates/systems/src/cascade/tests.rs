//! The analysis against closed forms, and its properties.

use std::f64::consts::{FRAC_PI_2, PI, TAU};

use proptest::prelude::*;

use super::*;

const RATE_HZ: f64 = 8000.0;

/// A sum of `amplitude × cos(2π hz t + phase)`.
fn tones(samples: usize, tones: &[(f64, f64, f64)]) -> Vec<f64> {
    let at = |n: usize| {
        let t = n as f64 / RATE_HZ;
        tones.iter().map(|(hz, a, phase)| a * (TAU * hz * t + phase).cos()).sum()
    };
    (0..samples).map(at).collect()
}

/// White noise of standard deviation near 1 (the sum of twelve even numbers), the same for the same seed.
fn noise(samples: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut even = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..samples).map(|_| (0..12).map(|_| even()).sum::<f64>() - 6.0).collect()
}

fn sum(a: &[f64], b: &[f64], share: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + share * b).collect()
}

fn analyse(channels: Vec<Vec<f64>>, options: Options) -> Analysis {
    let signal = Signal::new(RATE_HZ, channels).unwrap();
    analyze_resonance(&CascadeArgs::new(signal, options).unwrap()).unwrap()
}

fn one(samples: Vec<f64>) -> Node {
    analyse(vec![samples], Options::default()).strongest
}

/// How far two phases are apart.
fn apart(a: f64, b: f64) -> f64 {
    ((a - b + PI).rem_euclid(TAU) - PI).abs()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the module promises.
    #[test]
    fn tones_between_bins_are_as_exact_as_promised(
        bins in 6.0..100.0f64,
        samples in 1200usize..4000,
        phases in proptest::array::uniform4(-PI..PI),
        shares in proptest::array::uniform3(0.0..0.9f64),
        amplitude in 1e-3..1e3f64,
    ) {
        let bin = RATE_HZ / samples as f64;
        let hz = bins * bin;
        let all: Vec<(f64, f64, f64)> = [1.0, shares[0], shares[1], shares[2]]
            .into_iter().zip(phases).zip(1..)
            .map(|((share, phase), order)| (hz * f64::from(order), amplitude * share, phase))
            .collect();
        let node = one(tones(samples, &all));
        let off = (node.fundamental_hz.unwrap() - hz).abs() / bin;
        prop_assert!(off < 2e-4, "off by {off} bins");
        for ((_, a, phase), got) in all.iter().zip(&node.harmonics) {
            prop_assert!((got.amplitude - a).abs() < 1e-4 * amplitude, "{got:?} is not {a}");
            let near = apart(got.phase, *phase) < 3e-3;
            prop_assert!(*a < 0.1 * amplitude || near, "{got:?} is not at {phase}");
        }
        let thd = shares.iter().map(|x| x * x).sum::<f64>().sqrt();
        prop_assert!((node.thd.unwrap() - thd).abs() < 2e-4, "{:?} is not {thd}", node.thd);
        prop_assert!(node.noise_rms.is_none_or(|noise| noise < 1e-4 * amplitude), "{:?}", node.noise_rms);
    }

    #[test]
    fn scaling_scales_amplitudes_and_nothing_else(exponent in -300i32..300, seed in 0u64..1000) {
        let samples = sum(&tones(500, &[(300.0, 1.0, 0.4), (600.0, 0.2, -2.0)]), &noise(500, seed), 0.01);
        let factor = f64::from(exponent).exp2();
        let scaled = one(samples.iter().map(|x| x * factor).collect());
        let mut expected = one(samples);
        expected.harmonics.iter_mut().for_each(|harmonic| harmonic.amplitude *= factor);
        for part in [&mut expected.mean, &mut expected.rms] {
            *part *= factor;
        }
        for part in [&mut expected.noise_density, &mut expected.noise_rms] {
            *part = part.map(|part| part * factor);
        }
        prop_assert_eq!(scaled, expected, "a power of two is exact");
    }

    #[test]
    fn a_shift_in_time_turns_phases_alone(shift in 0usize..400, phase in -PI..PI) {
        let all = tones(2400, &[(313.7, 1.0, phase), (2.0 * 313.7, 0.5, 1.0)]);
        let here = one(all[..2000].to_vec());
        let later = one(all[shift..shift + 2000].to_vec());
        for (here, later) in here.harmonics.iter().zip(&later.harmonics).take(2) {
            prop_assert!((here.hz - later.hz).abs() < 1e-3);
            prop_assert!((here.amplitude - later.amplitude).abs() < 1e-4);
            let turned = here.phase + TAU * here.hz * shift as f64 / RATE_HZ;
            prop_assert!(apart(turned, later.phase) < 3e-3, "{here:?} {later:?} after {shift}");
        }
    }

    /// Whatever finite numbers come, numbers go, and come through the codec of the result unchanged.
    #[test]
    fn every_signal_has_an_analysis_of_finite_numbers(
        samples in 64usize..200,
        channels in 1usize..4,
        kind in 0..5,
        window in proptest::sample::select(&Window::ALL[..]),
        seed in any::<u64>(),
    ) {
        let mut bits = noise(samples * channels, seed).into_iter();
        let mut sample = || {
            let x = bits.next().unwrap();
            match kind {
                0 => x,
                1 => x * 1e299,
                2 => x * 1e-300,
                3 => x.floor().max(0.0),
                _ => (x * 50.0).exp2().min(1e300) * if x > 0.0 { 1.0 } else { -1.0 },
            }
        };
        let all = (0..channels).map(|_| (0..samples).map(|_| sample()).collect()).collect();
        let analysis = analyse(all, Options { window, ..Options::default() });
        let back = Analysis::decode(&analysis.encode());
        prop_assert_eq!(back, Ok(analysis), "JSON has no NaN and no infinity");
        prop_assert_eq!(Analysis::decode(b"{}"), Err(ArgsError::NoAnalysis));
    }
}

#[test]
fn a_square_wave_has_odd_harmonics_of_four_over_pi_k() {
    let period = 100;
    let square = (0..2500).map(|n| if n % period < period / 2 { 1.0 } else { -1.0 }).collect();
    let node = one(square);
    assert!((node.fundamental_hz.unwrap() - 80.0).abs() < 1e-3);
    assert_eq!(node.harmonics.len(), 10);
    for (harmonic, order) in node.harmonics.iter().zip(1..) {
        let k = f64::from(order);
        let turn = PI * k / period as f64;
        // Sampled, it is 4 / (P sin(πk/P)), half a sample early; the continuous one is its limit for large P.
        let (exact, limit) = (4.0 / (period as f64 * turn.sin()), 4.0 / (PI * k));
        let expected = if order % 2 == 1 { exact } else { 0.0 };
        assert!((harmonic.amplitude - expected).abs() < 1e-4, "{harmonic:?} is not {expected}");
        assert!(order % 2 == 0 || (harmonic.amplitude / limit - 1.0).abs() < 0.02, "{harmonic:?}");
        assert!(order % 2 == 0 || apart(harmonic.phase, turn - FRAC_PI_2) < 1e-2, "{harmonic:?}");
    }
    let thd = (1.0 / 9.0 + 1.0 / 25.0 + 1.0 / 49.0 + 1.0 / 81.0f64).sqrt();
    assert!((node.thd.unwrap() - thd).abs() < 2e-3, "{:?} is not {thd}", node.thd);
    assert!((node.thd_db.unwrap() - 20.0 * thd.log10()).abs() < 0.05);
}

#[test]
fn of_whole_periods_the_rectangular_window_is_exact() {
    let options = Options { window: Window::Rectangular, ..Options::default() };
    let all = [(100.0, 3.0, 0.7), (300.0, 0.03, -1.5)];
    let node = analyse(vec![tones(800, &all)], options).strongest;
    assert!((node.fundamental_hz.unwrap() - 100.0).abs() < 1e-9);
    for (harmonic, (hz, amplitude, phase)) in [0, 2].map(|at| node.harmonics[at]).iter().zip(all) {
        assert!((harmonic.hz - hz).abs() < 1e-9, "{harmonic:?}");
        assert!((harmonic.amplitude - amplitude).abs() < 1e-11, "{harmonic:?}");
        assert!(apart(harmonic.phase, phase) < 1e-9, "{harmonic:?}");
    }
    assert!((node.thd.unwrap() - 0.01).abs() < 1e-11);
}

#[test]
fn two_tones_are_no_harmonics_of_each_other() {
    let both = tones(8000, &[(441.3, 1.0, 0.0), (662.9, 0.9, 0.0)]);
    let node = one(both.clone());
    assert!((node.fundamental_hz.unwrap() - 441.3).abs() < 1e-3);
    assert!(node.thd.unwrap() < 1e-4, "{:?}", node.thd);
    let above = Options { min_hz: Some(500.0), ..Options::default() };
    let node = analyse(vec![both.clone()], above).strongest;
    assert!((node.fundamental_hz.unwrap() - 662.9).abs() < 1e-3);
    let below = Options { max_hz: Some(400.0), ..Options::default() };
    let node = analyse(vec![both], below).strongest;
    assert!(node.fundamental_hz.is_none_or(|hz| hz < 401.0) && node.amplitude() < 1e-4, "{node:?}");
}

#[test]
fn a_weak_fundamental_is_found_below_its_strongest_harmonic() {
    for (strongest, weak) in [(2, 0.11), (3, 0.2), (8, 0.5)] {
        let loud = (220.0 * f64::from(strongest), 1.0, 1.0);
        let node = one(tones(4000, &[(220.0, weak, 0.0), loud]));
        assert!((node.fundamental_hz.unwrap() - 220.0).abs() < 1e-2, "{strongest}: {node:?}");
        assert!((node.thd.unwrap() * weak - 1.0).abs() < 1e-3, "{strongest}: {node:?}");
        // Hum, which is no part of the sound, is left.
        let node = one(tones(4000, &[(220.0, 0.09, 0.0), loud]));
        assert!((node.fundamental_hz.unwrap() - loud.0).abs() < 1e-2, "{strongest}: {node:?}");
    }
}

#[test]
fn a_mean_is_no_tone_and_silence_has_none() {
    let node = one(tones(1000, &[(0.0, 5.0, 0.0), (333.3, 0.001, 0.3)]));
    assert!((node.mean - 5.0).abs() < 1e-6 && (node.rms - 0.001 * 0.5f64.sqrt()).abs() < 1e-5);
    assert!((node.harmonics[0].amplitude / 0.001 - 1.0).abs() < 1e-4);
    for (value, mean) in [(0.0, 0.0), (0.1, 0.1), (-1e200, -1e200), (1e-310, 0.0)] {
        let node = one(vec![value; 777]);
        assert!((node.mean - mean).abs() <= 1e-12 * mean.abs(), "{node:?}");
        assert_eq!(Node { mean: 0.0, ..node }, Node::silent(0, 0.0, 0.0));
    }
}

#[test]
fn the_noise_floor_is_that_of_the_noise_whatever_tones_stand_in_it() {
    let noise = noise(60_000, 7);
    let alone = one(noise.clone());
    let among = sum(
        &tones(60_000, &[(440.0, 100.0, 0.0), (880.0, 30.0, 0.0), (1003.0, 50.0, 0.0)]),
        &noise,
        1.0,
    );
    for node in [alone, one(among)] {
        assert!((node.noise_rms.unwrap() - 1.0).abs() < 0.03, "{node:?}");
        let density = (2.0 / RATE_HZ).sqrt();
        assert!((node.noise_density.unwrap() / density - 1.0).abs() < 0.03, "{node:?}");
    }
    let loud = one(sum(&tones(60_000, &[(440.0, 100.0, 0.0)]), &noise, 1.0));
    let snr_db = 20.0 * (100.0 * 0.5f64.sqrt()).log10();
    assert!((loud.snr_db.unwrap() - snr_db).abs() < 0.3, "{loud:?}");
}

#[test]
fn noise_moves_the_fundamental_as_much_as_is_said() {
    let (hz, share, cases) = (312.34, 0.1, 400);
    let tone = tones(1024, &[(hz, 1.0, 0.5)]);
    let bins: f64 = (0..cases)
        .map(|seed| one(sum(&tone, &noise(1024, seed), share)).fundamental_hz.unwrap())
        .map(|found| ((found - hz) / RATE_HZ * 1024.0).powi(2))
        .sum();
    let density = share * (2.0 / RATE_HZ).sqrt();
    let said = 1.2 * density * (RATE_HZ / 1024.0).sqrt();
    let deviation = (bins / cases as f64).sqrt();
    assert!((deviation / said - 1.0).abs() < 0.15, "{deviation} is not {said}");
}

#[test]
fn harmonics_end_below_half_the_sample_rate() {
    for (hz, count) in [(998.0, 4), (1001.0, 3), (3900.0, 1)] {
        let node = one(tones(4000, &[(hz, 1.0, 0.0)]));
        let orders: Vec<f64> =
            node.harmonics.iter().map(|harmonic| (harmonic.hz / hz).round()).collect();
        assert_eq!(orders, [1.0, 2.0, 3.0, 4.0][..count], "{node:?}");
        assert_eq!(node.thd.is_some(), count > 1);
    }
}

#[test]
fn coherence_tells_what_two_nodes_share() {
    let (x, y) = (noise(40_000, 1), noise(40_000, 2));
    let mean = |a: &[f64], b: &[f64]| {
        let bins = coherence(RATE_HZ, a, b, 256).unwrap();
        assert_eq!(bins.len(), 129);
        assert!(bins.iter().all(|c| (0.0..=1.0).contains(c)));
        bins[1..].iter().sum::<f64>() / 128.0
    };
    assert!(mean(&x, &x) > 1.0 - 1e-12);
    let turned: Vec<f64> = x.iter().map(|x| 3.0 - 7.0 * x).collect();
    assert!(mean(&x, &turned) > 1.0 - 1e-9, "scale, sign and mean do not matter");
    let segments = coherence::count(40_000, 256);
    assert_eq!(segments, 311);
    assert!((mean(&x, &y) * segments as f64 - 1.0).abs() < 0.3, "{}", mean(&x, &y));
    for share in [0.5, 1.0, 2.0] {
        let expected = 1.0 / (1.0 + share * share);
        let got = mean(&x, &sum(&x, &y, share));
        assert!((got - expected).abs() < 0.02, "{got} is not {expected}");
    }
    for silence in [0.0, 0.1, 1.0 / 3.0, 7e199] {
        let silence = vec![silence; 40_000];
        assert_eq!(mean(&x, &silence), 0.0, "nothing is shared with silence");
        let thirds = coherence(RATE_HZ, &silence, &silence, 300).unwrap();
        assert!(thirds.iter().all(|c| *c == 0.0), "what rounding leaves is none");
    }
}

#[test]
fn nodes_are_told_apart() {
    let (x, y) = (noise(20_000, 11), noise(20_000, 12));
    let tone = tones(20_000, &[(500.0, 2.0, 0.0)]);
    let nodes = vec![
        sum(&tone, &x, 0.1),
        sum(&tones(20_000, &[(500.0, 3.0, 1.0)]), &y, 0.1),
        vec![0.0; 20_000],
    ];
    let analysis = analyse(nodes, Options::default());
    let found: Vec<usize> = analysis.nodes.iter().map(|node| node.node).collect();
    assert_eq!((found, analysis.strongest.node), (vec![0, 1, 2], 1));
    assert_eq!(analysis.strongest, analysis.nodes[1]);
    assert!((analysis.nodes[0].amplitude() - 2.0).abs() < 0.01);
    assert!(apart(analysis.strongest.harmonics[0].phase, 1.0) < 0.01);
    let pairs: Vec<(usize, usize)> = analysis.coherence.iter().map(|p| (p.a, p.b)).collect();
    assert_eq!(pairs, [(0, 1), (0, 2), (1, 2)]);
    let first = &analysis.coherence[0];
    assert!(first.at_fundamental.unwrap() > 0.99 && first.mean < 0.1, "{first:?}");
    assert_eq!(analysis.coherence[1].at_fundamental, Some(0.0));
    assert_eq!(analysis.coherence_segments, 38, "of 1024 samples");
    let json: serde_json::Value = serde_json::from_slice(&analysis.encode()).unwrap();
    assert!(json["fundamental_hz"].as_f64().unwrap() > 499.0);
    for field in ["hz", "amplitude", "phase"] {
        assert!(json["harmonics"][0][field].is_f64(), "{json}");
    }
}
