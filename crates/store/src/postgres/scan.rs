//! Looking over whole tables: counts, a writer's last sequence, and the rows in an order.

use std::cell::Cell;
use std::collections::BTreeMap;

use commonhold_core::catalogue::TableSpec;
use commonhold_core::row::WriterId;

use super::connection::{Connection, Parameters};
use super::error::of;
use super::meta::{self, Head, Meta};
use super::plan::Plan;
use super::read::Reader;
use crate::audit::{Audit, tables};
use crate::error::StoreError;
use crate::store::RowCount;
use crate::view::{Order, Reading, TableView};

/// One table within the transaction that is under way.
pub(super) struct View<'a> {
    pub(super) conn: &'a Connection,
    pub(super) plan: &'a Plan,
    cursors: Cell<u32>,
}

impl<'a> View<'a> {
    pub(super) fn new(conn: &'a Connection, plan: &'a Plan) -> Self {
        Self { conn, plan, cursors: Cell::new(0) }
    }

    /// The highest sequence of `writer`. No index serves this: it would cost every append.
    pub(super) fn highest_sequence(&self, writer: WriterId) -> Result<u64, StoreError> {
        if !self.plan.full {
            return Ok(0);
        }
        let table = self.plan.history_name();
        let sql =
            format!("SELECT coalesce(max(\"_seq\"), 0) FROM \"{table}\" WHERE \"_writer\" = $1");
        number(self.conn, &sql, &[&writer.to_string()])
    }

    /// The highest sequence of every writer.
    pub(super) fn highest_sequences(&self) -> Result<BTreeMap<WriterId, u64>, StoreError> {
        let mut highest = BTreeMap::new();
        if !self.plan.full {
            return Ok(highest);
        }
        let table = self.plan.history_name();
        let sql =
            format!("SELECT \"_writer\", max(\"_seq\") FROM \"{table}\" GROUP BY \"_writer\"");
        for row in self.conn.rows(&sql, &[])? {
            let fail = |e| of(self.conn.path(), &e);
            let writer: String = row.try_get(0).map_err(fail)?;
            let sequence: i64 = row.try_get(1).map_err(fail)?;
            // A writer that is none is a finding of the audit.
            if let Ok(writer) = writer.parse() {
                highest.insert(writer, u64::try_from(sequence).unwrap_or(0));
            }
        }
        Ok(highest)
    }
}

impl TableView for View<'_> {
    fn path(&self) -> &str {
        self.conn.path()
    }

    fn spec(&self) -> &TableSpec {
        &self.plan.spec
    }

    fn missing(&self) -> Result<Vec<String>, StoreError> {
        self.plan.missing(self.conn)
    }

    fn floor(&self) -> Result<u64, StoreError> {
        meta::number(&Meta::new(self.conn), self.conn.path(), &self.plan.floor_key)
    }

    fn head(&self) -> Result<Option<Head>, StoreError> {
        let (count, link) = (&self.plan.count_key, &self.plan.link_key);
        meta::head(&Meta::new(self.conn), self.conn.path(), count, link)
    }

    fn row_count(&self) -> Result<RowCount, StoreError> {
        let count =
            |table: &str| number(self.conn, &format!("SELECT count(*) FROM \"{table}\""), &[]);
        let current = count(&self.plan.spec.name)?;
        let history = if self.plan.full { count(&self.plan.history_name())? } else { 0 };
        Ok(RowCount { current, history })
    }

    fn read(&self, order: Order<'_>, with: Reading<'_>) -> Result<(), StoreError> {
        if order != Order::Current && !self.plan.full {
            return Ok(());
        }
        let history = &self.plan.select_history;
        let keys = "ORDER BY \"key\", \"_version\"";
        let sql = match order {
            Order::Current => self.plan.select.clone(),
            Order::Keys => format!("{history} {keys}"),
            Order::Of(key) => format!("{history} WHERE \"key\" = {} {keys}", literal(key)),
            Order::Behind(after) => {
                format!("{history} WHERE \"_position\" > {after} ORDER BY \"_position\", ctid")
            }
        };
        // A key with NUL is none that was ever stored, and nothing that can be asked for.
        if sql.contains('\0') {
            return Ok(());
        }
        let sql = if order == Order::Behind(0) {
            sql.replace(" WHERE \"_position\" > 0", "")
        } else {
            sql
        };
        let history = order != Order::Current;
        let mut reader = Reader::open(self.conn, self.plan, &sql, history, &self.cursors)?;
        with(&mut reader)?;
        reader.close()
    }
}

/// A text as SQL writes it; the session takes backslashes as they are.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn number(conn: &Connection, sql: &str, with: Parameters<'_>) -> Result<u64, StoreError> {
    let n: i64 = conn.one(sql, with)?.try_get(0).map_err(|e| of(conn.path(), &e))?;
    Ok(u64::try_from(n).unwrap_or(0))
}

/// Audits every table of the stored catalogue.
pub(super) fn audit(conn: &Connection, store: String) -> Result<Audit, StoreError> {
    let (meta, path) = (Meta::new(conn), conn.path());
    let catalogue = meta::catalogue(&meta, path)?;
    let plans = catalogue.iter().flat_map(|c| &c.tables).map(Plan::new);
    let audit = |plan: Plan| tables::audit(&View::new(conn, &plan));
    let tables = plans.map(audit).collect::<Result<_, _>>()?;
    Ok(Audit { store, epoch: meta::epoch(&meta, path)?, tables })
}
