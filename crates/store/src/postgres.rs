//! The store on PostgreSQL: a schema of a database, whose server several machines may share.
//!
//! **Crash.** A transaction is whole or not there. After *any* error the connection is dropped, the server rolls back what
//! was not committed, and the next call opens a new one and sends the batch again; rows that are there are recognised. A
//! commit whose answer was lost is one of these cases. `synchronous_commit` is on unless the url says otherwise, so what
//! others can see is on the server's disk.
//!
//! **What is checked in each transaction**: that the store is the one that was opened, and that owner and epoch are the
//! ones that were claimed or joined, under a lock that every writer takes first ([`fence`]).

mod append;
mod array;
mod connection;
mod error;
mod fence;
mod foreign;
mod meta;
mod plan;
mod read;
mod scan;
mod tls;
mod transfer;
mod write;

use std::collections::BTreeMap;

use commonhold_core::catalogue::{Catalogue, History};
use commonhold_core::row::{Row, WriterId};

use crate::audit::Audit;
use crate::chain::hex;
use crate::error::StoreError;
use crate::foreign::{Appended, Conflict};
use crate::store::{
    Batch, Claim, HistoryRow, Mark, Owner, RowCount, SegmentIdentity, Store, TakenOver,
};
use crate::transfer::rows::refuse_incomplete;
use crate::url::postgres::PostgresUrl;
use crate::view::{self, TableView};
use append::{Appending, moving};
use connection::{Connection, Purpose, quoted};
use meta::Meta;
use plan::Plan;
use scan::View;
use write::{TableWriter, Written};

/// Rows taken over into a history at a time.
const TAKE_OVER_ROWS: usize = 1000;

/// A store in a schema of a database.
#[derive(Debug)]
pub(crate) struct PostgresStore {
    url: PostgresUrl,
    purpose: Purpose,
    store_id: [u8; 16],
    /// None after an error, until the next call.
    conn: Option<Connection>,
    attached: Option<Attached>,
    /// Whether the connection is a steward's, whose statements have a limit.
    serving: bool,
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

impl PostgresStore {
    /// Connects, making the schema and its meta table if they are not there.
    pub(crate) fn open(url: PostgresUrl) -> Result<Self, StoreError> {
        let mut conn = Connection::open(&url, Purpose::Write)?;
        let store_id = meta::identity(&conn, &quoted(&url.schema))?;
        conn.unlimited();
        Ok(Self::new(url, Purpose::Write, store_id, conn))
    }

    /// Connects to a store that must be there.
    pub(crate) fn open_existing(url: PostgresUrl) -> Result<Self, StoreError> {
        Self::open_for(url, Purpose::Write)
    }

    /// Connects to a store that must be there, for reading.
    pub(crate) fn open_read_only(url: PostgresUrl) -> Result<Self, StoreError> {
        Self::open_for(url, Purpose::Read)
    }

    fn open_for(url: PostgresUrl, purpose: Purpose) -> Result<Self, StoreError> {
        let mut conn = Connection::open(&url, purpose)?;
        if !meta::exists(&conn)? {
            return Err(StoreError::NotAStore(conn.path().to_owned()));
        }
        let store_id = meta::store_id(&Meta::new(&conn), conn.path())?;
        conn.unlimited();
        Ok(Self::new(url, purpose, store_id, conn))
    }

    fn new(url: PostgresUrl, purpose: Purpose, store_id: [u8; 16], conn: Connection) -> Self {
        Self { url, purpose, store_id, conn: Some(conn), attached: None, serving: false }
    }

    /// Runs `work` on the connection, opened anew if the last call failed; drops it when `work` fails.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&Connection, &mut Option<Attached>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.reopen()?,
        };
        let result = work(&conn, &mut self.attached)?;
        self.conn = Some(conn);
        Ok(result)
    }

    /// A new connection to the same store. Another one, be it a copy of it, may lack what was reported durable.
    fn reopen(&self) -> Result<Connection, StoreError> {
        let mut conn = Connection::open(&self.url, self.purpose)?;
        let there = meta::exists(&conn)?;
        if !there || meta::store_id(&Meta::new(&conn), conn.path())? != self.store_id {
            return Err(StoreError::Replaced(conn.path().to_owned()));
        }
        if self.serving {
            conn.serve(&self.url)?;
        } else {
            conn.unlimited();
        }
        Ok(conn)
    }

    /// Reads in one snapshot, whatever others commit meanwhile.
    fn snapshot<T>(
        &mut self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|conn, _| snapshot(conn, read))
    }

    /// Reads one table in one snapshot; by the stored catalogue when nothing was claimed or joined.
    fn with_plan<T>(
        &mut self,
        table: usize,
        read: impl FnOnce(&View<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|conn, attached| {
            snapshot(conn, |conn| {
                let path = conn.path();
                let stored = match attached {
                    Some(_) => None,
                    None => meta::catalogue(&Meta::new(conn), path)?,
                };
                let stored = stored.as_ref().map(plans).unwrap_or_default();
                let plans = attached.as_ref().map_or(&stored, |a| &a.plans);
                let no_table = || StoreError::NoTable { path: path.to_owned(), position: table };
                read(&View::new(conn, plans.get(table).ok_or_else(no_table)?))
            })
        })
    }

    /// Appends; `look` says whether to ask first which versions are there. None when it would have been better to.
    fn try_append(&mut self, batch: &Batch, look: bool) -> Result<Option<Appended>, StoreError> {
        let (store_id, channel) = (hex(&self.store_id), self.url.notify.clone());
        self.with(|conn, attached| {
            let no_one = || StoreError::NotAttached(conn.path().to_owned());
            let attached = attached.as_ref().ok_or_else(no_one)?;
            let appending = Appending { conn, attached, batch, look };
            appending.run(&store_id, channel.as_deref())
        })
    }
}

