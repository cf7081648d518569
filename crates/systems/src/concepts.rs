//! Maps of concepts: what personas have learned, in a JSON file with comments that many of them change at once.
//!
//! `{ "concepts": [{ "name", "description", "level", "confidence", "updated_at", "learned_by", … }], … }`
//!
//! - [`HumanMap`] is one file for many processes; [`HumanMap::update_human_concept_map`] loads, changes and saves it as
//!   one atomic step. [`SystemMap`] is a file of one persona, without a lock.
//! - [`merge_concepts`] is additive. A level is the average of the observations, weighted by confidence and recency
//!   (level.rs has the formula); of other fields the latest update's stays (record.rs).
//!
//! **Laws**: merging is associative, commutative and idempotent in what the concepts say, to the bit. The order of the
//! list and of names in a field's value, and how a time is written, are those of the map that is merged into. Times more than
//! five minutes ahead of the clock count as now, so with such times in them the laws are of merges at one time.

mod concept;
mod error;
mod file;
mod level;
mod map;
mod memory;
mod record;
#[cfg(test)]
mod tests;
mod time;

pub use concept::{Concept, Learned};
pub use error::{ConceptError, MapError};
pub use file::{HumanMap, MAX_RETRIES, SystemMap};
pub use level::{HALF_LIFE, OBSERVATIONS_MAX};
pub use map::{ConceptMap, Merged, merge_concepts};
