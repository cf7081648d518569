//! What every store must do, written against `dyn Store`.

pub(crate) mod audit;
pub(crate) mod foreign;
pub(crate) mod marks;
pub(crate) mod owner;
pub(crate) mod protocol;
pub(crate) mod transfer;

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::row::{Row, WriterId};
use commonhold_core::schema::Schema;
use commonhold_core::value::Value;
use commonhold_store::{
    Batch, Claim, Node, SegmentIdentity, Store, TableBatch, open, open_read_only,
};

/// How a database says things.
pub(crate) struct Types {
    pub(crate) integer: &'static str,
    pub(crate) real: &'static str,
    /// False and true.
    pub(crate) no: &'static str,
    pub(crate) yes: &'static str,
    /// Whether a column takes values of other types.
    pub(crate) loose: bool,
    /// What must be said before two rows of `accounts_history` may have one position.
    pub(crate) two: &'static str,
}

/// A database of its own for one test.
pub(crate) trait Backend {
    const TYPES: Types;
    fn new() -> Self;
    fn url(&self) -> String;
    /// Opens the store, making it the first time.
    fn open(&self) -> Box<dyn Store> {
        open(&self.url()).unwrap()
    }
    fn open_read_only(&self) -> Box<dyn Store> {
        open_read_only(&self.url()).unwrap()
    }
    /// What somebody with write access to the database might do.
    fn execute(&self, sql: &str);
    /// Whether `scripts/verify_history.py` is content, and what it prints.
    fn script(&self) -> (bool, String);
}

pub(crate) fn segment(n: u8) -> SegmentIdentity {
    SegmentIdentity {
        uuid: [n; 16],
        path: format!("/dev/shm/{n}"),
        boot_id: "boot".to_owned(),
        node: Node::this(),
        device: 0,
    }
}

pub(crate) fn schema(fields: &[&str]) -> Schema {
    Schema::new(fields.iter().map(|f| f.parse().unwrap()).collect()).unwrap()
}

pub(crate) fn table(name: &str, fields: &[&str], history: History) -> TableSpec {
    let mut spec = TableSpec::new(name, schema(fields));
    spec.history = history;
    spec
}

pub(crate) fn catalogue(tables: Vec<TableSpec>) -> Catalogue {
    Catalogue::new(8, 3, tables).unwrap()
}

/// Table `accounts` with full history.
pub(crate) fn accounts() -> Catalogue {
    catalogue(vec![table("accounts", &["balance:i64", "name:text(20)"], History::Full)])
}

pub(crate) fn batch(rows: &[Row]) -> Batch {
    let tables =
        vec![TableBatch { table: 0, rows: rows.to_vec(), floor: 0, ..TableBatch::default() }];
    Batch { tables, ..Batch::default() }
}

/// One committer: it numbers its commits and advances its lane, as a handle does.
pub(crate) struct Writer {
    pub(crate) table: String,
    pub(crate) schema: Schema,
    pub(crate) id: WriterId,
    pub(crate) sequence: u64,
}

impl Writer {
    pub(crate) fn new(catalogue: &Catalogue, entry: u16) -> Self {
        let spec = &catalogue.tables[0];
        let (table, schema) = (spec.name.clone(), spec.schema.clone());
        Self { table, schema, id: WriterId::new(1, entry, 7), sequence: 0 }
    }

    /// Version `version` of `key` with `values`; none for a deletion.
    pub(crate) fn commit(&mut self, key: &str, version: u64, values: Option<&[Value]>) -> Row {
        self.sequence += 1;
        let mut payload = Vec::new();
        if let Some(values) = values {
            self.schema.encode(values, &mut payload).unwrap();
        }
        Row {
            key: key.to_owned(),
            hash: state_hash(record_prefix(&self.table, key), version, &payload),
            payload,
            version,
            clock: vec![version, self.sequence, u64::MAX],
            writer: self.id,
            sequence: self.sequence,
            committed_at: 1_700_000_000_000_000 + version as i64,
            deleted: values.is_none(),
        }
    }

    /// Version `version` of an account.
    pub(crate) fn account(&mut self, key: &str, version: u64) -> Row {
        let name = Value::Text(format!("{key} the {version}th"));
        self.commit(key, version, Some(&[Value::I64(version as i64 * 10), name]))
    }
}

/// A claimed store of accounts.
pub(crate) fn claimed(backend: &impl Backend) -> (Box<dyn Store>, Claim, Writer) {
    let mut store = backend.open();
    let claim = store.claim(&segment(1), &accounts()).unwrap();
    (store, claim, Writer::new(&accounts(), 1))
}

pub(crate) fn load(store: &mut dyn Store, table: usize) -> (Vec<Row>, u64) {
    let mut rows = Vec::new();
    let floor = store
        .load(table, &mut |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    (rows, floor)
}

/// Asserts that nothing is wrong, by the audit and by the script.
pub(crate) fn assert_sound(backend: &impl Backend) {
    let audit = backend.open_read_only().audit().unwrap();
    assert!(audit.ok(), "{:#?}", audit.findings().collect::<Vec<_>>());
    let (ok, text) = backend.script();
    assert!(ok, "{text}");
}
