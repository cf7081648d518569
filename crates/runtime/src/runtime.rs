//! The runtime: one process's way to one segment. It hands out tables and keeps a candidate for the
//! steward's role.

use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commonhold_core::catalogue::Catalogue;
use commonhold_core::metrics::Sample;
use commonhold_core::record::Record;
use commonhold_core::sweep::Swept;
use commonhold_core::wait::Deadline;
use commonhold_core::{Error, Handle, Space};
use commonhold_store::Store;

use crate::config::Config;
use crate::counter::Counter;
use crate::dynamic::DynamicTable;
use crate::guard::{Guard, GuardOptions};
use crate::ids::Ids;
use crate::metrics::Metrics;
use crate::open::{OpenError, open};
use crate::steward::Candidate;
use crate::table::Table;

/// The longest wait for a sweep of another thread.
const SWEEP_WAIT: Duration = Duration::from_secs(60);

/// One process's way to one segment. Share it between threads; each takes its own tables from it.
///
/// Dropping it drains what is committed, if this process is the steward, and hands the role over. Tables that
/// outlive it commit as before, but this process then has no candidate left to store what they commit: another
/// process must, or the next one that attaches. The same holds in a forked child that uses inherited tables only,
/// until it takes a handle or a table of its own from the runtime.
#[derive(Debug)]
pub struct Runtime {
    space: Arc<Space>,
    candidate: Mutex<Option<Candidate>>,
    has_candidate: bool,
    room_wait: Option<Duration>,
}

