//! Moving a whole store into another, empty one: what a store does for that ([`Transfer`]), and the copy itself
//! ([`copy`]).
//!
//! The rows go through [`Store::append`](crate::Store::append) like those of a steward: history in the order of its
//! positions, so that the target, which computes every link anew, must end with the source's links. Nothing else
//! proves that the chain was moved whole.
//!
//! **State.** `import` in the meta table of the target names the source from the first transaction to the last. While it
//! is there nobody can claim the store ([`StoreError::Incomplete`]); a second run from the same source goes on behind the
//! history that is there. Each run makes itself the owner, so that of two at once the first is fenced off. In the end
//! the store belongs to nobody; its epoch is the source's, and the next segment gets a higher one: writer ids stay
//! unique.
//!
//! **Crash.** Killed anywhere, the target has a whole prefix of each history, and says that it is incomplete.

mod copy;
pub(crate) mod rows;

use commonhold_core::catalogue::Catalogue;
use commonhold_core::row::Row;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::store::{Mark, RowCount, SegmentIdentity};

pub use copy::{Copied, CopiedTable, Progress, copy};

/// What a store holds beside its rows, and how many they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The catalogue of the last claim.
    pub catalogue: Catalogue,
    /// The epoch of the last claim.
    pub epoch: u64,
    /// The marks of every id allocator and counter.
    pub marks: Vec<Mark>,
    /// The tables, by position in the catalogue.
    pub tables: Vec<TableSummary>,
}

/// What a store holds of one table beside its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableSummary {
    /// How many rows there are.
    pub rows: RowCount,
    /// The version floor.
    pub floor: u64,
    /// Rows of the history ever written, and the link of the last in hexadecimal digits; none with latest history.
    pub head: Option<(u64, String)>,
}

/// Who takes the rows of [`Transfer::export`].
pub trait Receiver {
    /// The beginning: what there is. Gives how many rows of each history, from the first position on, are to be left
    /// out.
    ///
    /// # Errors
    /// Any; it ends the export.
    fn begin(&mut self, summary: &Summary) -> Result<Vec<u64>, StoreError>;

    /// The next row of a history, in the order of positions.
    ///
    /// # Errors
    /// Any; it ends the export.
    fn version(&mut self, table: usize, row: &Row) -> Result<(), StoreError>;

    /// The next current row of a table, in the order of keys; a table's come after its history.
    ///
    /// # Errors
    /// Any; it ends the export.
    fn current(&mut self, table: usize, row: &Row) -> Result<(), StoreError>;
}

/// Where the rows of an unfinished import come from; `import` in the meta table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Importing {
    /// The source's url, without a password.
    pub source: String,
    /// The source's identity, in hexadecimal digits.
    pub source_id: String,
}

/// What a store does for [`copy`].
pub trait Transfer {
    /// Hands everything to `receiver`, in one snapshot, each row checked against its schema and its hash.
    ///
    /// # Errors
    /// [`StoreError::Unclaimed`] when there is no catalogue yet; [`StoreError::Row`] naming a row that does not hold
    /// what was stored; the error of `receiver`; any error of the database.
    fn export(&mut self, receiver: &mut dyn Receiver) -> Result<(), StoreError>;

    /// The import that began and did not end, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn importing(&mut self) -> Result<Option<Importing>, StoreError>;

    /// Begins the import of `summary`, or goes on with it, as `importer`, who becomes the owner. Gives how many rows
    /// each history has already.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`] when something else was stored here, or a table is there that nobody stored;
    /// [`StoreError::Incomplete`] when the import of another source was not finished; any error of the database.
    fn begin_import(
        &mut self,
        importer: &SegmentIdentity,
        from: &Importing,
        summary: &Summary,
    ) -> Result<Vec<u64>, StoreError>;

    /// Ends the import: from here on the store may be claimed.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when another import has begun meanwhile; any error of the database.
    fn end_import(&mut self) -> Result<(), StoreError>;
}
