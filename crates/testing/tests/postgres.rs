//! The private PostgreSQL: it keeps what was committed over a kill, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use commonhold_testing::postgres::{Database, Options, Server, Stop, VARIABLE, sql, try_sql};

#[test]
fn a_killed_server_comes_back_with_what_was_committed() {
    let server = Server::with(Options { tcp: true, ..Options::default() });
    let url = server.url("postgres");
    sql(&url, "CREATE TABLE t(n bigint)");
    for (n, how) in [Stop::Kill, Stop::Immediate, Stop::Fast].into_iter().enumerate() {
        sql(&url, &format!("INSERT INTO t VALUES ({n})"));
        server.stop(how);
        assert!(server.pid().is_none());
        let error = try_sql(&url, "SELECT 1").unwrap_err();
        assert!(error.contains("connection to server"), "{error}");
        server.restart();
        assert_eq!(sql(&url, "SELECT count(*) FROM t"), format!("{}\n", n + 1));
    }
    assert_eq!(sql(&server.tcp_url("postgres"), "SELECT count(*) FROM t"), "3\n");
    let wrong = server.tcp_url("postgres").replacen("commonhold:", "commonhold:x", 1);
    let error = try_sql(&wrong, "SELECT 1").unwrap_err();
    assert!(error.contains("password"), "{error}");
    let folder = server.folder().to_owned();
    drop(server);
    assert!(!folder.exists());
}

#[test]
fn databases_are_apart_and_go() {
    let (one, two) = (Database::new(), Database::new());
    one.sql("CREATE TABLE t(n bigint)");
    assert!(try_sql(&two.url(), "SELECT * FROM t").is_err());
    let name = one.name().to_owned();
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(two.sql(&count), "1\n");
    drop(one);
    assert_eq!(two.sql(&count), "0\n");
}

#[test]
fn a_process_that_is_killed_leaves_no_server() {
    let mut other = Command::new(env!("CARGO_BIN_EXE_with_postgres"))
        .args(["sh", "-c", &format!("echo ${VARIABLE}; read -r line")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let url = url.trim();
    assert_eq!(sql(url, "SELECT 1"), "1\n");
    let folder = url.split(['=', '&']).nth(1).map(PathBuf::from).unwrap();
    assert!(folder.join("data/postmaster.pid").exists(), "{url}");
    other.kill().unwrap();
    other.wait().unwrap();
    // Nothing tells when all is removed; the test's own limit ends a wait in vain.
    while folder.exists() {
        std::thread::yield_now();
    }
}
