//! The place of a replay: the segment and the store that were named, or an ephemeral segment with a store beside the
//! shares. The coordinator is its steward, unless somebody else already is.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use commonhold_runtime::config::DEFAULT_PARTICIPANTS;
use commonhold_runtime::core::catalogue::{Catalogue, History};
use commonhold_runtime::core::participant::Totals;
use commonhold_runtime::store::{Store, open_read_only};
use commonhold_runtime::{Config, Error, OpenError, Runtime, TableConfig, WriterId, admin};

use super::shares::Shares;
use super::signals::Signals;
use super::{Options, ReplayError};
use crate::clients::{Clients, TABLE, table_config};

/// Participants beside the workers: the steward, the coordinator's own, and some to spare.
const OTHERS: u32 = 32;
/// Records and key bytes that a new table has at the least: the runtime's defaults.
const SLOTS_MIN: u32 = 1024;
const KEY_BYTES_MIN: u32 = 48;
/// So long a store may take to have everything.
const DRAIN_WITHIN: Duration = Duration::from_secs(120);
/// So long what a dead worker left may take to be swept.
const SWEEP_WITHIN: Duration = Duration::from_secs(30);
/// So often it is looked whether to stop.
const PIECE: Duration = Duration::from_millis(100);

/// Where it is replayed to.
#[derive(Debug)]
pub(crate) struct Place {
    runtime: Runtime,
    pub(crate) clients: Clients,
    /// The table's position in the catalogue.
    table: usize,
}

impl Place {
    /// Opens it, with the table.
    pub(crate) fn open(options: &Options, shares: &Shares) -> Result<Self, ReplayError> {
        let config = match &options.segment {
            Some(name) => named(name, options, shares)?,
            None => ephemeral(options, shares),
        };
        let runtime = Runtime::open(config)?;
        let table = runtime.space().find_table(TABLE)?;
        let clients = Clients::open(&runtime)?;
        let place = Self { runtime, clients, table };
        let Some(spec) = place.runtime.catalogue().tables.get(table) else { return Ok(place) };
        if spec.history != History::Full {
            return Err(ReplayError::LatestHistory(place.segment().display().to_string()));
        }
        if options.kills > 0 && !place.has_store() {
            return Err(ReplayError::KillsWithoutStore);
        }
        let (limit, found) = (spec.key_bytes, shares.longest_client());
        if found > limit as usize {
            return Err(ReplayError::LongClient { limit, found });
        }
        Ok(place)
    }

    /// The segment's file.
    pub(crate) fn segment(&self) -> PathBuf {
        self.runtime.path().map(std::path::Path::to_path_buf).unwrap_or_default()
    }

    /// The store's URL.
    pub(crate) fn store_url(&self) -> &str {
        &self.runtime.space().segment().header().store_url
    }

    /// Whether there is one.
    pub(crate) fn has_store(&self) -> bool {
        self.store_url() != "none"
    }

    /// A connection to it.
    pub(crate) fn store(&self) -> Result<Box<dyn Store>, ReplayError> {
        Ok(self.runtime.store()?)
    }

    /// The segment's counters.
    pub(crate) fn totals(&self) -> Totals {
        self.runtime.space().totals()
    }

    /// The rows of the table's history; `None` without a store.
    pub(crate) fn history_rows(&self) -> Result<Option<u64>, ReplayError> {
        if !self.has_store() {
            return Ok(None);
        }
        Ok(Some(self.store()?.row_count(self.table)?.history))
    }

    /// Waits until the store has everything.
    pub(crate) fn drain(&self, signals: &Signals) -> Result<(), ReplayError> {
        let until = Instant::now() + DRAIN_WITHIN;
        loop {
            signals.check()?;
            match self.runtime.drain(PIECE) {
                Err(Error::Timeout { .. }) if Instant::now() < until => {}
                done => return Ok(done?),
            }
        }
    }

    /// How much the dead process `pid` committed as `writer`, once and for all.
    ///
    /// What it left is swept first: an insert that it published and did not finish is a commit, and the steward
    /// stores it only when the sweep has finished it. Another process may be sweeping at the time, so that is known
    /// only from the entry, which is freed behind the sweep.
    pub(crate) fn committed_by(
        &self,
        writer: WriterId,
        pid: u32,
        signals: &Signals,
    ) -> Result<u64, ReplayError> {
        let entry = (writer.to_bits() >> 32 & 0xfff) as u16;
        let until = Instant::now() + SWEEP_WITHIN;
        while self.runtime.space().identity_of(entry).is_some_and(|i| i.pid == pid)
            && self.runtime.space().participants().iter().any(|p| p.entry == entry)
        {
            signals.check()?;
            self.runtime.sweep()?;
            if Instant::now() > until {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(ReplayError::system(
                    format!("sweep what process {pid} left; somebody may hold its lock"),
                    error,
                ));
            }
        }
        self.drain(signals)?;
        Ok(self.store()?.highest_sequence(self.table, writer)?)
    }
}

/// A segment of its own, as large as it needs to be.
fn ephemeral(options: &Options, shares: &Shares) -> Config {
    let url = options.store.clone().unwrap_or_else(|| shares.store_url());
    let participants = options.workers.saturating_add(OTHERS);
    let table = sized_table(shares, options.workers, &url);
    Config::ephemeral().store(&url).participants(participants).table(table)
}

/// The segment that was named, made or given the table if need be.
fn named(name: &str, options: &Options, shares: &Shares) -> Result<Config, ReplayError> {
    let config = Config::named(name).with_store(options.store.as_deref());
    let there: Option<Catalogue> = match admin::look(&config) {
        Ok(space) => Some(space.catalogue().clone()),
        Err(OpenError::Missing { .. }) => None,
        Err(e) => return Err(e.into()),
    };
    if there.as_ref().is_none_or(|catalogue| catalogue.find(TABLE).is_none()) {
        let has = there.map_or(DEFAULT_PARTICIPANTS, |catalogue| catalogue.participants);
        let participants = options.workers.saturating_add(OTHERS).max(has);
        let table = sized_table(shares, options.workers, &config.store_url());
        let wanted = config.clone().participants(participants).table(table);
        admin::create_tables(&wanted, DRAIN_WITHIN)?;
    }
    Ok(config.table(table_config()))
}

/// The table with room for the clients of the log and those that are in the store.
fn sized_table(shares: &Shares, workers: u32, url: &str) -> TableConfig {
    let (slots, key_bytes) = stored_sizes(url).unwrap_or((SLOTS_MIN, KEY_BYTES_MIN));
    let clients = u32::try_from(shares.clients.len()).unwrap_or(u32::MAX);
    // Each worker may have one slot reserved that another worker's insert made needless.
    let slots = slots.saturating_add(clients).saturating_add(workers);
    let longest = u32::try_from(shares.longest_client()).unwrap_or(u32::MAX);
    table_config().slots(slots).key_bytes(key_bytes.max(longest))
}

/// Records and key bytes of the table in the store, if there is one. What is wrong with it shows when it is opened.
fn stored_sizes(url: &str) -> Option<(u32, u32)> {
    let mut store = open_read_only(url).ok()?;
    let catalogue = store.catalogue().ok()??;
    let (_, spec) = catalogue.find(TABLE)?;
    Some((spec.slots, spec.key_bytes))
}
