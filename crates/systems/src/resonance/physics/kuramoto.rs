//! A tick: the Kuramoto model on a weighted graph.
//!
//! ```text
//! dφ_i/dt = 2π f_i + Σ_j K_ij sin(φ_j − φ_i)
//! ```
//! integrated with the classical fourth-order Runge–Kutta method. Each phase is looked at from a frame that turns
//! with its own frequency, `θ_i = φ_i − 2π f_i t`, so that the free rotation is exact, and only the pull of the
//! couplings is integrated:
//!
//! ```text
//! dθ_i/dt = Σ_j K_ij sin(θ_j − θ_i + 2π (f_j − f_i) t)
//! ```
//! The time is cut into equal substeps, so that for every coupling (the sums of |K| at both its ends + the
//! difference of angular frequency) × substep is at most 1/16.
//!
//! # Sources
//! Those of the module above; W. Kutta, *Beitrag zur näherungsweisen Integration totaler
//! Differentialgleichungen*, Z. Math. Phys. 46, 435 (1901).

use std::f64::consts::TAU;

use super::{Network, PhysicsError, check_time, wrap};

/// A coupling as the integration needs it: who, how strongly, and how fast `b` turns against `a` by itself.
struct Pull {
    a: usize,
    b: usize,
    strength: f64,
    detuning: f64,
}

impl Network {
    /// Moves time on by `dt_s` seconds: every phase turns with its frequency and is pulled by its neighbours.
    /// Frequencies and amplitudes stay.
    ///
    /// # Errors
    /// [`PhysicsError::Time`]; [`PhysicsError::TooFast`] naming the longest time that can be had. Nothing is
    /// changed then.
    ///
    /// # Examples
    /// ```
    /// # use commonhold_systems::resonance::physics::{Coupling, Network, Oscillator};
    /// let pair = vec![Oscillator::new(1.0, 1.0, 0.0)?, Oscillator::new(1.0, 1.0, 2.0)?];
    /// let mut network = Network::new(pair, vec![Coupling { a: 0, b: 1, strength: 2.0 }])?;
    /// let before = network.order();
    /// network.tick(1.0)?;
    /// assert!(before < 0.6 && network.order() > 0.99, "equal frequencies fall into step");
    /// # Ok::<(), commonhold_systems::resonance::physics::PhysicsError>(())
    /// ```
    pub fn tick(&mut self, dt_s: f64) -> Result<(), PhysicsError> {
        check_time(dt_s)?;
        let substeps = Self::substeps(dt_s, self.rate(), self.couplings.len())?;
        self.integrate(dt_s, substeps);
        Ok(())
    }

    /// How fast coupled phases turn against each other, at most, in rad/s.
    fn rate(&self) -> f64 {
        let mut sums = vec![0.0; self.oscillators.len()];
        for c in &self.couplings {
            for end in [c.a, c.b] {
                if let Some(sum) = sums.get_mut(end) {
                    *sum += c.strength.abs();
                }
            }
        }
        let sum = |end: usize| sums.get(end).copied().unwrap_or(0.0);
        self.pulls().fold(0.0, |most, p| f64::max(most, sum(p.a) + sum(p.b) + p.detuning.abs()))
    }

    fn pulls(&self) -> impl Iterator<Item = Pull> {
        self.couplings.iter().filter_map(|c| {
            let (a, b) = (self.oscillators.get(c.a)?, self.oscillators.get(c.b)?);
            let detuning = b.angular() - a.angular();
            Some(Pull { a: c.a, b: c.b, strength: c.strength, detuning })
        })
    }

    /// The integration in a given number of equal substeps.
    pub(super) fn integrate(&mut self, dt_s: f64, substeps: u32) {
        let pulls: Vec<Pull> = self.pulls().collect();
        let mut theta: Vec<f64> = self.oscillators.iter().map(|o| o.phase).collect();
        let h = dt_s / f64::from(substeps);
        if !pulls.is_empty() {
            let mut stages = Stages::new(theta.len());
            (0..substeps).for_each(|n| stages.step(&pulls, &mut theta, f64::from(n) * h, h));
        }
        for (oscillator, theta) in self.oscillators.iter_mut().zip(theta) {
            // Whole turns are dropped before they cost the phase its last digits.
            let turns = (oscillator.frequency_hz * dt_s).fract();
            oscillator.phase = wrap(theta + TAU * turns);
        }
    }
}

/// The four slopes of a step, and the angles at which the next is taken.
struct Stages {
    slopes: [Vec<f64>; 4],
    at: Vec<f64>,
}

impl Stages {
    fn new(count: usize) -> Self {
        Self { slopes: std::array::from_fn(|_| vec![0.0; count]), at: vec![0.0; count] }
    }

    /// One step of RK4 from time `t` to `t + h`.
    fn step(&mut self, pulls: &[Pull], theta: &mut [f64], t: f64, h: f64) {
        let [k1, k2, k3, k4] = &mut self.slopes;
        slope(pulls, theta, t, k1);
        ahead(theta, k1, h / 2.0, &mut self.at);
        slope(pulls, &self.at, t + h / 2.0, k2);
        ahead(theta, k2, h / 2.0, &mut self.at);
        slope(pulls, &self.at, t + h / 2.0, k3);
        ahead(theta, k3, h, &mut self.at);
        slope(pulls, &self.at, t + h, k4);
        let slopes = k1.iter().zip(k2.iter()).zip(k3.iter().zip(k4.iter()));
        for (theta, ((k1, k2), (k3, k4))) in theta.iter_mut().zip(slopes) {
            *theta += h / 6.0 * (k1 + 2.0 * (k2 + k3) + k4);
        }
    }
}

/// `dθ/dt` at time `t`.
fn slope(pulls: &[Pull], theta: &[f64], t: f64, to: &mut [f64]) {
    to.fill(0.0);
    for pull in pulls {
        let (Some(a), Some(b)) = (theta.get(pull.a), theta.get(pull.b)) else { continue };
        let pulled = pull.strength * (b - a + pull.detuning * t).sin();
        if let Some(to) = to.get_mut(pull.a) {
            *to += pulled;
        }
        if let Some(to) = to.get_mut(pull.b) {
            *to -= pulled;
        }
    }
}

/// `theta + slope × h`.
fn ahead(theta: &[f64], slope: &[f64], h: f64, to: &mut [f64]) {
    for ((to, theta), slope) in to.iter_mut().zip(theta).zip(slope) {
        *to = theta + slope * h;
    }
}
