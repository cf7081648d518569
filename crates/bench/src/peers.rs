//! What the runtime is compared with: mutex, raw compare-exchange, bare futex, and the bare steps of an update.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commonhold::hash;
use commonhold_os::futex;
use raw_sync::locks::LockImpl;

use crate::arena::{Board, Line, RECORD_WORDS};
use crate::{Failure, Outcome};

/// What is hashed inside the mutex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashed {
    /// Nothing.
    Not,
    /// FNV-1a 64 of the record, byte by byte.
    Fnv,
    /// The runtime's state hash.
    State,
}

/// One update of the board's record under its mutex: copy, change, hash, copy back.
pub(crate) fn under_mutex(mutex: &dyn LockImpl, board: &Board, hashed: Hashed) -> Outcome {
    let guard = mutex.lock().map_err(|e| Failure::from(e.to_string()))?;
    let [value, version, hash, payload @ ..] = &board.record;
    let mut state = [0_u8; RECORD_WORDS * 8];
    for (to, from) in state.as_chunks_mut().0.iter_mut().zip(payload) {
        *to = from.load(Ordering::Relaxed).to_le_bytes();
    }
    let next = value.load(Ordering::Relaxed) + 1;
    *state.first_chunk_mut().ok_or("no room for a number")? = next.to_le_bytes();
    let digest = match hashed {
        Hashed::Not => 0,
        Hashed::Fnv => hash::fnv1a_64(&state),
        Hashed::State => hash::state_hash(hash::BASIS_64, next, &state),
    };
    for (to, from) in payload.iter().zip(state.as_chunks().0) {
        to.store(u64::from_le_bytes(*from), Ordering::Relaxed);
    }
    hash.store(digest, Ordering::Relaxed);
    version.store(next, Ordering::Relaxed);
    value.store(next, Ordering::Relaxed);
    drop(guard);
    Ok(())
}

/// Adds one by compare-exchange, again and again until it takes.
#[inline]
pub(crate) fn exchange(word: &AtomicU64) {
    let mut now = word.load(Ordering::Relaxed);
    while let Err(other) = word.compare_exchange(now, now + 1, Ordering::SeqCst, Ordering::Relaxed)
    {
        now = other;
    }
}

/// Waits until `word` has the parity of `turn`, looking `spins` times before it sleeps; false after 100 ms.
pub(crate) fn wait_turn(board: &Board, turn: u64, spins: u32) -> bool {
    let word = &board.word.0;
    for _ in 0..spins {
        if word.load(Ordering::Acquire) % 2 == turn {
            return true;
        }
        std::hint::spin_loop();
    }
    board.sleepers.0.fetch_add(1, Ordering::SeqCst);
    let now = word.load(Ordering::SeqCst);
    if now % 2 != turn {
        futex::wait(word, now as u32, Duration::from_millis(100));
    }
    board.sleepers.0.fetch_sub(1, Ordering::SeqCst);
    word.load(Ordering::Acquire) % 2 == turn
}

/// Gives the turn to the other, and wakes him if he sleeps.
pub(crate) fn pass_turn(board: &Board) {
    board.word.0.fetch_add(1, Ordering::SeqCst);
    if board.sleepers.0.load(Ordering::SeqCst) > 0 {
        futex::wake_all(&board.word.0);
    }
}

/// The bare steps that an update cannot do without: copy the state out and back, hash it, and three
/// compare-exchanges that nobody contends: the head's, and two ownership words'.
pub(crate) struct BareSteps {
    words: [Line; 3],
    state: Vec<u8>,
    next: Vec<u8>,
    version: u64,
}

impl BareSteps {
    pub(crate) fn new(bytes: usize) -> Self {
        let words = [const { Line(AtomicU64::new(0)) }; 3];
        Self { words, state: vec![7; bytes], next: vec![0; bytes], version: 0 }
    }

    #[inline]
    pub(crate) fn update(&mut self) {
        self.version += 1;
        self.next.copy_from_slice(black_box(&self.state));
        if let Some(first) = self.next.first_chunk_mut() {
            *first = self.version.to_le_bytes();
        }
        black_box(hash::state_hash(hash::BASIS_64, self.version, &self.next));
        for word in &self.words {
            exchange(&word.0);
        }
        std::mem::swap(&mut self.state, &mut self.next);
    }

    /// The hash alone.
    pub(crate) fn hash(&mut self) {
        self.version += 1;
        black_box(hash::state_hash(hash::BASIS_64, self.version, black_box(&self.state)));
    }

    /// One copy alone.
    pub(crate) fn copy(&mut self) {
        self.next.copy_from_slice(black_box(&self.state));
        black_box(&mut self.next);
    }
}
