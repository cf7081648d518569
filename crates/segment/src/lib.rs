//! The mapped format of Commonhold: geometry, header, words. Bytes become typed atomics here and nowhere
//! else: a segment is one slice of atomic 64-bit words, and every offset into it follows from a checked
//! header.
//!
//! No Rust enum, bool, reference or pointer lives in mapped memory. A word read from it is a number until
//! somebody decodes it with a check.

pub mod header;
pub mod layout;
mod segment;
pub mod sync;

pub use header::{Header, HeaderError};
pub use layout::{Geometry, Layout, NamedGeometry, TableGeometry, TableLayout};
pub use segment::{NewSegment, Segment, SegmentError, new_uuid};
