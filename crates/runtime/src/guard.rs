//! Guards: short sections over several records, one holder at a time, and changes of several records that are made
//! wholly or not at all, whoever dies. What a guard promises, and what it does not, stands in
//! [`commonhold_core::guard`].

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use commonhold_core::guard::{Grant, GuardRef, Patience, Previous};
use commonhold_core::intent::Planned;
use commonhold_core::record::Record;
use commonhold_core::{Error, Handle, RecordRef, UpdateError};

use crate::table::{Outcome, Table, decode_payload, encode};

/// How a guard is registered. All who use it must say the same hold limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardOptions {
    hold_limit: Option<Duration>,
    metrics: String,
}

/// A guard, used through one participant. `Send`, not `Sync`.
///
/// # Examples
/// ```
/// # use commonhold_runtime::{Bytes, Config, Error, Record, Runtime, TableConfig, UpdateError};
/// #[derive(Clone, Record)]
/// # #[record(crate = "commonhold_runtime::core")]
/// struct Account {
///     balance: i64,
/// }
///
/// let runtime = Runtime::open(Config::ephemeral().table(TableConfig::of::<Account>("accounts")))?;
/// let accounts = runtime.table::<Account>("accounts")?;
/// accounts.insert("a", &Account { balance: 10 })?;
/// accounts.insert("b", &Account { balance: 0 })?;
///
/// let guard = runtime.guard("transfers")?;
/// guard.change(|changes| {
///     changes.update(&accounts, "a", |a| a.balance -= 3)?;
///     changes.update(&accounts, "b", |b| b.balance += 3)?;
///     Ok::<(), Error>(())
/// })?;
/// assert_eq!(accounts.get("b")?.map(|b| b.balance), Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Guard<H: Borrow<Handle> = Handle> {
    handle: H,
    guard: GuardRef,
    name: String,
}

/// A guard while it is held: for the length of one closure.
#[derive(Debug)]
pub struct Held<'a> {
    handle: &'a Handle,
    grant: &'a Grant,
}

/// A change of several records that is being planned under a guard. Dropped without [`Changes::commit`], nothing was
/// changed.
#[derive(Debug)]
pub struct Changes<'a> {
    handle: &'a Handle,
    grant: &'a Grant,
    serial: u64,
    entries: BTreeMap<(usize, String), Entry>,
}

/// A record that was looked at.
#[derive(Debug)]
struct Entry {
    /// In which order it was first changed; none: it was looked at only.
    order: Option<usize>,
    seen: Option<(RecordRef, u64)>,
    /// Its state as planned.
    now: Option<Vec<u8>>,
}

/// Leaves the guard also when the section panics.
struct Leave<'a> {
    handle: &'a Handle,
    grant: &'a Grant,
    left: bool,
}

impl GuardOptions {
    /// No hold limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Who holds the guard for longer than `limit` loses it to who waits for it: he is *fenced off*, and what he then
    /// commits under it is refused. Without a limit a stopped holder keeps the guard until he goes on or dies.
    #[must_use]
    pub fn hold_limit(mut self, limit: Duration) -> Self {
        self.hold_limit = Some(limit);
        self
    }

    /// Gives the guard metrics of its own, `PREFIX_contention_total` and `PREFIX_wait_time_ms`.
    #[must_use]
    pub fn metrics(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.metrics);
        self
    }
}

impl<H: Borrow<Handle>> std::fmt::Debug for Guard<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({})", self.name)
    }
}

