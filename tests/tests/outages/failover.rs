//! A primary that is killed, and its replica that takes its place.

use commonhold_tests::stage::LIMIT;

use super::*;

/// A replica of `server`.
fn replica(server: &Server) -> Server {
    server.replica(Options { tcp: true, ..Options::default() })
}

/// Changes a setting of the server.
fn configure(server: &Server, setting: &str) {
    let url = server.url("postgres");
    sql(&url, &format!("ALTER SYSTEM SET {setting}"));
    sql(&url, "SELECT pg_reload_conf()");
}

/// The server answers `question` with `answer`, sooner or later.
fn comes(server: &Server, question: &str, answer: &str) {
    let url = server.url("postgres");
    eventually(question, || sql(&url, question) == format!("{answer}\n"));
}

/// From here on a commit of the server waits for its replica.
fn wait_for_replicas(server: &Server) {
    configure(server, "synchronous_standby_names = '*'");
    comes(server, "SELECT sync_state FROM pg_stat_replication", "sync");
}

/// The number of the last batch.
fn last_batch(server: &Server) -> u64 {
    let batch = "SELECT value FROM commonhold_meta WHERE key = 'batch'";
    sql(&server.url("postgres"), batch).trim().parse().unwrap()
}

#[test]
fn a_replica_that_takes_over_has_everything() {
    let mut random = Random::from_environment();
    let primary = server();
    let second = replica(&primary);
    wait_for_replicas(&primary);
    let mut place = Place::reached(&mut random, primary, Some(second.address()));
    random.dawdle(Duration::from_millis(50));
    place.durable();
    place.server.stop(Stop::Kill);
    // Nobody takes writes yet.
    place.assert_out("is a replica");
    second.promote();
    place.durable();
    place.judge();
}

#[test]
fn a_replica_that_lacks_what_was_durable_is_refused() {
    let mut random = Random::from_environment();
    let primary = server();
    let second = replica(&primary);
    let mut place = Place::reached(&mut random, primary, Some(second.address()));
    configure(&second, "primary_conninfo = ''");
    comes(&second, "SELECT count(*) FROM pg_stat_wal_receiver", "0");
    // The replica has no more of this, and nobody asked for that.
    let table: Table<Item> = place.runtime.table(FULL).unwrap();
    for n in 0..3 {
        let commit = table.insert(&format!("late-{n}"), &Item { owner: -1, n }).unwrap();
        commit.durable(LIMIT).unwrap();
    }
    // They would end with the refusal.
    place.end_streams();
    place.server.stop(Stop::Kill);
    second.promote();
    let there = last_batch(&second);
    // Commits go on in memory, and who waits is told.
    let commit = table.update("late-0", |item| item.n += 1).unwrap();
    let refused = commit.durable(LIMIT).unwrap_err();
    assert!(matches!(refused, Error::NotStorable { .. }), "{refused}");
    assert!(refused.to_string().contains("older than what this segment stored"), "{refused}");
    assert!(place.runtime.space().is_refused());
    assert_eq!(last_batch(&second), there, "nothing is written");
    // With the server that has everything it goes on.
    place.server.restart();
    eventually("it goes on", || !place.runtime.space().is_refused());
    drop(table);
    place.durable();
    place.judge();
}

#[test]
fn a_commit_waits_for_its_replica() {
    let mut random = Random::from_environment();
    let primary = server();
    let second = replica(&primary);
    wait_for_replicas(&primary);
    let mut place = Place::reached(&mut random, primary, None);
    second.stop(Stop::Kill);
    place.assert_out("127.0.0.1");
    // Whoever cancels the wait makes nothing durable.
    let table: Table<Item> = place.runtime.table(LATEST).unwrap();
    let commit = table.update_or_insert("waits", Item::default, |item| item.n += 1).unwrap();
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                  WHERE wait_event = 'SyncRep'";
    for _ in 0..5 {
        eventually("a wait", || sql(&place.server.url("postgres"), cancel) != "0\n");
    }
    let late = commit.durable(SHORT).unwrap_err();
    assert!(matches!(late, Error::Timeout { .. }), "{late}");
    second.restart();
    place.durable();
    drop(table);
    place.judge();
}
