//! The arena: shared memory of the benchmark's own, which the runtime does not know. Orders to the workers,
//! their counts, and what the peers work on.
//!
//! It is an anonymous file (`memfd_create`) that the workers open through `/proc`, so that nothing is left
//! behind however the benchmark ends.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU64;

use commonhold_torture::histogram::HISTOGRAM_WORDS;
use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::locks::{Pthread, Robustness};
use crate::{Failure, Outcome};

/// Latencies that a worker keeps one by one.
pub(crate) const SAMPLES: usize = 4096;
/// Words of the record that the mutexes protect.
pub(crate) const RECORD_WORDS: usize = 32;

/// A word on cache lines of its own (two: the second is fetched along).
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Line(pub(crate) AtomicU64);

/// What all share.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct Board {
    /// Moves with every order; the workers sleep on it.
    pub(crate) turn: Line,
    /// The order, and how many workers it is for.
    pub(crate) job: AtomicU64,
    pub(crate) active: AtomicU64,
    /// Not 0: the order is over.
    pub(crate) stop: Line,
    /// Workers that are attached, that are done with the order, that failed.
    pub(crate) ready: Line,
    pub(crate) done: Line,
    pub(crate) failures: Line,
    /// What the raw compare-exchange and the bare futexes work on; who sleeps on it.
    pub(crate) word: Line,
    pub(crate) sleepers: Line,
    /// When the last hand-over began.
    pub(crate) stamp: Line,
    /// A process-shared pthread mutex, through `raw_sync`.
    mutex: [Line; 2],
    /// Two more, without: a plain one, a robust one.
    plain: [Line; 2],
    robust: [Line; 2],
    /// What the first one protects: value, version, hash, payload.
    pub(crate) record: [AtomicU64; 3 + RECORD_WORDS],
}

/// What one worker writes.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct Desk {
    pub(crate) count: Line,
    /// 1 while the worker waits to be woken.
    pub(crate) asleep: Line,
    pub(crate) histogram: [AtomicU64; HISTOGRAM_WORDS],
    pub(crate) sampled: Line,
    pub(crate) samples: [AtomicU64; SAMPLES],
}

/// The mapped arena.
pub(crate) struct Arena {
    memory: MmapRaw,
    _file: File,
    path: String,
    desks: usize,
}

/// A shared anonymous file of `bytes`, zeroed.
pub(crate) fn shared_file(bytes: usize) -> Outcome<File> {
    let file = File::from(memfd_create("commonhold-bench", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(bytes as u64)?;
    Ok(file)
}

impl Arena {
    /// A new arena for so many workers.
    pub(crate) fn create(desks: usize) -> Outcome<Self> {
        let file = shared_file(size_of::<Board>() + desks * size_of::<Desk>())?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let arena = Self { memory: MmapOptions::new().map_raw(&file)?, _file: file, path, desks };
        // SAFETY: each mutex's 256 bytes belong to it alone, nobody else has the arena yet.
        unsafe {
            arena.make_mutex()?;
            Pthread::make(arena.pthread_at(Robustness::Stalled), Robustness::Stalled)?;
            Pthread::make(arena.pthread_at(Robustness::Robust), Robustness::Robust)?;
        }
        Ok(arena)
    }

    /// The arena that another process made.
    pub(crate) fn open(path: &str) -> Outcome<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let memory = MmapOptions::new().map_raw(&file)?;
        let desks = memory.len().checked_sub(size_of::<Board>()).ok_or("the arena is too small")?;
        let desks = desks / size_of::<Desk>();
        Ok(Self { memory, _file: file, path: path.to_owned(), desks })
    }

    /// Where other processes find it while this one lives.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn board(&self) -> &Board {
        // SAFETY: the mapping begins with a board, page-aligned, and outlives the borrow; it holds only
        // atomics, for which any bits are valid. The mutex's are never looked at through it.
        unsafe { &*self.memory.as_mut_ptr().cast::<Board>() }
    }

    pub(crate) fn desks(&self) -> &[Desk] {
        let start = self.memory.as_mut_ptr().wrapping_add(size_of::<Board>());
        // SAFETY: so many desks follow the board, page-aligned; else as for the board.
        unsafe { std::slice::from_raw_parts(start.cast::<Desk>(), self.desks) }
    }

    fn mutex_at(&self) -> (*mut u8, *mut u8) {
        let base = self.memory.as_mut_ptr();
        let mutex = base.wrapping_add(std::mem::offset_of!(Board, mutex));
        (mutex, base.wrapping_add(std::mem::offset_of!(Board, record)))
    }

    fn pthread_at(&self, robustness: Robustness) -> *mut u8 {
        let offset = match robustness {
            Robustness::Stalled => std::mem::offset_of!(Board, plain),
            Robustness::Robust => std::mem::offset_of!(Board, robust),
        };
        self.memory.as_mut_ptr().wrapping_add(offset)
    }

    /// A pthread mutex around nothing.
    pub(crate) fn pthread(&self, robustness: Robustness) -> Pthread<'_> {
        // SAFETY: it was made before anybody could open the arena, which is borrowed.
        unsafe { Pthread::at(self.pthread_at(robustness)) }
    }

    /// Makes the mutex around the record.
    ///
    /// # Safety
    /// Nobody else has the arena.
    unsafe fn make_mutex(&self) -> Outcome {
        use raw_sync::locks::{LockInit, Mutex};
        let (mutex, record) = self.mutex_at();
        // SAFETY: the caller's; the place is large and aligned enough for a pthread mutex.
        let made = unsafe { Mutex::new(mutex, record) };
        made.map(drop).map_err(|e| Failure::from(e.to_string()))
    }

    /// The mutex around the record.
    pub(crate) fn mutex(&self) -> Outcome<Box<dyn raw_sync::locks::LockImpl>> {
        use raw_sync::locks::{LockInit, Mutex};
        let (mutex, record) = self.mutex_at();
        // SAFETY: it was made before anybody could open the arena; its data is not used through it.
        let found = unsafe { Mutex::from_existing(mutex, record) };
        found.map(|(mutex, _)| mutex).map_err(|e| Failure::from(e.to_string()))
    }
}
