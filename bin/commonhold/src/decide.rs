//! `take-over` and `resolve`: what a person decides about a store that is not as the segment left it.

use std::time::Duration;

use commonhold::admin::{self, Takeover};
use commonhold::core::stop::Decision;
use serde::Serialize;

use crate::connect::{Globals, close, open};
use crate::failure::{Done, Failure};
use crate::output::{Format, print_json, print_line};
use crate::parse::duration;

/// Fence off the segment that owns a store
///
/// Fences off the segment that owns the store, wherever it is: on this machine, on another one, or gone with it. It
/// stores nothing any more, not even what it was just about to; its commits stay in its memory, and those that were not
/// stored are lost with it. The next segment may then be made from what is stored. The store is the one named, else the
/// one that the segment names, else the default.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold take-over --store sqlite:/srv/shop.db
  commonhold take-over --segment shop --json")]
pub(crate) struct TakeOver {
    #[command(flatten)]
    format: Format,
}

/// Decide about rows that were changed in the database
///
/// Lets a table go on whose rows somebody else changed in the database, and which is therefore not stored any more
/// (`commonhold inspect` says so). What was found and what was to be written stand in the table commonhold_conflicts
/// of the store. The decision is about everything that the table has for the store now. Waits until it is done.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold resolve customers --adopt        (what is in the database becomes the next version)
  commonhold resolve customers --overwrite    (what is in the segment replaces it)
  commonhold resolve customers --retry        (the row was put back; it goes on by itself too)")]
pub(crate) struct Resolve {
    /// The table
    table: String,
    #[command(flatten)]
    decision: DecisionOption,
    /// The longest wait
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    timeout: Duration,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct DecisionOption {
    /// What stands in the database becomes the record's next version
    #[arg(long)]
    adopt: bool,
    /// What stands in the segment replaces it
    #[arg(long)]
    overwrite: bool,
    /// Look again: the row was put back by hand
    #[arg(long)]
    retry: bool,
}

/// What `take-over` did.
#[derive(Debug, Serialize)]
struct TakenJson<'a> {
    store: &'a str,
    epoch: u64,
    batch: u64,
    fenced: Option<FencedJson<'a>>,
}

#[derive(Debug, Serialize)]
struct FencedJson<'a> {
    uuid: String,
    segment: &'a str,
    host: Option<&'a str>,
    node: Option<&'a str>,
    epoch: u64,
    /// Versions and counters that only that segment has; null when it cannot be seen from here.
    not_stored: Option<u64>,
}

/// What `resolve` did.
#[derive(Debug, Serialize)]
struct ResolvedJson<'a> {
    table: &'a str,
    was_stopped: bool,
}

impl TakeOver {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let url = globals.store_of_segment()?;
        if url == "none" {
            return Err(Failure::failed("the store is none: it belongs to nobody"));
        }
        let taken = admin::take_over(&url)?;
        if self.format.json {
            return print_json(&taken_json(&taken));
        }
        let Takeover { store, taken, behind } = &taken;
        let epoch = taken.epoch;
        let Some(owner) = &taken.fenced else {
            return print_line(format_args!(
                "store {store} belonged to nobody; its epoch is {epoch}"
            ));
        };
        let lost = match behind {
            Some(0) => "it had everything stored".to_owned(),
            Some(count) => format!("{count} of its versions or counters are not stored"),
            None => "what it had not stored is in its memory alone".to_owned(),
        };
        print_line(format_args!(
            "store {store} is taken from {owner} (epoch {}), which can store nothing any more: {lost}; the epoch is {epoch}, and the next segment may be created",
            owner.epoch
        ))
    }
}

fn taken_json(of: &Takeover) -> TakenJson<'_> {
    let fenced = of.taken.fenced.as_ref().map(|owner| FencedJson {
        uuid: owner.uuid.iter().map(|b| format!("{b:02x}")).collect(),
        segment: &owner.path,
        host: owner.node.as_ref().map(|n| n.host.as_str()),
        node: owner.node.as_ref().map(|n| n.id.as_str()),
        epoch: owner.epoch,
        not_stored: of.behind,
    });
    TakenJson { store: &of.store, epoch: of.taken.epoch, batch: of.taken.batch, fenced }
}

impl Resolve {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let decision = match &self.decision {
            DecisionOption { adopt: true, .. } => Decision::Adopt,
            DecisionOption { overwrite: true, .. } => Decision::Overwrite,
            DecisionOption { .. } => Decision::Retry,
        };
        let runtime = open(globals.config()?.attach_only())?;
        let resolved = admin::resolve(&runtime, &self.table, decision, self.timeout);
        let closed = close(runtime);
        let was_stopped = resolved?;
        closed?;
        if self.format.json {
            return print_json(&ResolvedJson { table: &self.table, was_stopped });
        }
        let table = &self.table;
        print_line(if was_stopped {
            format!("table `{table}` is stored again")
        } else {
            format!("table `{table}` was not stopped")
        })
    }
}
