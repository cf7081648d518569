//! SIGINT and SIGTERM end a run cleanly: the handler notes the signal, the coordinator's waits return.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::TortureError;

static STOPPED_BY: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: i32) {
    STOPPED_BY.store(signal, Ordering::Relaxed);
}

/// Catches SIGINT and SIGTERM from here on.
pub(crate) fn catch() -> Result<(), TortureError> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler stores one atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }
            .map_err(|e| TortureError::system("catch signals", e))?;
    }
    Ok(())
}

/// An error if a signal came.
pub(crate) fn check() -> Result<(), TortureError> {
    match STOPPED_BY.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => Err(TortureError::Stopped(signal)),
    }
}
