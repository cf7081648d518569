//! The protocols of Commonhold on the words of a segment: cells and slots, the atomic update, the index with
//! insert and delete, waiting, participants and their death, the sweep and the drain.
//!
//! Read in this order: [`word`] and [`head`] (the two kinds of shared words), [`read`], [`commit`], then
//! [`index`], [`insert`], [`wait`], [`participant`], [`sweep`], [`drain`]; and, for
//! what is no record, [`directory`], [`ids`], [`counter`], [`marks`].

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod catalogue;
pub mod clock;
pub mod commit;
pub mod counter;
pub mod directory;
pub mod drain;
pub mod error;
pub mod fence;
pub mod flag;
pub mod guard;
pub mod handle;
pub mod hash;
pub mod head;
pub mod ids;
pub mod index;
pub mod insert;
pub mod inspect;
pub mod intent;
pub mod marks;
pub mod metrics;
pub mod participant;
pub mod pool;
pub mod queue;
pub mod read;
pub mod record;
pub mod row;
pub mod schema;
pub mod space;
pub mod stop;
pub mod sweep;
pub mod table;
pub mod value;
pub mod wait;
pub mod word;

pub use commit::Committed;
pub use error::{Error, UpdateError};
pub use handle::Handle;
pub use insert::Inserted;
pub use read::Snapshot;
pub use space::Space;
pub use table::RecordRef;
