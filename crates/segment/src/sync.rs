//! The seam: every atomic, fence and futex of the protocols comes from here, so that the very same code
//! runs on real memory and, with the feature `loom`, under loom's model checker.
//!
//! **Store/load crossings.** Four places publish a word and then look at another (a commit and the
//! steward's flag, a flag and the doorbell, a freed cell and the waiters for it, a commit and the table's
//! watch word). Both sides use `SeqCst` accesses, whose single total order forbids that both miss each
//! other; loom weakens `SeqCst` accesses but not fences, so [`crossing`] is a `SeqCst` fence there and
//! nothing elsewhere.

#[cfg(not(feature = "loom"))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(not(feature = "loom"))]
pub use commonhold_os::futex::{wait as futex_wait, wake_all as futex_wake_all};

/// Stands between a `SeqCst` store and the `SeqCst` load that must not miss the other side's store.
#[cfg(not(feature = "loom"))]
#[inline]
pub fn crossing() {}

#[cfg(feature = "loom")]
pub use model::{AtomicU64, Ordering, crossing, fence, futex_wait, futex_wake_all};

#[cfg(feature = "loom")]
mod model {
    //! A futex made of one lock and one condition: `wait` compares under the lock, so that a wake between
    //! the comparison and the sleep is impossible, as the kernel guarantees.

    use std::time::Duration;

    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        static ref KERNEL: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    /// The fence that loom needs at a store/load crossing.
    pub fn crossing() {
        fence(Ordering::SeqCst);
    }

    /// Sleeps while the low half of `word` is `expected`; never times out.
    pub fn futex_wait(word: &AtomicU64, expected: u32, _timeout: Duration) {
        let Ok(mut guard) = KERNEL.0.lock() else { return };
        if word.load(Ordering::SeqCst) as u32 == expected {
            guard = match KERNEL.1.wait(guard) {
                Ok(guard) => guard,
                Err(_) => return,
            };
        }
        drop(guard);
    }

    /// Wakes every sleeper of every word: more than the kernel does, which is allowed (spurious wakes).
    pub fn futex_wake_all(_word: &AtomicU64) {
        if let Ok(guard) = KERNEL.0.lock() {
            KERNEL.1.notify_all();
            drop(guard);
        }
    }
}
