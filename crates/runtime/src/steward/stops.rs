//! Foreign changes, as the steward deals with them: what the store met and did not write over is decided here, by the
//! table's policy or by somebody who was asked.
//!
//! A table with such changes is *unsettled*: only the records that they are about are collected and offered again, until
//! the store takes them; then the table goes on with everything else. `fail` stops the table meanwhile, and offers them
//! each second, in case the rows were put back. `adopt` commits what was found as the records' next versions before;
//! `overwrite` just says to the store that what was found may go. Both say *what* was found, so a row that was changed
//! once more is met once more.
//!
//! Rows that the store does not take for another reason (the history has a version with another state; a table was
//! dropped, or has got a constraint) stop their table in the same way, and nobody can decide about it but by mending that.
//!
//! **Crash**: what is unsettled is known to this steward alone. The next one collects everything, meets the same changes
//! (which are noted in the store once), and does the same again. So a found state may be adopted twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use commonhold_core::catalogue::OnForeignChange;
use commonhold_core::drain::Drained;
use commonhold_core::stop::{Decision, Stop};
use commonhold_core::{Error, Handle, Space};
use commonhold_store::{Accepted, ForeignChange};

/// So often a stopped table is tried again although nobody decided.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// The most characters of a key that a message shows.
const KEY_SHOWN: usize = 40;

/// The tables with foreign changes that are not settled.
#[derive(Debug, Default)]
pub(super) struct Stops(BTreeMap<usize, Unsettled>);

/// The foreign changes of one table.
#[derive(Debug, Default)]
struct Unsettled {
    keys: BTreeSet<String>,
    accepted: BTreeMap<String, Accepted>,
    tried: Option<Instant>,
    /// Why nothing is stored until somebody decides.
    why: Option<String>,
}

impl Stops {
    /// Collects what the table has for the store now; `None` when it is stopped, and not to be tried yet.
    pub(super) fn collect(
        &mut self,
        handle: &Handle,
        table: usize,
        limit: usize,
    ) -> Result<Option<Drained>, Error> {
        let stop = handle.space().stop_of(table)?;
        let drained = match self.0.get_mut(&table) {
            None => handle.collect(table, limit)?,
            Some(unsettled) => {
                let lately = |tried: Instant| tried.elapsed() < RETRY_EVERY;
                if stop == Stop::Stopped && unsettled.tried.is_some_and(lately) {
                    return Ok(None);
                }
                unsettled.tried = Some(Instant::now());
                handle.collect_keys(table, &unsettled.keys)?
            }
        };
        if drained.is_empty() && (stop != Stop::Goes || self.0.contains_key(&table)) {
            self.stored(handle.space(), table, true)?;
        }
        Ok(Some(drained))
    }

    /// What of the table's foreign changes may be replaced.
    pub(super) fn accepted(&self, table: usize) -> Vec<Accepted> {
        self.0.get(&table).into_iter().flat_map(|u| u.accepted.values().cloned()).collect()
    }

    /// The store took what the table had; `all`: and that was everything.
    pub(super) fn stored(&mut self, space: &Space, table: usize, all: bool) -> Result<bool, Error> {
        let settled = self.0.remove(&table).is_some();
        let stop = space.stop_of(table)?;
        // A decision holds for everything that the table has had for the store.
        if stop == Stop::Stopped || (stop != Stop::Goes && all && !settled) {
            space.turn_stop(table, stop, Stop::Goes)?;
        }
        if settled {
            space.flag_table(table)?;
        }
        Ok(settled)
    }

