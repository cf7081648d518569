//! One table within one snapshot, whatever database it is in: what loading, audits and exports read.

use commonhold_core::catalogue::TableSpec;
use commonhold_core::row::Row;

use crate::audit::{RowSource, Stored};
use crate::chain::hex;
use crate::decode::prove;
use crate::error::StoreError;
use crate::meta::Head;
use crate::store::{HistoryRow, RowCount};

/// Rows of a table, in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order<'a> {
    /// T, by key.
    Current,
    /// `T_history`, by key and version.
    Keys,
    /// `T_history` behind a position, by position; those of one position in the order in which they were written.
    Behind(u64),
    /// `T_history` of one key, by version.
    Of(&'a str),
}

/// What is done with rows while they can be read.
pub(crate) type Reading<'a> = &'a mut dyn FnMut(&mut dyn RowSource) -> Result<(), StoreError>;

/// A table within one snapshot of its database.
pub(crate) trait TableView {
    /// The store, for messages.
    fn path(&self) -> &str;
    /// The table as its catalogue has it.
    fn spec(&self) -> &TableSpec;
    /// The tables of it that are not there; an error when one has other columns than it must.
    fn missing(&self) -> Result<Vec<String>, StoreError>;
    /// The version floor.
    fn floor(&self) -> Result<u64, StoreError>;
    /// Where the chain stands, as the meta table says; none when there never was a history.
    fn head(&self) -> Result<Option<Head>, StoreError>;
    /// How many rows there are.
    fn row_count(&self) -> Result<RowCount, StoreError>;
    /// Reads rows in an order. Two readings may be under way at a time.
    fn read(&self, order: Order<'_>, with: Reading<'_>) -> Result<(), StoreError>;
}

/// Hands rows to `sink`, each proved by its hash.
pub(crate) fn proved(
    table: &dyn TableView,
    order: Order<'_>,
    sink: &mut dyn FnMut(&Stored) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    table.read(order, &mut |rows| {
        let mut stored = Stored::default();
        while rows.next(&mut stored)? {
            prove(&stored, table.path(), table.spec())?;
            sink(&stored)?;
        }
        Ok(())
    })
}

/// Every row of T in the order of the keys, each proved by its hash.
pub(crate) fn load(
    table: &dyn TableView,
    sink: &mut dyn FnMut(Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    proved(table, Order::Current, &mut |stored| sink(stored.row.clone()))
}

/// Every row of `T_history` of one key in the order of the versions, each proved by its hash.
pub(crate) fn history(
    table: &dyn TableView,
    key: &str,
    sink: &mut dyn FnMut(HistoryRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    proved(table, Order::Of(key), &mut |stored| {
        let link = hex(&stored.link.unwrap_or_default());
        sink(HistoryRow { row: stored.row.clone(), position: stored.position, link })
    })
}
