//! What `top` shows: from one look at a segment and the one before to paragraphs and tables of text. No terminal, no
//! clock and no segment here: the same looks give the same view.

use std::collections::BTreeMap;

use commonhold::core::inspect::commits_between;

use crate::failure::one_line;
use crate::looks::{Guard, Looks, Participant, Table, counted};
use crate::metrics::{MetricJson, ValueJson};
use crate::output::{bytes_text, nanos_text, time_text};

use super::eye::Sample;
use super::pool;

/// For so many looks it is said that the segment was made anew.
const ANEW_LOOKS: u32 = 10;

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Dim,
    Warn,
    Bad,
}

/// Text that is not broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

/// A table of text.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) heads: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<Piece>>,
    /// So many columns from the left are text, the others numbers.
    pub(crate) text_columns: usize,
}

/// Everything that is shown.
#[derive(Debug)]
pub(crate) struct View {
    /// Paragraphs: their pieces flow.
    pub(crate) head: Vec<Vec<Piece>>,
    pub(crate) sections: Vec<Section>,
}

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Story {
    now: Option<Sample>,
    before: Option<Sample>,
    /// Of the last segment seen.
    uuid: String,
    /// Why there is none.
    missing: String,
    /// So many looks more it is said that the segment was made anew.
    anew: u32,
}

impl Piece {
    pub(crate) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }

    pub(crate) fn plain(text: impl ToString) -> Self {
        Self::new(Tone::Plain, text.to_string())
    }

    /// `text`, standing out when `bad`.
    fn bad_if(bad: bool, text: impl Into<String>) -> Self {
        Self::new(if bad { Tone::Bad } else { Tone::Plain }, text)
    }

    pub(crate) fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl Story {
    pub(crate) fn new(first: Sample) -> Self {
        let uuid = first.looks.uuid.clone();
        Self { now: Some(first), before: None, uuid, missing: String::new(), anew: 0 }
    }

    /// The next look, or why there was nothing to see.
    pub(crate) fn tell(&mut self, seen: Result<Sample, String>) {
        match seen {
            Ok(sample) => {
                self.anew = self.anew.saturating_sub(1);
                self.before = self.now.take();
                if sample.looks.uuid != self.uuid {
                    self.uuid.clone_from(&sample.looks.uuid);
                    self.before = None;
                    self.anew = ANEW_LOOKS;
                }
                self.now = Some(sample);
            }
            Err(why) => {
                self.missing = why;
                (self.now, self.before) = (None, None);
            }
        }
    }

    pub(crate) fn view(&self) -> View {
        let Some(now) = &self.now else {
            let why = Piece::new(Tone::Bad, self.missing.clone());
            let head = vec![vec![why], vec![Piece::plain("looking for it again and again")]];
            return View { head, sections: Vec::new() };
        };
        let since = Since { now, before: self.before.as_ref() };
        let mut head = head(&since);
        if self.anew > 0 {
            head.insert(0, vec![Piece::new(Tone::Warn, "the segment was made anew")]);
        }
        let sections = [
            tables(&since),
            pool::section(&since),
            guards(&since),
            counters(&since),
            metrics(&since),
            processes(&since),
        ];
        View { head, sections: sections.into_iter().filter(|s| !s.rows.is_empty()).collect() }
    }
}

/// Two looks at one segment.
pub(super) struct Since<'a> {
    pub(super) now: &'a Sample,
    before: Option<&'a Sample>,
}

impl Since<'_> {
    /// `now - before` of what `count` picks, per second; nothing after a first look.
    pub(super) fn rate(&self, count: impl Fn(&Sample) -> u64) -> Option<f64> {
        let before = self.before?;
        self.per_second(count(self.now).wrapping_sub(count(before)))
    }

    fn per_second(&self, count: u64) -> Option<f64> {
        self.rate_of(count as f64)
    }

    fn rate_of(&self, more: f64) -> Option<f64> {
        let nanos = self.now.at_nanos.saturating_sub(self.before?.at_nanos);
        (nanos > 0).then(|| more * 1e9 / nanos as f64)
    }

    fn table_rate(&self, table: usize) -> Option<f64> {
        let (now, before) = (self.now.marks.get(table)?, self.before?.marks.get(table)?);
        self.per_second(commits_between(before, now))
    }
}

