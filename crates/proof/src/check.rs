//! What a check is, what it is told and what it tells.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

/// Why a check could not be made at all.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// One kind of faults, and how what they leave is judged.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    /// The name by which it is asked for.
    pub(crate) name: &'static str,
    /// What it injects and demands, in one line.
    pub(crate) about: &'static str,
    /// Makes it.
    pub(crate) run: fn(&Plan) -> Result<Outcome, Failure>,
    /// What it must find.
    pub(crate) bites: &'static [Bite],
    /// It is a violation if it takes longer than so many seconds, in the long part ten times as many.
    pub(crate) limit_s: u64,
}

/// Something wrong that a check must find when it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bite {
    /// A fault in the protocols ([`commonhold_segment::sync::Fault`]); needs the feature `faults`.
    Fault(commonhold_segment::sync::Fault),
    /// Something that the check itself does wrong when [`Plan::sabotage`] names it.
    Sabotage(&'static str),
}

/// How a check is to be made.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The seed of everything random.
    pub(crate) seed: u64,
    /// Everything, not samples.
    pub(crate) long: bool,
    /// This injection alone.
    pub(crate) only: Option<u64>,
    /// What the check itself shall do wrong.
    pub(crate) sabotage: Option<String>,
    /// Something is planted.
    pub(crate) planted: bool,
    /// An empty folder in shared memory that is removed afterwards.
    pub(crate) folder: PathBuf,
}

/// Set where no namespaces can be had: then a check says in its figures what it left out, and else it is a violation.
pub(crate) const WITHOUT_NAMESPACES: &str = "COMMONHOLD_PROVE_WITHOUT_NAMESPACES";

/// What a check found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// How many faults were injected.
    pub(crate) faults: u64,
    /// What was wrong: what, where, and how to repeat it.
    pub(crate) violations: Vec<String>,
    /// Further figures for the table, in one line.
    pub(crate) figures: String,
}

/// More violations than these are not kept: the first ones tell.
static VIOLATIONS_MAX: AtomicUsize = AtomicUsize::new(20);

/// From now on one violation is enough: something is planted.
pub(crate) fn one_is_enough() {
    VIOLATIONS_MAX.store(1, Ordering::Relaxed);
}

impl Bite {
    /// How it is named on the command line.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Fault(fault) => format!("{fault:?}"),
            Self::Sabotage(name) => name.to_owned(),
        }
    }
}

impl Plan {
    /// Whether the check shall do `what` wrong.
    pub(crate) fn sabotaged(&self, what: &str) -> bool {
        self.sabotage.as_deref() == Some(what)
    }

    /// `fast` or, in the long part, `long`.
    pub(crate) fn of<T>(&self, fast: T, long: T) -> T {
        if self.long { long } else { fast }
    }
}

impl Outcome {
    /// Notes a violation.
    pub(crate) fn violation(&mut self, text: impl Into<String>) {
        if !self.is_hopeless() {
            self.violations.push(text.into());
        }
    }

    /// Notes a violation unless `holds`; what `holds`.
    pub(crate) fn demand(&mut self, holds: bool, text: impl FnOnce() -> String) -> bool {
        if !holds {
            self.violation(text());
        }
        holds
    }

    /// Whether enough went wrong to stop.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.violations.len() >= VIOLATIONS_MAX.load(Ordering::Relaxed)
    }

    /// Takes what another part of the check found.
    pub(crate) fn add(&mut self, other: Self) {
        self.faults += other.faults;
        other.violations.into_iter().for_each(|v| self.violation(v));
        if !other.figures.is_empty() {
            if !self.figures.is_empty() {
                self.figures.push_str("; ");
            }
            self.figures.push_str(&other.figures);
        }
    }
}
