//! The rules that the tree keeps, as pure functions: each takes text or a graph and returns what breaks the rule,
//! one line each, with the place. `tests/tidy.rs` applies them to this repository.
//!
//! - [`layers`]: which crate may depend on which.
//! - [`source`]: what a source file looks like, and where `unsafe` and the standard library's atomics may stand.
//! - [`code`]: a source file without its comments and strings, so that words in them are not taken for code.
//! - [`files`]: the files of a working tree.

pub mod code;
pub mod files;
pub mod layers;
pub mod source;
