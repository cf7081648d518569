//! What is particular to a store in a SQLite file: the file itself, foreign contents, failures halfway.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod one_table;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use commonhold_store::{Known, Node, SegmentIdentity, StoreError, open, open_read_only};
use one_table::{batch, catalogue, row};
use rusqlite::Connection;

fn folder() -> (tempfile::TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let url = format!("sqlite:{}", path.display());
    (folder, path, url)
}

fn segment() -> SegmentIdentity {
    SegmentIdentity {
        uuid: [3; 16],
        path: "/dev/shm/s".to_owned(),
        boot_id: "b".to_owned(),
        node: Node::this(),
        device: 0,
    }
}

fn execute(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn the_file_is_the_owners_and_has_a_log() {
    let (_folder, path, url) = folder();
    let mut store = open(&url).unwrap();
    store.claim(&segment(), &catalogue()).unwrap();
    assert_eq!(store.url(), url);
    for name in ["s.db", "s.db-wal", "s.db-shm"] {
        let mode = path.with_file_name(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let columns: Vec<(String, String)> = Connection::open(&path)
        .unwrap()
        .prepare("SELECT name, type FROM pragma_table_info('t_history')")
        .unwrap()
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let text: Vec<_> = columns.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    let want = "key TEXT,n INTEGER,_version INTEGER,_hash TEXT,_clock TEXT,_writer TEXT,_seq INTEGER,\
                _committed_at INTEGER,_deleted INTEGER,_position INTEGER,_link TEXT";
    assert_eq!(text.join(","), want);
}

#[test]
fn reading_creates_nothing() {
    let (_folder, path, url) = folder();
    let error = open_read_only(&url).map(|_| ()).unwrap_err();
    assert_eq!(error, StoreError::Missing(path.display().to_string()));
    assert!(!path.exists());
    execute(&path, "CREATE TABLE mine(x)");
    let error = open_read_only(&url).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore(_)), "{error}");
    open(&url).unwrap();
    let mut store = open_read_only(&url).unwrap();
    assert!(store.audit().unwrap().ok(), "a store that nobody claimed");
    let error = store.claim(&segment(), &catalogue()).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
}

#[test]
fn what_is_no_database_is_refused() {
    let (folder, path, url) = folder();
    std::fs::write(&path, "# my notes, surely no database, and longer than a header".repeat(30))
        .unwrap();
    for result in [open(&url), open_read_only(&url)] {
        let error = result.map(|_| ()).unwrap_err();
        assert!(matches!(error, StoreError::NotADatabase(_)), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    for place in ["no/such/folder/s.db", ""] {
        let url = format!("sqlite:{}", folder.path().join(place).display());
        let error = open(&url).map(|_| ()).unwrap_err();
        assert!(matches!(error, StoreError::CannotOpen { .. }), "{error}");
    }
}

#[test]
fn foreign_tables_are_left_alone_unless_they_are_in_the_way() {
    let (_folder, path, url) = folder();
    execute(&path, "CREATE TABLE mine(x); INSERT INTO mine VALUES(1); CREATE TABLE t(n TEXT)");
    let mut store = open(&url).unwrap();
    let error = store.claim(&segment(), &catalogue()).unwrap_err();
    assert!(error.to_string().contains("table t: column 1 is `n`, not `key`"), "{error}");
    execute(
        &path,
        "DROP TABLE t; CREATE TABLE t(key TEXT, n INTEGER, _version INTEGER, _hash TEXT,
        _clock TEXT, _writer TEXT, _seq INTEGER, _committed_at INTEGER)",
    );
    let error = store.claim(&segment(), &catalogue()).unwrap_err();
    assert!(error.to_string().contains("primary key"), "{error}");
    assert_eq!(store.owner(), Ok(None), "a refused claim leaves nothing behind");
    execute(&path, "DROP TABLE t");
    store.claim(&segment(), &catalogue()).unwrap();
    store.append(&batch(&[row("a", 1, 1)])).unwrap();
    let mine: i64 =
        Connection::open(&path).unwrap().query_row("SELECT x FROM mine", [], |r| r.get(0)).unwrap();
    assert_eq!(mine, 1);
}

#[test]
fn a_failure_halfway_writes_nothing_and_is_retried_whole() {
    let (_folder, path, url) = folder();
    let mut store = open(&url).unwrap();
    store.claim(&segment(), &catalogue()).unwrap();
    // Fails after two rows of history and one of T were written.
    execute(
        &path,
        "CREATE TRIGGER halfway BEFORE INSERT ON t WHEN NEW.key = 'b'
        BEGIN SELECT RAISE(ABORT, 'planted'); END",
    );
    let rows = [row("a", 1, 1), row("b", 1, 2)];
    for _ in 0..3 {
        let error = store.append(&batch(&rows)).unwrap_err();
        assert!(error.to_string().contains("planted"), "{error}");
        assert!(error.is_transient());
        let count = store.row_count(0).unwrap();
        assert_eq!((count.current, count.history), (0, 0));
    }
    execute(&path, "DROP TRIGGER halfway");
    store.append(&batch(&rows)).unwrap();
    let audit = store.audit().unwrap();
    assert!(audit.ok(), "{audit:?}");
    assert_eq!((audit.tables[0].rows, audit.tables[0].history_rows), (2, 2));
}

#[test]
fn a_removed_database_takes_no_rows() {
    let (_folder, path, url) = folder();
    let mut store = open(&url).unwrap();
    store.claim(&segment(), &catalogue()).unwrap();
    store.append(&batch(&[row("a", 1, 1)])).unwrap();
    let aside = path.with_file_name("aside.db");
    std::fs::copy(&path, &aside).unwrap();
    std::fs::rename(&path, path.with_file_name("kept.db")).unwrap();
    for _ in 0..2 {
        let error = store.append(&batch(&[row("a", 2, 2)])).unwrap_err();
        assert!(matches!(error, StoreError::Replaced(_) | StoreError::Missing(_)), "{error}");
        assert!(!path.exists(), "nothing is made in its place");
    }
    // A copy is not the file either, also on a second look.
    std::fs::rename(&aside, &path).unwrap();
    for _ in 0..2 {
        let error = store.append(&batch(&[row("a", 2, 2)])).unwrap_err();
        assert!(matches!(error, StoreError::Replaced(_)), "{error}");
    }
    std::fs::rename(path.with_file_name("kept.db"), &path).unwrap();
    store.append(&batch(&[row("a", 2, 2)])).unwrap();
    assert_eq!(store.row_count(0).unwrap().history, 2);
}

#[test]
fn all_who_open_at_once_see_one_store() {
    let (_folder, _, url) = folder();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let open = || open(&url).unwrap().store_id();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_ne!(ids[0], [0; 16]);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn an_audit_beside_a_writer_sees_whole_transactions() {
    let (_folder, _, url) = folder();
    let mut store = open(&url).unwrap();
    store.claim(&segment(), &catalogue()).unwrap();
    let audits = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for n in 1..=100 {
                store.append(&batch(&[row("a", n, 2 * n - 1), row("b", n, 2 * n)])).unwrap();
            }
        });
        let mut reader = open_read_only(&url).unwrap();
        let mut audits = Vec::new();
        while !writer.is_finished() {
            audits.push(reader.audit().unwrap());
        }
        audits.push(reader.audit().unwrap());
        audits
    });
    for audit in &audits {
        assert!(audit.ok(), "{audit:?}");
        assert_eq!(audit.tables[0].history_rows % 2, 0, "half a transaction");
    }
    assert_eq!(audits.last().unwrap().tables[0].history_rows, 200);
}

