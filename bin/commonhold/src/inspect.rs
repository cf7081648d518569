//! `inspect`: the segment from outside, without an entry of its own, disturbing nobody.

use commonhold::admin;

use crate::connect::Globals;
use crate::failure::{Done, one_line};
use crate::looks::{Looks, Participants, PhasesJson, Steward, counted};
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

impl Inspect {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let looks = Looks::at(&*admin::look(&globals.config()?)?)?;
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
    if looks.store_refused {
        out.line("the store refuses this segment: nothing of it is stored any more")?;
    }
    out.line(format_args!(
        "commits {}, lost exchanges {}, waits for room {}, not stored {}",
        looks.commits, looks.lost_exchanges, looks.room_waits, looks.unstored_versions
    ))?;
    for table in looks.tables.iter().filter(|t| t.stopped) {
        out.line(format_args!(
            "table {} is stopped: {} rows were changed in the database; `commonhold resolve {}` lets it go on",
            table.name, table.conflicts, table.name
        ))?;
    }
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
    print_table(out, &rows)?;
    print_guards(out, looks)?;
    print_counters(out, looks)?;
    print_metrics(out, looks)
}

fn print_guards(out: &mut Output, looks: &Looks) -> Done {
    if looks.guards.is_empty() {
        return Ok(());
    }
    let heads = ["guard", "holder", "number", "waiters", "contentions", "waited ms"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for guard in &looks.guards {
        let holder = guard.holder_pid.map_or("-".to_owned(), |pid| format!("process {pid}"));
        let numbers = [guard.number, guard.waiters.into(), guard.contentions];
        let mut row = vec![one_line(&guard.name), holder];
        row.extend(numbers.map(|n| n.to_string()));
        row.push((guard.waited_ns / 1_000_000).to_string());
        rows.push(row);
    }
    out.line("")?;
    print_table(out, &rows)
}

fn print_counters(out: &mut Output, looks: &Looks) -> Done {
    let rows = counted(looks);
    if rows.is_empty() {
        return Ok(());
    }
    let heads = ["name", "kind", "value"].map(str::to_owned).to_vec();
    let row =
        |(name, kind, value): (String, &str, i128)| vec![name, kind.to_owned(), value.to_string()];
    out.line("")?;
    print_table(out, &std::iter::once(heads).chain(rows.into_iter().map(row)).collect::<Vec<_>>())
}

fn print_metrics(out: &mut Output, looks: &Looks) -> Done {
    match looks.metrics.len() {
        0 => Ok(()),
        count => out.line(format_args!("{count} metrics; `commonhold metrics` prints them")),
    }
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
