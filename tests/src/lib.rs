//! Tests of whole processes: what stands in `tests/tests` starts *roles* (processes of `commonhold-test-role`), lets
//! them work on one segment, stops and kills them, and judges memory and store afterwards.
//!
//! A role talks in lines over its standard input and output, so nobody sleeps to wait for anybody. It dies with the
//! test that started it; segments, stores and whatever else a test makes stand in one folder that goes with the
//! test's [`Stage`]. Randomness comes from a seed that is printed; `COMMONHOLD_TEST_SEED` gives it again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::missing_panics_doc)]

pub mod door;
pub mod fork;
pub mod judge;
pub mod nodes;
pub mod process;
pub mod purse;
pub mod random;
pub mod roles;
pub mod stage;
pub mod tasks;

pub use door::Door;
pub use process::Process;
pub use purse::Purse;
pub use random::Random;
pub use stage::{FULL, Item, LATEST, Stage};
