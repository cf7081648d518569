//! What a copy asks of a store, whatever database it is in.

use commonhold_core::row::EPOCH_LIMIT;

use crate::chain::hex;
use crate::error::StoreError;
use crate::meta::{self, MetaTable};
use crate::store::Owner;
use crate::transfer::{Importing, Receiver, Summary, TableSummary};
use crate::view::{Order, TableView, load, proved};

/// Where the meta table names the source of an unfinished import.
const KEY: &str = "import";

/// Fails while an import is not finished.
pub(crate) fn refuse_incomplete(meta: &dyn MetaTable, path: &str) -> Result<(), StoreError> {
    match importing(meta, path)? {
        None => Ok(()),
        Some(Importing { source, .. }) => Err(incomplete(path, source)),
    }
}

fn incomplete(path: &str, source_url: String) -> StoreError {
    StoreError::Incomplete { path: path.to_owned(), source_url }
}

/// The import that began and did not end.
pub(crate) fn importing(meta: &dyn MetaTable, path: &str) -> Result<Option<Importing>, StoreError> {
    let Some(text) = meta.get(path, KEY)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|_| meta::damaged(path, KEY))
}

/// Everything of the tables of the stored catalogue.
pub(crate) fn export(
    meta: &dyn MetaTable,
    path: &str,
    tables: &[&dyn TableView],
    receiver: &mut dyn Receiver,
) -> Result<(), StoreError> {
    let catalogue = meta::catalogue(meta, path)?;
    let summary = Summary {
        catalogue: catalogue.ok_or_else(|| StoreError::Unclaimed(path.to_owned()))?,
        epoch: meta::epoch(meta, path)?,
        marks: meta::marks(meta, path)?,
        tables: tables.iter().map(|table| table_summary(*table)).collect::<Result<_, _>>()?,
    };
    let left_out = receiver.begin(&summary)?;
    for (at, table) in tables.iter().enumerate() {
        let behind = Order::Behind(left_out.get(at).copied().unwrap_or(0));
        proved(*table, behind, &mut |stored| receiver.version(at, &stored.row))?;
        load(*table, &mut |row| receiver.current(at, &row))?;
    }
    Ok(())
}

fn table_summary(table: &dyn TableView) -> Result<TableSummary, StoreError> {
    if let Some(missing) = table.missing()?.into_iter().next() {
        let why = "the table is missing".to_owned();
        return Err(StoreError::SchemaDiffers {
            path: table.path().to_owned(),
            table: missing,
            why,
        });
    }
    Ok(TableSummary {
        rows: table.row_count()?,
        floor: table.floor()?,
        head: table.head()?.map(|head| (head.count, hex(&head.link))),
    })
}

/// The epoch of an import of `summary` from `from`; fails when something else was stored here.
pub(crate) fn check_target(
    meta: &dyn MetaTable,
    path: &str,
    tables: &[&dyn TableView],
    from: &Importing,
    summary: &Summary,
) -> Result<u64, StoreError> {
    match importing(meta, path)? {
        Some(begun) if begun.source_id == from.source_id => {}
        Some(begun) => return Err(incomplete(path, begun.source)),
        None => refuse_used(meta, path, tables)?,
    }
    if summary.epoch >= EPOCH_LIMIT {
        return Err(StoreError::EpochsSpent(path.to_owned()));
    }
    Ok(summary.epoch.max(1))
}

/// Notes that the import of `from` has begun; gives how many rows each history has.
pub(crate) fn begin(
    meta: &dyn MetaTable,
    path: &str,
    tables: &[&dyn TableView],
    from: &Importing,
) -> Result<Vec<u64>, StoreError> {
    let text = serde_json::to_string(from)
        .map_err(|e| StoreError::Database { path: path.to_owned(), why: e.to_string() })?;
    meta.set(path, KEY, &text)?;
    let count = |table: &&dyn TableView| Ok(table.head()?.map_or(0, |head| head.count));
    tables.iter().map(count).collect()
}

/// Notes that the import has ended; the store belongs to nobody then.
pub(crate) fn end(meta: &dyn MetaTable, path: &str) -> Result<(), StoreError> {
    meta.remove(path, KEY)?;
    meta.remove(path, "owner")
}

/// Fails unless nothing was ever stored here.
fn refuse_used(
    meta: &dyn MetaTable,
    path: &str,
    tables: &[&dyn TableView],
) -> Result<(), StoreError> {
    let used = |why: String| Err(StoreError::NotEmpty { path: path.to_owned(), why });
    if let Some(Owner { path: owner, .. }) = meta::owner(meta, path)? {
        return used(format!("it belongs to segment {owner}"));
    }
    if meta::catalogue(meta, path)?.is_some() || meta::epoch(meta, path)? > 0 {
        return used("it holds the tables of a segment".to_owned());
    }
    for table in tables {
        let name = &table.spec().name;
        let names = [name.clone(), format!("{name}_history")];
        let missing = table.missing()?;
        let wanted =
            if table.spec().history == commonhold_core::catalogue::History::Full { 2 } else { 1 };
        if let Some(name) = names.iter().take(wanted).find(|name| !missing.contains(name)) {
            return used(format!("it has a table {name} already"));
        }
    }
    Ok(())
}
