//! The records of the two tables, and how strength decays.
//!
//! `sigils` has one record a sigil. The fields of fixed size stand first, so that what is changed most often (strength,
//! times, recalls) is changed without looking at the payload. `sigil_states` has one record for each state: the newest
//! sigil of it.

use commonhold_runtime::core::catalogue::History;
use commonhold_runtime::core::schema::{DecodeError, Decoder, Encoder, FieldType, Schema};
use commonhold_runtime::core::space::Space;
use commonhold_runtime::core::value::ValueError;
use commonhold_runtime::{Config, Error, TableConfig};

use super::error::SigilError;
use super::id::ID_BYTES;

/// The table of sigils.
pub const SIGILS: &str = "sigils";
/// The table that says which sigil is the newest of each state.
pub const STATES: &str = "sigil_states";

/// Bytes of the fields of fixed size, with which a record begins.
const FRONT: usize = 7 * 8 + 1;
/// The most bytes that a link takes: id, strength, signs.
const LINK_BYTES: u32 = ID_BYTES as u32 + 24 + 4;
/// The most bytes of payloads that can be asked for: with the rest a record has at most 64 KiB.
const PAYLOAD_BYTES_MAX: u32 = 48 * 1024;
/// The most links that can be asked for.
const LINKS_MAX: u32 = 128;

/// How many sigils there is room for, and how large they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigilCapacity {
    /// Sigils, those included whose removal the store has not yet.
    pub sigils: u32,
    /// Bytes of a canonical payload at most; 48 KiB at most.
    pub payload_bytes: u32,
    /// Links from one sigil to others at most; 128 at most.
    pub links: u32,
}

impl Default for SigilCapacity {
    fn default() -> Self {
        Self { sigils: 131_072, payload_bytes: 1000, links: 8 }
    }
}

/// Adds the tables of sigils to a configuration.
#[must_use]
pub fn configure(config: Config, capacity: &SigilCapacity) -> Config {
    table_configs(capacity).into_iter().fold(config, Config::table)
}

/// The tables of sigils.
#[must_use]
pub fn table_configs(capacity: &SigilCapacity) -> [TableConfig; 2] {
    let slots = capacity.sigils.max(1);
    let payload = format!("payload:json({})", capacity.payload_bytes.clamp(4, PAYLOAD_BYTES_MAX));
    let links = format!("links:json({})", capacity.links.clamp(1, LINKS_MAX) * LINK_BYTES + 2);
    let (twin, last) = (format!("twin:text({ID_BYTES})"), format!("last:text({ID_BYTES})"));
    let mut fields = FIXED.to_vec();
    fields.extend([twin.as_str(), &links, &payload]);
    let key_bytes = ID_BYTES as u32;
    let sigils = TableConfig::new(SIGILS, &fields).slots(slots).key_bytes(key_bytes);
    // Some more than sigils: the states of those that were just removed may still be on their way out.
    let states = slots.saturating_add(slots / 16).saturating_add(64);
    let states = TableConfig::new(STATES, &[&last]).slots(states).key_bytes(16);
    [sigils, states].map(|table| table.history(History::Latest))
}

/// The fields of fixed size, in order.
const FIXED: [&str; 8] = [
    "strength:f64",
    "strength_at:timestamp",
    "half_life_s:f64",
    "created_at:timestamp",
    "touched_at:timestamp",
    "recalls:u64",
    "permanent:bool",
    "node:u64",
];

/// Where the tables are in a segment, and what fits into a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables {
    pub(super) sigils: usize,
    pub(super) states: usize,
    pub(super) payload_bytes: u32,
    links_bytes: u32,
}

impl Tables {
    pub(super) fn find(space: &Space) -> Result<Self, SigilError> {
        let position = |name| space.find_table(name).map_err(|_| SigilError::NoTable(name));
        let (sigils, states) = (position(SIGILS)?, position(STATES)?);
        let tables = &space.catalogue().tables;
        let schema = |position: usize| tables.get(position).map(|t| &t.schema);
        let sizes = schema(sigils).and_then(sizes).ok_or(SigilError::OtherTable(SIGILS))?;
        let last = format!("last:text({ID_BYTES})");
        let is_last = |schema: &Schema| texts(schema) == [last];
        if !schema(states).is_some_and(is_last) {
            return Err(SigilError::OtherTable(STATES));
        }
        Ok(Self { sigils, states, payload_bytes: sizes.1, links_bytes: sizes.0 })
    }

