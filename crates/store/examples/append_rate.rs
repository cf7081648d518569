//! Prints how many rows a second the store takes, beside a bare loop of the same inserts without chain, owner check
//! and idempotence. `cargo run --release -p commonhold-store --example append_rate [FOLDER]`
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;
use std::time::Instant;

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::row::{Row, WriterId, clock_text};
use commonhold_core::schema::Schema;
use commonhold_core::value::Value;
use commonhold_store::{Batch, SegmentIdentity, TableBatch, open, open_read_only};
use rusqlite::{Connection, params};

const KINDS: [(&str, History, usize); 3] = [
    ("history + latest, 1024 keys", History::Full, 1024),
    ("latest, 64 hot keys", History::Latest, 64),
    ("latest, 1,000,000 keys spread wide", History::Latest, 1_000_000),
];

/// Rows of 256 bytes of payload: two numbers and bytes.
fn rows(schema: &Schema, keys: usize, history: bool, count: usize) -> Vec<Row> {
    let mut versions = vec![0; keys];
    let row = |i: usize| {
        let k = if keys > 2000 { i.wrapping_mul(7_919) % keys } else { i % keys };
        versions[k] += 1;
        let key = format!("client-{k:07}");
        let mut payload = Vec::new();
        let values = [Value::I64(i as i64), Value::U64(i as u64), Value::Bytes(vec![7; 236])];
        schema.encode(&values, &mut payload).unwrap();
        let (version, sequence) = (versions[k], i as u64 / 4 + 1);
        Row {
            hash: state_hash(record_prefix("t", &key), version, &payload),
            clock: vec![version; 8],
            writer: WriterId::new(1, (i % 4) as u16, 1),
            sequence: if history { sequence } else { 0 },
            committed_at: 1_700_000_000_000_000 + i as i64,
            deleted: false,
            key,
            payload,
            version,
        }
    };
    (0..count).map(row).collect()
}

fn store(folder: &Path, spec: &TableSpec, rows: &[Row], size: usize) -> f64 {
    let url = format!("sqlite:{}", folder.join("store.db").display());
    let mut store = open(&url).unwrap();
    let catalogue = Catalogue::new(16, 8, vec![spec.clone()]).unwrap();
    let segment =
        SegmentIdentity { uuid: [1; 16], path: "bench".to_owned(), boot_id: String::new() };
    store.claim(&segment, &catalogue).unwrap();
    let batches: Vec<Batch> = rows
        .chunks(size)
        .map(|rows| Batch { tables: vec![TableBatch { table: 0, rows: rows.to_vec(), floor: 0 }] })
        .collect();
    let start = Instant::now();
    for batch in &batches {
        store.append(batch).unwrap();
    }
    rows.len() as f64 / start.elapsed().as_secs_f64()
}

fn bare(folder: &Path, full: bool, rows: &[Row], size: usize) -> f64 {
    let mut conn = Connection::open(folder.join("bare.db")).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE t(key TEXT PRIMARY KEY, a, b, c, v, h, k, w, s, m);
         CREATE TABLE th(key TEXT, a, b, c, v, h, k, w, s, m, d, p, l, PRIMARY KEY(key, v));",
    )
    .unwrap();
    let link = "0123456789abcdef".repeat(4);
    let start = Instant::now();
    for chunk in rows.chunks(size) {
        let tx = conn.transaction().unwrap();
        let mut insert =
            tx.prepare_cached("INSERT INTO th VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)").unwrap();
        let mut upsert = tx
            .prepare_cached(
                "INSERT INTO t VALUES(?,?,?,?,?,?,?,?,?,?) ON CONFLICT(key) DO UPDATE SET
                 a=excluded.a, b=excluded.b, c=excluded.c, v=excluded.v, h=excluded.h,
                 k=excluded.k, w=excluded.w, s=excluded.s, m=excluded.m",
            )
            .unwrap();
        for row in chunk {
            let (version, sequence) = (row.version as i64, row.sequence as i64);
            let (hash, clock) = (format!("{:016x}", row.hash), clock_text(&row.clock));
            let (writer, bytes) = (row.writer.to_string(), &row.payload[20..]);
            let (key, at) = (&row.key, row.committed_at);
            if full {
                let p = params![
                    key, 1, 2, bytes, version, hash, clock, writer, sequence, at, 0, version, link
                ];
                insert.execute(p).unwrap();
            }
            let p = params![key, 1, 2, bytes, version, hash, clock, writer, sequence, at];
            upsert.execute(p).unwrap();
        }
        drop((insert, upsert));
        tx.commit().unwrap();
    }
    rows.len() as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let root = std::env::args().nth(1).unwrap_or_else(|| "/var/tmp".to_owned());
    let fields = ["a:i64", "b:u64", "c:bytes(240)"].map(|f| f.parse().unwrap()).to_vec();
    let mut spec = TableSpec::new("t", Schema::new(fields).unwrap());
    for (name, history, keys) in KINDS {
        spec.history = history;
        let full = history == History::Full;
        for (size, count) in [(1, 12_000), (100, 100_000), (1000, 300_000), (10_000, 600_000)] {
            let rows = rows(&spec.schema, keys, full, count);
            let folder = tempfile::tempdir_in(&root).unwrap();
            let bare = bare(folder.path(), full, &rows, size);
            let ours = store(folder.path(), &spec, &rows, size);
            println!(
                "{name:36} {size:6} a transaction: {ours:9.0} rows/s; bare {bare:9.0}; {:.2}",
                ours / bare
            );
            if full && size == 10_000 {
                let url = format!("sqlite:{}", folder.path().join("store.db").display());
                let start = Instant::now();
                let audit = open_read_only(&url).unwrap().audit().unwrap();
                assert!(audit.ok(), "{audit:?}");
                println!("audit of {count} rows: {:.2} s", start.elapsed().as_secs_f64());
            }
        }
    }
}
