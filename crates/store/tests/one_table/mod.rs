//! One table `t` of one number with full history, and rows of it: what is particular to a store needs no more.

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::row::{Row, WriterId};
use commonhold_core::schema::Schema;
use commonhold_store::{Batch, TableBatch};

pub(crate) fn catalogue() -> Catalogue {
    let mut spec = TableSpec::new("t", Schema::new(vec!["n:i64".parse().unwrap()]).unwrap());
    spec.history = History::Full;
    Catalogue::new(4, 1, vec![spec]).unwrap()
}

/// Version `version` of `key`, the writer's commit number `sequence`.
pub(crate) fn row(key: &str, version: u64, sequence: u64) -> Row {
    let payload = version.to_le_bytes().to_vec();
    Row {
        hash: state_hash(record_prefix("t", key), version, &payload),
        key: key.to_owned(),
        payload,
        version,
        clock: vec![sequence],
        writer: WriterId::new(1, 1, 1),
        sequence,
        committed_at: 1,
        deleted: false,
    }
}

pub(crate) fn batch(rows: &[Row]) -> Batch {
    let tables = vec![TableBatch { table: 0, rows: rows.to_vec(), ..TableBatch::default() }];
    Batch { tables, ..Batch::default() }
}
