//! Typed tables: records as Rust values, every change one commit.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::time::Duration;

use commonhold_core::clock::Clock;
use commonhold_core::record::{FieldError, Record};
use commonhold_core::row::WriterId;
use commonhold_core::schema::{Decoder, Encoder, Field};
use commonhold_core::wait::Deadline;
use commonhold_core::{Committed, Error, Handle, Inserted, RecordRef, Snapshot, UpdateError};

/// A table of records of type `T`, used through one participant. `Send`, not `Sync`.
///
/// `H` is the participant: its own ([`Handle`], from [`crate::Runtime::table`]) or a shared one (`&Handle`, so
/// that several tables of one thread share one participant and its clock).
pub struct Table<T, H: Borrow<Handle> = Handle> {
    handle: H,
    position: usize,
    name: String,
    records: PhantomData<fn() -> T>,
}

/// A commit: one version of one record, in memory for all to see; on its way to the store.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    committed: Committed,
    handle: &'a Handle,
}

/// What a closure may return: nothing, or a result whose error refuses the change.
pub trait Outcome {
    /// Why a change is refused.
    type Refusal;
    /// The outcome as a result.
    ///
    /// # Errors
    /// The refusal.
    fn into_result(self) -> Result<(), Self::Refusal>;
}

impl Outcome for () {
    type Refusal = Infallible;
    fn into_result(self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<E> Outcome for Result<(), E> {
    type Refusal = E;
    fn into_result(self) -> Self {
        self
    }
}

/// Why a computed payload was not committed: the closure's refusal, or a value no field may hold.
enum Stop<E> {
    Refused(E),
    Field(FieldError),
    Damaged(usize),
}

impl<T, H: Borrow<Handle>> std::fmt::Debug for Table<T, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.name)
    }
}

impl<'a> Commit<'a> {
    pub(crate) fn new(committed: Committed, handle: &'a Handle) -> Self {
        Self { committed, handle }
    }

    /// The version this commit made: one more than the one it replaced.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.committed.version
    }

    /// The state hash of that version.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.committed.hash
    }

    /// The vector clock of that version.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.committed.clock
    }

    /// Who committed.
    #[must_use]
    pub fn writer(&self) -> WriterId {
        self.committed.writer
    }

    /// The writer's how-manieth commit in this table it was.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.committed.sequence
    }

    /// Where the record stands; a shortcut for later operations on it.
    #[must_use]
    pub fn record(&self) -> RecordRef {
        self.committed.record
    }

    /// Waits until the store has this commit.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the store's last error when `limit` passed first. The commit stands, and is
    /// stored as soon as the store can.
    pub fn durable(&self, limit: Duration) -> Result<(), Error> {
        self.handle.wait_durable(&self.committed, limit)
    }
}

impl<T: Record, H: Borrow<Handle>> Table<T, H> {
    /// The table `name` through `handle`.
    ///
    /// # Errors
    /// [`Error::UnknownTable`]; [`Error::Schema`] when its fields are not those of `T`.
    pub fn new(handle: H, name: &str) -> Result<Self, Error> {
        let space = handle.borrow().space();
        let position = space.find_table(name)?;
        let found = space.catalogue().tables.get(position).map_or(&[][..], |t| t.schema.fields());
        let asked: Vec<Field> = T::FIELDS.iter().copied().map(Field::from).collect();
        if found != asked {
            let list = |fields: &[Field]| {
                fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            };
            let (found, asked) = (list(found), list(&asked));
            return Err(Error::Schema { table: name.to_owned(), found, asked });
        }
        Ok(Self { handle, position, name: name.to_owned(), records: PhantomData })
    }

    /// The participant it works through.
    pub fn handle(&self) -> &Handle {
        self.handle.borrow()
    }

    /// Its position in the catalogue.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where `key` stands, as a shortcut for the `_at` operations; it goes stale when the record is deleted.
    ///
    /// # Errors
    /// [`Error::BadKey`], [`Error::Corrupt`].
    pub fn find(&self, key: &str) -> Result<Option<RecordRef>, Error> {
        self.handle().locate(self.position, key)
    }

    /// The record `key`, if it is there.
    ///
    /// # Errors
    /// [`Error::BadKey`], [`Error::Corrupt`].
    pub fn get(&self, key: &str) -> Result<Option<T>, Error> {
        match self.find(key)? {
            Some(record) => self.get_at(record),
            None => Ok(None),
        }
    }

    /// The record at `record`, if it is still there.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    #[inline]
    pub fn get_at(&self, record: RecordRef) -> Result<Option<T>, Error> {
        self.handle().read_at(self.position, record, decode)?.transpose()
    }

