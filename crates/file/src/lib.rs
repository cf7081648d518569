//! A JSON or JSONC file that many processes edit at once: each edit is one atomic step, comments and formatting stay,
//! and nothing is lost when a process is killed at any instruction. No daemon, no segment.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod document;
mod edit;
mod error;
mod lock;
mod merge;
mod owner;
mod parse;
mod place;
mod save;
mod shared;
mod wait;

pub use error::{FileError, LockError, UpdateError};
pub use lock::{FileLock, Waited};
pub use merge::{CustomMerge, Merge, Policy};
pub use owner::Owner;
pub use shared::{SharedFile, Updated};
pub use wait::Patience;

#[cfg(test)]
mod tests;
