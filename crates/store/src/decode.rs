//! Reading rows back: columns become a [`Stored`] row, and whatever cannot be what was written is noted as a
//! fault of that row instead of failing the reading.

use commonhold_core::catalogue::TableSpec;
use commonhold_core::row::parse_clock;
use commonhold_core::schema::{Encoder, FieldType};
use commonhold_core::value::ValueRef;

use crate::audit::Stored;
use crate::chain::{Columns, from_hex};
use crate::error::StoreError;

/// A column's value, whatever the database; a boolean is an integer, 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sql<'a> {
    Null,
    Integer(i64),
    Real(f64),
    /// Not yet known to be UTF-8.
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// The columns of a row, by position.
pub(crate) trait Columnar {
    fn column(&self, at: usize) -> Result<Sql<'_>, StoreError>;
}

/// Takes the columns of a row one after the other, noting each for the link.
struct Taker<'a> {
    row: &'a dyn Columnar,
    columns: &'a mut Columns,
    faults: &'a mut Vec<String>,
    next: usize,
}

impl<'a> Taker<'a> {
    fn take(&mut self) -> Result<Sql<'a>, StoreError> {
        let value = self.row.column(self.next)?;
        self.next += 1;
        self.columns.value(value);
        Ok(value)
    }

    fn fault(&mut self, column: &str, want: &str) {
        self.faults.push(format!("column `{column}` is not {want}"));
    }

    fn text(&mut self, column: &str) -> Result<&'a str, StoreError> {
        let value = self.take()?;
        let text = if let Sql::Text(v) = value { std::str::from_utf8(v).ok() } else { None };
        if text.is_none() {
            self.fault(column, "text");
        }
        Ok(text.unwrap_or_default())
    }

    fn integer(&mut self, column: &str) -> Result<i64, StoreError> {
        if let Sql::Integer(v) = self.take()? {
            return Ok(v);
        }
        self.fault(column, "an integer");
        Ok(0)
    }

    fn unsigned(&mut self, column: &str) -> Result<u64, StoreError> {
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
    ) -> Result<T, StoreError> {
        let faults = self.faults.len();
        let parsed = parse(self.text(column)?);
        if parsed.is_none() && self.faults.len() == faults {
            self.fault(column, want);
        }
        Ok(parsed.unwrap_or_default())
    }
}

/// A column's value as a value of type `ty`, when it is one.
pub(crate) fn typed(value: Sql<'_>, ty: FieldType) -> Option<ValueRef<'_>> {
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

/// Decodes a row of T, or of `T_history` if `history`.
pub(crate) fn read(
    from: &dyn Columnar,
    spec: &TableSpec,
    history: bool,
    into: &mut Stored,
) -> Result<(), StoreError> {
    let Stored { row, columns, shared, position, link, faults, whole } = into;
    columns.clear();
    faults.clear();
    row.payload.clear();
    row.key.clear();
    let mut taker = Taker { row: from, columns, faults, next: 0 };
    row.key.push_str(taker.text("key")?);
    let nulls = read_fields(&mut taker, spec, &mut row.payload)?;
    *whole = nulls == 0 && taker.faults.is_empty();
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
        if let Sql::Text(text) = from.column(taker.next)? {
            *link = std::str::from_utf8(text).ok().and_then(from_hex);
        }
        if link.is_none() {
            taker.fault("_link", "64 hexadecimal digits");
        }
    }
    let nulls_wanted = if row.deleted { spec.schema.fields().len() } else { 0 };
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
    taker: &mut Taker<'_>,
    spec: &TableSpec,
    payload: &mut Vec<u8>,
) -> Result<usize, StoreError> {
    let mut nulls = 0;
    for field in spec.schema.fields() {
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

/// Fails unless the row holds what its hash says.
pub(crate) fn prove(stored: &Stored, path: &str, spec: &TableSpec) -> Result<(), StoreError> {
    let Some(why) = stored.fault(&spec.name) else { return Ok(()) };
    Err(StoreError::Row {
        path: path.to_owned(),
        table: spec.name.clone(),
        key: stored.row.key.clone(),
        version: stored.row.version,
        why,
    })
}
