//! What programs do with a database without us: threads with a connection each that repeat a transaction.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::{Client, IsolationLevel, NoTls, Statement, Transaction};
use rusqlite::params;

use crate::place::key;
use crate::watch::{self, Watch};
use crate::{Failure, Outcome};

/// Bytes of a row beside its numbers.
const REST: usize = 244;
/// The peers' table; `n` is what the reference adds to.
const TABLE: &str =
    "CREATE TABLE peer(key text PRIMARY KEY, n bigint NOT NULL, rest bytea NOT NULL)";

/// One transaction, again and again; an error ends the measurement.
pub(crate) type Repeated = Box<dyn FnMut() -> Outcome>;

/// How to read, change and write a row in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// A plain read in a transaction at READ COMMITTED.
    Naive,
    /// `SELECT … FOR UPDATE`.
    ForUpdate,
    /// SERIALIZABLE, tried again when it is refused.
    Serializable,
}

/// What threads did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeats {
    /// Transactions a second, of all together.
    pub(crate) rate: f64,
    /// Transactions, also those before and behind the measured time.
    pub(crate) count: u64,
}

/// Has `count` threads repeat what `make` gives each of them.
pub(crate) fn repeat(
    count: usize,
    time: Duration,
    make: &(dyn Fn(usize) -> Outcome<Repeated> + Sync),
) -> Outcome<Repeats> {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let ready = Barrier::new(count + 1);
    let life = |index| -> Result<(), String> {
        let made = make(index).map_err(|e| e.to_string());
        ready.wait();
        let mut work = made?;
        while !stop.load(Ordering::Relaxed) {
            work().map_err(|e| e.to_string())?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let life = &life;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|index| scope.spawn(move || life(index))).collect();
        ready.wait();
        std::thread::sleep(time / 4);
        let watch = Watch::start(&[]);
        let (before, start) = (done.load(Ordering::Relaxed), Instant::now());
        std::thread::sleep(time);
        let (after, elapsed) = (done.load(Ordering::Relaxed), start.elapsed());
        stop.store(true, Ordering::Relaxed);
        let share = watch.and_then(|watch| watch.share(&[]));
        for thread in threads {
            thread.join().map_err(|_| "a thread of the peer panicked")??;
        }
        watch::note(share?);
        let rate = (after - before) as f64 / elapsed.as_secs_f64();
        Ok(Repeats { rate, count: done.load(Ordering::Relaxed) })
    })
}

/// Makes the peers' table with a row for each of `count` keys.
pub(crate) fn prepare_postgres(url: &str, count: usize) -> Outcome {
    let mut client = Client::connect(url, NoTls)?;
    client.batch_execute(TABLE)?;
    let insert = "INSERT INTO peer SELECT k, 0, $2 FROM unnest($1::text[]) k";
    let keys: Vec<String> = (0..count).map(key).collect();
    client.execute(insert, &[&keys, &vec![7_u8; REST]])?;
    Ok(())
}

