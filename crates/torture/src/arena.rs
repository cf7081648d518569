//! The arena: shared memory of the torture's own, which the runtime does not know. Start line, what each
//! worker acknowledged, latencies, and the records of the `mutex` mode.
//!
//! ```text
//! words   0..64   ready count · start time · first failure
//! words  64..128  the start line (raw_sync event)
//! then 128 words for each record of the mutex mode: mutex (raw_sync) · value · version · hash · payload …
//! then 16 words for each worker, then a histogram for each worker, then a log for each worker (with --system)
//! ```
//! The start line is a `raw_sync` event: a process-shared condition on a futex. It is used before the first
//! kill only. The mutex is `raw_sync`'s process-shared pthread mutex, which is not robust: with kills the
//! mode is refused.

use std::sync::atomic::{AtomicU64, Ordering};

use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use raw_sync::locks::{LockImpl, LockInit, Mutex};
use shared_memory::{Shmem, ShmemConf};

use crate::TortureError;
use crate::histogram::HISTOGRAM_WORDS;

const HEADER_WORDS: usize = 64;
const EVENT_WORDS: usize = 64;
/// Words of a record's mutex.
const MUTEX_WORDS: usize = 16;
const WORKER_WORDS: usize = 16;

/// The sizes of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) workers: u32,
    pub(crate) records: u32,
    pub(crate) payload: u32,
    /// Words of each worker's log.
    pub(crate) log: u32,
}

/// The mapped arena.
pub(crate) struct Arena {
    memory: Shmem,
    shape: Shape,
}

/// One worker's words.
#[derive(Clone, Copy)]
pub(crate) struct WorkerView<'a> {
    /// Updates acknowledged: counted after the call returned.
    pub(crate) acknowledged: &'a AtomicU64,
    /// The worker's writer id.
    pub(crate) writer: &'a AtomicU64,
    /// Bits of [`Violation`] that the worker saw.
    pub(crate) violations: &'a AtomicU64,
    /// The longest update, in nanoseconds.
    pub(crate) longest: &'a AtomicU64,
    /// How often it got a guard from a dead holder.
    pub(crate) taken_over: &'a AtomicU64,
    pub(crate) histogram: &'a [AtomicU64],
}

/// What a worker may see that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Violation {
    /// A commit's clock was not strictly after its predecessor's.
    Clock = 1,
    /// A commit's version was not its predecessor's plus one.
    Version = 2,
    /// A commit's sequence was not the number of commits acknowledged plus one.
    Sequence = 4,
    /// A state was read whose hash is not its own.
    Hash = 8,
    /// Who held a guard saw a part of a change.
    HalfDone = 16,
}

impl Shape {
    fn record_words(self) -> usize {
        MUTEX_WORDS + 8 + (self.payload as usize).div_ceil(8).next_multiple_of(8)
    }

    fn records_at(self) -> usize {
        HEADER_WORDS + EVENT_WORDS
    }

    fn workers_at(self) -> usize {
        self.records_at() + self.record_words() * self.records as usize
    }

    fn histograms_at(self) -> usize {
        self.workers_at() + WORKER_WORDS * self.workers as usize
    }

    fn logs_at(self) -> usize {
        self.histograms_at() + HISTOGRAM_WORDS * self.workers as usize
    }

    fn total(self) -> usize {
        self.logs_at() + self.log as usize * self.workers as usize
    }
}

fn failed(what: &str, error: &impl std::fmt::Display) -> TortureError {
    TortureError::system(what, std::io::Error::other(error.to_string()))
}

impl Arena {
    /// Makes an arena, with its start line closed.
    pub(crate) fn create(name: &str, shape: Shape) -> Result<Self, TortureError> {
        let made = ShmemConf::new().size(shape.total() * 8).os_id(name).create();
        let memory = made.map_err(|e| failed("create the shared arena", &e))?;
        let arena = Self { memory, shape };
        // SAFETY: 512 bytes of the arena belong to the event alone, nobody else has the arena yet.
        let event = unsafe { Event::new(arena.at(HEADER_WORDS), false) };
        event.map_err(|e| failed("make the start line", &e))?;
        for record in 0..shape.records {
            // SAFETY: the mutex's words belong to it alone, nobody else has the arena yet.
            let mutex = unsafe { Mutex::new(arena.record_at(record), arena.data_at(record)) };
            mutex.map_err(|e| failed("make a mutex", &e))?;
        }
        Ok(arena)
    }

