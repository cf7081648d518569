//! Starting and stopping: nothing acknowledged is lost, nobody waits longer than he must, and what cannot start says why.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{Client, LIMIT, RECORD, World, eventually, get, hang};
use commonhold::{Config, Runtime};
use commonhold_server::{ServeError, Server};

fn refused(world: &World, change: impl FnOnce(&mut commonhold_server::ServerOptions)) -> String {
    let mut options = world.options();
    change(&mut options);
    let error = Server::start(options).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn it_serves_and_stops() {
    let world = World::new();
    let server = world.serve();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(server.address(), path).status, 200);
    }
    let metrics = get(server.address(), "/metrics");
    assert!(metrics.text().contains("# TYPE commonhold_"), "{metrics:?}");
    get(server.address(), "/nothing").problem(404);
    let mut idle = Client::to(server.address());
    assert_eq!(idle.get("/healthz").status, 200);
    server.stop().unwrap();
    assert!(idle.is_closed_silently());
    assert!(TcpStream::connect(server.address()).is_err());
    server.stop().unwrap();
}

#[test]
fn what_cannot_start_says_why() {
    let world = World::new();
    let first = world.serve();
    let taken = refused(&world, |options| options.listen = first.address());
    assert!(taken.contains(&first.address().to_string()), "{taken}");
    assert!(taken.contains("somebody listens there already"), "{taken}");
    let open = refused(&world, |options| options.listen = "0.0.0.0:0".parse().unwrap());
    assert!(open.contains("0.0.0.0:0 can be reached from other machines"), "{open}");
    let token = world.path("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o640)).unwrap();
    let readable = refused(&world, |options| options.token_file = Some(token.clone()));
    assert!(readable.contains("token: its mode is 0640, others may use it"), "{readable}");
    let gone = refused(&world, |options| options.token_file = Some(world.path("no-token")));
    assert!(gone.contains("no-token: No such file"), "{gone}");
    let none = refused(&world, |options| options.connections = 0);
    assert!(none.contains("the number of connections is 0"), "{none}");
    // The first one was not disturbed.
    assert_eq!(get(first.address(), "/readyz").status, 200);
    first.stop().unwrap();
}

#[test]
fn tables_of_the_systems_are_added_when_nobody_is_there() {
    let world = World::new();
    let has = |server: &Server, table: &str| {
        let path = format!("/v1/tables/{table}/records/none");
        let answer = get(server.address(), &path);
        answer.problem(404);
        !answer.text().contains("no table")
    };
    // In use without them: served as it is.
    let runtime = Runtime::open(world.config()).unwrap();
    let server = world.serve();
    assert!(has(&server, "counters") && !has(&server, "customers"));
    server.stop().unwrap();
    drop(runtime);
    let server = world.serve();
    assert!(has(&server, "counters") && has(&server, "customers") && has(&server, "tasks"));
    server.stop().unwrap();
}

#[test]
fn a_request_under_way_ends_first() {
    let world = World::new();
    let server = world.serve();
    let mut busy = hang(server.address());
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        eventually("nobody is let in any more", || TcpStream::connect(server.address()).is_err());
        assert!(!stopping.is_finished());
        busy.send(RECORD);
        let answer = busy.answer();
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        stopping.join().unwrap().unwrap();
    });
    assert_eq!(stored(&world)["k"], 1);
}

#[test]
fn a_request_that_does_not_end_is_cut_off_after_the_grace() {
    let world = World::new();
    let server = world.serve_with(|options| options.grace = Duration::from_millis(100));
    let mut busy = hang(server.address());
    server.stop().unwrap();
    assert!(busy.is_closed_silently());
}

#[test]
fn a_stop_can_be_hurried() {
    let world = World::new();
    let server = world.serve_with(|options| options.grace = LIMIT * 100);
    assert_eq!(
        Client::to(server.address()).put(&path("a"), "{\"fields\":{\"n\":7}}").unwrap().status,
        201
    );
    let mut busy = hang(server.address());
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        eventually("nobody is let in any more", || TcpStream::connect(server.address()).is_err());
        server.hurry();
        stopping.join().unwrap().unwrap();
    });
    assert!(busy.is_closed_silently());
    assert_eq!(stored(&world)["a"], 7, "what is committed is flushed all the same");
}

