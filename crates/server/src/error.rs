//! Why the daemon cannot start, and what it could not finish when it was stopped.

use std::net::SocketAddr;
use std::path::PathBuf;

use commonhold::systems::sigils::SigilError;
use commonhold::workers::PoolError;
use commonhold::{ConfigError, Error, OpenError};

/// Why the daemon does not start, or did not end with everything done.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration's `[serve]`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An option is out of range.
    #[error("{place} is {found}; write {must}")]
    Option {
        /// Where it was said.
        place: String,
        /// What it is.
        found: String,
        /// What it may be.
        must: String,
    },
    /// Other machines could reach the daemon, and no token was asked of them.
    #[error(
        "{address} can be reached from other machines: name a file with a token (--token-file FILE), or listen on 127.0.0.1"
    )]
    TokenNeeded {
        /// The address.
        address: SocketAddr,
    },
    /// The file with the token.
    #[error("token file {}: {why}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error, and what to do.
        why: String,
    },
    /// The segment.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The segment, later on.
    #[error(transparent)]
    Core(#[from] Error),
    /// The workers.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The sigils or their jobs.
    #[error(transparent)]
    Sigils(#[from] SigilError),
    /// A thread or descriptor could not be had.
    #[error("cannot {what}: {error}")]
    System {
        /// What for.
        what: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
    /// What is committed is not wholly in the store.
    #[error(
        "stopped, but the store still lacks {versions} of the versions and counters of segment {segment}: {why}; the segment \
         holds them, `commonhold drain` tries again"
    )]
    NotStored {
        /// The segment's file.
        segment: String,
        /// How many.
        versions: u64,
        /// What the store said.
        why: String,
    },
}
