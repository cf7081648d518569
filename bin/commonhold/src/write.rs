//! `set`, `add`, `delete`: one atomic change of one record.

use std::time::Duration;

use commonhold::change::Requirement;
use commonhold::{Change, Commit, DynamicTable, Refusal, UpdateError};
use serde::Serialize;

use crate::connect::{Globals, close, open};
use crate::failure::{Done, Failure};
use crate::output::{Format, print_json, print_line};
use crate::parse::{Assignment, duration};
use crate::show::{hash_text, key_word};

/// Which record.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// The table
    pub(crate) table: String,
    /// The record's key
    pub(crate) key: String,
}

/// What holds for every change.
#[derive(Debug, clap::Args)]
struct Options {
    /// Refuse the change unless the record has this version; 0: unless it is not there
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    /// Wait until the store has the change
    #[arg(long)]
    durable: bool,
    /// The longest wait for the store with --durable
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,
    /// The longest wait for room when the table is full
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    room_wait: Duration,
    #[command(flatten)]
    format: Format,
}

/// A change of fields.
#[derive(Debug, clap::Args)]
struct Changes {
    #[command(flatten)]
    target: Target,
    /// What to change: field=value
    #[arg(required = true, value_name = "FIELD=VALUE")]
    fields: Vec<Assignment>,
    /// Refuse the change unless this holds of the record: = != < <= > >= (may be repeated)
    #[arg(long, value_name = "CONDITION", value_parser = condition)]
    require: Vec<Requirement>,
    #[command(flatten)]
    options: Options,
}

/// Set fields of a record
///
/// Sets fields of a record as one atomic step, and creates the record if it is not there (its other fields are
/// then zero or empty). Prints the version that the step made. Before it ends, the change is in the store,
/// unless another process is the steward: then that one stores it within milliseconds (--durable waits).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold set customers c-42 cap=100 access_level=gold
  commonhold set customers c-42 cap=50 --require 'used<=50'
  commonhold set jobs j-1 state=running --if-version 3 --durable")]
pub(crate) struct Set {
    #[command(flatten)]
    changes: Changes,
}

/// Add to numbers of a record
///
/// Adds to numbers of a record as one atomic step: of a thousand processes that add at once, no addition is
/// lost. A missing record is created. A condition is decided inside the step, so nothing is spent over a cap.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold add counters visits n=1
  commonhold add customers c-42 used=3 --require 'used<=97'
  commonhold add balances b-7 euro=-2.5 --durable")]
pub(crate) struct Add {
    #[command(flatten)]
    changes: Changes,
}

/// Delete a record
///
/// Deletes a record. If it is ever created again, its versions go on above the deletion's.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold delete counters visits
  commonhold delete jobs j-1 --if-version 4")]
pub(crate) struct Delete {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    options: Options,
}

/// A condition such as `used<=5`.
pub(crate) fn condition(text: &str) -> Result<Requirement, String> {
    let requirement: Requirement = text.parse()?;
    if requirement.field.is_empty() {
        return Err("it names no field; write field>=value (= != < <= > >=)".to_owned());
    }
    Ok(requirement)
}

impl Set {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let change = self.changes.change(Change::set);
        change_record(globals, &self.changes.target, &self.changes.options, &change)
    }
}

impl Add {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let change = self.changes.change(Change::add);
        change_record(globals, &self.changes.target, &self.changes.options, &change)
    }
}

impl Delete {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let version = self.options.if_version;
        run(globals, &self.target, &self.options, "deleted", |table, key| {
            table.delete(key, version)
        })
    }
}

impl Changes {
    fn change(&self, apply: fn(Change, &str, &str) -> Change) -> Change {
        let mut change = Change::new().or_create().if_version(self.options.if_version);
        for Assignment { field, value } in &self.fields {
            change = apply(change, field, value);
        }
        self.require.iter().cloned().fold(change, Change::require)
    }
}

fn change_record(globals: &Globals, target: &Target, options: &Options, change: &Change) -> Done {
    run(globals, target, options, "committed", |table, key| table.apply(key, change))
}

/// What a change made.
#[derive(Debug, Serialize)]
struct Made {
    table: String,
    key: String,
    version: u64,
    hash: String,
    clock: Vec<u64>,
    writer: String,
    sequence: u64,
    deleted: bool,
    durable: bool,
}

type Outcome<'a> = Result<Commit<'a>, UpdateError<Box<Refusal>>>;

fn run(
    globals: &Globals,
    target: &Target,
    options: &Options,
    did: &str,
    work: impl for<'a> FnOnce(&'a DynamicTable, &str) -> Outcome<'a>,
) -> Done {
    let runtime = open(globals.config()?.room_wait(options.room_wait))?;
    let table = runtime.dynamic_table(&target.table)?;
    let commit = work(&table, &target.key)?;
    let durable = if options.durable { Some(commit.durable(options.timeout)) } else { None };
    let made = Made {
        table: target.table.clone(),
        key: target.key.clone(),
        version: commit.version(),
        hash: hash_text(commit.hash()),
        clock: commit.clock().lanes().to_vec(),
        writer: commit.writer().to_string(),
        sequence: commit.sequence(),
        deleted: did == "deleted",
        durable: matches!(durable, Some(Ok(()))),
    };
    drop(table);
    let closed = close(runtime);
    if options.format.json {
        print_json(&made)?;
    } else {
        print_line(format!(
            "{did} {} {} version {}",
            made.table,
            key_word(&made.key),
            made.version
        ))?;
    }
    match durable {
        Some(Err(error)) => {
            Err(Failure::failed(format!("committed in memory, but not durable: {error}")))
        }
        _ => closed,
    }
}
