//! A map of concepts: the document as it is, and what is learned, looked up and merged in it.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::concept::{Concept, Learned};
use super::error::ConceptError;
use super::level::{Observation, Observations};
use super::record::{Bound, CONFIDENCE, DESCRIPTION, NAME, Stamp, State};
use super::time;

/// The list in the document.
pub(super) const CONCEPTS: &str = "concepts";
/// A time that is ahead of this machine's clock by more than this counts as now: 5 minutes, in microseconds.
const AHEAD_MAX: i64 = 5 * 60 * 1_000_000;

type Object = Map<String, Value>;

/// A map of concepts: `{ "concepts": [{ name, description, level, confidence, updated_at, learned_by, … }], … }`. What
/// it does not know, in the document or a concept, stays as it is; and no concept ever leaves it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConceptMap {
    /// None: there is no document yet. The list is not in it meanwhile; an empty one keeps its place.
    root: Option<Object>,
    list: Vec<Value>,
    persona: String,
    now: Option<i64>,
}

impl ConceptMap {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The map with this list.
    pub(super) fn of_list(list: &[Value]) -> Self {
        Self { list: list.to_vec(), ..Self::default() }
    }

    /// The list.
    pub(super) fn into_list(self) -> Vec<Value> {
        self.list
    }

    /// The map in a document; null is an empty one.
    ///
    /// # Errors
    /// [`ConceptError::NotAMap`], [`ConceptError::NotAList`].
    pub fn from_value(document: Value) -> Result<Self, ConceptError> {
        let mut root = match document {
            Value::Null => return Ok(Self::default()),
            Value::Object(root) => root,
            other => return Err(ConceptError::NotAMap(kind(&other))),
        };
        let list = match root.get_mut(CONCEPTS) {
            None => Vec::new(),
            Some(Value::Array(list)) => std::mem::take(list),
            Some(other) => return Err(ConceptError::NotAList(kind(other))),
        };
        Ok(Self { root: Some(root), list, ..Self::default() })
    }

    /// The document.
    #[must_use]
    pub fn into_value(mut self) -> Value {
        if !self.list.is_empty() {
            self.root.get_or_insert_default().insert(CONCEPTS.to_owned(), self.list.into());
        }
        self.root.map_or(Value::Null, Value::Object)
    }

    /// Who learns in it, unless [`Learned::by`] says another name.
    #[must_use]
    pub fn persona(mut self, name: impl Into<String>) -> Self {
        self.persona = name.into();
        self
    }

    /// What time it is, in microseconds since 1970; this machine's clock if never set. From 1970 to 9999, as times are
    /// written.
    #[must_use]
    pub fn now(mut self, micros: i64) -> Self {
        self.now = Some(micros);
        self
    }

    /// All concepts, in the order of the list; of those of one name what they make together, once.
    #[must_use]
    pub fn concepts(&self) -> Vec<Concept> {
        let states = self.states(|_| true);
        let names = states.order.iter().filter_map(|name| Some((name, states.by_name.get(name)?)));
        names.map(|(name, named)| Concept::of(name, &named.state)).collect()
    }

