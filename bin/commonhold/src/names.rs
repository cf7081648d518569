//! `counter`, `ids`: numbers that are found by a name.

use std::time::Duration;

use commonhold::core::directory::NameKind;
use serde::Serialize;

use crate::connect::{Globals, close, open, open_to_read};
use crate::failure::{Done, Failure};
use crate::output::{Format, Output, print_json, print_line};
use crate::parse::duration;

/// The most ids that one command takes.
const COUNT_MAX: u32 = 1_000_000;

/// Print a counter, or add to it
///
/// Prints a named counter. With --add, adds to it as one atomic step first, and makes it if it is not there: of a
/// thousand processes that add at once, no addition is lost. A sum that does not fit in 64 bits is refused. Before
/// the command ends the value is in the store, unless another process is the steward: then that one stores it within
/// about a second (--durable waits).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold counter orders
  commonhold counter orders --add 3
  commonhold counter orders --add -1 --durable --json")]
pub(crate) struct CounterCommand {
    /// The counter
    name: String,
    /// Add this first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    add: Option<i64>,
    /// Wait until the store has the value
    #[arg(long, requires = "add")]
    durable: bool,
    /// The longest wait for the store with --durable
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,
    #[command(flatten)]
    format: Format,
}

/// Take ids that nobody gets again
///
/// Takes ids, a line each: 1, 2, 3 and so on, each given out once, for ever, whatever is killed or restarted. The
/// allocator is made if it is not there. A segment that is made anew from its store goes on at most 4096 ids later.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold ids nodes
  commonhold ids nodes --count 100 --json")]
pub(crate) struct IdsCommand {
    /// The allocator
    name: String,
    /// So many
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(COUNT_MAX)))]
    count: u32,
    /// The longest wait for the store to cover an id
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct CounterJson<'a> {
    counter: &'a str,
    value: i64,
}

#[derive(Debug, Serialize)]
struct IdsJson<'a> {
    allocator: &'a str,
    ids: &'a [u64],
}

impl CounterCommand {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let value = match self.add {
            Some(add) => self.add(globals, add)?,
            None => self.read(globals)?,
        };
        if self.format.json {
            return print_json(&CounterJson { counter: &self.name, value });
        }
        print_line(value)
    }

    fn add(&self, globals: &Globals, add: i64) -> Result<i64, Failure> {
        let runtime = open(globals.config()?)?;
        let added = || {
            let value = runtime.counter(&self.name)?.add(add)?;
            if self.durable {
                runtime.drain(self.timeout)?;
            }
            Ok::<i64, Failure>(value)
        };
        let value = added();
        let closed = close(runtime);
        let value = value?;
        closed.map(|()| value)
    }

    fn read(&self, globals: &Globals) -> Result<i64, Failure> {
        let (space, name) = (open_to_read(globals.config()?)?, &self.name);
        if let Some(found) = space.find_name(NameKind::Counter, name)? {
            return Ok(space.counter_value(&found)?);
        }
        let names = space.names()?.into_iter().filter(|d| d.kind == NameKind::Counter);
        let mut names: Vec<String> = names.map(|d| d.name).collect();
        names.sort_unstable();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(Failure::failed(format!(
            "no counter `{name}` in this segment (it has: {known}); --add makes it"
        )))
    }
}

impl IdsCommand {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let runtime = open(globals.config()?)?;
        let mut taken = Vec::new();
        let mut take = || {
            let ids = runtime.ids(&self.name)?;
            for _ in 0..self.count {
                taken.push(ids.next_within(self.timeout)?);
            }
            Ok::<(), Failure>(())
        };
        let done = take();
        let closed = close(runtime);
        // Also when the store failed amid them: nobody else gets these.
        if self.format.json && done.is_ok() {
            print_json(&IdsJson { allocator: &self.name, ids: &taken })?;
        } else if !self.format.json {
            let mut out = Output::new();
            taken.iter().try_for_each(|id| out.line(id))?;
            out.finish()?;
        }
        done.and(closed)
    }
}
