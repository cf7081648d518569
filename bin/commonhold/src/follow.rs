//! `wait` and `watch`: foreground runs that end on a change, on a signal or in time.

use std::collections::BTreeMap;
use std::time::Duration;

use commonhold::change::Requirement;
use commonhold::core::Snapshot;
use commonhold::schema::Schema;
use commonhold::wait::Deadline;
use commonhold::{DynamicTable, Error};
use serde::Serialize;

use crate::connect::{Globals, open};
use crate::failure::{Done, Failure};
use crate::output::{Format, Output, note, print_json, print_line};
use crate::parse::duration;
use crate::read::print_fields;
use crate::show::{RecordJson, Shown, key_word};
use crate::signals::{PIECE, Signals};
use crate::write::{Target, condition};

/// Wait until a condition holds of a record, or it changes
///
/// Waits until a condition holds of a record, or, without one, until the record changes (it comes, changes or
/// goes), and prints it. The wait sleeps until a commit wakes it. Fails when the time is up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold wait jobs j-1 state=done --timeout 30s
  commonhold wait customers c-42 'used>=100'
  commonhold wait customers c-42 --after 7     (at once, if it has not version 7 any more)")]
pub(crate) struct Wait {
    #[command(flatten)]
    target: Target,
    /// What to wait for: = != < <= > >=
    #[arg(value_name = "CONDITION", value_parser = condition)]
    condition: Option<Requirement>,
    /// Wait for a change of this version, as read before; 0: of its absence
    #[arg(long, value_name = "VERSION", conflicts_with = "condition")]
    after: Option<u64>,
    /// The longest wait [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    format: Format,
}

/// Print the changes of a table as they come
///
/// Prints a line for each change of a table's records, until SIGINT or SIGTERM. Changes that follow each
/// other faster than they are printed are shown as one, with the latest state; `history` has every version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold watch customers
  commonhold watch jobs --count 1 --timeout 30s
  commonhold watch customers --json | jq .fields.used")]
pub(crate) struct Watch {
    /// The table
    table: String,
    /// End after so many changes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long; that is a failure if --count was not reached
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Print one JSON object for each change, one a line
    #[arg(long)]
    json: bool,
}

/// For ever, nearly: a century.
const FOR_EVER: Duration = Duration::from_secs(3_200_000_000);

/// A record that was waited for.
#[derive(Debug, Serialize)]
struct Came<'a> {
    table: &'a str,
    #[serde(flatten)]
    record: RecordJson<'a>,
    deleted: bool,
}

/// A record that went.
#[derive(Debug, Serialize)]
struct Gone<'a> {
    table: &'a str,
    key: &'a str,
    deleted: bool,
}

impl Wait {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let signals = Signals::catch()?;
        let runtime = open(globals.config()?.without_steward())?;
        let table = runtime.dynamic_table(&self.target.table)?;
        let deadline = Deadline::after(self.timeout.unwrap_or(FOR_EVER));
        let waiting = Waiting { table: &table, signals: &signals, deadline };
        let key = &self.target.key;
        let seen = match &self.condition {
            Some(condition) => Some(waiting.for_condition(key, condition)?),
            None => waiting.for_change(key, self.after)?,
        };
        self.print(table.schema(), seen.as_ref())
    }

    fn print(&self, schema: &Schema, seen: Option<&Snapshot>) -> Done {
        let Target { table, key } = &self.target;
        let Some(seen) = seen else {
            if self.format.json {
                return print_json(&Gone { table, key, deleted: true });
            }
            return print_line(format_args!("deleted {table} {}", key_word(key)));
        };
        let shown = Shown::new(key, schema, seen)?;
        if self.format.json {
            return print_json(&Came { table, record: shown.json(&[]), deleted: false });
        }
        let mut out = Output::new();
        print_fields(&mut out, &shown, &[])?;
        out.line(format_args!("_version={}", shown.marks.version))?;
        out.finish()
    }
}

impl Watch {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let signals = Signals::catch()?;
        let runtime = open(globals.config()?.without_steward())?;
        let table = runtime.dynamic_table(&self.table)?;
        let deadline = Deadline::after(self.timeout.unwrap_or(FOR_EVER));
        let waiting = Waiting { table: &table, signals: &signals, deadline };
        let mut watcher = Watcher { watch: self, known: BTreeMap::new(), left: self.count };
        let mut out = Output::new();
        let mut watched = waiting.mark()?;
        watcher.look(&table, None)?;
        let records = watcher.known.len();
        note(format_args!("watching {}: {records} records; ctrl-c ends", self.table));
        loop {
            if !waiting.changed(watched)? {
                return match watcher.left {
                    Some(left) => Err(timed_out(&deadline, &format!("{left} more changes"))),
                    None => Ok(()),
                };
            }
            watched = waiting.mark()?;
            watcher.look(&table, Some(&mut out))?;
            out.flush()?;
            if watcher.left == Some(0) {
                return out.finish();
            }
        }
    }
}

