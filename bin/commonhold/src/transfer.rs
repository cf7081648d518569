//! `export`, `import`: a whole store into another, empty one.

use std::io::IsTerminal;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use commonhold::OpenError;
use commonhold::store::{Copied, Progress, normalise};
use commonhold::transfer::copy_store;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::connect::{Globals, store_url};
use crate::failure::{Done, Failure};
use crate::output::{Format, Output, note, print_json};
use crate::signals::{PIECE, Signals};

/// So often a line tells how far it is, where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Copy the store into another, empty one
///
/// Copies every table with its history, floors, counters and ids into an empty store of any kind, and proves that it
/// holds the same: counts, the head of each chain, the current rows, and an audit. The store that is copied is the
/// one named by --store, else that of the segment, else the default. Broken off, the target says that it is not
/// finished, and the same command goes on. What is committed meanwhile is not in the copy.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold export sqlite:/var/backups/shop.db
  commonhold export postgres://shop@db/shop --store sqlite:shop.db --progress")]
pub(crate) struct Export {
    /// The target: an empty store, or one that is not there yet
    #[arg(value_name = "URL", value_parser = store_url)]
    target: String,
    #[command(flatten)]
    way: Way,
}

/// Copy another store into this, empty one
///
/// Copies every table with its history, floors, counters and ids from another store into an empty one, and proves that
/// it holds the same, as `export` does. The target is the store named by --store, else the default of the
/// segment, which must not be there yet: its first use is then made from the copy.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold import sqlite:/var/backups/shop.db --segment shop
  commonhold import postgres://shop@db/shop --store sqlite:shop.db --json")]
pub(crate) struct Import {
    /// The source
    #[arg(value_name = "URL", value_parser = store_url)]
    source: String,
    #[command(flatten)]
    way: Way,
}

/// What both are told.
#[derive(Debug, clap::Args)]
struct Way {
    /// Tell on stderr how far it is, also when that is no terminal
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    format: Format,
}

/// A copy as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    copied: &'a Copied,
    elapsed_ms: u64,
    rows_per_s: u64,
    ok: bool,
}

impl Export {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        self.way.copy(globals.store_of_segment()?, self.target.clone())
    }
}

impl Import {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        self.way.copy(self.source.clone(), globals.store_of_segment()?)
    }
}

impl Way {
    fn copy(&self, source: String, target: String) -> Done {
        if source.is_empty() || target.is_empty() {
            return Err(Failure::usage("the store to copy from or to is missing; name its url"));
        }
        let signals = Signals::catch()?;
        if self.progress {
            // Normalised: without a password.
            let (from, to) = (normalise(&source)?, normalise(&target)?);
            note(format_args!("copying {from} to {to}"));
        }
        let started = Instant::now();
        let copied = self.wait(&signals, source, target)?;
        let elapsed = started.elapsed();
        let rows_per_s = (copied.rows as f64 / elapsed.as_secs_f64().max(1e-9)) as u64;
        if self.format.json {
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            return print_json(&Report { copied: &copied, elapsed_ms, rows_per_s, ok: true });
        }
        print(&copied, rows_per_s)
    }

    /// Copies in a thread of its own, so that a signal ends it at once: what is not committed then is not there.
    fn wait(&self, signals: &Signals, source: String, target: String) -> Result<Copied, Failure> {
        let (tell, told) = mpsc::channel();
        let copying = std::thread::spawn(move || -> Result<Copied, OpenError> {
            copy_store(&source, &target, &mut |progress| {
                // Nobody listens any more after a signal, and the process ends.
                let _ = tell.send(progress.clone());
                Ok(())
            })
        });
        let mut teller = Teller::new(self.progress);
        while !copying.is_finished() {
            if let Err(signal) = signals.sleep(PIECE) {
                note("broken off; the same command goes on");
                return Err(signal);
            }
            told.try_iter().last().into_iter().for_each(|progress| teller.tell(&progress));
        }
        teller.finish();
        match copying.join() {
            Ok(copied) => Ok(copied?),
            Err(_) => Err(Failure::failed("the copy was broken off by a defect")),
        }
    }
}

/// Tells how far a copy is: a bar on a terminal, lines elsewhere if that was asked for.
struct Teller {
    bar: ProgressBar,
    lines: bool,
    started: Instant,
    last: Option<Instant>,
}

impl Teller {
    fn new(asked: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let style =
            ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} rows, {per_sec} {eta}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            if terminal { ProgressBar::new(0).with_style(style) } else { ProgressBar::hidden() };
        Self { bar, lines: asked && !terminal, started: Instant::now(), last: None }
    }

    fn tell(&mut self, progress: &Progress) {
        let doing = match &progress.table {
            Some(table) => format!("copying {table}"),
            None => "auditing the copy".to_owned(),
        };
        let Progress { done, total, .. } = *progress;
        if self.lines && self.last.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
            let rate = done as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
            note(format_args!("{doing}: {done} of {total} rows, {rate:.0} rows/s"));
            self.last = Some(Instant::now());
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(doing);
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn print(copied: &Copied, rows_per_s: u64) -> Done {
    let Copied { source, target, epoch, rows, resumed, .. } = copied;
    let mut out = Output::new();
    let earlier =
        if *resumed > 0 { format!(", {resumed} by an earlier run") } else { String::new() };
    out.line(format_args!("{source} -> {target} (epoch {epoch})"))?;
    for table in &copied.tables {
        let versions = if table.link.is_empty() {
            String::new()
        } else {
            format!(", {} versions, chain ends with {}", table.versions, table.link)
        };
        out.line(format_args!("{}: {} records{versions}", table.table, table.rows))?;
    }
    out.line(format_args!(
        "{rows} rows copied at {rows_per_s} rows/s{earlier}; the copy holds the same"
    ))?;
    out.finish()
}
