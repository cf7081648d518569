//! Records that are made once and used again and again: a fixed number of them, found by number.

use std::marker::PhantomData;
use std::sync::Arc;

use commonhold_runtime::core::commit::Way;
use commonhold_runtime::core::read::Snapshot;
use commonhold_runtime::core::schema::{Decoder, Encoder, Field};
use commonhold_runtime::core::space::Space;
use commonhold_runtime::core::wait::Deadline;
use commonhold_runtime::{Error, Handle, Record, RecordRef, UpdateError};

use crate::error::PoolError;

/// Why a change was not made: the closure refused, or the record cannot hold it.
pub(crate) enum Stop {
    Refused,
    Failed(Error),
}

/// Position and size of the table `name`, if its records are of type `T`; else it is somebody else's.
pub(crate) fn find_table<T: Record>(space: &Space, name: &str) -> Option<(usize, u32)> {
    let position = space.find_table(name).ok()?;
    let spec = space.catalogue().tables.get(position)?;
    let fields = T::FIELDS.iter().copied().map(Field::from);
    spec.schema.fields().iter().cloned().eq(fields).then_some((position, spec.slots))
}

/// The records of one table, by number.
pub(crate) struct Numbered<T> {
    position: usize,
    prefix: char,
    width: usize,
    refs: Arc<[RecordRef]>,
    records: PhantomData<fn() -> T>,
}

impl<T> Clone for Numbered<T> {
    fn clone(&self) -> Self {
        let refs = Arc::clone(&self.refs);
        let (position, prefix, width) = (self.position, self.prefix, self.width);
        Self { position, prefix, width, refs, records: PhantomData }
    }
}

impl<T: Record + Default> Numbered<T> {
    /// Finds the records of `table`, and makes those that are not there.
    pub(crate) fn open(
        handle: &Handle,
        table: &'static str,
        prefix: char,
    ) -> Result<Self, PoolError> {
        let found = find_table::<T>(handle.space(), table);
        let Some((position, slots)) = found else { return Err(PoolError::OtherTable { table }) };
        let width = 7;
        let mut payload = Vec::new();
        T::default().encode(&mut Encoder::new(&mut payload)).map_err(|e| field(table, e))?;
        let mut refs = Vec::with_capacity(slots as usize);
        for number in 0..slots {
            use commonhold_runtime::core::Inserted::{Committed, Exists};
            refs.push(match handle.insert(position, &key(prefix, width, number), &payload)? {
                Committed(committed) => committed.record,
                Exists(record) => record,
            });
        }
        Ok(Self { position, prefix, width, refs: refs.into(), records: PhantomData })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.refs.len() as u32
    }

    fn at(&self, number: u32) -> Result<RecordRef, Error> {
        let record = self.refs.get(number as usize).copied();
        record.ok_or(Error::Corrupt { what: "a record's number", offset: 0, found: number.into() })
    }

    fn gone(&self, number: u32) -> Error {
        let table = "of the queue".to_owned();
        Error::NotFound { table, key: key(self.prefix, self.width, number) }
    }

    /// What `use_it` makes of the payload of record `number`.
    pub(crate) fn look<R>(
        &self,
        handle: &Handle,
        number: u32,
        use_it: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Error> {
        self.look_front(handle, number, usize::MAX, use_it)
    }

    /// The same of the first `front` bytes of the payload, which costs less.
    pub(crate) fn look_front<R>(
        &self,
        handle: &Handle,
        number: u32,
        front: usize,
        use_it: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Error> {
        let use_it = |seen: &Snapshot| use_it(&seen.payload);
        let read = handle.read_front_at(self.position, self.at(number)?, front, use_it)?;
        read.ok_or_else(|| self.gone(number))
    }

    /// Record `number`.
    pub(crate) fn get(&self, handle: &Handle, number: u32) -> Result<T, Error> {
        self.look(handle, number, decode)?
    }

    /// Changes record `number` as one commit, unless `change` says no; whether it was changed.
    pub(crate) fn update(
        &self,
        handle: &Handle,
        number: u32,
        change: impl FnMut(&mut T) -> bool,
    ) -> Result<bool, Error> {
        self.update_way(handle, number, Way::default(), change)
    }

    /// The same, the way that is asked for.
    pub(crate) fn update_way(
        &self,
        handle: &Handle,
        number: u32,
        way: Way,
        mut change: impl FnMut(&mut T) -> bool,
    ) -> Result<bool, Error> {
        self.exchange(handle, number, way, |now, next| {
            let mut state = decode::<T>(now).map_err(Stop::Failed)?;
            if !change(&mut state) {
                return Err(Stop::Refused);
            }
            state.encode(&mut Encoder::new(next)).map_err(|e| Stop::Failed(field("tasks", e)))
        })
    }

    /// The same on bytes.
    pub(crate) fn exchange(
        &self,
        handle: &Handle,
        number: u32,
        way: Way,
        change: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), Stop>,
    ) -> Result<bool, Error> {
        match handle.update_way_at(self.position, self.at(number)?, way, change) {
            Ok(Some(_)) => Ok(true),
            Ok(None) => Err(self.gone(number)),
            Err(UpdateError::Refused(Stop::Refused)) => Ok(false),
            Err(UpdateError::Refused(Stop::Failed(e)) | UpdateError::Failed(e)) => Err(e),
        }
    }

    /// Waits until `ready` holds of the payload of record `number`; false when `deadline` passed first.
    pub(crate) fn wait(
        &self,
        handle: &Handle,
        number: u32,
        deadline: &Deadline,
        mut ready: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, Error> {
        let look = |seen: &Snapshot| Ok(ready(&seen.payload).then_some(()));
        let made = handle.wait_at(self.position, self.at(number)?, deadline, look)?;
        Ok(made.is_some())
    }
}

fn key(prefix: char, width: usize, number: u32) -> String {
    format!("{prefix}{number:0width$}")
}

fn decode<T: Record>(payload: &[u8]) -> Result<T, Error> {
    let damaged = |at: usize| Error::Corrupt { what: "a payload", offset: 0, found: at as u64 };
    T::decode(&mut Decoder::new(payload)).map_err(|e| damaged(e.at))
}

fn field(table: &str, error: commonhold_runtime::core::record::FieldError) -> Error {
    Error::Field { table: table.to_owned(), key: String::new(), error }
}
