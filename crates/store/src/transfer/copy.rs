//! The copy: rows from one store to the other in batches, and the comparison at the end.

use commonhold_core::catalogue::History;
use commonhold_core::row::{Row, clock_text};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::chain::{Columns, hex};
use crate::error::StoreError;
use crate::store::{Batch, SegmentIdentity, Store, TableBatch};
use crate::transfer::{Importing, Receiver, Summary, TableSummary};

/// The most rows of one transaction.
const BATCH_ROWS: usize = 10_000;
/// The most bytes of keys and payloads of one transaction, but for its last row.
const BATCH_BYTES: usize = 16 << 20;

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The table that is being copied; none while the target is audited.
    pub table: Option<String>,
    /// Rows that the target has got, or had from an earlier run.
    pub done: u64,
    /// Rows that it will have got.
    pub total: u64,
}

/// One table of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopiedTable {
    /// The table.
    pub table: String,
    /// Current rows.
    pub rows: u64,
    /// Rows of its history.
    pub versions: u64,
    /// The link of the last; empty with latest history.
    pub link: String,
}

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// The source's url.
    pub source: String,
    /// The target's url.
    pub target: String,
    /// The epoch of both.
    pub epoch: u64,
    /// The tables.
    pub tables: Vec<CopiedTable>,
    /// Rows that were written, versions and current rows of tables without history.
    pub rows: u64,
    /// Rows of histories that an earlier run had written.
    pub resumed: u64,
}

/// Copies every table, with its history, floors and marks, from `source` into the empty `target`, and proves that it
/// holds the same: counts, floors, marks, the head of each chain, the current rows, and the audit of its rows.
/// `progress` is told about each transaction, and ends the copy with an error of its own.
///
/// # Errors
/// [`StoreError::NotEmpty`], [`StoreError::Incomplete`]: see
/// [`begin_import`](crate::Transfer::begin_import). [`StoreError::NotCopied`] when the target holds something else
/// in the end; it stays incomplete. Any error of either database.
pub fn copy(
    source: &mut dyn Store,
    target: &mut dyn Store,
    importer: &SegmentIdentity,
    progress: &mut dyn FnMut(&Progress) -> Result<(), StoreError>,
) -> Result<Copied, StoreError> {
    let from = Importing { source: source.url(), source_id: hex(&source.store_id()) };
    if let Some(unfinished) = source.importing()? {
        let (path, source) = (from.source, unfinished.source);
        return Err(StoreError::Incomplete { path, source_url: source });
    }
    if source.store_id() == target.store_id() {
        let why = "it is the source itself".to_owned();
        return Err(StoreError::NotEmpty { path: target.url(), why });
    }
    let mut copier = Copier {
        target: &mut *target,
        importer,
        from: &from,
        progress: &mut *progress,
        summary: None,
        batch: Vec::new(),
        bytes: 0,
        at: 0,
        sums: Sums::default(),
        written: 0,
        resumed: 0,
        total: 0,
    };
    source.export(&mut copier)?;
    copier.finish()?;
    let Copier { summary, sums, written, resumed, total, .. } = copier;
    let Some(summary) = summary else { return Err(StoreError::Unclaimed(from.source)) };
    progress(&Progress { table: None, done: total, total })?;
    prove(target, &summary, sums)?;
    target.end_import()?;
    let tables = summary.catalogue.tables.iter().zip(&summary.tables).map(|(spec, table)| {
        let link = table.head.clone().map(|(_, link)| link).unwrap_or_default();
        let (rows, versions) = (table.rows.current, table.rows.history);
        CopiedTable { table: spec.name.clone(), rows, versions, link }
    });
    let (tables, epoch, source) = (tables.collect(), summary.epoch.max(1), from.source);
    Ok(Copied { source, target: target.url(), epoch, tables, rows: written, resumed })
}

/// Fails unless `target` holds what `summary` and `sums` say, and its rows prove it.
fn prove(target: &mut dyn Store, summary: &Summary, sums: Sums) -> Result<(), StoreError> {
    let path = target.url();
    let differs = |why: String| Err(StoreError::NotCopied { path: path.clone(), why });
    let mut found = Verifier::default();
    target.export(&mut found)?;
    let Some(copied) = found.summary else { return differs("it has no catalogue".to_owned()) };
    if copied.catalogue != summary.catalogue || copied.marks != summary.marks {
        return differs("its catalogue or its marks are not the source's".to_owned());
    }
    let tables = summary.catalogue.tables.len();
    let (want, got) = (sums.close(tables), found.sums.close(tables));
    for (at, spec) in summary.catalogue.tables.iter().enumerate() {
        let (source, target) = (summary.tables.get(at), copied.tables.get(at));
        if source != target {
            let (source, target) = (words(source), words(target));
            return differs(format!("table {}: {target} instead of {source}", spec.name));
        }
        if want.get(at) != got.get(at) {
            return differs(format!("table {}: its current rows are not the source's", spec.name));
        }
    }
    let audit = target.audit()?;
    match audit.findings().next() {
        None => Ok(()),
        Some(finding) => differs(format!("{} findings, first: {}", audit.total(), finding.text)),
    }
}

