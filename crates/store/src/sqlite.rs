//! The store on SQLite: one file, write-ahead log, synced at every commit.
//!
//! **Crash.** A transaction is whole or not there. A commit whose outcome is unknown is never taken for a success: after
//! *any* error the connection is dropped, the next call opens a new one, which sees what the file truly holds, and the
//! batch is sent again; rows that are there are recognised. (A second `fsync` may succeed without the data of the failed
//! one being on disk, and who opens the file after a killed writer may see what was never synced: so a new connection
//! first writes the log again and syncs it.)
//!
//! **What is checked in each transaction**: that the path still names the file that is open (a removed database
//! would take rows and forget them), and that owner and epoch are the ones that were claimed or joined.

mod connection;
mod foreign;
mod meta;
mod plan;
mod read;
mod scan;
mod transfer;
mod write;

use std::collections::BTreeMap;

use commonhold_core::catalogue::{Catalogue, History};
use commonhold_core::row::{Row, WriterId};
use rusqlite::{Connection, TransactionBehavior};

use crate::audit::Audit;
use crate::error::StoreError;
use crate::foreign::{Appended, Conflict, ForeignChange, by_key, compare};
use crate::store::{
    Batch, Claim, HistoryRow, Mark, Owner, RowCount, SegmentIdentity, Store, TableBatch, TakenOver,
};
use crate::transfer::rows::refuse_incomplete;
use crate::url::SqliteUrl;
use crate::view;
use connection::{FileId, of};
use plan::Plan;
use scan::View;
use write::{Scratch, TableWriter};

/// Rows taken over into a history at a time.
const TAKE_OVER_ROWS: usize = 1000;

/// A store in a SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    url: SqliteUrl,
    path: String,
    read_only: bool,
    store_id: [u8; 16],
    file: FileId,
    /// None after an error, until the next call.
    conn: Option<Connection>,
    attached: Option<Attached>,
    scratch: Scratch,
}

/// What was claimed or joined.
#[derive(Debug)]
struct Attached {
    uuid: [u8; 16],
    epoch: u64,
    plans: Vec<Plan>,
}

fn plans(catalogue: &Catalogue) -> Vec<Plan> {
    catalogue.tables.iter().map(Plan::new).collect()
}

impl SqliteStore {
    /// Opens the file, making it and its meta table if they are not there.
    pub(crate) fn open(url: SqliteUrl) -> Result<Self, StoreError> {
        connection::create(&url.path.display().to_string())?;
        Self::open_file(url, true)
    }

    /// Opens the file, which must be a store.
    pub(crate) fn open_existing(url: SqliteUrl) -> Result<Self, StoreError> {
        Self::open_file(url, false)
    }

    fn open_file(url: SqliteUrl, create: bool) -> Result<Self, StoreError> {
        let path = url.path.display().to_string();
        let file = connection::file_id(&path)?;
        let mut conn = connection::open(&url, &path)?;
        if !create && !meta::exists(&conn, &path)? {
            return Err(StoreError::NotAStore(path));
        }
        let store_id = connection::identity(&mut conn, &path)?;
        Ok(Self::new(url, path, false, store_id, file, conn))
    }

    /// Opens the file, which must be a store, for reading.
    pub(crate) fn open_read_only(url: SqliteUrl) -> Result<Self, StoreError> {
        let path = url.path.display().to_string();
        let file = connection::file_id(&path)?;
        let conn = connection::open_read_only(&path)?;
        if !meta::exists(&conn, &path)? {
            return Err(StoreError::NotAStore(path));
        }
        let store_id = meta::store_id(&conn, &path)?;
        Ok(Self::new(url, path, true, store_id, file, conn))
    }

    fn new(
        url: SqliteUrl,
        path: String,
        read_only: bool,
        store_id: [u8; 16],
        file: FileId,
        conn: Connection,
    ) -> Self {
        let (conn, scratch) = (Some(conn), Scratch::default());
        Self { url, path, read_only, store_id, file, conn, attached: None, scratch }
    }

