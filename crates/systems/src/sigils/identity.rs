//! The one way to encode, recall and look at sigils.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commonhold_runtime::core::commit::Committed;
use commonhold_runtime::core::directory::Descriptor;
use commonhold_runtime::core::metrics::MetricRef;
use commonhold_runtime::core::read::Snapshot;
use commonhold_runtime::core::schema::DecodeError;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::{Handle, Runtime, UpdateError};
use serde::{Serialize, Serializer};

use super::error::SigilError;
use super::id::SigilId;
use super::jobs::Started;
use super::links::{Link, read_links};
use super::metrics::SigilMetrics;
use super::options::SigilOptions;
use super::records::{Front, Tables};

/// The allocator of sigils' numbers.
pub const IDS: &str = "sigils";

/// So many participants are kept for the next who needs one.
const IDLE_MAX: usize = 64;
/// A new sigil's strength, and that of one that was just recalled.
pub(super) const FULL_STRENGTH: f64 = 1.0;

/// A sigil as it was when it was looked at. Times are microseconds since 1970.
#[derive(Debug, Clone, Serialize)]
pub struct Sigil {
    /// Its id.
    pub id: SigilId,
    /// The canonical payload.
    #[serde(serialize_with = "as_json")]
    pub payload: String,
    /// At the time of the look: 1 when it was just touched.
    pub strength: f64,
    /// In seconds.
    pub half_life_s: f64,
    /// How often it was recalled.
    pub recalls: u64,
    /// Whether it neither fades nor is swept.
    pub permanent: bool,
    /// When it was encoded.
    pub created_at: i64,
    /// When it was encoded or last recalled.
    pub touched_at: i64,
    /// The sigil of the same state before this one; it may have been swept since.
    pub twin: Option<SigilId>,
    /// The resonance node that it belongs to.
    pub node: Option<u64>,
    /// Its links to others; some of those may have been swept since.
    pub links: Vec<Link>,
    /// The version of its record.
    pub version: u64,
    #[serde(skip)]
    pub(super) commit: Option<Committed>,
}

fn as_json<S: Serializer>(payload: &str, to: S) -> Result<S::Ok, S::Error> {
    let raw: &serde_json::value::RawValue =
        serde_json::from_str(payload).map_err(serde::ser::Error::custom)?;
    raw.serialize(to)
}

/// What all users of a segment's sigils in this process share.
pub(super) struct Shared {
    space: Arc<Space>,
    pub(super) tables: Tables,
    pub(super) ids: Descriptor,
    pub(super) metrics: SigilMetrics,
    pub(super) options: SigilOptions,
    /// Those that nobody uses just now.
    idle: Mutex<Vec<Handle>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sigils({:?})", self.options)
    }
}

/// The sigils of a segment. `Sync`; clones share everything but how long they wait.
#[derive(Debug, Clone)]
pub struct SigilIdentity {
    pub(super) shared: Arc<Shared>,
    room_wait: Duration,
    pub(super) started: Started,
}

/// Why a change of a record was not made.
pub(super) enum Stop {
    /// It is not wanted any more.
    Not,
    /// It cannot be made.
    Failed(SigilError),
}

impl From<DecodeError> for Stop {
    fn from(_: DecodeError) -> Self {
        Self::Failed(SigilError::Damaged { key: String::new(), what: "the payload" })
    }
}

impl From<SigilError> for Stop {
    fn from(error: SigilError) -> Self {
        Self::Failed(error)
    }
}

impl SigilIdentity {
    /// The sigils of the segment that `runtime` opened, which must have the tables ([`super::configure`] adds them to
    /// a configuration).
    ///
    /// # Errors
    /// [`SigilError::NoTable`], [`SigilError::OtherTable`], [`SigilError::Option`]; [`commonhold_runtime::Error::Participants`].
    pub fn open(runtime: &Runtime, options: SigilOptions) -> Result<Self, SigilError> {
        options.check()?;
        let space = Arc::clone(runtime.space());
        let tables = Tables::find(&space)?;
        let handle = runtime.handle()?;
        let (ids, metrics) = (handle.register_ids(IDS)?, SigilMetrics::register(&handle)?);
        let (room_wait, idle) = (options.room_wait, Mutex::new(vec![handle]));
        let shared = Arc::new(Shared { space, tables, ids, metrics, options, idle });
        Ok(Self { shared, room_wait, started: Started::default() })
    }

    /// The same sigils, for operations that wait at most `limit` for room and for the store to cover an id.
    #[must_use]
    pub fn waiting(&self, limit: Duration) -> Self {
        Self { room_wait: limit, ..self.clone() }
    }

    /// The same sigils, for a job: it does not keep the jobs alive that it is one of.
    pub(super) fn without_jobs(&self) -> Self {
        Self { started: Started::default(), ..self.clone() }
    }

    /// The most bytes of a canonical payload.
    #[must_use]
    pub fn payload_limit(&self) -> u32 {
        self.shared.tables.payload_bytes
    }

    /// Does something through a participant that nobody else uses meanwhile.
    pub(super) fn with<R>(
        &self,
        work: impl FnOnce(&Handle) -> Result<R, SigilError>,
    ) -> Result<R, SigilError> {
        let idle = || self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let free = idle().pop();
        let handle = match free {
            Some(handle) => handle,
            None => Handle::open(&self.shared.space)?,
        };
        handle.set_room_wait(self.room_wait);
        let done = work(&handle);
        let mut idle = idle();
        if idle.len() < IDLE_MAX {
            idle.push(handle);
        }
        done
    }

