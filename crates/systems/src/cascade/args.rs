//! What an analysis is asked for, and the bytes in which a task carries it.
//!
//! ```text
//!  0  "cas1"              12  segment, u32 (0: chosen)      32  min_hz, f64 (0: the lowest)
//!  4  window, u8          16  samples of a channel, u32     40  max_hz, f64 (0: the highest)
//!  5  sample bytes, u8    20  zero, u32                     48  channel 0, channel 1, …
//!  6  channels, u16       24  rate_hz, f64
//!  8  harmonics, u32
//! ```
//! All little-endian; samples are `f32` if every one of the signal is one, else `f64`.

use super::signal::{CHANNELS_MAX, SAMPLES_MIN, check_rate};
use super::{ArgsError, Signal, Window, coherence};

/// The most bytes that the arguments of one analysis take.
pub const ARGS_BYTES_MAX: usize = 1 << 20;
/// The most harmonics of a node.
pub const HARMONICS_MAX: u32 = 256;

const MAGIC: [u8; 4] = *b"cas1";
const HEADER_BYTES: usize = 48;
/// The shortest segment that a coherence is taken from.
const SEGMENT_MIN: usize = 8;
/// The fewest periods of a fundamental: those that keep its line off its mirror image and its harmonics'.
const PERIODS_MIN: usize = 4;

/// What is wanted of an analysis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The weights.
    pub window: Window,
    /// How many harmonics, the fundamental included.
    pub harmonics: u32,
    /// The lowest frequency at which the fundamental is looked for; by default four periods in the signal.
    pub min_hz: Option<f64>,
    /// The highest; by default near half the sample rate.
    pub max_hz: Option<f64>,
    /// The samples of a segment of the coherence; by default the largest power of two that is at most a 16th of
    /// the signal.
    pub segment: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { window: Window::default(), harmonics: 10, min_hz: None, max_hz: None, segment: None }
    }
}

/// Where the fundamental is looked for, and the harmonics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    /// The first bin and the last.
    pub(super) bins: (usize, usize),
    /// The highest frequency of a harmonic, in periods a sample.
    pub(super) nu_max: f64,
}

/// A signal and what is wanted of it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CascadeArgs {
    signal: Signal,
    options: Options,
}

impl CascadeArgs {
    /// Asks for `options` of `signal`.
    ///
    /// # Errors
    /// [`ArgsError`] for a number of harmonics, a band or segments that cannot be had of the signal.
    pub fn new(signal: Signal, options: Options) -> Result<Self, ArgsError> {
        if !(1..=HARMONICS_MAX).contains(&options.harmonics) {
            return Err(ArgsError::Harmonics(options.harmonics));
        }
        let args = Self { signal, options };
        args.band()?;
        args.segment()?;
        Ok(args)
    }