    /// Opens the arena that the coordinator made.
    pub(crate) fn open(name: &str, shape: Shape) -> Result<Self, TortureError> {
        let opened = ShmemConf::new().os_id(name).open();
        let memory = opened.map_err(|e| failed("open the shared arena", &e))?;
        if memory.len() < shape.total() * 8 {
            return Err(failed("open the shared arena", &"it is too small"));
        }
        Ok(Self { memory, shape })
    }

    fn at(&self, word: usize) -> *mut u8 {
        self.memory.as_ptr().wrapping_add(word * 8)
    }

    fn record_at(&self, record: u32) -> *mut u8 {
        self.at(self.shape.records_at() + self.shape.record_words() * record as usize)
    }

    fn data_at(&self, record: u32) -> *mut u8 {
        self.record_at(record).wrapping_add(MUTEX_WORDS * 8)
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the object is mapped as long as it is borrowed, page-aligned, and at least so long (made
        // with this size, or checked when opened); all bit patterns are valid. The event's and the
        // mutexes' words are inside but never accessed through this slice.
        unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().cast::<AtomicU64>(), self.shape.total())
        }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.words().get(index).unwrap_or(&NOWHERE)
    }

    /// How many workers are ready.
    pub(crate) fn ready(&self) -> &AtomicU64 {
        self.word(0)
    }

    /// When the start line opened, by the monotonic clock.
    pub(crate) fn started(&self) -> &AtomicU64 {
        self.word(8)
    }

    /// How many workers failed; the first says why on stderr.
    pub(crate) fn failures(&self) -> &AtomicU64 {
        self.word(16)
    }

    fn event(&self) -> Result<Box<dyn EventImpl>, TortureError> {
        // SAFETY: the event was made before anybody could open the arena.
        let event = unsafe { Event::from_existing(self.at(HEADER_WORDS)) };
        event.map(|(event, _)| event).map_err(|e| failed("find the start line", &e))
    }

    /// Says that this worker is ready and waits at the start line.
    pub(crate) fn wait_for_start(&self) -> Result<(), TortureError> {
        let event = self.event()?;
        self.ready().fetch_add(1, Ordering::SeqCst);
        commonhold_os::futex::wake_all(self.ready());
        event.wait(Timeout::Infinite).map_err(|e| failed("wait at the start line", &e))
    }

    /// Opens the start line.
    pub(crate) fn start(&self) -> Result<(), TortureError> {
        self.started().store(commonhold_os::clock::monotonic_nanos(), Ordering::SeqCst);
        self.event()?.set(EventState::Signaled).map_err(|e| failed("open the start line", &e))
    }

    /// The words of worker `index`.
    pub(crate) fn worker(&self, index: u32) -> WorkerView<'_> {
        let at = self.shape.workers_at() + WORKER_WORDS * index as usize;
        let histogram = self.shape.histograms_at() + HISTOGRAM_WORDS * index as usize;
        WorkerView {
            acknowledged: self.word(at),
            writer: self.word(at + 1),
            violations: self.word(at + 2),
            longest: self.word(at + 3),
            taken_over: self.word(at + 4),
            histogram: self.words().get(histogram..histogram + HISTOGRAM_WORDS).unwrap_or_default(),
        }
    }

    /// The log of worker `index`.
    pub(crate) fn log(&self, index: u32) -> &[AtomicU64] {
        let words = self.shape.log as usize;
        let at = self.shape.logs_at() + words * index as usize;
        self.words().get(at..at + words).unwrap_or_default()
    }

    /// The mutex of record `record`.
    pub(crate) fn mutex(&self, record: u32) -> Result<Box<dyn LockImpl>, TortureError> {
        // SAFETY: the mutex was made before anybody could open the arena; its data is not used through it.
        let mutex = unsafe { Mutex::from_existing(self.record_at(record), self.data_at(record)) };
        mutex.map(|(mutex, _)| mutex).map_err(|e| failed("find a mutex", &e))
    }

    /// The words of record `record`, to be used by who holds its mutex: value, version, hash, payload.
    pub(crate) fn record(&self, record: u32) -> &[AtomicU64] {
        let shape = self.shape;
        let at = shape.records_at() + shape.record_words() * record as usize + MUTEX_WORDS;
        self.words().get(at..at + shape.record_words() - MUTEX_WORDS).unwrap_or_default()
    }
}

/// What an index beyond the arena leads to; never reached, because all indices come from its shape.
static NOWHERE: AtomicU64 = AtomicU64::new(0);