fn head(since: &Since<'_>) -> Vec<Vec<Piece>> {
    let looks = &since.now.looks;
    let up = (since.now.wall_micros.saturating_sub(looks.created_at) / 1_000_000).max(0);
    let mut head = vec![
        vec![
            Piece::new(Tone::Strong, format!("segment {}", one_line(&looks.segment))),
            Piece::plain(bytes_text(looks.total_bytes)),
            Piece::plain(format!("up {}", time_text(up.cast_unsigned()))),
        ],
        vec![Piece::plain(format!("store {}", one_line(&looks.store)))],
        steward(looks),
    ];
    let waits = since.rate(|s| s.looks.room_waits);
    let per_second = |what: &str, rate| Piece::plain(format!("{what} {}/s", rate_text(rate)));
    head.push(vec![
        per_second("commits", since.rate(|s| s.looks.commits)),
        Piece::new(Tone::Dim, format!("({} in all)", looks.commits)),
        per_second("lost exchanges", since.rate(|s| s.looks.lost_exchanges)),
        Piece::bad_if(waits > Some(0.0), format!("room waits {}/s", rate_text(waits))),
    ]);
    let who = &looks.participants;
    let mut participants = vec![
        Piece::plain(format!("participants {} alive", who.alive)),
        Piece::bad_if(who.dead > 0, format!("{} dead", who.dead)),
    ];
    if who.unknown > 0 {
        participants.push(Piece::new(Tone::Warn, format!("{} not to be told", who.unknown)));
    }
    participants.push(Piece::new(Tone::Dim, format!("of {}", who.limit)));
    head.push(participants);
    head.extend(pool::head(since));
    if let Some(error) = &looks.steward.last_error {
        head.push(vec![Piece::new(Tone::Bad, format!("last error: {}", one_line(error)))]);
    }
    head
}

fn steward(looks: &Looks) -> Vec<Piece> {
    let steward = &looks.steward;
    let gone = matches!(steward.state, "none" | "dead");
    let lag = looks.unstored_versions;
    let tone = match (gone, lag > 0) {
        (true, true) => Tone::Bad,
        (true, false) => Tone::Warn,
        (false, _) => Tone::Plain,
    };
    let mut pieces = vec![Piece::new(tone, format!("steward {}", steward.state))];
    if let Some(pid) = steward.pid {
        pieces.push(Piece::plain(format!("process {pid}")));
    }
    pieces.push(Piece::new(Tone::Dim, format!("{} terms", steward.terms)));
    let tone = if lag > 0 { Tone::Warn } else { Tone::Plain };
    pieces.push(Piece::new(tone, format!("not stored {lag}")));
    pieces
}

fn tables(since: &Since<'_>) -> Section {
    let heads =
        ["table", "history", "records", "slots", "cells", "free", "not stored", "commits/s"];
    let tables = since.now.looks.tables.iter().enumerate();
    let row = |(position, table): (usize, &Table)| {
        let cells = &table.cells;
        let lag = if table.unstored_versions > 0 { Tone::Warn } else { Tone::Plain };
        vec![
            Piece::new(Tone::Strong, one_line(&table.name)),
            Piece::plain(&table.history),
            Piece::plain(table.records),
            Piece::plain(table.slots.total),
            Piece::plain(cells.total),
            Piece::bad_if(cells.free == 0, cells.free.to_string()),
            Piece::new(lag, table.unstored_versions.to_string()),
            Piece::plain(rate_text(since.table_rate(position))),
        ]
    };
    Section { heads: heads.to_vec(), rows: tables.map(row).collect(), text_columns: 2 }
}

fn guards(since: &Since<'_>) -> Section {
    let heads = ["guard", "holder", "number", "waiters", "taken/s", "contentions/s", "waited"];
    let known = since.before.map(|before| &before.looks.guards[..]).unwrap_or_default();
    let row = |guard: &Guard| {
        let before = known.iter().find(|before| before.name == guard.name);
        let rate = |count: fn(&Guard) -> u64| {
            since.per_second(before.map_or(0, |before| count(guard).wrapping_sub(count(before))))
        };
        let holder = match (guard.holder_pid, guard.holder_entry) {
            (Some(pid), _) => pid.to_string(),
            (None, Some(entry)) => format!("entry {entry}"),
            (None, None) => "-".to_owned(),
        };
        let waiters = if guard.waiters > 0 { Tone::Warn } else { Tone::Plain };
        vec![
            Piece::new(Tone::Strong, one_line(&guard.name)),
            Piece::plain(holder),
            Piece::plain(guard.number),
            Piece::new(waiters, guard.waiters.to_string()),
            Piece::plain(rate_text(rate(|guard| guard.number))),
            Piece::plain(rate_text(rate(|guard| guard.contentions))),
            Piece::plain(nanos_text(guard.waited_ns)),
        ]
    };
    let rows = since.now.looks.guards.iter().map(row).collect();
    Section { heads: heads.to_vec(), rows, text_columns: 1 }
}

fn counters(since: &Since<'_>) -> Section {
    let known = since.before.map(|before| counted(&before.looks)).unwrap_or_default();
    let row = |(name, kind, value): (String, &'static str, i128)| {
        let same = known.iter().find(|before| (&before.0, before.1) == (&name, kind));
        let more = same.map_or(0, |before| value - before.2) as f64;
        vec![
            Piece::new(Tone::Strong, name),
            Piece::plain(kind),
            Piece::plain(value),
            Piece::plain(rate_text(since.rate_of(more))),
        ]
    };
    let rows = counted(&since.now.looks).into_iter().map(row).collect();
    Section { heads: vec!["name", "kind", "value", "per s"], rows, text_columns: 2 }
}

