//! The reference systems: what the runtime is for, built on it as a user would.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod access_log;
pub mod cascade;
pub mod clients;
pub mod concepts;
pub mod customers;
pub mod replay;
pub mod resonance;
pub mod sigils;
