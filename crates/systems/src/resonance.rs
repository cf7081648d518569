//! Resonance networks.

pub mod physics;
