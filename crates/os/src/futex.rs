//! Futex wait and wake between processes, on the low half of a 64-bit word.
//!
//! Never `FUTEX_PRIVATE_FLAG`: the same word is mapped at different addresses in different processes, so
//! the kernel must find it by file and offset. A futex compares 32 bits; every word that somebody waits
//! on keeps what wakes him (a WAITERS bit and the low bits of a version) in its low half.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

const LOW_HALF: usize = if cfg!(target_endian = "little") { 0 } else { 1 };

fn low_half(word: &AtomicU64) -> *const u32 {
    // Pointer arithmetic inside the eight bytes of `word`.
    std::ptr::from_ref(word).cast::<u32>().wrapping_add(LOW_HALF)
}

/// Sleeps while the low half of `word` is `expected`, at most `timeout`. Returns early at any time:
/// woken, interrupted, timed out or not equal in the first place; the caller looks again.
pub fn wait(word: &AtomicU64, expected: u32, timeout: Duration) {
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
    };
    // SAFETY: `FUTEX_WAIT(uaddr, val, timeout)`: the word is valid and aligned for the borrow's life, the
    // timeout lives over the call, and the other arguments are ignored for this operation.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            low_half(word),
            libc::FUTEX_WAIT,
            expected,
            &raw const time,
            std::ptr::null::<u32>(),
            0,
        );
    }
}

/// Wakes everybody who sleeps on `word`, in any process.
pub fn wake_all(word: &AtomicU64) {
    // SAFETY: `FUTEX_WAKE(uaddr, val)` takes the address as a name only; it does not read or write it.
    unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAKE, i32::MAX) };
}

/// Wakes one who sleeps on `word`, in any process; whether there was one.
pub fn wake_one(word: &AtomicU64) -> bool {
    // SAFETY: `FUTEX_WAKE(uaddr, val)` takes the address as a name only; it does not read or write it.
    let woken = unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAKE, 1) };
    woken > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_wrong_expectation_returns_and_a_wake_ends_a_wait() {
        static WORD: AtomicU64 = AtomicU64::new(7 << 32 | 5);
        wait(&WORD, 4, Duration::from_secs(60));
        let waiter = std::thread::spawn(|| {
            while WORD.load(Ordering::Acquire) as u32 == 5 {
                wait(&WORD, 5, Duration::from_secs(60));
            }
        });
        WORD.store(7 << 32 | 6, Ordering::Release);
        wake_all(&WORD);
        waiter.join().expect("the waiter ends");
        assert!(!wake_one(&WORD), "nobody sleeps any more");
    }
}