fn words(table: Option<&TableSummary>) -> String {
    let Some(table) = table else { return "no table".to_owned() };
    let (count, link) = table.head.clone().unwrap_or_default();
    format!(
        "{} rows, {} versions, floor {}, chain {count} {link}",
        table.rows.current, table.rows.history, table.floor
    )
}

/// Sums over the current rows of each table, in the order of keys.
#[derive(Debug, Default)]
struct Sums {
    open: Vec<Sha256>,
    columns: Columns,
}

impl Sums {
    fn add(&mut self, table: usize, row: &Row) {
        let columns = &mut self.columns;
        columns.clear();
        columns.bytes(row.key.as_bytes());
        columns.bytes(&row.payload);
        columns.integer(row.version.cast_signed());
        columns.bytes(&row.hash.to_le_bytes());
        columns.bytes(clock_text(&row.clock).as_bytes());
        columns.bytes(&row.writer.to_bits().to_le_bytes());
        columns.integer(row.sequence.cast_signed());
        columns.integer(row.committed_at);
        if self.open.len() <= table {
            self.open.resize_with(table + 1, Sha256::new);
        }
        if let Some(sum) = self.open.get_mut(table) {
            sum.update(columns.prefix(usize::MAX));
        }
    }

    /// The sums of `tables` tables.
    fn close(mut self, tables: usize) -> Vec<[u8; 32]> {
        self.open.resize_with(tables, Sha256::new);
        self.open.into_iter().map(|sum| sum.finalize().into()).collect()
    }
}

/// Looks at what the target holds.
#[derive(Default)]
struct Verifier {
    summary: Option<Summary>,
    sums: Sums,
}

impl Receiver for Verifier {
    fn begin(&mut self, summary: &Summary) -> Result<Vec<u64>, StoreError> {
        self.summary = Some(summary.clone());
        // The audit looks at the histories.
        Ok(summary.tables.iter().map(|t| t.rows.history).collect())
    }

    fn version(&mut self, _: usize, _: &Row) -> Result<(), StoreError> {
        Ok(())
    }

    fn current(&mut self, table: usize, row: &Row) -> Result<(), StoreError> {
        self.sums.add(table, row);
        Ok(())
    }
}

/// Writes what the source hands out into the target.
struct Copier<'a> {
    target: &'a mut dyn Store,
    importer: &'a SegmentIdentity,
    from: &'a Importing,
    progress: &'a mut dyn FnMut(&Progress) -> Result<(), StoreError>,
    summary: Option<Summary>,
    /// The rows of the next transaction, all of table `at`.
    batch: Vec<Row>,
    bytes: usize,
    at: usize,
    sums: Sums,
    written: u64,
    resumed: u64,
    total: u64,
}

impl Copier<'_> {
    fn put(&mut self, table: usize, row: &Row) -> Result<(), StoreError> {
        if table != self.at || self.batch.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.flush()?;
        }
        self.at = table;
        self.bytes += row.key.len() + row.payload.len();
        self.batch.push(row.clone());
        Ok(())
    }

    /// Writes the rows that are there in one transaction.
    fn flush(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.written += self.batch.len() as u64;
        self.bytes = 0;
        let rows = std::mem::take(&mut self.batch);
        let part = TableBatch { table: self.at, rows, ..TableBatch::default() };
        self.target.append(&Batch { tables: vec![part], ..Batch::default() })?;
        let specs = self.summary.as_ref().map(|s| s.catalogue.tables.as_slice());
        let table = specs.and_then(|s| s.get(self.at)).map(|spec| spec.name.clone());
        let (done, total) = (self.written + self.resumed, self.total);
        (self.progress)(&Progress { table, done, total })
    }

    /// Writes what is left, and the floors and marks.
    fn finish(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        let Some(summary) = &self.summary else { return Ok(()) };
        let floors = summary.tables.iter().enumerate();
        let tables =
            floors.map(|(table, t)| TableBatch { table, floor: t.floor, ..TableBatch::default() });
        let (tables, marks) = (tables.collect(), summary.marks.clone());
        self.target.append(&Batch { tables, marks, ..Batch::default() }).map(|_| ())
    }

    fn is_full(&self, table: usize) -> bool {
        let specs = self.summary.as_ref().map(|s| s.catalogue.tables.as_slice());
        specs.and_then(|s| s.get(table)).is_some_and(|spec| spec.history == History::Full)
    }
}

impl Receiver for Copier<'_> {
    fn begin(&mut self, summary: &Summary) -> Result<Vec<u64>, StoreError> {
        let there = self.target.begin_import(self.importer, self.from, summary)?;
        self.resumed = there.iter().sum();
        let rows =
            |t: &TableSummary| if t.head.is_some() { t.rows.history } else { t.rows.current };
        self.total = summary.tables.iter().map(rows).sum();
        self.summary = Some(summary.clone());
        Ok(there)
    }

    fn version(&mut self, table: usize, row: &Row) -> Result<(), StoreError> {
        self.put(table, row)
    }

    fn current(&mut self, table: usize, row: &Row) -> Result<(), StoreError> {
        self.sums.add(table, row);
        if self.is_full(table) { Ok(()) } else { self.put(table, row) }
    }
}
