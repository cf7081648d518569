//! The clocks that jobs go by, in one place so that tests can have others.

use commonhold_os::clock::{monotonic_nanos, wall_micros};

/// What the clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Microseconds since 1970 by the clock on the wall, which somebody may set.
    pub(super) wall: i64,
    /// Nanoseconds by the clock that nobody can set.
    pub(super) monotonic: u64,
    /// The making of the segment: nanoseconds of another one mean nothing.
    pub(super) epoch: u64,
}

/// Both clocks.
pub(super) trait Clock: Send + Sync {
    /// What they say now, in the segment's making `epoch`.
    fn now(&self, epoch: u64) -> Moment;
}

/// The machine's.
pub(super) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self, epoch: u64) -> Moment {
        Moment { wall: wall_micros(), monotonic: monotonic_nanos(), epoch }
    }
}
