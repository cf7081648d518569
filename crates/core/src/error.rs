//! What can go wrong, as one line each: what, where, what to do.

use commonhold_os::OsError;
use commonhold_segment::SegmentError;

use crate::catalogue::CatalogueError;
use crate::record::FieldError;

/// An operation that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The segment cannot be made, mapped or locked.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The kernel said no.
    #[error(transparent)]
    Os(#[from] OsError),
    /// The catalogue is not one.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// No such table.
    #[error("no table `{table}` in this segment (it has: {known}); create it first")]
    UnknownTable {
        /// What was asked for.
        table: String,
        /// What there is.
        known: String,
    },
    /// No such field.
    #[error("table `{table}` has no field `{field}` (it has: {known})")]
    UnknownField {
        /// The table.
        table: String,
        /// What was asked for.
        field: String,
        /// What there is.
        known: String,
    },
    /// The table has other fields than the type.
    #[error("table `{table}` has the fields {found}, not {asked}")]
    Schema {
        /// The table.
        table: String,
        /// Its fields.
        found: String,
        /// The type's fields.
        asked: String,
    },
    /// A key that cannot be one.
    #[error(
        "table `{table}`: a key of {length} bytes{why}; keys are 1 to {limit} bytes of UTF-8 without NUL"
    )]
    BadKey {
        /// The table.
        table: String,
        /// The key's length in bytes.
        length: usize,
        /// The table's limit in bytes.
        limit: u32,
        /// What else is wrong with it.
        why: &'static str,
    },
    /// A value that a field refused.
    #[error("table `{table}`, key `{key}`, {error}")]
    Field {
        /// The table.
        table: String,
        /// The record.
        key: String,
        /// The field and why.
        error: FieldError,
    },
    /// No such record.
    #[error("table `{table}` has no record `{key}`")]
    NotFound {
        /// The table.
        table: String,
        /// The key.
        key: String,
    },
    /// The record is there already.
    #[error("table `{table}` has a record `{key}` already")]
    Exists {
        /// The table.
        table: String,
        /// The key.
        key: String,
    },
    /// No room, after waiting for it.
    #[error(
        "table `{table}` is full: all {limit} {what} are in use{why}; raise `{raise}` and create the segment anew"
    )]
    Full {
        /// The table.
        table: String,
        /// What ran out.
        what: &'static str,
        /// How many there are.
        limit: u32,
        /// The number to raise.
        raise: &'static str,
        /// What the wait showed.
        why: String,
    },
    /// No room for another participant.
    #[error(
        "all {limit} participants are in use; close some, or raise `participants` and create the segment anew"
    )]
    Participants {
        /// How many there are.
        limit: u32,
    },
    /// The record is changed under its guard only.
    #[error(
        "table `{table}`: the record is guarded by `{guard}`; change it while you hold that guard"
    )]
    Guarded {
        /// The table.
        table: String,
        /// The guard.
        guard: String,
    },
    /// Somebody took the guard meanwhile.
    #[error(
        "guard `{guard}`: you held it as number {number}, and it was taken from you (now {found}); take it again and begin anew"
    )]
    Fenced {
        /// The guard.
        guard: String,
        /// The number under which it was held.
        number: u64,
        /// The number met.
        found: u64,
    },
    /// A guard was asked for by who holds one.
    #[error(
        "guard `{asked}`: this thread holds guard `{held}`; leave it first: guards are not nested"
    )]
    Nested {
        /// The one it holds.
        held: String,
        /// The one it asked for.
        asked: String,
    },
    /// A change of several records is too large for the room there is.
    #[error(
        "guard `{guard}`: the change takes {needed} pages and {free} are free; make it smaller, or raise `intents` and create the segment anew"
    )]
    IntentFull {
        /// The guard.
        guard: String,
        /// Pages that it takes.
        needed: usize,
        /// Pages that were free.
        free: usize,
    },
    /// Another change was committed under the guard since this one was planned.
    #[error(
        "guard `{guard}`: another change was committed in this section since this one was begun; plan it anew"
    )]
    StalePlan {
        /// The guard.
        guard: String,
    },
    /// A change of several records is decided, but not made wholly: the next holder makes it, or, if its new records find
    /// no room, nothing of it.
    #[error(
        "guard `{guard}`: the change is decided but not wholly made: {why}; the guard's next holder finishes it"
    )]
    Unfinished {
        /// The guard.
        guard: String,
        /// What kept it.
        why: String,
    },
    /// A name that a guard, a counter, ids or a metric cannot have.
    #[error("{kind} `{name}`: {why}")]
    BadName {
        /// What was to be named.
        kind: String,
        /// The name, or its beginning.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The name stands for something else.
    #[error("`{name}` is {found}, not {asked}; use that, or another name")]
    OtherKind {
        /// The name.
        name: String,
        /// What it stands for.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// No room for another name.
    #[error(
        "{kind} `{name}`: no room; {limit} {raise} are in use; raise `{raise}` and create the segment anew"
    )]
    NamesFull {
        /// What was to be named.
        kind: String,
        /// The name.
        name: String,
        /// The number to raise.
        raise: &'static str,
        /// Its value.
        limit: u32,
    },
    /// A counter that cannot hold the sum; nothing was added.
    #[error("counter `{name}`: {value} + {add} does not fit in 64 bits; nothing was added")]
    CounterOverflow {
        /// The counter.
        name: String,
        /// Its value.
        value: i64,
        /// What was to be added.
        add: i64,
    },
    /// An allocator that gave out all of its ids.
    #[error("id allocator `{name}`: all ids up to {last} were given out; use another name")]
    IdsSpent {
        /// The allocator.
        name: String,
        /// The last id.
        last: u64,
    },
    /// A word of the segment that no correct process wrote.
    #[error(
        "segment is damaged: {what} at byte {offset} is {found}; drain what can be drained and create it anew from the store"
    )]
    Corrupt {
        /// What the word should be.
        what: &'static str,
        /// Where, in bytes from the segment's start (0: not known).
        offset: usize,
        /// What it is.
        found: u64,
    },
    /// The segment's file was cut short under those who use it.
    #[error(
        "segment {}: its file was cut short while in use, and what it held in memory is lost; the store has what was stored: stop all users, remove the file and create the segment anew",
        path.display()
    )]
    Truncated {
        /// The file.
        path: std::path::PathBuf,
    },
    /// It did not happen in time.
    #[error("timed out after {waited_ms} ms waiting for {what}{why}")]
    Timeout {
        /// For what.
        what: String,
        /// How long.
        waited_ms: u64,
        /// What is known of the cause.
        why: String,
    },
    /// The store does not take it, and will not by itself.
    #[error("{what} cannot be stored{why}")]
    NotStorable {
        /// What.
        what: String,
        /// Why not.
        why: String,
    },
    /// The segment was removed since this process's parent opened it.
    #[error("the segment was removed, or is just being removed; open it again")]
    Removed,
    /// The segment was opened for reading only.
    #[error("the segment is open for reading only")]
    ReadOnly,
}

impl Error {
    /// Whether some word is damaged: what does not depend on it works on.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}

/// An update that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// The closure refused; nothing was changed.
    #[error("{0}")]
    Refused(E),
    /// The runtime could not.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<UpdateError<std::convert::Infallible>> for Error {
    fn from(error: UpdateError<std::convert::Infallible>) -> Self {
        error.or_refused(|never| match never {})
    }
}

impl<E> UpdateError<E> {
    /// The runtime's error, or what `refused` makes of the closure's.
    pub fn or_refused(self, refused: impl FnOnce(E) -> Error) -> Error {
        match self {
            Self::Refused(e) => refused(e),
            Self::Failed(e) => e,
        }
    }
}
