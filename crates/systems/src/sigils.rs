//! Sigil memory: payloads that many processes remember in common, and that fade unless they are recalled.
//!
//! A **sigil** is one remembered payload (any JSON, kept in one canonical form). Its id is the payload's state (FNV-1a
//! 64) and a number that no other sigil has, so equal payloads stay two sigils; each names the one of the same state
//! before it, its *twin*. A sigil may be linked to others, with a strength, and belong to a resonance node.
//!
//! **Strength** is 1 when a sigil is encoded or recalled, and half of it is left after each half-life:
//! `strength · 2^(−elapsed / half-life)` ([`decayed`]). [`SigilIdentity::crystallize_memory_patterns`] makes permanent
//! what was recalled often; [`SigilIdentity::process_memory_decay`] removes what fell below the threshold.
//!
//! Everything is the commit of the runtime: an encode inserts a record, a recall changes it, the sweep deletes it on the
//! condition that it is what was judged. No lock is held, and who is killed leaves a sigil or none.
//!
//! **Crash.** An encode killed before it returned leaves a sigil that nobody knows of, which fades, or nothing, and one
//! number less. What an encode that returned had made stays linked with its equals.

mod encode;
mod error;
mod id;
mod identity;
mod jobs;
mod links;
mod metrics;
mod options;
mod payload;
mod records;
#[cfg(test)]
mod tests;
mod upkeep;

pub use error::SigilError;
pub use id::SigilId;
pub use identity::{IDS, Sigil, SigilIdentity};
pub use jobs::{CRYSTALLIZE, DECAY};
pub use links::Link;
pub use options::{Now, SigilOptions};
pub use payload::{DEPTH_MAX, Payload};
pub use records::{SIGILS, STATES, SigilCapacity, configure, decayed, table_configs};
pub use upkeep::{Crystallized, Decayed};