fn snapshot<T>(
    conn: &Connection,
    read: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let result = read(conn)?;
    conn.execute("COMMIT")?;
    Ok(result)
}

/// Writes what is left of the meta table, tells `notice` to its channel, and commits: one round trip.
fn commit(
    conn: &Connection,
    meta: &Meta<'_>,
    notice: Option<(&str, &str)>,
) -> Result<(), StoreError> {
    let (keys, values) = meta.take_changes()?;
    let write = conn.statement(meta::WRITE)?;
    let client = conn.client();
    let tell = match notice {
        Some((channel, text)) => {
            Some((conn.statement("SELECT pg_notify($1::text, $2::text)")?, channel, text))
        }
        None => None,
    };
    conn.wait(async {
        let write = async {
            if keys.is_empty() { Ok(0) } else { client.execute(&write, &[&keys, &values]).await }
        };
        let tell = async {
            match &tell {
                Some((statement, channel, text)) => {
                    client.execute(statement, &[channel, text]).await
                }
                None => Ok(0),
            }
        };
        // Waiting for a replica ends with a warning, not an error, when its time is over: it must not end so. Where
        // somebody cancels it, `confirmed` makes an error of the warning.
        let commit = client.batch_execute("SET LOCAL statement_timeout = 0; COMMIT");
        tokio::try_join!(biased; write, tell, commit).map(|_| ())
    })?;
    conn.confirmed()
}

/// Makes `segment` the owner, of `epoch`, with the tables of `catalogue`.
fn take(
    conn: &Connection,
    meta: &Meta<'_>,
    segment: &SegmentIdentity,
    catalogue: &Catalogue,
    plans: &[Plan],
    epoch: u64,
) -> Result<(), StoreError> {
    foreign::create(conn)?;
    plans.iter().try_for_each(|plan| migrate(conn, meta, plan))?;
    meta::set_owner(meta, conn.path(), Some(segment), epoch)?;
    meta::set(meta, conn.path(), "catalogue", &catalogue.to_json())
}

/// Creates what a table lacks; refuses what has other columns.
fn migrate(conn: &Connection, meta: &Meta<'_>, plan: &Plan) -> Result<(), StoreError> {
    plan.create(conn)?;
    let head = meta::head(meta, conn.path(), &plan.count_key, &plan.link_key)?;
    match (plan.spec.history, head) {
        (History::Latest, None) | (History::Full, Some(_)) => Ok(()),
        (History::Latest, Some(_)) => Err(StoreError::SchemaDiffers {
            path: conn.path().to_owned(),
            table: plan.spec.name.clone(),
            why: "it was stored with history = full and cannot go on without".to_owned(),
        }),
        (History::Full, None) => {
            let head = meta::Head::default();
            meta::set_head(meta, conn.path(), &plan.count_key, &plan.link_key, &head)?;
            take_over(&TableWriter { conn, meta, plan })
        }
    }
}

/// Begins the history of a table that had none with a copy of each of its rows.
fn take_over(writer: &TableWriter<'_>) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    let write = |rows: &[Row]| match writer.append_history(rows.iter())? {
        Written::All => Ok(()),
        Written::SomeKnown => Err(StoreError::SchemaDiffers {
            path: writer.conn.path().to_owned(),
            table: writer.plan.history_name(),
            why: "it has rows that the meta table does not count".to_owned(),
        }),
    };
    view::load(&View::new(writer.conn, writer.plan), &mut |row| {
        rows.push(row);
        if rows.len() == TAKE_OVER_ROWS {
            write(&rows)?;
            rows.clear();
        }
        Ok(())
    })?;
    write(&rows)
}