    /// The concept of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Concept> {
        let mut states = self.states(|other| other == name);
        states.by_name.remove(name).map(|named| Concept::of(name, &named.state))
    }

    /// How many elements the list has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds what was learned to the concept, or makes it; the concept as it is now. It is an update that has seen the
    /// ones before: its time is later than theirs, whatever this machine's clock says.
    ///
    /// # Errors
    /// [`ConceptError`]; nothing is changed then.
    pub fn learn(&mut self, learned: &Learned) -> Result<Concept, ConceptError> {
        learned.check()?;
        let name = learned.name.as_str();
        let there = self.states(|other| other == name).by_name.remove(name);
        let at = learned.at.unwrap_or_else(|| self.clock()).clamp(0, self.clock());
        let before = there.as_ref().map_or(0, |there| there.state.stamp.at.saturating_add(1));
        let at = at.max(before).min(time::LAST);
        let by = learned.by.clone().unwrap_or_else(|| self.persona.clone());
        let before = there.as_ref().map(|there| there.state.clone()).unwrap_or_default();
        let mut state = before.seen_at(Stamp { at, by: by.clone() });
        for (name, value) in &learned.rest {
            state.set(name, value.clone());
        }
        if let Some(description) = &learned.description {
            state.set(DESCRIPTION, description.as_str().into());
        }
        if let Some(confidence) = learned.confidence {
            state.set(CONFIDENCE, confidence.into());
        }
        if let Some(level) = learned.level {
            // An older level's confidence says nothing of this one.
            let one = Observation::new(at, &by, level, learned.confidence);
            state.see(Observations::of(one));
        }
        match there {
            Some(there) => {
                self.write(&there, &state);
                if there.copies > 1 {
                    self.remove_copies(&HashMap::from([(name, there.first)]));
                }
            }
            None => self.append(name, &state, Object::new()),
        }
        Ok(Concept::of(name, &state))
    }

    /// Merges another map into this one: additive, nothing leaves either. Levels become the average of the observations
    /// of both, weighted by recency; of a field that both have the one of the later update stays. Associative,
    /// commutative and idempotent in the concepts, but for their order; of other fields of the document, which have no
    /// time, those stay that are here.
    pub fn merge(&mut self, theirs: &Self) -> Merged {
        self.take_in(theirs, None)
    }

    /// The same, when both were made of `base`: what only one of them changed is his.
    pub(super) fn merge_since(&mut self, theirs: &Self, base: &Self) -> Merged {
        self.take_in(theirs, Some(base))
    }

    fn take_in(&mut self, theirs: &Self, base: Option<&Self>) -> Merged {
        let mut incoming = theirs.states(|_| true);
        let mut here = self.states(|name| incoming.by_name.contains_key(name));
        let base = base.map(|base| base.states(|name| here.by_name.contains_key(name)));
        let (mut done, mut copies) = (Merged::default(), HashMap::new());
        for name in &incoming.order {
            let Some(theirs_of) = incoming.by_name.remove(name) else { continue };
            let Some(ours) = here.by_name.remove(name) else {
                let first = theirs.list.get(theirs_of.first).and_then(Value::as_object);
                self.append(name, &theirs_of.state, first.cloned().unwrap_or_default());
                done.added += 1;
                continue;
            };
            let of_base = base.as_ref().and_then(|base| base.by_name.get(name));
            let state = match of_base {
                Some(base) => since(&base.state, &ours.state, theirs_of.state),
                None => ours.state.clone().join(theirs_of.state),
            };
            if ours.copies > 1 {
                copies.insert(name.as_str(), ours.first);
            }
            if state != ours.state || ours.copies > 1 {
                self.write(&ours, &state);
                done.changed += 1;
            }
        }
        self.remove_copies(&copies);
        self.take_in_others(theirs);
        done
    }

    /// What is no concept, and has no time.
    fn take_in_others(&mut self, theirs: &Self) {
        let nameless = |list: &[Value]| -> Vec<Value> {
            list.iter().filter(|element| named(element).is_none()).cloned().collect()
        };
        let ours = nameless(&self.list);
        let texts: HashSet<String> = ours.iter().map(Value::to_string).collect();
        let new = nameless(&theirs.list).into_iter();
        let new = new.filter(|other| !texts.contains(&other.to_string()) && !ours.contains(other));
        self.list.extend(new);
        for (name, value) in theirs.root.iter().flatten() {
            let root = self.root.get_or_insert_default();
            if !root.contains_key(name) {
                root.insert(name.clone(), value.clone());
            }
        }
    }

    fn clock(&self) -> i64 {
        self.now.unwrap_or_else(time::now).clamp(0, time::LAST)
    }

    fn bound(&self) -> Bound {
        let now = self.clock();
        Bound { now, latest: now.saturating_add(AHEAD_MAX) }
    }

    /// What the concepts say whose names are `wanted`.
    fn states(&self, wanted: impl Fn(&str) -> bool) -> States {
        let (bound, mut states) = (self.bound(), States::default());
        for (at, element) in self.list.iter().enumerate() {
            let Some((name, concept)) = named(element).filter(|(name, _)| wanted(name)) else {
                continue;
            };
            let state = State::read(concept, bound);
            match states.by_name.get_mut(name) {
                Some(before) => {
                    before.state = std::mem::take(&mut before.state).join(state);
                    before.copies += 1;
                }
                None => {
                    states.order.push(name.to_owned());
                    let named = Named { first: at, copies: 1, state };
                    states.by_name.insert(name.to_owned(), named);
                }
            }
        }
        states
    }

    fn write(&mut self, at: &Named, state: &State) {
        if let Some(Value::Object(concept)) = self.list.get_mut(at.first) {
            state.write(concept);
        }
    }

    fn append(&mut self, name: &str, state: &State, mut concept: Object) {
        concept.entry(NAME).or_insert_with(|| name.into());
        state.write(&mut concept);
        self.list.push(concept.into());
    }

    /// Removes further elements of these names, whose first one stands where it says, and says all of it.
    fn remove_copies(&mut self, first: &HashMap<&str, usize>) {
        if first.is_empty() {
            return;
        }
        let mut at = 0;
        self.list.retain(|element| {
            let first = named(element).and_then(|(name, _)| first.get(name));
            let stays = first.is_none_or(|first| *first == at);
            at += 1;
            stays
        });
    }
}

/// What a merge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Merged {
    /// Concepts that were not there before.
    pub added: usize,
    /// Concepts that were there, and are another way now.
    pub changed: usize,
}

/// `ours` and `theirs` as one map: [`ConceptMap::merge`].
#[must_use]
pub fn merge_concepts(ours: &ConceptMap, theirs: &ConceptMap) -> ConceptMap {
    let mut both = ours.clone();
    both.merge(theirs);
    both
}

/// What `ours` and `theirs` say together, both made of `base`.
fn since(base: &State, ours: &State, theirs: State) -> State {
    if theirs == *base {
        return ours.clone();
    }
    if *ours == *base {
        return theirs;
    }
    let stamp = theirs.stamp.clone().max(ours.stamp.clone());
    ours.clone().since(base).join(theirs.since(base)).seen_at(stamp)
}

/// Concepts by their names.
#[derive(Default)]
struct States {
    order: Vec<String>,
    by_name: HashMap<String, Named>,
}

/// What all elements of one name say together.
struct Named {
    /// Where the first one stands.
    first: usize,
    copies: usize,
    state: State,
}

/// An element that is a concept: an object with a name.
fn named(element: &Value) -> Option<(&str, &Object)> {
    let concept = element.as_object()?;
    let name = concept.get(NAME)?.as_str().filter(|name| !name.is_empty())?;
    Some((name, concept))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
