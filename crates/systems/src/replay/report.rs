//! What a replay reports.

use std::path::PathBuf;

use serde::Serialize;

use super::Options;
use super::crew::Tally;
use super::place::Place;
use super::shares::Shares;

/// How a replay went: what was done, and whether it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Lines of the log.
    pub lines: u64,
    /// Lines that parse; each is one commit.
    pub parsed: u64,
    /// Lines that do not.
    pub unparsed: u64,
    /// The numbers of the first of them.
    pub unparsed_first: Vec<u64>,
    /// Worker processes at a time.
    pub workers: u32,
    /// Clients in the table at the end.
    pub clients: u64,
    /// Requests that this replay served.
    pub requests: i64,
    /// Bytes that this replay served.
    pub bytes: i64,
    /// Requests that this replay denied.
    pub denied: i64,
    /// The most requests of a client.
    pub cap_requests: Option<i64>,
    /// The most bytes of a client.
    pub cap_bytes: Option<i64>,
    /// Exchanges lost to another worker, from the start line on.
    pub lost_exchanges: u64,
    /// Workers killed on purpose.
    pub kills: u32,
    /// How many kills were asked for.
    pub kills_asked: u32,
    /// Workers started in the place of dead ones.
    pub replacements: u32,
    /// What decided who was killed, and when.
    pub seed: u64,
    /// From the start line until the last share was done.
    pub elapsed_ms: u64,
    /// The same in microseconds.
    pub elapsed_us: u64,
    /// From then until the store had everything.
    pub drain_ms: u64,
    /// With reading the log, starting processes and all checks.
    pub total_ms: u64,
    /// Parsed lines a second of the elapsed time.
    pub requests_per_s: u64,
    /// The segment's file; gone if none was named.
    pub segment: PathBuf,
    /// The store; gone if neither it nor the segment was named.
    pub store: String,
    /// Rows that this replay added to the history in the store; none without a store.
    pub store_rows: Option<u64>,
    /// Whether the audit of the store found nothing; none without a store.
    pub verify_ok: Option<bool>,
    /// What does not hold; the first of it.
    pub findings: Vec<String>,
    /// Whether everything holds.
    pub ok: bool,
}

impl Report {
    /// What was done, before it is checked.
    pub(crate) fn new(options: &Options, place: &Place, shares: &Shares, tally: &Tally) -> Self {
        let elapsed_us = tally.elapsed.as_micros() as u64;
        let cap = |cap: i64| Some(cap).filter(|cap| *cap < i64::MAX);
        Self {
            lines: shares.lines,
            parsed: shares.parsed,
            unparsed: shares.lines - shares.parsed,
            unparsed_first: shares.unparsed_first.clone(),
            workers: options.workers,
            clients: 0,
            requests: 0,
            bytes: 0,
            denied: 0,
            cap_requests: cap(options.caps.requests),
            cap_bytes: cap(options.caps.bytes),
            lost_exchanges: tally.lost_exchanges,
            kills: tally.kills,
            kills_asked: options.kills,
            replacements: tally.replacements,
            seed: options.seed,
            elapsed_ms: elapsed_us / 1000,
            elapsed_us,
            drain_ms: 0,
            total_ms: 0,
            requests_per_s: shares.parsed.saturating_mul(1_000_000) / elapsed_us.max(1),
            segment: place.segment(),
            store: place.store_url().to_owned(),
            store_rows: None,
            verify_ok: None,
            findings: Vec::new(),
            ok: false,
        }
    }

    /// The figures for people: name and value, in the order to show them.
    #[must_use]
    pub fn figures(&self) -> Vec<(&'static str, String)> {
        let of =
            |n: u32, asked: u32| if asked == 0 { n.to_string() } else { format!("{n} of {asked}") };
        let number = |n: Option<u64>| n.map_or_else(|| "no store".to_owned(), |n| n.to_string());
        let holds = |ok: bool| if ok { "yes" } else { "NO" }.to_owned();
        vec![
            ("lines", self.lines.to_string()),
            ("parsed", self.parsed.to_string()),
            ("unparsed", self.unparsed.to_string()),
            ("workers", self.workers.to_string()),
            ("clients", self.clients.to_string()),
            ("requests", self.requests.to_string()),
            ("bytes", self.bytes.to_string()),
            ("denied", self.denied.to_string()),
            ("lost exchanges", self.lost_exchanges.to_string()),
            ("kills", of(self.kills, self.kills_asked)),
            ("replaced workers", self.replacements.to_string()),
            ("elapsed ms", format!("{}.{:03}", self.elapsed_us / 1000, self.elapsed_us % 1000)),
            ("requests/s", self.requests_per_s.to_string()),
            ("store", self.store.clone()),
            ("rows added", number(self.store_rows)),
            ("audit holds", self.verify_ok.map_or_else(|| "no store".to_owned(), holds)),
            ("all holds", holds(self.ok)),
        ]
    }
}
