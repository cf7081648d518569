//! The coherence of two nodes: how much of one is the other, linearly, frequency by frequency.
//!
//! Magnitude-squared coherence by Welch's method, as `scipy.signal.coherence` computes it: segments that overlap by
//! half, each without its mean and weighted with the periodic Hann window,
//!
//! ```text
//! C(f) = |Σ X̄ Y|² / (Σ |X|² Σ |Y|²),   sums over the segments
//! ```
//! between 0 and 1. Of independent noise it is about 1 / segments, not 0. Where one of the nodes has no power it
//! is 0 here.
//!
//! # Sources
//! P. D. Welch, *The use of fast Fourier transform for the estimation of power spectra*, IEEE Trans. Audio
//! Electroacoust. 15, 70 (1967); G. C. Carter, *Coherence and time delay estimation*, Proc. IEEE 75, 236 (1987).

use realfft::RealFftPlanner;
use realfft::num_complex::Complex64;

use super::window::Window;

/// The transforms of a node's segments.
pub(super) struct Segments {
    segments: Vec<Vec<Complex64>>,
    /// Σ|X|² at each bin.
    power: Vec<f64>,
}

/// How many segments of `segment` samples overlap by half within `samples`.
pub(super) fn count(samples: usize, segment: usize) -> usize {
    let half = segment.div_ceil(2).max(1);
    samples.checked_sub(segment).map_or(0, |rest| rest / half + 1)
}

/// The segments' length when none is asked for: the largest power of two that is at most a 16th of the samples.
/// That makes 31 segments or more.
pub(super) fn segment_for(samples: usize) -> usize {
    1 << (samples / 16).max(8).ilog2()
}

impl Segments {
    /// Cuts and transforms `samples`.
    pub(super) fn new(samples: &[f64], segment: usize) -> Self {
        // Of samples over the largest, those of a constant are 1, and nothing of it is left without their mean.
        let largest = samples.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let scale = if largest < f64::MIN_POSITIVE { 1.0 } else { largest };
        let weights = Window::Hann.weights(segment);
        let plan = RealFftPlanner::new().plan_fft_forward(segment);
        let mut buffer = plan.make_input_vec();
        let mut segments = Vec::new();
        let mut power = vec![0.0; segment / 2 + 1];
        for piece in samples.windows(segment).step_by(segment.div_ceil(2).max(1)) {
            let mean = piece.iter().map(|x| x / scale).sum::<f64>() / segment as f64;
            for (to, (x, w)) in buffer.iter_mut().zip(piece.iter().zip(&weights)) {
                *to = (x / scale - mean) * w;
            }
            let mut bins = plan.make_output_vec();
            if plan.process(&mut buffer, &mut bins).is_err() {
                bins.fill(Complex64::ZERO);
            }
            power.iter_mut().zip(&bins).for_each(|(sum, x)| *sum += x.norm_sqr());
            segments.push(bins);
        }
        Self { segments, power }
    }

    /// The coherence with `other` at each bin; both of the same length and segment.
    pub(super) fn coherence(&self, other: &Self) -> Vec<f64> {
        let mut cross = vec![Complex64::ZERO; self.power.len()];
        for (x, y) in self.segments.iter().zip(&other.segments) {
            for (sum, (x, y)) in cross.iter_mut().zip(x.iter().zip(y)) {
                *sum += x.conj() * y;
            }
        }
        let powers = self.power.iter().zip(&other.power).map(|(a, b)| a * b);
        let share = |(cross, power): (&Complex64, f64)| {
            let share = cross.norm_sqr() / power;
            if share.is_finite() { share.min(1.0) } else { 0.0 }
        };
        cross.iter().zip(powers).map(share).collect()
    }
}
