//! The tasks of the pools, in bytes, the same for all: eight of its number, then what it is about. The result begins
//! with the number and with the time when a worker began (`CLOCK_MONOTONIC`, nanoseconds).

use std::cell::RefCell;
use std::f64::consts::TAU;
use std::sync::Arc;

use commonhold::systems::cascade::{CascadeArgs, Options, Signal, analyze_resonance};
use commonhold_os::clock::monotonic_nanos;
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use crate::Outcome;
use crate::measure::Random;

/// Samples of a transform.
const SAMPLES: usize = 1024;
/// Different signals; task `n` has the one of index `n % SIGNALS`.
const SIGNALS: usize = 16;
/// Bytes of an empty task.
const EMPTY_BYTES: usize = 64;
/// Bytes of the number, and of number and time.
const NUMBER_BYTES: usize = 8;
const HEAD_BYTES: usize = 16;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nothing: 64 bytes in, 16 out. What is left is the pool's own cost.
    Empty,
    /// [`transform`].
    Transform,
    /// The whole harmonic analysis of a signal of several channels.
    Cascade,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Empty, Self::Transform, Self::Cascade];

    pub(crate) fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Transform => "transform",
            Self::Cascade => "cascade",
        }
    }
}

/// What a worker does, in any pool.
pub(crate) fn run(kind: Kind, task: &[u8]) -> Result<Vec<u8>, String> {
    let started = monotonic_nanos();
    let (number, rest) = task.split_at_checked(NUMBER_BYTES).ok_or("a task without a number")?;
    let mut result = Vec::with_capacity(HEAD_BYTES + 24);
    result.extend_from_slice(number);
    result.extend_from_slice(&started.to_le_bytes());
    match kind {
        Kind::Empty => {}
        Kind::Transform => result.extend_from_slice(&transform(rest)?),
        Kind::Cascade => result.extend_from_slice(&cascade(rest)?),
    }
    Ok(result)
}

/// Tasks of one kind, and what must come of them.
pub(crate) struct Tasks {
    pub(crate) kind: Kind,
    inputs: Vec<Vec<u8>>,
    expected: Vec<Vec<u8>>,
}

impl Tasks {
    /// Tasks that need no signal.
    pub(crate) fn empty() -> Self {
        let inputs = vec![vec![7; EMPTY_BYTES - NUMBER_BYTES]];
        Self { kind: Kind::Empty, inputs, expected: vec![Vec::new()] }
    }

    /// Transforms of signals of [`SAMPLES`] samples.
    pub(crate) fn transforms() -> Outcome<Self> {
        let bytes = |n| signal(n, SAMPLES).flat_map(f64::to_le_bytes).collect();
        Self::of(Kind::Transform, (0..SIGNALS).map(bytes).collect(), transform)
    }

    /// Analyses of these signals.
    pub(crate) fn cascades(args: &[CascadeArgs]) -> Outcome<Self> {
        let inputs = args.iter().map(CascadeArgs::encode).collect::<Result<_, _>>()?;
        Self::of(Kind::Cascade, inputs, cascade)
    }

    fn of(
        kind: Kind,
        inputs: Vec<Vec<u8>>,
        run: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
    ) -> Outcome<Self> {
        let expected = inputs.iter().map(|s| run(s)).collect::<Result<Vec<_>, _>>()?;
        if (1..inputs.len()).any(|n| expected.get(n) == expected.get(n - 1)) {
            return Err("two signals have the same peak, so mixed results would not be seen".into());
        }
        Ok(Self { kind, inputs, expected })
    }

    /// All inputs, one after the other, then all results: what a peer in another language is given.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.inputs.concat(), self.expected.concat()].concat()
    }

    /// The task of this number.
    pub(crate) fn task(&self, number: usize) -> Vec<u8> {
        let input = self.inputs.get(number % self.inputs.len()).map_or(&[][..], Vec::as_slice);
        let mut task = Vec::with_capacity(NUMBER_BYTES + input.len());
        task.extend_from_slice(&(number as u64).to_le_bytes());
        task.extend_from_slice(input);
        task
    }

    /// The number of the task and the time when it began; fails if its result is not right.
    pub(crate) fn check(&self, result: &[u8]) -> Outcome<(usize, u64)> {
        let word = |at| {
            let bytes = result.get(at..at + size_of::<u64>()).and_then(|b| b.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or("a result that is too short")
        };
        let (number, started) = (word(0)? as usize, word(NUMBER_BYTES)?);
        let expected = self.expected.get(number % self.expected.len()).map(Vec::as_slice);
        if result.get(HEAD_BYTES..) != expected {
            return Err(format!("the result of task {number} is not the right one").into());
        }
        Ok((number, started))
    }
}

