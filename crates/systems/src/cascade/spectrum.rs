//! The spectrum of one node: the transform of its weighted samples, at bins and between them.
//!
//! Between the bins the sum itself is computed,
//!
//! ```text
//! X(ν) = Σ_n w[n] x[n] exp(-2πi ν n),   ν in periods a sample, n = 0 at the first sample
//! ```
//! so that a line is read at its very frequency. For x[n] = A cos(2π ν n + φ) it is (A/2) exp(iφ) Σw, but for what
//! leaks in from the line at -ν.

use std::f64::consts::TAU;

use realfft::RealFftPlanner;
use realfft::num_complex::Complex64;

use super::window::Window;

/// After so many samples the phasor is computed anew, so that its rounding does not add up.
const PHASOR_SAMPLES: usize = 256;
/// Newton's steps towards a maximum; from a parabola's guess four are enough.
const STEPS_MAX: usize = 16;

/// The weighted samples of a node, without their mean, and their spectrum at the bins.
pub(super) struct Spectrum {
    weighted: Vec<f64>,
    /// |X|² at bins 0 … N/2.
    power: Vec<f64>,
    /// Σw and Σw².
    weights: (f64, f64),
    /// Whether lines between the bins are looked for.
    between: bool,
    /// The mean that was taken off, Σwx / Σw.
    pub(super) mean: f64,
}

/// A local maximum of |X|.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peak {
    /// In periods a sample.
    pub(super) nu: f64,
    /// The amplitude of a tone of that frequency.
    pub(super) amplitude: f64,
}

impl Spectrum {
    pub(super) fn new(samples: &[f64], window: Window) -> Self {
        let weights = window.weights(samples.len());
        let sum: f64 = weights.iter().sum();
        let squares = weights.iter().map(|w| w * w).sum();
        let mean = weights.iter().zip(samples).map(|(w, x)| w * x).sum::<f64>() / sum;
        let weighted: Vec<f64> = weights.iter().zip(samples).map(|(w, x)| w * (x - mean)).collect();
        let power = transform(&mut weighted.clone()).iter().map(Complex64::norm_sqr).collect();
        Self { weighted, power, weights: (sum, squares), between: window.between_bins(), mean }
    }

    /// How many samples it is of.
    pub(super) fn samples(&self) -> usize {
        self.weighted.len()
    }

    /// The power at the bins.
    pub(super) fn power(&self) -> &[f64] {
        &self.power
    }

    /// From power to power density for a sample rate of 1, one-sided (`scipy.signal.periodogram`).
    pub(super) fn density(&self, power: f64) -> f64 {
        2.0 * power / self.weights.1
    }

    /// The tone at `nu`: half its amplitude, turned by its phase, doubled.
    pub(super) fn line(&self, nu: f64) -> Complex64 {
        let [x, ..] = self.moments::<1>(nu);
        2.0 * x / self.weights.0
    }

    /// Σ (n-c)^m w[n] x[n] exp(-2πi ν n) for m = 0 … M-1, with c the middle.
    fn moments<const M: usize>(&self, nu: f64) -> [Complex64; M] {
        let mut sums = [Complex64::ZERO; M];
        let rotor = Complex64::cis(-TAU * nu);
        let middle = (self.weighted.len() - 1) as f64 / 2.0;
        for (at, chunk) in self.weighted.chunks(PHASOR_SAMPLES).enumerate() {
            let first = (at * PHASOR_SAMPLES) as f64;
            let mut phasor = Complex64::cis(-TAU * (nu * first).fract());
            let mut from_middle = first - middle;
            for x in chunk {
                let mut term = phasor * *x;
                for sum in &mut sums {
                    *sum += term;
                    term *= from_middle;
                }
                phasor *= rotor;
                from_middle += 1.0;
            }
        }
        sums
    }

    /// The strongest local maximum from bin `from` to bin `to`, at its very frequency, if its amplitude is at least
    /// `weakest`.
    pub(super) fn peak(&self, from: usize, to: usize, weakest: f64) -> Option<Peak> {
        let bins = self.power.windows(3).enumerate().skip(from.saturating_sub(1));
        let inside = bins.take_while(|(at, _)| *at < to);
        let tops = inside.filter_map(|(at, bins)| match bins {
            [a, b, c] if *b > 0.0 && b >= a && b >= c => Some((at + 1, *a, *b, *c)),
            _ => None,
        });
        let (bin, a, b, c) = tops.max_by(|x, y| x.2.total_cmp(&y.2))?;
        // Between bins a line loses at most 4 dB, so this is far too weak, and its place not worth the work.
        if 2.0 * b.sqrt() / self.weights.0 < 0.5 * weakest {
            return None;
        }
        let at = if self.between { self.top(bin, guess(a, b, c)) } else { bin as f64 };
        let nu = at / self.weighted.len() as f64;
        let amplitude = self.line(nu).norm();
        (amplitude >= weakest).then_some(Peak { nu, amplitude })
    }

    /// The maximum of |X|² next to `bin`, in bins, by Newton's method from `bin + guess`.
    ///
    /// With D_m the moments about the middle, d|X|²/dν = 4π Im(X̄ D₁) and d²|X|²/dν² = 8π² (|D₁|² - Re(X̄ D₂)).
    fn top(&self, bin: usize, guess: f64) -> f64 {
        let count = self.weighted.len() as f64;
        let start = bin as f64 + guess;
        let mut at = start;
        for _ in 0..STEPS_MAX {
            let [x, d1, d2] = self.moments::<3>(at / count);
            let bend = (x.conj() * d2).re - d1.norm_sqr();
            let step = (x.conj() * d1).im / (TAU * bend) * count;
            // Not a maximum here, or not this one: the guess is what there is.
            if bend <= 0.0 || !step.is_finite() || (at + step - bin as f64).abs() > 1.0 {
                return start;
            }
            at += step;
            if step.abs() < 1e-12 * at {
                break;
            }
        }
        at
    }
}

/// Where between the bins a parabola through the logarithms of three has its top.
fn guess(a: f64, b: f64, c: f64) -> f64 {
    let (a, b, c) = (a.ln(), b.ln(), c.ln());
    let offset = (a - c) / (2.0 * (a - 2.0 * b + c));
    if offset.abs() <= 0.5 { offset } else { 0.0 }
}

/// The transform of real samples at the bins 0 … N/2; `samples` are used up.
pub(super) fn transform(samples: &mut [f64]) -> Vec<Complex64> {
    let plan = RealFftPlanner::new().plan_fft_forward(samples.len());
    let mut bins = plan.make_output_vec();
    // It refuses buffers of other lengths alone.
    if plan.process(samples, &mut bins).is_err() {
        bins.fill(Complex64::ZERO);
    }
    bins
}
