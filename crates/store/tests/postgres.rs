//! What is particular to a store on a PostgreSQL server: the server itself, logins, locks, lost connections.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "postgres/fence.rs"]
mod fence;
#[path = "postgres/meanwhile.rs"]
mod meanwhile;
mod one_table;
#[path = "postgres/refusals.rs"]
mod refusals;
#[path = "postgres/secrets.rs"]
mod secrets;

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::row::Row;
use commonhold_core::schema::Schema;
use commonhold_store::{
    Batch, Node, SegmentIdentity, Store, StoreError, normalise, open, open_read_only,
};
use commonhold_testing::postgres::{Database, Server, Stop, sql};
use one_table::{batch, catalogue, row};
use tokio_postgres::AsyncMessage;

fn segment(n: u8) -> SegmentIdentity {
    SegmentIdentity {
        uuid: [n; 16],
        path: format!("/dev/shm/{n}"),
        boot_id: "b".to_owned(),
        node: Node { id: "1".repeat(32), host: "here".to_owned() },
        device: 0,
    }
}

/// A store that segment 1 has claimed.
fn claimed(url: &str) -> Box<dyn Store> {
    let mut store = open(url).unwrap();
    store.claim(&segment(1), &catalogue()).unwrap();
    store
}

/// Why `url` cannot be opened; one line that names the database.
fn refusal(url: &str, read_only: bool) -> StoreError {
    let opened = if read_only { open_read_only(url) } else { open(url) };
    let error = opened.map(|store| store.url()).unwrap_err();
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("postgres://"), "{text}");
    error
}

#[test]
fn columns_are_typed() {
    let database = Database::new();
    let fields = ["i:i64", "u:u64", "f:f64", "b:bool", "s:text(9)", "x:bytes(9)", "j:json(9)"];
    let fields = fields.iter().map(|f| f.parse().unwrap()).collect();
    let mut spec = TableSpec::new("typed", Schema::new(fields).unwrap());
    spec.history = History::Full;
    let catalogue = Catalogue::new(4, 1, vec![spec]).unwrap();
    open(&database.url()).unwrap().claim(&segment(1), &catalogue).unwrap();
    let columns = database.sql(
        "SELECT string_agg(column_name || ' ' || data_type || coalesce(' ' || collation_name, ''),
                           ', ' ORDER BY ordinal_position)
         FROM information_schema.columns WHERE table_name = 'typed_history'",
    );
    let want = "key text C, i bigint, u bigint, f double precision, b boolean, s text, x bytea, \
                j json, _version bigint, _hash text, _clock text, _writer text, _seq bigint, \
                _committed_at bigint, _deleted boolean, _position bigint, _link text\n";
    assert_eq!(columns, want);
}

#[test]
fn keys_are_in_the_order_of_their_bytes_whatever_the_database_says() {
    let server = Server::start();
    sql(
        &server.url("postgres"),
        "CREATE DATABASE other TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'",
    );
    let mut store = claimed(&server.url("other"));
    let keys = ["a", "B", "Z", "_", "b", "ä"];
    let rows: Vec<_> = keys.iter().zip(1..).map(|(key, n)| row(key, 1, n)).collect();
    store.append(&batch(&rows)).unwrap();
    let mut loaded = Vec::new();
    let mut sink = |row: Row| {
        loaded.push(row.key);
        Ok(())
    };
    store.load(0, &mut sink).unwrap();
    assert_eq!(loaded, ["B", "Z", "_", "a", "b", "ä"]);
    assert!(store.audit().unwrap().ok());
}

#[test]
fn schemas_are_stores_of_their_own() {
    let database = Database::new();
    let (first, second) = (database.url(), format!("{}&schema=se%22cond", database.url()));
    let (mut one, mut two) = (claimed(&first), claimed(&second));
    assert_ne!(one.store_id(), two.store_id());
    assert_eq!(two.url(), normalise(&second).unwrap());
    one.append(&batch(&[row("a", 1, 1)])).unwrap();
    two.append(&batch(&[row("b", 1, 1), row("c", 1, 2)])).unwrap();
    assert_eq!(database.sql("SELECT count(*) FROM public.t"), "1\n");
    assert_eq!(database.sql("SELECT count(*) FROM \"se\"\"cond\".t"), "2\n");
    let foreign = "CREATE SCHEMA mine; CREATE TABLE mine.t(n bigint)";
    database.sql(foreign);
    let url = format!("{}&schema=mine", database.url());
    let error = open(&url).unwrap().claim(&segment(1), &catalogue()).unwrap_err();
    assert!(error.to_string().contains("table t: column 1 is `n`, not `key`"), "{error}");
}

