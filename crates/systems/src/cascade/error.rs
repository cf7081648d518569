//! Why a signal is not analysed.

use super::signal::{CHANNELS_MAX, SAMPLES_MIN};
use super::window::Window;
use super::{ARGS_BYTES_MAX, HARMONICS_MAX};

/// A signal, or a wish, that cannot be served.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ArgsError {
    /// No channel, or channels without samples.
    #[error("the signal is empty; give at least {SAMPLES_MIN} samples")]
    Empty,
    /// Fewer samples than an analysis needs.
    #[error("the signal has {0} samples; give at least {SAMPLES_MIN}")]
    TooShort(usize),
    /// More channels than are taken.
    #[error("the signal has {0} channels; at most {CHANNELS_MAX} are taken")]
    TooManyChannels(usize),
    /// Channels of different length.
    #[error("channel {channel} has {samples} samples and channel 0 has {first}; make them equal")]
    Ragged {
        /// The channel.
        channel: usize,
        /// Its samples.
        samples: usize,
        /// Those of the first.
        first: usize,
    },
    /// A sample that is no finite number, or so large that sums would not be finite.
    #[error(
        "sample {sample} of channel {channel} is {value:?}; samples are numbers from -1e300 to 1e300"
    )]
    Sample {
        /// The channel.
        channel: usize,
        /// The sample's place in it.
        sample: usize,
        /// What stands there.
        value: f64,
    },
    /// A sample rate that is none.
    #[error("the sample rate is {0:?} Hz; it must be above 0, from 1e-12 to 1e12")]
    Rate(f64),
    /// A window that is not known.
    #[error("unknown window `{0}`; it is one of {known}", known = Window::NAMES)]
    UnknownWindow(String),
    /// A number of harmonics that is not served.
    #[error("{0} harmonics; ask for 1 to {HARMONICS_MAX}")]
    Harmonics(u32),
    /// A band in which no fundamental can be found.
    #[error(
        "no fundamental can be found from {min_hz} to {max_hz} Hz: {samples} samples at {rate_hz} Hz \
         hold {} to {} Hz",
        digits(from_hz),
        digits(to_hz)
    )]
    Band {
        /// The lowest frequency asked for.
        min_hz: f64,
        /// The highest.
        max_hz: f64,
        /// The length of the signal.
        samples: usize,
        /// Its rate.
        rate_hz: f64,
        /// The lowest frequency that can be had.
        from_hz: f64,
        /// The highest.
        to_hz: f64,
    },
    /// Segments that give no coherence.
    #[error("segments of {segment} samples; for a signal of {samples} take from 8 to {most}")]
    Segment {
        /// Their length.
        segment: usize,
        /// The length of the signal.
        samples: usize,
        /// The longest segment.
        most: usize,
    },
    /// More than the arguments of one task hold.
    #[error(
        "{channels} channels of {samples} samples take {bytes} bytes; a task takes {ARGS_BYTES_MAX}: \
         cut the signal into blocks"
    )]
    TooLarge {
        /// Channels.
        channels: usize,
        /// Samples of each.
        samples: usize,
        /// What they take.
        bytes: usize,
    },
    /// Bytes that are no arguments.
    #[error("these bytes are no arguments of a harmonic analysis: {0}")]
    Malformed(&'static str),
    /// Bytes that are no analysis: of another version of this program, say.
    #[error("the result is no harmonic analysis; let workers and submitters be of one version")]
    NoAnalysis,
}

/// `hz` in six digits.
fn digits(hz: &f64) -> f64 {
    format!("{hz:.5e}").parse().unwrap_or(*hz)
}
