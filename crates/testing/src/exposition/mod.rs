//! The text format of Prometheus (version 0.0.4), read strictly, and the rules that `promtool check metrics` has for it.

mod lint;
mod read;
#[cfg(test)]
mod tests;

pub use lint::{MISSION, lint};
pub use read::{Family, Sample, read};
