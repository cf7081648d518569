//! The records of the three tables, and their keys.
//!
//! A node's key is its id in twelve digits, so that `dump` lists nodes by id (beyond 10^12 keys grow longer, and
//! only their order suffers). A field's key is those of its nodes, the smaller first; a pattern's is its ratio and
//! the first member that it was found with.

use std::fmt::Write;

use commonhold_runtime::core::catalogue::History;
use commonhold_runtime::{Config, Record, TableConfig, Text};
use serde::Serialize;

use super::error::NetworkError;
use super::physics::{Oscillator, PhysicsError, Ratio};

/// The table of nodes.
pub const NODES: &str = "resonance_nodes";
/// The table of fields.
pub const FIELDS: &str = "resonance_fields";
/// The table of patterns.
pub const PATTERNS: &str = "harmonic_patterns";
/// The longest list of a pattern's members, in bytes: any 1024 nodes with ids of up to seven digits fit.
pub const MEMBERS_BYTES: usize = 4096;

/// A node to be created.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewNode {
    /// In Hz, at least 0.
    pub frequency: f64,
    /// At least 0.
    pub amplitude: f64,
    /// In rad; it is brought into [0, 2π).
    pub phase: f64,
}

/// A node: one oscillator.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Node {
    /// In Hz.
    pub frequency: f64,
    /// At least 0; its square is energy.
    pub amplitude: f64,
    /// In rad, in [0, 2π).
    pub phase: f64,
    /// With its neighbours, 0 to 1, as of the last tick; 1 until then.
    pub coherence: f64,
    /// How many ticks it was in.
    pub ticks: i64,
}

/// A field: two nodes are coupled.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Field {
    /// The node with the smaller id.
    pub node_a: u64,
    /// The other.
    pub node_b: u64,
    /// In 1/s.
    pub strength: f64,
}

/// A node as it is stored. The records' types are not public, so nobody has a typed table of them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Record)]
#[record(crate = "commonhold_runtime::core")]
pub(super) struct StoredNode {
    frequency: f64,
    amplitude: f64,
    phase: f64,
    coherence: f64,
    ticks: i64,
}

/// A field as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Default, Record)]
#[record(crate = "commonhold_runtime::core")]
pub(super) struct StoredField {
    node_a: u64,
    node_b: u64,
    pub(super) strength: f64,
}

/// A pattern as it is stored.
#[derive(Debug, Clone, PartialEq, Default, Record)]
#[record(crate = "commonhold_runtime::core")]
pub(super) struct StoredPattern {
    /// Such as 3:2.
    pub(super) ratio: Text<8>,
    pub(super) strength: f64,
    pub(super) member_count: i64,
    /// Ids and runs of ids, ascending, such as `1-4,9`.
    pub(super) members: Text<MEMBERS_BYTES>,
}

/// A pattern: nodes whose frequencies stand in one ratio of small whole numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HarmonicPattern {
    /// Such as `3:2`.
    pub ratio: String,
    /// How close and coherent, 0 to 1.
    pub strength: f64,
    /// Ids, ascending.
    pub members: Vec<u64>,
}

impl Default for NewNode {
    /// 1 Hz, amplitude 1, phase 0.
    fn default() -> Self {
        Self { frequency: 1.0, amplitude: 1.0, phase: 0.0 }
    }
}

/// The key of node `id`.
#[must_use]
pub fn node_key(id: u64) -> String {
    format!("{id:012}")
}

/// The id in a node's key; none in a key that is no node's.
pub(super) fn node_id(key: &str) -> Option<u64> {
    key.parse().ok().filter(|id| node_key(*id) == key)
}

/// The key of the field between two nodes.
pub(super) fn field_key(a: u64, b: u64) -> String {
    format!("{}-{}", node_key(a.min(b)), node_key(a.max(b)))
}

/// The configurations of the three tables: of each record the latest version is stored.
#[must_use]
pub fn table_configs() -> [TableConfig; 3] {
    [
        TableConfig::of::<StoredNode>(NODES),
        TableConfig::of::<StoredField>(FIELDS).slots(4096),
        TableConfig::of::<StoredPattern>(PATTERNS),
    ]
    .map(|table| table.history(History::Latest))
}

/// Adds the three tables to a configuration.
#[must_use]
pub fn with_resonance(config: Config) -> Config {
    table_configs().into_iter().fold(config, Config::table)
}

impl NewNode {
    pub(super) fn into_node(self) -> Result<Node, PhysicsError> {
        let o = Oscillator::new(self.frequency, self.amplitude, self.phase)?;
        let (frequency, amplitude, phase) = (o.frequency_hz, o.amplitude, o.phase);
        Ok(Node { frequency, amplitude, phase, coherence: 1.0, ticks: 0 })
    }
}

impl Node {
    /// The node as an oscillator.
    #[must_use]
    pub fn oscillator(&self) -> Oscillator {
        let Self { frequency, amplitude, phase, .. } = *self;
        Oscillator { frequency_hz: frequency, amplitude, phase }
    }

