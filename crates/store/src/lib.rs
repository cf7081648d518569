//! Where committed versions go: the [`Store`] trait, its implementations on SQLite and PostgreSQL, and the [`Audit`] that
//! proves from the rows alone that nothing was lost, doubled or changed.
//!
//! A store holds, for each table `T` of the catalogue, a table `T` with the latest row of every key and, with
//! full history, a table `T_history` with one row a version, chained by SHA-256. `docs/store-format.md` gives
//! every column and the byte recipes; `scripts/verify_history.py` recomputes both in plain Python.
//!
//! A store belongs to one segment at a time. [`Store::claim`] makes a segment the owner and raises the store's
//! epoch; every later transaction looks at owner and epoch *inside* the transaction, so that a segment whose
//! store was taken over is refused ([`StoreError::Fenced`]) instead of mixing its rows with another's.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod audit;
mod chain;
mod decode;
mod encode;
mod error;
mod foreign;
mod layout;
mod meta;
mod node;
mod null;
mod postgres;
mod sqlite;
mod store;
mod transfer;
mod url;
mod view;

pub use audit::{Audit, Check, FINDINGS_MAX, Finding, TableAudit};
pub use error::StoreError;
pub use foreign::{Accepted, Appended, Conflict, ForeignChange, Known};
pub use node::Node;
pub use null::NullStore;
pub use store::{
    Batch, Claim, HistoryRow, Mark, MarkKind, Owner, RowCount, SegmentIdentity, Stamps, Store,
    TableBatch, TakenOver, device_of, open, open_existing, open_read_only,
};
pub use transfer::{
    Copied, CopiedTable, Importing, Progress, Receiver, Summary, TableSummary, Transfer, copy,
};
pub use url::{normalise, redact};
