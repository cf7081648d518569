//! The one way to change a network.

use std::borrow::Borrow;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use commonhold_runtime::core::guard::Previous;
use commonhold_runtime::{
    Changes, Error, Guard, GuardOptions, Handle, Held, Ids, MetricCounter, Metrics, Runtime, Table,
};
use serde::Serialize;

use super::error::NetworkError;
use super::physics::{self, Pattern, Tone};
use super::query::Snapshot;
use super::records::{
    FIELDS, Field, HarmonicPattern, NODES, NewNode, Node, PATTERNS, StoredField, StoredNode,
    StoredPattern, field_key, node_key,
};

/// The guard of all changes over several records.
pub const GUARD: &str = "resonance";
/// The allocator of nodes' ids.
pub const IDS: &str = "resonance_nodes";
/// How the names of the guard's metrics begin: `resonance_mutex_contention_total`, `resonance_mutex_wait_time_ms`.
pub const METRICS_PREFIX: &str = "resonance_mutex";

/// The resonance networks of a segment, for one thread.
///
/// `H` is the participant, which tables, guard and ids share: `Rc<Handle>` from [`ResonanceNetworks::open`], or
/// `&Handle`.
#[derive(Debug)]
pub struct ResonanceNetworks<H: Borrow<Handle> + Clone = Rc<Handle>> {
    pub(super) nodes: Table<StoredNode, H>,
    pub(super) fields: Table<StoredField, H>,
    pub(super) patterns: Table<StoredPattern, H>,
    guard: Guard<H>,
    ids: Ids<H>,
    counts: Counts<H>,
    guard_wait: Option<Duration>,
    taken_over: Cell<u64>,
}

/// What is counted, for whoever looks at the metrics: of the killed, a change perhaps less than was made. How many nodes
/// there are, is `commonhold_records{table="resonance_nodes"}`, which is found by looking.
#[derive(Debug)]
struct Counts<H: Borrow<Handle>> {
    created: MetricCounter<H>,
    removed: MetricCounter<H>,
    resonances: MetricCounter<H>,
    ticks: MetricCounter<H>,
}

impl<H: Borrow<Handle> + Clone> Counts<H> {
    fn new(handle: H) -> Result<Self, Error> {
        let metrics = Metrics::new(handle);
        let counter =
            |name: &str, help| metrics.counter(&format!("commonhold_resonance_{name}_total"), help);
        Ok(Self {
            created: counter("nodes_created", "Nodes that were created.")?,
            removed: counter("nodes_removed", "Nodes that were removed.")?,
            resonances: counter("resonances", "Resonances of a node with its neighbours.")?,
            ticks: counter("ticks", "Ticks of the whole.")?,
        })
    }
}

/// A change that was made stays made, counted or not; what keeps it from being counted, the next operation tells.
fn count<H: Borrow<Handle>>(counter: &MetricCounter<H>) {
    let _ = counter.inc();
}

/// What a tick did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ticked {
    /// How many nodes it moved.
    pub nodes: usize,
    /// How many fields pulled at them.
    pub fields: usize,
    /// Kuramoto's order parameter afterwards.
    pub order: f64,
}

/// What a resonance did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Resonated {
    /// The source's neighbours.
    pub neighbours: usize,
    /// The source's energy before.
    pub before: f64,
    /// The source's energy afterwards; its neighbours have the difference.
    pub after: f64,
}

