//! What source and target do alike in every database.

use commonhold_core::catalogue::{Catalogue, History, TableSpec};

use crate::audit::tables::{Audited, Order};
use crate::audit::{RowSource, Stored};
use crate::chain::hex;
use crate::decode::prove;
use crate::error::StoreError;
use crate::meta::{self, Head, MetaTable};
use crate::transfer::{Importing, Receiver, Summary, TableSummary};

/// Shows a table of the database, within the transaction that is under way.
pub(crate) type Show<'a> = &'a mut dyn FnMut(&TableSpec, Look<'_>) -> Result<(), StoreError>;
/// What looks at it.
pub(crate) type Look<'a> = &'a mut dyn FnMut(&dyn Audited) -> Result<(), StoreError>;

/// See [`Transfer::export`](crate::Transfer::export).
pub(crate) fn export(
    conn: &dyn MetaTable,
    path: &str,
    receiver: &mut dyn Receiver,
    show: Show<'_>,
) -> Result<(), StoreError> {
    let catalogue = meta::catalogue(conn, path)?;
    let catalogue = catalogue.ok_or_else(|| StoreError::Unclaimed(path.to_owned()))?;
    let mut tables = Vec::with_capacity(catalogue.tables.len());
    for spec in &catalogue.tables {
        let floor = meta::number(conn, path, &format!("floor:{}", spec.name))?;
        show(spec, &mut |table| {
            if let Some(name) = table.missing()?.into_iter().next() {
                let why = "the table is missing".to_owned();
                return Err(StoreError::SchemaDiffers { path: path.to_owned(), table: name, why });
            }
            let head = table.head()?.map(|Head { count, link }| (count, hex(&link)));
            tables.push(TableSummary { rows: table.row_count()?, floor, head });
            Ok(())
        })?;
    }
    let (epoch, marks) = (meta::epoch(conn, path)?, meta::marks(conn, path)?);
    let summary = Summary { catalogue, epoch, marks, tables };
    let left_out = receiver.begin(&summary)?;
    for (at, spec) in summary.catalogue.tables.iter().enumerate() {
        let has_history = summary.tables.get(at).is_some_and(|t| t.head.is_some());
        let left_out = left_out.get(at).copied().unwrap_or(0);
        show(spec, &mut |table| {
            if has_history {
                table.read(Order::Positions, &mut |rows| {
                    each(rows, path, spec, &mut |stored| {
                        if stored.position <= left_out {
                            return Ok(());
                        }
                        receiver.version(at, &stored.row)
                    })
                })?;
            }
            table.read(Order::Current, &mut |rows| {
                each(rows, path, spec, &mut |stored| receiver.current(at, &stored.row))
            })
        })?;
    }
    Ok(())
}

/// Hands every row on, proved by its hash.
fn each(
    rows: &mut dyn RowSource,
    path: &str,
    spec: &TableSpec,
    sink: &mut dyn FnMut(&Stored) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut stored = Stored::default();
    while rows.next(&mut stored)? {
        prove(&stored, path, spec)?;
        sink(&stored)?;
    }
    Ok(())
}

/// Begins an import, or goes on with it, unless the store holds something else; the epoch that it is to have.
pub(crate) fn begin(
    conn: &dyn MetaTable,
    path: &str,
    from: &Importing,
    summary: &Summary,
    show: Show<'_>,
) -> Result<u64, StoreError> {
    match meta::importing(conn, path)? {
        Some(begun) if begun.source_id == from.source_id => {}
        Some(begun) => {
            let path = path.to_owned();
            return Err(StoreError::Incomplete { path, source_url: begun.source });
        }
        None => refuse_used(conn, path, &summary.catalogue, show)?,
    }
    meta::set_importing(conn, path, Some(from))?;
    Ok(summary.epoch.max(1))
}

/// Fails unless nothing was ever stored here.
fn refuse_used(
    conn: &dyn MetaTable,
    path: &str,
    catalogue: &Catalogue,
    show: Show<'_>,
) -> Result<(), StoreError> {
    let used = |why: String| Err(StoreError::NotEmpty { path: path.to_owned(), why });
    if let Some(owner) = meta::owner(conn, path)? {
        return used(format!("it belongs to {owner}"));
    }
    if meta::catalogue(conn, path)?.is_some() || meta::epoch(conn, path)? > 0 {
        return used("it holds the tables of a segment".to_owned());
    }
    for spec in &catalogue.tables {
        show(spec, &mut |table| {
            let missing = table.missing()?;
            let is_there = |name: &String| !missing.contains(name);
            let names = [spec.name.clone(), format!("{}_history", spec.name)];
            let names = names.iter().take(if spec.history == History::Full { 2 } else { 1 });
            match names.into_iter().find(|name| is_there(name)) {
                Some(name) => used(format!("it has a table {name} already")),
                None => Ok(()),
            }
        })?;
    }
    Ok(())
}

/// How many rows each history has.
pub(crate) fn counts(
    conn: &dyn MetaTable,
    path: &str,
    catalogue: &Catalogue,
) -> Result<Vec<u64>, StoreError> {
    let count = |spec: &TableSpec| meta::number(conn, path, &format!("count:{}", spec.name));
    catalogue.tables.iter().map(count).collect()
}

/// Ends an import: the store is whole, and belongs to nobody.
pub(crate) fn end(
    conn: &dyn MetaTable,
    path: &str,
    importer: [u8; 16],
    epoch: u64,
) -> Result<(), StoreError> {
    meta::check_owner(conn, path, importer, epoch)?;
    meta::set_owner(conn, path, None, epoch)?;
    meta::set_importing(conn, path, None)
}
