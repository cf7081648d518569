//! Looking over whole tables: counts, a writer's last sequence, and the rows for the audit.

use std::collections::BTreeMap;

use commonhold_core::catalogue::TableSpec;
use commonhold_core::row::WriterId;
use rusqlite::Connection;

use crate::audit::{Audit, tables};
use crate::error::StoreError;
use crate::meta::Head;
use crate::sqlite::connection::of;
use crate::sqlite::meta;
use crate::sqlite::plan::Plan;
use crate::sqlite::read::Reader;
use crate::store::RowCount;
use crate::view::{Order, Reading, TableView};

fn number(conn: &Connection, path: &str, sql: &str) -> Result<u64, StoreError> {
    let n: i64 = conn.query_row(sql, [], |row| row.get(0)).map_err(|e| of(path, e))?;
    Ok(u64::try_from(n).unwrap_or(0))
}

/// The rows of T and of `T_history`.
pub(super) fn row_count(
    conn: &Connection,
    path: &str,
    plan: &Plan,
) -> Result<RowCount, StoreError> {
    let count = |table: &str| number(conn, path, &format!("SELECT count(*) FROM \"{table}\""));
    let current = count(&plan.spec.name)?;
    let history = if plan.full { count(&plan.history_name())? } else { 0 };
    Ok(RowCount { current, history })
}

/// The highest sequence of `writer`. No index serves this: it would cost every append.
pub(super) fn highest_sequence(
    conn: &Connection,
    path: &str,
    plan: &Plan,
    writer: WriterId,
) -> Result<u64, StoreError> {
    if !plan.full {
        return Ok(0);
    }
    let table = plan.history_name();
    let sql = format!("SELECT coalesce(max(\"_seq\"), 0) FROM \"{table}\" WHERE \"_writer\" = ?1");
    let highest: i64 =
        conn.query_row(&sql, [writer.to_string()], |row| row.get(0)).map_err(|e| of(path, e))?;
    Ok(u64::try_from(highest).unwrap_or(0))
}

/// The highest sequence of every writer.
pub(super) fn highest_sequences(
    conn: &Connection,
    path: &str,
    plan: &Plan,
) -> Result<BTreeMap<WriterId, u64>, StoreError> {
    let mut highest = BTreeMap::new();
    if !plan.full {
        return Ok(highest);
    }
    let table = plan.history_name();
    let fail = |e| of(path, e);
    let sql = format!("SELECT \"_writer\", max(\"_seq\") FROM \"{table}\" GROUP BY \"_writer\"");
    let mut select = conn.prepare(&sql).map_err(fail)?;
    let mut rows = select.query([]).map_err(fail)?;
    while let Some(row) = rows.next().map_err(fail)? {
        let writer: String = row.get(0).map_err(fail)?;
        let sequence: i64 = row.get(1).map_err(fail)?;
        // A writer that is none is a finding of the audit.
        if let Ok(writer) = writer.parse() {
            highest.insert(writer, u64::try_from(sequence).unwrap_or(0));
        }
    }
    Ok(highest)
}

/// Audits every table of the stored catalogue.
pub(super) fn audit(conn: &Connection, path: &str, store: String) -> Result<Audit, StoreError> {
    let catalogue = meta::catalogue(conn, path)?;
    let plans = catalogue.iter().flat_map(|c| &c.tables).map(Plan::new);
    let audit = |plan: Plan| tables::audit(&View { conn, path, plan: &plan });
    let tables = plans.map(audit).collect::<Result<_, _>>()?;
    Ok(Audit { store, epoch: meta::epoch(conn, path)?, tables })
}

/// One table of the file.
pub(super) struct View<'a> {
    pub(super) conn: &'a Connection,
    pub(super) path: &'a str,
    pub(super) plan: &'a Plan,
}

impl TableView for View<'_> {
    fn path(&self) -> &str {
        self.path
    }

    fn spec(&self) -> &TableSpec {
        &self.plan.spec
    }

    fn missing(&self) -> Result<Vec<String>, StoreError> {
        self.plan.missing(self.conn, self.path)
    }

    fn floor(&self) -> Result<u64, StoreError> {
        meta::number(self.conn, self.path, &self.plan.floor_key)
    }

    fn head(&self) -> Result<Option<Head>, StoreError> {
        meta::head(self.conn, self.path, &self.plan.count_key, &self.plan.link_key)
    }

    fn row_count(&self) -> Result<RowCount, StoreError> {
        row_count(self.conn, self.path, self.plan)
    }

    fn read(&self, order: Order<'_>, with: Reading<'_>) -> Result<(), StoreError> {
        let Self { conn, path, plan } = *self;
        if order != Order::Current && !plan.full {
            return Ok(());
        }
        let history = &plan.select_history;
        let keys = "ORDER BY \"key\", \"_version\"";
        let sql = match order {
            Order::Current => plan.select.clone(),
            Order::Keys => format!("{history} {keys}"),
            Order::Of(_) => format!("{history} WHERE \"key\" = ?1 {keys}"),
            Order::Behind(0) => format!("{history} ORDER BY {}", positions(conn, path, plan)?),
            Order::Behind(_) => {
                let order = positions(conn, path, plan)?;
                format!("{history} WHERE \"_position\" > ?1 ORDER BY {order}")
            }
        };
        let mut select = conn.prepare_cached(&sql).map_err(|e| of(path, e))?;
        let rows = match order {
            Order::Of(key) => select.query([key]),
            Order::Behind(after @ 1..) => select.query([after.cast_signed()]),
            _ => select.query([]),
        };
        let rows = rows.map_err(|e| of(path, e))?;
        with(&mut Reader::new(rows, plan, path, order != Order::Current))
    }
}

/// What gives `T_history` in the order of its positions.
fn positions(conn: &Connection, path: &str, plan: &Plan) -> Result<&'static str, StoreError> {
    let in_order = written_in_order(conn, path, plan)?;
    Ok(if in_order { "\"_rowid_\"" } else { "\"_position\", \"_rowid_\"" })
}

/// Whether the rows lie in the file in the order of their positions, as they were written: then they need not be
/// sorted (no index serves positions: it would cost every append).
fn written_in_order(conn: &Connection, path: &str, plan: &Plan) -> Result<bool, StoreError> {
    let sql = format!("SELECT \"_position\" FROM \"{}\" ORDER BY \"_rowid_\"", plan.history_name());
    let mut select = conn.prepare(&sql).map_err(|e| of(path, e))?;
    let mut rows = select.query([]).map_err(|e| of(path, e))?;
    let mut last = i64::MIN;
    while let Some(row) = rows.next().map_err(|e| of(path, e))? {
        let position = row.get_ref(0).and_then(|v| v.as_i64().map_err(Into::into));
        match position {
            Ok(position) if position >= last => last = position,
            _ => return Ok(false),
        }
    }
    Ok(true)
}
