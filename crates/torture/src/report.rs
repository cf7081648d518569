//! The report: what `torture --json` prints. A check that a mode cannot make is null, and counts neither way.

use std::fmt;

use serde::Serialize;

/// How long updates took, in nanoseconds: from the call to its return, waiting for room included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half took at most so long.
    pub p50: u64,
    /// 99 % took at most so long.
    pub p99: u64,
    /// 99.9 % took at most so long.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// What one run showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How updates were made.
    pub mode: &'static str,
    /// Which versions were stored.
    pub history: Option<String>,
    /// Processes.
    pub processes: u32,
    /// Updates that the processes were to make.
    pub updates_attempted: u64,
    /// Updates whose call returned.
    pub updates_acknowledged: u64,
    /// The sum of the records' values: one for each update that took.
    pub final_value: i64,
    /// Acknowledged updates that did not take.
    pub lost: u64,
    /// Updates that took without being made, or twice.
    pub duplicated: u64,
    /// Each version is its predecessor's plus one.
    pub versions_sequential: Option<bool>,
    /// Each version's clock is strictly after its predecessor's.
    pub clocks_sequential: Option<bool>,
    /// The hashes of a record's versions differ.
    pub hashes_unique: Option<bool>,
    /// Every hash, recomputed from the store's rows, is the row's.
    pub hashes_match: Option<bool>,
    /// Each writer's sequences are 1, 2, 3 … up to at least what it acknowledged.
    pub writers_complete: Option<bool>,
    /// Exchanges lost to another process: how often two met.
    pub lost_exchanges: Option<u64>,
    /// Processes killed with at least one update acknowledged and one left.
    pub kills: u32,
    /// Entries of dead participants that are left after the last sweep.
    pub participants_dead: Option<u32>,
    /// Cells that are neither free nor a record's after the last sweep.
    pub cells_leaked: Option<u32>,
    /// The store.
    pub store: String,
    /// Rows of the history table, or with latest history of the table.
    pub store_rows: Option<u64>,
    /// Versions that the store has not, after the last drain.
    pub store_lag: Option<u64>,
    /// From the opening of the start line until the last process ended.
    pub elapsed_ms: u64,
    /// With starting the processes, draining and all checks.
    pub total_ms: u64,
    /// Acknowledged updates a second of `elapsed_ms`.
    pub commits_per_s: u64,
    /// How long updates took.
    pub latency_ns: Latency,
    /// Nothing acknowledged was lost, nothing was applied twice, every check made holds.
    pub ok: bool,
}

/// The bare call: seed 002's way and ours, side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Without protection.
    pub before: Report,
    /// With the compare-exchange.
    pub after: Report,
}

impl Report {
    /// Whether no check that was made failed.
    pub(crate) fn holds(&self) -> bool {
        let checks = [
            self.versions_sequential,
            self.clocks_sequential,
            self.hashes_unique,
            self.hashes_match,
            self.writers_complete,
        ];
        self.lost == 0
            && self.duplicated == 0
            && checks.iter().all(|c| c.unwrap_or(true))
            && [self.participants_dead, self.cells_leaked].iter().all(|n| n.unwrap_or(0) == 0)
            && self.store_lag.unwrap_or(0) == 0
    }
}

fn shown(check: Option<bool>) -> &'static str {
    match check {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    }
}

fn number<T: fmt::Display>(number: Option<T>) -> String {
    number.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

/// The report's lines: name and value.
fn lines(r: &Report) -> Vec<(&'static str, String)> {
    let micros = |nanos: u64| format!("{:.1}", nanos as f64 / 1000.0);
    let l = r.latency_ns;
    vec![
        ("mode", r.mode.to_owned()),
        ("processes", r.processes.to_string()),
        ("updates attempted", r.updates_attempted.to_string()),
        ("updates acknowledged", r.updates_acknowledged.to_string()),
        ("final value", r.final_value.to_string()),
        ("lost", r.lost.to_string()),
        ("applied twice", r.duplicated.to_string()),
        ("versions sequential", shown(r.versions_sequential).to_owned()),
        ("clocks sequential", shown(r.clocks_sequential).to_owned()),
        ("hashes unique", shown(r.hashes_unique).to_owned()),
        ("hashes match", shown(r.hashes_match).to_owned()),
        ("writers complete", shown(r.writers_complete).to_owned()),
        ("lost exchanges", number(r.lost_exchanges)),
        ("kills", r.kills.to_string()),
        ("dead participants left", number(r.participants_dead)),
        ("cells leaked", number(r.cells_leaked)),
        ("rows in the store", number(r.store_rows)),
        ("behind in the store", number(r.store_lag)),
        ("updates in ms", r.elapsed_ms.to_string()),
        ("everything in ms", r.total_ms.to_string()),
        ("commits/s", r.commits_per_s.to_string()),
        ("µs p50", micros(l.p50)),
        ("µs p99", micros(l.p99)),
        ("µs p99.9", micros(l.p999)),
        ("µs max", micros(l.max)),
        ("nothing lost", if r.ok { "yes" } else { "NO" }.to_owned()),
    ]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(self).iter().try_for_each(|(name, value)| writeln!(f, "{name:<22} {value:>12}"))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<22} {:>12} {:>12}", "", "before", "after")?;
        let rows = lines(&self.before).into_iter().zip(lines(&self.after));
        rows.into_iter()
            .try_for_each(|((name, a), (_, b))| writeln!(f, "{name:<22} {a:>12} {b:>12}"))
    }
}