    /// Inserts `key`.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::BadKey`]; [`Error::Field`]; [`Error::Full`].
    pub fn insert(&self, key: &str, value: &T) -> Result<Commit<'_>, Error> {
        match self.try_insert(key, value)? {
            Some(commit) => Ok(commit),
            None => Err(Error::Exists { table: self.name.clone(), key: key.to_owned() }),
        }
    }

    fn try_insert(&self, key: &str, value: &T) -> Result<Option<Commit<'_>>, Error> {
        let mut payload = Vec::new();
        encode(value, &mut payload).map_err(|error| self.field_error(key, error))?;
        match self.handle().insert(self.position, key, &payload)? {
            Inserted::Committed(committed) => Ok(Some(self.commit(committed))),
            Inserted::Exists(_) => Ok(None),
        }
    }

    /// Sets `key` to `value`, whether it was there or not.
    ///
    /// # Errors
    /// [`Error::BadKey`]; [`Error::Field`]; [`Error::Full`].
    pub fn upsert(&self, key: &str, value: &T) -> Result<Commit<'_>, Error>
    where
        T: Clone,
    {
        let done = self.update_or_insert(key, || value.clone(), |now| *now = value.clone());
        done.map_err(|e| e.or_refused(|never| match never {}))
    }

    /// Changes `key` as one atomic step: `change` gets the current state and makes the next one of it. It may
    /// run several times, must be pure, and may refuse; if it refuses or panics, nothing is changed. It may use
    /// other records through the same participant, but a closure that commits to the very record it is
    /// changing is always beaten by itself and never ends.
    ///
    /// # Errors
    /// [`UpdateError::Refused`]; [`Error::NotFound`], [`Error::Field`], [`Error::Full`].
    #[inline]
    pub fn update<O: Outcome>(
        &self,
        key: &str,
        mut change: impl FnMut(&mut T) -> O,
    ) -> Result<Commit<'_>, UpdateError<O::Refusal>> {
        let mut before = None;
        while let Some(record) = self.find(key)? {
            if let Some(commit) = self.update_record(key, record, &mut change)? {
                return Ok(commit);
            }
            if before.replace(record) == Some(record) {
                break; // deleted; its entry is just being dropped
            }
        }
        Err(Error::NotFound { table: self.name.clone(), key: key.to_owned() }.into())
    }

    /// Changes the record at `record`; `None` when it is gone.
    ///
    /// # Errors
    /// [`UpdateError::Refused`]; [`Error::Field`], [`Error::Full`].
    #[inline]
    pub fn update_at<O: Outcome>(
        &self,
        record: RecordRef,
        mut change: impl FnMut(&mut T) -> O,
    ) -> Result<Option<Commit<'_>>, UpdateError<O::Refusal>> {
        self.update_record("(by handle)", record, &mut change)
    }

    #[inline]
    fn update_record<O: Outcome>(
        &self,
        key: &str,
        record: RecordRef,
        change: &mut impl FnMut(&mut T) -> O,
    ) -> Result<Option<Commit<'_>>, UpdateError<O::Refusal>> {
        let step = |current: &[u8], next: &mut Vec<u8>| {
            let mut state =
                T::decode(&mut Decoder::new(current)).map_err(|e| Stop::Damaged(e.at))?;
            change(&mut state).into_result().map_err(Stop::Refused)?;
            encode(&state, next).map_err(Stop::Field)
        };
        match self.handle().update_at(self.position, record, step) {
            Ok(committed) => Ok(committed.map(|c| self.commit(c))),
            Err(UpdateError::Failed(e)) => Err(UpdateError::Failed(e)),
            Err(UpdateError::Refused(Stop::Refused(e))) => Err(UpdateError::Refused(e)),
            Err(UpdateError::Refused(Stop::Field(e))) => Err(self.field_error(key, e).into()),
            Err(UpdateError::Refused(Stop::Damaged(at))) => Err(damaged(at).into()),
        }
    }

    /// Changes `key`, or inserts what `change` makes of `initial`; either is one commit.
    ///
    /// # Errors
    /// [`UpdateError::Refused`]; [`Error::BadKey`], [`Error::Field`], [`Error::Full`].
    pub fn update_or_insert<O: Outcome>(
        &self,
        key: &str,
        initial: impl Fn() -> T,
        mut change: impl FnMut(&mut T) -> O,
    ) -> Result<Commit<'_>, UpdateError<O::Refusal>> {
        loop {
            if let Some(record) = self.find(key)?
                && let Some(commit) = self.update_record(key, record, &mut change)?
            {
                return Ok(commit);
            }
            let mut state = initial();
            change(&mut state).into_result().map_err(UpdateError::Refused)?;
            if let Some(commit) = self.try_insert(key, &state)? {
                return Ok(commit);
            }
        }
    }

    /// Waits until `ready` holds of `key` and changes it then, both as one atomic step.
    ///
    /// # Errors
    /// [`Error::Timeout`] when `limit` passed first; else as [`Table::update`].
    pub fn update_when<O: Outcome>(
        &self,
        key: &str,
        mut ready: impl FnMut(&T) -> bool,
        mut change: impl FnMut(&mut T) -> O,
        limit: Duration,
    ) -> Result<Commit<'_>, UpdateError<O::Refusal>> {
        let deadline = Deadline::after(limit);
        loop {
            let left = deadline.left().unwrap_or_default();
            self.wait_for(key, &mut ready, left)?;
            // It may have changed since: the condition is decided inside the update.
            let step = |state: &mut T| {
                if ready(state) { change(state).into_result().map_err(Some) } else { Err(None) }
            };
            match self.update(key, step) {
                Ok(commit) => return Ok(commit),
                Err(UpdateError::Refused(None)) => {}
                Err(UpdateError::Refused(Some(e))) => return Err(UpdateError::Refused(e)),
                Err(UpdateError::Failed(Error::NotFound { .. })) if deadline.left().is_some() => {}
                Err(UpdateError::Failed(e)) => return Err(UpdateError::Failed(e)),
            }
        }
    }

    /// Waits until `key` is there and `ready` holds of it; the state that it held of.
    ///
    /// # Errors
    /// [`Error::Timeout`] when `limit` passed first; [`Error::BadKey`].
    pub fn wait_for(
        &self,
        key: &str,
        mut ready: impl FnMut(&T) -> bool,
        limit: Duration,
    ) -> Result<T, Error> {
        let state = |seen: &Snapshot| decode(seen).map(|state| ready(&state).then_some(state));
        self.handle().wait_for(self.position, key, limit, state)
    }

    /// Deletes `key`. Its versions go on above this one if it is ever inserted again.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::BadKey`]; [`Error::Full`].
    pub fn delete(&self, key: &str) -> Result<Commit<'_>, Error> {
        let deleted = self.handle().delete(self.position, key, |_| Ok::<(), Infallible>(()));
        let committed = deleted.map_err(|e| e.or_refused(|never| match never {}))?;
        Ok(self.commit(committed))
    }

    /// Deletes `key` if `doomed` says so of its state: it is decided on the very version that the deletion replaces,
    /// so what somebody changed since is judged anew. `None` when the record stays. `doomed` may run several times.
    ///
    /// # Errors
    /// As [`Table::delete`]; [`Error::Corrupt`].
    pub fn delete_if(
        &self,
        key: &str,
        mut doomed: impl FnMut(&T) -> bool,
    ) -> Result<Option<Commit<'_>>, Error> {
        let allow = |seen: &Snapshot| match decode(seen) {
            Ok(state) if doomed(&state) => Ok(()),
            Ok(_) => Err(None),
            Err(damage) => Err(Some(damage)),
        };
        match self.handle().delete(self.position, key, allow) {
            Ok(committed) => Ok(Some(self.commit(committed))),
            Err(UpdateError::Refused(None)) => Ok(None),
            Err(UpdateError::Refused(Some(e)) | UpdateError::Failed(e)) => Err(e),
        }
    }

    /// Visits every record, in no order and at no single instant.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn scan(&self, mut visit: impl FnMut(&str, T)) -> Result<(), Error> {
        self.handle().space().scan(self.position, |key, seen| {
            visit(key, decode(seen)?);
            Ok(())
        })
    }

    /// Like [`Table::scan`], with each record's version.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn scan_versions(&self, mut visit: impl FnMut(&str, u64, T)) -> Result<(), Error> {
        self.handle().space().scan(self.position, |key, seen| {
            visit(key, seen.version, decode(seen)?);
            Ok(())
        })
    }

    /// How many records there are, counted by looking.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn len(&self) -> Result<usize, Error> {
        let mut count = 0;
        self.handle().space().scan(self.position, |_, _| {
            count += 1;
            Ok::<(), Error>(())
        })?;
        Ok(count)
    }

    /// Whether there is no record.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    #[inline]
    fn commit(&self, committed: Committed) -> Commit<'_> {
        Commit { committed, handle: self.handle() }
    }

    fn field_error(&self, key: &str, error: FieldError) -> Error {
        Error::Field { table: self.name.clone(), key: key.to_owned(), error }
    }
}

#[inline]
pub(crate) fn encode<T: Record>(value: &T, out: &mut Vec<u8>) -> Result<(), FieldError> {
    value.encode(&mut Encoder::new(out))
}

#[inline]
fn decode<T: Record>(seen: &Snapshot) -> Result<T, Error> {
    decode_payload(&seen.payload)
}

#[inline]
pub(crate) fn decode_payload<T: Record>(payload: &[u8]) -> Result<T, Error> {
    T::decode(&mut Decoder::new(payload)).map_err(|e| damaged(e.at))
}

fn damaged(at: usize) -> Error {
    Error::Corrupt { what: "a payload", offset: 0, found: at as u64 }
}
