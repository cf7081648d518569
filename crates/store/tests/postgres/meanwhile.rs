//! What somebody else does in the very moment in which a batch is written, and what roles, databases and triggers may add.

use commonhold_store::{Appended, Known};
use commonhold_testing::postgres::{Options, try_sql};

use super::*;

/// Waits, in the middle of a transaction, until somebody waits for it.
const UNTIL_WAITED_FOR: &str = "DO $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted
                      AND pg_backend_pid() = ANY(pg_blocking_pids(pid))) LOOP
        PERFORM pg_sleep(0.005);
    END LOOP; END $$";

/// A store of the owner's steward.
fn joined(url: &str) -> Box<dyn Store> {
    let mut store = open(url).unwrap();
    store.join([1; 16], 1, 0, &catalogue()).unwrap();
    store
}

/// One row, with what the segment last stored of its key.
fn knowing(row: Row, known: Known) -> Batch {
    let mut batch = batch(&[row]);
    batch.tables[0].known = vec![known];
    batch
}

/// Sends `batch` while a transaction that did `change` is open; that one ends as soon as it is waited for.
fn append_while(
    url: &str,
    change: &str,
    store: &mut dyn Store,
    batch: &Batch,
) -> Result<Appended, StoreError> {
    let sql = format!("BEGIN; {change}; {UNTIL_WAITED_FOR}; COMMIT");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'psql' AND backend_xid IS NOT NULL";
    std::thread::scope(|scope| {
        let other = scope.spawn(|| try_sql(url, &sql));
        // Nothing else tells that the change is made.
        while super::sql(url, open) != "1\n" {
            assert!(!other.is_finished(), "{:?}", other.join());
        }
        let appended = store.append(batch);
        assert_eq!(other.join().unwrap(), Ok(String::new()));
        appended
    })
}

#[test]
fn a_take_over_that_is_waited_for_is_seen_whatever_isolation_the_role_has() {
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let database = Database::new();
        let url = database.url();
        claimed(&url);
        let name = database.name();
        database.sql(&format!(
            "ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'"
        ));
        let taking = "SELECT FROM commonhold_meta WHERE key = 'store_id' FOR UPDATE;
                      UPDATE commonhold_meta SET value = 'null' WHERE key = 'owner';
                      UPDATE commonhold_meta SET value = '2' WHERE key = 'epoch'";
        let mut store = joined(&url);
        let appended = append_while(&url, taking, store.as_mut(), &batch(&[row("a", 1, 1)]));
        assert!(matches!(appended, Err(StoreError::Fenced { .. })), "{isolation}: {appended:?}");
        assert_eq!(database.sql("SELECT count(*) FROM t_history"), "0\n", "{isolation}");
    }
}

#[test]
fn a_row_that_is_changed_while_it_is_compared_is_met() {
    let insert =
        "INSERT INTO t SELECT 'new', n, 0, _hash, _clock, _writer, _seq, _committed_at FROM t";
    for (change, key) in [
        ("UPDATE t SET n = 777 WHERE key = 'a'", "a"),
        ("DELETE FROM t WHERE key = 'a'", "a"),
        ("UPDATE t SET key = 'b' WHERE key = 'a'", "a"),
        (insert, "new"),
        (&insert.replace("0,", "9,"), "new"),
    ] {
        let database = Database::new();
        let url = database.url();
        claimed(&url).append(&batch(&[row("a", 1, 1)])).unwrap();
        let next = match key {
            "a" => knowing(row("a", 2, 2), Known::Version(1)),
            _ => knowing(row("new", 1, 2), Known::NothingAfter(0)),
        };
        let rows = "SELECT key, n, _version FROM t ORDER BY key";
        let mut store = joined(&url);
        let appended = append_while(&url, change, store.as_mut(), &next).unwrap();
        assert_eq!(appended.foreign.len(), 1, "{change}: {appended:?}");
        assert_eq!(appended.foreign[0].key, key);
        assert_eq!(store.conflicts().unwrap().len(), 1, "both are kept");
        assert!(!database.sql(rows).contains("a|2|2"), "{change}: {}", database.sql(rows));
        assert_eq!(database.sql("SELECT count(*) FROM t_history"), "1\n", "{change}");
    }
}

