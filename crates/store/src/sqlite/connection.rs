//! Opening the file, the identity of the file behind the connection, and SQLite's errors as ours.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::StoreError;
use crate::sqlite::meta;
use crate::url::{SqliteUrl, Synchronous};

/// How long a statement waits for another program's lock before it fails with [`StoreError::Busy`].
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces of that wait where SQLite itself does not wait: the first switch to the write-ahead log.
const BUSY_PIECE: Duration = Duration::from_millis(20);
/// Statements kept prepared: six a table, at most 64 tables, and the meta table's.
const STATEMENTS: usize = 512;
/// Pages of log after which a commit also checkpoints: 16 MiB, four times SQLite's default, because a steward
/// writes the same pages again and again and each checkpoint costs two syncs.
const CHECKPOINT_PAGES: u32 = 4096;
/// Page cache, in KiB; an audit visits the rows in the order of the keys, which is not the file's.
const CACHE_KIB: u32 = 64 * 1024;

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
    let conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    prepare(&conn, path)?;
    write_ahead(&conn, path)?;
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

/// The store's identity, made together with the meta table when the database has none.
pub(super) fn identity(conn: &mut Connection, path: &str) -> Result<[u8; 16], StoreError> {
    let fail = |e| of(path, e);
    if meta::exists(conn, path)? {
        return meta::store_id(conn, path);
    }
    let tx =
        conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fail)?;
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
    let why = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(path),
        Some(ErrorCode::DiskFull) => StoreError::Full(path),
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly(path),
        Some(ErrorCode::NotADatabase) => StoreError::NotADatabase(path),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            StoreError::CannotOpen { path, why }
        }
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Corrupt { path, why },
        _ => StoreError::Database { path, why },
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
