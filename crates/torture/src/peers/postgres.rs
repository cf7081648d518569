//! The ways `naive` and `store` on PostgreSQL: a table of their own in the database of the store, which goes at the end.
//!
//! A server has room for fewer connections than a torture has processes. Who finds no room before the start line asks
//! again behind it, as programs without a pool do; the time that takes is no update's.

use std::error::Error as _;
use std::io::ErrorKind;
use std::str::FromStr;
use std::time::Duration;

use commonhold::hash::{record_prefix, state_hash};
use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};

use crate::arena::Arena;
use crate::worker::{Task, updates};
use crate::{Options, TortureError, key};

/// Tells worker processes the url, in which a password may stand: a command line is for all to read.
const VARIABLE: &str = "COMMONHOLD_TORTURE_POSTGRES";
/// What our urls have beyond those that every program understands.
const OURS: [&str; 6] =
    ["schema", "notify", "synchronous_commit", "statement_timeout", "password_file", "passfile"];
/// The first and the longest pause of who finds no room.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A peer's table.
pub(crate) struct Table {
    url: String,
    name: String,
}

fn failed(what: &str, error: &postgres::Error) -> TortureError {
    // The driver says `db error` only; the server's words are behind it.
    let source = || error.source().map(|e| format!(": {e}")).unwrap_or_default();
    let why = match error.as_db_error() {
        Some(e) => e.message().to_owned(),
        None => format!("{error}{}", source()),
    };
    TortureError::system(what, std::io::Error::other(why))
}

fn sql(error: postgres::Error) -> TortureError {
    failed("use the peer's table in postgresql", &error)
}

/// Whether a store's url names a PostgreSQL.
pub(crate) fn is_meant(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The driver's form of a store's url.
fn config(url: &str) -> Result<Config, TortureError> {
    let no = |why: &str| TortureError::Options(format!("--mode naive and store: {why}"));
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut theirs, mut file) = (Vec::new(), None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "sslmode" if !["disable", "prefer"].contains(&value) => {
                return Err(no("they connect without tls; use sslmode=disable or prefer"));
            }
            "password_file" | "passfile" => file = Some(value),
            _ if OURS.contains(&name) => {}
            _ => theirs.push(pair),
        }
    }
    let mut config = Config::from_str(&format!("{base}?{}", theirs.join("&")))
        .map_err(|_| no("not a url of postgresql; see --help for its form"))?;
    let password = match file {
        Some(file) => Some(
            std::fs::read_to_string(file)
                .map_err(|e| TortureError::system("read the password's file", e))?,
        ),
        None => std::env::var("PGPASSWORD").ok().filter(|word| !word.is_empty()),
    };
    if let Some(password) = password.filter(|_| config.get_password().is_none()) {
        config.password(password.trim_end_matches(['\r', '\n']));
    }
    Ok(config)
}

/// A connection; none when the server has no room for it.
fn try_connect(url: &str) -> Result<Option<Client>, TortureError> {
    match config(url)?.connect(NoTls) {
        Ok(client) => Ok(Some(client)),
        Err(e) if is_crowded(&e) => Ok(None),
        Err(e) => Err(failed("connect to postgresql", &e)),
    }
}

/// Whether the server has all the connections that it may have, or its socket all those that may wait to be accepted.
fn is_crowded(error: &postgres::Error) -> bool {
    let io = error.source().and_then(|e| e.downcast_ref::<std::io::Error>());
    error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
        || io.is_some_and(|e| e.kind() == ErrorKind::WouldBlock)
}

/// A connection, once there is room.
fn connect(url: &str, seed: u32) -> Result<Client, TortureError> {
    let (mut pause, last) = PAUSES;
    loop {
        if let Some(client) = try_connect(url)? {
            return Ok(client);
        }
        // Not all at the same time.
        std::thread::sleep(pause * (8 + seed % 16) / 16);
        pause = (pause * 2).min(last);
    }
}

impl Table {
    /// Makes the table, as the store lays it out, with its records.
    pub(crate) fn create(url: &str, options: &Options) -> Result<Self, TortureError> {
        let id = commonhold_os::random::hex(&commonhold_os::random::uuid());
        let table = Self { url: url.to_owned(), name: format!("torture_peer_{id}") };
        let mut client = connect(url, 0)?;
        let create = format!(
            "CREATE TABLE {}(key text COLLATE \"C\" PRIMARY KEY, value bigint, filler bytea, _version bigint, _hash text)",
            table.name
        );
        client.batch_execute(&create).map_err(sql)?;
        let insert =
            format!("INSERT INTO {} SELECT k, 0, $2, 1, '' FROM unnest($1::text[]) k", table.name);
        let keys: Vec<String> = (0..options.keys).map(|n| key(n.into())).collect();
        let filler = vec![0_u8; options.payload as usize - 12];
        client.execute(&insert, &[&keys, &filler]).map_err(sql)?;
        Ok(table)
    }

