//! The columns of a row as every database gets them.

use std::fmt::Write as _;

use commonhold_core::catalogue::TableSpec;
use commonhold_core::row::Row;
use commonhold_core::schema::Decoder;
use commonhold_core::value::ValueRef;

use crate::chain::{write_clock, write_hex};
use crate::decode::Sql;
use crate::error::StoreError;

/// Hands the columns that T and `T_history` share to `put`, in their order; `text` is room for what is made.
pub(crate) fn encode(
    row: &Row,
    spec: &TableSpec,
    text: &mut String,
    put: &mut dyn FnMut(Sql<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if i64::try_from(row.version).is_err() || i64::try_from(row.sequence).is_err() {
        return Err(bad_row(spec, row, "its version or sequence is 2^63 or more"));
    }
    put(Sql::Text(row.key.as_bytes()))?;
    let mut decoder = Decoder::new(&row.payload);
    for field in spec.schema.fields() {
        if row.deleted {
            put(Sql::Null)?;
            continue;
        }
        match decoder.value(field.ty) {
            Ok(value) if value.check_range() => put(sql(value))?,
            Ok(_) => {
                return Err(bad_row(spec, row, "a value that no database returns unchanged"));
            }
            Err(e) => return Err(bad_row(spec, row, &e.to_string())),
        }
    }
    if let Err(e) = decoder.finish() {
        return Err(bad_row(spec, row, &e.to_string()));
    }
    put(Sql::Integer(row.version.cast_signed()))?;
    write_hex(text, &row.hash.to_be_bytes());
    put(Sql::Text(text.as_bytes()))?;
    write_clock(text, &row.clock);
    put(Sql::Text(text.as_bytes()))?;
    text.clear();
    // Writing to a string cannot fail.
    let _ = write!(text, "{}", row.writer);
    put(Sql::Text(text.as_bytes()))?;
    put(Sql::Integer(row.sequence.cast_signed()))?;
    put(Sql::Integer(row.committed_at))
}

fn sql(value: ValueRef<'_>) -> Sql<'_> {
    match value {
        ValueRef::I64(v) | ValueRef::Timestamp(v) => Sql::Integer(v),
        // A payload holds no u64 of 2^63 or more; `check_range` says so.
        ValueRef::U64(v) => Sql::Integer(v.cast_signed()),
        ValueRef::Bool(v) => Sql::Integer(i64::from(v)),
        ValueRef::Text(v) | ValueRef::Json(v) => Sql::Text(v.as_bytes()),
        ValueRef::F64(v) => Sql::Real(v),
        ValueRef::Bytes(v) => Sql::Blob(v),
    }
}

/// A row that its table cannot have.
pub(crate) fn bad_row(spec: &TableSpec, row: &Row, why: &str) -> StoreError {
    StoreError::BadRow {
        table: spec.name.clone(),
        key: row.key.clone(),
        version: row.version,
        why: why.to_owned(),
    }
}

/// The values that a database gives back as they were written.
trait CheckRange {
    fn check_range(&self) -> bool;
}

impl CheckRange for ValueRef<'_> {
    fn check_range(&self) -> bool {
        match self {
            ValueRef::U64(v) => i64::try_from(*v).is_ok(),
            ValueRef::F64(v) => v.is_finite() && v.to_bits() != (-0.0_f64).to_bits(),
            _ => true,
        }
    }
}
