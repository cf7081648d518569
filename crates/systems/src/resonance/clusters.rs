//! Ticks of a network in workers, dispatched by a [`Scheduler`](commonhold_workers::Scheduler).
//!
//! What the scheduler ticks is a *cluster*: a node with all that fields join to it, directly or over others. A node
//! without fields is one by itself. Phases of one cluster pull at each other, so they move together or not at all;
//! clusters do not know of each other, so each can move by itself. A cluster's name is the key of its first node.
//!
//! A worker gets the cluster's nodes and fields, and does to them what [`ResonanceNetworks::system_tick`] does to the
//! whole ([`Snapshot::tick`]). What comes back is committed under the guard, as one change of all its nodes, if nodes
//! and fields are still those that were sent, by their versions. So a tick reaches all nodes of a cluster or none, and
//! what others do to the network meanwhile is never overwritten.
//!
//! Beside ticks of the whole: the rate that sets the substeps is the cluster's own, so a cluster is not computed more
//! finely because of another one. Phases agree within the accuracy of the substeps, and exactly when at most one cluster
//! has fields.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use commonhold_runtime::core::schema::{Decoder, Encoder};
use commonhold_runtime::{Changes, Error, Handle, Record, Runtime};
use commonhold_workers::{Kind, Loaded, Source, SourceError};

use super::error::NetworkError;
use super::networks::ResonanceNetworks;
use super::physics::check_time;
use super::query::Snapshot;
use super::records::{Field, Node, StoredField, StoredNode, node_id, node_key};

/// The kind of a cluster's tick.
pub const TICK: &str = "resonance_tick";

/// How long the scheduler's thread waits for the guard, if nothing else is said.
const GUARD_WAIT: Duration = Duration::from_secs(1);

/// The clusters of a segment's networks, as a scheduler ticks them.
#[derive(Debug)]
pub struct Clusters {
    handle: Handle,
    guard_wait: Duration,
}

/// The kind [`TICK`], to be registered with the pool and in its workers.
#[must_use]
pub fn tick_kind() -> Kind {
    let network = |state: &[u8]| {
        decode(state).map_err(|e| format!("the state is no cluster: {e}")).and_then(|cluster| {
            cluster.network().map_err(|e| e.to_string())?;
            Ok(cluster)
        })
    };
    Kind::tick(
        TICK,
        move |tick| {
            check_time(tick.step.as_secs_f64()).map_err(|e| e.to_string())?;
            network(tick.state).map(drop)
        },
        move |_, tick| {
            let mut cluster = network(tick.state)?;
            cluster.tick(tick.step.as_secs_f64()).map_err(|e| e.to_string())?;
            cluster.fields.clear();
            encode(&cluster).map_err(|e| e.to_string())
        },
    )
}

