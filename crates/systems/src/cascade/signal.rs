//! A sampled signal: channels (the *nodes*) of equal length, and how many samples a second they have.

use super::ArgsError;

/// The most channels of a signal.
pub const CHANNELS_MAX: usize = 16;
/// The fewest samples of a channel.
pub const SAMPLES_MIN: usize = 64;
/// The largest sample, so that every sum over a signal is finite.
const SAMPLE_MAX: f64 = 1e300;
/// The lowest sample rate and the highest, so that densities are finite too.
const RATES_HZ: std::ops::RangeInclusive<f64> = 1e-12..=1e12;

/// Samples of several nodes, taken at the same instants.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    rate_hz: f64,
    channels: Vec<Vec<f64>>,
}

impl Signal {
    /// A signal of `channels`, each with `rate_hz` samples a second.
    ///
    /// # Errors
    /// [`ArgsError`]: no channel or too many, of different length or too short, a sample that is not finite, a
    /// rate that is not above 0.
    ///
    /// # Examples
    /// ```
    /// # use commonhold_systems::cascade::Signal;
    /// assert!(Signal::new(1000.0, vec![vec![0.0; 64]]).is_ok());
    /// let short = Signal::new(1000.0, vec![vec![0.0; 8]]).unwrap_err();
    /// assert_eq!(short.to_string(), "the signal has 8 samples; give at least 64");
    /// ```
    pub fn new(rate_hz: f64, channels: Vec<Vec<f64>>) -> Result<Self, ArgsError> {
        check_rate(rate_hz)?;
        let first = channels.first().map_or(0, Vec::len);
        if first == 0 {
            return Err(ArgsError::Empty);
        }
        if channels.len() > CHANNELS_MAX {
            return Err(ArgsError::TooManyChannels(channels.len()));
        }
        if first < SAMPLES_MIN {
            return Err(ArgsError::TooShort(first));
        }
        for (channel, samples) in channels.iter().enumerate() {
            if samples.len() != first {
                return Err(ArgsError::Ragged { channel, samples: samples.len(), first });
            }
            // NaN is not within.
            let bad = samples.iter().position(|x| !(-SAMPLE_MAX..=SAMPLE_MAX).contains(x));
            if let Some((sample, value)) = bad.and_then(|at| Some((at, *samples.get(at)?))) {
                return Err(ArgsError::Sample { channel, sample, value });
            }
        }
        Ok(Self { rate_hz, channels })
    }

    /// Samples a second.
    #[must_use]
    pub fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    /// The nodes' samples.
    #[must_use]
    pub fn channels(&self) -> &[Vec<f64>] {
        &self.channels
    }

    /// How many samples a node has.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.channels.first().map_or(0, Vec::len)
    }

    /// How long it lasts.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.samples() as f64 / self.rate_hz
    }

    /// The bytes that one sample takes in a task's arguments: 4 if every sample is an `f32`, else 8. Nothing is
    /// rounded. (Samples of up to 24 bits, as most sound files have them, are.)
    #[must_use]
    pub fn sample_bytes(&self) -> usize {
        let narrow = |x: &f64| f64::from(*x as f32).to_bits() == x.to_bits();
        if self.channels.iter().flatten().all(narrow) { 4 } else { 8 }
    }

    /// Cut into the fewest equal pieces of which none is longer than `samples_max`, each with the number of its
    /// first sample. Pieces differ by one sample at most.
    ///
    /// # Errors
    /// [`ArgsError::TooShort`] when the pieces would be.
    pub fn blocks(&self, samples_max: usize) -> Result<Vec<(usize, Self)>, ArgsError> {
        let all = self.samples();
        let count = all.div_ceil(samples_max.max(1));
        if all / count.max(1) < SAMPLES_MIN {
            return Err(ArgsError::TooShort(all / count.max(1)));
        }
        let cut = |at: usize| {
            let (from, to) = (all * at / count, all * (at + 1) / count);
            let piece = |channel: &Vec<f64>| channel.get(from..to).unwrap_or_default().to_vec();
            let channels = self.channels.iter().map(piece).collect();
            (from, Self { rate_hz: self.rate_hz, channels })
        };
        Ok((0..count).map(cut).collect())
    }
}

/// Whether `rate_hz` is a sample rate.
pub(super) fn check_rate(rate_hz: f64) -> Result<(), ArgsError> {
    RATES_HZ.contains(&rate_hz).then_some(()).ok_or(ArgsError::Rate(rate_hz))
}