fn metrics(since: &Since<'_>) -> Section {
    let known = since.before.map(|before| &before.looks.metrics[..]).unwrap_or_default();
    let row = |metric: &MetricJson| {
        let same = |m: &&MetricJson| m.name == metric.name && m.labels == metric.labels;
        let before = known.iter().find(same);
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={}", one_line(value)))
            .collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let (value, rate, p50, p99) = match &metric.value {
            ValueJson::Histogram(h) => (h.count as f64, true, h.p50, h.p99),
            ValueJson::Number { value } => (*value, metric.kind == "counter", None, None),
            ValueJson::Count { value } => (*value as f64, true, None, None),
        };
        let old = before.map_or(value, |before| match &before.value {
            ValueJson::Histogram(h) => h.count as f64,
            ValueJson::Number { value } => *value,
            ValueJson::Count { value } => *value as f64,
        });
        let rate = if rate { rate_text(since.rate_of(value - old)) } else { String::new() };
        let quantile = |q: Option<f64>| Piece::plain(q.map(number_text).unwrap_or_default());
        vec![
            Piece::new(Tone::Strong, format!("{}{labels}", metric.name)),
            Piece::plain(number_text(value)),
            Piece::plain(rate),
            quantile(p50),
            quantile(p99),
        ]
    };
    let rows = since.now.looks.metrics.iter().map(row).collect();
    Section { heads: vec!["metric", "value", "per s", "p50 ≤", "p99 ≤"], rows, text_columns: 1 }
}

/// What the entries of one process come to.
#[derive(Default)]
struct Process {
    entries: u32,
    commits: u64,
}

/// The processes that have entries, the busiest first.
fn processes(since: &Since<'_>) -> Section {
    let before: BTreeMap<u16, &Participant> = since
        .before
        .map(|before| before.looks.participants.list.iter().map(|p| (p.entry, p)).collect())
        .unwrap_or_default();
    let mut found: BTreeMap<(u32, &str), Process> = BTreeMap::new();
    for participant in &since.now.looks.participants.list {
        let process = found.entry((participant.pid, participant.state)).or_default();
        process.entries += 1;
        // An entry's count goes on through all its owners; who just came has done nothing yet.
        let same = before.get(&participant.entry).filter(|p| p.pid == participant.pid);
        let commits = same.map_or(0, |p| participant.commits.wrapping_sub(p.commits));
        process.commits = process.commits.wrapping_add(commits);
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(who, process)| (std::cmp::Reverse(process.commits), *who));
    let row = |((pid, state), process): ((u32, &str), Process)| {
        vec![
            Piece::new(Tone::Strong, pid.to_string()),
            Piece::bad_if(state == "dead", state),
            Piece::plain(process.entries),
            Piece::plain(rate_text(since.per_second(process.commits))),
        ]
    };
    let rows = found.into_iter().map(row).collect();
    Section { heads: vec!["process", "state", "entries", "commits/s"], rows, text_columns: 2 }
}

impl Section {
    /// The lines, aligned in columns; the first one has the heads.
    pub(crate) fn lines(&self) -> Vec<Vec<Piece>> {
        let width = |at: usize| {
            let head = self.heads.get(at).map_or(0, |head| head.chars().count());
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            cells.map(Piece::width).max().unwrap_or(0).max(head)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let aligned = |row: &[Piece]| -> Vec<Piece> {
            let cells = row.iter().zip(&widths).enumerate();
            cells
                .map(|(at, (cell, width))| {
                    let text = match (at, at < self.text_columns) {
                        (0, true) => format!("{:<width$}", cell.text),
                        (0, false) => format!("{:>width$}", cell.text),
                        (_, true) => format!("  {:<width$}", cell.text),
                        (_, false) => format!("  {:>width$}", cell.text),
                    };
                    Piece::new(cell.tone, text)
                })
                .collect()
        };
        let heads: Vec<Piece> = self.heads.iter().map(|h| Piece::new(Tone::Dim, *h)).collect();
        std::iter::once(&heads).chain(&self.rows).map(|row| aligned(row)).collect()
    }
}

impl View {
    /// Everything as plain text.
    pub(crate) fn text(&self) -> String {
        let line = |pieces: &[Piece], gap: &str| {
            let texts: Vec<&str> = pieces.iter().map(|p| p.text.as_str()).collect();
            format!("{}\n", texts.join(gap).trim_end())
        };
        let mut text: String = self.head.iter().map(|paragraph| line(paragraph, "  ")).collect();
        for section in &self.sections {
            text.push('\n');
            text.extend(section.lines().iter().map(|cells| line(cells, "")));
        }
        text
    }
}

/// A rate for people: few digits.
pub(super) fn rate_text(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate < 0.0 => format!("-{}", rate_text(Some(-rate))),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) if rate < 99_999.5 => format!("{rate:.0}"),
        Some(rate) if rate < 9_999_500.0 => format!("{:.0}k", rate / 1e3),
        Some(rate) => format!("{:.0}M", rate / 1e6),
    }
}

/// A number for people: whole, or with three digits behind the point at most.
fn number_text(value: f64) -> String {
    let text = format!("{value:.3}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if text.contains('.') { short.to_owned() } else { text }
}
