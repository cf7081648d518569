//! What one node sounds like: fundamental, harmonics, distortion, noise.

use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};

use super::args::Band;
use super::spectrum::{Peak, Spectrum};
use super::window::Window;

/// The strongest peak is taken for a harmonic of at most this order …
const ORDER_MAX: u32 = 8;
/// … of a fundamental that has at least this share of its amplitude …
const WEAKEST: f64 = 0.1;
/// … and is off the whole part by at most this share of itself, or one bin.
const OFF_PITCH: f64 = 0.003;
/// The fewest bins that a noise floor is taken from.
const NOISE_BINS_MIN: usize = 16;

/// A harmonic: `amplitude × cos(2π hz t + phase)`, with t = 0 at the first sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Harmonic {
    /// Its frequency: a whole multiple of the fundamental.
    pub hz: f64,
    /// Its peak amplitude, in the unit of the samples.
    pub amplitude: f64,
    /// Its cosine phase at the first sample, in radians, in (-π, π].
    pub phase: f64,
}

/// One node's analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Which channel of the signal it is, from 0.
    pub node: usize,
    /// Its mean, weighted with the window.
    pub mean: f64,
    /// The root mean square of what is left without the mean.
    pub rms: f64,
    /// Its fundamental; none when it is silent or has no peak in the band.
    pub fundamental_hz: Option<f64>,
    /// The fundamental first, then its multiples below the highest frequency that can be had.
    pub harmonics: Vec<Harmonic>,
    /// Total harmonic distortion: √(A₂² + A₃² + …) / A₁ over the harmonics listed; none when there is but one.
    pub thd: Option<f64>,
    /// The same in dB: 20 log₁₀; none for 0.
    pub thd_db: Option<f64>,
    /// The noise floor: the amplitude density between the harmonics, in units of the samples per √Hz.
    pub noise_density: Option<f64>,
    /// The rms of white noise of this density, from 0 to half the sample rate.
    pub noise_rms: Option<f64>,
    /// The fundamental's rms over the noise's, in dB; none without both.
    pub snr_db: Option<f64>,
}

impl Node {
    /// A node without a sound.
    pub(super) fn silent(node: usize, mean: f64, rms: f64) -> Self {
        Self {
            node,
            mean,
            rms,
            fundamental_hz: None,
            harmonics: Vec::new(),
            thd: None,
            thd_db: None,
            noise_density: None,
            noise_rms: None,
            snr_db: None,
        }
    }

    /// The amplitude of its fundamental; 0 without one.
    #[must_use]
    pub fn amplitude(&self) -> f64 {
        self.harmonics.first().map_or(0.0, |harmonic| harmonic.amplitude)
    }
}

/// How a node is looked at.
pub(super) struct Look {
    pub(super) rate_hz: f64,
    pub(super) window: Window,
    pub(super) harmonics: usize,
    pub(super) band: Band,
}

impl Look {
    /// Analyses the node number `node`.
    ///
    /// All is computed of the samples divided by a power of two near the largest, which is exact and keeps their
    /// squares finite.
    pub(super) fn at(&self, node: usize, samples: &[f64]) -> Node {
        let largest = samples.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        if largest < f64::MIN_POSITIVE {
            return Node::silent(node, 0.0, 0.0);
        }
        let scale = largest.log2().floor().exp2();
        let samples: Vec<f64> = samples.iter().map(|x| x / scale).collect();
        if samples.iter().all(|x| samples.first() == Some(x)) {
            return Node::silent(node, samples.first().map_or(0.0, |x| x * scale), 0.0);
        }
        let rms = rms(&samples);
        let spectrum = Spectrum::new(&samples, self.window);
        let mut found = Node::silent(node, spectrum.mean * scale, rms * scale);
        let fundamental = self.fundamental(&spectrum);
        if let Some(peak) = fundamental {
            found.fundamental_hz = Some(peak.nu * self.rate_hz);
            found.harmonics = self.harmonics(&spectrum, peak.nu, scale);
            found.thd = distortion(&found.harmonics);
            found.thd_db = found.thd.and_then(decibel);
        }
        let density = self.noise(&spectrum, fundamental.map(|peak| peak.nu)).map(f64::sqrt);
        found.noise_density = density.map(|d| d * scale / self.rate_hz.sqrt());
        found.noise_rms = density.map(|d| d * scale * 0.5_f64.sqrt());
        found.snr_db = found
            .noise_rms
            .filter(|_| fundamental.is_some())
            .and_then(|noise| decibel(found.amplitude() * 0.5_f64.sqrt() / noise));
        found
    }

