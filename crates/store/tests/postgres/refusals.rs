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