impl Runtime {
    /// Attaches to the segment, or makes it from the configuration and its store.
    ///
    /// # Errors
    /// [`OpenError`] saying what is wrong with configuration, segment or store.
    ///
    /// # Examples
    /// ```
    /// # use commonhold_runtime::{Config, Runtime, TableConfig};
    /// let config = Config::ephemeral().table(TableConfig::new("counters", &["n:i64"]));
    /// let runtime = Runtime::open(config)?;
    /// assert_eq!(runtime.catalogue().tables[0].name, "counters");
    /// # Ok::<(), commonhold_runtime::OpenError>(())
    /// ```
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let space = open(&config)?;
        let candidate = if config.no_steward { None } else { Some(Candidate::start(&space)?) };
        let has_candidate = candidate.is_some();
        let candidate = Mutex::new(candidate);
        Ok(Self { space, candidate, has_candidate, room_wait: config.room_wait })
    }

    /// Opens what the environment and `commonhold.toml` in the working directory say; see
    /// [`Config::from_environment`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_default() -> Result<Self, OpenError> {
        Self::open(Config::from_environment()?)
    }

    /// A new participant: one thread's way in, for several tables.
    ///
    /// # Errors
    /// [`Error::Participants`] when all are in use.
    pub fn handle(&self) -> Result<Handle, Error> {
        self.revive()?;
        let handle = Handle::open(&self.space)?;
        if let Some(limit) = self.room_wait {
            handle.set_room_wait(limit);
        }
        Ok(handle)
    }

    /// The table `name` as records of type `T`, with a participant of its own.
    ///
    /// # Errors
    /// [`Error::UnknownTable`]; [`Error::Schema`] when its fields are not those of `T`;
    /// [`Error::Participants`].
    pub fn table<T: Record>(&self, name: &str) -> Result<Table<T>, Error> {
        Table::new(self.handle()?, name)
    }

    /// The table `name` without a Rust type, with a participant of its own.
    ///
    /// # Errors
    /// [`Error::UnknownTable`]; [`Error::Participants`].
    pub fn dynamic_table(&self, name: &str) -> Result<DynamicTable, Error> {
        DynamicTable::new(self.handle()?, name)
    }

    /// The counter `name`, made now with 0 if it is not there, with a participant of its own.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::NamesFull`]; [`Error::Participants`].
    pub fn counter(&self, name: &str) -> Result<Counter, Error> {
        Counter::new(self.handle()?, name)
    }

    /// The id allocator `name`, made now if it is not there, with a participant of its own.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::NamesFull`]; [`Error::Participants`].
    pub fn ids(&self, name: &str) -> Result<Ids, Error> {
        Ids::new(self.handle()?, name)
    }

    /// The guard `name`, with a participant of its own; it is made if nobody has yet.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::OtherKind`], [`Error::NamesFull`]; [`Error::Participants`].
    pub fn guard(&self, name: &str) -> Result<Guard, Error> {
        self.guard_with(name, &GuardOptions::new())
    }

    /// The guard `name`, made with `options` if nobody has yet, with a participant of its own.
    ///
    /// # Errors
    /// As [`Runtime::guard`]; [`Error::OtherKind`] when it was made with another hold limit.
    pub fn guard_with(&self, name: &str, options: &GuardOptions) -> Result<Guard, Error> {
        Guard::new(self.handle()?, name, options)
    }

    /// A way to metrics, with a participant of its own for as many of them as you like.
    ///
    /// # Errors
    /// [`Error::Participants`].
    pub fn metrics(&self) -> Result<Metrics, Error> {
        Ok(Metrics::new(Rc::new(self.handle()?)))
    }

    /// Everything that the segment counts, summed over all processes: what every segment does, its guards, and the
    /// metrics that were registered. Takes no participant.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Truncated`].
    pub fn samples(&self) -> Result<Vec<Sample>, Error> {
        self.space.metrics()
    }

    /// The segment, for tools that look at it.
    #[must_use]
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// The tables and sizes of the segment.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        self.space.catalogue()
    }

    /// The segment's file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.space.segment().path()
    }

    /// Waits until the store has every commit that was made before this call, and every counter.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the store's last error when `limit` passed first.
    pub fn drain(&self, limit: Duration) -> Result<(), Error> {
        let handle = self.handle()?;
        self.space.reap(false)?;
        handle.finish_left_intents()?;
        handle.wait_drained(limit)
    }

    /// Frees what participants left that are dead when this is called.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged; [`Error::Timeout`] when another thread sweeps for
    /// longer than a minute.
    pub fn sweep(&self) -> Result<Swept, Error> {
        let deadline = Deadline::after(SWEEP_WAIT);
        loop {
            // The steward's thread may be at it, and may have looked at an entry before its owner died.
            if let Some(swept) = self.space.try_reap(true)? {
                return Ok(swept);
            }
            if deadline.left().is_none() {
                let what = "another thread's sweep".to_owned();
                let waited_ms = deadline.waited().as_millis() as u64;
                return Err(Error::Timeout { what, waited_ms, why: String::new() });
            }
            std::thread::yield_now();
        }
    }

    /// A connection of its own to the segment's store, for reading.
    ///
    /// # Errors
    /// [`OpenError::Store`].
    pub fn store(&self) -> Result<Box<dyn Store>, OpenError> {
        Ok(commonhold_store::open_read_only(&self.space.segment().header().store_url)?)
    }

    /// In a forked child the parent's candidate thread does not exist: starts one of its own.
    fn revive(&self) -> Result<(), Error> {
        if !self.has_candidate {
            return Ok(());
        }
        let Ok(mut candidate) = self.candidate.lock() else { return Ok(()) };
        if candidate.as_ref().is_some_and(Candidate::is_ours) {
            return Ok(());
        }
        let new = Candidate::start(&self.space)?;
        if let Some(old) = candidate.replace(new) {
            // The parent's: its thread is not here to be joined, its descriptors are not ours to close.
            std::mem::forget(old);
        }
        Ok(())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let candidate = self.candidate.get_mut().ok().and_then(Option::take);
        match candidate {
            Some(candidate) if candidate.is_ours() => candidate.stop(&self.space),
            Some(parents) => std::mem::forget(parents),
            None => {}
        }
    }
}
