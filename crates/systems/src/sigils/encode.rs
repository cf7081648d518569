//! Encoding: a record for the sigil, and a place among its equals.
//!
//! **Insert**: (1) read which sigil is the newest of the state, (2) insert the new one, which names that one as its twin,
//! (3) make it the newest, on the condition that (1) still holds; else write the other twin down and try again. So a
//! sigil is there before anything names it, and what names a sigil that is not there names one that was swept.
//!
//! **Crash**: behind (2) there is a sigil that nobody has the id of and that is no twin's twin; it fades.

use commonhold_runtime::core::Inserted;
use commonhold_runtime::core::commit::Committed;
use commonhold_runtime::core::schema::{Decoder, Encoder};
use commonhold_runtime::{Error, Handle, RecordRef, UpdateError};

use super::error::SigilError;
use super::id::{SigilId, state_key};
use super::identity::{FULL_STRENGTH, Sigil, SigilIdentity, Stop, settle};
use super::payload::Payload;
use super::records::{Front, SIGILS, Stored};

/// No links.
const NO_LINKS: &str = "{}";

impl SigilIdentity {
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
}

/// What a record of states says; nothing when somebody else wrote it.
pub(super) fn read_newest(payload: &[u8]) -> Option<SigilId> {
    let text = Decoder::new(payload).text(u32::MAX).ok()?;
    text.parse().ok()
}

pub(super) fn write_newest(id: SigilId, out: &mut Vec<u8>) {
    let key = id.key();
    let text = key.as_str();
    // An id always fits into its field.
    let mut out = Encoder::new(out);
    let _ = out.text(text, text.len() as u32);
}
