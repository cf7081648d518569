//! Resonance networks: oscillators and the couplings between them, held in common by many processes.
//!
//! Three tables: `resonance_nodes` (frequency, amplitude, phase, coherence), `resonance_fields` (two nodes and the
//! strength that couples them), `harmonic_patterns` (ratio, strength, members). [`physics`] says what a tick and a
//! resonance compute, in which units.
//!
//! **Every change is protected, and there is no other way in**: the tables are not handed out.
//! - [`ResonanceNetworks::create_node`] is one lock-free insert under an id that was never given out before.
//! - Everything that touches several records is one change under the guard [`GUARD`]: all of it happens or nothing,
//!   and who holds the guard never sees a part of it, whoever is killed when.
//!
//! **What readers see**: [`ResonanceNetworks::snapshot`] takes the guard, so what it gives belongs together (a node
//! that is just being created is in it or not). [`ResonanceNetworks::node`] reads one record without the guard:
//! a whole version of it, while a change over several is possibly half done elsewhere.
//!
//! **Crash**: an id that was taken and not used is lost, nothing else. A change whose intent was written is finished
//! by the next holder of the guard or the steward; before that it never happened.

mod clusters;
mod error;
mod networks;
pub mod physics;
mod query;
mod records;
#[cfg(test)]
mod tests;

pub use clusters::{Clusters, TICK, tick_kind};
pub use error::NetworkError;
pub use networks::{GUARD, IDS, METRICS_PREFIX, ResonanceNetworks, Resonated, Ticked};
pub use query::{Snapshot, Summary};
pub use records::{
    FIELDS, Field, HarmonicPattern, MEMBERS_BYTES, NODES, NewNode, Node, PATTERNS, node_key,
    table_configs, with_resonance,
};