#[test]
fn all_who_open_at_once_see_one_store() {
    let database = Database::new();
    let url = format!("{}&schema=new", database.url());
    let ids: Vec<_> = std::thread::scope(|scope| {
        let open = || open(&url).unwrap().store_id();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_store_works_within_another_runtime() {
    let database = Database::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut store = claimed(&database.url());
        store.append(&batch(&[row("a", 1, 1)])).unwrap();
        assert_eq!(store.row_count(0).unwrap().history, 1);
    });
}

#[test]
fn listeners_are_told_of_each_batch() {
    let database = Database::new();
    let mut store = claimed(&format!("{}&notify=orders%20%22x%22", database.url()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let heard = runtime.block_on(async {
        let (client, mut connection) =
            tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|c| connection.poll_message(c)).await
            {
                if let AsyncMessage::Notification(notice) = message {
                    tell.send(notice.payload().to_owned()).unwrap();
                }
            }
        });
        client.batch_execute("LISTEN \"orders \"\"x\"\"\"").await.unwrap();
        store.append(&batch(&[row("a", 1, 1)])).unwrap();
        store.append(&Batch::default()).unwrap();
        // What was told before this answer came before it.
        client.batch_execute("SELECT 1").await.unwrap();
        told.try_iter().collect::<Vec<_>>()
    });
    assert_eq!(heard, [r#"{"batch":1,"tables":["t"]}"#, r#"{"batch":2,"tables":[]}"#]);
}

#[test]
fn what_was_committed_survives_a_kill_of_the_server() {
    let server = Server::start();
    let url = server.url("postgres");
    let mut store = claimed(&url);
    let mut sequence = 0;
    for how in [Stop::Kill, Stop::Immediate, Stop::Fast, Stop::Kill] {
        sequence += 1;
        store.append(&batch(&[row("a", sequence, sequence)])).unwrap();
        server.stop(how);
        let next = batch(&[row("a", sequence + 1, sequence + 1)]);
        let error = store.append(&next).unwrap_err();
        assert!(matches!(error, StoreError::Lost { .. }), "{error}");
        assert!(error.is_transient());
        let error = store.append(&next).unwrap_err();
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        server.restart();
        store.append(&next).unwrap();
        sequence += 1;
        // As after an answer that was lost.
        store.append(&next).unwrap();
    }
    let audit = store.audit().unwrap();
    assert!(audit.ok(), "{audit:?}");
    assert_eq!(audit.tables[0].history_rows, sequence);
}

#[test]
fn a_failure_halfway_writes_nothing_and_is_retried_whole() {
    let database = Database::new();
    let mut store = claimed(&database.url());
    database.sql(
        "CREATE FUNCTION halfway() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'planted'; END $$;
         CREATE TRIGGER halfway BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.key = 'b')
            EXECUTE FUNCTION halfway()",
    );
    let rows = [row("a", 1, 1), row("b", 1, 2)];
    for _ in 0..3 {
        let error = store.append(&batch(&rows)).unwrap_err();
        assert!(error.to_string().contains("planted"), "{error}");
        assert!(error.is_transient());
        let count = store.row_count(0).unwrap();
        assert_eq!((count.current, count.history), (0, 0));
    }
    database.sql("DROP TRIGGER halfway ON t");
    store.append(&batch(&rows)).unwrap();
    assert!(store.audit().unwrap().ok());
}

#[test]
fn a_database_that_was_made_anew_takes_no_rows() {
    let database = Database::new();
    let mut store = claimed(&database.url());
    store.append(&batch(&[row("a", 1, 1)])).unwrap();
    database.sql("DROP TABLE commonhold_meta, t, t_history");
    for _ in 0..2 {
        let error = store.append(&batch(&[row("a", 2, 2)])).unwrap_err();
        let wanted = matches!(error, StoreError::Replaced(_) | StoreError::Rejected { .. });
        assert!(wanted, "{error}");
    }
    open(&database.url()).unwrap().claim(&segment(1), &catalogue()).unwrap();
    for _ in 0..2 {
        let error = store.append(&batch(&[row("a", 2, 2)])).unwrap_err();
        assert!(matches!(error, StoreError::Replaced(_)), "{error}");
    }
    assert_eq!(database.sql("SELECT count(*) FROM t"), "0\n");
}

#[test]
fn an_audit_beside_a_writer_sees_whole_transactions() {
    let database = Database::new();
    let mut store = claimed(&database.url());
    let audits = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for n in 1..=100 {
                store.append(&batch(&[row("a", n, 2 * n - 1), row("b", n, 2 * n)])).unwrap();
            }
        });
        let mut reader = open_read_only(&database.url()).unwrap();
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
