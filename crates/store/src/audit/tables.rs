//! Both passes over one table, whatever database it is in.

use commonhold_core::catalogue::{History, TableSpec};

use crate::audit::{
    ChainPass, Check, Expected, RowSource, Stored, TableAudit, current_alone, key_pass,
};
use crate::error::StoreError;
use crate::meta::Head;
use crate::store::RowCount;

/// The rows of a table, in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// T, by key.
    Current,
    /// `T_history`, by key and version.
    Keys,
    /// `T_history`, by position; those of one position in the order in which they were written.
    Positions,
}

/// What is done with rows while they can be read.
pub(crate) type Reading<'a> = &'a mut dyn FnMut(&mut dyn RowSource) -> Result<(), StoreError>;

/// A table within one snapshot of its database.
pub(crate) trait Audited {
    /// The tables of it that are not there; an error when one has other columns than it must.
    fn missing(&self) -> Result<Vec<String>, StoreError>;
    /// How many rows there are.
    fn row_count(&self) -> Result<RowCount, StoreError>;
    /// Where the chain stands, as the meta table says.
    fn head(&self) -> Result<Option<Head>, StoreError>;
    /// Reads rows in an order. Two readings may be under way at a time.
    fn read(&self, order: Order, with: Reading<'_>) -> Result<(), StoreError>;
}

/// Audits one table.
pub(crate) fn audit(table: &dyn Audited, spec: &TableSpec) -> Result<TableAudit, StoreError> {
    let history = match spec.history {
        History::Full => "full",
        History::Latest => "latest",
    };
    let mut audit = TableAudit::new(&spec.name, history);
    match table.missing() {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => {
            for table in missing {
                audit.find(Check::Layout, format!("{table}: the table is missing"));
            }
            return Ok(audit);
        }
        Err(StoreError::SchemaDiffers { table, why, .. }) => {
            audit.find(Check::Layout, format!("{table}: {why}"));
            return Ok(audit);
        }
        Err(e) => return Err(e),
    }
    if spec.history == History::Latest {
        table.read(Order::Current, &mut |rows| current_alone(&mut audit, rows))?;
        return Ok(audit);
    }
    chain(table, &mut audit)?;
    table.read(Order::Current, &mut |current| {
        table.read(Order::Keys, &mut |rows| key_pass(&mut audit, rows, current))
    })?;
    Ok(audit)
}

/// The chain pass over one table.
fn chain(table: &dyn Audited, audit: &mut TableAudit) -> Result<(), StoreError> {
    let head = match table.head() {
        Ok(head) => head.map(|h| Expected { count: h.count, link: h.link }),
        Err(StoreError::Corrupt { .. }) => None,
        Err(e) => return Err(e),
    };
    let mut pass = ChainPass::new(audit, head);
    table.read(Order::Positions, &mut |rows| {
        let mut stored = Stored::default();
        while rows.next(&mut stored)? {
            pass.row(&stored);
        }
        Ok(())
    })?;
    pass.finish();
    Ok(())
}
