//! Three-way merging: what we made of a version, and what somebody else made of it meanwhile, as one.
//!
//! A policy is chosen by path; the longest matching one counts. Objects are merged name by name, so policies meet
//! single values. What only one side changed is his; what both made the same is that.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Number, Value};

/// What becomes of a place that both sides changed in different ways.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Ours, the last writer's: we have not written yet.
    #[default]
    Ours,
    /// Theirs.
    Theirs,
    /// Objects and arrays only grow: nothing that either side has is removed. In an object a name that both changed is
    /// merged by the policy of its own path; of an array all elements stay, theirs first, ours that are new behind.
    Additive,
    /// A function of base, theirs and ours; none: the place goes.
    Custom(Arc<CustomMerge>),
}

impl Policy {
    /// For objects with a time: numbers that both sides have become their average, each side weighted by how recent it is:
    /// half as much for every `half_life` that it lies behind the other. Anything else that both changed is the later
    /// side's; ours, if they are equally old. `time` names the member with the time of the last change, in seconds since
    /// 1970; who has none is as old as can be. Nothing that either side has is removed.
    ///
    /// The average of three versions depends on the order in which they meet; where that matters, keep the weights in the
    /// document, as `commonhold_systems::concepts` does.
    #[must_use]
    pub fn by_recency(time: &str, half_life: Duration) -> Self {
        let (time, half_life) = (time.to_owned(), half_life.as_secs_f64());
        Self::Custom(Arc::new(move |_, theirs, ours| match (theirs, ours) {
            (Some(Value::Object(theirs)), Some(Value::Object(ours))) => {
                Some(Value::Object(average(&time, half_life, theirs, ours)))
            }
            (theirs, ours) => ours.or(theirs).cloned(),
        }))
    }
}

fn average(
    time: &str,
    half_life: f64,
    theirs: &Map<String, Value>,
    ours: &Map<String, Value>,
) -> Map<String, Value> {
    let at = |side: &Map<String, Value>| side.get(time).and_then(Value::as_f64);
    let (at_theirs, at_ours) = (at(theirs), at(ours));
    let later = at_theirs.unwrap_or(f64::MIN) <= at_ours.unwrap_or(f64::MIN);
    let behind = at_theirs.unwrap_or(f64::MIN) - at_ours.unwrap_or(f64::MIN);
    // The weights sum up to 1, and none is more than the later side's.
    let share = if behind == 0.0 { 0.5 } else { 1.0 / (1.0 + (behind / half_life).exp2()) };
    let mut both = theirs.clone();
    for (name, value) in ours {
        let merged = match (theirs.get(name), value) {
            (Some(Value::Number(a)), Value::Number(b)) if name != time && a != b => {
                let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
                Number::from_f64(a * (1.0 - share) + b * share).map(Value::Number)
            }
            (Some(there), _) if !later => Some(there.clone()),
            _ => Some(value.clone()),
        };
        both.insert(name.clone(), merged.unwrap_or_else(|| value.clone()));
    }
    both
}

/// A merge of one's own: base, theirs, ours; none stands for "not there".
pub type CustomMerge =
    dyn Fn(Option<&Value>, Option<&Value>, Option<&Value>) -> Option<Value> + Send + Sync;

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "Ours",
            Self::Theirs => "Theirs",
            Self::Additive => "Additive",
            Self::Custom(_) => "Custom",
        })
    }
}

/// Which policy is for which path.
#[derive(Debug, Clone, Default)]
pub struct Merge {
    rules: Vec<(Vec<String>, Policy)>,
}

impl Merge {
    /// Ours everywhere.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `policy` for the place `path` and what is below it: names with dots between, `*` for any name; empty: the root.
    #[must_use]
    pub fn at(mut self, path: &str, policy: Policy) -> Self {
        let names = path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        self.rules.push((names, policy));
        self
    }

    fn policy(&self, path: &[&str]) -> Policy {
        let matches = |names: &[String]| {
            names.len() <= path.len()
                && names.iter().zip(path).all(|(name, at)| name == "*" || name == at)
        };
        let rules = self.rules.iter().filter(|(names, _)| matches(names));
        rules.max_by_key(|(names, _)| names.len()).map(|(_, p)| p.clone()).unwrap_or_default()
    }

    /// What `ours` and `theirs` make of `base` together.
    #[must_use]
    pub fn three_way(&self, base: &Value, ours: &Value, theirs: Option<&Value>) -> Value {
        let merged = self.merge(&mut Vec::new(), Some(base), theirs, Some(ours));
        merged.unwrap_or(Value::Null)
    }

    fn merge<'a>(
        &self,
        path: &mut Vec<&'a str>,
        base: Option<&'a Value>,
        theirs: Option<&'a Value>,
        ours: Option<&'a Value>,
    ) -> Option<Value> {
        let policy = self.policy(path);
        if let Policy::Custom(custom) = &policy
            && theirs != ours
        {
            return custom(base, theirs, ours);
        }
        let additive = matches!(policy, Policy::Additive);
        // In what only grows, who took something away has changed nothing.
        let gone = additive && (ours.is_none() || theirs.is_none());
        match (base, theirs, ours) {
            _ if gone => ours.or(theirs).cloned(),
            (base, theirs, ours) if theirs == ours || base == theirs && !additive => ours.cloned(),
            (base, theirs, ours) if base == ours && !additive => theirs.cloned(),
            (base, Some(Value::Object(theirs)), Some(Value::Object(ours))) => {
                let base = base.and_then(Value::as_object);
                Some(Value::Object(self.merge_objects(path, base, theirs, ours)))
            }
            (_, Some(Value::Array(theirs)), Some(Value::Array(ours))) if additive => {
                let new = ours.iter().filter(|value| !theirs.contains(value));
                Some(Value::Array(theirs.iter().chain(new).cloned().collect()))
            }
            (base, theirs, ours) if additive && base == ours => theirs.cloned(),
            (_, theirs, _) if matches!(policy, Policy::Theirs) => theirs.cloned(),
            (_, _, ours) => ours.cloned(),
        }
    }

    fn merge_objects<'a>(
        &self,
        path: &mut Vec<&'a str>,
        base: Option<&'a Map<String, Value>>,
        theirs: &'a Map<String, Value>,
        ours: &'a Map<String, Value>,
    ) -> Map<String, Value> {
        let mut merged = Map::new();
        let new = ours.keys().filter(|name| !theirs.contains_key(*name));
        for name in theirs.keys().chain(new) {
            path.push(name);
            let base = base.and_then(|base| base.get(name));
            if let Some(value) = self.merge(path, base, theirs.get(name), ours.get(name)) {
                merged.insert(name.clone(), value);
            }
            path.pop();
        }
        merged
    }
}

#[cfg(test)]
mod tests;
