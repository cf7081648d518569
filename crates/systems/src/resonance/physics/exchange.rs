//! A resonance: one oscillator and its neighbours exchange energy, as coupled modes do.
//!
//! With `a` the complex amplitude of the source, `b_j` those of its neighbours, `K_j` the strengths:
//!
//! ```text
//! da/dt   = 2πi f a     + i Σ_j K_j b_j
//! db_j/dt = 2πi f_j b_j + i K_j a
//! ```
//! The power that flows from neighbour j into the source is `d(A²/2)/dt = −K_j A B_j sin(φ_j − φ)`: strong
//! couplings, large amplitudes, a quarter turn between the phases. The sum of `A²/2` is conserved, because the
//! equations are those of a unitary rotation.
//!
//! The integration keeps that exactly, up to rounding. Without detuning the source turns into the one
//! combination `b = Σ K_j b_j / Ω`, `Ω = √(Σ K_j²)`, by the angle `Ω t`: a closed form. With detuning, free
//! rotations and that closed form take turns (Strang's splitting): each is a rotation, and the error is of second
//! order in the substep. A detuned pair so exchanges at most the share `K² / (K² + δ²/4)` of its energy, δ
//! being the difference of angular frequency: only what resonates exchanges much.
//!
//! The free rotation itself is left to the tick: phases come out as seen from frames that turn with each
//! oscillator's own frequency.
//!
//! # Sources
//! - H. A. Haus, W. Huang, *Coupled-mode theory*, Proc. IEEE 79, 1505 (1991): the equations, conservation, the share
//!   of a detuned pair.
//! - G. Strang, *On the construction and comparison of difference schemes*, SIAM J. Numer. Anal. 5, 506 (1968).

use super::{Coupling, Network, Oscillator, PhysicsError, check_time, wrap};

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    fn polar(amplitude: f64, phase: f64) -> Self {
        let (sin, cos) = phase.sin_cos();
        Self { re: amplitude * cos, im: amplitude * sin }
    }

    fn times(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }

    fn plus(self, other: Self, weight: f64) -> Self {
        Self { re: self.re + weight * other.re, im: self.im + weight * other.im }
    }

    /// `self cos + i other sin`.
    fn turned(self, other: Self, (sin, cos): (f64, f64)) -> Self {
        Self { re: self.re * cos - other.im * sin, im: self.im * cos + other.re * sin }
    }
}

/// A neighbour of the source.
struct Mode {
    position: usize,
    strength: f64,
    /// Against the source, in rad/s.
    detuning: f64,
    amplitude: Complex,
}

impl Network {
    /// Lets oscillator `source` exchange energy with its neighbours for `dt_s` seconds. The energy of all stays
    /// what it is. An unknown or lonely source changes nothing.
    ///
    /// # Errors
    /// [`PhysicsError::Time`]; [`PhysicsError::TooFast`] naming the longest time that can be had. Nothing is
    /// changed then.
    ///
    /// # Examples
    /// ```
    /// # use commonhold_systems::resonance::physics::{Coupling, Network, Oscillator};
    /// let pair = vec![Oscillator::new(1.0, 1.0, 0.0)?, Oscillator::new(1.0, 0.0, 0.0)?];
    /// let mut network = Network::new(pair, vec![Coupling { a: 0, b: 1, strength: 1.0 }])?;
    /// network.resonate(0, std::f64::consts::FRAC_PI_2)?;
    /// assert!((network.oscillators()[1].energy() - 0.5).abs() < 1e-12, "all of it went over");
    /// # Ok::<(), commonhold_systems::resonance::physics::PhysicsError>(())
    /// ```
    pub fn resonate(&mut self, source: usize, dt_s: f64) -> Result<(), PhysicsError> {
        check_time(dt_s)?;
        let mut modes = self.modes(source);
        let Some(own) = self.oscillators.get(source).filter(|_| !modes.is_empty()) else {
            return Ok(());
        };
        let mut amplitude = Complex::polar(own.amplitude, own.phase);
        let omega = modes.iter().map(|m| m.strength * m.strength).sum::<f64>().sqrt();
        let detuning = modes.iter().fold(0.0, |most, m| f64::max(most, m.detuning.abs()));
        if omega == 0.0 {
            return Ok(());
        }
        // Without detuning one step is exact, however long.
        let rate = if detuning == 0.0 { 0.0 } else { omega + detuning };
        let substeps = Self::substeps(dt_s, rate, modes.len())?;
        let h = dt_s / f64::from(substeps);
        for _ in 0..substeps {
            modes.iter_mut().for_each(|m| m.turn(h / 2.0));
            exchange(&mut amplitude, &mut modes, omega, h);
            modes.iter_mut().for_each(|m| m.turn(h / 2.0));
        }
        if let Some(own) = self.oscillators.get_mut(source) {
            set(own, amplitude);
        }
        for mode in &mut modes {
            mode.turn(-dt_s);
            if let Some(oscillator) = self.oscillators.get_mut(mode.position) {
                set(oscillator, mode.amplitude);
            }
        }
        Ok(())
    }

    fn modes(&self, source: usize) -> Vec<Mode> {
        let Some(own) = self.oscillators.get(source) else { return Vec::new() };
        let neighbour = |c: &Coupling| match source {
            s if s == c.a => Some(c.b),
            s if s == c.b => Some(c.a),
            _ => None,
        };
        let mode = |c: &Coupling| {
            let position = neighbour(c)?;
            let other = self.oscillators.get(position)?;
            let amplitude = Complex::polar(other.amplitude, other.phase);
            let detuning = other.angular() - own.angular();
            Some(Mode { position, strength: c.strength, detuning, amplitude })
        };
        self.couplings.iter().filter_map(mode).collect()
    }
}

impl Mode {
    /// Turns freely for `t` seconds.
    fn turn(&mut self, t: f64) {
        if self.detuning != 0.0 {
            self.amplitude = self.amplitude.times(Complex::polar(1.0, self.detuning * t));
        }
    }
}

/// The closed form without detuning, for `h` seconds.
fn exchange(source: &mut Complex, modes: &mut [Mode], omega: f64, h: f64) {
    let zero = Complex { re: 0.0, im: 0.0 };
    let sum = modes.iter().fold(zero, |sum, m| sum.plus(m.amplitude, m.strength / omega));
    let angle = (omega * h).sin_cos();
    let (before, after) = (*source, sum.turned(*source, angle));
    *source = before.turned(sum, angle);
    let gain = after.plus(sum, -1.0);
    for mode in modes {
        mode.amplitude = mode.amplitude.plus(gain, mode.strength / omega);
    }
}

/// Amplitude and phase of a complex amplitude; without an amplitude the phase stays.
fn set(oscillator: &mut Oscillator, to: Complex) {
    oscillator.amplitude = to.re.hypot(to.im);
    if oscillator.amplitude > 0.0 {
        oscillator.phase = wrap(to.im.atan2(to.re));
    }
}
