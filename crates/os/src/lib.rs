//! The only place of Commonhold that calls the kernel: mappings, futexes, process identity and
//! liveness, file locks, fork detection and clocks.
//!
//! Everything here is mechanism; what a lock byte or a word *means* is decided above.

pub mod clock;
pub mod error;
pub mod fork;
pub mod futex;
mod guard;
pub mod lock;
pub mod mapping;
pub mod process;
pub mod random;

pub use error::OsError;
