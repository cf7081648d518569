//! The lock that every writer takes first, and how a take-over gets it from a steward that was stopped.
//!
//! Who writes holds the lock of one row of the meta table (`store_id`, which is there before the first claim) from the
//! first statement of his transaction to its end. That makes READ COMMITTED enough: nobody else who keeps to it changes
//! a row between what is read and what is written, and every statement behind the lock sees what the last holder
//! committed. (REPEATABLE READ would take its snapshot before the lock is there, and fail instead.)
//!
//! A steward that is stopped in the middle of a transaction keeps the lock for as long as his session lives. A claim or
//! take-over waits a short while, then ends the sessions that are in its way, if they are of this runtime. What they
//! had not committed is rolled back; when the steward goes on, his connection is gone, and on a new one he is fenced.

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::{Client, Error, Row, Statement};

use super::array::Array;
use super::connection::{APPLICATION, Connection, connect_to, in_order};
use super::error::of;
use super::meta::{LOCK, Meta, READ};
use crate::error::StoreError;
use crate::url::postgres::PostgresUrl;

/// Begins a transaction in which every statement sees what was committed before it. The role or the database may have set
/// another isolation: then what the last holder of the lock changed would not be seen.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// How long a holder of the lock may finish what it is at.
const GRACE: Duration = Duration::from_secs(2);
/// Ends the sessions that are in the way of process `$1`: those of this runtime in this database.
const END: &str = "SELECT a.pid, pg_terminate_backend(a.pid) FROM pg_stat_activity a
    WHERE a.pid = ANY(pg_blocking_pids($1)) AND a.datname = current_database()
    AND (a.application_name = $2 OR a.application_name LIKE $2 || ' %')";

/// What a transaction begins with.
pub(super) struct Begun<'a> {
    pub(super) meta: Meta<'a>,
    /// The rows that were asked for, none for none. The first error is the cause of those behind it, and says nothing
    /// before the owner is known.
    pub(super) looked: Vec<Result<Vec<Row>, StoreError>>,
}

/// The rows of some keys.
async fn look(client: &Client, keys: &Option<(Statement, Array)>) -> Result<Vec<Row>, Error> {
    match keys {
        Some((select, keys)) => client.query(select, &[keys]).await,
        None => Ok(Vec::new()),
    }
}

/// Begins a transaction, takes the lock, reads the meta table's `keys` and asks for rows: one round trip.
pub(super) fn begin<'a>(
    conn: &'a Connection,
    store_id: &str,
    keys: Vec<String>,
    looks: &[Option<(Statement, Array)>],
) -> Result<Begun<'a>, StoreError> {
    let (lock, read) = (conn.statement(LOCK)?, conn.statement(READ)?);
    let (client, with): (_, super::connection::Parameters<'_>) = (conn.client(), &[&keys]);
    let (lock, read, looked) = conn.wait(async {
        let begin = async {
            tokio::try_join!(
                biased;
                client.batch_execute(BEGIN),
                client.query(&lock, &[]),
                client.query(&read, with)
            )
        };
        let (begun, looked) =
            tokio::join!(biased; begin, in_order(looks.iter().map(|keys| look(client, keys))));
        begun.map(|(_, lock, read)| (lock, read, looked))
    })?;
    check_identity(conn, store_id, &lock)?;
    let meta = Meta::new(conn);
    meta.learn(keys, &read)?;
    let looked = looked.into_iter().map(|rows| rows.map_err(|e| of(conn.path(), &e))).collect();
    Ok(Begun { meta, looked })
}

/// Begins a transaction and takes the lock, also from a steward that was stopped while he had it.
pub(super) fn begin_by_force<'a>(
    conn: &'a Connection,
    url: &PostgresUrl,
    store_id: &str,
) -> Result<Meta<'a>, StoreError> {
    conn.execute(BEGIN)?;
    let lock = conn.statement(LOCK)?;
    let rows = conn.block(async {
        let taken = conn.client().query(&lock, &[]);
        tokio::pin!(taken);
        let taken = tokio::select! {
            rows = &mut taken => rows,
            () = sleep(GRACE) => {
                end_blockers(conn, url).await?;
                taken.await
            }
        };
        taken.map_err(|e| of(conn.path(), &e))
    })?;
    check_identity(conn, store_id, &rows)?;
    Ok(Meta::new(conn))
}

/// A database that was made anew under the same name would take rows and forget the others.
fn check_identity(conn: &Connection, store_id: &str, rows: &[Row]) -> Result<(), StoreError> {
    let replaced = || StoreError::Replaced(conn.path().to_owned());
    let found: &str = match rows.first() {
        Some(row) => row.try_get(1).map_err(|e| of(conn.path(), &e))?,
        None => return Err(replaced()),
    };
    if found == store_id { Ok(()) } else { Err(replaced()) }
}

async fn end_blockers(conn: &Connection, url: &PostgresUrl) -> Result<(), StoreError> {
    let other = connect_to(url, conn.path()).await?;
    let ended = other.client.query(END, &[&conn.pid, &APPLICATION]).await;
    ended.map(|_| ()).map_err(|e| of(conn.path(), &e))
}