#[test]
fn a_row_that_a_trigger_takes_away_is_not_reported() {
    for (event, version) in [("INSERT", 1), ("UPDATE", 2), ("DELETE", 3)] {
        let database = Database::new();
        let mut store = claimed(&database.url());
        let mut deletion = row("a", 3, 3);
        deletion.payload.clear();
        deletion.deleted = true;
        deletion.hash = state_hash(record_prefix("t", "a"), 3, &[]);
        let rows = [row("a", 1, 1), row("a", 2, 2), deletion];
        let batches = rows.map(|row| {
            let known = match row.version {
                1 => Known::NothingAfter(0),
                version => Known::Version(version - 1),
            };
            knowing(row, known)
        });
        batches[..version - 1].iter().for_each(|batch| {
            store.append(batch).unwrap();
        });
        database.sql(&format!(
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER nothing BEFORE {event} ON t FOR EACH ROW EXECUTE FUNCTION nothing()"
        ));
        let error = store.append(&batches[version - 1]).unwrap_err();
        assert!(error.to_string().contains("trigger") && error.is_transient(), "{error}");
        assert_eq!(error.table(), Some(("t", None)));
        let history = store.row_count(0).unwrap().history;
        assert_eq!(history, version as u64 - 1, "nothing of it is written");
        database.sql("DROP TRIGGER nothing ON t");
        store.append(&batches[version - 1]).unwrap();
        assert!(store.audit().unwrap().ok());
    }
}

#[test]
fn rows_that_a_policy_hides_are_not_taken_for_removed() {
    let server = Server::with(Options { tcp: true, ..Options::default() });
    let url = server.url("postgres");
    claimed(&url).append(&batch(&[row("a", 1, 1), row("b", 1, 2)])).unwrap();
    sql(
        &url,
        "CREATE ROLE guest LOGIN PASSWORD 'x';
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest;
         ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY not_all ON t USING (key <> 'a')",
    );
    let guest = format!("postgres://guest:x@{}/postgres", server.address());
    for mut store in [open(&guest).unwrap(), open_read_only(&guest).unwrap()] {
        let error = store.load(0, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(&error, StoreError::Denied { why, .. } if why.contains("row-level")));
    }
    let next = knowing(row("a", 2, 3), Known::Version(1));
    let error = joined(&guest).append(&next).unwrap_err();
    assert!(matches!(&error, StoreError::TableRejected { why, .. } if why.contains("row-level")));
}

#[test]
fn a_table_that_takes_no_rows_is_named() {
    for change in [
        "ALTER TABLE t ADD CHECK (n < 2)",
        "ALTER TABLE t DROP COLUMN n",
        "ALTER TABLE t ADD COLUMN other int NOT NULL DEFAULT 0; ALTER TABLE t ALTER other DROP DEFAULT",
        "ALTER TABLE t_history RENAME COLUMN _link TO link",
        "DROP TABLE t",
        "CREATE RULE also AS ON INSERT TO t DO ALSO SELECT 1",
        "INSERT INTO t_history SELECT 'b', n, _version, _hash, _clock, _writer, _seq, _committed_at,
             _deleted, 2, _link FROM t_history",
    ] {
        let database = Database::new();
        let mut store = claimed(&database.url());
        store.append(&batch(&[row("a", 1, 1)])).unwrap();
        database.sql(change);
        let next = knowing(row("a", 2, 2), Known::Version(1));
        // It says so also on a connection that is opened anew.
        for _ in 0..2 {
            let error = store.append(&next).unwrap_err();
            assert_eq!(error.table(), Some(("t", None)), "{change}: {error}");
            assert!(error.is_transient() && !error.is_final(), "{error}");
        }
    }
    // Where the owner stands is of no table.
    let database = Database::new();
    let mut store = claimed(&database.url());
    database.sql("DROP TABLE commonhold_meta");
    let error = store.append(&batch(&[row("a", 1, 1)])).unwrap_err();
    assert_eq!(error.table(), None, "{error}");
}

#[test]
fn a_column_of_another_type_is_a_foreign_change() {
    let database = Database::new();
    let mut store = claimed(&database.url());
    store.append(&batch(&[row("a", 1, 1)])).unwrap();
    database.sql("ALTER TABLE t ALTER COLUMN n TYPE text");
    let next = knowing(row("a", 2, 2), Known::Version(1));
    // What the connection had prepared is of no use any more.
    let met = store.append(&next).or_else(|_| store.append(&next)).unwrap();
    assert!(met.foreign[0].why.contains("`n`"), "{met:?}");
}