/// Nodes, then fields; each list after its length.
fn encode(cluster: &Snapshot) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let mut out = Encoder::new(&mut bytes);
    out.i64(cluster.nodes.len() as i64);
    for (id, node) in &cluster.nodes {
        out.u64(*id)?;
        StoredNode::from(*node).encode(&mut out)?;
    }
    out.i64(cluster.fields.len() as i64);
    for field in &cluster.fields {
        StoredField::from(*field).encode(&mut out)?;
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Snapshot, SourceError> {
    let (mut input, mut cluster) = (Decoder::new(bytes), Snapshot::default());
    for _ in 0..input.i64()? {
        let id = input.u64()?;
        cluster.nodes.insert(id, StoredNode::decode(&mut input)?.into());
    }
    for _ in 0..input.i64()? {
        cluster.fields.push(StoredField::decode(&mut input)?.into());
    }
    input.finish()?;
    Ok(cluster)
}

/// Versions of one set of records never fall, so their sum is the same only while each is.
fn loaded(cluster: &Snapshot, versions: u64) -> Result<Loaded, SourceError> {
    Ok(Loaded { version: versions, state: encode(cluster)? })
}

/// Fields with their versions, by both of their nodes.
#[derive(Default)]
struct Joins {
    fields: Vec<(u64, Field)>,
    at: BTreeMap<u64, Vec<usize>>,
}

impl Joins {
    fn add(&mut self, version: u64, field: Field) {
        for end in [field.node_a, field.node_b] {
            self.at.entry(end).or_default().push(self.fields.len());
        }
        self.fields.push((version, field));
    }

    fn of(&self, node: u64) -> impl Iterator<Item = (usize, &(u64, Field))> {
        let at = self.at.get(&node).map_or(&[][..], Vec::as_slice);
        at.iter().filter_map(|at| Some((*at, self.fields.get(*at)?)))
    }

    /// The cluster of `node`: its nodes, and where its fields stand.
    fn cluster(&self, node: u64) -> (BTreeSet<u64>, BTreeSet<usize>) {
        let (mut nodes, mut fields) = (BTreeSet::from([node]), BTreeSet::new());
        let mut new = vec![node];
        while let Some(node) = new.pop() {
            for (at, (_, field)) in self.of(node) {
                fields.insert(at);
                new.extend(
                    [field.node_a, field.node_b].into_iter().filter(|end| nodes.insert(*end)),
                );
            }
        }
        (nodes, fields)
    }

    /// The cluster of `node`, with the sum of versions; `nodes` gives those of nodes. `None`: a node is not there.
    fn gather<E>(
        &self,
        node: u64,
        mut nodes: impl FnMut(u64) -> Result<Option<(u64, Node)>, E>,
    ) -> Result<Option<(Snapshot, u64)>, E> {
        let (ids, fields) = self.cluster(node);
        let (mut cluster, mut versions) = (Snapshot::default(), 0u64);
        for id in ids {
            let Some((version, node)) = nodes(id)? else { return Ok(None) };
            versions = versions.wrapping_add(version);
            cluster.nodes.insert(id, node);
        }
        for (version, field) in fields.into_iter().filter_map(|at| self.fields.get(at)) {
            versions = versions.wrapping_add(*version);
            cluster.fields.push(*field);
        }
        cluster.fields.sort_by_key(|f| (f.node_a, f.node_b));
        Ok(Some((cluster, versions)))
    }
}

impl Clusters {
    /// The clusters of the segment that `runtime` opened, through a participant of their own.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Participants`].
    pub fn open(runtime: &Runtime) -> Result<Self, Error> {
        let clusters = Self { handle: runtime.handle()?, guard_wait: GUARD_WAIT };
        clusters.networks()?;
        Ok(clusters)
    }

    /// Waits at most `limit` for the guard; then the tick fails. One second if this is never called: the scheduler
    /// waits meanwhile.
    #[must_use]
    pub fn with_guard_wait(mut self, limit: Duration) -> Self {
        self.guard_wait = limit;
        self
    }

    fn networks(&self) -> Result<ResonanceNetworks<&Handle>, Error> {
        Ok(ResonanceNetworks::new(&self.handle)?.with_guard_wait(self.guard_wait))
    }
}

impl ResonanceNetworks<&Handle> {
    /// All fields; the caller holds the guard.
    fn joins(&self) -> Result<Joins, Error> {
        let mut joins = Joins::default();
        self.fields.scan_versions(|_, version, field| joins.add(version, field.into()))?;
        Ok(joins)
    }

    /// Node `id` and its version. To be looked at under the guard makes a new version of a node that never was.
    fn look_at(&self, changes: &mut Changes<'_>, id: u64) -> Result<Option<(u64, Node)>, Error> {
        let key = node_key(id);
        let version = changes.version(&self.nodes, &key)?;
        Ok(version.zip(changes.get(&self.nodes, &key)?.map(Node::from)))
    }

    /// The cluster whose first node is `first`, each record looked at.
    fn cluster(
        &self,
        changes: &mut Changes<'_>,
        first: u64,
    ) -> Result<Option<(Snapshot, u64)>, NetworkError> {
        let found = self.joins()?.gather(first, |id| self.look_at(changes, id))?;
        Ok(found.filter(|(cluster, _)| cluster.nodes.keys().next() == Some(&first)))
    }
}

impl Source for Clusters {
    fn load(&mut self) -> Result<Vec<(String, Loaded)>, SourceError> {
        let networks = self.networks()?;
        let (joins, nodes) = networks.hold(|held| {
            // Fields first: a node that is created meanwhile has none.
            let (joins, mut ids) = (networks.joins()?, Vec::new());
            networks.nodes.scan(|key, _| ids.extend(node_id(key)))?;
            let (mut changes, mut nodes) = (held.changes(), BTreeMap::new());
            for id in ids {
                nodes.extend(networks.look_at(&mut changes, id)?.map(|node| (id, node)));
            }
            Ok((joins, nodes))
        })?;
        let (mut clusters, mut done) = (Vec::new(), BTreeSet::new());
        for first in nodes.keys() {
            if done.contains(first) {
                continue;
            }
            let get = |id: u64| nodes.get(&id).copied().ok_or(NetworkError::UnknownNode(id));
            let Some((cluster, versions)) = joins.gather(*first, |id| get(id).map(Some))? else {
                continue;
            };
            done.extend(cluster.nodes.keys().copied());
            clusters.push((node_key(*first), loaded(&cluster, versions)?));
        }
        Ok(clusters)
    }

    fn reload(&mut self, name: &str) -> Result<Option<Loaded>, SourceError> {
        let Some(first) = node_id(name) else { return Ok(None) };
        let networks = self.networks()?;
        let found = networks.hold(|held| networks.cluster(&mut held.changes(), first))?;
        found.map(|(cluster, versions)| loaded(&cluster, versions)).transpose()
    }

    fn commit(&mut self, name: &str, sent: &Loaded, next: &[u8]) -> Result<bool, SourceError> {
        let (Some(first), moved) = (node_id(name), decode(next)?) else { return Ok(false) };
        let networks = self.networks()?;
        let sent_nodes = decode(&sent.state)?.nodes;
        if !moved.nodes.keys().eq(sent_nodes.keys()) {
            return Err("the tick gave other nodes than it got".into());
        }
        let committed = networks.hold(|held| {
            let mut changes = held.changes();
            let Some((cluster, versions)) = networks.cluster(&mut changes, first)? else {
                return Ok(false);
            };
            // The same records, by their sum of versions unchanged.
            let same = versions == sent.version;
            if !same || encode(&cluster).ok().as_ref() != Some(&sent.state) {
                return Ok(false);
            }
            for (id, node) in &moved.nodes {
                changes.put(&networks.nodes, &node_key(*id), &(*node).into())?;
            }
            changes.commit()?;
            Ok(true)
        })?;
        Ok(committed)
    }
}
