//! Columns of rows as arrays, encoded as the server takes them: one parameter a column, whatever the number of rows.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::decode::Sql;

/// An array of one dimension.
#[derive(Debug)]
pub(super) struct Array {
    of: Type,
    count: i32,
    nulls: bool,
    /// Each value with its length in front.
    values: Vec<u8>,
}

impl Array {
    pub(super) fn new(of: Type) -> Self {
        Self { of, count: 0, nulls: false, values: Vec::new() }
    }

    /// An empty array for each of `types`.
    pub(super) fn all(types: &[Type]) -> Vec<Self> {
        types.iter().cloned().map(Self::new).collect()
    }

    /// The bytes of its values.
    pub(super) fn bytes(&self) -> usize {
        self.values.len()
    }

    /// Appends a value, which must be of the array's type.
    pub(super) fn push(&mut self, value: Sql<'_>) {
        self.count += 1;
        match value {
            Sql::Null => {
                self.nulls = true;
                self.values.extend_from_slice(&(-1_i32).to_be_bytes());
            }
            Sql::Integer(v) if self.of == Type::BOOL => self.sized(&[u8::from(v != 0)]),
            Sql::Integer(v) => self.sized(&v.to_be_bytes()),
            Sql::Real(v) => self.sized(&v.to_be_bytes()),
            Sql::Text(v) | Sql::Blob(v) => self.sized(v),
        }
    }

    fn sized(&mut self, value: &[u8]) {
        // A value is a part of a payload of at most 64 KiB.
        self.values.extend_from_slice(&(value.len() as i32).to_be_bytes());
        self.values.extend_from_slice(value);
    }
}

impl ToSql for Array {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        // Dimensions, whether there are nulls, the type; of the only dimension the length and the first index.
        for head in [1, i32::from(self.nulls), self.of.oid().cast_signed(), self.count, 1] {
            out.extend_from_slice(&head.to_be_bytes());
        }
        out.extend_from_slice(&self.values);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