    /// Appends a record.
    pub(super) fn encode(&self, record: &Stored<'_>, out: &mut Vec<u8>) -> Result<(), SigilError> {
        let bad = |field: &'static str| {
            move |error: ValueError| {
                let error =
                    commonhold_runtime::core::record::FieldError { field: field.to_owned(), error };
                Error::Field { table: SIGILS.to_owned(), key: String::new(), error }
            }
        };
        record.front.encode(out);
        let mut out = Encoder::new(out);
        out.text(record.twin, ID_BYTES as u32).map_err(bad("twin"))?;
        // Both are JSON: made here, or checked when they came in.
        out.text(record.links, self.links_bytes).map_err(bad("links"))?;
        out.text(record.payload, self.payload_bytes).map_err(bad("payload"))?;
        Ok(())
    }

    /// How many links a sigil may have.
    pub(super) fn links_max(&self) -> usize {
        (self.links_bytes.saturating_sub(2) / LINK_BYTES) as usize
    }

    pub(super) fn decode<'a>(&self, payload: &'a [u8]) -> Result<Stored<'a>, DecodeError> {
        let front = Front::decode(payload)?;
        let mut rest = Decoder::new(payload.get(FRONT..).unwrap_or_default());
        let twin = rest.text(ID_BYTES as u32)?;
        let links = rest.text(self.links_bytes)?;
        Ok(Stored { front, twin, links, payload: rest.text(self.payload_bytes)? })
    }
}

fn texts(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(ToString::to_string).collect()
}

/// The bytes for links and payload, if these are a sigil's fields.
fn sizes(schema: &Schema) -> Option<(u32, u32)> {
    let fields = texts(schema);
    let (fixed, rest) = fields.split_at_checked(FIXED.len())?;
    let [twin, _, _] = rest else { return None };
    let [.., links, payload] = schema.fields() else { return None };
    let named = links.name == "links" && payload.name == "payload";
    match (links.ty, payload.ty) {
        (FieldType::Json(links), FieldType::Json(payload))
            if named && fixed == FIXED && *twin == format!("twin:text({ID_BYTES})") =>
        {
            Some((links, payload))
        }
        _ => None,
    }
}

/// The fields of fixed size. Times are microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Front {
    /// As of `strength_at`.
    pub(super) strength: f64,
    pub(super) strength_at: i64,
    pub(super) half_life_s: f64,
    pub(super) created_at: i64,
    /// When it was encoded or last recalled.
    pub(super) touched_at: i64,
    pub(super) recalls: u64,
    pub(super) permanent: bool,
    /// The resonance node that it belongs to; 0: none.
    pub(super) node: u64,
}

/// A whole record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) front: Front,
    pub(super) twin: &'a str,
    pub(super) links: &'a str,
    pub(super) payload: &'a str,
}

impl Front {
    /// Those with which a record begins.
    pub(super) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(payload);
        let f64 = |from: &mut Decoder<'_>| from.i64().map(|v| f64::from_bits(v.cast_unsigned()));
        Ok(Self {
            strength: f64(&mut from)?,
            strength_at: from.i64()?,
            half_life_s: f64(&mut from)?,
            created_at: from.i64()?,
            touched_at: from.i64()?,
            recalls: from.u64()?,
            permanent: from.bool()?,
            node: from.u64()?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for word in [
            self.strength.to_bits(),
            self.strength_at.cast_unsigned(),
            self.half_life_s.to_bits(),
            self.created_at.cast_unsigned(),
            self.touched_at.cast_unsigned(),
            self.recalls,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.push(u8::from(self.permanent));
        out.extend_from_slice(&self.node.to_le_bytes());
    }

    /// The record of which `current` is the payload, with these fields.
    pub(super) fn replace_in(&self, current: &[u8], next: &mut Vec<u8>) {
        self.encode(next);
        next.extend_from_slice(current.get(FRONT..).unwrap_or_default());
    }

    /// The strength at the time `now`: a permanent one keeps it.
    pub(super) fn strength(&self, now: i64) -> f64 {
        if self.permanent {
            return self.strength;
        }
        let elapsed = now.saturating_sub(self.strength_at);
        decayed(self.strength, micros_to_seconds(elapsed), self.half_life_s)
    }

    /// Writes down what the strength is `now`.
    pub(super) fn set_strength(&mut self, strength: f64, now: i64) {
        (self.strength, self.strength_at) = (strength, now);
    }
}

fn micros_to_seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// What is left of `strength` after `elapsed_s` seconds: half of it after each half-life,
/// `strength · 2^(−elapsed / half-life)`. A time before the beginning takes nothing away.
///
/// ```
/// use commonhold_systems::sigils::decayed;
/// assert_eq!(decayed(1.0, 3600.0, 3600.0), 0.5);
/// assert_eq!(decayed(0.8, 7200.0, 3600.0), 0.2);
/// ```
#[must_use]
pub fn decayed(strength: f64, elapsed_s: f64, half_life_s: f64) -> f64 {
    strength * (-elapsed_s.max(0.0) / half_life_s).exp2()
}
