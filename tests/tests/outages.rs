//! A store that goes away and comes back: PostgreSQL killed, stopped, full, behind a network that stalls, cuts and
//! drops. Commits go on in memory, who waits for the store is told why it takes so long, and in the end it has
//! everything, once and in order.
//!
//! `COMMONHOLD_OUTAGES` is how often the server is killed and stopped; if it does not say, killed 50 times.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

#[path = "outages/failover.rs"]
mod failover;

use std::net::SocketAddr;
use std::time::Duration;

use commonhold::{Error, Runtime, Table};
use commonhold_testing::postgres::{Options, PASSWORD, Server, Stop, sql};
use commonhold_testing::proxy::{Proxy, Way};
use commonhold_tests::stage::eventually;
use commonhold_tests::{FULL, Item, LATEST, Process, Random, Stage, judge, stage};

/// A wait for the store that is certain to be too short while there is none.
const SHORT: Duration = Duration::from_millis(50);

/// A server behind a proxy, and a segment with it as its store.
struct Place {
    // Dropped in this order: who works on the segment, then what they work with.
    streams: Vec<(Process, commonhold::WriterId)>,
    /// What those did that have ended.
    done: Vec<(commonhold::WriterId, u64)>,
    steward: Process,
    runtime: Runtime,
    stage: Stage,
    proxy: Proxy,
    /// Another way to the server, when the first one fails.
    other: Proxy,
    server: Server,
}

fn server() -> Server {
    Server::with(Options { tcp: true, ..Options::default() })
}

fn candidate(stage: &Stage) -> Process {
    let mut process = stage.role("candidate", &[]);
    process.hear("ready");
    process
}

fn rounds(else_so_many: u64) -> u64 {
    let given = std::env::var("COMMONHOLD_OUTAGES").ok();
    given.map_or(else_so_many, |text| text.parse().unwrap())
}

impl Place {
    /// With two processes that commit and one that is the steward.
    fn new(random: &mut Random) -> Self {
        Self::reached(random, server(), None)
    }

    /// The same on this server; the url names it, and behind it the `second` host.
    fn reached(random: &mut Random, server: Server, second: Option<SocketAddr>) -> Self {
        let proxy = Proxy::start(server.address());
        let other = Proxy::start(second.unwrap_or(server.address()));
        let hosts = match second {
            Some(_) => format!("{},{}", proxy.address(), other.address()),
            None => proxy.address().to_string(),
        };
        let stage = stage!();
        let password = stage.path("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let url = format!(
            "postgres://commonhold@{hosts}/postgres?sslmode=disable&statement_timeout=2000&connect_timeout=2&password_file={}",
            password.display()
        );
        let stage = stage.with_store(&url);
        drop(stage.open());
        let steward = candidate(&stage);
        let runtime = stage.attach();
        let streams = [0, 1].map(|index| {
            let acks = stage.path(&format!("acks-{index}"));
            let (own, seed) = (format!("own-{index}"), random.next().to_string());
            let mut stream = stage.role("stream", &[acks.to_str().unwrap(), &own, "worker", &seed]);
            let writer = stream.hear("writer").parse().unwrap();
            stream.hear("going");
            (stream, writer)
        });
        let (streams, done) = (streams.into(), Vec::new());
        let mut place = Self { streams, done, steward, runtime, stage, proxy, other, server };
        place.durable();
        place
    }

    /// Everything so far is stored.
    fn durable(&mut self) {
        self.steward.tell("durable");
        self.steward.hear("durable");
    }

    /// Commits go on in memory, and who waits for the store is told `why` it does not come.
    fn assert_out(&self, why: &str) {
        let told = || self.runtime.space().steward_message().is_some_and(|m| m.contains(why));
        let message = || self.runtime.space().steward_message();
        eventually(&format!("{why:?} in {:?}", message()), told);
        let table: Table<Item> = self.runtime.table(LATEST).unwrap();
        for _ in 0..100 {
            table.update_or_insert("test", Item::default, |item| item.n += 1).unwrap();
        }
        let commit = table.update("test", |item| item.n += 1).unwrap();
        let Err(late) = commit.durable(SHORT) else { panic!("stored without a store") };
        assert!(matches!(late, Error::Timeout { .. }), "{late}");
        assert!(late.to_string().contains("127.0.0.1"), "{late}");
        assert!(!late.to_string().contains(PASSWORD), "{late}");
        assert!(commonhold::admin::unstored(self.runtime.space()).unwrap() > 0);
    }

    fn end_streams(&mut self) {
        for (mut stream, writer) in self.streams.drain(..) {
            stream.tell("stop");
            self.done.push((writer, stream.hear("done").parse().unwrap()));
            stream.end_well();
        }
    }

    /// Ends the streams; the store has every one of their commits, and nothing else is wrong.
    fn judge(mut self) {
        self.end_streams();
        judge::settle(&self.stage, &self.runtime);
        let stored = judge::writers(&self.stage);
        for (writer, rounds) in &self.done {
            assert_eq!(stored.get(writer), Some(rounds), "{writer}");
        }
        self.steward.end_well();
    }
}

