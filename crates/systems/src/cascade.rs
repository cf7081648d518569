//! Harmonic cascade: the harmonic analysis of a sampled signal, as a pure function and as a task for worker processes.
//!
//! [`analyze_resonance`] gives, of every channel (*node*) of a [`Signal`], fundamental, harmonics with amplitude and
//! phase, total harmonic distortion and noise floor, and of every two nodes their coherence. `docs/cascade.md` has
//! the definitions, units and sources. [`run_cascade`] has a worker process compute it, of a pool that knows [`kind`].
//!
//! **How**: a node's samples, without their mean and weighted with a [`Window`], are transformed. The strongest
//! peak of the band is taken; if it is a harmonic (of order 2 to 8) of a lower peak that has at least a tenth of its
//! amplitude, that one is the fundamental. Its frequency is that at which the transform, computed between the bins
//! as the sum it is, is largest (Newton's method from a parabola's guess); harmonics are read at its whole
//! multiples. So nothing is lost between bins, and there is no scalloping to correct.
//!
//! **How exact**: of a tone among three harmonics, six periods or more, with the default window, frequency is within
//! 2e-4 bins (a bin is the sample rate over the number of samples), amplitudes are within 1e-4 of the fundamental's, and
//! phases within 3e-3 rad; `cascade/tests.rs` checks it. White noise of density d makes the frequency's standard
//! deviation about 1.2 d √(rate / N) / A bins.
//!
//! # Examples
//! ```
//! use commonhold_systems::cascade::{CascadeArgs, Options, Signal, analyze_resonance};
//!
//! // A tone of 440 Hz, and its second harmonic at a tenth.
//! let turn = |n: usize| std::f64::consts::TAU * 440.0 * n as f64 / 8000.0;
//! let samples = (0..4000).map(|n| turn(n).cos() + 0.1 * (2.0 * turn(n)).sin()).collect();
//! let args = CascadeArgs::new(Signal::new(8000.0, vec![samples])?, Options::default())?;
//! let analysis = analyze_resonance(&args)?;
//! let strongest = &analysis.strongest;
//! assert!((strongest.fundamental_hz.unwrap() - 440.0).abs() < 1e-3);
//! assert!((strongest.thd.unwrap() - 0.1).abs() < 1e-4);
//! assert!((strongest.harmonics[1].phase + std::f64::consts::FRAC_PI_2).abs() < 1e-3);
//! # Ok::<(), commonhold_systems::cascade::ArgsError>(())
//! ```

mod args;
mod coherence;
mod error;
mod node;
mod read;
mod run;
mod signal;
mod spectrum;
#[cfg(test)]
mod tests;
mod window;

use serde::{Deserialize, Serialize};

use coherence::Segments;
use node::Look;

pub use args::{ARGS_BYTES_MAX, CascadeArgs, HARMONICS_MAX, Options};
pub use error::ArgsError;
pub use node::{Harmonic, Node};
pub use read::{FILE_SAMPLES_MAX, ReadError, ReadOptions, Recording, read_signal};
pub use run::{Cascade, CascadeError, KIND, kind, run_cascade};
pub use signal::{CHANNELS_MAX, SAMPLES_MIN, Signal};
pub use window::Window;

/// How two nodes go together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// One node.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// Their magnitude-squared coherence at the bin nearest the strongest node's fundamental; none without one.
    pub at_fundamental: Option<f64>,
    /// Its mean over the bins of the band.
    pub mean: f64,
}

/// What [`analyze_resonance`] finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// Samples a second.
    pub rate_hz: f64,
    /// Samples of each node.
    pub samples: usize,
    /// How long they last.
    pub seconds: f64,
    /// The weights that were used.
    pub window: Window,
    /// The sample rate over the samples.
    pub bin_hz: f64,
    /// The node whose fundamental has the largest amplitude; in JSON its fields stand beside the others here.
    #[serde(flatten)]
    pub strongest: Node,
    /// All nodes, in the order of the channels.
    pub nodes: Vec<Node>,
    /// Every two nodes.
    pub coherence: Vec<Pair>,
    /// How many segments the coherence was averaged over: that of independent noise is about 1 over it.
    pub coherence_segments: usize,
}

