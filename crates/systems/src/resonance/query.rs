//! Queries: the whole network as of one instant, and figures of it.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use commonhold_runtime::Handle;
use serde::Serialize;

use super::error::NetworkError;
use super::networks::ResonanceNetworks;
use super::physics::{Coupling, Network};
use super::records::{Field, HarmonicPattern, Node, node_id, node_key};

/// Nodes, fields and patterns that belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// The nodes by id.
    pub nodes: BTreeMap<u64, Node>,
    /// The fields, by their nodes' ids.
    pub fields: Vec<Field>,
    /// The patterns that the last detection found; removed nodes are no longer in them.
    pub patterns: Vec<HarmonicPattern>,
}

/// Figures of a network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many nodes.
    pub nodes: usize,
    /// How many fields.
    pub fields: usize,
    /// How many patterns.
    pub patterns: usize,
    /// The energy of all nodes.
    pub energy: f64,
    /// Kuramoto's order parameter: 1 when all nodes are in phase.
    pub order: f64,
    /// The mean of the nodes' coherences.
    pub coherence: f64,
}

impl Snapshot {
    /// The network as physics sees it; its oscillators stand in the order of [`Snapshot::nodes`].
    ///
    /// # Errors
    /// [`NetworkError::UnknownNode`] when a field names a node that is not there: no correct process leaves one.
    pub fn network(&self) -> Result<Network, NetworkError> {
        let positions: BTreeMap<u64, usize> =
            self.nodes.keys().enumerate().map(|(at, id)| (*id, at)).collect();
        let find = |id: u64| positions.get(&id).copied().ok_or(NetworkError::UnknownNode(id));
        let coupling = |f: &Field| {
            let (a, b) = (find(f.node_a)?, find(f.node_b)?);
            Ok::<_, NetworkError>(Coupling { a, b, strength: f.strength })
        };
        let couplings = self.fields.iter().map(coupling).collect::<Result<_, _>>()?;
        let oscillators = self.nodes.values().map(Node::oscillator).collect();
        Ok(Network::new(oscillators, couplings)?)
    }

    /// Moves time on by `dt_s` seconds for every node; the network as it is then.
    ///
    /// # Errors
    /// Those of [`Snapshot::network`] and [`Network::tick`].
    pub fn tick(&mut self, dt_s: f64) -> Result<Network, NetworkError> {
        let mut network = self.network()?;
        network.tick(dt_s)?;
        let moved = network.oscillators().iter().zip(network.coherences());
        for (node, (moved, coherence)) in self.nodes.values_mut().zip(moved) {
            node.set(moved);
            (node.coherence, node.ticks) = (coherence, node.ticks.saturating_add(1));
        }
        Ok(network)
    }

    /// Figures of the whole.
    ///
    /// # Errors
    /// Those of [`Snapshot::network`].
    pub fn summary(&self) -> Result<Summary, NetworkError> {
        let network = self.network()?;
        let nodes = self.nodes.len();
        let coherence: f64 = self.nodes.values().map(|n| n.coherence).sum();
        Ok(Summary {
            nodes,
            fields: self.fields.len(),
            patterns: self.patterns.len(),
            energy: network.energy(),
            order: network.order(),
            coherence: coherence / nodes.max(1) as f64,
        })
    }
}

impl<H: Borrow<Handle> + Clone> ResonanceNetworks<H> {
    /// Node `id`, without the guard.
    ///
    /// # Errors
    /// [`NetworkError::UnknownNode`].
    pub fn node(&self, id: u64) -> Result<Node, NetworkError> {
        let node = self.nodes.get(&node_key(id))?;
        node.map(Node::from).ok_or(NetworkError::UnknownNode(id))
    }

    /// All there is, as of one instant, under the guard.
    ///
    /// # Errors
    /// [`NetworkError::Runtime`].
    pub fn snapshot(&self) -> Result<Snapshot, NetworkError> {
        self.hold(|_| {
            let mut patterns = Vec::new();
            self.patterns.scan(|key, stored| patterns.push((key.to_owned(), stored)))?;
            patterns.sort_by(|(a, _), (b, _)| a.cmp(b));
            let patterns = patterns.iter().map(|(_, stored)| stored.into()).collect();
            Ok(Snapshot { patterns, ..self.look()? })
        })
    }

    /// Node `id` and its fields, as of one instant, under the guard.
    ///
    /// # Errors
    /// [`NetworkError::UnknownNode`].
    pub fn node_and_fields(&self, id: u64) -> Result<(Node, Vec<Field>), NetworkError> {
        self.hold(|_| Ok((self.node(id)?, self.look_fields(|field| field.has(id))?)))
    }

    /// Nodes and fields; the caller holds the guard.
    pub(super) fn look(&self) -> Result<Snapshot, NetworkError> {
        // Fields first: a node that is created meanwhile has none.
        let fields = self.look_fields(|_| true)?;
        let mut nodes = BTreeMap::new();
        self.nodes.scan(|key, node| {
            if let Some(id) = node_id(key) {
                nodes.insert(id, node.into());
            }
        })?;
        Ok(Snapshot { nodes, fields, patterns: Vec::new() })
    }

    /// The fields that `which` holds of; the caller holds the guard.
    pub(super) fn look_fields(
        &self,
        which: impl Fn(&Field) -> bool,
    ) -> Result<Vec<Field>, NetworkError> {
        let mut fields = Vec::new();
        self.fields.scan(|_, stored| {
            let field = stored.into();
            if which(&field) {
                fields.push(field);
            }
        })?;
        fields.sort_by_key(|f| (f.node_a, f.node_b));
        Ok(fields)
    }
}
