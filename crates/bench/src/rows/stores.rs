//! Row 18: the same commits on SQLite and on PostgreSQL, both syncing, beside what programs do with either without us.
//!
//! For 1, 64 and 1000 processes that wait until each of their commits is stored, with full history: beside one
//! transaction for each update (as many connections, 64 at most), and beside rows inserted in transactions of a
//! thousand, by the store alone and without it. Then one row that many change: read, add, write at READ COMMITTED (it
//! loses updates), under `FOR UPDATE`, and SERIALIZABLE tried again.

use std::time::Duration;

use commonhold::catalogue::History;
use commonhold_testing::postgres::{Options, Server, sql};

use crate::crew::Crew;
use crate::place::{Place, RECORDS, folder};
use crate::report::{Line, Report, rate, time};
use crate::rows::durable::{BATCH, store_rate};
use crate::sql::{self as peer, Isolation, Repeats};
use crate::worker::Job;
use crate::{Effort, Outcome};

/// The most connections of peers: a server with more of them is slower, not faster.
const CONNECTIONS: usize = 64;
/// Who changes the one row of the reference.
const CROWD: usize = 16;

/// A database of one kind, empty; a name makes another beside it.
trait Kind {
    const NAME: &'static str;
    /// The url of a store in the database `name`.
    fn store(&self, name: &str) -> String;
    /// What programs without us are told of the database `name`.
    fn plain(&self, name: &str) -> String {
        self.store(name)
    }
    fn prepare(&self, name: &str) -> Outcome;
    fn singles(&self, name: &str, connections: usize, time: Duration) -> Outcome<Repeats>;
    fn batches(&self, name: &str, batches: usize) -> Outcome<f64>;
}

struct Sqlite(tempfile::TempDir);

struct Postgres(Server);

impl Kind for Sqlite {
    const NAME: &'static str = "SQLite";

    fn store(&self, name: &str) -> String {
        format!("sqlite:{}", self.plain(name))
    }

    fn plain(&self, name: &str) -> String {
        self.0.path().join(format!("{name}.db")).display().to_string()
    }

    fn prepare(&self, name: &str) -> Outcome {
        peer::prepare_sqlite(&self.plain(name), RECORDS as usize)
    }

    fn singles(&self, name: &str, connections: usize, time: Duration) -> Outcome<Repeats> {
        let path = self.plain(name);
        peer::repeat(connections, time, &|index| peer::single_sqlite(&path, index))
    }

    fn batches(&self, name: &str, batches: usize) -> Outcome<f64> {
        peer::batches_sqlite(&self.plain(name), BATCH, batches)
    }
}

impl Kind for Postgres {
    const NAME: &'static str = "PostgreSQL";

    fn store(&self, name: &str) -> String {
        let admin = self.0.url("postgres");
        let known = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
        if sql(&admin, &known).is_empty() {
            sql(&admin, &format!("CREATE DATABASE {name}"));
        }
        self.0.url(name)
    }

    fn prepare(&self, name: &str) -> Outcome {
        peer::prepare_postgres(&self.plain(name), RECORDS as usize)
    }

    fn singles(&self, name: &str, connections: usize, time: Duration) -> Outcome<Repeats> {
        let url = self.plain(name);
        peer::repeat(connections, time, &|index| peer::single_postgres(&url, index))
    }

    fn batches(&self, name: &str, batches: usize) -> Outcome<f64> {
        peer::batches_postgres(&self.plain(name), BATCH, batches)
    }
}

/// Row 18.
pub(crate) fn stores(effort: Effort, report: &mut Report) -> Outcome {
    commits(&Sqlite(folder()?), effort, report)?;
    let settings = vec![("max_connections".to_owned(), "120".to_owned())];
    let postgres = Postgres(Server::with(Options { fsync: true, settings, ..Options::default() }));
    commits(&postgres, effort, report)?;
    reference(&postgres, effort, report)
}

/// Commits that wait for the store.
fn commits<K: Kind>(kind: &K, effort: Effort, report: &mut Report) -> Outcome {
    kind.prepare("peer")?;
    let crowds: &[usize] = effort.of(&[1, 64, 1000], &[1, 64]);
    let most = crowds.last().copied().unwrap_or(1);
    let store = kind.store("ours");
    let place = Place::both_with::<244>(most as u32 + 16, 65_536, |c| c.store(&store))?;
    let crew = Crew::start(most, &place.path()?)?;
    for (turn, crowd) in crowds.iter().copied().enumerate() {
        let time_of = |full| Duration::from_millis(effort.of(full, 700));
        let alone =
            store_rate(&kind.store(&format!("alone{turn}")), History::Full, effort.of(50, 10))?;
        let raw = kind.batches("peer", effort.of(50, 10))?;
        let ours = crew.round(Job::DurableFull, crowd, time_of(2000))?;
        let connections = crowd.min(CONNECTIONS);
        let single = kind.singles("peer", connections, time_of(2000))?;
        let what = format!("durable commits, {}, {crowd} waiting, full history", K::NAME);
        let tail = time(ours.quantile(0.999));
        let line = Line::new(18, what, format!("{} (99.9 % ≤ {tail})", rate(ours.rate)))
            .limit(format!(
                "{BATCH} rows a transaction: the store alone {}, without history and chain {}",
                rate(alone),
                rate(raw)
            ))
            .peer(format!("a transaction each, {connections} connections {}", rate(single.rate)))
            .ratio(format!(
                "{:.1} × peer, {:.0} % of the store alone",
                ours.rate / single.rate,
                100.0 * ours.rate / alone
            ));
        report.add(&line);
    }
    Ok(())
}

/// One row that all change.
fn reference(kind: &Postgres, effort: Effort, report: &mut Report) -> Outcome {
    let span = Duration::from_millis(effort.of(2000, 700));
    let store = kind.store("hot");
    let place = Place::both_with::<244>(CROWD as u32 + 16, 65_536, |c| c.store(&store))?;
    let crew = Crew::start(CROWD, &place.path()?)?;
    let ours = crew.round(Job::DurableHot, CROWD, span)?.rate;
    let ways = [
        ("READ COMMITTED, read and written back", Isolation::Naive),
        ("FOR UPDATE", Isolation::ForUpdate),
        ("SERIALIZABLE with retry", Isolation::Serializable),
    ];
    for (number, (name, isolation)) in ways.into_iter().enumerate() {
        let database = format!("reference{number}");
        kind.store(&database);
        kind.prepare(&database)?;
        let url = kind.plain(&database);
        let done = peer::repeat(CROWD, span, &|_| peer::read_change_write(&url, isolation))?;
        let lost = done.count.saturating_sub(peer::added(&url)?);
        let what = format!("one record, {CROWD} durable writers, PostgreSQL, against {name}");
        let line = Line::new(18, what, rate(ours))
            .peer(format!("{} ({lost} of {} updates lost)", rate(done.rate), done.count))
            .ratio(format!("{:.1} × peer", ours / done.rate));
        let expected = (isolation == Isolation::Naive) == (lost > 0);
        let target = if isolation == Isolation::Naive { "it loses some" } else { "it loses none" };
        report.add(&line.target(target, expected));
    }
    Ok(())
}
