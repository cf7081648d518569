//! One concept as what merging works on, and the way from and to the object in the file.
//!
//! A concept is three things: its *stamp* (when it was updated, by whom), its fields, each with the stamp of the record
//! that it came from, and its observations (level.rs). Joining takes the later stamp, of each field the one with the later
//! stamp (equal stamps: the greater JSON text), and both sets of observations. Each is a maximum or a union, so joining
//! is associative, commutative and idempotent.
//!
//! In the file, `updated_at` and `learned_by` are the stamp, and hold for each field and the level. What they do not
//! tell stands in one field more, [`MERGED`], which most concepts do not have:
//! `{ "levels": [[updated_at, level, confidence, learned_by], …], "fields": { name: [updated_at, learned_by], … } }`.
//! A `level` that does not follow from these levels was written by somebody who does not know them: he has the last
//! word, and the level is one observation from there on.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::level::{Observation, Observations, unit};
use super::time;

pub(super) const NAME: &str = "name";
pub(super) const DESCRIPTION: &str = "description";
pub(super) const LEVEL: &str = "level";
pub(super) const CONFIDENCE: &str = "confidence";
pub(super) const UPDATED_AT: &str = "updated_at";
pub(super) const LEARNED_BY: &str = "learned_by";
/// What merging has to remember.
pub(super) const MERGED: &str = "merged";
const LEVELS: &str = "levels";
const FIELDS: &str = "fields";

type Object = Map<String, Value>;

/// When and by whom; a time that is missing is 0, a name that is missing is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub(super) at: i64,
    pub(super) by: String,
}

/// The clock, and how far ahead of it times are believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) now: i64,
    pub(super) latest: i64,
}

impl Bound {
    pub(super) fn of(self, at: i64) -> i64 {
        if at > self.latest { self.now } else { at }
    }
}

/// A concept.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) stamp: Stamp,
    pub(super) seen: Observations,
    fields: BTreeMap<String, (Stamp, Value)>,
}

impl State {
    /// Reads it. Times beyond the bound count as now. Fields that are not what they should be (a level that is no
    /// number from 0 to 1, a time that is none) are kept as any other field, and do not count.
    pub(super) fn read(concept: &Object, bound: Bound) -> Self {
        let at = concept.get(UPDATED_AT).and_then(time::of_value);
        let by = concept.get(LEARNED_BY).map(name_of).unwrap_or_default();
        let stamp = Stamp { at: bound.of(at.unwrap_or(0)), by };
        let merged = concept.get(MERGED).and_then(Value::as_object);
        let stamps = merged.and_then(|merged| merged.get(FIELDS)).and_then(Value::as_object);
        let stamp_of = |name: &str| {
            let old = stamps.and_then(|stamps| stamp_of_value(stamps.get(name)?));
            old.filter(|old| *old < stamp).unwrap_or_else(|| stamp.clone())
        };
        let level = concept.get(LEVEL).and_then(Value::as_f64).and_then(unit);
        let meant = |name: &str| match name {
            NAME | MERGED | LEARNED_BY => true,
            LEVEL => level.is_some(),
            UPDATED_AT => stamp.at > 0,
            _ => false,
        };
        let fields = concept.iter().filter(|(name, _)| !meant(name));
        let fields = fields.map(|(name, value)| (name.clone(), (stamp_of(name), value.clone())));
        let fields = fields.collect();
        let kept = merged.and_then(|merged| Observations::of_value(merged.get(LEVELS)?));
        let seen = match kept.filter(|kept| level.is_some_and(|level| kept.gives(level))) {
            Some(kept) => kept,
            None => Observations::of(own(concept, &stamp)),
        };
        Self { stamp, seen: seen.within(bound), fields }
    }

    /// Both.
    pub(super) fn join(mut self, other: Self) -> Self {
        for (name, theirs) in other.fields {
            match self.fields.get_mut(&name) {
                Some(ours) if is_older(ours, &theirs) => *ours = theirs,
                Some(_) => {}
                None => {
                    self.fields.insert(name, theirs);
                }
            }
        }
        // A level or a time that says nothing goes when there is one that does.
        self.see(other.seen);
        self.stamp = self.stamp.max(other.stamp);
        if self.stamp.at > 0 {
            self.fields.remove(UPDATED_AT);
        }
        self
    }

