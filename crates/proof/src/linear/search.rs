//! Whether a history is linearizable: the search of Wing and Gong (1993) with Lowe's memoisation (2017).
//!
//! At each step any operation may come next that was called before the first of the others had returned. What was
//! already tried, a set of operations done and a state, is not tried again. Keys are searched one by one: a history is
//! linearizable when each of its objects' is (Herlihy and Wing 1990). An operation without a return may have happened
//! or not.
//!
//! `todc-utils` has such a search, but takes no history with an operation that never returned, which is what a killed
//! process leaves; `stateright`'s tester has no memoisation and no clock.

use std::collections::HashSet;

use crate::linear::spec::{Answer, Call, State};

/// The most operations of a history.
pub(crate) const OPERATIONS_MAX: usize = 512;
/// So many steps at most: then the search gives up.
const STEPS_MAX: u32 = 2_000_000;

/// One operation of a history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    /// When it was called, in nanoseconds.
    pub(crate) called: u64,
    /// When it returned; never: `u64::MAX`.
    pub(crate) returned: u64,
    /// What was asked for.
    pub(crate) call: Call,
    /// What was answered, if it returned.
    pub(crate) answer: Option<Answer>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none: so many operations fit in order at most, and this one did not.
    Not(usize, usize),
    /// It gave up.
    Undecided,
}

type Done = [u64; OPERATIONS_MAX / 64];

struct Search<'a> {
    operations: &'a [Operation],
    done: Done,
    /// Operations that returned and are not done.
    left: usize,
    tried: HashSet<(Done, State)>,
    steps: u32,
    furthest: (usize, usize),
}

/// Looks for an order of `operations`, sorted by their calls, that begins at `start`.
pub(crate) fn search(start: State, operations: &[Operation]) -> Verdict {
    if operations.len() > OPERATIONS_MAX {
        return Verdict::Undecided;
    }
    let left = operations.iter().filter(|o| o.answer.is_some()).count();
    let done = [0; OPERATIONS_MAX / 64];
    let tried = HashSet::new();
    let mut search = Search { operations, done, left, tried, steps: 0, furthest: (0, 0) };
    if search.go(start, 0, 0) {
        Verdict::Linearizable
    } else if search.steps >= STEPS_MAX {
        Verdict::Undecided
    } else {
        Verdict::Not(search.furthest.0, search.furthest.1)
    }
}

impl Search<'_> {
    /// Whether the operations that are left have an order that begins at `state`; all before `first` are done.
    fn go(&mut self, state: State, mut first: usize, depth: usize) -> bool {
        if self.left == 0 {
            return true;
        }
        self.steps += 1;
        if self.steps >= STEPS_MAX || !self.tried.insert((self.done, state)) {
            return false;
        }
        while self.is_done(first) {
            first += 1;
        }
        let open = self.operations.iter().enumerate().skip(first);
        let returns = open.filter(|(i, _)| !self.is_done(*i)).map(|(i, o)| (o.returned, i));
        let Some((horizon, urgent)) = returns.min() else { return true };
        if depth >= self.furthest.0 {
            self.furthest = (depth, urgent);
        }
        let all = self.operations;
        for (i, operation) in all.iter().enumerate().skip(first) {
            if operation.called > horizon {
                break;
            }
            if self.is_done(i) {
                continue;
            }
            let Some(next) = state.after(operation.call, operation.answer) else { continue };
            let answered = usize::from(operation.answer.is_some());
            self.flip(i);
            self.left -= answered;
            if self.go(next, first, depth + 1) {
                return true;
            }
            self.flip(i);
            self.left += answered;
        }
        false
    }

    fn is_done(&self, i: usize) -> bool {
        self.done.get(i / 64).is_some_and(|word| word >> (i % 64) & 1 == 1)
    }

    fn flip(&mut self, i: usize) {
        if let Some(word) = self.done.get_mut(i / 64) {
            *word ^= 1 << (i % 64);
        }
    }
}

#[cfg(test)]
mod tests;
