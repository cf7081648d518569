//! A SQLite file as the source and as the target of a copy.

use rusqlite::{Connection, TransactionBehavior};

use crate::audit::{RowSource, Stored};
use crate::chain::hex;
use crate::error::StoreError;
use crate::sqlite::connection::of;
use crate::sqlite::plan::Plan;
use crate::sqlite::read::{self, Reader};
use crate::sqlite::{Attached, Session, SqliteStore, check_owner, meta, plans, scan, take};
use crate::store::{Owner, SegmentIdentity};
use crate::transfer::{Importing, Receiver, Summary, TableSummary, Transfer};

/// Where the meta table names the source of an unfinished import.
const KEY: &str = "import";

impl Transfer for SqliteStore {
    fn export(&mut self, receiver: &mut dyn Receiver) -> Result<(), StoreError> {
        self.with(|s| s.snapshot(|conn, path| export(conn, path, receiver)))
    }

    fn importing(&mut self) -> Result<Option<Importing>, StoreError> {
        self.with(|s| importing(s.conn, s.path))
    }

    fn begin_import(
        &mut self,
        importer: &SegmentIdentity,
        from: &Importing,
        summary: &Summary,
    ) -> Result<Vec<u64>, StoreError> {
        self.with(|s| s.begin_import(importer, from, summary))
    }

    fn end_import(&mut self) -> Result<(), StoreError> {
        self.with(|s| s.end_import())
    }
}

/// Fails while an import is not finished.
pub(super) fn refuse_incomplete(conn: &Connection, path: &str) -> Result<(), StoreError> {
    match importing(conn, path)? {
        None => Ok(()),
        Some(Importing { source, .. }) => Err(incomplete(path, source)),
    }
}

fn incomplete(path: &str, source_url: String) -> StoreError {
    StoreError::Incomplete { path: path.to_owned(), source_url }
}

fn importing(conn: &Connection, path: &str) -> Result<Option<Importing>, StoreError> {
    let Some(text) = meta::get(conn, path, KEY)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|_| meta::damaged(path, KEY))
}

/// Everything, by the stored catalogue.
fn export(conn: &Connection, path: &str, receiver: &mut dyn Receiver) -> Result<(), StoreError> {
    let catalogue = meta::catalogue(conn, path)?;
    let catalogue = catalogue.ok_or_else(|| StoreError::Unclaimed(path.to_owned()))?;
    let plans = plans(&catalogue);
    let tables = plans.iter().map(|plan| table_summary(conn, path, plan)).collect::<Result<_, _>>();
    let summary = Summary {
        catalogue,
        epoch: meta::epoch(conn, path)?,
        marks: meta::marks(conn, path)?,
        tables: tables?,
    };
    let left_out = receiver.begin(&summary)?;
    for (table, plan) in plans.iter().enumerate() {
        if plan.full {
            let left_out = left_out.get(table).copied().unwrap_or(0);
            export_history(conn, path, plan, left_out, &mut |row| receiver.version(table, row))?;
        }
        read::load(conn, path, plan, &mut |row| receiver.current(table, &row))?;
    }
    Ok(())
}

fn table_summary(conn: &Connection, path: &str, plan: &Plan) -> Result<TableSummary, StoreError> {
    if let Some(table) = plan.missing(conn, path)?.into_iter().next() {
        let why = "the table is missing".to_owned();
        return Err(StoreError::SchemaDiffers { path: path.to_owned(), table, why });
    }
    let head = meta::head(conn, path, &plan.count_key, &plan.link_key)?;
    Ok(TableSummary {
        rows: scan::row_count(conn, path, plan)?,
        floor: meta::number(conn, path, &plan.floor_key)?,
        head: head.map(|head| (head.count, hex(&head.link))),
    })
}

/// The history behind position `after`, in the order of writing, each row proved by its hash.
fn export_history(
    conn: &Connection,
    path: &str,
    plan: &Plan,
    after: u64,
    sink: &mut dyn FnMut(&commonhold_core::row::Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let order = scan::history_order(conn, path, plan)?;
    let sql = format!("{} WHERE \"_position\" > ?1 ORDER BY {order}", plan.select_history);
    let mut select = conn.prepare(&sql).map_err(|e| of(path, e))?;
    let rows = select.query([after.cast_signed()]).map_err(|e| of(path, e))?;
    let mut reader = Reader::new(rows, plan, path, true);
    let mut stored = Stored::default();
    while reader.next(&mut stored)? {
        read::prove(&mut stored, path, plan)?;
        sink(&stored.row)?;
    }
    Ok(())
}

impl Session<'_> {
    fn begin_import(
        &mut self,
        importer: &SegmentIdentity,
        from: &Importing,
        summary: &Summary,
    ) -> Result<Vec<u64>, StoreError> {
        let (path, plans) = (self.path, plans(&summary.catalogue));
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| of(path, e))?;
        match importing(&tx, path)? {
            Some(begun) if begun.source_id == from.source_id => {}
            Some(begun) => return Err(incomplete(path, begun.source)),
            None => refuse_used(&tx, path, &plans)?,
        }
        let epoch = summary.epoch.max(1);
        take(&tx, path, importer, &summary.catalogue, &plans, epoch, self.scratch)?;
        let text = serde_json::to_string(from)
            .map_err(|e| StoreError::Database { path: path.to_owned(), why: e.to_string() })?;
        meta::set(&tx, path, KEY, &text)?;
        let count = |plan: &Plan| {
            let head = meta::head(&tx, path, &plan.count_key, &plan.link_key)?;
            Ok(head.map_or(0, |head| head.count))
        };
        let counts = plans.iter().map(count).collect::<Result<_, _>>()?;
        tx.commit().map_err(|e| of(path, e))?;
        *self.attached = Some(Attached { uuid: importer.uuid, epoch, plans });
        Ok(counts)
    }

    fn end_import(&mut self) -> Result<(), StoreError> {
        let path = self.path;
        let Some(attached) = self.attached.take() else {
            return Err(StoreError::NotAttached(path.to_owned()));
        };
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| of(path, e))?;
        check_owner(&tx, path, &attached)?;
        meta::remove(&tx, path, KEY)?;
        meta::remove(&tx, path, "owner")?;
        tx.commit().map_err(|e| of(path, e))
    }
}

/// Fails unless nothing was ever stored here.
fn refuse_used(conn: &Connection, path: &str, plans: &[Plan]) -> Result<(), StoreError> {
    let used = |why: String| Err(StoreError::NotEmpty { path: path.to_owned(), why });
    if let Some(Owner { path: owner, .. }) = meta::owner(conn, path)? {
        return used(format!("it belongs to segment {owner}"));
    }
    if meta::catalogue(conn, path)?.is_some() || meta::epoch(conn, path)? > 0 {
        return used("it holds the tables of a segment".to_owned());
    }
    for plan in plans {
        let names = [plan.spec.name.clone(), plan.history_name()];
        let missing = plan.missing(conn, path)?;
        let there = |name: &&String| !missing.contains(name);
        let wanted = names.iter().take(if plan.full { 2 } else { 1 });
        if let Some(name) = wanted.clone().find(there) {
            return used(format!("it has a table {name} already"));
        }
    }
    Ok(())
}
