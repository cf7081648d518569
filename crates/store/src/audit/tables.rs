//! Both passes over one table.

use commonhold_core::catalogue::History;

use crate::audit::{ChainPass, Check, Expected, Stored, TableAudit, current_alone, key_pass};
use crate::error::StoreError;
use crate::view::{Order, TableView};

/// Audits one table.
pub(crate) fn audit(table: &dyn TableView) -> Result<TableAudit, StoreError> {
    let spec = table.spec();
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
fn chain(table: &dyn TableView, audit: &mut TableAudit) -> Result<(), StoreError> {
    let head = match table.head() {
        Ok(head) => head.map(|h| Expected { count: h.count, link: h.link }),
        Err(StoreError::Corrupt { .. }) => None,
        Err(e) => return Err(e),
    };
    let mut pass = ChainPass::new(audit, head);
    table.read(Order::Behind(0), &mut |rows| {
        let mut stored = Stored::default();
        while rows.next(&mut stored)? {
            pass.row(&stored);
        }
        Ok(())
    })?;
    pass.finish();
    Ok(())
}
