//! What a worker writes down of each operation: four words, in memory that the runtime does not know.
//!
//! ```text
//! 0  state   operation · begun, done or refused; written last when it begins, and again when it is over
//! 1  a       the node, or the field's newer node
//! 2  b       the field's older node
//! 3  result  the new node's id
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = 4;
const BEGUN: u64 = 1;
const DONE: u64 = 2;
const REFUSED: u64 = 3;

/// An operation on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Remove { node: u64 },
    Connect { newer: u64, older: u64 },
    Disconnect { newer: u64, older: u64 },
    Resonate { node: u64 },
    Tick,
    Detect,
    Look,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// The worker was killed within: it happened or not.
    Open,
    /// It happened, and made this node if it made one.
    Done(u64),
    /// A node was gone: nothing happened.
    Refused,
}

/// The words of a log of `operations`.
pub(crate) fn log_words(operations: u64) -> u32 {
    u32::try_from(operations).unwrap_or(u32::MAX / 8).saturating_mul(WORDS as u32)
}

impl Operation {
    fn encode(self) -> (u64, u64, u64) {
        match self {
            Self::Create => (1, 0, 0),
            Self::Remove { node } => (2, node, 0),
            Self::Connect { newer, older } => (3, newer, older),
            Self::Disconnect { newer, older } => (4, newer, older),
            Self::Resonate { node } => (5, node, 0),
            Self::Tick => (6, 0, 0),
            Self::Detect => (7, 0, 0),
            Self::Look => (8, 0, 0),
        }
    }

    fn decode(code: u64, a: u64, b: u64) -> Option<Self> {
        Some(match code {
            1 => Self::Create,
            2 => Self::Remove { node: a },
            3 => Self::Connect { newer: a, older: b },
            4 => Self::Disconnect { newer: a, older: b },
            5 => Self::Resonate { node: a },
            6 => Self::Tick,
            7 => Self::Detect,
            8 => Self::Look,
            _ => return None,
        })
    }
}

fn entry(log: &[AtomicU64], number: usize) -> Option<&[AtomicU64; WORDS]> {
    log.as_chunks().0.get(number)
}

/// Says what is about to be done in operation `number`.
pub(super) fn begin(log: &[AtomicU64], number: u64, operation: Operation) {
    let (code, a_value, b_value) = operation.encode();
    if let Some([state, a, b, _]) = entry(log, number as usize) {
        a.store(a_value, Ordering::Relaxed);
        b.store(b_value, Ordering::Relaxed);
        state.store(code << 2 | BEGUN, Ordering::Release);
    }
}

/// Says what came of operation `number`; `None`: it was refused.
pub(super) fn end(log: &[AtomicU64], number: u64, made: Option<u64>) {
    if let Some([state, _, _, result]) = entry(log, number as usize) {
        result.store(made.unwrap_or(0), Ordering::Relaxed);
        let came = if made.is_some() { DONE } else { REFUSED };
        state.store(state.load(Ordering::Relaxed) & !3 | came, Ordering::Release);
    }
}

/// The operations that were begun, in order.
pub(super) fn read(log: &[AtomicU64]) -> impl Iterator<Item = (u64, Operation, Came)> {
    (0_u64..).zip(log.as_chunks().0).map_while(
        |(number, [state, a, b, result]): (u64, &[_; WORDS])| {
            let load = |word: &AtomicU64| word.load(Ordering::Acquire);
            let state = load(state);
            let operation = Operation::decode(state >> 2, load(a), load(b))?;
            let came = match state & 3 {
                DONE => Came::Done(load(result)),
                REFUSED => Came::Refused,
                _ => Came::Open,
            };
            Some((number, operation, came))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let log: Vec<AtomicU64> = (0..log_words(9)).map(|_| AtomicU64::new(0)).collect();
        let all = [
            (Operation::Create, Some(7)),
            (Operation::Remove { node: 7 }, Some(0)),
            (Operation::Connect { newer: 9, older: 1 }, None),
            (Operation::Disconnect { newer: 9, older: 2 }, Some(0)),
            (Operation::Resonate { node: 3 }, Some(0)),
            (Operation::Tick, Some(0)),
            (Operation::Detect, Some(0)),
            (Operation::Look, Some(0)),
        ];
        for (number, (operation, made)) in (0..).zip(all) {
            begin(&log, number, operation);
            end(&log, number, made);
        }
        begin(&log, 8, Operation::Tick);
        let mut want: Vec<_> = (0..)
            .zip(all)
            .map(|(n, (o, made))| (n, o, made.map_or(Came::Refused, Came::Done)))
            .collect();
        want.push((8, Operation::Tick, Came::Open));
        assert_eq!(read(&log).collect::<Vec<_>>(), want);
    }
}