impl Store for PostgresStore {
    fn url(&self) -> String {
        self.url.to_string()
    }

    fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    fn owner(&mut self) -> Result<Option<Owner>, StoreError> {
        self.snapshot(|conn| meta::owner(&Meta::new(conn), conn.path()))
    }

    fn catalogue(&mut self) -> Result<Option<Catalogue>, StoreError> {
        self.snapshot(|conn| meta::catalogue(&Meta::new(conn), conn.path()))
    }

    fn epoch(&mut self) -> Result<u64, StoreError> {
        self.snapshot(|conn| meta::epoch(&Meta::new(conn), conn.path()))
    }

    fn claim_after(
        &mut self,
        segment: &SegmentIdentity,
        catalogue: &Catalogue,
        seen: Option<u64>,
    ) -> Result<Claim, StoreError> {
        let (url, store_id) = (self.url.clone(), hex(&self.store_id));
        let (epoch, batch) = self.with(|conn, attached| {
            let (path, plans) = (conn.path(), plans(catalogue));
            let meta = fence::begin_by_force(conn, &url, &store_id)?;
            refuse_incomplete(&meta, path)?;
            let epoch = meta::next_epoch(&meta, path, seen)?;
            take(conn, &meta, segment, catalogue, &plans, epoch)?;
            let batch = meta::batch(&meta, path)?;
            commit(conn, &meta, None)?;
            *attached = Some(Attached { uuid: segment.uuid, epoch, plans });
            Ok((epoch, batch))
        })?;
        Ok(Claim { epoch, store_id: self.store_id, batch })
    }

    fn take_over(&mut self) -> Result<TakenOver, StoreError> {
        let (url, store_id) = (self.url.clone(), hex(&self.store_id));
        self.with(|conn, _| {
            let path = conn.path();
            let meta = fence::begin_by_force(conn, &url, &store_id)?;
            let (fenced, batch) = (meta::owner(&meta, path)?, meta::batch(&meta, path)?);
            let epoch = meta::next_epoch(&meta, path, None)?;
            meta::set_owner(&meta, path, None, epoch)?;
            commit(conn, &meta, None)?;
            Ok(TakenOver { fenced, epoch, batch })
        })
    }

    fn join(
        &mut self,
        segment_uuid: [u8; 16],
        epoch: u64,
        seen: u64,
        catalogue: &Catalogue,
    ) -> Result<(), StoreError> {
        if let Some(mut conn) = self.conn.take() {
            conn.serve(&self.url)?;
            self.conn = Some(conn);
        }
        self.serving = true;
        self.snapshot(|conn| {
            let (meta, path) = (Meta::new(conn), conn.path());
            meta::check_owner(&meta, path, segment_uuid, epoch)?;
            meta::check_batch(&meta, path, seen).map(|_| ())
        })?;
        self.attached = Some(Attached { uuid: segment_uuid, epoch, plans: plans(catalogue) });
        Ok(())
    }

    fn load(
        &mut self,
        table: usize,
        sink: &mut dyn FnMut(Row) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        self.with_plan(table, |rows| {
            view::load(rows, sink)?;
            rows.floor()
        })
    }

    fn stamp(&mut self) -> Result<u64, StoreError> {
        self.snapshot(|conn| meta::stamp(&Meta::new(conn), conn.path()))
    }

    fn append(&mut self, batch: &Batch) -> Result<Appended, StoreError> {
        if let Some(appended) = self.try_append(batch, false)? {
            return Ok(appended);
        }
        let appended = self.try_append(batch, true)?;
        appended.ok_or_else(|| moving(&self.url.place()))
    }

    fn conflicts(&mut self) -> Result<Vec<Conflict>, StoreError> {
        self.snapshot(foreign::conflicts)
    }

    fn marks(&mut self) -> Result<Vec<Mark>, StoreError> {
        self.snapshot(|conn| meta::marks(&Meta::new(conn), conn.path()))
    }

    fn highest_sequence(&mut self, table: usize, writer: WriterId) -> Result<u64, StoreError> {
        self.with_plan(table, |rows| rows.highest_sequence(writer))
    }

    fn highest_sequences(&mut self, table: usize) -> Result<BTreeMap<WriterId, u64>, StoreError> {
        self.with_plan(table, |rows| rows.highest_sequences())
    }

    fn history(
        &mut self,
        table: usize,
        key: &str,
        sink: &mut dyn FnMut(HistoryRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.with_plan(table, |rows| view::history(rows, key, sink))
    }

    fn row_count(&mut self, table: usize) -> Result<RowCount, StoreError> {
        self.with_plan(table, |rows| rows.row_count())
    }

    fn audit(&mut self) -> Result<Audit, StoreError> {
        let store = self.url();
        self.snapshot(|conn| scan::audit(conn, store))
    }
}