    /// Runs `work` on the connection, opened anew if the last call failed; drops it when `work` fails.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Session<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.reopen()?,
        };
        if connection::file_id(&self.path) != Ok(self.file) {
            return Err(StoreError::Replaced(self.path.clone()));
        }
        let (path, scratch) = (self.path.as_str(), &mut self.scratch);
        let mut session = Session { conn: &mut conn, path, attached: &mut self.attached, scratch };
        let result = work(&mut session)?;
        self.conn = Some(conn);
        Ok(result)
    }

    /// A new connection to the same file. Another one, be it a copy of it, may lack what was reported durable.
    fn reopen(&self) -> Result<Connection, StoreError> {
        if connection::file_id(&self.path)? != self.file {
            return Err(StoreError::Replaced(self.path.clone()));
        }
        let conn = if self.read_only {
            connection::open_read_only(&self.path)?
        } else {
            connection::open(&self.url, &self.path)?
        };
        if !meta::exists(&conn, &self.path)? || meta::store_id(&conn, &self.path)? != self.store_id
        {
            return Err(StoreError::Replaced(self.path.clone()));
        }
        Ok(conn)
    }
}

impl Store for SqliteStore {
    fn url(&self) -> String {
        self.url.to_string()
    }

    fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    fn owner(&mut self) -> Result<Option<Owner>, StoreError> {
        self.with(|s| s.snapshot(|conn, path| meta::owner(conn, path)))
    }

    fn catalogue(&mut self) -> Result<Option<Catalogue>, StoreError> {
        self.with(|s| meta::catalogue(s.conn, s.path))
    }

    fn epoch(&mut self) -> Result<u64, StoreError> {
        self.with(|s| s.snapshot(|conn, path| meta::epoch(conn, path)))
    }

    fn claim_after(
        &mut self,
        segment: &SegmentIdentity,
        catalogue: &Catalogue,
        seen: Option<u64>,
    ) -> Result<Claim, StoreError> {
        let store_id = self.store_id;
        let (epoch, batch) = self.with(|s| s.claim(segment, catalogue, seen))?;
        Ok(Claim { epoch, store_id, batch })
    }

    fn take_over(&mut self) -> Result<TakenOver, StoreError> {
        self.with(|s| s.take_over())
    }

    fn join(
        &mut self,
        segment_uuid: [u8; 16],
        epoch: u64,
        seen: u64,
        catalogue: &Catalogue,
    ) -> Result<(), StoreError> {
        self.with(|s| {
            let attached = Attached { uuid: segment_uuid, epoch, plans: plans(catalogue) };
            s.snapshot(|conn, path| {
                meta::check_owner(conn, path, attached.uuid, attached.epoch)?;
                meta::check_batch(conn, path, seen).map(|_| ())
            })?;
            let wait = connection::STEWARD_BUSY_TIMEOUT;
            s.conn.busy_timeout(wait).map_err(|e| of(s.path, e))?;
            *s.attached = Some(attached);
            Ok(())
        })
    }

    fn load(
        &mut self,
        table: usize,
        sink: &mut dyn FnMut(Row) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        self.with(|s| {
            s.with_plan(table, |conn, path, plan| {
                view::load(&View { conn, path, plan }, sink)?;
                meta::number(conn, path, &plan.floor_key)
            })
        })
    }

    fn stamp(&mut self) -> Result<u64, StoreError> {
        self.with(|s| s.snapshot(|conn, path| meta::stamp(conn, path)))
    }

    fn append(&mut self, batch: &Batch) -> Result<Appended, StoreError> {
        self.with(|s| s.append(batch))
    }

    fn conflicts(&mut self) -> Result<Vec<Conflict>, StoreError> {
        self.with(|s| s.snapshot(foreign::conflicts))
    }

    fn marks(&mut self) -> Result<Vec<Mark>, StoreError> {
        self.with(|s| s.snapshot(|conn, path| meta::marks(conn, path)))
    }

