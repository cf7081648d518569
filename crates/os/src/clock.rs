//! Clocks: a coarse wall clock that costs less than a commit, and the monotonic clock.

use std::time::Duration;

fn read(clock: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the call to fill; the clock ids are constants the kernel has.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(secs, nanos)
}

/// Microseconds since 1970-01-01 UTC by `CLOCK_REALTIME_COARSE`: a few nanoseconds to read, a resolution
/// of one kernel tick (1 to 10 ms).
#[must_use]
pub fn wall_micros() -> i64 {
    i64::try_from(read(libc::CLOCK_REALTIME_COARSE).as_micros()).unwrap_or(i64::MAX)
}

/// Nanoseconds by `CLOCK_MONOTONIC`: the same clock in every process of the machine.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    u64::try_from(read(libc::CLOCK_MONOTONIC).as_nanos()).unwrap_or(u64::MAX)
}
