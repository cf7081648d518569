//! Reading rows back: columns become a [`Stored`] row, and whatever cannot be what was written is noted as a
//! fault of that row instead of failing the reading.

use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::row::{Row, parse_clock};
use commonhold_core::schema::{Encoder, FieldType};
use commonhold_core::value::ValueRef;
use rusqlite::types::ValueRef as Sql;
use rusqlite::{Connection, Rows};

use crate::audit::{RowSource, Stored};
use crate::chain::{Columns, from_hex, hex};
use crate::error::StoreError;
use crate::sqlite::connection::of;
use crate::sqlite::plan::Plan;
use crate::store::HistoryRow;

/// The rows of a statement over T or `T_history`.
pub(super) struct Reader<'a> {
    rows: Rows<'a>,
    plan: &'a Plan,
    path: &'a str,
    history: bool,
}

impl<'a> Reader<'a> {
    /// Reads `rows`, those of `T_history` if `history`.
    pub(super) fn new(rows: Rows<'a>, plan: &'a Plan, path: &'a str, history: bool) -> Self {
        Self { rows, plan, path, history }
    }
}

impl RowSource for Reader<'_> {
    fn next(&mut self, into: &mut Stored) -> Result<bool, StoreError> {
        let fail = |e| of(self.path, e);
        let Some(row) = self.rows.next().map_err(fail)? else { return Ok(false) };
        read(row, self.plan, self.history, into).map_err(fail)?;
        Ok(true)
    }
}

/// Takes the columns of a row one after the other, noting each for the link.
struct Taker<'a, 'r> {
    row: &'a rusqlite::Row<'r>,
    columns: &'a mut Columns,
    faults: &'a mut Vec<String>,
    next: usize,
}

impl<'a> Taker<'a, '_> {
    fn take(&mut self) -> rusqlite::Result<Sql<'a>> {
        let value = self.row.get_ref(self.next)?;
        self.next += 1;
        match value {
            Sql::Null => self.columns.null(),
            Sql::Integer(v) => self.columns.integer(v),
            Sql::Real(v) => self.columns.real(v),
            Sql::Text(v) | Sql::Blob(v) => self.columns.bytes(v),
        }
        Ok(value)
    }

    fn fault(&mut self, column: &str, want: &str) {
        self.faults.push(format!("column `{column}` is not {want}"));
    }

    fn text(&mut self, column: &str) -> rusqlite::Result<&'a str> {
        let value = self.take()?;
        let text = if let Sql::Text(v) = value { std::str::from_utf8(v).ok() } else { None };
        if text.is_none() {
            self.fault(column, "text");
        }
        Ok(text.unwrap_or_default())
    }

    fn integer(&mut self, column: &str) -> rusqlite::Result<i64> {
        if let Sql::Integer(v) = self.take()? {
            return Ok(v);
        }
        self.fault(column, "an integer");
        Ok(0)
    }

    fn unsigned(&mut self, column: &str) -> rusqlite::Result<u64> {
        let v = self.integer(column)?;
        if v < 0 {
            self.fault(column, "0 or more");
        }
        Ok(u64::try_from(v).unwrap_or(0))
    }

    /// Text that `parse` understands.
    fn parsed<T: Default>(
        &mut self,
        column: &str,
        want: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> rusqlite::Result<T> {
        let faults = self.faults.len();
        let parsed = parse(self.text(column)?);
        if parsed.is_none() && self.faults.len() == faults {
            self.fault(column, want);
        }
        Ok(parsed.unwrap_or_default())
    }
}

