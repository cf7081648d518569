//! The physics of resonance networks, without a segment: what a tick, a resonance and a pattern are.
//!
//! A network is a set of oscillators and undirected couplings between them. An oscillator is the complex
//! amplitude `a = A exp(i φ)`; its energy is `E = A² / 2`.
//!
//! | quantity | unit |
//! | --- | --- |
//! | frequency `f` | Hz (cycles a second), at least 0 |
//! | phase `φ` | rad, in [0, 2π) |
//! | amplitude `A` | any, at least 0; energies are in its square |
//! | strength `K` of a coupling | 1/s (rad of phase a second), of either sign |
//! | time `dt` | s |
//! | coherence, order parameter | none, 0 to 1 |
//!
//! - [`Network::tick`] moves time on: phases follow the Kuramoto model on a weighted graph (kuramoto.rs).
//! - [`Network::resonate`] exchanges energy between one oscillator and its neighbours: coupled-mode theory
//!   (exchange.rs).
//! - [`detect`] finds frequencies in small whole-number ratios (patterns.rs).
//!
//! **Coherence** of an oscillator is the modulus of the local order parameter of itself and its neighbours,
//! weighted by amplitude: `|Σ A_j exp(i φ_j)| / Σ A_j`. It is 1 when all are in phase, and when it is alone; 0
//! when nothing has an amplitude.
//!
//! # Sources
//! - Y. Kuramoto, *Self-entrainment of a population of coupled non-linear oscillators*, Lecture Notes in Physics
//!   39, 420 (1975); *Chemical Oscillations, Waves, and Turbulence*, Springer (1984): the model and its order
//!   parameter.
//! - J. A. Acebrón, L. L. Bonilla, C. J. Pérez Vicente, F. Ritort, R. Spigler, *The Kuramoto model*, Rev. Mod. Phys.
//!   77, 137 (2005): the review.
//! - J. G. Restrepo, E. Ott, B. R. Hunt, *Onset of synchronization in large networks of coupled oscillators*,
//!   Phys. Rev. E 71, 036151 (2005): graphs, and the local order parameter.

mod exchange;
mod kuramoto;
mod patterns;
#[cfg(test)]
mod tests;

use std::f64::consts::TAU;

pub use patterns::{Pattern, RATIO_TERM_MAX, Ratio, TOLERANCE_MAX, Tone, check_tolerance, detect};

/// The highest frequency, in Hz.
pub const FREQUENCY_HZ_MAX: f64 = 1e15;
/// The largest amplitude: energies of a million of them can be summed.
pub const AMPLITUDE_MAX: f64 = 1e100;
/// The largest strength of a coupling, in 1/s, on either side of 0.
pub const STRENGTH_MAX: f64 = 1e15;
/// The longest time of one tick or resonance, in seconds.
pub const DT_S_MAX: f64 = 1e6;
/// How far a substep may go, as rate × time: at this, RK4 stayed within 1e-8 rad of other integrators.
const SUBSTEP: f64 = 1.0 / 16.0;
/// The most work of one call, in substeps times couplings: some tenths of a second, for which a guard is held.
const WORK_MAX: f64 = 2e6;

/// A quantity that is not one.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PhysicsError {
    /// The frequency.
    #[error("frequency {0} Hz: give a number from 0 to {FREQUENCY_HZ_MAX:e}")]
    Frequency(f64),
    /// The amplitude.
    #[error("amplitude {0}: give a number from 0 to {AMPLITUDE_MAX:e}")]
    Amplitude(f64),
    /// The phase.
    #[error("phase {0} rad: give a finite number")]
    Phase(f64),
    /// The strength of a coupling.
    #[error("strength {0} 1/s: give a number from -{STRENGTH_MAX:e} to {STRENGTH_MAX:e}")]
    Strength(f64),
    /// The time.
    #[error("time of {0} s: give a number above 0 and up to {DT_S_MAX:e}")]
    Time(f64),
    /// The tolerance of a ratio.
    #[error("tolerance {0}: give a number above 0 and up to {TOLERANCE_MAX}")]
    Tolerance(f64),
    /// A coupling of an oscillator with itself, or with one that is not there.
    #[error(
        "a coupling of oscillators {a} and {b}; there are {count}, and none is coupled to itself"
    )]
    Coupling {
        /// One.
        a: usize,
        /// The other.
        b: usize,
        /// How many there are.
        count: usize,
    },
    /// The equations change too fast for the time asked for.
    #[error(
        "{dt_s} s take {substeps:e} substeps, which is too much at once: strengths and differences of frequency \
         reach {rate:e} rad/s; give a time of at most {dt_s_max:e} s"
    )]
    TooFast {
        /// The time asked for.
        dt_s: f64,
        /// What it would take.
        substeps: f64,
        /// How fast the phases turn against each other, at most.
        rate: f64,
        /// The longest time that can be had.
        dt_s_max: f64,
    },
}

/// One oscillator.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Oscillator {
    /// In Hz.
    pub frequency_hz: f64,
    /// At least 0.
    pub amplitude: f64,
    /// In rad, from 0 to 2π.
    pub phase: f64,
}

/// Two oscillators that pull at each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coupling {
    /// One, by its position in the network.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// How strongly, in 1/s; below 0 they push apart.
    pub strength: f64,
}

/// Oscillators and their couplings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    oscillators: Vec<Oscillator>,
    couplings: Vec<Coupling>,
}

/// A phase in [0, 2π), whatever the angle.
#[must_use]
pub fn wrap(angle: f64) -> f64 {
    let phase = angle.rem_euclid(TAU);
    // The remainder of a tiny negative angle rounds to 2π itself; adding zero makes -0 to 0.
    if phase < TAU { phase + 0.0 } else { 0.0 }
}

