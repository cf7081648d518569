//! What merging has to remember of a concept, and the field of it in which that stands.
//!
//! It is `{ "levels": [[updated_at, level, confidence, learned_by], …], "fields": { name: [updated_at, learned_by], … } }`,
//! and its field is [`MERGED`]. A field of that name that has another form is somebody's own, as any other field; then
//! ours has an underscore more, as often as it takes.
//!
//! **Later versions**: a level of another form, and other keys beside these two, stay as they are and do not count. Two
//! concepts' are united; of a key that both have the value with the greater text stays. Both are a union or a maximum,
//! so the laws of merging hold for them too.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::level::{Observation, Observations};
use super::record::{Stamp, plain, text_of};
use super::time;

/// What merging has to remember.
pub(super) const MERGED: &str = "merged";
const LEVELS: &str = "levels";
const FIELDS: &str = "fields";

type Object = Map<String, Value>;

/// What a concept remembers.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The levels that were understood.
    pub(super) levels: Observations,
    /// The fields that are older than their concept.
    pub(super) fields: BTreeMap<String, Stamp>,
    pub(super) strange: Strange,
}

/// What is in a memory and is not understood.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Strange {
    /// By their texts.
    levels: BTreeMap<String, Value>,
    keys: BTreeMap<String, Value>,
}

impl Memory {
    /// What a concept remembers; in all fields that are a memory, should there be several.
    pub(super) fn of(concept: &Object) -> Self {
        let mut all = Self::default();
        let named = concept.iter().filter(|(name, _)| is_name(name));
        for one in named.filter_map(|(_, value)| Self::of_value(value)) {
            all.levels = all.levels.union(one.levels);
            all.strange = all.strange.join(one.strange);
            for (name, stamp) in one.fields {
                all.fields.entry(name).or_insert(stamp);
            }
        }
        all
    }

    /// None, when it is somebody's own field: no object with one of our keys, or nothing in them that we know.
    fn of_value(value: &Value) -> Option<Self> {
        let mut memory = Self::default();
        let object = value.as_object()?;
        let (levels, fields) = (object.get(LEVELS), object.get(FIELDS));
        if let Some(levels) = levels {
            let levels = levels.as_array()?;
            let mut known = Vec::new();
            for level in levels {
                match Observation::of_value(level) {
                    Some(level) => known.push(level),
                    None => memory.strange.level(level),
                }
            }
            if known.is_empty() && !levels.is_empty() {
                return None;
            }
            memory.levels = Observations::of(known);
        }
        if let Some(fields) = fields {
            let fields = fields.as_object()?;
            let known = fields.iter().filter_map(|(name, at)| Some((name.clone(), stamp(at)?)));
            memory.fields = known.collect();
            if memory.fields.is_empty() && !fields.is_empty() {
                return None;
            }
        }
        let others = object.iter().filter(|(key, _)| ![LEVELS, FIELDS].contains(&key.as_str()));
        memory.strange.keys = others.map(|(key, value)| (key.clone(), plain(value))).collect();
        (levels.is_some() || fields.is_some()).then_some(memory)
    }

    /// Makes `concept` remember this and nothing else; `is_own` tells the names of fields that are somebody's own.
    pub(super) fn write(&self, concept: &mut Object, is_own: impl Fn(&str) -> bool) {
        let value = self.to_value();
        let mut name = MERGED.to_owned();
        while is_own(&name) {
            name.push('_');
        }
        // `remove` would change the order of the others.
        concept.retain(|other, _| {
            let stays = *other == name && value.is_some();
            stays || !is_name(other) || is_own(other)
        });
        if let Some(value) = value
            && concept.get(&name) != Some(&value)
        {
            concept.insert(name, value);
        }
    }

    fn to_value(&self) -> Option<Value> {
        let mut object = Object::new();
        let Strange { levels, keys } = &self.strange;
        // With an empty list a memory is told from somebody's own field.
        if !self.levels.is_empty() || !keys.is_empty() {
            let known = self.levels.iter().map(Observation::to_value);
            object.insert(LEVELS.to_owned(), known.chain(levels.values().cloned()).collect());
        }
        if !self.fields.is_empty() {
            let fields = self.fields.iter();
            let fields = fields.map(|(name, Stamp { at, by })| {
                (name.clone(), json!([time::text((*at).max(0)), by]))
            });
            object.insert(FIELDS.to_owned(), Value::Object(fields.collect()));
        }
        object.extend(keys.clone());
        (!object.is_empty()).then_some(Value::Object(object))
    }
}

impl Strange {
    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.keys.is_empty()
    }

    fn level(&mut self, level: &Value) {
        let level = plain(level);
        self.levels.insert(text_of(&level), level);
    }

    /// Without the levels.
    pub(super) fn without_levels(self) -> Self {
        Self { levels: BTreeMap::new(), ..self }
    }

    /// Both.
    pub(super) fn join(mut self, other: Self) -> Self {
        for (text, level) in other.levels {
            self.levels.entry(text).or_insert(level);
        }
        for (key, theirs) in other.keys {
            match self.keys.get_mut(&key) {
                Some(ours) if text_of(ours) < text_of(&theirs) => *ours = theirs,
                Some(_) => {}
                None => {
                    self.keys.insert(key, theirs);
                }
            }
        }
        self
    }
}

/// Whether a field of this name may be a memory.
pub(super) fn is_name(name: &str) -> bool {
    name.strip_prefix(MERGED).is_some_and(|more| more.bytes().all(|byte| byte == b'_'))
}

/// Whether this field is a memory.
pub(super) fn is_memory(name: &str, value: &Value) -> bool {
    is_name(name) && Memory::of_value(value).is_some()
}

fn stamp(value: &Value) -> Option<Stamp> {
    let [at, by] = value.as_array()?.as_slice() else { return None };
    Some(Stamp { at: time::of_value(at)?, by: by.as_str()?.to_owned() })
}
