//! `drain`, `sweep`, `destroy`: what is done to a segment as a whole.

use std::io::IsTerminal;
use std::sync::mpsc;
use std::time::Duration;

use commonhold::{Runtime, admin};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::connect::{Globals, close, open};
use crate::failure::{Done, Failure};
use crate::output::{Format, print_json, print_line};
use crate::parse::duration;
use crate::signals::{PIECE, Signals};

/// Wait until the store has everything
///
/// Waits until the store has every version that was committed before. Fails when the time is up, with the
/// store's last error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold drain
  commonhold drain --timeout 5m --segment shop")]
pub(crate) struct Drain {
    /// The longest wait
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    timeout: Duration,
    #[command(flatten)]
    format: Format,
}

/// Free what dead processes left
///
/// Frees what dead processes left: their entries, cells and slots. The steward does so by itself within a
/// tenth of a second; this does it at once, also where nobody is steward, and removes ephemeral segments whose
/// creators are dead.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold sweep
  commonhold sweep --json")]
pub(crate) struct Sweep {
    #[command(flatten)]
    format: Format,
}

/// Remove a segment; its store stays
///
/// Removes a segment, after draining it; its store stays, and the next use makes the segment anew from it.
/// Refused while a process uses it, and when the store does not take everything.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold destroy --segment shop
  commonhold destroy --force      (also when it is damaged, of another boot, or its store is lost)")]
pub(crate) struct Destroy {
    /// Do not drain: what the store has not is lost
    #[arg(long)]
    force: bool,
    /// The longest wait for the store
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    timeout: Duration,
    #[command(flatten)]
    format: Format,
}

/// What `drain` did.
#[derive(Debug, Serialize)]
struct Drained<'a> {
    store: &'a str,
    before: u64,
    drained: bool,
}

/// What `sweep` freed.
#[derive(Debug, Serialize)]
struct Freed {
    participants: u32,
    cells: u32,
    slots: u32,
    kept: u32,
}

/// What `destroy` removed.
#[derive(Debug, Serialize)]
struct Removed {
    segment: String,
    forced: bool,
}

impl Drain {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let signals = Signals::catch()?;
        let runtime = open(globals.config()?.attach_only())?;
        let before = admin::unstored(runtime.space())?;
        let done = self.wait(&runtime, &signals, before);
        let store = runtime.space().segment().header().store_url.clone();
        let closed = close(runtime);
        done?;
        closed?;
        if self.format.json {
            return print_json(&Drained { store: &store, before, drained: true });
        }
        print_line(format_args!(
            "{store} has everything ({before} versions or counters were missing)"
        ))
    }

    /// Drains in a thread of its own, so that a signal ends the wait at once.
    fn wait(&self, runtime: &Runtime, signals: &Signals, before: u64) -> Done {
        let (handle, limit) = (runtime.handle()?, self.timeout);
        let (done, result) = mpsc::channel();
        std::thread::spawn(move || {
            // Nobody listens any more after a signal.
            let _ = done.send(handle.wait_drained(limit));
        });
        let bar = bar(before);
        loop {
            match result.recv_timeout(Duration::ZERO) {
                Ok(drained) => {
                    bar.finish_and_clear();
                    return Ok(drained?);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => signals.sleep(PIECE / 10)?,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Failure::failed("the wait for the store was broken off"));
                }
            }
            if !bar.is_hidden() {
                bar.set_position(before.saturating_sub(admin::unstored(runtime.space())?));
            }
        }
    }
}

/// A bar on stderr, if that is a terminal.
fn bar(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("draining {bar:40} {pos}/{len} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Sweep {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        admin::sweep_ephemeral();
        // Not as a candidate: a steward sweeps when his term begins, and nothing would be left to tell of.
        let runtime = open(globals.config()?.attach_only().without_steward())?;
        let swept = runtime.sweep()?;
        let commonhold::sweep::Swept { participants, cells, slots, kept } = swept;
        if self.format.json {
            return print_json(&Freed { participants, cells, slots, kept });
        }
        print_line(format_args!(
            "freed {participants} dead participants, {cells} cells, {slots} slots; kept {kept} committed"
        ))
    }
}

impl Destroy {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let config = globals.config()?;
        let segment = config.segment_path().display().to_string();
        admin::destroy(&config, self.timeout, self.force)?;
        if self.format.json {
            return print_json(&Removed { segment, forced: self.force });
        }
        print_line(format_args!("removed segment {segment}"))
    }
}
