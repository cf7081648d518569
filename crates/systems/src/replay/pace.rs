//! The pace: workers go through the log side by side, a window of lines at a time.
//!
//! **Why.** Requests that a server had minutes apart do not meet in it. If every worker ran through its share as fast as
//! it gets a processor, then with more workers than processors they would be at quite different places of the log: on
//! two processors one is through with 1000 lines before another has begun. So nobody begins a window before all are
//! through with the one before, and those who have a processor begin it at the same time: the coordinator names one
//! that lies a little ahead, and they wait for it awake. Within a window nobody waits for anybody.
//!
//! Workers are spread over the processors and stay there, as those of a web server do: the kernel would wake most of
//! them on the coordinator's processor, one behind the other.
//!
//! A worker that is killed holds the others up until another has taken over, at most a window behind.

use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Lines of each share in a window.
pub(crate) const WINDOW_LINES: u64 = 64;
/// The coordinator wakes the workers one by one; they have so long, and for each of them so long.
const WAKE_ALL: Duration = Duration::from_micros(40);
const WAKE_EACH: Duration = Duration::from_micros(4);
/// No time to begin at is waited for longer than this.
const AHEAD_MAX: Duration = Duration::from_millis(1);

/// Leave to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leave {
    /// So many lines of the share may be done.
    pub(crate) until: u64,
    /// Not before this time, in nanoseconds of the machine's monotonic clock.
    pub(crate) begin: u64,
}

impl Leave {
    pub(crate) const BYTES: usize = 16;

    /// Leave until the line `until`, for so many workers at the same time.
    pub(crate) fn together(until: u64, workers: usize) -> Self {
        let each = WAKE_EACH * u32::try_from(workers).unwrap_or(u32::MAX);
        let ahead = (WAKE_ALL + each).min(AHEAD_MAX);
        Self { until, begin: now().saturating_add(ahead.as_nanos() as u64) }
    }

    /// Leave until the line `until`, at once.
    pub(crate) fn at_once(until: u64) -> Self {
        Self { until, begin: 0 }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.until.to_le_bytes(), self.begin.to_le_bytes()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word =
            |half: &[u8]| half.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let (until, begin) = bytes.split_at(8);
        Self { until: word(until), begin: word(begin) }
    }

    /// Waits for the time to begin.
    pub(crate) fn wait(self) {
        let last = now().saturating_add(AHEAD_MAX.as_nanos() as u64);
        while now() < self.begin.min(last) {
            std::hint::spin_loop();
        }
    }
}

/// Keeps this thread on one of the processors that it may use, the next one for each index.
pub(crate) fn stay_on_processor(index: usize) {
    // Where that is not allowed it runs anywhere: slower, not wrong.
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else { return };
    let processors: Vec<usize> =
        (0..CpuSet::count()).filter(|p| allowed.is_set(*p).unwrap_or(false)).collect();
    let turn = index.checked_rem(processors.len()).and_then(|turn| processors.get(turn));
    let mut one = CpuSet::new();
    if turn.is_some_and(|processor| one.set(*processor).is_ok()) {
        let _ = sched_setaffinity(this, &one);
    }
}

/// Nanoseconds of the machine's monotonic clock, the same in all processes.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leave_survives_its_way_through_a_pipe() {
        let leave = Leave::together(0x0102_0304_0506_0708, 8);
        let bytes: [u8; Leave::BYTES] = leave.to_bytes().try_into().unwrap();
        assert_eq!(Leave::from_bytes(&bytes), leave);
    }

    #[test]
    fn nobody_begins_early_or_waits_for_ever() {
        let leave = Leave::together(1, 8);
        leave.wait();
        assert!(now() >= leave.begin);
        Leave::at_once(1).wait();
        Leave { until: 1, begin: u64::MAX }.wait();
    }
}
