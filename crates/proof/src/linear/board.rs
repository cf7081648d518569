//! The memory that a check and its processes share: when a round begins, and what each process called and was
//! answered. A process writes its own lane alone, each call before it is made, so a kill loses nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commonhold_os::clock::monotonic_nanos;
use commonhold_os::futex;

use crate::Failure;
use crate::child::shared_words;
use crate::linear::search::Operation;
use crate::linear::spec::{Answer, Call};

/// Lanes: processes of one round, the killed ones included.
pub(crate) const LANES: usize = 24;
/// The most calls of a process in a round.
pub(crate) const CALLS_MAX: usize = 64;

const ROUND: usize = 0;
const FINISHED: usize = 8;
const PLAN: usize = 16;
const FIRST_LANE: usize = 64;
/// A lane: the last round finished, calls, returns, bytes of a complaint, the complaint; then the records.
const RECORDS: usize = 64;
const RECORD_WORDS: usize = 10;
const LANE_WORDS: usize = RECORDS + CALLS_MAX * RECORD_WORDS;
const COMPLAINT: usize = 8;
const COMPLAINT_BYTES: usize = (RECORDS - COMPLAINT) * 8;

/// What the processes do in a round.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    /// Calls of each process.
    pub(crate) calls: u64,
    /// The keys they call about.
    pub(crate) keys: u64,
    /// Turns that a closure idles at most.
    pub(crate) idles: u64,
}

/// The shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Board(&'static [AtomicU64]);

/// One process's part of it.
#[derive(Clone, Copy)]
pub(crate) struct Lane(&'static [AtomicU64]);

impl Board {
    /// Memory that this process and those that it forks share.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self(shared_words(FIRST_LANE + LANES * LANE_WORDS)?))
    }

    fn word(&self, at: usize) -> &'static AtomicU64 {
        static NONE: AtomicU64 = AtomicU64::new(0);
        self.0.get(at).unwrap_or(&NONE)
    }

    /// The lane `index`.
    pub(crate) fn lane(&self, index: usize) -> Lane {
        let start = FIRST_LANE + index * LANE_WORDS;
        Lane(self.0.get(start..start + LANE_WORDS).unwrap_or_default())
    }

    /// The round that runs, or ran last.
    pub(crate) fn round(&self) -> u64 {
        self.word(ROUND).load(Ordering::SeqCst)
    }

    /// Begins the next round; its number.
    pub(crate) fn begin(&self, shape: Shape) -> u64 {
        (0..LANES).for_each(|i| self.lane(i).clear());
        for (at, value) in (PLAN..).zip([shape.calls, shape.keys, shape.idles]) {
            self.word(at).store(value, Ordering::Relaxed);
        }
        let round = self.word(ROUND).fetch_add(1, Ordering::SeqCst) + 1;
        futex::wake_all(self.word(ROUND));
        round
    }

    /// What is done in this round.
    pub(crate) fn shape(&self) -> Shape {
        let [calls, keys, idles] = [0, 1, 2].map(|i| self.word(PLAN + i).load(Ordering::Relaxed));
        Shape { calls, keys, idles }
    }

    /// Waits until another round than `last` begins; its number.
    pub(crate) fn await_round(&self, last: u64) -> u64 {
        loop {
            let now = self.round();
            if now != last {
                return now;
            }
            futex::wait(self.word(ROUND), last as u32, Duration::from_secs(1));
        }
    }

    /// Says that `lane` is done with `round`.
    pub(crate) fn finish(&self, lane: Lane, round: u64) {
        lane.word(0).store(round, Ordering::SeqCst);
        self.word(FINISHED).fetch_add(1, Ordering::SeqCst);
        futex::wake_all(self.word(FINISHED));
    }

    /// Sleeps for `time`, or until somebody finishes.
    pub(crate) fn doze(&self, time: Duration) {
        let seen = self.word(FINISHED).load(Ordering::SeqCst);
        futex::wait(self.word(FINISHED), seen as u32, time);
    }
}

