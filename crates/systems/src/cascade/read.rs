//! Reads signals from files: WAV, and CSV with a row a sample and a column a node.
//!
//! A file that begins with `RIFF`, or is named `.wav`, is read as WAV, every other as CSV.
//! - **WAV**: integers of 8, 16, 24 and 32 bits, and 32-bit floats; any number of channels that a signal may have. Full
//!   scale is 1.
//! - **CSV**: separated by commas, semicolons or tabs; `#` begins a comment line. If any field of the first row is not a
//!   number, it is a header. The sample rate is given, or told by the first column: one named `time`, `t` or `seconds`
//!   (`time_ms`, `time_us`), or the first of several without a header. A time column is no node. Its steps must be
//!   even to a tenth of one.

mod csv_file;
#[cfg(test)]
mod tests;
mod wav_file;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::{ArgsError, CHANNELS_MAX, Signal};

/// The most samples, over all channels, that are read of a file.
pub const FILE_SAMPLES_MAX: usize = 1 << 24;

/// What is read of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReadOptions {
    /// The sample rate of a CSV file; a WAV file has its own.
    pub rate_hz: Option<f64>,
    /// What is left out at the beginning, in seconds.
    pub from_s: f64,
    /// How much is read; by default all.
    pub seconds: Option<f64>,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The samples.
    pub signal: Signal,
    /// What the nodes are called: by the header, or `left` and `right`, or by number.
    pub names: Vec<String>,
}

/// A file that gives no signal.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is no file of its kind, or none that is understood.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A line of it is wrong.
    #[error("{}, line {line}: {why}", path.display())]
    Line {
        /// Which.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// What it holds is no signal.
    #[error("{}: {error}", path.display())]
    Signal {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: ArgsError,
    },
}

/// What is wrong, before the file's name is known.
#[derive(Debug)]
enum Wrong {
    File(io::Error),
    Content(String),
    Line(usize, String),
    Signal(ArgsError),
}

impl Wrong {
    fn at(self, path: &Path) -> ReadError {
        let path = path.to_owned();
        match self {
            Self::File(error) => ReadError::File { path, error },
            Self::Content(why) => ReadError::Content { path, why },
            Self::Line(line, why) => ReadError::Line { path, line, why },
            Self::Signal(error) => ReadError::Signal { path, error },
        }
    }
}

/// Reads the signal of the file at `path`.
///
/// # Errors
/// [`ReadError`] names the file, and the line of a CSV file, and says what to do.
pub fn read_signal(path: &Path, options: &ReadOptions) -> Result<Recording, ReadError> {
    read(path, options).map_err(|wrong| wrong.at(path))
}

fn read(path: &Path, options: &ReadOptions) -> Result<Recording, Wrong> {
    let mut file = BufReader::new(File::open(path).map_err(Wrong::File)?);
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(Wrong::File)?;
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    if magic == b"RIFF" || extension == "wav" || extension == "wave" {
        file.rewind().map_err(Wrong::File)?;
        return wav_file::read(file, options);
    }
    csv_file::read(io::Cursor::new(magic).chain(file), options)
}

/// The first sample wanted and the one behind the last, of `samples`.
fn span(options: &ReadOptions, rate_hz: f64, samples: usize) -> Result<(usize, usize), Wrong> {
    let ReadOptions { from_s, seconds, .. } = *options;
    let length_s = samples as f64 / rate_hz;
    if !(0.0..length_s.max(f64::MIN_POSITIVE)).contains(&from_s) {
        let why = format!("it lasts {length_s} s; nothing can be read from {from_s} s on");
        return Err(Wrong::Content(why));
    }
    let nothing = |seconds: &f64| seconds.is_nan() || *seconds <= 0.0;
    if let Some(seconds) = seconds.filter(nothing) {
        return Err(Wrong::Content(format!("{seconds} s of it; name a length above 0")));
    }
    let from = ((from_s * rate_hz).round() as usize).min(samples);
    let wanted = seconds.map_or(samples, |seconds| (seconds * rate_hz).round() as usize);
    Ok((from, from.saturating_add(wanted).min(samples)))
}

/// Refuses more channels than a signal may have.
fn check_channels(channels: usize) -> Result<(), Wrong> {
    if channels > CHANNELS_MAX {
        return Err(Wrong::Signal(ArgsError::TooManyChannels(channels)));
    }
    Ok(())
}