#[test]
fn the_epochs_end_before_writer_ids_do() {
    let (_folder, path, url) = folder();
    let mut store = open(&url).unwrap();
    store.claim(&segment(), &catalogue()).unwrap();
    execute(&path, "UPDATE commonhold_meta SET value = '1048574' WHERE key = 'epoch'");
    assert_eq!(store.claim(&segment(), &catalogue()).unwrap().epoch, 1_048_575);
    let error = store.claim(&segment(), &catalogue()).unwrap_err();
    assert!(matches!(error, StoreError::EpochsSpent(_)), "{error}");
}

#[test]
fn a_damaged_meta_table_is_said_to_be() {
    for key in ["owner", "epoch", "catalogue", "link:t", "count:t"] {
        let (_folder, path, url) = folder();
        let mut store = open(&url).unwrap();
        store.claim(&segment(), &catalogue()).unwrap();
        execute(&path, &format!("UPDATE commonhold_meta SET value = '?' WHERE key = '{key}'"));
        let error = match key {
            "catalogue" => store.catalogue().map(|_| ()),
            _ => store.append(&batch(&[row("a", 1, 1)])).map(|_| ()),
        };
        let error = error.unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { why, .. } if why.contains(key)), "{error}");
    }
}

#[test]
fn the_store_none_takes_everything() {
    for mut store in [open("none").unwrap(), open_read_only("none").unwrap()] {
        assert_eq!(store.claim(&segment(), &catalogue()).unwrap().epoch, 1);
        store.append(&batch(&[row("a", 1, 1)])).unwrap();
        assert_eq!(store.load(0, &mut |_| panic!("nothing is kept")), Ok(0));
        assert_eq!((store.url(), store.store_id()), ("none".to_owned(), [0; 16]));
        assert!(store.audit().unwrap().ok());
    }
}

#[test]
fn a_row_that_a_trigger_takes_away_is_not_reported() {
    let (_folder, path, url) = folder();
    let mut store = open(&url).unwrap();
    store.claim(&segment(), &catalogue()).unwrap();
    execute(&path, "CREATE TRIGGER none BEFORE INSERT ON t BEGIN SELECT RAISE(IGNORE); END");
    let mut first = batch(&[row("a", 1, 1)]);
    first.tables[0].known = vec![Known::NothingAfter(0)];
    let error = store.append(&first).unwrap_err();
    assert!(error.to_string().contains("trigger") && error.is_transient(), "{error}");
    assert_eq!(store.row_count(0).unwrap().history, 0, "nothing of it is written");
    execute(&path, "DROP TRIGGER none");
    store.append(&first).unwrap();
    assert_eq!(store.row_count(0).unwrap().current, 1);
}
