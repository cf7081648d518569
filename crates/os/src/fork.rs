//! Fork detection: a child must not act as its parent.
//!
//! **State**: one anonymous page under `MADV_WIPEONFORK` holds this process's *generation*; the kernel
//! zeroes it in a child, whose first look then gives it the next generation. Whoever acts for the process
//! (a handle, a lock) keeps the generation it was made in and compares: about a nanosecond.
//!
//! **Descriptors**: an open-file-description lock outlives its owner while a forked child holds the
//! description, so a `pthread_atfork` child handler closes every registered lock descriptor, also in
//! children that never call us. A child made by a raw `clone` system call runs no handlers; its copies go
//! at its `exec` (close-on-exec) or exit, and until then an entry of a dead parent is freed late, never
//! wrongly.
//!
//! **Sources**: madvise(2), pthread_atfork(3), fcntl(2) "Open file description locks".

use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The most lock descriptors of one process that a forked child closes.
const DESCRIPTORS_MAX: usize = 8192;
const FREE: i32 = -1;

static NEXT: AtomicU64 = AtomicU64::new(1);
static PAGE: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
static DESCRIPTORS: [AtomicI32; DESCRIPTORS_MAX] =
    [const { AtomicI32::new(FREE) }; DESCRIPTORS_MAX];

/// The generation of this process: one number from its start, another in each forked child.
#[must_use]
#[inline]
pub fn generation() -> u64 {
    match PAGE.get() {
        Some(Some(page)) => match page.load(Ordering::Relaxed) {
            0 => renew(page),
            generation => generation,
        },
        _ => first(),
    }
}

#[cold]
fn first() -> u64 {
    match PAGE.get_or_init(make_page) {
        Some(page) => match page.load(Ordering::Relaxed) {
            0 => renew(page),
            generation => generation,
        },
        // Without the page (an old kernel) the process id tells parent and child apart.
        None => u64::from(std::process::id()),
    }
}

#[cold]
fn renew(page: &AtomicU64) -> u64 {
    // `NEXT` was copied with the parent's memory, so this differs from every generation it ever had.
    let next = NEXT.fetch_add(1, Ordering::Relaxed) + 1;
    match page.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => next,
        Err(other) => other,
    }
}

fn make_page() -> Option<&'static AtomicU64> {
    const BYTES: usize = 4096;
    // SAFETY: a fresh private anonymous mapping, at an address of the kernel's choice; checked below.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the mapping just made, whole.
    if unsafe { libc::madvise(page, BYTES, libc::MADV_WIPEONFORK) } != 0 {
        return None;
    }
    // SAFETY: registering a handler that only closes descriptors (async-signal-safe).
    unsafe { libc::pthread_atfork(None, None, Some(close_in_child)) };
    // SAFETY: page-aligned, zeroed, never unmapped, and only ever used as this atomic.
    Some(unsafe { &*page.cast::<AtomicU64>() })
}

extern "C" fn close_in_child() {
    for slot in &DESCRIPTORS {
        let fd = slot.swap(FREE, Ordering::Relaxed);
        if fd != FREE {
            // SAFETY: the parent registered this descriptor and owns it; this child's copy belongs to no
            // object that will use it, because their generation differs.
            unsafe { libc::close(fd) };
        }
    }
}

/// Notes a lock descriptor, to be closed in forked children. Without room it is not noted: then a lock
/// outlives its owner as long as such a child, which delays the reuse of an entry.
pub(crate) fn register(fd: RawFd) {
    let _ = generation();
    let free = |slot: &&AtomicI32| {
        slot.compare_exchange(FREE, fd, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    let _ = DESCRIPTORS.iter().find(free);
}

/// Forgets a lock descriptor that is about to be closed.
pub(crate) fn unregister(fd: RawFd) {
    let mine = |slot: &&AtomicI32| {
        slot.compare_exchange(fd, FREE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    let _ = DESCRIPTORS.iter().find(mine);
}