    /// `A² / 2`.
    #[must_use]
    pub fn energy(&self) -> f64 {
        self.oscillator().energy()
    }

    /// Takes over what physics changes.
    pub(super) fn set(&mut self, to: &Oscillator) {
        (self.amplitude, self.phase) = (to.amplitude, to.phase);
    }
}

impl Field {
    pub(super) fn new(a: u64, b: u64, strength: f64) -> Self {
        // Adding zero makes -0 to 0.
        Self { node_a: a.min(b), node_b: a.max(b), strength: strength + 0.0 }
    }

    /// Whether it is one of `id`'s.
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        self.node_a == id || self.node_b == id
    }
}

impl StoredPattern {
    pub(super) fn new(ratio: &str, strength: f64, members: &[u64]) -> Result<Self, NetworkError> {
        let list = runs(members);
        let too_large = |_| NetworkError::PatternTooLarge {
            ratio: ratio.to_owned(),
            members: members.len(),
            bytes: list.len(),
            limit: MEMBERS_BYTES,
        };
        Ok(Self {
            ratio: Text::new(ratio).map_err(too_large)?,
            strength: strength + 0.0,
            member_count: members.len() as i64,
            members: Text::new(&list).map_err(too_large)?,
        })
    }

    pub(super) fn key(ratio: Ratio, first: u64) -> String {
        format!("{ratio}/{}", node_key(first))
    }

    pub(super) fn members(&self) -> Vec<u64> {
        let ends = |run: &str| -> Option<(u64, u64)> {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        // A damaged run names no more ids than there can be.
        let count = usize::try_from(self.member_count).unwrap_or(0);
        let runs = self.members.split(',').filter_map(ends);
        runs.flat_map(|(first, last)| first..=last).take(count).collect()
    }
}

impl From<StoredNode> for Node {
    fn from(stored: StoredNode) -> Self {
        let StoredNode { frequency, amplitude, phase, coherence, ticks } = stored;
        Self { frequency, amplitude, phase, coherence, ticks }
    }
}

impl From<Node> for StoredNode {
    fn from(node: Node) -> Self {
        let Node { frequency, amplitude, phase, coherence, ticks } = node;
        Self { frequency, amplitude, phase, coherence, ticks }
    }
}

impl From<StoredField> for Field {
    fn from(stored: StoredField) -> Self {
        let StoredField { node_a, node_b, strength } = stored;
        Self { node_a, node_b, strength }
    }
}

impl From<Field> for StoredField {
    fn from(field: Field) -> Self {
        let Field { node_a, node_b, strength } = field;
        Self { node_a, node_b, strength }
    }
}

impl From<&StoredPattern> for HarmonicPattern {
    fn from(stored: &StoredPattern) -> Self {
        let (ratio, members) = (stored.ratio.to_string(), stored.members());
        Self { ratio, strength: stored.strength, members }
    }
}

/// Ascending ids as text, runs in short: `1-4,9`.
fn runs(ids: &[u64]) -> String {
    let mut text = String::new();
    for run in ids.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = match run.len() {
            1 => write!(text, "{comma}{first}"),
            2 => write!(text, "{comma}{first},{last}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_nodes_own_key_is_one() {
        assert_eq!(
            (node_id("000000000001"), node_id(&node_key(u64::MAX))),
            (Some(1), Some(u64::MAX))
        );
        for other in ["1", "00000001", "+00000000001", "0000000000001", "a", ""] {
            assert_eq!(node_id(other), None, "{other}");
        }
    }

    #[test]
    fn members_come_back() {
        let odd: Vec<u64> = (0..512).map(|n| 9_000_001 + 2 * n).collect();
        let all: Vec<u64> = (1..=1024).collect();
        let cases = [&[7][..], &[1, 2], &[1, 2, 3, 5, 8, 9], &odd, &all, &[u64::MAX - 1, u64::MAX]];
        for members in cases {
            let stored = StoredPattern::new("1:1", 0.5, members).unwrap();
            assert_eq!(stored.members(), members, "{}", stored.members);
        }
        assert_eq!(runs(&[1, 2, 3, 4, 9, 11, 12]), "1-4,9,11,12");
        let scattered: Vec<u64> = (0..1000).map(|n| 3 * n + 1000).collect();
        let refused = StoredPattern::new("1:1", 0.5, &scattered).unwrap_err().to_string();
        assert!(refused.contains("1000 members") && refused.contains("tolerance"), "{refused}");
    }

    #[test]
    fn keys_sort_as_ids_do() {
        let keys = [1, 9, 10, 99_999, 123_456_789_012].map(node_key);
        assert!(keys.is_sorted());
        assert_eq!(keys.map(|k| node_id(&k)), [1, 9, 10, 99_999, 123_456_789_012].map(Some));
        assert_eq!(field_key(12, 3), "000000000003-000000000012");
    }
}
