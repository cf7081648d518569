//! A concept as it is read, and what somebody has learned of one.

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::ConceptError;
use super::level::unit;
use super::memory::is_name;
use super::record::{CONFIDENCE, DESCRIPTION, LEARNED_BY, LEVEL, NAME, State, UPDATED_AT};
use super::time;

/// A concept, as it is read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Concept {
    /// Its name.
    pub name: String,
    /// What it means.
    pub description: Option<String>,
    /// How well it is known, 0 to 1: the average of the observations, weighted by recency.
    pub level: Option<f64>,
    /// How sure who learned it last was, 0 to 1.
    pub confidence: Option<f64>,
    /// When it was last updated: microseconds since 1970.
    pub updated_at: Option<i64>,
    /// Who updated it last.
    pub learned_by: Option<String>,
    /// Its other fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What somebody has learned of a concept. What is not set stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    pub(super) name: String,
    pub(super) level: Option<f64>,
    pub(super) confidence: Option<f64>,
    pub(super) description: Option<String>,
    pub(super) by: Option<String>,
    pub(super) at: Option<i64>,
    pub(super) rest: Map<String, Value>,
}

impl Concept {
    /// When it was last updated, as RFC 3339 in UTC.
    #[must_use]
    pub fn updated_at_text(&self) -> Option<String> {
        self.updated_at.map(time::text)
    }

    pub(super) fn of(name: &str, state: &State) -> Self {
        let text = |field: &str| state.get(field).and_then(Value::as_str).map(str::to_owned);
        let stamp = &state.stamp;
        Self {
            name: name.to_owned(),
            description: text(DESCRIPTION),
            level: state.seen.level(),
            confidence: state.get(CONFIDENCE).and_then(Value::as_f64).and_then(unit),
            updated_at: Some(stamp.at).filter(|at| *at > 0),
            learned_by: Some(stamp.by.clone()).filter(|by| !by.is_empty()),
            rest: state.rest(),
        }
    }
}

impl Learned {
    /// Of the concept `name`.
    pub fn new(name: impl Into<String>) -> Self {
        let (level, confidence, description, by, at) = (None, None, None, None, None);
        Self { name: name.into(), level, confidence, description, by, at, rest: Map::new() }
    }

    /// How well it is known, 0 to 1.
    #[must_use]
    pub fn level(mut self, level: f64) -> Self {
        self.level = Some(level);
        self
    }

    /// How sure that is, 0 to 1. It is what the level weighs, which is 1 if this is never set, whatever an older level's
    /// confidence was.
    #[must_use]
    pub fn confidence(mut self, confidence: f64) -> Self {
        self.confidence = Some(confidence);
        self
    }

    /// What it means.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Who learned it; the map's persona if never set.
    #[must_use]
    pub fn by(mut self, persona: impl Into<String>) -> Self {
        self.by = Some(persona.into());
        self
    }

    /// When, in microseconds since 1970; now if never set, and never later than now.
    #[must_use]
    pub fn at(mut self, micros: i64) -> Self {
        self.at = Some(micros);
        self
    }

    /// Another field.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.rest.insert(name.into(), value.into());
        self
    }

    pub(super) fn check(&self) -> Result<(), ConceptError> {
        if self.name.is_empty() {
            return Err(ConceptError::NoName);
        }
        for (what, value) in [(LEVEL, self.level), (CONFIDENCE, self.confidence)] {
            if let Some(value) = value.filter(|value| unit(*value).is_none()) {
                return Err(ConceptError::Range { what, name: self.name.clone(), value });
            }
        }
        let meant = [NAME, DESCRIPTION, LEVEL, CONFIDENCE, UPDATED_AT, LEARNED_BY];
        let reserved = |name: &&String| meant.contains(&name.as_str()) || is_name(name);
        match self.rest.keys().find(reserved) {
            Some(name) => Err(ConceptError::Reserved(name.clone())),
            None => Ok(()),
        }
    }
}
