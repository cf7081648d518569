//! Signals that ask the coordinator to stop, held back and looked at between two steps, so that it stops cleanly.
//!
//! The workers inherit the mask: a Ctrl-C, which goes to the whole foreground group, is the coordinator's alone.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::ReplayError;

/// SIGINT, SIGTERM and SIGHUP, held back in this thread and those that it starts while this lives.
#[derive(Debug)]
pub(crate) struct Signals {
    came: SignalFd,
    mask_before: SigSet,
}

impl Signals {
    pub(crate) fn hold() -> Result<Self, ReplayError> {
        let mut set = SigSet::empty();
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|s| set.add(s));
        let error = |errno| ReplayError::system("hold signals back", errno);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let came = SignalFd::with_flags(&set, flags).map_err(error)?;
        let mask_before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(error)?;
        Ok(Self { came, mask_before })
    }

    /// An error if one came.
    pub(crate) fn check(&self) -> Result<(), ReplayError> {
        match self.came.read_signal() {
            Ok(Some(info)) => {
                Err(ReplayError::Stopped(i32::try_from(info.ssi_signo).unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// Readable when one came.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.came.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Fails only for a bad argument.
        let _ = self.mask_before.thread_set_mask();
    }
}
