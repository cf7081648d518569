//! The protocols of Commonhold on the words of a segment.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod catalogue;
pub mod hash;
pub mod record;
pub mod row;
pub mod schema;
pub mod value;
