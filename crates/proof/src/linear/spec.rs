//! What one key may do when its operations come one after the other.
//!
//! A key is absent or has a value and a version. Versions rise by exactly one with each commit, the deletion included;
//! a key that comes again starts above every version that it ever had. Values are not added but mixed ([`step`]), so a
//! value tells which updates made it, and in which order.

/// The next value: no two orders of the same updates end alike.
pub(crate) fn step(value: i64, add: i64) -> i64 {
    value.wrapping_mul(31).wrapping_add(add)
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// The state.
    Read,
    /// [`step`] the value.
    Add(i64),
    /// [`step`] the value, refused when it is odd.
    AddEven(i64),
    /// [`step`] the value of the incarnation that had this version (the second number), through an old reference.
    AddHeld(i64, u64),
    /// The key, with this value.
    Insert(i64),
    /// The key's end.
    Delete,
    /// A version above this one, within a short time.
    WaitAbove(u64),
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The key is not there.
    Absent,
    /// It is there already.
    Exists,
    /// Value and version that were seen; nothing was changed.
    Seen(i64, u64),
    /// Value and version that were committed; of a deletion the last value.
    Done(i64, u64),
    /// It did not come in time.
    Timeout,
    /// The incarnation has ended.
    Gone,
}

/// What is known of a key between two operations.
///
/// When an insert that nobody answered took place, its version is not known: then `version` and `born` are the lowest
/// that they can be, until an answer says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The value, if the key is there.
    pub(crate) value: Option<i64>,
    /// The version, or the last one that the key had.
    pub(crate) version: u64,
    /// The first version of this incarnation.
    pub(crate) born: u64,
    /// Whether the versions are known.
    pub(crate) exact: bool,
}

impl State {
    /// A key as it was found when nobody was at work.
    pub(crate) fn found(value: Option<i64>, version: u64) -> Self {
        Self { value, version, born: version, exact: true }
    }

    /// The state after an operation that took place now; `None` when it cannot have. An operation without an answer
    /// takes place only where it changes something.
    pub(crate) fn after(self, call: Call, answer: Option<Answer>) -> Option<Self> {
        match answer {
            Some(answer) => self.answered(call, answer),
            None => self.unanswered(call),
        }
    }

    fn answered(self, call: Call, answer: Answer) -> Option<Self> {
        match (call, answer, self.value) {
            (Call::Read, Answer::Absent, None)
            | (Call::Add(_) | Call::AddEven(_) | Call::Delete, Answer::Absent, None)
            | (Call::Insert(_), Answer::Exists, Some(_))
            | (Call::AddHeld(..) | Call::WaitAbove(_), Answer::Gone | Answer::Timeout, None) => {
                Some(self)
            }
            (Call::Read, Answer::Seen(value, version), Some(now)) => self.at(version, value == now),
            (Call::AddEven(_), Answer::Seen(value, version), Some(now)) => {
                self.at(version, value == now && now & 1 != 0)
            }
            (Call::WaitAbove(low), Answer::Seen(value, version), Some(now)) => {
                self.at(version, value == now && version > low)
            }
            (Call::WaitAbove(low), Answer::Timeout, Some(_)) => {
                Some(self).filter(|s| s.version <= low)
            }
            (Call::Add(add), Answer::Done(value, version), Some(now)) => {
                self.next(step(now, add)).at(version, value == step(now, add))
            }
            (Call::AddEven(add), Answer::Done(value, version), Some(now)) => {
                self.next(step(now, add)).at(version, value == step(now, add) && now & 1 == 0)
            }
            (Call::AddHeld(add, held), Answer::Done(value, version), Some(now)) => {
                let next = self.next(step(now, add)).at(version, value == step(now, add));
                next.filter(|s| s.born <= held)
            }
            // Another incarnation by now.
            (Call::AddHeld(_, held), Answer::Gone, Some(_)) => {
                Some(self).filter(|s| s.born > held || !s.exact)
            }
            (Call::Delete, Answer::Done(value, version), Some(now)) => {
                let mut next = self.next(now).at(version, value == now)?;
                next.value = None;
                Some(next)
            }
            (Call::Insert(value), Answer::Done(_, version), None) if version > self.version => {
                Some(Self::found(Some(value), version))
            }
            _ => None,
        }
    }

    fn unanswered(self, call: Call) -> Option<Self> {
        match (call, self.value) {
            (Call::Add(add), Some(now)) => Some(self.next(step(now, add))),
            (Call::AddEven(add), Some(now)) if now & 1 == 0 => Some(self.next(step(now, add))),
            (Call::AddHeld(add, held), Some(now)) if self.born <= held => {
                Some(self.next(step(now, add)))
            }
            (Call::Delete, Some(now)) => Some(Self { value: None, ..self.next(now) }),
            (Call::Insert(value), None) => {
                let low = self.version + 1;
                Some(Self { value: Some(value), version: low, born: low, exact: false })
            }
            _ => None,
        }
    }

    /// One commit on.
    fn next(self, value: i64) -> Self {
        Self { value: Some(value), version: self.version + 1, ..self }
    }

    /// The same, if `holds` and the version can be `version`.
    fn at(self, version: u64, holds: bool) -> Option<Self> {
        let more = version.checked_sub(self.version)?;
        let fits = more == 0 || !self.exact;
        (holds && fits).then_some(Self { version, born: self.born + more, exact: true, ..self })
    }
}