impl Lane {
    fn word(&self, at: usize) -> &'static AtomicU64 {
        static NONE: AtomicU64 = AtomicU64::new(0);
        self.0.get(at).unwrap_or(&NONE)
    }

    fn clear(&self) {
        (1..COMPLAINT).for_each(|i| self.word(i).store(0, Ordering::SeqCst));
    }

    /// The last round that its process finished.
    pub(crate) fn finished(&self) -> u64 {
        self.word(0).load(Ordering::SeqCst)
    }

    /// Notes a call that is about to be made.
    pub(crate) fn call(&self, key: usize, call: Call) {
        let number = self.word(1).load(Ordering::Relaxed);
        let (code, first, second) = match call {
            Call::Read => (0, 0, 0),
            Call::Add(add) => (1, add, 0),
            Call::AddEven(add) => (2, add, 0),
            Call::AddHeld(add, held) => (3, add, held),
            Call::Insert(value) => (4, value, 0),
            Call::Delete => (5, 0, 0),
            Call::WaitAbove(low) => (6, 0, low),
        };
        let words = [code, key as u64, first.cast_unsigned(), second, monotonic_nanos()];
        self.write(number, 0, &words);
        self.word(1).store(number + 1, Ordering::SeqCst);
    }

    /// Notes the answer to the last call.
    pub(crate) fn answer(&self, answer: Answer) {
        let now = monotonic_nanos();
        let number = self.word(2).load(Ordering::Relaxed);
        let (code, value, version) = match answer {
            Answer::Absent => (0, 0, 0),
            Answer::Exists => (1, 0, 0),
            Answer::Seen(value, version) => (2, value, version),
            Answer::Done(value, version) => (3, value, version),
            Answer::Timeout => (4, 0, 0),
            Answer::Gone => (5, 0, 0),
        };
        self.write(number, 5, &[code, value.cast_unsigned(), version, now]);
        self.word(2).store(number + 1, Ordering::SeqCst);
    }

    /// Notes something that no history explains.
    pub(crate) fn complain(&self, text: &str) {
        let bytes = text.as_bytes();
        let bytes = bytes.get(..COMPLAINT_BYTES).unwrap_or(bytes);
        for (at, chunk) in (COMPLAINT..).zip(bytes.chunks(8)) {
            let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.word(at).store(word, Ordering::Relaxed);
        }
        self.word(3).store(bytes.len() as u64, Ordering::SeqCst);
    }

    /// What was noted so.
    pub(crate) fn complaint(&self) -> Option<String> {
        let count = self.word(3).load(Ordering::SeqCst) as usize;
        let words = (0..count.div_ceil(8)).map(|i| self.word(COMPLAINT + i));
        let mut bytes: Vec<u8> =
            words.flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect();
        bytes.truncate(count);
        (count > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Every call of the lane with its key, the last one perhaps without an answer.
    pub(crate) fn operations(&self) -> Vec<(usize, Operation)> {
        let calls = self.word(1).load(Ordering::SeqCst).min(CALLS_MAX as u64);
        let returns = self.word(2).load(Ordering::SeqCst);
        (0..calls).map(|number| self.operation(number, number < returns)).collect()
    }

    fn operation(&self, number: u64, returned: bool) -> (usize, Operation) {
        let read = |i: usize| self.word(Self::record(number) + i).load(Ordering::Relaxed);
        let (first, second) = (read(2).cast_signed(), read(3));
        let call = match read(0) {
            0 => Call::Read,
            1 => Call::Add(first),
            2 => Call::AddEven(first),
            3 => Call::AddHeld(first, second),
            4 => Call::Insert(first),
            5 => Call::Delete,
            _ => Call::WaitAbove(second),
        };
        let (value, version) = (read(6).cast_signed(), read(7));
        let answer = match read(5) {
            0 => Answer::Absent,
            1 => Answer::Exists,
            2 => Answer::Seen(value, version),
            3 => Answer::Done(value, version),
            4 => Answer::Timeout,
            _ => Answer::Gone,
        };
        let (returned, answer) = if returned { (read(8), Some(answer)) } else { (u64::MAX, None) };
        (read(1) as usize, Operation { called: read(4), returned, call, answer })
    }

    fn record(number: u64) -> usize {
        RECORDS + number as usize * RECORD_WORDS
    }

    fn write(&self, number: u64, from: usize, words: &[u64]) {
        for (at, value) in (Self::record(number) + from..).zip(words) {
            self.word(at).store(*value, Ordering::Relaxed);
        }
    }
}
