//! How long a lock is waited for, and in which steps.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use commonhold_os::process::Pidfd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a lock is waited for: tries that double their distance, each of a random length between half of it and all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    pub(crate) limit: Duration,
    pub(crate) retries: Option<u32>,
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let (first, last) = (Duration::from_millis(1), Duration::from_millis(32));
        Self { limit: Duration::from_secs(10), retries: None, first, last }
    }
}

impl Patience {
    /// 10 s, however many tries that is; 1 ms between the first two, 32 ms at most.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The longest time.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The most tries after the first one.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// The first distance between two tries, and the longest; an hour at most.
    #[must_use]
    pub fn between(mut self, first: Duration, last: Duration) -> Self {
        const MOST: Duration = Duration::from_secs(3600);
        (self.first, self.last) = (first.min(MOST), last.max(first).min(MOST));
        self
    }
}

/// The steps of one wait.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    patience: &'a Patience,
    until: Option<Instant>,
    next: Duration,
    tries: u32,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(patience: &'a Patience) -> Self {
        let until = Instant::now().checked_add(patience.limit);
        Self { patience, until, next: patience.first, tries: 0 }
    }

    /// How often it has slept.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// Sleeps until the next try, or until the owner has ended; false when patience is at its end.
    pub(crate) fn sleep(&mut self, owner: Option<&Pidfd>) -> bool {
        let now = Instant::now();
        let left = self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
        if left.is_zero() || self.patience.retries.is_some_and(|most| self.tries >= most) {
            return false;
        }
        let pause = jitter(self.next).min(left);
        let dead = owner.is_some_and(|owner| wait_for_end(owner, pause));
        match owner {
            // All who wait see it at once: not all try at once.
            Some(_) if dead => std::thread::sleep(jitter(self.patience.first).min(left)),
            Some(_) => {}
            None => std::thread::sleep(pause),
        }
        self.next = (self.next * 2).min(self.patience.last);
        self.tries += 1;
        true
    }
}

fn wait_for_end(owner: &Pidfd, pause: Duration) -> bool {
    // Whole milliseconds, at least one.
    let pause = u16::try_from(pause.as_millis().max(1)).unwrap_or(u16::MAX);
    let mut fds = [PollFd::new(owner.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(pause)).is_ok_and(|ready| ready > 0)
}

/// A random time between half of it and all.
fn jitter(time: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without random numbers all have the same steps: slower, not wrong.
    let _ = getrandom::fill(&mut bytes);
    let part = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
    time.mul_f64(0.5 + part / 2.0)
}