impl<H: Borrow<Handle>> Guard<H> {
    /// The guard `name` through `handle`; it is made if nobody has yet.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::OtherKind`] when it is there with another hold limit; [`Error::NamesFull`].
    pub fn new(handle: H, name: &str, options: &GuardOptions) -> Result<Self, Error> {
        let guard = handle.borrow().guard(name, options.hold_limit, &options.metrics)?;
        Ok(Self { handle, guard, name: name.to_owned() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The participant it works through.
    pub fn handle(&self) -> &Handle {
        self.handle.borrow()
    }

    /// Runs `section` while it holds the guard, however long it has to wait for it. Keep the section short: others
    /// wait meanwhile.
    ///
    /// # Errors
    /// [`Error::Nested`] when this thread holds a guard already; [`Error::Unfinished`] when what the holder before had
    /// decided cannot be finished now: `section` was not run then. [`Error::Fenced`] when the section took longer than
    /// the hold limit and the guard was taken from it: what it committed before stands.
    pub fn with<R>(&self, section: impl FnOnce(&Held<'_>) -> R) -> Result<R, Error> {
        match self.run(Patience::Forever, true, section)? {
            Some(result) => Ok(result),
            None => Err(self.nobody()),
        }
    }

    /// Like [`Guard::with`], and `None` at once when somebody has the guard.
    ///
    /// # Errors
    /// As [`Guard::with`].
    pub fn try_with<R>(&self, section: impl FnOnce(&Held<'_>) -> R) -> Result<Option<R>, Error> {
        self.run(Patience::Try, true, section)
    }

    /// Like [`Guard::with`], and waits at most `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`] naming the holder; as [`Guard::with`].
    pub fn with_within<R>(
        &self,
        limit: Duration,
        section: impl FnOnce(&Held<'_>) -> R,
    ) -> Result<R, Error> {
        match self.run(Patience::Within(limit), true, section)? {
            Some(result) => Ok(result),
            None => Err(self.nobody()),
        }
    }

    /// Plans a change of several records under the guard, and makes it when `plan` returns `Ok`: wholly, or not at all.
    ///
    /// # Errors
    /// What `plan` returns, and nothing was changed; as [`Changes::commit`]; [`Error::Nested`], [`Error::Unfinished`] as
    /// [`Guard::with`].
    pub fn change<R, E: From<Error>>(
        &self,
        plan: impl FnOnce(&mut Changes<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        // Made is made, even if the guard was taken away afterwards.
        let made = self.run(Patience::Forever, false, |held| {
            let mut changes = held.changes();
            let result = plan(&mut changes)?;
            changes.commit()?;
            Ok(result)
        })?;
        made.unwrap_or_else(|| Err(self.nobody().into()))
    }

    /// What the section gave; `None` when it did not get the guard. `to_its_end`: an error when it was fenced off meanwhile.
    #[inline]
    fn run<R>(
        &self,
        patience: Patience,
        to_its_end: bool,
        section: impl FnOnce(&Held<'_>) -> R,
    ) -> Result<Option<R>, Error> {
        let handle = self.handle.borrow();
        let mut grant = Grant::of(self.guard);
        if !handle.acquire_into(&mut grant, patience)? {
            return Ok(None);
        }
        let mut leave = Leave { handle, grant: &grant, left: false };
        let result = section(&Held { handle, grant: &grant });
        leave.left = true;
        match handle.release(&grant) {
            Err(fenced) if to_its_end => Err(fenced),
            _ => Ok(Some(result)),
        }
    }

    /// Only [`Patience::Try`] gives up without an error.
    fn nobody(&self) -> Error {
        Error::Timeout { what: format!("guard `{}`", self.name), waited_ms: 0, why: String::new() }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if !self.left {
            let _ = self.handle.release(self.grant);
        }
    }
}

impl<'a> Held<'a> {
    /// The fencing number: one more each time the guard is taken.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.grant.number()
    }

    /// What happened to the holder before. Whatever it was, what he had decided is finished by now.
    #[must_use]
    pub fn previous(&self) -> Previous {
        self.grant.previous
    }

    /// How long this holder waited for the guard.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.grant.waited
    }

    /// The record `key`, which nobody else changes while the guard is held.
    ///
    /// # Errors
    /// [`Error::Guarded`] when it is another guard's; [`Error::Fenced`]; [`Error::BadKey`].
    pub fn get<T: Record, G: Borrow<Handle>>(
        &self,
        table: &Table<T, G>,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let seen = self.handle.read_guarded(self.grant, table.position(), key)?;
        seen.map(|(_, seen)| decode_payload(&seen.payload)).transpose()
    }

    /// Begins to plan a change.
    #[must_use]
    pub fn changes(&self) -> Changes<'a> {
        let (handle, grant) = (self.handle, self.grant);
        Changes { handle, grant, serial: grant.serial(), entries: BTreeMap::new() }
    }
}

impl Changes<'_> {
    /// The record `key` as it is, or as it is planned to be.
    ///
    /// # Errors
    /// As [`Held::get`].
    pub fn get<T: Record, G: Borrow<Handle>>(
        &mut self,
        table: &Table<T, G>,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let entry = self.look(table.position(), key)?;
        entry.now.as_deref().map(decode_payload).transpose()
    }

    /// The version of the record `key` as it is, whatever is planned for it.
    ///
    /// # Errors
    /// As [`Held::get`].
    pub fn version<T: Record, G: Borrow<Handle>>(
        &mut self,
        table: &Table<T, G>,
        key: &str,
    ) -> Result<Option<u64>, Error> {
        Ok(self.look(table.position(), key)?.seen.map(|(_, version)| version))
    }

    /// Changes `key`: `change` gets its state and makes the next one of it, once. It may refuse.
    ///
    /// # Errors
    /// [`UpdateError::Refused`]; [`Error::NotFound`], [`Error::Field`]; as [`Held::get`].
    pub fn update<T: Record, G: Borrow<Handle>, O: Outcome>(
        &mut self,
        table: &Table<T, G>,
        key: &str,
        change: impl FnOnce(&mut T) -> O,
    ) -> Result<(), UpdateError<O::Refusal>> {
        let Some(mut state) = self.get(table, key)? else {
            let table = table.name().to_owned();
            return Err(Error::NotFound { table, key: key.to_owned() }.into());
        };
        change(&mut state).into_result().map_err(UpdateError::Refused)?;
        Ok(self.put(table, key, &state)?)
    }

    /// Sets `key` to `value`, whether it is there or not.
    ///
    /// A key that is not there cannot be kept from those who do not hold the guard: a record that one of them inserts
    /// between this and the commit gets this state.
    ///
    /// # Errors
    /// [`Error::Field`]; as [`Held::get`].
    pub fn put<T: Record, G: Borrow<Handle>>(
        &mut self,
        table: &Table<T, G>,
        key: &str,
        value: &T,
    ) -> Result<(), Error> {
        let mut payload = Vec::new();
        encode(value, &mut payload).map_err(|error| {
            let table = table.name().to_owned();
            Error::Field { table, key: key.to_owned(), error }
        })?;
        self.plan(table.position(), key, Some(payload))
    }

    /// Inserts `key`, which must not be there.
    ///
    /// # Errors
    /// [`Error::Exists`]; as [`Changes::put`].
    pub fn insert<T: Record, G: Borrow<Handle>>(
        &mut self,
        table: &Table<T, G>,
        key: &str,
        value: &T,
    ) -> Result<(), Error> {
        if self.look(table.position(), key)?.now.is_some() {
            let table = table.name().to_owned();
            return Err(Error::Exists { table, key: key.to_owned() });
        }
        self.put(table, key, value)
    }

    /// Deletes `key`, which must be there.
    ///
    /// # Errors
    /// [`Error::NotFound`]; as [`Held::get`].
    pub fn delete<T: Record, G: Borrow<Handle>>(
        &mut self,
        table: &Table<T, G>,
        key: &str,
    ) -> Result<(), Error> {
        if self.look(table.position(), key)?.now.is_none() {
            let table = table.name().to_owned();
            return Err(Error::NotFound { table, key: key.to_owned() });
        }
        self.plan(table.position(), key, None)
    }

    /// Makes the change: all of it, or, when it is an error other than [`Error::Unfinished`], nothing of it.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the guard was taken from this holder; [`Error::Full`], [`Error::IntentFull`];
    /// [`Error::StalePlan`] when another change was committed since this one was begun; [`Error::Unfinished`] when an
    /// update found no room: the guard's next holder finishes it then.
    pub fn commit(self) -> Result<(), Error> {
        let planned = self.entries.into_iter().filter_map(|((table, key), entry)| {
            let nothing = entry.seen.is_none() && entry.now.is_none();
            let order = entry.order.filter(|_| !nothing)?;
            Some((order, Planned { table, key, seen: entry.seen, next: entry.now }))
        });
        let mut planned: Vec<(usize, Planned)> = planned.collect();
        planned.sort_by_key(|(order, _)| *order);
        let planned: Vec<Planned> = planned.into_iter().map(|(_, planned)| planned).collect();
        self.handle.commit_planned(self.grant, self.serial, &planned)
    }

    fn look(&mut self, table: usize, key: &str) -> Result<&mut Entry, Error> {
        let place = (table, key.to_owned());
        if !self.entries.contains_key(&place) {
            let found = self.handle.read_guarded(self.grant, table, key)?;
            let (seen, now) = found.map(|(r, seen)| ((r, seen.version), seen.payload)).unzip();
            let looked = Entry { order: None, seen, now };
            return Ok(self.entries.entry(place).or_insert(looked));
        }
        Ok(self.entries.entry(place).or_insert(Entry { order: None, seen: None, now: None }))
    }

    fn plan(&mut self, table: usize, key: &str, next: Option<Vec<u8>>) -> Result<(), Error> {
        let order = self.entries.len();
        let entry = self.look(table, key)?;
        entry.order.get_or_insert(order);
        entry.now = next;
        Ok(())
    }
}