    /// The signal.
    #[must_use]
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// What is wanted of it.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn band(&self) -> Result<Band, ArgsError> {
        let (samples, rate_hz) = (self.signal.samples(), self.signal.rate_hz());
        let bin_hz = rate_hz / samples as f64;
        let lobe = self.options.window.half_width() as f64 / 2.0;
        let ends = (PERIODS_MIN as f64, samples as f64 / 2.0 - lobe);
        let (from_hz, to_hz) = (ends.0 * bin_hz, ends.1 * bin_hz);
        let min_hz = self.options.min_hz.unwrap_or(from_hz);
        let max_hz = self.options.max_hz.unwrap_or(to_hz);
        // The lower end may be named in the six digits that an error shows, and half the sample rate as the
        // upper one. What is not a number is within nothing.
        let within =
            min_hz <= max_hz && min_hz >= from_hz * (1.0 - 1e-5) && max_hz <= rate_hz / 2.0;
        let bins = ((min_hz / bin_hz).round(), (max_hz / bin_hz).min(ends.1).round());
        if !within || bins.0 > bins.1 {
            return Err(ArgsError::Band { min_hz, max_hz, samples, rate_hz, from_hz, to_hz });
        }
        let last = samples / 2 - 1;
        let bins = ((bins.0 as usize).min(last), (bins.1 as usize).min(last));
        Ok(Band { bins, nu_max: ends.1 / samples as f64 })
    }

    pub(super) fn segment(&self) -> Result<usize, ArgsError> {
        let samples = self.signal.samples();
        let chosen = || coherence::segment_for(samples);
        let segment = self.options.segment.map_or_else(chosen, |segment| segment as usize);
        let most = samples * 2 / 3;
        if segment < SEGMENT_MIN || coherence::count(samples, segment) < 2 {
            return Err(ArgsError::Segment { segment, samples, most });
        }
        Ok(segment)
    }

    /// The longest signal, in samples a channel, of `channels` channels that one task takes.
    #[must_use]
    pub fn samples_max(channels: usize, sample_bytes: usize) -> usize {
        (ARGS_BYTES_MAX - HEADER_BYTES) / (channels * sample_bytes).max(1)
    }

    /// The bytes that [`CascadeArgs::decode`] reads.
    ///
    /// # Errors
    /// [`ArgsError::TooLarge`] above [`ARGS_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, ArgsError> {
        let (samples, width) = (self.signal.samples(), self.signal.sample_bytes());
        let channels = self.signal.channels().len();
        let bytes = HEADER_BYTES + channels * samples * width;
        if bytes > ARGS_BYTES_MAX {
            return Err(ArgsError::TooLarge { channels, samples, bytes });
        }
        let Options { window, harmonics, min_hz, max_hz, segment } = self.options;
        let mut to = Vec::with_capacity(bytes);
        to.extend(MAGIC);
        to.extend([window as u8, width as u8]);
        to.extend((channels as u16).to_le_bytes());
        for word in [harmonics, segment.unwrap_or(0), samples as u32, 0] {
            to.extend(word.to_le_bytes());
        }
        for real in [self.signal.rate_hz(), min_hz.unwrap_or(0.0), max_hz.unwrap_or(0.0)] {
            to.extend(real.to_le_bytes());
        }
        for sample in self.signal.channels().iter().flatten() {
            if width == 4 {
                to.extend((*sample as f32).to_le_bytes());
            } else {
                to.extend(sample.to_le_bytes());
            }
        }
        Ok(to)
    }

    /// Reads what [`CascadeArgs::encode`] wrote, and checks it as anew.
    ///
    /// # Errors
    /// [`ArgsError::Malformed`] for other bytes; what [`Signal::new`] and [`CascadeArgs::new`] refuse.
    pub fn decode(bytes: &[u8]) -> Result<Self, ArgsError> {
        use ArgsError::Malformed;
        let mut from = Reader(bytes);
        let short = Malformed("shorter than the header");
        let mut header = || {
            let (magic, [window, width]) = (from.take()?, from.take()?);
            let channels = usize::from(u16::from_le_bytes(from.take()?));
            let words: [u32; 4] = [from.word()?, from.word()?, from.word()?, from.word()?];
            let reals: [f64; 3] = [from.real()?, from.real()?, from.real()?];
            Some((magic, window, usize::from(width), channels, words, reals))
        };
        let (magic, window, width, channels, words, reals) = header().ok_or(short)?;
        let ([harmonics, segment, samples, zero], [rate_hz, min_hz, max_hz]) = (words, reals);
        if magic != MAGIC || zero != 0 {
            return Err(Malformed("they begin with no known header"));
        }
        let known = Window::ALL.into_iter().find(|known| *known as u8 == window);
        let window = known.ok_or(Malformed("no known window"))?;
        if ![4, 8].contains(&width) {
            return Err(Malformed("samples are of 4 or 8 bytes"));
        }
        let samples = samples as usize;
        check_shape(rate_hz, channels, samples)?;
        if from.0.len() != channels * samples * width {
            return Err(Malformed("their length is not that of the samples announced"));
        }
        let channels = from.0.chunks_exact(samples * width).map(|bytes| read(bytes, width));
        let signal = Signal::new(rate_hz, channels.collect())?;
        let wish = |hz: f64| (hz != 0.0).then_some(hz);
        let segment = (segment != 0).then_some(segment);
        let (min_hz, max_hz) = (wish(min_hz), wish(max_hz));
        Self::new(signal, Options { window, harmonics, min_hz, max_hz, segment })
    }
}

/// What can be judged before any sample is read.
fn check_shape(rate_hz: f64, channels: usize, samples: usize) -> Result<(), ArgsError> {
    check_rate(rate_hz)?;
    match (channels, samples) {
        (0, _) | (_, 0) => Err(ArgsError::Empty),
        (channels, _) if channels > CHANNELS_MAX => Err(ArgsError::TooManyChannels(channels)),
        (_, samples) if samples < SAMPLES_MIN => Err(ArgsError::TooShort(samples)),
        _ => Ok(()),
    }
}

/// A channel's samples.
fn read(bytes: &[u8], width: usize) -> Vec<f64> {
    if width == 4 {
        let (words, _) = bytes.as_chunks::<4>();
        words.iter().map(|word| f64::from(f32::from_le_bytes(*word))).collect()
    } else {
        let (words, _) = bytes.as_chunks::<8>();
        words.iter().map(|word| f64::from_le_bytes(*word)).collect()
    }
}

/// Bytes not yet read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn real(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests;