    /// What this record did not change of `base` is older than any change.
    pub(super) fn since(mut self, base: &Self) -> Self {
        for (name, (stamp, value)) in &mut self.fields {
            if base.fields.get(name).is_some_and(|(_, old)| old == value) {
                *stamp = Stamp { at: i64::MIN, by: String::new() };
            }
        }
        self
    }

    /// From here on all fields are of `stamp`: its writer has seen them.
    pub(super) fn seen_at(mut self, stamp: Stamp) -> Self {
        if stamp.at > 0 {
            self.fields.remove(UPDATED_AT);
        }
        self.fields.values_mut().for_each(|(of, _)| *of = stamp.clone());
        self.stamp = stamp;
        self
    }

    /// Observed as well.
    pub(super) fn see(&mut self, more: Observations) {
        self.seen = std::mem::take(&mut self.seen).union(more);
        if !self.seen.is_empty() {
            self.fields.remove(LEVEL);
        }
    }

    /// Sets a field.
    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_owned(), (self.stamp.clone(), value));
    }

    /// A field's value.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).map(|(_, value)| value)
    }

    /// Fields other than those with a meaning.
    pub(super) fn rest(&self) -> Object {
        let known = [DESCRIPTION, CONFIDENCE, LEVEL, UPDATED_AT];
        let rest = self.fields.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        rest.map(|(name, (_, value))| (name.clone(), value.clone())).collect()
    }

    /// Makes `concept` say this. What says it already keeps its form; other fields of it stay.
    pub(super) fn write(&self, concept: &mut Object) {
        let Stamp { at, by } = &self.stamp;
        if *at > 0 {
            let there = concept.get(UPDATED_AT).and_then(time::of_value);
            if there != Some(*at) {
                concept.insert(UPDATED_AT.to_owned(), time::text(*at).into());
            }
        }
        if concept.get(LEARNED_BY).map(name_of).unwrap_or_default() != *by {
            if by.is_empty() {
                // The latest update has no name; an older one's would claim it.
                concept.remove(LEARNED_BY);
            } else {
                concept.insert(LEARNED_BY.to_owned(), by.as_str().into());
            }
        }
        for (name, (_, value)) in &self.fields {
            put(concept, name, value);
        }
        if let Some(level) = self.seen.level() {
            let there = concept.get(LEVEL).and_then(Value::as_f64);
            if there != Some(level) {
                concept.insert(LEVEL.to_owned(), json!(level));
            }
        }
        self.write_merged(concept);
    }

    fn write_merged(&self, concept: &mut Object) {
        let mut merged = Object::new();
        let alone = own(concept, &self.stamp).is_some_and(|own| self.seen.is_only(&own));
        if !alone && !self.seen.is_empty() {
            merged.insert(LEVELS.to_owned(), self.seen.to_value());
        }
        let older = self.fields.iter().filter(|(_, (stamp, _))| *stamp < self.stamp);
        let older: Object =
            older.map(|(name, (stamp, _))| (name.clone(), stamp_value(stamp))).collect();
        if !older.is_empty() {
            merged.insert(FIELDS.to_owned(), older.into());
        }
        if merged.is_empty() {
            concept.remove(MERGED);
        } else {
            put(concept, MERGED, &merged.into());
        }
    }
}

/// What the record says of its level by itself.
fn own(concept: &Object, stamp: &Stamp) -> Option<Observation> {
    let confidence = concept.get(CONFIDENCE).and_then(Value::as_f64);
    let level = concept.get(LEVEL)?.as_f64()?;
    Observation::new(stamp.at, &stamp.by, level, confidence)
}

/// Whether `theirs` is what a field becomes that has `ours`.
fn is_older(ours: &(Stamp, Value), theirs: &(Stamp, Value)) -> bool {
    let texts = || ours.1.to_string().cmp(&theirs.1.to_string());
    ours.0.cmp(&theirs.0).then_with(texts).is_lt()
}

/// Who `learned_by` names; what is no text names somebody too.
fn name_of(value: &Value) -> String {
    match value {
        Value::String(name) => name.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn put(concept: &mut Object, name: &str, value: &Value) {
    if concept.get(name) != Some(value) {
        concept.insert(name.to_owned(), value.clone());
    }
}

fn stamp_value(stamp: &Stamp) -> Value {
    json!([time::text(stamp.at.max(0)), stamp.by])
}

fn stamp_of_value(value: &Value) -> Option<Stamp> {
    let [at, by] = value.as_array()?.as_slice() else { return None };
    Some(Stamp { at: time::of_value(at)?, by: by.as_str()?.to_owned() })
}