#[test]
fn what_the_store_does_not_take_is_told() {
    let world = World::new();
    let server = world.serve_with(|options| options.drain_time = Duration::from_millis(300));
    let store = rusqlite_lock(&world);
    assert_eq!(
        Client::to(server.address()).put(&path("a"), "{\"fields\":{\"n\":7}}").unwrap().status,
        201
    );
    let error = server.stop().unwrap_err();
    assert!(matches!(error, ServeError::NotStored { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("the segment holds them, `commonhold drain` tries again"), "{text}");
    drop(store);
    // The segment had it: the next daemon serves it, and stores it.
    let server = world.serve();
    assert!(get(server.address(), &path("a")).text().contains("\"n\":7"));
    server.stop().unwrap();
    assert_eq!(stored(&world)["a"], 7);
}

/// Somebody else writes to the store, and does not end.
fn rusqlite_lock(world: &World) -> rusqlite::Connection {
    let store = rusqlite::Connection::open(world.path("store.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    store
}

fn path(key: &str) -> String {
    format!("/v1/tables/counters/records/{key}")
}

/// What the store has of `counters`.
fn stored(world: &World) -> BTreeMap<String, i64> {
    let store = rusqlite::Connection::open(world.path("store.db")).unwrap();
    let mut rows = store.prepare("SELECT key, n FROM counters").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Rounds of [`acknowledged_writes_survive_a_stop_under_load`]; the issue asks for 100.
fn rounds() -> u32 {
    std::env::var("COMMONHOLD_STOPS").map_or(10, |rounds| rounds.parse().unwrap())
}

#[test]
fn acknowledged_writes_survive_a_stop_under_load() {
    let world = World::new();
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    for round in 0..rounds() {
        let server = world.serve();
        let address = server.address();
        // In the segment, before anything is written in this round.
        for (key, n) in &expected {
            let answer = get(address, &path(key));
            assert!(
                answer.text().contains(&format!("\"n\":{n}")),
                "round {round}, {key}: {answer:?}"
            );
        }
        let (tell, acknowledged) = mpsc::channel();
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (tell, key) = (tell.clone(), format!("w{writer}"));
                std::thread::spawn(move || {
                    let Some(mut client) = Client::try_to(address) else { return -1 };
                    for n in i64::from(round) * 1_000_000.. {
                        let answer =
                            client.put(&path(&key), &format!("{{\"fields\":{{\"n\":{n}}}}}"));
                        match answer.map(|answer| answer.status) {
                            Some(200 | 201) => tell.send((key.clone(), n)).unwrap(),
                            // Full with history while the store catches up: not acknowledged.
                            Some(503) => {}
                            None => return n,
                            other => panic!("{other:?}"),
                        }
                    }
                    0
                })
            })
            .collect();
        // Some have been acknowledged by everybody, and more are under way.
        for write in acknowledged.iter().take(200) {
            expected.insert(write.0, write.1);
        }
        server.stop().unwrap();
        drop(tell);
        let tried: Vec<i64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        for write in acknowledged {
            expected.insert(write.0, write.1);
        }
        let stored = stored(&world);
        for (writer, tried) in tried.into_iter().enumerate() {
            let key = format!("w{writer}");
            let Some(acknowledged) = expected.get_mut(&key) else { continue };
            let found = stored[&key];
            // The last one may have been done and not been told.
            assert!(
                found == *acknowledged || found == tried,
                "round {round}: {key} is {found}, not {acknowledged}"
            );
            *acknowledged = found;
        }
    }
}

#[test]
fn a_dropped_daemon_leaves_nothing() {
    let world = World::new();
    let since = Instant::now();
    let address = {
        let server = world.serve();
        hang(server.address()).send(b"{");
        server.address()
    };
    assert!(TcpStream::connect(address).is_err());
    assert!(since.elapsed() < LIMIT);
    let config: Config = world.config();
    commonhold::admin::destroy(&config, LIMIT, false).unwrap();
}
