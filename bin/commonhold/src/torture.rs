//! `torture`: many processes update the same records at once, and nothing acknowledged may be lost.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::IsTerminal;

use commonhold::catalogue::History;
use commonhold_torture::files::{self, FilesReport};
use commonhold_torture::resonance::{self, ResonanceReport};
use commonhold_torture::workers::{self, WorkersReport};
use commonhold_torture::{Comparison, Mode, Options, Report, System, TortureError, compare, run};
use indicatif::ProgressBar;
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::connect::Globals;
use crate::failure::{Done, Failure};
use crate::output::{Format, Output, print_json};

/// Let many processes update the same records, and count what is lost
///
/// Spawns processes that start together and update the same records, then looks for what was lost.
///
/// Given none of --mode, --processes, --updates, --keys, --kill: 1000 processes, one record, one update each, without
/// protection (before) and with the compare-exchange (after), side by side. It fails when an acknowledged update was
/// lost or applied twice, or a check does not hold; of before and after, only after counts.
///
/// With --system the updates are operations of that system (10 each if --updates is not given): nodes are created,
/// connected, moved and removed by all at once, and afterwards none may be lost, doubled or half done.
///
/// With --system workers --processes are the workers of a pool (4 if not given), --updates the tasks that they do (1000)
/// and --kill the kills, each of a worker that is replaced: every task must end once, and nothing may be left.
///
/// With --system files --processes (50) add concepts to one file, --updates (40) each, and one of them is killed each 100 ms
/// and replaced, --kill times at most: by load, modify, save; under a lock file that is stale by its age; and as a shared
/// file, which alone counts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold torture
  commonhold torture --updates 1000 --keys 16
  commonhold torture --updates 200 --kill 200 --seed 7 --json
  commonhold torture --mode mutex --updates 1000
  commonhold torture --system resonance --processes 64 --updates 100 --kill 32
  commonhold torture --system workers --processes 4 --updates 10000 --kill 1000
  commonhold torture --system files")]
pub(crate) struct Torture {
    /// How many processes [default: 1000]
    #[arg(long, value_name = "N")]
    processes: Option<u32>,
    /// How many updates each makes [default: 1]
    #[arg(long, value_name = "N")]
    updates: Option<u64>,
    /// Over how many records [default: 1]
    #[arg(long, value_name = "N")]
    keys: Option<u32>,
    /// How an update is made: cas, naive, mutex or store [default: cas]
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// A system whose own operations are the updates: resonance, workers or files
    #[arg(long, value_name = "SYSTEM", conflicts_with_all = ["mode", "keys", "payload", "history"])]
    system: Option<System>,
    /// Which versions are stored: full or latest
    #[arg(long, value_name = "HISTORY", default_value = "full")]
    history: History,
    /// Bytes of a record's payload
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    payload: u32,
    /// Lanes of the vector clock
    #[arg(long, value_name = "N", default_value_t = 8)]
    lanes: u32,
    /// How many of the processes to kill, each at a random instruction [default: 0]
    #[arg(long, value_name = "N")]
    kill: Option<u32>,
    /// Decides who is killed, and when
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    format: Format,
}

/// Operations of each process with --system, if not said otherwise.
const SYSTEM_UPDATES: u64 = 10;

/// Workers and tasks with `--system workers`, if not said otherwise.
const POOL: (u32, u64) = (4, 1000);

/// Processes and updates with `--system files`, if not said otherwise.
const PERSONAS: (u32, u64) = (50, 40);

/// Says on a terminal what is being done.
struct Progress(RefCell<ProgressBar>);

impl Progress {
    fn new() -> Self {
        let shows = std::io::stderr().is_terminal();
        let bar = if shows { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Self(RefCell::new(bar))
    }

    fn say(&self, what: &str) {
        self.0.borrow().set_message(what.to_owned());
    }

    fn end(&self) {
        self.0.borrow().finish_and_clear();
    }
}

impl Torture {
    fn is_bare(&self) -> bool {
        let numbers = [self.processes, self.keys, self.kill];
        self.mode.is_none() && self.updates.is_none() && numbers.iter().all(Option::is_none)
    }

    fn options(&self, globals: &Globals) -> Options {
        let default = Options::default();
        let (processes, updates) = match self.system {
            Some(System::Workers) => POOL,
            Some(System::Files) => PERSONAS,
            Some(System::Resonance) => (default.processes, SYSTEM_UPDATES),
            None => (default.processes, default.updates),
        };
        Options {
            processes: self.processes.unwrap_or(processes),
            updates: self.updates.unwrap_or(updates),
            keys: self.keys.unwrap_or(default.keys),
            mode: self.mode.unwrap_or(default.mode),
            system: self.system,
            history: self.history,
            payload: self.payload,
            lanes: self.lanes,
            kill: self.kill.unwrap_or(0),
            seed: self.seed,
            store: globals.store().map(str::to_owned),
        }
    }

    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let options = self.options(globals);
        if let Err(TortureError::Options(what)) = options.check() {
            return Err(Failure::usage(what));
        }
        let progress = Progress::new();
        let say = |what: &str| progress.say(what);
        let outcome = match self.system {
            Some(System::Resonance) => resonance::run(&options, &say).map(Outcome::Resonance),
            Some(System::Workers) => workers::run(&options, &say).map(Outcome::Workers),
            Some(System::Files) => files::run(&options, &say).map(Outcome::Files),
            None if self.is_bare() => {
                compare(&options, &say).map(Box::new).map(Outcome::Comparison)
            }
            None => run(&options, &say).map(Outcome::Report),
        };
        progress.end();
        let outcome = outcome.map_err(failure)?;
        outcome.print(self.format.json)?;
        if outcome.is_ok() {
            Ok(())
        } else {
            Err(Failure::failed("updates were lost, or a check does not hold: see the report"))
        }
    }
}

/// What a run showed.
enum Outcome {
    Report(Report),
    Comparison(Box<Comparison>),
    Resonance(ResonanceReport),
    Workers(WorkersReport),
    Files(FilesReport),
}

impl Outcome {
    fn is_ok(&self) -> bool {
        match self {
            Self::Report(report) => report.ok,
            Self::Comparison(compared) => compared.after.ok,
            Self::Resonance(report) => report.ok,
            Self::Workers(report) => report.ok,
            Self::Files(report) => report.ok,
        }
    }

    fn print(&self, json: bool) -> Done {
        match self {
            Self::Report(report) => print(report, json),
            Self::Comparison(compared) => print(&**compared, json),
            Self::Resonance(report) => print(report, json),
            Self::Workers(report) => print(report, json),
            Self::Files(report) => print(report, json),
        }
    }
}

fn print<T: Display + Serialize>(value: &T, json: bool) -> Done {
    if json {
        return print_json(value);
    }
    let mut out = Output::new();
    out.text(value)?;
    out.finish()
}

fn failure(error: TortureError) -> Failure {
    match error {
        TortureError::Stopped(number) => {
            Signal::try_from(number).map_or_else(Failure::from, Failure::Signal)
        }
        error => error.into(),
    }
}
