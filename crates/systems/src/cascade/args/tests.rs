//! The codec of the arguments, and what is refused before any work is done.

use proptest::prelude::*;

use super::*;
use crate::cascade::analyze_resonance;

fn ramp(samples: usize) -> Vec<f64> {
    (0..samples).map(|n| n as f64).collect()
}

fn args() -> CascadeArgs {
    let signal = Signal::new(100.0, vec![ramp(64), vec![0.5; 64]]).unwrap();
    CascadeArgs::new(signal, Options::default()).unwrap()
}

/// Why it is refused, in one line.
fn refusal<T>(result: Result<T, ArgsError>) -> String {
    let Err(refusal) = result else { panic!("it is not refused") };
    let line = refusal.to_string();
    assert!(!line.contains('\n') && !line.ends_with('.'), "{line}");
    line
}

#[test]
fn what_is_no_signal_is_refused_with_the_reason() {
    let signal = |rate_hz, channels| refusal(Signal::new(rate_hz, channels));
    let empty = "the signal is empty; give at least 64 samples";
    assert_eq!(signal(1.0, vec![]), empty);
    assert_eq!(signal(1.0, vec![vec![]]), empty);
    assert_eq!(signal(1.0, vec![ramp(63)]), "the signal has 63 samples; give at least 64");
    let many = "the signal has 17 channels; at most 16 are taken";
    assert_eq!(signal(1.0, vec![ramp(64); 17]), many);
    let ragged = "channel 1 has 65 samples and channel 0 has 64; make them equal";
    assert_eq!(signal(1.0, vec![ramp(64), ramp(65)]), ragged);
    for (value, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (-2e300, "-2e300;")] {
        let mut bad = ramp(64);
        bad[7] = value;
        let said = signal(1.0, vec![ramp(64), bad]);
        assert!(said.starts_with(&format!("sample 7 of channel 1 is {shown}")), "{said}");
        assert!(said.len() < 150, "{said}");
    }
    for rate_hz in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e13, 1e-13] {
        assert!(signal(rate_hz, vec![ramp(64)]).starts_with("the sample rate is "), "{rate_hz}");
    }
    assert!(Signal::new(1e12, vec![ramp(64); 16]).is_ok());
}

#[test]
fn wishes_that_cannot_be_served_are_refused() {
    let of = |options| refusal(CascadeArgs::new(args().signal, options));
    let all = Options::default();
    for harmonics in [0, 257] {
        let said = of(Options { harmonics, ..all });
        assert_eq!(said, format!("{harmonics} harmonics; ask for 1 to 256"));
    }
    let bands = [
        (Some(6.0), None),
        (None, Some(50.1)),
        (Some(20.0), Some(10.0)),
        (Some(f64::NAN), None),
        (None, Some(f64::NAN)),
        (None, Some(-1.0)),
        (Some(49.9), None),
        (None, Some(6.0)),
    ];
    for (min_hz, max_hz) in bands {
        let said = of(Options { min_hz, max_hz, ..all });
        assert!(said.starts_with("no fundamental can be found from "), "{said}");
        assert!(said.ends_with("64 samples at 100 Hz hold 6.25 to 46.875 Hz"), "{said}");
    }
    for band in [(Some(6.25), Some(50.0)), (Some(20.0), Some(20.0)), (None, Some(6.25))] {
        let options = Options { min_hz: band.0, max_hz: band.1, ..all };
        assert!(CascadeArgs::new(args().signal, options).is_ok(), "{band:?}");
    }
    for segment in [0, 7, 43, 64, 65, u32::MAX] {
        let said = of(Options { segment: Some(segment), ..all });
        let expected =
            format!("segments of {segment} samples; for a signal of 64 take from 8 to 42");
        assert_eq!(said, expected);
    }
    for segment in [8, 42] {
        let options = Options { segment: Some(segment), ..all };
        assert!(CascadeArgs::new(args().signal, options).is_ok(), "{segment}");
    }
    let known = "unknown window `bartlett`; it is one of rectangular, hann, blackman-harris";
    assert_eq!(refusal("bartlett".parse::<Window>()), known);
    for window in Window::ALL {
        assert_eq!(window.to_string().parse(), Ok(window));
        assert!(Window::NAMES.contains(&window.to_string()));
    }
}

#[test]
fn nothing_is_rounded_and_what_can_be_is_carried_in_four_bytes() {
    let bytes = |channel: Vec<f64>| {
        let signal = Signal::new(1.0, vec![channel]).unwrap();
        let args = CascadeArgs::new(signal, Options::default()).unwrap();
        let bytes = args.encode().unwrap();
        assert_eq!(CascadeArgs::decode(&bytes), Ok(args));
        (bytes.len() - HEADER_BYTES) / 64
    };
    assert_eq!(bytes(ramp(64)), 4);
    assert_eq!(bytes(ramp(64).iter().map(|x| x / f64::from(1 << 23)).collect()), 4, "24 bits");
    assert_eq!(bytes(ramp(64).iter().map(|x| x / 10.0).collect()), 8);
    assert_eq!(bytes(ramp(64).iter().map(|x| x * 1e39).collect()), 8, "more than an f32 holds");
    let mut zeros = vec![0.0; 64];
    zeros[3] = -0.0;
    assert_eq!(bytes(zeros), 4);
}

