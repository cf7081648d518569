//! What a scheduler ticks: entries, and the nodes of each.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::SchedulerError;
use super::source::{Loaded, Source, SourceError};
use crate::error::TaskError;
use crate::records::Priority;
use crate::task::Task;
use crate::worker::message;

/// The shortest period.
const PERIOD_MIN: Duration = Duration::from_millis(1);
/// The longest period.
const PERIOD_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most times that one tick is sent again.
const RETRIES_MAX: u32 = 1000;

/// What is done how often: the options of an entry.
#[derive(Debug, Clone)]
pub struct Every {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) period: Duration,
    pub(super) retries: u32,
    pub(super) deadline: Duration,
    pub(super) attempts: u64,
    pub(super) priority: Priority,
}

/// An entry as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryFigures {
    /// Its name.
    pub name: String,
    /// The kind of its tasks.
    pub kind: String,
    /// How often its nodes are ticked.
    pub period: Duration,
    /// Its nodes, when they were last listed.
    pub nodes: usize,
    /// Ticks that are in the pool.
    pub under_way: usize,
    /// Ticks that were committed.
    pub ticks: u64,
    /// Ticks that were due and skipped: the one before was still under way, or the scheduler came too late.
    pub late: u64,
    /// Ticks that were sent again, with the new state of a node that had changed meanwhile; each time counts.
    pub retried: u64,
    /// Ticks that were skipped because the node had changed each time.
    pub beaten: u64,
    /// Ticks that failed; when the nodes cannot be listed, that is one.
    pub failed: u64,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for its time.
    Idle,
    /// Its time has come, and there is no room in the pool.
    Waiting,
    /// A task has its state.
    Sent,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) phase: Phase,
    /// Up to when it was ticked.
    pub(super) last: Option<Instant>,
    /// When it was last listed.
    pub(super) listed: u64,
}

/// An entry, in the scheduler's thread.
pub(super) struct Entry {
    pub(super) every: Every,
    source: Box<dyn Source>,
    pub(super) nodes: HashMap<Arc<str>, Node>,
    pub(super) figures: EntryFigures,
    /// How often its nodes were listed.
    pub(super) listings: u64,
    pub(super) changed: bool,
}

impl Every {
    /// Ticks of all nodes of a source, each done by a task of `kind`: sent again three times when the node changed
    /// meanwhile; 30 s, three attempts and normal priority for the task.
    #[must_use]
    pub fn new(name: &str, period: Duration, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            period,
            retries: 3,
            deadline: Duration::from_secs(30),
            attempts: 3,
            priority: Priority::Normal,
        }
    }

    /// How often a tick is sent again at most, when its node changed while it was under way.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// How long a tick may take in the pool ([`Task::deadline`]).
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How often a tick is begun at most when workers die ([`Task::attempts`]).
    #[must_use]
    pub fn attempts(mut self, attempts: u64) -> Self {
        self.attempts = attempts;
        self
    }

    /// How soon a tick is begun, among the tasks that wait.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The task of one tick.
    pub(super) fn task<'a>(&'a self, arguments: &'a [u8]) -> Task<'a> {
        let task = Task::new(&self.kind, arguments).deadline(self.deadline);
        task.attempts(self.attempts).priority(self.priority).bound()
    }

    pub(super) fn check(&self) -> Result<(), SchedulerError> {
        let option = |what, found: String, must: String| {
            Err(SchedulerError::Option { name: self.name.clone(), what, found, must })
        };
        if !(PERIOD_MIN..=PERIOD_MAX).contains(&self.period) {
            let found = format!("{:?}", self.period);
            return option("period", found, "1 ms to 30 days".to_owned());
        }
        if self.retries > RETRIES_MAX {
            let found = self.retries.to_string();
            return option("number of retries", found, format!("0 to {RETRIES_MAX}"));
        }
        Ok(self.task(b"").check()?)
    }
}

impl Entry {
    pub(super) fn new(every: Every, source: Box<dyn Source>) -> Self {
        let figures = EntryFigures {
            name: every.name.clone(),
            kind: every.kind.clone(),
            period: every.period,
            ..EntryFigures::default()
        };
        let (nodes, listings) = (HashMap::new(), 0);
        Self { every, source, nodes, figures, listings, changed: false }
    }

    /// Counts a tick that failed.
    pub(super) fn fail(&mut self, why: String) {
        self.figures.failed += 1;
        self.figures.last_error = Some(why);
    }

    /// All nodes with their states, or why there are none, which is counted.
    pub(super) fn load(&mut self) -> Option<Vec<(String, Loaded)>> {
        self.ask(None, |source| source.load())
    }

    /// A node's state; `None` when it is gone, or when that failed, which is counted.
    pub(super) fn reload(&mut self, node: &str) -> Option<Loaded> {
        self.ask(Some(node), |source| source.reload(node)).flatten()
    }

    /// Whether a node's next state was committed; `None` when that failed, which is counted.
    pub(super) fn commit(&mut self, node: &str, loaded: &Loaded, next: &[u8]) -> Option<bool> {
        self.ask(Some(node), |source| source.commit(node, loaded, next))
    }

    /// A source is the user's code: what it does wrong is its entry's error.
    fn ask<R>(
        &mut self,
        node: Option<&str>,
        question: impl FnOnce(&mut dyn Source) -> Result<R, SourceError>,
    ) -> Option<R> {
        let answer = catch_unwind(AssertUnwindSafe(|| question(self.source.as_mut())));
        let why = match answer {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(e)) => e.to_string(),
            Err(panic) => format!("its source panicked: {}", message(&*panic)),
        };
        self.fail(node.map_or_else(|| why.clone(), |node| format!("node `{node}`: {why}")));
        None
    }

    /// Counts a tick whose task has no result, or could not be submitted.
    pub(super) fn fail_task(&mut self, node: &str, error: &TaskError) {
        self.fail(format!("node `{node}`: {error}"));
    }
}
