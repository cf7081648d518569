//! A file that is cut short under its mapping: an error for those who use it, not the end of their processes.
//!
//! An access behind the end of a mapped file raises SIGBUS. The handler installed here with the first mapping looks
//! whether the address lies in a mapping of ours. If so it puts zero pages over everything from there to the mapping's
//! end and returns: the access goes on and finds zeros. What that means is decided above: a segment's last word is
//! never zero, so whoever read a zero that was not there finds that word gone afterwards (crate `segment`).
//!
//! Every other SIGBUS goes to the handler that was there before, or has the effect that it had before.
//!
//! **State**: a table of ranges, written without a lock and read by the handler, which calls nothing but `mmap` and
//! `sigaction`. A mapping that finds no place in the table is not guarded. Who installs a handler of his own for
//! SIGBUS later and does not call the one before takes the guard away.
//!
//! **Sources**: sigaction(2), mmap(2), signal-safety(7).

use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most mappings of one process that are guarded.
const RANGES_MAX: usize = 1024;
const FREE: usize = 0;
/// The start of a range that is being written; no mapping starts there.
const TAKEN: usize = 1;

struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
}

static RANGES: [Range; RANGES_MAX] =
    [const { Range { start: AtomicUsize::new(FREE), end: AtomicUsize::new(0) } }; RANGES_MAX];
static PAGE: AtomicUsize = AtomicUsize::new(4096);
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// A guarded range of addresses; no longer guarded when dropped.
#[derive(Debug)]
pub(crate) struct Guarded(Option<usize>);

/// Guards the mapping of `bytes` at `start`, which must stay mapped as long as what this returns.
pub(crate) fn guard(start: *const u8, bytes: usize) -> Guarded {
    BEFORE.get_or_init(install);
    let start = start.addr();
    let end = start.saturating_add(bytes).next_multiple_of(PAGE.load(Ordering::Relaxed));
    let free = |range: &Range| {
        let order = (Ordering::Acquire, Ordering::Relaxed);
        range.start.compare_exchange(FREE, TAKEN, order.0, order.1).is_ok()
    };
    let place = RANGES.iter().position(free);
    if let Some(range) = place.and_then(|at| RANGES.get(at)) {
        range.end.store(end, Ordering::Relaxed);
        range.start.store(start, Ordering::Release);
    }
    Guarded(place)
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(range) = self.0.and_then(|at| RANGES.get(at)) {
            range.start.store(FREE, Ordering::Release);
        }
    }
}

/// Installs the handler; the action that was there before, or none when the kernel does not tell.
fn install() -> Option<libc::sigaction> {
    // SAFETY: a plain question to the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PAGE.store(usize::try_from(page).unwrap_or(4096), Ordering::Relaxed);
    // SAFETY: `sigaction` is plain data; all-zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: as above.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both actions live over the call; the handler is async-signal-safe. A SIGBUS of somebody else between
    // this call and the end of `get_or_init` takes the default action.
    let done = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, &raw mut before) };
    (done == 0).then_some(before)
}

extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the address of this thread's errno, which what is called here may change.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let kept = unsafe { *errno };
    // SAFETY: the kernel gives a valid `siginfo_t` to a handler with SA_SIGINFO; for a fault it has an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code != libc::BUS_ADRERR || !cover(address) {
        others(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = kept };
}

/// Puts zero pages over our mapping from the page of `address` to its end; false when it is not ours.
fn cover(address: usize) -> bool {
    let page = PAGE.load(Ordering::Relaxed);
    let from = address - address % page;
    for range in &RANGES {
        let start = range.start.load(Ordering::Acquire);
        let end = range.end.load(Ordering::Relaxed);
        if start <= TAKEN || address < start || address >= end {
            continue;
        }
        // SAFETY: whole pages of a mapping of ours, which stays one: only what stands behind it changes. Who reads it
        // reads atomics, of which every bit pattern is valid.
        let covered = unsafe {
            libc::mmap(
                std::ptr::without_provenance_mut(from),
                end - from,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        return covered != libc::MAP_FAILED;
    }
    false
}

/// What would have happened without this module.
fn others(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let before = BEFORE.get().copied().flatten();
    let action = before.map_or(libc::SIG_DFL, |b| b.sa_sigaction);
    // SAFETY: the kernel gives a valid `siginfo_t`. A fault has a positive code, a signal that was sent has not.
    let sent = unsafe { (*info).si_code } <= 0;
    match (action, before) {
        (libc::SIG_IGN, _) if sent => {}
        (libc::SIG_DFL | libc::SIG_IGN, _) | (_, None) => {
            // SAFETY: the default action, and with it the end: the fault is met again, the signal sent again.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            if sent {
                // SAFETY: a plain system call; the signal comes when this handler returns.
                unsafe { libc::raise(signal) };
            }
        }
        (handler, Some(b)) if b.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: a handler that was installed with SA_SIGINFO takes these three.
            let handler = unsafe {
                std::mem::transmute::<
                    usize,
                    extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void),
                >(handler)
            };
            handler(signal, info, context);
        }
        (handler, Some(_)) => {
            // SAFETY: a handler that was installed without SA_SIGINFO takes the signal.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}
