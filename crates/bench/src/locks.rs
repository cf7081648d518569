//! What guards are compared with: process-shared pthread mutexes, plain and robust, and `raw_sync`'s, each in the
//! arena. All of them around the same section.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use raw_sync::locks::LockImpl;

use crate::arena::Board;
use crate::{Failure, Outcome};

/// A lock of one kind or another.
pub(crate) trait Lock {
    /// Runs `section` while it holds the lock.
    fn with(&self, section: impl FnOnce()) -> Outcome;
}

/// What becomes of a mutex whose holder dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Robustness {
    /// Everybody waits for ever.
    Stalled,
    /// The next one gets it and is told (`PTHREAD_MUTEX_ROBUST`).
    Robust,
}

/// A process-shared pthread mutex in the arena.
pub(crate) struct Pthread<'a> {
    mutex: *mut libc::pthread_mutex_t,
    board: PhantomData<&'a Board>,
}

fn check(call: &str, code: libc::c_int) -> Outcome {
    match code {
        0 => Ok(()),
        code => Err(format!("{call}: {}", std::io::Error::from_raw_os_error(code)).into()),
    }
}

impl Pthread<'_> {
    /// Makes a mutex at `place`.
    ///
    /// # Safety
    /// `place` is aligned and large enough for a mutex, stays mapped for as long as the value lives, and nobody
    /// else uses it yet.
    pub(crate) unsafe fn make(place: *mut u8, robustness: Robustness) -> Outcome {
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialised by the first call, and used only if it succeeded; the place is the
        // caller's.
        unsafe {
            check("pthread_mutexattr_init", libc::pthread_mutexattr_init(attributes))?;
            let shared = libc::PTHREAD_PROCESS_SHARED;
            check(
                "pthread_mutexattr_setpshared",
                libc::pthread_mutexattr_setpshared(attributes, shared),
            )?;
            if robustness == Robustness::Robust {
                let robust = libc::PTHREAD_MUTEX_ROBUST;
                check(
                    "pthread_mutexattr_setrobust",
                    libc::pthread_mutexattr_setrobust(attributes, robust),
                )?;
            }
            check("pthread_mutex_init", libc::pthread_mutex_init(place.cast(), attributes))?;
            check("pthread_mutexattr_destroy", libc::pthread_mutexattr_destroy(attributes))
        }
    }

    /// The mutex at `place`.
    ///
    /// # Safety
    /// [`Pthread::make`] made it there, and it stays mapped for as long as the value lives.
    pub(crate) unsafe fn at(place: *mut u8) -> Self {
        Self { mutex: place.cast(), board: PhantomData }
    }
}

impl Lock for Pthread<'_> {
    #[inline]
    fn with(&self, section: impl FnOnce()) -> Outcome {
        // SAFETY: a mutex that was made and stays mapped, see `at`.
        let code = unsafe { libc::pthread_mutex_lock(self.mutex) };
        if code != 0 {
            check("pthread_mutex_lock", code)?;
        }
        section();
        // SAFETY: as above, and this thread holds it.
        let code = unsafe { libc::pthread_mutex_unlock(self.mutex) };
        if code != 0 {
            check("pthread_mutex_unlock", code)?;
        }
        Ok(())
    }
}

impl Lock for Box<dyn LockImpl> {
    #[inline]
    fn with(&self, section: impl FnOnce()) -> Outcome {
        let guard = self.lock().map_err(|e| Failure::from(e.to_string()))?;
        section();
        drop(guard);
        Ok(())
    }
}

impl Lock for commonhold::Guard<&commonhold::Handle> {
    #[inline]
    fn with(&self, section: impl FnOnce()) -> Outcome {
        Ok(Self::with(self, |_| section())?)
    }
}

/// The floor of a lock: one compare-exchange to take it, one to leave it.
#[inline]
pub(crate) fn two_exchanges(word: &AtomicU64) {
    for (from, to) in [(0, 1), (1, 0)] {
        std::hint::black_box(
            word.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok(),
        );
    }
}

/// A short section that is lost if two are in it at once: adds one to the board's word, not atomically.
#[inline]
pub(crate) fn add_one(word: &AtomicU64) {
    word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