/// The sum of what was added.
pub(crate) fn added(url: &str) -> Outcome<u64> {
    let row = Client::connect(url, NoTls)?.query_one("SELECT sum(n)::bigint FROM peer", &[])?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

/// One statement that changes row `index`: a transaction of its own.
pub(crate) fn single_postgres(url: &str, index: usize) -> Outcome<Repeated> {
    let mut client = Client::connect(url, NoTls)?;
    let update = client.prepare("UPDATE peer SET n = n + 1, rest = $2 WHERE key = $1")?;
    let (key, rest) = (key(index), vec![7_u8; REST]);
    Ok(Box::new(move || {
        client.execute(&update, &[&key, &rest])?;
        Ok(())
    }))
}

/// Reads row 0, adds one, writes it back, in a transaction.
pub(crate) fn read_change_write(url: &str, isolation: Isolation) -> Outcome<Repeated> {
    let mut client = Client::connect(url, NoTls)?;
    let lock = if isolation == Isolation::ForUpdate { " FOR UPDATE" } else { "" };
    let read = client.prepare(&format!("SELECT n FROM peer WHERE key = $1{lock}"))?;
    let write = client.prepare("UPDATE peer SET n = $2, rest = $3 WHERE key = $1")?;
    let (key, rest) = (key(0), vec![7_u8; REST]);
    Ok(Box::new(move || {
        loop {
            let level = match isolation {
                Isolation::Serializable => IsolationLevel::Serializable,
                _ => IsolationLevel::ReadCommitted,
            };
            let transaction = client.build_transaction().isolation_level(level).start()?;
            match add_one(transaction, &read, &write, &key, &rest) {
                Ok(()) => return Ok(()),
                Err(e) if must_retry(&e) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }))
}

fn add_one(
    mut transaction: Transaction<'_>,
    read: &Statement,
    write: &Statement,
    key: &str,
    rest: &Vec<u8>,
) -> Result<(), postgres::Error> {
    let n: i64 = transaction.query_one(read, &[&key])?.try_get(0)?;
    transaction.execute(write, &[&key, &(n + 1), rest])?;
    transaction.commit()
}

fn must_retry(error: &postgres::Error) -> bool {
    let codes = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| codes.contains(code))
}

/// Rows a second that PostgreSQL takes in transactions of `rows`, new keys all of them.
pub(crate) fn batches_postgres(url: &str, rows: usize, batches: usize) -> Outcome<f64> {
    let mut client = Client::connect(url, NoTls)?;
    client.batch_execute("DROP TABLE IF EXISTS raw; CREATE TABLE raw(LIKE peer INCLUDING ALL)")?;
    let insert = "INSERT INTO raw SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[])";
    let insert = client.prepare(insert)?;
    let rests = vec![vec![7_u8; REST]; rows];
    let numbers: Vec<i64> = (0..rows as i64).collect();
    let start = Instant::now();
    for batch in 0..batches {
        let keys: Vec<String> = (0..rows).map(|n| key(batch * rows + n)).collect();
        client.execute(&insert, &[&keys, &numbers, &rests])?;
    }
    Ok((rows * batches) as f64 / start.elapsed().as_secs_f64())
}

fn open_sqlite(path: &str) -> Outcome<rusqlite::Connection> {
    let db = rusqlite::Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(60))?;
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")?;
    Ok(db)
}

/// Makes the peers' table in a file, with a row for each of `count` keys.
pub(crate) fn prepare_sqlite(path: &str, count: usize) -> Outcome {
    let mut db = open_sqlite(path)?;
    db.execute_batch(TABLE)?;
    let transaction = db.transaction()?;
    for number in 0..count {
        let row = params![key(number), vec![7_u8; REST]];
        transaction.execute("INSERT INTO peer VALUES(?1, 0, ?2)", row)?;
    }
    Ok(transaction.commit()?)
}

/// One statement that changes row `index`: a transaction of its own.
pub(crate) fn single_sqlite(path: &str, index: usize) -> Outcome<Repeated> {
    let db = open_sqlite(path)?;
    let (key, rest) = (key(index), vec![7_u8; REST]);
    Ok(Box::new(move || {
        let sql = "UPDATE peer SET n = n + 1, rest = ?2 WHERE key = ?1";
        db.prepare_cached(sql)?.execute(params![key, rest])?;
        Ok(())
    }))
}

/// Rows a second that SQLite takes in transactions of `rows`, new keys all of them.
pub(crate) fn batches_sqlite(path: &str, rows: usize, batches: usize) -> Outcome<f64> {
    let mut db = open_sqlite(path)?;
    db.execute_batch(&format!("DROP TABLE IF EXISTS raw; {}", TABLE.replace("peer", "raw")))?;
    let rest = vec![7_u8; REST];
    let start = Instant::now();
    for batch in 0..batches {
        let transaction = db.transaction()?;
        for n in 0..rows {
            let sql = "INSERT INTO raw VALUES(?1, ?2, ?3)";
            let row = params![key(batch * rows + n), n as i64, rest];
            transaction.prepare_cached(sql).map_err(Failure::from)?.execute(row)?;
        }
        transaction.commit()?;
    }
    Ok((rows * batches) as f64 / start.elapsed().as_secs_f64())
}
