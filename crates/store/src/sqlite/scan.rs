//! Looking over whole tables: counts, a writer's last sequence, and the rows for the audit.

use std::collections::BTreeMap;

use commonhold_core::catalogue::History;
use commonhold_core::row::WriterId;
use rusqlite::Connection;

use crate::audit::{
    Audit, ChainPass, Check, Expected, RowSource, Stored, TableAudit, current_alone, key_pass,
};
use crate::error::StoreError;
use crate::sqlite::connection::of;
use crate::sqlite::meta;
use crate::sqlite::plan::Plan;
use crate::sqlite::read::Reader;
use crate::store::RowCount;

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
    let tables = plans.map(|plan| audit_table(conn, path, &plan)).collect::<Result<_, _>>()?;
    Ok(Audit { store, epoch: meta::epoch(conn, path)?, tables })
}

fn audit_table(conn: &Connection, path: &str, plan: &Plan) -> Result<TableAudit, StoreError> {
    let history = match plan.spec.history {
        History::Full => "full",
        History::Latest => "latest",
    };
    let mut audit = TableAudit::new(&plan.spec.name, history);
    match plan.missing(conn, path) {
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
    let fail = |e| of(path, e);
    let mut select = conn.prepare(&plan.select).map_err(fail)?;
    let mut current = Reader::new(select.query([]).map_err(fail)?, plan, path, false);
    if !plan.full {
        current_alone(&mut audit, &mut current)?;
        return Ok(audit);
    }
    chain(conn, path, plan, &mut audit)?;
    let sql = format!("{} ORDER BY \"key\", \"_version\"", plan.select_history);
    let mut select = conn.prepare(&sql).map_err(fail)?;
    let mut rows = Reader::new(select.query([]).map_err(fail)?, plan, path, true);
    key_pass(&mut audit, &mut rows, &mut current)?;
    Ok(audit)
}

/// The chain pass over one table.
fn chain(
    conn: &Connection,
    path: &str,
    plan: &Plan,
    audit: &mut TableAudit,
) -> Result<(), StoreError> {
    let head = match meta::head(conn, path, &plan.count_key, &plan.link_key) {
        Ok(head) => head.map(|h| Expected { count: h.count, link: h.link }),
        Err(StoreError::Corrupt { .. }) => None,
        Err(e) => return Err(e),
    };
    let order = history_order(conn, path, plan)?;
    let sql = format!("{} ORDER BY {order}", plan.select_history);
    let mut select = conn.prepare(&sql).map_err(|e| of(path, e))?;
    let rows = select.query([]).map_err(|e| of(path, e))?;
    let mut rows = Reader::new(rows, plan, path, true);
    let mut pass = ChainPass::new(audit, head);
    let mut stored = Stored::default();
    while rows.next(&mut stored)? {
        pass.row(&stored);
    }
    pass.finish();
    Ok(())
}

/// What gives `T_history` in the order of its positions.
pub(super) fn history_order(
    conn: &Connection,
    path: &str,
    plan: &Plan,
) -> Result<&'static str, StoreError> {
    let written_in_order = written_in_order(conn, path, plan)?;
    Ok(if written_in_order { "\"_rowid_\"" } else { "\"_position\", \"_rowid_\"" })
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