/// A wait on a table: pieces of sleep between which signals are looked for.
struct Waiting<'a> {
    table: &'a DynamicTable,
    signals: &'a Signals,
    deadline: Deadline,
}

impl Waiting<'_> {
    fn for_condition(&self, key: &str, condition: &Requirement) -> Result<Snapshot, Failure> {
        let ready = self.table.condition(condition)?;
        loop {
            self.signals.check()?;
            let piece = self.deadline.left().unwrap_or_default().min(PIECE);
            match self.table.wait_for(key, piece, &ready) {
                Ok(record) => return Ok(record.version),
                Err(Error::Timeout { .. }) if self.deadline.left().is_some() => {}
                Err(Error::Timeout { .. }) => {
                    let Requirement { field, comparison, value } = condition;
                    let what = format!("{field}{comparison}{value} of `{key}`");
                    return Err(timed_out(&self.deadline, &what));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The state after a change from version `after`, or from what there is now; none when the record went.
    fn for_change(&self, key: &str, after: Option<u64>) -> Result<Option<Snapshot>, Failure> {
        let space = self.table.handle().space();
        let (mut before, mut watched) = (after, self.mark()?);
        loop {
            let seen = space.peek(self.table.position(), key)?;
            let version = seen.as_ref().map_or(0, |seen| seen.version);
            if *before.get_or_insert(version) != version {
                return Ok(seen);
            }
            if !self.changed(watched)? {
                return Err(timed_out(&self.deadline, &format!("a change of `{key}`")));
            }
            watched = self.mark()?;
        }
    }

    /// Where the table stands: taken before looking at it.
    fn mark(&self) -> Result<u64, Failure> {
        Ok(self.table.handle().watch_table(self.table.position())?)
    }

    /// Sleeps until something was committed to the table since `watched`; false when the time is up.
    fn changed(&self, watched: u64) -> Result<bool, Failure> {
        let (handle, position) = (self.table.handle(), self.table.position());
        loop {
            self.signals.check()?;
            let piece = self.deadline.left().unwrap_or_default().min(PIECE);
            if handle.wait_table_changed(position, watched, &Deadline::after(piece))? {
                return Ok(true);
            }
            if self.deadline.left().is_none() {
                return Ok(false);
            }
        }
    }
}

fn timed_out(deadline: &Deadline, what: &str) -> Failure {
    let waited = deadline.waited().as_millis();
    Failure::failed(format!("timed out after {waited} ms waiting for {what}"))
}

/// What a watch knows of the table.
struct Watcher<'a> {
    watch: &'a Watch,
    known: BTreeMap<String, u64>,
    /// So many changes are still to be printed; none: all.
    left: Option<u64>,
}

impl Watcher<'_> {
    /// Looks at every record, and prints those that are others than before.
    fn look(&mut self, table: &DynamicTable, mut out: Option<&mut Output>) -> Done {
        let mut now = BTreeMap::new();
        let mut changed = Vec::new();
        table.handle().space().scan(table.position(), |key, seen| {
            if self.known.get(key) != Some(&seen.version) {
                changed.push((key.to_owned(), seen.clone()));
            }
            now.insert(key.to_owned(), seen.version);
            Ok::<(), Error>(())
        })?;
        let before = std::mem::replace(&mut self.known, now);
        let Some(out) = out.as_mut() else { return Ok(()) };
        for (key, seen) in &changed {
            if self.take_one() {
                self.print(out, &Shown::new(key, table.schema(), seen)?)?;
            }
        }
        let gone: Vec<&String> = before.keys().filter(|k| !self.known.contains_key(*k)).collect();
        for key in gone {
            if self.take_one() {
                self.print_gone(out, key)?;
            }
        }
        Ok(())
    }

    /// Whether one more change is to be printed.
    fn take_one(&mut self) -> bool {
        match &mut self.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn print(&self, out: &mut Output, shown: &Shown<'_>) -> Done {
        if self.watch.json {
            let table = &self.watch.table;
            out.json(&Came { table, record: shown.json(&[]), deleted: false })?;
            return out.line("");
        }
        let (line, version) = (shown.line(), shown.marks.version);
        out.line(format_args!("{} {line} _version={version}", key_word(shown.key)))
    }

    fn print_gone(&self, out: &mut Output, key: &str) -> Done {
        if self.watch.json {
            out.json(&Gone { table: &self.watch.table, key, deleted: true })?;
            return out.line("");
        }
        out.line(format_args!("{} deleted", key_word(key)))
    }
}