impl ResonanceNetworks {
    /// The networks of the segment that `runtime` opened, which must have the tables
    /// ([`super::with_resonance`] adds them to a configuration).
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Participants`].
    pub fn open(runtime: &Runtime) -> Result<Self, Error> {
        Self::new(Rc::new(runtime.handle()?))
    }
}

impl<H: Borrow<Handle> + Clone> ResonanceNetworks<H> {
    /// The networks of a segment, through `handle`.
    ///
    /// # Errors
    /// [`Error::UnknownTable`].
    pub fn new(handle: H) -> Result<Self, Error> {
        let options = GuardOptions::new().metrics(METRICS_PREFIX);
        Ok(Self {
            nodes: Table::new(handle.clone(), NODES)?,
            fields: Table::new(handle.clone(), FIELDS)?,
            patterns: Table::new(handle.clone(), PATTERNS)?,
            guard: Guard::new(handle.clone(), GUARD, &options)?,
            ids: Ids::new(handle.clone(), IDS)?,
            counts: Counts::new(handle)?,
            guard_wait: None,
            taken_over: Cell::new(0),
        })
    }

    /// Waits at most `limit` for the guard, in every operation that takes it; for ever if this is never called.
    #[must_use]
    pub fn with_guard_wait(mut self, limit: Duration) -> Self {
        self.guard_wait = Some(limit);
        self
    }

    /// Creates a node, without the guard; its id, which no other node ever has.
    ///
    /// # Errors
    /// [`NetworkError::Physics`] when a quantity is none; [`Error::Full`].
    pub fn create_node(&self, new: NewNode) -> Result<u64, NetworkError> {
        let node = new.into_node()?;
        let id = self.ids.next()?;
        self.nodes.insert(&node_key(id), &node.into())?;
        count(&self.counts.created);
        Ok(id)
    }

    /// Removes a node with its fields, and from the patterns that it is in; how many fields went with it.
    ///
    /// # Errors
    /// [`NetworkError::UnknownNode`].
    pub fn remove_node(&self, id: u64) -> Result<usize, NetworkError> {
        let done = self.change(|changes| {
            self.require(changes, id)?;
            let fields = self.look_fields(|field| field.has(id))?;
            for field in &fields {
                changes.delete(&self.fields, &field_key(field.node_a, field.node_b))?;
            }
            for (key, stored) in self.patterns_of(id)? {
                let mut members = stored.members();
                members.retain(|member| *member != id);
                if members.len() < 2 {
                    changes.delete(&self.patterns, &key)?;
                } else {
                    let less = StoredPattern::new(&stored.ratio, stored.strength, &members)?;
                    changes.put(&self.patterns, &key, &less)?;
                }
            }
            changes.delete(&self.nodes, &node_key(id))?;
            Ok(fields.len())
        })?;
        count(&self.counts.removed);
        Ok(done)
    }

    /// Couples two nodes with `strength`, in 1/s; the strength that they had before, if they were coupled.
    ///
    /// # Errors
    /// [`NetworkError::UnknownNode`], [`NetworkError::SelfConnection`], [`physics::PhysicsError::Strength`].
    pub fn connect(&self, a: u64, b: u64, strength: f64) -> Result<Option<f64>, NetworkError> {
        physics::check_strength(strength)?;
        if a == b {
            return Err(NetworkError::SelfConnection(a));
        }
        self.change(|changes| {
            self.require(changes, a)?;
            self.require(changes, b)?;
            let key = field_key(a, b);
            let before = changes.get(&self.fields, &key)?.map(|field| field.strength);
            changes.put(&self.fields, &key, &Field::new(a, b, strength).into())?;
            Ok(before)
        })
    }

    /// Takes the field between two nodes away; its strength.
    ///
    /// # Errors
    /// [`NetworkError::NotConnected`].
    pub fn disconnect(&self, a: u64, b: u64) -> Result<f64, NetworkError> {
        self.change(|changes| {
            let key = field_key(a, b);
            let field = changes.get(&self.fields, &key)?;
            let field = field.ok_or(NetworkError::NotConnected { a, b })?;
            changes.delete(&self.fields, &key)?;
            Ok(field.strength)
        })
    }

    /// Lets a node exchange energy with its neighbours for `dt_s` seconds; the energy of all stays what it is.
    ///
    /// # Errors
    /// [`NetworkError::UnknownNode`]; [`physics::PhysicsError::Time`], [`physics::PhysicsError::TooFast`].
    pub fn resonate(&self, id: u64, dt_s: f64) -> Result<Resonated, NetworkError> {
        physics::check_time(dt_s)?;
        let done = self.change(|changes| {
            let mut near =
                Snapshot { fields: self.look_fields(|f| f.has(id))?, ..Snapshot::default() };
            near.nodes.insert(id, self.require(changes, id)?);
            for other in near.fields.iter().flat_map(|f| [f.node_a, f.node_b]) {
                if other != id {
                    near.nodes.insert(other, self.require(changes, other)?);
                }
            }
            let mut network = near.network()?;
            let source = near.nodes.range(..id).count();
            network.resonate(source, dt_s)?;
            let energy = |at: usize| network.oscillators().get(at).map_or(0.0, |o| o.energy());
            let (before, after) = (near.nodes.get(&id).map_or(0.0, Node::energy), energy(source));
            for ((id, node), moved) in near.nodes.iter_mut().zip(network.oscillators()) {
                if node.oscillator() != *moved {
                    node.set(moved);
                    changes.put(&self.nodes, &node_key(*id), &(*node).into())?;
                }
            }
            Ok(Resonated { neighbours: near.nodes.len() - 1, before, after })
        })?;
        count(&self.counts.resonances);
        Ok(done)
    }

    /// Finds the harmonic patterns among all nodes, and puts them in the place of those found before.
    ///
    /// # Errors
    /// [`physics::PhysicsError::Tolerance`]; [`NetworkError::PatternTooLarge`]; [`Error::Full`].
    pub fn detect_patterns(&self, tolerance: f64) -> Result<Vec<HarmonicPattern>, NetworkError> {
        self.change(|changes| {
            let nodes = self.look()?.nodes;
            let tone = |n: &Node| Tone { frequency_hz: n.frequency, coherence: n.coherence };
            let tones: Vec<Tone> = nodes.values().map(tone).collect();
            let ids: Vec<u64> = nodes.into_keys().collect();
            let mut before = Vec::new();
            self.patterns.scan(|key, stored| before.push((key.to_owned(), stored)))?;
            let mut found = Vec::new();
            for Pattern { ratio, strength, members } in physics::detect(&tones, tolerance)? {
                let members: Vec<u64> =
                    members.iter().filter_map(|at| ids.get(*at).copied()).collect();
                let first = members.first().copied().unwrap_or_default();
                let stored = StoredPattern::new(&ratio.to_string(), strength, &members)?;
                let key = StoredPattern::key(ratio, first);
                let known = before.iter().position(|(k, _)| *k == key);
                if known.map(|at| before.swap_remove(at).1) != Some(stored.clone()) {
                    changes.put(&self.patterns, &key, &stored)?;
                }
                found.push((&stored).into());
            }
            for (key, _) in before {
                changes.delete(&self.patterns, &key)?;
            }
            Ok(found)
        })
    }

    /// Moves time on by `dt_s` seconds for every node: phases turn and are pulled, coherences are computed anew.
    ///
    /// # Errors
    /// [`physics::PhysicsError::Time`]; [`physics::PhysicsError::TooFast`] naming the longest time that can be had.
    pub fn system_tick(&self, dt_s: f64) -> Result<Ticked, NetworkError> {
        physics::check_time(dt_s)?;
        let done = self.change(|changes| {
            let mut all = self.look()?;
            for (id, node) in &mut all.nodes {
                *node = self.require(changes, *id)?;
            }
            let order = all.tick(dt_s)?.order();
            for (id, node) in &all.nodes {
                changes.put(&self.nodes, &node_key(*id), &(*node).into())?;
            }
            Ok(Ticked { nodes: all.nodes.len(), fields: all.fields.len(), order })
        })?;
        count(&self.counts.ticks);
        Ok(done)
    }

    /// How often this participant got the guard from a holder that had died: what that one had decided was finished
    /// first.
    #[must_use]
    pub fn taken_over(&self) -> u64 {
        self.taken_over.get()
    }

    /// Does `section` while it holds the guard.
    pub(super) fn hold<R>(
        &self,
        section: impl FnOnce(&Held<'_>) -> Result<R, NetworkError>,
    ) -> Result<R, NetworkError> {
        let section = |held: &Held<'_>| {
            if held.previous() != Previous::Released {
                self.taken_over.set(self.taken_over.get() + 1);
            }
            section(held)
        };
        match self.guard_wait {
            Some(limit) => self.guard.with_within(limit, section)?,
            None => self.guard.with(section)?,
        }
    }

    /// One change of several records under the guard: what `plan` puts down happens when it says `Ok`.
    pub(super) fn change<R>(
        &self,
        plan: impl FnOnce(&mut Changes<'_>) -> Result<R, NetworkError>,
    ) -> Result<R, NetworkError> {
        self.hold(|held| {
            let mut changes = held.changes();
            let done = plan(&mut changes)?;
            changes.commit()?;
            Ok(done)
        })
    }

    /// Node `id`, or an error.
    fn require(&self, changes: &mut Changes<'_>, id: u64) -> Result<Node, NetworkError> {
        let node = changes.get(&self.nodes, &node_key(id))?;
        node.map(Node::from).ok_or(NetworkError::UnknownNode(id))
    }

    /// The patterns that node `id` is in; the caller holds the guard.
    fn patterns_of(&self, id: u64) -> Result<Vec<(String, StoredPattern)>, NetworkError> {
        let mut found = Vec::new();
        self.patterns.scan(|key, stored| {
            if stored.members().contains(&id) {
                found.push((key.to_owned(), stored));
            }
        })?;
        Ok(found)
    }
}
