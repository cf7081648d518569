//! Why a network was not changed.

use commonhold_runtime::Error;

use super::physics::PhysicsError;

/// A change that did not happen, or a query without an answer.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A quantity that is not one.
    #[error(transparent)]
    Physics(#[from] PhysicsError),
    /// There is no such node.
    #[error("no node {0}; it was never created, or was removed")]
    UnknownNode(u64),
    /// A node is not coupled to itself.
    #[error("node {0} cannot be connected to itself; name two nodes")]
    SelfConnection(u64),
    /// The nodes are not connected.
    #[error("nodes {a} and {b} are not connected")]
    NotConnected {
        /// One.
        a: u64,
        /// The other.
        b: u64,
    },
    /// A pattern of more members than a record holds.
    #[error(
        "a pattern of ratio {ratio} has {members} members, whose list takes {bytes} bytes of {limit}; \
         give a smaller tolerance"
    )]
    PatternTooLarge {
        /// Its ratio.
        ratio: String,
        /// How many.
        members: usize,
        /// What their list takes.
        bytes: usize,
        /// What a record holds.
        limit: usize,
    },
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] Error),
}