impl Analysis {
    /// The bytes that a task's result carries: JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Every key is a string and every number finite, so there is nothing that it could refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Analysis::encode`] wrote.
    ///
    /// # Errors
    /// [`ArgsError::NoAnalysis`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ArgsError> {
        serde_json::from_slice(bytes).map_err(|_| ArgsError::NoAnalysis)
    }
}

/// Analyses a signal; a pure function, and the work of one task.
///
/// # Errors
/// What [`CascadeArgs::new`] refuses.
pub fn analyze_resonance(args: &CascadeArgs) -> Result<Analysis, ArgsError> {
    let (signal, options) = (args.signal(), args.options());
    let (band, segment) = (args.band()?, args.segment()?);
    let (rate_hz, harmonics) = (signal.rate_hz(), options.harmonics as usize);
    let look = Look { rate_hz, window: options.window, harmonics, band };
    let nodes: Vec<Node> = signal
        .channels()
        .iter()
        .enumerate()
        .map(|(node, samples)| look.at(node, samples))
        .collect();
    let louder =
        |a: &Node, b: &Node| if b.amplitude() > a.amplitude() { b.clone() } else { a.clone() };
    let strongest = nodes.iter().cloned().reduce(|a, b| louder(&a, &b)).ok_or(ArgsError::Empty)?;
    let samples = signal.samples();
    let coherence = pairs(args, &band, segment, strongest.fundamental_hz);
    Ok(Analysis {
        rate_hz,
        samples,
        seconds: signal.seconds(),
        window: options.window,
        bin_hz: rate_hz / samples as f64,
        strongest,
        nodes,
        coherence,
        coherence_segments: coherence::count(samples, segment),
    })
}

/// The magnitude-squared coherence of two equally long channels, by Welch's method with half-overlapping segments
/// of `segment` samples: at bins of `rate_hz / segment`, from 0 to half the sample rate.
///
/// # Errors
/// What [`Signal::new`] refuses; [`ArgsError::Segment`].
pub fn coherence(rate_hz: f64, a: &[f64], b: &[f64], segment: u32) -> Result<Vec<f64>, ArgsError> {
    let signal = Signal::new(rate_hz, vec![a.to_vec(), b.to_vec()])?;
    let args = CascadeArgs::new(signal, Options { segment: Some(segment), ..Options::default() })?;
    let segment = args.segment()?;
    Ok(Segments::new(a, segment).coherence(&Segments::new(b, segment)))
}

fn pairs(
    args: &CascadeArgs,
    band: &args::Band,
    segment: usize,
    fundamental_hz: Option<f64>,
) -> Vec<Pair> {
    let channels = args.signal().channels();
    if channels.len() < 2 {
        return Vec::new();
    }
    let bin = |nu: f64| ((nu * segment as f64).round() as usize).min(segment / 2);
    let samples = args.signal().samples() as f64;
    let (from, to) = (bin(band.bins.0 as f64 / samples).max(1), bin(band.bins.1 as f64 / samples));
    let all: Vec<Segments> = channels.iter().map(|x| Segments::new(x, segment)).collect();
    let mut pairs = Vec::new();
    for (b, right) in all.iter().enumerate() {
        for (a, left) in all.iter().enumerate().take(b) {
            let bins = left.coherence(right);
            let at = fundamental_hz.map(|hz| bin(hz / args.signal().rate_hz()));
            let inside = bins.get(from..=to.max(from)).unwrap_or_default();
            let mean = inside.iter().sum::<f64>() / inside.len().max(1) as f64;
            let at_fundamental = at.and_then(|at| bins.get(at).copied());
            pairs.push(Pair { a, b, at_fundamental, mean });
        }
    }
    pairs.sort_by_key(|pair| (pair.a, pair.b));
    pairs
}
