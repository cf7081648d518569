//! The one way to encode, recall and look at sigils.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commonhold_runtime::core::Inserted;
use commonhold_runtime::core::commit::Committed;
use commonhold_runtime::core::directory::Descriptor;
use commonhold_runtime::core::metrics::MetricRef;
use commonhold_runtime::core::read::Snapshot;
use commonhold_runtime::core::schema::DecodeError;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::{Error, Handle, RecordRef, Runtime, UpdateError};
use serde::{Serialize, Serializer};

use super::error::SigilError;
use super::id::{SigilId, state_key};
use super::links::{Link, read_links};
use super::metrics::SigilMetrics;
use super::options::SigilOptions;
use super::payload::Payload;
use super::records::{Front, SIGILS, Stored, Tables};

/// The allocator of sigils' numbers.
pub const IDS: &str = "sigils";

/// So many participants are kept for the next who needs one.
const IDLE_MAX: usize = 64;
/// A new sigil's strength, and that of one that was just recalled.
const FULL_STRENGTH: f64 = 1.0;
/// No links.
const NO_LINKS: &str = "{}";

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
    commit: Option<Committed>,
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
    ids: Descriptor,
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
    /// [`SigilError::NoTable`], [`SigilError::OtherTable`], [`SigilError::Option`]; [`Error::Participants`].
    pub fn open(runtime: &Runtime, options: SigilOptions) -> Result<Self, SigilError> {
        options.check()?;
        let space = Arc::clone(runtime.space());
        let tables = Tables::find(&space)?;
        let handle = runtime.handle()?;
        let (ids, metrics) = (handle.register_ids(IDS)?, SigilMetrics::register(&handle)?);
        let (room_wait, idle) = (options.room_wait, Mutex::new(vec![handle]));
        let shared = Arc::new(Shared { space, tables, ids, metrics, options, idle });
        Ok(Self { shared, room_wait })
    }

    /// The same sigils, for operations that wait at most `limit` for room and for the store to cover an id.
    #[must_use]
    pub fn waiting(&self, limit: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), room_wait: limit }
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

    /// Remembers `payload`: a new sigil, whether an equal one is there or not. Each of several of the same state names
    /// the one before.
    ///
    /// # Errors
    /// [`SigilError::NotJson`], [`SigilError::TooDeep`], [`SigilError::TooLarge`]; [`Error::Full`] when there is no room;
    /// [`Error::Timeout`] when the store does not cover more ids.
    ///
    /// # Examples
    /// ```
    /// # use commonhold_runtime::{Config, Runtime};
    /// # use commonhold_systems::sigils::{self, SigilCapacity, SigilIdentity, SigilOptions};
    /// let small = SigilCapacity { sigils: 100, ..SigilCapacity::default() };
    /// let runtime = Runtime::open(sigils::configure(Config::ephemeral(), &small))?;
    /// let memory = SigilIdentity::open(&runtime, SigilOptions::new())?;
    /// let first = memory.encode_sigil_memory(r#"{"tone": 440, "of": "dawn"}"#)?;
    /// assert_eq!(first.payload, r#"{"of":"dawn","tone":440}"#);
    /// let second = memory.encode_sigil_memory(r#"{"of": "dawn", "tone": 440}"#)?;
    /// assert_eq!((second.id.state, second.twin), (first.id.state, Some(first.id)));
    /// assert_eq!(memory.recall(first.id)?.recalls, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn encode_sigil_memory<'a>(
        &self,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Sigil, SigilError> {
        self.encode(payload.into(), None)
    }

    /// Like [`SigilIdentity::encode_sigil_memory`], as a sigil that belongs to the resonance node `node`. That the node
    /// is there is not looked at.
    ///
    /// # Errors
    /// As [`SigilIdentity::encode_sigil_memory`].
    pub fn encode_for_node<'a>(
        &self,
        payload: impl Into<Payload<'a>>,
        node: u64,
    ) -> Result<Sigil, SigilError> {
        self.encode(payload.into(), Some(node))
    }

    fn encode(&self, payload: Payload<'_>, node: Option<u64>) -> Result<Sigil, SigilError> {
        let text = payload.canonical()?;
        let (bytes, limit) = (text.len(), self.payload_limit());
        if bytes > limit as usize {
            return Err(SigilError::TooLarge { bytes, limit });
        }
        self.with(|handle| {
            let number = handle.next_id(&self.shared.ids, handle.room_wait())?;
            let id = SigilId::of(&text, number);
            let (front, twin, commit) = self.insert(handle, id, &text, node)?;
            // A sigil that is there is there, counted or not.
            let _ = handle.count(self.shared.metrics.encoded, 1);
            Ok(Sigil {
                id,
                strength: front.strength,
                half_life_s: front.half_life_s,
                recalls: 0,
                permanent: false,
                created_at: front.created_at,
                touched_at: front.touched_at,
                twin,
                node,
                links: Vec::new(),
                version: commit.version,
                commit: Some(commit),
                payload: text,
            })
        })
    }

    /// Inserts the sigil, and makes it the newest of its state. It is there before anything names it, so what names a
    /// sigil that is not there names one that was swept.
    fn insert(
        &self,
        handle: &Handle,
        id: SigilId,
        payload: &str,
        node: Option<u64>,
    ) -> Result<(Front, Option<SigilId>, Committed), SigilError> {
        let (tables, now) = (&self.shared.tables, self.now());
        let front = Front {
            strength: FULL_STRENGTH,
            strength_at: now,
            half_life_s: self.shared.options.half_life.as_secs_f64(),
            created_at: now,
            touched_at: now,
            recalls: 0,
            permanent: false,
            node: node.unwrap_or(0),
        };
        let mut newest = self.newest(handle, id.state)?;
        let mut twin = self.living(handle, newest)?;
        let mut record = Vec::with_capacity(payload.len() + 160);
        let name = twin.map(SigilId::key);
        let name = name.as_ref().map_or("", |name| name.as_str());
        tables.encode(&Stored { front, twin: name, links: NO_LINKS, payload }, &mut record)?;
        let mut commit = match handle.insert(tables.sigils, id.key().as_str(), &record)? {
            Inserted::Committed(commit) => commit,
            Inserted::Exists(_) => {
                let (table, key) = (SIGILS.to_owned(), id.to_string());
                return Err(Error::Exists { table, key }.into());
            }
        };
        loop {
            match self.become_newest(handle, id, newest) {
                Ok(true) => return Ok((front, twin, commit)),
                Ok(false) => {}
                Err(e) => {
                    // Without its place among its equals it is not wanted; nobody has its id yet.
                    let _ = handle.delete_at(tables.sigils, commit.record, |_| Ok::<(), ()>(()));
                    return Err(e);
                }
            }
            newest = self.newest(handle, id.state)?;
            let other = self.living(handle, newest)?;
            if other != twin {
                twin = other;
                if let Some(made) = self.set_twin(handle, commit.record, twin)? {
                    commit = made;
                }
            }
        }
    }

    /// The newest sigil of a state, as the table says.
    pub(super) fn newest(
        &self,
        handle: &Handle,
        state: u64,
    ) -> Result<Option<SigilId>, SigilError> {
        let (states, key) = (self.shared.tables.states, state_key(state));
        let Some(record) = handle.locate(states, key.as_str())? else { return Ok(None) };
        let read = handle.read_at(states, record, |seen| read_newest(&seen.payload))?;
        Ok(read.flatten())
    }

    /// `id`, if that sigil is there.
    pub(super) fn living(
        &self,
        handle: &Handle,
        id: Option<SigilId>,
    ) -> Result<Option<SigilId>, SigilError> {
        let Some(id) = id else { return Ok(None) };
        let there = handle.locate(self.shared.tables.sigils, id.key().as_str())?;
        Ok(there.map(|_| id))
    }

    /// Makes `id` the newest of its state in the place of `before`; false when something else is the newest by now.
    fn become_newest(
        &self,
        handle: &Handle,
        id: SigilId,
        before: Option<SigilId>,
    ) -> Result<bool, SigilError> {
        let (states, key) = (self.shared.tables.states, state_key(id.state));
        let Some(record) = handle.locate(states, key.as_str())? else {
            let mut next = Vec::with_capacity(40);
            write_newest(id, &mut next);
            let inserted = handle.insert(states, key.as_str(), &next)?;
            return Ok(matches!(inserted, Inserted::Committed(_)));
        };
        let made = handle.update_at(states, record, |current, next| {
            if read_newest(current) != before {
                return Err(());
            }
            write_newest(id, next);
            Ok(())
        });
        match made {
            Ok(made) => Ok(made.is_some()),
            Err(UpdateError::Refused(())) => Ok(false),
            Err(UpdateError::Failed(e)) => Err(e.into()),
        }
    }

    fn set_twin(
        &self,
        handle: &Handle,
        record: RecordRef,
        twin: Option<SigilId>,
    ) -> Result<Option<Committed>, SigilError> {
        let tables = &self.shared.tables;
        let name = twin.map(SigilId::key);
        let name = name.as_ref().map_or("", |name| name.as_str());
        let made = handle.update_at(tables.sigils, record, |current, next| {
            let now = tables.decode(current)?;
            Ok::<(), Stop>(tables.encode(&Stored { twin: name, ..now }, next)?)
        });
        settle(made)
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
    /// [`Error::Timeout`] with the store's last error when `limit` passed first; the sigil stays, and is stored as
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

/// What a record of states says; nothing when somebody else wrote it.
pub(super) fn read_newest(payload: &[u8]) -> Option<SigilId> {
    let text = commonhold_runtime::core::schema::Decoder::new(payload).text(u32::MAX).ok()?;
    text.parse().ok()
}

pub(super) fn write_newest(id: SigilId, out: &mut Vec<u8>) {
    let key = id.key();
    let text = key.as_str();
    // An id always fits into its field.
    let mut out = commonhold_runtime::core::schema::Encoder::new(out);
    let _ = out.text(text, text.len() as u32);
}