/// Signal `number`: a few partials of a frequency of its own, and noise.
fn signal(number: usize, samples: usize) -> impl Iterator<Item = f64> {
    let mut random = Random::new(number as u64 + 1);
    let step = TAU * (5.3 + 7.7 * number as f64) / SAMPLES as f64;
    let sample = move |n| {
        let partials: f64 =
            (1..=4).map(|k| (step * f64::from(k) * n as f64).sin() / f64::from(k)).sum();
        partials + 1e-3 * (random.below(2000) as f64 - 1000.0) / 1000.0
    };
    (0..samples).map(sample)
}

/// Signals of two channels of so many samples each, at 48 kHz.
pub(crate) fn recordings(samples: usize) -> Outcome<Vec<CascadeArgs>> {
    let recording = |n| {
        // 16 bits a sample, as recordings have, travel as four bytes.
        let sample = |x: f64| (x * 32_768.0).round() / 32_768.0;
        let channels = [n, n + SIGNALS].map(|n| signal(n, samples).map(sample).collect()).to_vec();
        Ok(CascadeArgs::new(Signal::new(48_000.0, channels)?, Options::default())?)
    };
    (0..SIGNALS).map(recording).collect()
}

/// Arguments and result of an analysis are bytes, as a task carries them.
fn cascade(args: &[u8]) -> Result<Vec<u8>, String> {
    let args = CascadeArgs::decode(args).map_err(|e| e.to_string())?;
    Ok(analyze_resonance(&args).map_err(|e| e.to_string())?.encode())
}

/// What is kept from one transform to the next of the same length.
struct Plan {
    fft: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    input: Vec<f64>,
    scratch: Vec<Complex<f64>>,
    spectrum: Vec<Complex<f64>>,
}

impl Plan {
    fn new(samples: usize) -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(samples);
        // Hann, periodic.
        let window = (0..samples).map(|n| 0.5 - 0.5 * (TAU * n as f64 / samples as f64).cos());
        Self {
            window: window.collect(),
            input: fft.make_input_vec(),
            scratch: fft.make_scratch_vec(),
            spectrum: fft.make_output_vec(),
            fft,
        }
    }
}

/// Window, real FFT and search of the peak: index, amplitude and phase of the largest component, each `f64`.
fn transform(signal: &[u8]) -> Result<Vec<u8>, String> {
    thread_local! {
        static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
    }
    PLAN.with_borrow_mut(|slot| {
        let samples = signal.len() / size_of::<f64>();
        if slot.as_ref().is_none_or(|plan| plan.input.len() != samples) {
            *slot = Some(Plan::new(samples));
        }
        let plan = slot.as_mut().ok_or("no plan")?;
        let (values, _) = signal.as_chunks();
        for ((to, from), weight) in plan.input.iter_mut().zip(values).zip(&plan.window) {
            *to = f64::from_le_bytes(*from) * weight;
        }
        plan.fft
            .process_with_scratch(&mut plan.input, &mut plan.spectrum, &mut plan.scratch)
            .map_err(|e| e.to_string())?;
        let largest = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
        let power = plan.spectrum.iter().map(Complex::norm_sqr).enumerate();
        let (index, power) = power.max_by(largest).ok_or("a signal without samples")?;
        let phase = plan.spectrum.get(index).map_or(0.0, |c| c.arg());
        // The window's mean is a half, and half of the amplitude is at the negative frequency.
        let amplitude = 4.0 * power.sqrt() / samples as f64;
        Ok([index as f64, amplitude, phase].into_iter().flat_map(f64::to_le_bytes).collect())
    })
}