/// A column's value as a value of type `ty`, when it is one.
fn typed(value: Sql<'_>, ty: FieldType) -> Option<ValueRef<'_>> {
    Some(match (ty, value) {
        (FieldType::I64, Sql::Integer(v)) => ValueRef::I64(v),
        (FieldType::Timestamp, Sql::Integer(v)) => ValueRef::Timestamp(v),
        (FieldType::U64, Sql::Integer(v)) => ValueRef::U64(u64::try_from(v).ok()?),
        (FieldType::F64, Sql::Real(v)) => ValueRef::F64(v),
        (FieldType::Bool, Sql::Integer(v @ 0..=1)) => ValueRef::Bool(v == 1),
        (FieldType::Text(_), Sql::Text(v)) => ValueRef::Text(std::str::from_utf8(v).ok()?),
        (FieldType::Json(_), Sql::Text(v)) => ValueRef::Json(std::str::from_utf8(v).ok()?),
        (FieldType::Bytes(_), Sql::Blob(v)) => ValueRef::Bytes(v),
        _ => return None,
    })
}

fn read(
    from: &rusqlite::Row<'_>,
    plan: &Plan,
    history: bool,
    into: &mut Stored,
) -> rusqlite::Result<()> {
    let Stored { row, columns, shared, position, link, faults } = into;
    columns.clear();
    faults.clear();
    row.payload.clear();
    row.key.clear();
    let mut taker = Taker { row: from, columns, faults, next: 0 };
    row.key.push_str(taker.text("key")?);
    let nulls = read_fields(&mut taker, plan, &mut row.payload)?;
    row.version = taker.unsigned("_version")?;
    row.hash =
        taker.parsed("_hash", "16 hexadecimal digits", |t| from_hex(t).map(u64::from_be_bytes))?;
    row.clock = taker.parsed("_clock", "a clock", parse_clock)?;
    row.writer = taker.parsed("_writer", "a writer", |t| t.parse().ok())?;
    row.sequence = taker.unsigned("_seq")?;
    row.committed_at = taker.integer("_committed_at")?;
    *shared = taker.columns.len();
    row.deleted = false;
    (*position, *link) = (0, None);
    if history {
        row.deleted = match taker.integer("_deleted")? {
            0 => false,
            1 => true,
            _ => {
                taker.fault("_deleted", "0 or 1");
                false
            }
        };
        *position = taker.unsigned("_position")?;
        if let Sql::Text(text) = from.get_ref(taker.next)? {
            *link = std::str::from_utf8(text).ok().and_then(from_hex);
        }
        if link.is_none() {
            taker.fault("_link", "64 hexadecimal digits");
        }
    }
    let nulls_wanted = if row.deleted { plan.spec.schema.fields().len() } else { 0 };
    if nulls != nulls_wanted {
        taker.faults.push(if row.deleted {
            "a deletion has fields that are not NULL".to_owned()
        } else {
            "a field is NULL".to_owned()
        });
    }
    Ok(())
}

/// Encodes the fields into `payload`; gives how many are NULL.
fn read_fields(
    taker: &mut Taker<'_, '_>,
    plan: &Plan,
    payload: &mut Vec<u8>,
) -> rusqlite::Result<usize> {
    let mut nulls = 0;
    for field in plan.spec.schema.fields() {
        let value = taker.take()?;
        if let Sql::Null = value {
            nulls += 1;
            continue;
        }
        match typed(value, field.ty) {
            None => taker.fault(&field.name, &field.ty.to_string()),
            Some(value) => {
                if let Err(e) = Encoder::new(payload).value(value, field.ty) {
                    taker.faults.push(format!("column `{}`: {e}", field.name));
                }
            }
        }
    }
    Ok(nulls)
}

/// Every row of T in the order of the keys, each proved by its hash.
pub(super) fn load(
    conn: &Connection,
    path: &str,
    plan: &Plan,
    sink: &mut dyn FnMut(Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut select = conn.prepare_cached(&plan.select).map_err(|e| of(path, e))?;
    let rows = select.query([]).map_err(|e| of(path, e))?;
    let mut reader = Reader::new(rows, plan, path, false);
    let mut stored = Stored::default();
    while reader.next(&mut stored)? {
        prove(&mut stored, path, plan)?;
        sink(stored.row.clone())?;
    }
    Ok(())
}

/// Every row of `T_history` of one key in the order of the versions, each proved by its hash.
pub(super) fn history(
    conn: &Connection,
    path: &str,
    plan: &Plan,
    key: &str,
    sink: &mut dyn FnMut(HistoryRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if !plan.full {
        return Ok(());
    }
    let sql = format!("{} WHERE \"key\" = ?1 ORDER BY \"_version\"", plan.select_history);
    let mut select = conn.prepare_cached(&sql).map_err(|e| of(path, e))?;
    let rows = select.query([key]).map_err(|e| of(path, e))?;
    let mut reader = Reader::new(rows, plan, path, true);
    let mut stored = Stored::default();
    while reader.next(&mut stored)? {
        prove(&mut stored, path, plan)?;
        let link = hex(&stored.link.unwrap_or_default());
        sink(HistoryRow { row: stored.row.clone(), position: stored.position, link })?;
    }
    Ok(())
}

/// Fails unless the row holds what its hash says.
pub(super) fn prove(stored: &mut Stored, path: &str, plan: &Plan) -> Result<(), StoreError> {
    let row = &stored.row;
    let hash = state_hash(record_prefix(&plan.spec.name, &row.key), row.version, &row.payload);
    if hash != row.hash {
        stored.faults.push("its hash is not the one of its columns".to_owned());
    }
    let Some(why) = stored.faults.first() else { return Ok(()) };
    Err(StoreError::Row {
        path: path.to_owned(),
        table: plan.spec.name.clone(),
        key: stored.row.key.clone(),
        version: stored.row.version,
        why: why.clone(),
    })
}
