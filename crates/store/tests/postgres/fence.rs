//! Two segments on one database, and a persister that stops in the middle of a transaction.

use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

/// What the other segment is told.
fn assert_fenced(store: &mut dyn Store) {
    for _ in 0..2 {
        // Also on a connection that is opened anew.
        let error = store.append(&batch(&[row("a", 2, 2)])).unwrap_err();
        assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
        assert!(!error.is_transient());
    }
}

#[test]
fn a_second_segment_fences_the_first() {
    let database = Database::new();
    let mut first = claimed(&database.url());
    first.append(&batch(&[row("a", 1, 1)])).unwrap();
    let mut second = open(&database.url()).unwrap();
    second.claim(&segment(2), &catalogue()).unwrap();
    assert_fenced(first.as_mut());
    assert_eq!(second.row_count(0).unwrap().history, 1);
}

/// How a batch's commit begins.
const COMMIT: &[u8] = b"SET LOCAL statement_timeout = 0; COMMIT";

/// A way to a server's socket that can be shut for one direction: what a process that is stopped looks like to both ends.
struct Way {
    folder: tempfile::TempDir,
}

impl Way {
    /// Passes everything on until a client wants to commit a batch; from then on nothing of that client's, and the
    /// connection stays open. `told` hears when that is.
    fn to(server: std::path::PathBuf, told: std::sync::mpsc::Sender<()>) -> Self {
        use std::io::{Read, Write};

        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (told, server) = (told.clone(), UnixStream::connect(&server).unwrap());
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let mut piece = [0; 64 * 1024];
                    let mut stopped = false;
                    while let Ok(n @ 1..) = from.read(&mut piece) {
                        stopped |= piece[..n].windows(COMMIT.len()).any(|w| w == COMMIT);
                        if stopped {
                            let _ = told.send(());
                            continue;
                        }
                        if to.write_all(&piece[..n]).is_err() {
                            break;
                        }
                    }
                });
                std::thread::spawn(move || {
                    let (mut from, mut to) = (server, client);
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { folder }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://commonhold@/{database}?host={}", self.folder.path().display())
    }
}

#[test]
fn a_take_over_ends_a_persister_that_stopped_within_its_transaction() {
    let server = Server::start();
    let url = server.url("postgres");
    claimed(&url);
    let (told, hears) = std::sync::mpsc::channel();
    let way = Way::to(server.folder().join(".s.PGSQL.5432"), told);
    let error = std::thread::scope(|scope| {
        let stopped = scope.spawn(|| {
            let mut store = open(&way.url("postgres")).unwrap();
            store.join([1; 16], 1, 0, &catalogue()).unwrap();
            store.append(&batch(&[row("a", 1, 1)])).unwrap_err()
        });
        // It has written its rows and holds the lock; its commit never arrives.
        hears.recv().unwrap();
        let mut other = open(&url).unwrap();
        let taken = other.take_over().unwrap();
        assert_eq!(taken.fenced.unwrap().uuid, [1; 16]);
        stopped.join().unwrap()
    });
    assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    assert_eq!(sql(&url, "SELECT count(*) FROM t_history"), "0\n", "nothing of it was written");
    let mut first = open(&url).unwrap();
    let error = first.join([1; 16], 1, 0, &catalogue()).unwrap_err();
    assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
}

#[test]
fn a_take_over_does_not_end_the_sessions_of_others() {
    let server = Server::start();
    let url = server.url("postgres");
    claimed(&url);
    let lock = "BEGIN; SELECT 1 FROM commonhold_meta WHERE key = 'store_id' FOR UPDATE;
                SELECT pg_notify('held', ''); SELECT pg_sleep(3600)";
    std::thread::scope(|scope| {
        let person = scope.spawn(|| commonhold_testing::postgres::try_sql(&url, lock));
        // Nothing else tells that the lock is held.
        let held = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)' AND
                    state = 'active' AND application_name = 'psql' AND wait_event = 'PgSleep'";
        while sql(&url, held) != "1\n" {
            std::thread::yield_now();
        }
        let error = open(&url).unwrap().take_over().unwrap_err();
        assert!(matches!(error, StoreError::Busy(_)), "{error}");
        sql(
            &url,
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        );
        assert!(person.join().unwrap().is_err());
    });
    open(&url).unwrap().take_over().unwrap();
}

#[test]
fn the_server_ends_a_session_that_stops_within_its_transaction() {
    let server = Server::start();
    let url = server.url("postgres");
    claimed(&url);
    let (told, _hears) = std::sync::mpsc::channel();
    let way = Way::to(server.folder().join(".s.PGSQL.5432"), told);
    let mut store = open(&way.url("postgres")).unwrap();
    store.join([1; 16], 1, 0, &catalogue()).unwrap();
    // Nobody else wants the lock.
    let error = store.append(&batch(&[row("a", 1, 1)])).unwrap_err();
    assert!(matches!(&error, StoreError::Lost { why, .. } if why.contains("25P03")), "{error}");
    let mut other = open(&url).unwrap();
    other.join([1; 16], 1, 0, &catalogue()).unwrap();
    other.append(&batch(&[row("a", 1, 1)])).unwrap();
    assert_eq!(other.row_count(0).unwrap().history, 1);
}
