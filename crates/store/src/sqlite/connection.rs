//! Opening the file, the identity of the file behind the connection, and SQLite's errors as ours.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::StoreError;
use crate::sqlite::meta;
use crate::url::{SqliteUrl, Synchronous};

/// How long a statement waits for another program's lock before it fails with [`StoreError::Busy`].
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a steward waits: he tries again anyhow, and what he waits for can be told only when he has given up.
pub(super) const STEWARD_BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pieces of that wait where SQLite itself does not wait: the first switch to the write-ahead log.
const BUSY_PIECE: Duration = Duration::from_millis(20);
/// Statements kept prepared: six a table, at most 64 tables, and the meta table's.
const STATEMENTS: usize = 512;
/// Pages of log after which a commit also checkpoints: 16 MiB, four times SQLite's default, because a steward
/// writes the same pages again and again and each checkpoint costs two syncs.
const CHECKPOINT_PAGES: u32 = 4096;
/// Page cache, in KiB; an audit visits the rows in the order of the keys, which is not the file's.
const CACHE_KIB: u32 = 64 * 1024;
/// Bytes of the log that are written again at a time.
const PIECE: usize = 1 << 20;

/// Device and inode: which file a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

/// What the file behind `path` is now.
pub(super) fn file_id(path: &str) -> Result<FileId, StoreError> {
    match std::fs::metadata(path) {
        Ok(m) => Ok(FileId(m.dev(), m.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(StoreError::Missing(path.to_owned()))
        }
        Err(e) => Err(StoreError::CannotOpen { path: path.to_owned(), why: e.to_string() }),
    }
}

/// Makes the file, readable by its owner only, unless something is there. (SQLite would make it readable
/// by everyone; its log and index take over the file's mode.)
pub(super) fn create(path: &str) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(StoreError::CannotOpen { path: path.to_owned(), why: e.to_string() }),
    }
}

/// Opens the file, which must be there, for writing.
pub(super) fn open(url: &SqliteUrl, path: &str) -> Result<Connection, StoreError> {
    let fail = |e| of(path, e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    prepare(&conn, path)?;
    // Until the log is settled it must not get into the database, not even because this connection is closed.
    let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    conn.set_db_config(no_checkpoint, true).map_err(fail)?;
    write_ahead(&conn, path)?;
    settle(&mut conn, path)?;
    conn.set_db_config(no_checkpoint, false).map_err(fail)?;
    let synchronous = match url.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    conn.pragma_update(None, "synchronous", synchronous).map_err(fail)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(fail)?;
    Ok(conn)
}

/// Opens the file, which must be there, for reading only.
pub(super) fn open_read_only(path: &str) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|e| of(path, e))?;
    prepare(&conn, path)?;
    Ok(conn)
}

fn prepare(conn: &Connection, path: &str) -> Result<(), StoreError> {
    conn.busy_timeout(BUSY_TIMEOUT).map_err(|e| of(path, e))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.pragma_update(None, "cache_size", -i64::from(CACHE_KIB)).map_err(|e| of(path, e))
}

/// Switches to the write-ahead log. When two programs do so at once, SQLite refuses one without waiting.
fn write_ahead(conn: &Connection, path: &str) -> Result<(), StoreError> {
    let mut left = BUSY_TIMEOUT;
    loop {
        let set = |sql| conn.query_row(sql, [], |row| row.get::<_, String>(0));
        let mode = match set("PRAGMA journal_mode") {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => set("PRAGMA journal_mode=WAL"),
            Err(e) => Err(e),
        };
        let error = match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let why = format!("the file system allows journal mode {mode} only, not wal");
                return Err(StoreError::CannotOpen { path: path.to_owned(), why });
            }
            Err(e) => of(path, e),
        };
        if !matches!(error, StoreError::Busy(_)) || left.is_zero() {
            return Err(error);
        }
        std::thread::sleep(BUSY_PIECE);
        left = left.saturating_sub(BUSY_PIECE);
    }
}

/// Brings to disk what the connection sees, before anybody takes it for stored.
///
/// The log may end with a transaction whose writer was killed before its sync, or whose sync failed. SQLite takes it
/// for committed, because it reads the log from memory; when the batch is sent again its rows are there, so nothing is
/// written, nothing is synced, and a power loss would take what is now reported durable. A sync alone does not mend a
/// failed one, since the kernel then takes the lost pages for written: the log is written again first, byte for byte,
/// while the transaction keeps other writers out. The folder is synced for the names of database and log, of which
/// SQLite syncs one and ignores a failure.
fn settle(conn: &mut Connection, path: &str) -> Result<(), StoreError> {
    let fail = |e| of(path, e);
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    // SQLite follows links: its log stands beside the file itself.
    let database = PathBuf::from(tx.path().unwrap_or(path));
    let mut log = database.clone().into_os_string();
    log.push("-wal");
    let settled = write_again(Path::new(&log)).and_then(|()| sync_folder(&database));
    settled.map_err(|e| of_io(path, &e))?;
    tx.rollback().map_err(fail)
}

fn write_again(path: &Path) -> io::Result<()> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let (mut piece, mut at) = (vec![0; PIECE], 0);
    loop {
        let read = file.read_at(&mut piece, at)?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        file.write_all_at(bytes, at)?;
        at += read as u64;
    }
    if at > 0 { file.sync_all() } else { Ok(()) }
}

fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    match File::open(folder)?.sync_all() {
        // There are file systems that cannot sync a folder.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

/// The store's identity, made together with the meta table when the database has none.
pub(super) fn identity(conn: &mut Connection, path: &str) -> Result<[u8; 16], StoreError> {
    let fail = |e| of(path, e);
    if meta::exists(conn, path)? {
        return meta::store_id(conn, path);
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    if !meta::exists(&tx, path)? {
        meta::create(&tx, path)?;
    }
    let id = meta::store_id(&tx, path)?;
    tx.commit().map_err(fail)?;
    Ok(id)
}

/// SQLite's error as ours.
pub(super) fn of(path: &str, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    // Without the statement that SQLite did not understand; what a constraint or a trigger says may be of any form.
    let why = match &error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    };
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(path),
        Some(ErrorCode::DiskFull) => StoreError::Full(path),
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly(path),
        Some(ErrorCode::NotADatabase) => StoreError::NotADatabase(path),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            StoreError::CannotOpen { path, why }
        }
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Corrupt { path, why },
        // A missing table or column is an unknown error to SQLite.
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::Unknown) => {
            StoreError::Rejected { path, why }
        }
        _ => StoreError::Database { path, why },
    }
}

/// The kernel's error as ours.
fn of_io(path: &str, error: &io::Error) -> StoreError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(path),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly(path),
        _ => StoreError::Database { path, why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        for (code, want) in [
            (ffi::SQLITE_BUSY, "locked by another program"),
            (ffi::SQLITE_FULL, "no space is left"),
            (ffi::SQLITE_READONLY, "is read-only"),
            (ffi::SQLITE_NOTADB, "not a sqlite database"),
            (ffi::SQLITE_CANTOPEN, "cannot open the database"),
            (ffi::SQLITE_CORRUPT, "is damaged"),
            (ffi::SQLITE_IOERR_FSYNC, "disk I/O error"),
        ] {
            let text = of("/a/b.db", rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            let text = text.to_string();
            assert!(text.starts_with("/a/b.db: ") && text.contains(want), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
    }
}