    fn highest_sequence(&mut self, table: usize, writer: WriterId) -> Result<u64, StoreError> {
        self.with(|s| {
            s.with_plan(table, |conn, path, plan| scan::highest_sequence(conn, path, plan, writer))
        })
    }

    fn highest_sequences(&mut self, table: usize) -> Result<BTreeMap<WriterId, u64>, StoreError> {
        self.with(|s| s.with_plan(table, scan::highest_sequences))
    }

    fn history(
        &mut self,
        table: usize,
        key: &str,
        sink: &mut dyn FnMut(HistoryRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.with(|s| {
            s.with_plan(table, |conn, path, plan| {
                view::history(&View { conn, path, plan }, key, sink)
            })
        })
    }

    fn row_count(&mut self, table: usize) -> Result<RowCount, StoreError> {
        self.with(|s| s.with_plan(table, scan::row_count))
    }

    fn audit(&mut self) -> Result<Audit, StoreError> {
        let store = self.url();
        self.with(|s| s.snapshot(|conn, path| scan::audit(conn, path, store)))
    }
}

/// The parts of a store during one call.
struct Session<'a> {
    conn: &'a mut Connection,
    path: &'a str,
    attached: &'a mut Option<Attached>,
    scratch: &'a mut Scratch,
}

impl Session<'_> {
    /// Reads in one snapshot, whatever others commit meanwhile.
    fn snapshot<T>(
        &mut self,
        read: impl FnOnce(&Connection, &str) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let path = self.path;
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(|e| of(path, e))?;
        read(&tx, path)
    }

    /// Reads one table in one snapshot; by the stored catalogue when nothing was claimed or joined.
    fn with_plan<T>(
        &mut self,
        table: usize,
        read: impl FnOnce(&Connection, &str, &Plan) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let stored = match self.attached {
            Some(_) => None,
            None => meta::catalogue(self.conn, self.path)?,
        };
        let stored = stored.as_ref().map(plans).unwrap_or_default();
        let attached = self.attached.take();
        let plans = attached.as_ref().map_or(&stored, |a| &a.plans);
        let path = self.path.to_owned();
        let plan = plans.get(table).ok_or(StoreError::NoTable { path, position: table });
        let result = plan.and_then(|plan| self.snapshot(|conn, path| read(conn, path, plan)));
        *self.attached = attached;
        result
    }

    fn claim(
        &mut self,
        segment: &SegmentIdentity,
        catalogue: &Catalogue,
        seen: Option<u64>,
    ) -> Result<(u64, u64), StoreError> {
        let (path, plans) = (self.path, plans(catalogue));
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| of(path, e))?;
        refuse_incomplete(&tx, path)?;
        let epoch = meta::next_epoch(&tx, path, seen)?;
        take(&tx, path, segment, catalogue, &plans, epoch, self.scratch)?;
        let batch = meta::batch(&tx, path)?;
        tx.commit().map_err(|e| of(path, e))?;
        *self.attached = Some(Attached { uuid: segment.uuid, epoch, plans });
        Ok((epoch, batch))
    }

    fn take_over(&mut self) -> Result<TakenOver, StoreError> {
        let path = self.path;
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| of(path, e))?;
        let (fenced, batch) = (meta::owner(&tx, path)?, meta::batch(&tx, path)?);
        let epoch = meta::next_epoch(&tx, path, None)?;
        meta::set_owner(&tx, path, None, epoch)?;
        tx.commit().map_err(|e| of(path, e))?;
        Ok(TakenOver { fenced, epoch, batch })
    }

    fn append(&mut self, batch: &Batch) -> Result<Appended, StoreError> {
        let path = self.path;
        let Some(attached) = self.attached.take() else {
            return Err(StoreError::NotAttached(path.to_owned()));
        };
        let result = self.append_as(&attached, batch);
        *self.attached = Some(attached);
        result
    }

    fn append_as(&mut self, attached: &Attached, batch: &Batch) -> Result<Appended, StoreError> {
        let path = self.path;
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| of(path, e))?;
        meta::check_owner(&tx, path, attached.uuid, attached.epoch)?;
        let last = meta::check_last(&tx, path, batch)?;
        let (mut foreign, mut wrote) = (Vec::new(), !batch.marks.is_empty());
        for part in &batch.tables {
            let position = part.table;
            let Some(plan) = attached.plans.get(position) else {
                return Err(StoreError::NoTable { path: path.to_owned(), position });
            };
            let writer = TableWriter { conn: &tx, path, plan, scratch: self.scratch };
            let written = write_table(writer, attached.epoch, part);
            let (changes, noted) = written.map_err(|e| e.of_table(&plan.spec.name))?;
            wrote |= changes.is_empty() || noted;
            foreign.extend(changes);
        }
        // A stopped table that is tried again, and nothing else, is no batch.
        if !wrote && !foreign.is_empty() {
            return Ok(Appended { batch: last, written: false, foreign });
        }
        batch.marks.iter().try_for_each(|mark| meta::write_mark(&tx, path, mark))?;
        meta::set_last(&tx, path, batch, last + 1)?;
        tx.commit().map_err(|e| of(path, e))?;
        Ok(Appended { batch: last + 1, written: true, foreign })
    }
}

