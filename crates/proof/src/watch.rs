//! A limit for one injection: who hangs at it says at which one, and ends.

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicUsize, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::Failure;

const LINE_MAX: usize = 240;

static LINE: [AtomicU8; LINE_MAX] = [const { AtomicU8::new(0) }; LINE_MAX];
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static TO: AtomicI32 = AtomicI32::new(2);

/// Who hangs says so on this descriptor.
pub(crate) fn say_on(descriptor: i32) {
    TO.store(descriptor, Ordering::Relaxed);
}

/// From now on `what` may take so many seconds; what was watched before has ended.
pub(crate) fn begin(seconds: u32, what: &str) -> Result<(), Failure> {
    let line = format!("nothing went on for {seconds} s: {what}");
    for (to, from) in LINE.iter().zip(line.bytes()) {
        to.store(from, Ordering::Relaxed);
    }
    LENGTH.store(line.len().min(LINE_MAX), Ordering::Release);
    let action = SigAction::new(SigHandler::Handler(give_up), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing but copy, write and exit, which a handler may.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    nix::unistd::alarm::set(seconds);
    Ok(())
}

/// Nothing is watched any more.
pub(crate) fn end() {
    nix::unistd::alarm::cancel();
}

extern "C" fn give_up(_: i32) {
    let mut line = [0; LINE_MAX];
    let length = LENGTH.load(Ordering::Acquire).min(LINE_MAX);
    for (to, from) in line.iter_mut().zip(&LINE) {
        *to = from.load(Ordering::Relaxed);
    }
    // SAFETY: as many bytes as there are, to a descriptor that is open or an error.
    unsafe { libc::write(TO.load(Ordering::Relaxed), line.as_ptr().cast(), length) };
    // SAFETY: ends the process.
    unsafe { libc::_exit(9) }
}