/// The server goes by `stop` and comes back, again and again.
fn gone_and_back(stop: Stop, times: u64) {
    let mut random = Random::from_environment();
    let mut place = Place::new(&mut random);
    for round in 0..rounds(times) {
        random.dawdle(Duration::from_millis(20));
        place.server.stop(stop);
        if round % 5 == 0 {
            place.assert_out("127.0.0.1");
        }
        place.server.restart();
        place.durable();
    }
    place.judge();
}

#[test]
fn a_killed_server_loses_nothing() {
    gone_and_back(Stop::Kill, 50);
}

#[test]
fn a_server_that_stops_at_once_loses_nothing() {
    gone_and_back(Stop::Immediate, 10);
}

#[test]
fn a_server_that_ends_its_sessions_loses_nothing() {
    gone_and_back(Stop::Fast, 10);
}

#[test]
fn a_connection_that_stalls_is_given_up() {
    let mut random = Random::from_environment();
    let mut place = Place::new(&mut random);
    for _ in 0..2 {
        random.dawdle(Duration::from_millis(20));
        place.proxy.stall();
        place.assert_out("127.0.0.1");
        place.proxy.mend();
        place.durable();
    }
    // Who has to leave meanwhile leaves, and the next one stores what he could not.
    place.proxy.stall();
    let table: Table<Item> = place.runtime.table(LATEST).unwrap();
    table.update_or_insert("late", Item::default, |item| item.n += 1).unwrap();
    drop(table);
    place.steward.end_well();
    place.steward = candidate(&place.stage);
    place.assert_out("127.0.0.1");
    place.proxy.mend();
    place.durable();
    place.judge();
}

#[test]
fn a_connection_that_is_cut_anywhere_loses_nothing() {
    let mut random = Random::from_environment();
    let mut place = Place::new(&mut random);
    for round in 0..30 {
        let before = place.proxy.cuts();
        // Now within what is sent, now within the answers, that to the commit among them.
        let (way, most) =
            if round % 2 == 0 { (Way::ToServer, 30_000) } else { (Way::ToClient, 400) };
        place.proxy.cut_after(way, 1 + random.below(most));
        eventually("a cut", || place.proxy.cuts() > before);
        place.durable();
    }
    place.judge();
}

#[test]
fn connections_that_are_dropped_and_refused_lose_nothing() {
    let mut random = Random::from_environment();
    let mut place = Place::new(&mut random);
    for round in 0..20 {
        random.dawdle(Duration::from_millis(20));
        if round % 5 == 0 {
            place.proxy.refuse();
            place.proxy.drop_connections();
            place.assert_out("127.0.0.1");
            place.proxy.mend();
        } else {
            place.proxy.drop_connections();
        }
        place.durable();
    }
    place.judge();
}

#[test]
fn the_next_host_is_asked_when_one_fails() {
    let mut random = Random::from_environment();
    let server = server();
    let address = server.address();
    let mut place = Place::reached(&mut random, server, Some(address));
    assert_eq!(place.other.connections(), 0);
    // One that refuses, and one that takes connections and says nothing.
    place.proxy.refuse();
    place.proxy.drop_connections();
    place.durable();
    let refused = place.other.connections();
    assert!(refused > 0);
    place.proxy.mend();
    place.proxy.stall();
    place.other.drop_connections();
    place.durable();
    assert!(place.other.connections() > refused);
    place.proxy.mend();
    place.judge();
}

#[test]
fn a_full_disk_is_waited_for() {
    let mut random = Random::from_environment();
    let mut place = Place::new(&mut random);
    let url = place.server.url("postgres");
    // What the server says when a table cannot grow.
    sql(
        &url,
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$",
    );
    for table in [FULL, LATEST] {
        for _ in 0..2 {
            sql(
                &url,
                &format!(
                    "CREATE TRIGGER no_space BEFORE INSERT OR UPDATE ON \"{table}\"
                     FOR EACH STATEMENT EXECUTE FUNCTION no_space()"
                ),
            );
            place.assert_out("no space");
            sql(&url, &format!("DROP TRIGGER no_space ON \"{table}\""));
            place.durable();
        }
    }
    place.judge();
}

#[test]
fn nothing_is_made_in_place_of_what_was_moved_away() {
    let mut random = Random::from_environment();
    let mut place = Place::new(&mut random);
    let url = place.server.url("postgres");
    for what in ["SCHEMA public", "TABLE commonhold_meta"] {
        let (kind, name) = what.split_once(' ').unwrap();
        sql(&url, &format!("ALTER {what} RENAME TO aside"));
        place.assert_out("no table commonhold_meta");
        // It could not come back under its name if somebody had taken that.
        sql(&url, &format!("ALTER {kind} aside RENAME TO {name}"));
        place.durable();
    }
    place.judge();
}

#[test]
fn a_steward_may_begin_without_its_store() {
    let mut random = Random::from_environment();
    let mut place = Place::new(&mut random);
    place.server.stop(Stop::Kill);
    place.steward.kill();
    place.steward = candidate(&place.stage);
    place.assert_out("127.0.0.1");
    place.server.restart();
    place.durable();
    // Without the segment nobody knows the tables: that needs the store.
    place.server.stop(Stop::Fast);
    let other = stage!().with_store(&place.stage.store());
    let refused = Runtime::open(other.config()).unwrap_err().to_string();
    assert!(refused.contains("127.0.0.1") && !refused.contains('\n'), "{refused}");
    place.server.restart();
    place.judge();
}