/// Writes one table's part of a batch unless somebody else changed its rows; the foreign changes, and whether one
/// was noted just now.
fn write_table(
    mut writer: TableWriter<'_>,
    epoch: u64,
    part: &TableBatch,
) -> Result<(Vec<ForeignChange>, bool), StoreError> {
    let unordered = |row| writer.bad_row(row, "its key's rows are not in ascending order");
    let mut keys = by_key(&part.rows).map_err(unordered)?;
    let mut current = foreign::Current::new(writer.conn, writer.path, writer.plan)?;
    let spec = &writer.plan.spec;
    let (changes, noted) = compare(&mut current, spec, epoch, part, &mut keys)?;
    if changes.is_empty() {
        writer.write(part, &keys)?;
    }
    Ok((changes, noted))
}

/// Makes `segment` the owner, of `epoch`, with the tables of `catalogue`.
fn take(
    conn: &Connection,
    path: &str,
    segment: &SegmentIdentity,
    catalogue: &Catalogue,
    plans: &[Plan],
    epoch: u64,
    scratch: &mut Scratch,
) -> Result<(), StoreError> {
    foreign::create(conn, path)?;
    plans.iter().try_for_each(|plan| migrate(conn, path, plan, scratch))?;
    meta::set_owner(conn, path, Some(segment), epoch)?;
    meta::set(conn, path, "catalogue", &catalogue.to_json())
}

/// Creates what a table lacks; refuses what has other columns.
fn migrate(
    conn: &Connection,
    path: &str,
    plan: &Plan,
    scratch: &mut Scratch,
) -> Result<(), StoreError> {
    plan.create(conn, path)?;
    let head = meta::head(conn, path, &plan.count_key, &plan.link_key)?;
    match (plan.spec.history, head) {
        (History::Latest, None) | (History::Full, Some(_)) => Ok(()),
        (History::Latest, Some(_)) => Err(StoreError::SchemaDiffers {
            path: path.to_owned(),
            table: plan.spec.name.clone(),
            why: "it was stored with history = full and cannot go on without".to_owned(),
        }),
        (History::Full, None) => {
            let head = meta::Head::default();
            meta::set_head(conn, path, &plan.count_key, &plan.link_key, &head)?;
            take_over(&mut TableWriter { conn, path, plan, scratch })
        }
    }
}

/// Begins the history of a table that had none with a copy of each of its rows.
fn take_over(writer: &mut TableWriter<'_>) -> Result<(), StoreError> {
    let (conn, path, plan) = (writer.conn, writer.path, writer.plan);
    let mut rows = Vec::new();
    view::load(&View { conn, path, plan }, &mut |row| {
        rows.push(row);
        if rows.len() == TAKE_OVER_ROWS {
            writer.append_history(&rows)?;
            rows.clear();
        }
        Ok(())
    })?;
    writer.append_history(&rows).map(|_| ())
}