#[test]
fn a_signal_that_is_too_large_is_refused_and_its_blocks_are_not() {
    let most = CascadeArgs::samples_max(2, 4);
    assert_eq!(most, 131_066);
    let bytes = |samples| {
        let signal = Signal::new(44_100.0, vec![vec![0.25; samples]; 2]).unwrap();
        CascadeArgs::new(signal, Options::default()).unwrap().encode().map(|bytes| bytes.len())
    };
    assert_eq!(bytes(most), Ok(ARGS_BYTES_MAX));
    let said = refusal(bytes(most + 1));
    let expected = "2 channels of 131067 samples take 1048584 bytes; a task takes 1048576: cut the signal into blocks";
    assert_eq!(said, expected);

    let signal = Signal::new(44_100.0, vec![ramp(1000)]).unwrap();
    let blocks = signal.blocks(300).unwrap();
    let shapes: Vec<(usize, usize)> = blocks.iter().map(|(at, b)| (*at, b.samples())).collect();
    assert_eq!(shapes, [(0, 250), (250, 250), (500, 250), (750, 250)]);
    let again: Vec<f64> = blocks.iter().flat_map(|(_, b)| b.channels()[0].clone()).collect();
    assert_eq!(again, signal.channels()[0]);
    assert_eq!(signal.blocks(1000).unwrap(), [(0, signal.clone())]);
    assert_eq!(signal.blocks(999).unwrap().len(), 2);
    assert!(refusal(signal.blocks(63)).starts_with("the signal has 62 samples"));
    assert!(signal.blocks(0).is_err());
}

#[test]
fn other_bytes_are_refused_with_the_reason() {
    let right = args().encode().unwrap();
    let decoded = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = right.clone();
        change(&mut bytes);
        refusal(CascadeArgs::decode(&bytes))
    };
    let begin = "these bytes are no arguments of a harmonic analysis: ";
    assert_eq!(decoded(&|b| b.truncate(47)), format!("{begin}shorter than the header"));
    assert_eq!(decoded(&|b| b[0] = b'x'), format!("{begin}they begin with no known header"));
    assert_eq!(decoded(&|b| b[20] = 1), format!("{begin}they begin with no known header"));
    assert_eq!(decoded(&|b| b[4] = 3), format!("{begin}no known window"));
    assert_eq!(decoded(&|b| b[5] = 5), format!("{begin}samples are of 4 or 8 bytes"));
    for change in [|b: &mut Vec<u8>| b.push(0), |b: &mut Vec<u8>| b.truncate(50)] {
        let length = format!("{begin}their length is not that of the samples announced");
        assert_eq!(decoded(&change), length);
    }
    assert!(decoded(&|b| b[6] = 0).starts_with("the signal is empty"));
    assert!(decoded(&|b| b[6] = 17).starts_with("the signal has 17 channels"));
    assert!(decoded(&|b| b[16] = 63).starts_with("the signal has 63 samples"));
    assert!(decoded(&|b| b[24..32].fill(0)).starts_with("the sample rate is 0.0 Hz"));
    assert!(decoded(&|b| b[8] = 0).starts_with("0 harmonics"));
    assert!(decoded(&|b| b[32..40].fill(0xff)).starts_with("no fundamental"));
    assert!(decoded(&|b| b[48..52].fill(0xff)).starts_with("sample 0 of channel 0 is NaN"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded(
        samples in 64usize..100,
        channels in 1usize..5,
        rate_hz in 1e-3..1e6f64,
        wide in any::<bool>(),
        (window, harmonics) in (proptest::sample::select(&Window::ALL[..]), 1u32..=256),
        segment in proptest::option::of(8u32..40),
        seed in any::<u32>(),
    ) {
        let sample = |n: usize| f64::from((n as f32 + seed as f32).sin()) * if wide { 1.1 } else { 1.0 };
        let channel = |at: usize| (0..samples).map(|n| sample(at * samples + n)).collect();
        let signal = Signal::new(rate_hz, (0..channels).map(channel).collect()).unwrap();
        let (min_hz, max_hz) = (wide.then_some(rate_hz / 8.0), wide.then_some(rate_hz / 4.0));
        let options = Options { window, harmonics, min_hz, max_hz, segment };
        let args = CascadeArgs::new(signal, options).unwrap();
        prop_assert_eq!(CascadeArgs::decode(&args.encode().unwrap()), Ok(args));
    }

    #[test]
    fn any_bytes_are_arguments_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        prop_assert!(CascadeArgs::decode(&bytes).is_err());
        let mut near = args().encode().unwrap();
        for (at, to) in changes {
            let at = at.index(near.len());
            near[at] = to;
        }
        near.truncate(cut.map_or(near.len(), |cut| cut.index(near.len())));
        if let Ok(args) = CascadeArgs::decode(&near) {
            let analysis = analyze_resonance(&args).unwrap();
            prop_assert_eq!(crate::cascade::Analysis::decode(&analysis.encode()), Ok(analysis));
            prop_assert_eq!(CascadeArgs::decode(&args.encode().unwrap()), Ok(args));
        }
    }
}
