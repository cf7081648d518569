//! `torture`: many processes update the same records at once, and nothing acknowledged may be lost.

use std::cell::RefCell;
use std::io::IsTerminal;

use commonhold::catalogue::History;
use commonhold_torture::{Mode, Options, TortureError, compare, run};
use indicatif::ProgressBar;
use nix::sys::signal::Signal;

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
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold torture
  commonhold torture --updates 1000 --keys 16
  commonhold torture --updates 200 --kill 200 --seed 7 --json
  commonhold torture --mode mutex --updates 1000")]
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
        Options {
            processes: self.processes.unwrap_or(default.processes),
            updates: self.updates.unwrap_or(default.updates),
            keys: self.keys.unwrap_or(default.keys),
            mode: self.mode.unwrap_or(default.mode),
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
        let (text, json, ok) = if self.is_bare() {
            let compared = compare(&options, &say);
            progress.end();
            let compared = compared.map_err(failure)?;
            (
                compared.to_string(),
                Either::Comparison(&compared).print(self.format.json)?,
                compared.after.ok,
            )
        } else {
            let report = run(&options, &say);
            progress.end();
            let report = report.map_err(failure)?;
            (report.to_string(), Either::Report(&report).print(self.format.json)?, report.ok)
        };
        if !json {
            let mut out = Output::new();
            out.text(text)?;
            out.finish()?;
        }
        if ok {
            Ok(())
        } else {
            Err(Failure::failed("updates were lost, or a check does not hold: see the report"))
        }
    }
}

/// What is printed as JSON.
enum Either<'a> {
    Report(&'a commonhold_torture::Report),
    Comparison(&'a commonhold_torture::Comparison),
}

impl Either<'_> {
    /// Prints it if `json`; whether it did.
    fn print(&self, json: bool) -> Result<bool, Failure> {
        if json {
            match self {
                Self::Report(report) => print_json(report)?,
                Self::Comparison(compared) => print_json(compared)?,
            }
        }
        Ok(json)
    }
}

fn failure(error: TortureError) -> Failure {
    match error {
        TortureError::Stopped(number) => {
            Signal::try_from(number).map_or_else(Failure::from, Failure::Signal)
        }
        error => error.into(),
    }
}
