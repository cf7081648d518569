//! `inspect`: the segment from outside, without an entry of its own, disturbing nobody.

use commonhold::core::Space;
use commonhold::core::flag::Doorbell;
use commonhold::core::inspect::{Phases, TableFigures};
use commonhold::{Config, admin};
use commonhold_os::process::Liveness;
use serde::Serialize;

use crate::connect::Globals;
use crate::failure::{Done, Failure};
use crate::output::{Format, Output, bytes_text, print_json, print_table};

/// Look at a segment from outside
///
/// Looks at a segment: its sizes, who uses it, what is stored and what is not, who is steward and what the
/// store said last. Takes no entry and writes nothing: it disturbs nobody, and works on a segment that hangs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold inspect
  commonhold inspect --json | jq .tables[0].unstored_versions")]
pub(crate) struct Inspect {
    #[command(flatten)]
    format: Format,
}

/// What a segment looks like, at no single instant.
#[derive(Debug, Serialize)]
struct Looks {
    segment: String,
    uuid: String,
    created_at: i64,
    total_bytes: u64,
    store: String,
    store_epoch: u64,
    lanes: u32,
    participants: Participants,
    steward: Steward,
    tables: Vec<Table>,
    unstored_versions: u64,
    commits: u64,
    lost_exchanges: u64,
    room_waits: u64,
}

#[derive(Debug, Serialize)]
struct Participants {
    limit: u32,
    alive: usize,
    dead: usize,
    unknown: usize,
    list: Vec<Participant>,
}

#[derive(Debug, Serialize)]
struct Participant {
    entry: u16,
    pid: u32,
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct Steward {
    /// `none`, `awake`, `asleep`, `pacing` or `dead`.
    state: &'static str,
    entry: Option<u16>,
    pid: Option<u32>,
    terms: u64,
    last_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Table {
    name: String,
    history: String,
    records: u32,
    slots: PhasesJson,
    cells: PhasesJson,
    index_cells: PhasesJson,
    unstored_records: u64,
    unstored_versions: u64,
    version_floor: u64,
}

#[derive(Debug, Serialize)]
struct PhasesJson {
    total: u32,
    free: u32,
    owned: u32,
    published: u32,
    retired: u32,
}

impl From<Phases> for PhasesJson {
    fn from(phases: Phases) -> Self {
        let Phases { free, owned, published, retired } = phases;
        Self { total: free + owned + published + retired, free, owned, published, retired }
    }
}

impl Looks {
    fn at(config: &Config) -> Result<Self, Failure> {
        let space = admin::look(config)?;
        let header = space.segment().header();
        let mut tables = Vec::new();
        for (position, spec) in space.catalogue().tables.iter().enumerate() {
            let figures = space.figures(position)?;
            let TableFigures { unstored_records, unstored_versions, floor, .. } = figures;
            tables.push(Table {
                name: spec.name.clone(),
                history: spec.history.to_string(),
                records: figures.slots.published,
                slots: figures.slots.into(),
                cells: figures.cells.into(),
                index_cells: figures.index_cells.into(),
                unstored_records,
                unstored_versions: unstored_versions + u64::from(figures.slots.retired),
                version_floor: floor,
            });
        }
        let totals = space.totals();
        Ok(Self {
            segment: config.segment_path().display().to_string(),
            uuid: header.uuid.iter().map(|b| format!("{b:02x}")).collect(),
            created_at: header.created_at,
            total_bytes: space.segment().layout().total as u64 * 8,
            store: header.store_url.clone(),
            store_epoch: header.store_epoch,
            lanes: space.catalogue().lanes,
            participants: participants(&space),
            steward: steward(&space),
            unstored_versions: tables.iter().map(|t| t.unstored_versions).sum(),
            tables,
            commits: totals.commits,
            lost_exchanges: totals.lost_exchanges,
            room_waits: totals.room_waits,
        })
    }
}

fn state_text(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "alive",
        Liveness::Dead => "dead",
        Liveness::Unknown => "unknown",
    }
}

fn participants(space: &Space) -> Participants {
    let list: Vec<Participant> = space
        .participants()
        .iter()
        .map(|p| Participant { entry: p.entry, pid: p.identity.pid, state: state_text(p.liveness) })
        .collect();
    let count = |state: &str| list.iter().filter(|p| p.state == state).count();
    let (alive, dead, unknown) = (count("alive"), count("dead"), count("unknown"));
    Participants { limit: space.catalogue().participants, alive, dead, unknown, list }
}

fn steward(space: &Space) -> Steward {
    let last_error = space.steward_message();
    let Some((entry, terms)) = space.steward() else {
        return Steward { state: "none", entry: None, pid: None, terms: 0, last_error };
    };
    let state = match space.steward_state() {
        Doorbell::None => "none",
        Doorbell::Asleep => "asleep",
        Doorbell::Pacing => "pacing",
        Doorbell::Awake | Doorbell::Hurried => "awake",
    };
    if state == "none" {
        return Steward { state, entry: None, pid: None, terms, last_error };
    }
    let identity = space.identity_of(entry);
    let dead = identity.is_none_or(|i| i.find().0 == Liveness::Dead);
    let state = if dead { "dead" } else { state };
    Steward { state, entry: Some(entry), pid: identity.map(|i| i.pid), terms, last_error }
}

impl Inspect {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let looks = Looks::at(&globals.config()?)?;
        if self.format.json {
            return print_json(&looks);
        }
        let mut out = Output::new();
        print(&mut out, &looks)?;
        out.finish()
    }
}

fn print(out: &mut Output, looks: &Looks) -> Done {
    let Looks { segment, uuid, store, store_epoch, lanes, .. } = looks;
    out.line(format_args!("segment {segment}: {}, uuid {uuid}", bytes_text(looks.total_bytes)))?;
    out.line(format_args!("store {store}, epoch {store_epoch}"))?;
    let Participants { limit, alive, dead, unknown, .. } = looks.participants;
    let unknown = if unknown > 0 { format!(", {unknown} not to be told") } else { String::new() };
    out.line(format_args!(
        "participants {alive} alive, {dead} dead{unknown}, of {limit}; {lanes} lanes"
    ))?;
    print_steward(out, &looks.steward)?;
    out.line(format_args!(
        "commits {}, lost exchanges {}, waits for room {}, not stored {}",
        looks.commits, looks.lost_exchanges, looks.room_waits, looks.unstored_versions
    ))?;
    let heads = ["table", "history", "records", "slots", "cells", "free", "owned", "published"];
    let heads = heads.iter().chain(&["not stored"]).map(|h| (*h).to_owned());
    let mut rows = vec![heads.collect::<Vec<_>>()];
    for table in &looks.tables {
        let PhasesJson { total, free, owned, published, .. } = table.cells;
        let mut row = vec![table.name.clone(), table.history.clone()];
        let numbers = [table.records, table.slots.total, total, free, owned, published];
        row.extend(numbers.map(|n| n.to_string()));
        row.push(table.unstored_versions.to_string());
        rows.push(row);
    }
    print_table(out, &rows)
}

fn print_steward(out: &mut Output, steward: &Steward) -> Done {
    let Steward { state, pid, entry, terms, last_error } = steward;
    let who = match (pid, entry) {
        (Some(pid), Some(entry)) => format!(", process {pid} (entry {entry})"),
        _ => String::new(),
    };
    out.line(format_args!("steward {state}{who}, {terms} terms so far"))?;
    match last_error {
        Some(error) => out.line(format_args!("last error of the store: {error}")),
        None => Ok(()),
    }
}