    /// The strongest peak of the band; or the lowest one of which it is a harmonic.
    fn fundamental(&self, spectrum: &Spectrum) -> Option<Peak> {
        let count = spectrum.samples() as f64;
        let bins = self.band.bins;
        let strongest = spectrum.peak(bins.0, bins.1, 0.0)?;
        let below = |order: u32| {
            let nu = strongest.nu / f64::from(order);
            let off = (nu * OFF_PITCH).max(1.0 / count);
            let from = ((nu - off) * count).ceil().max(bins.0 as f64) as usize;
            let to = ((nu + off) * count).floor() as usize;
            let peak = spectrum.peak(from, to, WEAKEST * strongest.amplitude)?;
            let near = (peak.nu - nu).abs() <= off && peak.nu * count >= bins.0 as f64 - 0.5;
            near.then_some(peak)
        };
        (2..=ORDER_MAX).rev().find_map(below).or(Some(strongest))
    }

    fn harmonics(&self, spectrum: &Spectrum, nu: f64, scale: f64) -> Vec<Harmonic> {
        let orders = (1..=self.harmonics).map(|order| order as f64 * nu);
        let heard = orders.take_while(|at| *at == nu || *at <= self.band.nu_max);
        let harmonic = |at: f64| {
            let line = spectrum.line(at);
            Harmonic { hz: at * self.rate_hz, amplitude: line.norm() * scale, phase: line.arg() }
        };
        heard.map(harmonic).collect()
    }

    /// The power density of the noise for a sample rate of 1: that of the median bin off mean and harmonics. The
    /// bins of noise are distributed exponentially, so their mean is their median / ln 2; tones do not move it.
    fn noise(&self, spectrum: &Spectrum, fundamental: Option<f64>) -> Option<f64> {
        let spacing = fundamental.map_or(f64::INFINITY, |nu| nu * spectrum.samples() as f64);
        let lobe = self.window.half_width() as f64 + 0.5;
        let clear = |(bin, power): (usize, &f64)| {
            let at = bin as f64;
            // With no fundamental there is 0 × ∞ here, which is not above the lobe.
            let nearest = if spacing.is_finite() { (at / spacing).round() * spacing } else { 0.0 };
            ((at - nearest).abs() > lobe && at > lobe).then_some(*power)
        };
        let inner = spectrum.power().len().saturating_sub(1);
        let mut floor: Vec<f64> =
            spectrum.power().iter().take(inner).enumerate().filter_map(clear).collect();
        if floor.len() < NOISE_BINS_MIN {
            return None;
        }
        let half = floor.len() / 2;
        let (_, median, _) = floor.select_nth_unstable_by(half, f64::total_cmp);
        Some(spectrum.density(*median) / LN_2)
    }
}

/// The root mean square without the mean.
fn rms(samples: &[f64]) -> f64 {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    (samples.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt()
}

/// The root of the sum of the squares of all harmonics but the first, over the first.
fn distortion(harmonics: &[Harmonic]) -> Option<f64> {
    let (first, others) = harmonics.split_first()?;
    let others = (!others.is_empty()).then_some(others)?;
    let share = |harmonic: &Harmonic| harmonic.amplitude / first.amplitude;
    Some(others.iter().map(share).map(|share| share * share).sum::<f64>().sqrt())
}

/// A ratio of amplitudes in dB; none for 0.
fn decibel(ratio: f64) -> Option<f64> {
    Some(20.0 * ratio.log10()).filter(|db| db.is_finite())
}