/// Whether `dt_s` is a time that a tick or a resonance may take.
///
/// # Errors
/// [`PhysicsError::Time`].
pub fn check_time(dt_s: f64) -> Result<(), PhysicsError> {
    if dt_s > 0.0 && dt_s <= DT_S_MAX { Ok(()) } else { Err(PhysicsError::Time(dt_s)) }
}

/// Whether `strength` can be that of a coupling.
///
/// # Errors
/// [`PhysicsError::Strength`].
pub fn check_strength(strength: f64) -> Result<(), PhysicsError> {
    // NaN is in no range.
    let known = (-STRENGTH_MAX..=STRENGTH_MAX).contains(&strength);
    if known { Ok(()) } else { Err(PhysicsError::Strength(strength)) }
}

impl Oscillator {
    /// An oscillator; the phase is brought into [0, 2π).
    ///
    /// # Errors
    /// [`PhysicsError`] naming the quantity that is out of range.
    ///
    /// # Examples
    /// ```
    /// # use commonhold_systems::resonance::physics::Oscillator;
    /// let a = Oscillator::new(440.0, 1.0, -1.0)?;
    /// assert_eq!(a.energy(), 0.5);
    /// assert!(Oscillator::new(f64::NAN, 1.0, 0.0).is_err());
    /// # Ok::<(), commonhold_systems::resonance::physics::PhysicsError>(())
    /// ```
    pub fn new(frequency_hz: f64, amplitude: f64, phase: f64) -> Result<Self, PhysicsError> {
        if !(0.0..=FREQUENCY_HZ_MAX).contains(&frequency_hz) {
            return Err(PhysicsError::Frequency(frequency_hz));
        }
        if !(0.0..=AMPLITUDE_MAX).contains(&amplitude) {
            return Err(PhysicsError::Amplitude(amplitude));
        }
        if !phase.is_finite() {
            return Err(PhysicsError::Phase(phase));
        }
        let (frequency_hz, amplitude) = (frequency_hz + 0.0, amplitude + 0.0);
        Ok(Self { frequency_hz, amplitude, phase: wrap(phase) })
    }

    /// `A² / 2`.
    #[must_use]
    pub fn energy(&self) -> f64 {
        self.amplitude * self.amplitude / 2.0
    }

    /// `2π f`, in rad/s.
    fn angular(&self) -> f64 {
        TAU * self.frequency_hz
    }
}

impl Network {
    /// A network.
    ///
    /// # Errors
    /// [`PhysicsError::Coupling`], [`PhysicsError::Strength`].
    pub fn new(
        oscillators: Vec<Oscillator>,
        couplings: Vec<Coupling>,
    ) -> Result<Self, PhysicsError> {
        let count = oscillators.len();
        for &Coupling { a, b, strength } in &couplings {
            check_strength(strength)?;
            if a == b || a >= count || b >= count {
                return Err(PhysicsError::Coupling { a, b, count });
            }
        }
        Ok(Self { oscillators, couplings })
    }

    /// The oscillators.
    #[must_use]
    pub fn oscillators(&self) -> &[Oscillator] {
        &self.oscillators
    }

    /// The couplings.
    #[must_use]
    pub fn couplings(&self) -> &[Coupling] {
        &self.couplings
    }

    /// The energy of all.
    #[must_use]
    pub fn energy(&self) -> f64 {
        self.oscillators.iter().map(Oscillator::energy).sum()
    }

    /// Kuramoto's order parameter `r`, every oscillator counting alike: 1 when all are in phase.
    #[must_use]
    pub fn order(&self) -> f64 {
        let (sin, cos) = self
            .oscillators
            .iter()
            .fold((0.0, 0.0), |(sin, cos), o| (sin + o.phase.sin(), cos + o.phase.cos()));
        if self.oscillators.is_empty() {
            return 0.0;
        }
        (sin.hypot(cos) / self.oscillators.len() as f64).min(1.0)
    }

    /// The coherence of each oscillator with its neighbours.
    #[must_use]
    pub fn coherences(&self) -> Vec<f64> {
        let own = |o: &Oscillator| {
            let (sin, cos) = o.phase.sin_cos();
            [o.amplitude * cos, o.amplitude * sin, o.amplitude]
        };
        let alone: Vec<[f64; 3]> = self.oscillators.iter().map(own).collect();
        let mut sums = alone.clone();
        let mut add = |to: usize, from: usize| {
            if let (Some(to), Some(from)) = (sums.get_mut(to), alone.get(from)) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        };
        for c in &self.couplings {
            add(c.a, c.b);
            add(c.b, c.a);
        }
        let modulus = |[x, y, weight]: &[f64; 3]| {
            if *weight > 0.0 { (x.hypot(*y) / weight).min(1.0) } else { 0.0 }
        };
        sums.iter().map(modulus).collect()
    }

    /// How many substeps `dt_s` takes when phases turn against each other by `rate` rad/s, and each substep
    /// looks at `couplings`.
    fn substeps(dt_s: f64, rate: f64, couplings: usize) -> Result<u32, PhysicsError> {
        let substeps = (dt_s * rate / SUBSTEP).ceil().max(1.0);
        let most = (WORK_MAX / (couplings.max(1) as f64)).floor().max(1.0);
        if substeps <= most {
            return Ok(substeps as u32);
        }
        let dt_s_max = if rate.is_finite() { most * SUBSTEP / rate } else { 0.0 };
        Err(PhysicsError::TooFast { dt_s, substeps, rate, dt_s_max })
    }
}