    /// The store met `changes` in the table and wrote nothing of it. True when it is to be tried again at once.
    pub(super) fn met(
        &mut self,
        handle: &Handle,
        table: usize,
        changes: &[&ForeignChange],
    ) -> Result<bool, Error> {
        let space = handle.space();
        space.count_conflicts(table, changes.iter().filter(|c| c.new).count() as u64)?;
        let stop = space.stop_of(table)?;
        let policy = match stop {
            Stop::Asked(Decision::Adopt) => OnForeignChange::Adopt,
            Stop::Asked(Decision::Overwrite) => OnForeignChange::Overwrite,
            Stop::Asked(Decision::Retry) => OnForeignChange::Fail,
            Stop::Goes | Stop::Stopped => {
                let spec = space.catalogue().tables.get(table);
                spec.map_or_else(OnForeignChange::default, |t| t.on_foreign_change)
            }
        };
        let unsettled = self.0.entry(table).or_default();
        unsettled.tried = Some(Instant::now());
        unsettled.keys.extend(changes.iter().map(|c| c.key.clone()));
        let why = match policy {
            OnForeignChange::Fail => changes.first().map(|first| {
                let more = changes.len() - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                format!("{}{more}", named(first))
            }),
            policy => changes.iter().find_map(|c| unsettled.settle(handle, c, policy)),
        };
        unsettled.why = None;
        let Some(why) = why else { return Ok(true) };
        let name = space.catalogue().tables.get(table).map_or("", |spec| &spec.name);
        let why = format!(
            "a row was changed in the database: {why}; see its table commonhold_conflicts, then run `commonhold resolve {name}`"
        );
        self.stop(space, table, stop, why)?;
        Ok(false)
    }

    /// The store does not take the rows of `keys` in the table `name`, and would take everything else: false when there
    /// is no such table.
    pub(super) fn halt(
        &mut self,
        space: &Space,
        (name, keys): (&str, &mut dyn Iterator<Item = String>),
        why: String,
    ) -> Result<bool, Error> {
        let Some((table, _)) = space.catalogue().find(name) else { return Ok(false) };
        let unsettled = self.0.entry(table).or_default();
        unsettled.tried = Some(Instant::now());
        unsettled.keys.extend(keys);
        self.stop(space, table, space.stop_of(table)?, why)?;
        Ok(true)
    }

    /// What the table had was in a batch that another table's rows spoilt: it is not kept waiting for that.
    pub(super) fn untried(&mut self, table: usize) {
        if let Some(unsettled) = self.0.get_mut(&table) {
            unsettled.tried = None;
        }
    }

    /// Stops the table, whose word was `before` when that was decided: who asks for something just then is heard in the
    /// next round.
    fn stop(
        &mut self,
        space: &Space,
        table: usize,
        before: Stop,
        why: String,
    ) -> Result<(), Error> {
        self.0.entry(table).or_default().why = Some(why);
        // The reason first: who sees the table stopped asks for it.
        space.set_steward_message(&self.text(space).unwrap_or_default())?;
        space.turn_stop(table, before, Stop::Stopped).map(|_| ())
    }

    /// The tables that are stopped, and why; none when there are none.
    pub(super) fn text(&self, space: &Space) -> Option<String> {
        let line = |(table, unsettled): (&usize, &Unsettled)| {
            let (why, name) =
                (unsettled.why.as_ref()?, &space.catalogue().tables.get(*table)?.name);
            Some(format!("table `{name}` is stopped: {why}"))
        };
        let lines: Vec<String> = self.0.iter().filter_map(line).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

impl Unsettled {
    /// Does what `policy` says about one change; why not, if it cannot be done.
    fn settle(
        &mut self,
        handle: &Handle,
        change: &ForeignChange,
        policy: OnForeignChange,
    ) -> Option<String> {
        if policy == OnForeignChange::Adopt {
            let payload = change.payload.as_deref();
            if change.found.is_some() && payload.is_none() {
                return Some(format!("{}, which is no row of the table", named(change)));
            }
            if let Err(error) = handle.put(change.table, &change.key, payload) {
                return Some(format!("{}, which cannot be adopted: {error}", named(change)));
            }
        }
        let (key, found) = (change.key.clone(), change.found.clone());
        self.accepted.insert(key.clone(), Accepted { key, found, policy });
        None
    }
}

/// A change in words, its key cut to what a message holds.
fn named(change: &ForeignChange) -> String {
    let shown: String = change.key.chars().take(KEY_SHOWN).collect();
    let rest = if shown.len() < change.key.len() { "…" } else { "" };
    format!("key {shown:?}{rest}: {}", change.why)
}
