//! One key as it must behave when operations come one after the other, and where among them one fits whose moment is
//! not known.

/// What is done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Adds one.
    Add,
    /// Inserts this value.
    Insert(i64),
    /// Deletes.
    Delete,
    /// Reads.
    Read,
}

/// What an operation returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing yet: it may have taken or not.
    Unknown,
    /// It saw or made this version (of a deletion the value is 0).
    Done {
        /// The version.
        version: u64,
        /// The value.
        value: i64,
    },
    /// There is no such record.
    Gone,
    /// There is one already.
    Exists,
}

/// An operation and what it returned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    /// What was done.
    pub(crate) op: Op,
    /// What came of it.
    pub(crate) seen: Seen,
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    value: Option<i64>,
    /// The version, or (not exact) one that it is at least.
    version: u64,
    exact: bool,
}

impl Key {
    /// A key with this value and version, or without a record and with any history.
    pub(crate) fn new(state: Option<(i64, u64)>) -> Self {
        let (value, version) = state.map_or((None, 0), |(value, version)| (Some(value), version));
        Self { value, version, exact: value.is_some() }
    }

    /// Whether `version` can be the one that comes next, or (`same`) the one that is.
    fn fits(self, version: u64, same: bool) -> bool {
        let least = self.version + u64::from(!same);
        if self.exact { version == least } else { version >= least }
    }

    /// The state after `event`; none when it cannot have happened so.
    fn after(self, event: Event) -> Option<Self> {
        let known = |version, value| Some(Self { value, version, exact: true });
        let guess = |value| Some(Self { value, version: self.version + 1, ..self });
        match (event.op, self.value, event.seen) {
            (Op::Add, Some(now), Seen::Done { version, value }) => {
                let good = value == now + 1 && self.fits(version, false);
                if good { known(version, Some(value)) } else { None }
            }
            (Op::Add, Some(now), Seen::Unknown) => guess(Some(now + 1)),
            (Op::Insert(value), None, Seen::Done { version, .. }) => {
                // A key comes again above all that it ever was.
                if version > self.version { known(version, Some(value)) } else { None }
            }
            (Op::Insert(value), None, Seen::Unknown) => {
                Some(Self { value: Some(value), version: self.version + 1, exact: false })
            }
            (Op::Delete, Some(_), Seen::Done { version, .. }) => {
                if self.fits(version, false) {
                    known(version, None)
                } else {
                    None
                }
            }
            (Op::Delete, Some(_), Seen::Unknown) => guess(None),
            (Op::Read, Some(now), Seen::Done { version, value }) => {
                let good = value == now && self.fits(version, true);
                if good { known(version, Some(now)) } else { None }
            }
            (Op::Read, _, Seen::Unknown)
            | (Op::Add | Op::Delete | Op::Read, None, Seen::Gone | Seen::Unknown)
            | (Op::Insert(_), Some(_), Seen::Exists | Seen::Unknown) => Some(self),
            _ => None,
        }
    }

    fn after_all(self, events: &[Event]) -> Option<Self> {
        events.iter().try_fold(self, |key, event| key.after(*event))
    }

    /// Whether `events` can have happened in this order with `other` anywhere among them (`first`: before all of
    /// them), or, when nothing is known of it, not at all.
    pub(crate) fn allows(self, events: &[Event], other: Event, first: bool) -> bool {
        let not_at_all = other.seen == Seen::Unknown && self.after_all(events).is_some();
        let last = if first { 0 } else { events.len() };
        not_at_all
            || (0..=last).any(|at| {
                let (before, after) = events.split_at(at);
                let there = self.after_all(before).and_then(|key| key.after(other));
                there.is_some_and(|key| key.after_all(after).is_some())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn done(version: u64, value: i64) -> Seen {
        Seen::Done { version, value }
    }

    fn event(op: Op, seen: Seen) -> Event {
        Event { op, seen }
    }

    #[test]
    fn an_add_fits_where_its_version_says() {
        let key = Key::new(Some((5, 9)));
        let others = [event(Op::Add, done(10, 6)), event(Op::Add, done(12, 8))];
        assert!(key.allows(&others, event(Op::Add, done(11, 7)), false));
        assert!(key.allows(&others, event(Op::Add, Seen::Unknown), false), "it may have taken");
        assert!(!key.allows(&others, event(Op::Add, done(11, 7)), true), "not before all");
        assert!(!key.allows(&others, event(Op::Read, done(10, 6)), false), "11 is missing");
        let gapless = [event(Op::Add, done(10, 6)), event(Op::Read, done(10, 6))];
        assert!(key.allows(&gapless, event(Op::Add, Seen::Unknown), false), "nor need it have");
        assert!(!key.allows(&gapless, event(Op::Add, done(10, 6)), false), "a version twice");
        assert!(!key.allows(&gapless, event(Op::Add, done(11, 6)), false), "a lost update");
    }

    #[test]
    fn a_key_comes_again_above_all_that_it_was() {
        let key = Key::new(Some((5, 9)));
        let rise = [event(Op::Delete, done(10, 0)), event(Op::Insert(0), done(14, 0))];
        let fall = [event(Op::Delete, done(10, 0)), event(Op::Insert(0), done(10, 0))];
        assert!(key.allows(&rise, event(Op::Add, Seen::Gone), false));
        assert!(!key.allows(&rise, event(Op::Add, Seen::Gone), true));
        assert!(key.allows(&rise, event(Op::Add, done(15, 1)), false));
        assert!(!key.allows(&fall, event(Op::Add, Seen::Unknown), false));
        assert!(key.allows(&rise[..1], event(Op::Insert(7), Seen::Unknown), false));
        let twice = [rise[0], event(Op::Delete, done(13, 0))];
        assert!(key.allows(&twice, event(Op::Insert(7), Seen::Unknown), false), "in between");
        assert!(!key.allows(&twice, event(Op::Read, Seen::Unknown), false));
    }
}
