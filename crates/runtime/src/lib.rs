//! The library face of Commonhold: open a [`Runtime`] from a [`Config`], take typed or dynamic tables from it,
//! update records. One steward among all processes of a segment drains commits to the store.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod admin;
pub mod change;
pub mod config;
pub mod counter;
pub mod dynamic;
pub mod guard;
pub mod ids;
pub mod json;
pub mod metrics;
mod open;
pub mod place;
mod runtime;
#[doc(hidden)]
pub mod steward;
pub mod table;
pub mod transfer;

pub use commonhold_core as core;
pub use commonhold_store as store;

pub use commonhold_core::clock::{Clock, ClockOrder};
pub use commonhold_core::guard::Previous;
pub use commonhold_core::record::{Bytes, Json, Record, Text, Timestamp};
pub use commonhold_core::row::WriterId;
pub use commonhold_core::{Error, Handle, RecordRef, UpdateError};
pub use commonhold_derive::Record;

pub use change::{Change, Refusal};
pub use config::{Config, ConfigError, TableConfig};
pub use counter::Counter;
pub use dynamic::{Applied, DynamicTable};
pub use guard::{Changes, Guard, GuardOptions, Held};
pub use ids::Ids;
pub use metrics::{Gauge, Histogram, MetricCounter, Metrics};
pub use open::OpenError;
pub use runtime::Runtime;
pub use table::{Commit, Outcome, Table};
