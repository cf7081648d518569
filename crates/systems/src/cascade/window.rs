//! Windows: what a signal is weighted with, so that a tone does not leak over the whole spectrum.
//!
//! All are sums of cosines, in the periodic form (as `scipy.signal.get_window` gives them):
//!
//! ```text
//! w[n] = Σ_j (-1)^j a_j cos(2π j n / N),   n = 0 … N-1
//! ```
//! There is no flat-top window: lines are read at their very frequency and not at the nearest bin, so there is no
//! scalloping for it to remove.
//!
//! # Sources
//! F. J. Harris, *On the use of windows for harmonic analysis with the discrete Fourier transform*, Proc. IEEE 66,
//! 51 (1978).

use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ArgsError;

/// The weights of an analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// None, for a signal of whole periods: lines are taken to stand at bins, and what stands there is exact.
    /// Side lobes of -13 dB otherwise.
    Rectangular,
    /// Hann: side lobes of -31 dB that fall off fast.
    Hann,
    /// Blackman and Harris, four terms: side lobes of -92 dB.
    #[default]
    BlackmanHarris,
}

impl Window {
    /// The names, for messages.
    pub const NAMES: &'static str = "rectangular, hann, blackman-harris";
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rectangular, Self::Hann, Self::BlackmanHarris];

    fn coefficients(self) -> &'static [f64] {
        match self {
            Self::Rectangular => &[1.0],
            Self::Hann => &[0.5, 0.5],
            Self::BlackmanHarris => &[0.35875, 0.48829, 0.14128, 0.01168],
        }
    }

    /// Half the width of its main lobe, in bins.
    pub(super) fn half_width(self) -> usize {
        self.coefficients().len()
    }

    /// Whether lines between bins are told apart well enough to be looked for.
    pub(super) fn between_bins(self) -> bool {
        self != Self::Rectangular
    }

    /// The `count` weights.
    pub(super) fn weights(self, count: usize) -> Vec<f64> {
        let weight = |n: usize| {
            let turn = TAU * n as f64 / count as f64;
            let terms = self.coefficients().iter().enumerate();
            terms.map(|(j, a)| if j % 2 == 0 { *a } else { -a } * (j as f64 * turn).cos()).sum()
        };
        (0..count).map(weight).collect()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rectangular => "rectangular",
            Self::Hann => "hann",
            Self::BlackmanHarris => "blackman-harris",
        })
    }
}

impl FromStr for Window {
    type Err = ArgsError;

    fn from_str(name: &str) -> Result<Self, ArgsError> {
        let known = Self::ALL.into_iter().find(|window| window.to_string() == name);
        known.ok_or_else(|| ArgsError::UnknownWindow(name.to_owned()))
    }
}
