//! One concept as what merging works on, and the way from and to the object in the file.
//!
//! A concept is three things: its *stamp* (when it was updated, by whom), its fields, each with the stamp of the record
//! that it came from, and its observations (level.rs). Joining takes the later stamp, of each field the one with the later
//! stamp (equal stamps: the greater JSON text), and both sets of observations. Each is a maximum or a union, so joining
//! is associative, commutative and idempotent.
//!
//! In the file, `updated_at` and `learned_by` are the stamp, and hold for each field and the level. What they do not
//! tell stands in one field more, which most concepts do not have (memory.rs). A `level` that does not follow from the
//! levels there was written by somebody who does not know them: he has the last word, and the level is one observation
//! from there on.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::level::{Observation, Observations, unit};
use super::memory::{Memory, Strange, is_memory};
use super::time;

pub(super) const NAME: &str = "name";
pub(super) const DESCRIPTION: &str = "description";
pub(super) const LEVEL: &str = "level";
pub(super) const CONFIDENCE: &str = "confidence";
pub(super) const UPDATED_AT: &str = "updated_at";
pub(super) const LEARNED_BY: &str = "learned_by";

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
    strange: Strange,
}

impl State {
    /// Reads it. Times beyond the bound count as now. Fields that are not what they should be (a level that is no
    /// number from 0 to 1, a time that is none) are kept as any other field, and do not count.
    pub(super) fn read(concept: &Object, bound: Bound) -> Self {
        let at = concept.get(UPDATED_AT).and_then(time::of_value);
        let by = concept.get(LEARNED_BY).map(name_of).unwrap_or_default();
        let stamp = Stamp { at: bound.of(at.unwrap_or(0)), by };
        let memory = Memory::of(concept);
        let stamp_of = |name: &str| {
            let old = memory.fields.get(name).filter(|old| **old < stamp);
            old.unwrap_or(&stamp).clone()
        };
        let level = concept.get(LEVEL).and_then(Value::as_f64).and_then(unit);
        let meant = |name: &str, value: &Value| match name {
            NAME | LEARNED_BY => true,
            LEVEL => level.is_some(),
            UPDATED_AT => stamp.at > 0,
            _ => is_memory(name, value),
        };
        let fields = concept.iter().filter(|(name, value)| !meant(name, value));
        let fields = fields.map(|(name, value)| (name.clone(), (stamp_of(name), plain(value))));
        let fields = fields.collect();
        let (seen, strange) = match level {
            Some(level) if memory.levels.gives(level) => (memory.levels, memory.strange),
            Some(_) => (Observations::of(own(concept, &stamp)), memory.strange),
            // Who took the level away took all of them.
            None => (Observations::default(), memory.strange.without_levels()),
        };
        Self { stamp, seen: seen.within(bound), fields, strange }
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
        self.strange = std::mem::take(&mut self.strange).join(other.strange);
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
        self.fields.insert(name.to_owned(), (self.stamp.clone(), plain(&value)));
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
        self.write_memory(concept);
    }

    fn write_memory(&self, concept: &mut Object) {
        let alone = own(concept, &self.stamp).is_some_and(|own| self.seen.is_only(&own));
        let alone = alone && self.strange.is_empty();
        let older = self.fields.iter().filter(|(_, (stamp, _))| *stamp < self.stamp);
        let memory = Memory {
            levels: if alone { Observations::default() } else { self.seen.clone() },
            fields: older.map(|(name, (stamp, _))| (name.clone(), stamp.clone())).collect(),
            strange: self.strange.clone(),
        };
        memory.write(concept, |name| self.fields.contains_key(name));
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
    let texts = || text_of(&ours.1).cmp(&text_of(&theirs.1));
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

/// The value without −0, which is equal to 0 and has another text.
pub(super) fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() && number.as_f64() == Some(0.0) => json!(0.0),
        Value::Array(values) => values.iter().map(plain).collect(),
        Value::Object(values) => {
            values.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        other => other.clone(),
    }
}

/// The JSON text of a plain value, names in their order: two are equal when their texts are.
pub(super) fn text_of(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    value.to_string()
}
