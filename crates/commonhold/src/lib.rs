//! Commonhold: shared-memory records for the processes of one machine. Lock-free updates that survive
//! `kill -9` at any instruction, and a database that proves it.
//!
//! ```
//! use commonhold::prelude::*;
//!
//! #[derive(Record, Clone, Default)]
//! struct Customer {
//!     cap: i64,
//!     used: i64,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::ephemeral().table(TableConfig::of::<Customer>("customers"));
//! let runtime = Runtime::open(config)?;
//! let customers = runtime.table::<Customer>("customers")?;
//! customers.insert("c-42", &Customer { cap: 10, used: 0 })?;
//!
//! // Many processes at once: nothing is lost, and nobody spends over the cap.
//! let commit = customers.update("c-42", |c| {
//!     if c.used + 3 > c.cap {
//!         return Err("over the cap");
//!     }
//!     c.used += 3;
//!     Ok(())
//! })?;
//! assert_eq!(commit.version(), 2);
//! commit.durable(std::time::Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub use commonhold_file as file;
pub use commonhold_runtime::core::{
    catalogue, clock, commit, error, hash, head, record, row, schema, sweep, value, wait, word,
};
pub use commonhold_runtime::*;
pub use commonhold_systems as systems;
pub use commonhold_workers as workers;

/// What most programs need.
pub mod prelude {
    pub use commonhold_runtime::core::catalogue::History;
    pub use commonhold_runtime::{
        Bytes, Change, Commit, Config, Counter, DynamicTable, Error, Handle, Ids, Json, OpenError,
        Record, Refusal, Runtime, Table, TableConfig, Text, Timestamp, UpdateError,
    };
}

/// The README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// The example of the page about metrics.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/metrics.md")]
pub struct MetricsPage;

/// The example of the page about sigils.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/sigils.md")]
pub struct SigilsPage;

/// The example of the page about workers.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/workers.md")]
pub struct WorkersPage;

/// The example of the page about jobs.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/jobs.md")]
pub struct JobsPage;

/// The example of the page about concept maps.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/concepts.md")]
pub struct ConceptsPage;
