//! SIGINT and SIGTERM during foreground runs: blocked and read from a descriptor, so that a run ends between two
//! steps, cleanly, and no code runs in a signal handler.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::{Done, Failure};

/// So long a run waits before it looks for a signal again.
pub(crate) const PIECE: Duration = Duration::from_millis(100);

/// The signals that end a foreground run.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// From here on the signals are read, not delivered. Call it before any thread is started: threads inherit
    /// what their starter blocks.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Fails with the signal that has come, if one has.
    pub(crate) fn check(&self) -> Done {
        let Some(info) = self.0.read_signal()? else { return Ok(()) };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        Err(Failure::Signal(Signal::try_from(number).unwrap_or(Signal::SIGTERM)))
    }

    /// Waits until a signal has come, which is then the failure, or `timeout` has passed.
    pub(crate) fn sleep(&self, timeout: Duration) -> Done {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        // Interrupted or failed: the check tells.
        let _ = poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout);
        self.check()
    }
}