    pub(super) fn now(&self) -> i64 {
        self.shared.options.now.get()
    }

    /// Touches a sigil: its strength is full again, and the recall is counted, as one commit.
    ///
    /// # Errors
    /// [`SigilError::Unknown`].
    pub fn recall(&self, id: SigilId) -> Result<Sigil, SigilError> {
        let now = self.now();
        let mut sigil = None;
        let commit =
            self.update(id, Some(self.shared.metrics.recalls), |current, next, version| {
                let mut front = Front::decode(current)?;
                front.set_strength(FULL_STRENGTH, now);
                front.touched_at = now;
                // The largest number that a database holds.
                front.recalls = front.recalls.saturating_add(1).min(i64::MAX.cast_unsigned());
                front.replace_in(current, next);
                sigil = Some(self.read(id, next, version + 1, now)?);
                Ok(())
            })?;
        let sigil = sigil.ok_or(SigilError::Unknown(id))?;
        Ok(Sigil { commit: Some(commit), ..sigil })
    }

    /// The sigil `id`, without touching it.
    ///
    /// # Errors
    /// [`SigilError::Unknown`].
    pub fn get(&self, id: SigilId) -> Result<Sigil, SigilError> {
        let (table, now) = (self.shared.tables.sigils, self.now());
        self.with(|handle| {
            let record = handle.locate(table, id.key().as_str())?;
            let look = |seen: &Snapshot| self.read(id, &seen.payload, seen.version, now);
            let read = match record {
                Some(record) => handle.read_at(table, record, look)?,
                None => None,
            };
            read.unwrap_or(Err(SigilError::Unknown(id)))
        })
    }

    /// Visits every sigil, in no order and at no single instant.
    ///
    /// # Errors
    /// [`SigilError::Damaged`] when a record is not a sigil's.
    pub fn scan(&self, mut visit: impl FnMut(Sigil)) -> Result<(), SigilError> {
        let now = self.now();
        self.shared.space.scan(self.shared.tables.sigils, |key, seen| {
            visit(self.read(key_id(key)?, &seen.payload, seen.version, now)?);
            Ok(())
        })
    }

    /// Waits until the store has what made `sigil` what it is: the encode or recall that returned it.
    ///
    /// # Errors
    /// [`commonhold_runtime::Error::Timeout`] with the store's last error when `limit` passed first; the sigil stays, and is stored as
    /// soon as the store can.
    pub fn wait_durable(&self, sigil: &Sigil, limit: Duration) -> Result<(), SigilError> {
        let Some(commit) = &sigil.commit else { return Ok(()) };
        self.with(|handle| Ok(handle.wait_durable(commit, limit)?))
    }

    /// Changes the record of a sigil as one commit: `change` gets the payload and the version.
    /// What was changed stays changed, counted or not.
    pub(super) fn update(
        &self,
        id: SigilId,
        count: Option<MetricRef>,
        mut change: impl FnMut(&[u8], &mut Vec<u8>, u64) -> Result<(), Stop>,
    ) -> Result<Committed, SigilError> {
        let table = self.shared.tables.sigils;
        self.with(|handle| {
            let record = handle.locate(table, id.key().as_str())?;
            let record = record.ok_or(SigilError::Unknown(id))?;
            let made = handle
                .update_seen(table, record, |seen, next| change(&seen.payload, next, seen.version));
            // Ids are never used again, so one that is gone does not come back in another place.
            let commit = settle(made)?.ok_or(SigilError::Unknown(id))?;
            count.map(|counter| handle.count(counter, 1));
            Ok(commit)
        })
    }

    pub(super) fn read(
        &self,
        id: SigilId,
        payload: &[u8],
        version: u64,
        now: i64,
    ) -> Result<Sigil, SigilError> {
        let damaged = |what| SigilError::Damaged { key: id.to_string(), what };
        let stored = self.shared.tables.decode(payload).map_err(|_| damaged("the record"))?;
        let front = stored.front;
        Ok(Sigil {
            id,
            payload: stored.payload.to_owned(),
            strength: front.strength(now),
            half_life_s: front.half_life_s,
            recalls: front.recalls,
            permanent: front.permanent,
            created_at: front.created_at,
            touched_at: front.touched_at,
            twin: stored.twin.parse().ok(),
            node: Some(front.node).filter(|node| *node > 0),
            links: read_links(stored.links).ok_or_else(|| damaged("the list of links"))?,
            version,
            commit: None,
        })
    }

    pub(super) fn space(&self) -> &Space {
        &self.shared.space
    }
}

/// The id that a record of sigils has as its key.
pub(super) fn key_id(key: &str) -> Result<SigilId, SigilError> {
    key.parse().map_err(|_| SigilError::Damaged { key: key.to_owned(), what: "the key" })
}

/// `None` when the record is gone, or the change was not wanted.
pub(super) fn settle(
    made: Result<Option<Committed>, UpdateError<Stop>>,
) -> Result<Option<Committed>, SigilError> {
    match made {
        Ok(made) => Ok(made),
        Err(UpdateError::Refused(Stop::Not)) => Ok(None),
        Err(UpdateError::Refused(Stop::Failed(e))) => Err(e),
        Err(UpdateError::Failed(e)) => Err(e.into()),
    }
}
