//! WAV files.

use std::io::{Read, Seek};

use hound::{SampleFormat, WavReader};

use super::{FILE_SAMPLES_MAX, ReadOptions, Recording, Signal, Wrong, check_channels, span};

/// Reads what is wanted of a WAV file.
pub(super) fn read(file: impl Read + Seek, options: &ReadOptions) -> Result<Recording, Wrong> {
    if options.rate_hz.is_some() {
        let why = "a WAV file tells its own sample rate; leave the rate out";
        return Err(Wrong::Content(why.to_owned()));
    }
    let mut wav = WavReader::new(file).map_err(no_wav)?;
    let spec = wav.spec();
    let (channels, rate_hz) = (usize::from(spec.channels), f64::from(spec.sample_rate));
    check_channels(channels)?;
    if channels == 0 || spec.sample_rate == 0 {
        return Err(Wrong::Content("a WAV file without channels or without a rate".to_owned()));
    }
    let (from, to) = span(options, rate_hz, wav.duration() as usize)?;
    let wanted = (to - from) * channels;
    if wanted > FILE_SAMPLES_MAX {
        let seconds = FILE_SAMPLES_MAX as f64 / channels as f64 / rate_hz;
        return Err(Wrong::Content(format!(
            "{:.0} s of {channels} channels are more than is read at once; read a part of at most {seconds:.0} s",
            (to - from) as f64 / rate_hz,
        )));
    }
    wav.seek(from as u32).map_err(Wrong::File)?;
    let mut nodes = vec![Vec::with_capacity(to - from); channels];
    let mut take = |at: usize, sample: Result<f64, hound::Error>| {
        let sample = sample.map_err(|error| cut(&error, from + at / channels, to))?;
        if let Some(node) = nodes.get_mut(at % channels) {
            node.push(sample);
        }
        Ok(())
    };
    if spec.sample_format == SampleFormat::Float {
        let mut samples = wav.samples::<f32>().take(wanted).enumerate();
        samples.try_for_each(|(at, sample)| take(at, sample.map(f64::from)))?;
    } else {
        let full = f64::from(spec.bits_per_sample.max(1) - 1).exp2();
        let mut samples = wav.samples::<i32>().take(wanted).enumerate();
        samples.try_for_each(|(at, sample)| take(at, sample.map(|x| f64::from(x) / full)))?;
    }
    let signal = Signal::new(rate_hz, nodes).map_err(Wrong::Signal)?;
    Ok(Recording { signal, names: names(channels) })
}

fn names(channels: usize) -> Vec<String> {
    match channels {
        2 => vec!["left".to_owned(), "right".to_owned()],
        _ => (0..channels).map(|channel| format!("channel {channel}")).collect(),
    }
}

fn no_wav(error: hound::Error) -> Wrong {
    let known = "integers of 8 to 32 bits and 32-bit floats are read; convert it";
    Wrong::Content(match error {
        hound::Error::IoError(error) => format!("no whole WAV header: {error}"),
        hound::Error::Unsupported | hound::Error::TooWide => {
            format!("a WAV file of a kind that is not read; {known}")
        }
        hound::Error::FormatError(why) => format!("no WAV file that is read ({why}); {known}"),
        error => format!("no WAV file that is read ({error}); {known}"),
    })
}

/// The samples end before their number is reached, or one is none.
fn cut(error: &hound::Error, at: usize, to: usize) -> Wrong {
    Wrong::Content(format!(
        "sample {at} of {to} cannot be read ({error}): the file is cut off or damaged; read a part before it"
    ))
}