    /// What workers are told beside their environment.
    pub(crate) fn target(&self) -> &str {
        &self.name
    }

    /// What workers find in their environment.
    pub(crate) fn environment(&self) -> (&'static str, &str) {
        (VARIABLE, &self.url)
    }

    /// The sum of the values, and whether each version is its value plus one.
    pub(crate) fn state(&self) -> Result<(i64, bool), TortureError> {
        let select = format!(
            "SELECT COALESCE(SUM(value), 0)::bigint, COALESCE(BOOL_AND(_version = value + 1), true) FROM {}",
            self.name
        );
        let row = connect(&self.url, 0)?.query_one(&select, &[]).map_err(sql)?;
        Ok((row.try_get(0).map_err(sql)?, row.try_get(1).map_err(sql)?))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // What cannot be dropped is told by its name.
        if let Ok(mut client) = connect(&self.url, 0) {
            let _ = client.batch_execute(&format!("DROP TABLE IF EXISTS {}", self.name));
        }
    }
}

/// Waits at the start line, with a connection if there is room for one.
fn start(task: &Task, arena: &Arena) -> Result<Client, TortureError> {
    let url = std::env::var(VARIABLE)
        .map_err(|_| TortureError::Options("a worker without its database".to_owned()))?;
    let early = try_connect(&url)?;
    arena.wait_for_start()?;
    match early {
        Some(client) => Ok(client),
        None => connect(&url, task.index),
    }
}

/// Seed 002's *before*: read the row, compute, write it in a second statement, in a transaction at READ COMMITTED.
pub(crate) fn naive(task: &Task, arena: &Arena) -> Result<(), TortureError> {
    let mut client = start(task, arena)?;
    let table = &task.target;
    let select = format!("SELECT value, _version FROM {table} WHERE key = $1");
    let update = format!("UPDATE {table} SET value = $1, _version = $2 WHERE key = $3");
    let read = client.prepare(&select).map_err(sql)?;
    let write = client.prepare(&update).map_err(sql)?;
    updates(task, &arena.worker(task.index), |number| {
        let key = task.options.key(task.index, number);
        let mut transaction = client.transaction().map_err(sql)?;
        let row = transaction.query_one(&read, &[&key]).map_err(sql)?;
        let (value, version): (i64, i64) =
            (row.try_get(0).map_err(sql)?, row.try_get(1).map_err(sql)?);
        transaction.execute(&write, &[&(value + 1), &(version + 1), &key]).map_err(sql)?;
        transaction.commit().map_err(sql)
    })
}

/// Each update one transaction that locks its row first.
pub(crate) fn store(task: &Task, arena: &Arena) -> Result<(), TortureError> {
    let mut client = start(task, arena)?;
    let table = &task.target;
    let select = format!("SELECT value, _version, filler FROM {table} WHERE key = $1 FOR UPDATE");
    let update = format!("UPDATE {table} SET value = $1, _version = $2, _hash = $3 WHERE key = $4");
    let read = client.prepare(&select).map_err(sql)?;
    let write = client.prepare(&update).map_err(sql)?;
    updates(task, &arena.worker(task.index), |number| {
        let key = task.options.key(task.index, number);
        let mut transaction = client.transaction().map_err(sql)?;
        let row = transaction.query_one(&read, &[&key]).map_err(sql)?;
        let (value, version): (i64, i64) =
            (row.try_get(0).map_err(sql)?, row.try_get(1).map_err(sql)?);
        let filler: Vec<u8> = row.try_get(2).map_err(sql)?;
        let mut payload = (value + 1).to_le_bytes().to_vec();
        payload.extend((filler.len() as u32).to_le_bytes());
        payload.extend(filler);
        let prefix = record_prefix("records", &key);
        let hash = state_hash(prefix, (version + 1).cast_unsigned(), &payload);
        let hash = format!("{hash:016x}");
        let row: [&(dyn postgres::types::ToSql + Sync); 4] =
            [&(value + 1), &(version + 1), &hash, &key];
        transaction.execute(&write, &row).map_err(sql)?;
        transaction.commit().map_err(sql)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_urls_become_the_drivers() {
        let url =
            "postgres://u:p%40s@h:7/d?schema=x&application_name=t&notify=c&statement_timeout=9000";
        let config = config(url).unwrap();
        assert_eq!((config.get_user(), config.get_dbname()), (Some("u"), Some("d")));
        assert_eq!(config.get_password(), Some(&b"p@s"[..]));
        assert_eq!(config.get_application_name(), Some("t"));
        for wrong in ["postgres://h/d?sslmode=require", "postgres://u:secret@h/d?nonsense=1"] {
            let error = super::config(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret") && !error.contains('\n'), "{error}");
        }
    }
}
