//! The proof: faults of every kind are injected into real processes on real segments, and what they leave is judged.
//!
//! `commonhold-prove [CHECK…]` runs the checks and prints one table: check, faults injected, violations, seconds. A
//! check runs in a process of its own (`run.rs`), which prints its [`Outcome`] as JSON, so a check that dies or hangs
//! is a violation and takes nobody along. `--bite` shows instead that every check can fail: it runs each one once for
//! every fault and sabotage that it must find, and demands violations.

mod check;
mod checks;
mod child;
mod file;
mod fork;
mod hostile;
mod linear;
mod participants;
mod power;
mod random;
mod run;
mod steps;
mod store;
mod syscalls;
mod table;
mod trace;
mod watch;

use std::process::ExitCode;

use clap::Parser;

pub(crate) use check::{Bite, Check, Failure, Outcome, Plan};

/// Injects faults and judges what they leave.
#[derive(Debug, Parser)]
#[command(name = "commonhold-prove")]
struct Args {
    /// The checks to run; all when none is named. `--list` names them.
    checks: Vec<String>,
    /// Say which checks there are.
    #[arg(long)]
    list: bool,
    /// The long part: all of what the fast part samples.
    #[arg(long)]
    long: bool,
    /// The seed of what is random; printed, so that a failure repeats.
    #[arg(long)]
    seed: Option<u64>,
    /// Repeat one injection alone (its number is in the violation).
    #[arg(long)]
    only: Option<u64>,
    /// Show that each check can fail: plant what it must find, one after the other.
    #[arg(long)]
    bite: bool,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
    /// Run one check in this process, and print its outcome as JSON.
    #[arg(long, hide = true)]
    inside: bool,
    /// The fault or sabotage to plant.
    #[arg(long)]
    plant: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if args.list {
        table::list(&checks::all());
        Ok(true)
    } else if args.inside {
        run::inside(&args)
    } else {
        run::all(&args)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("commonhold-prove: {error}");
            ExitCode::FAILURE
        }
    }
}
