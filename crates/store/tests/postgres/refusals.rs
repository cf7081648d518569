//! What is refused, and in which words.

use commonhold_testing::postgres::{Options, PASSWORD, Server, Stop, try_sql};

use super::*;

/// A server that listens on TCP, with a database `d`.
fn server(settings: &[(&str, &str)]) -> Server {
    let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let server = Server::with(Options { tcp: true, settings, ..Options::default() });
    sql(&server.url("postgres"), "CREATE DATABASE d");
    server
}

#[test]
fn a_login_that_is_refused_is_said_without_the_password() {
    let server = server(&[]);
    let url = server.tcp_url("d");
    claimed(&url);
    let place = format!("postgres://commonhold@{}/", server.address());
    let no_database = refusal(&server.tcp_url("nowhere"), false);
    assert_eq!(no_database, StoreError::NoDatabase(format!("{place}nowhere")));
    for read_only in [false, true] {
        // Who was told the right password keeps it for that account, until another is told.
        let wrong = url.replacen("commonhold:", "commonhold:nonsense", 1);
        let error = refusal(&wrong, read_only);
        assert!(matches!(error, StoreError::Login { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{place}d: ")) && !error.is_transient(), "{text}");
        assert!(!text.contains("nonsense") && !text.contains(PASSWORD), "{text}");
        let other = url.replacen("commonhold:", "nobody:", 1);
        assert!(matches!(refusal(&other, read_only), StoreError::Login { .. }));
    }
    let none = format!("postgres://unheard@{}/d", server.address());
    let error = refusal(&none, true);
    assert!(matches!(error, StoreError::Login { .. }), "{error}");
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_unreachable() {
    let server = server(&[]);
    let (tcp, socket) = (server.tcp_url("d"), server.url("d"));
    server.stop(Stop::Fast);
    for url in [&tcp, &socket, &tcp.replace("127.0.0.1", "no-such-host.invalid")] {
        let error = refusal(url, false);
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        assert!(error.is_transient());
    }
}

#[test]
fn a_server_that_takes_nothing_is_no_store() {
    let server = server(&[]);
    let url = server.url("d");
    claimed(&url).append(&batch(&[row("a", 1, 1)])).unwrap();
    server.stop(Stop::Fast);
    std::fs::write(server.folder().join("data/standby.signal"), "").unwrap();
    server.restart();
    let error = refusal(&url, false);
    assert!(
        matches!(&error, StoreError::Replica { why, .. } if why.contains("replica")),
        "{error}"
    );
    assert!(error.is_transient(), "it may be promoted");
    let mut store = open_read_only(&url).unwrap();
    assert!(store.audit().unwrap().ok());
    server.stop(Stop::Fast);
    std::fs::remove_file(server.folder().join("data/standby.signal")).unwrap();
    server.restart();
    sql(&server.url("postgres"), "ALTER DATABASE d SET default_transaction_read_only = on");
    let error = refusal(&url, false);
    assert!(error.to_string().contains("default_transaction_read_only"), "{error}");
    // And one that turns so while it is used.
    sql(&server.url("postgres"), "ALTER DATABASE d RESET default_transaction_read_only");
    let mut store = claimed(&url);
    sql(&server.url("postgres"), "ALTER DATABASE d SET default_transaction_read_only = on");
    sql(
        &server.url("postgres"),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'd'",
    );
    assert!(matches!(store.append(&batch(&[row("a", 2, 2)])), Err(StoreError::Lost { .. })));
    assert!(matches!(store.append(&batch(&[row("a", 2, 2)])), Err(StoreError::Replica { .. })));
}

#[test]
fn reading_changes_nothing() {
    let database = Database::new();
    let error = refusal(&database.url(), true);
    assert!(matches!(error, StoreError::NotAStore(_)), "{error}");
    let tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'commonhold%'";
    assert_eq!(database.sql(tables), "0\n");
    claimed(&database.url());
    let mut store = open_read_only(&database.url()).unwrap();
    let error = store.claim(&segment(2), &catalogue()).unwrap_err();
    assert!(matches!(error, StoreError::Replica { .. }), "{error}");
    assert_eq!(store.owner().unwrap().unwrap().uuid, [1; 16]);
}

#[test]
fn a_user_who_may_not_is_told_what() {
    let server = server(&[]);
    let url = server.url("d");
    sql(&url, "CREATE ROLE guest LOGIN PASSWORD 'x'");
    let guest = format!("postgres://guest:x@{}/d", server.address());
    let error = refusal(&guest, false);
    assert!(matches!(&error, StoreError::Denied { why, .. } if why.contains("public")), "{error}");
    claimed(&url);
    let error = refusal(&guest, true);
    assert!(error.to_string().contains("commonhold_meta"), "{error}");
    assert!(matches!(&error, StoreError::Denied { .. }), "{error}");
    // Who may only use what is there can own a store that was made by another.
    sql(&url, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest");
    let mut store = claimed(&guest);
    store.append(&batch(&[row("a", 1, 1)])).unwrap();
    assert!(store.audit().unwrap().ok());
}

#[test]
fn a_server_without_a_connection_left_is_said_to_be_crowded() {
    let server = server(&[("max_connections", "4"), ("superuser_reserved_connections", "0")]);
    let url = server.url("d");
    let stores: Vec<_> = (0..4).map(|_| open(&url).unwrap()).collect();
    let error = refusal(&url, false);
    assert!(matches!(error, StoreError::Crowded { .. }) && error.is_transient(), "{error}");
    drop(stores);
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let server = server(&[]);
    let make = "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'";
    sql(&server.url("postgres"), make);
    let error = refusal(&server.url("latin"), false);
    assert!(error.to_string().contains("encoding LATIN1"), "{error}");
}

#[test]
fn a_full_disk_is_said_to_be_one() {
    let database = Database::new();
    let mut store = claimed(&database.url());
    // As the server says it; no disk is filled here.
    database.sql(
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
         END $$;
         CREATE TRIGGER no_space BEFORE INSERT ON t_history EXECUTE FUNCTION no_space()",
    );
    let error = store.append(&batch(&[row("a", 1, 1)])).unwrap_err();
    assert!(matches!(error, StoreError::Full(_)) && error.is_transient(), "{error}");
}

#[test]
fn a_statement_that_takes_too_long_ends() {
    let database = Database::new();
    let url = format!("{}&statement_timeout=300", database.url());
    claimed(&url);
    let mut store = open(&url).unwrap();
    store.join([1; 16], 1, 0, &catalogue()).unwrap();
    database.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON t_history FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let error = store.append(&batch(&[row("a", 1, 1)])).unwrap_err();
    assert!(matches!(&error, StoreError::Slow { why, .. } if why.contains("57014")), "{error}");
    assert!(error.is_transient());
    database.sql("DROP TRIGGER slow ON t_history");
    store.append(&batch(&[row("a", 1, 1)])).unwrap();
}

#[test]
fn the_messages_of_the_server_are_one_line() {
    let database = Database::new();
    assert!(try_sql(&database.url(), "SELECT").is_ok());
    let mut store = claimed(&database.url());
    database.sql(
        "CREATE FUNCTION lines() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION E'one\ntwo'; END $$;
         CREATE TRIGGER lines BEFORE INSERT ON t EXECUTE FUNCTION lines()",
    );
    let error = store.append(&batch(&[row("a", 1, 1)])).unwrap_err();
    assert!(error.to_string().contains("one two (P0001)"), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

/// A server that greets as PostgreSQL does, names this version, and answers nothing.
fn greeting(version: &str) -> std::net::SocketAddr {
    use std::io::{Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let value = format!("server_version\0{version}\0");
    let mut greeting = b"R\0\0\0\x08\0\0\0\0S".to_vec();
    greeting.extend((value.len() as u32 + 4).to_be_bytes());
    greeting.extend(value.bytes());
    greeting.extend(b"Z\0\0\0\x05I");
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut piece = [0; 4096];
            let _ = client.read(&mut piece);
            let _ = client.write_all(&greeting);
            // Until the client leaves.
            while let Ok(1..) = client.read(&mut piece) {}
        }
    });
    address
}

#[test]
fn a_server_that_is_too_old_is_asked_nothing() {
    for version in ["11.22 (Debian 11.22-1.pgdg120+1)", "9.6.24", "8.4beta1"] {
        let url = format!("postgres://u@{}/d?sslmode=disable", greeting(version));
        for read_only in [false, true] {
            let error = refusal(&url, read_only);
            assert!(matches!(error, StoreError::TooOld { .. }), "{error}");
            let said = format!("the server is PostgreSQL {version}, too old; use version 12");
            assert!(error.to_string().contains(&said) && !error.is_transient(), "{error}");
        }
    }
}

#[test]
fn a_table_of_another_program_by_the_name_of_ours_is_named() {
    for (table, why) in [
        ("commonhold_meta(a bigint)", "column 1 is `a`, not `key`"),
        ("commonhold_meta(key text PRIMARY KEY, value text)", "COLLATE default"),
        ("commonhold_meta(key text COLLATE \"C\", value text)", "its primary key is ()"),
    ] {
        let database = Database::new();
        database.sql(&format!("CREATE TABLE {table}"));
        for read_only in [false, true] {
            let error = refusal(&database.url(), read_only);
            assert!(matches!(error, StoreError::SchemaDiffers { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("table commonhold_meta: ") && text.contains(why), "{text}");
        }
    }
}

#[test]
fn a_schema_that_the_user_may_not_use_is_said_to_be_one() {
    let server = server(&[]);
    let url = server.url("d");
    sql(&url, "CREATE ROLE guest LOGIN PASSWORD 'x'; CREATE SCHEMA mine");
    let guest = format!("postgres://guest:x@{}/d?schema=mine", server.address());
    let error = refusal(&guest, false);
    assert!(matches!(&error, StoreError::Denied { why, .. } if why.contains("schema")), "{error}");
}

#[test]
fn a_refusal_within_another_runtime_is_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let error = refusal("postgres://u@127.0.0.1:1/d", false);
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    });
}

#[test]
fn a_commit_that_no_replica_has_is_not_taken_for_durable() {
    let server = server(&[]);
    let url = server.url("d");
    claimed(&url);
    let mut store = open(&format!("{url}&statement_timeout=1000")).unwrap();
    store.join([1; 16], 1, 0, &catalogue()).unwrap();
    let configure = |text: &str| {
        sql(&url, text);
        sql(&url, "SELECT pg_reload_conf()");
    };
    configure("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    let (last, error) = std::thread::scope(|scope| {
        // The first ones may be there before the new setting is.
        let append = |n| store.append(&batch(&[row("a", n, n)])).err().map(|e| (n, e));
        let waits = scope.spawn(|| (1..).find_map(append).unwrap());
        let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                      WHERE wait_event = 'SyncRep'";
        while sql(&url, cancel) == "0\n" {
            std::thread::yield_now();
        }
        waits.join().unwrap()
    });
    assert!(error.to_string().contains("on the primary alone"), "{error}");
    assert!(error.is_transient(), "{error}");
    configure("ALTER SYSTEM RESET synchronous_standby_names");
    // It is there, and is sent again.
    assert_eq!(sql(&url, "SELECT count(*) FROM t_history"), format!("{last}\n"));
    store.append(&batch(&[row("a", last, last)])).unwrap();
    assert_eq!(store.row_count(0).unwrap().history, last);
    assert!(store.audit().unwrap().ok());
}
