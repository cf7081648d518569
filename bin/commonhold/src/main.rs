//! The command `commonhold`: parse, call, print. Each group of commands has a module; the work is done by the
//! library.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod care;
mod cascade;
mod cli;
mod concepts;
mod connect;
mod create;
mod csv;
mod decide;
mod doctor;
mod failure;
mod file;
mod follow;
mod inspect;
mod jobs;
mod looks;
mod metrics;
mod names;
mod output;
mod parse;
mod plan;
mod read;
mod replay;
mod resonance;
mod serve;
mod show;
mod sigils;
mod signals;
mod tables;
mod top;
mod torture;
mod transfer;
mod verify;
mod workers;
mod write;

use std::panic::{PanicHookInfo, catch_unwind};
use std::process::ExitCode;

use clap::error::ErrorKind::{DisplayHelpOnMissingArgumentOrSubcommand, MissingSubcommand};
use clap::{CommandFactory, Parser};

use commonhold::systems::replay::{WORKER_ARGUMENT, worker as replay_worker};

use cli::{Cli, usage_line};
use commonhold::workers::Kinds;
use failure::{Done, Failure, one_line};
use output::note;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(tell_panic));
    // Pools start this program as their worker: whatever any of its commands has done by workers is known here.
    commonhold::workers::init(&kinds().with(commonhold_torture::workers::kind()));
    if let Some(code) = worker() {
        return code;
    }
    match catch_unwind(run) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            if let Some(line) = failure.line() {
                note(format_args!("commonhold: {line}"));
            }
            ExitCode::from(failure.code())
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// What worker processes of this program can do.
fn kinds() -> Kinds {
    Kinds::new().with(commonhold::systems::cascade::kind())
}

/// Runs as a worker of `torture` or `replay`, or becomes the command of `file lock`, if this process was started as one;
/// the exit code then.
fn worker() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    if first == file::UNBLOCKED {
        return Some(file::become_command(arguments));
    }
    if first == commonhold_torture::WORKER {
        return Some(ExitCode::from(commonhold_torture::worker(
            words().get(1..).unwrap_or_default(),
        )));
    }
    (first == WORKER_ARGUMENT).then(|| replay_worker(arguments))
}

fn run() -> Done {
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) if !error.use_stderr() => Ok(error.print()?),
        // No command at all, or none of a group: the whole help, on stderr.
        Err(error)
            if matches!(
                error.kind(),
                DisplayHelpOnMissingArgumentOrSubcommand | MissingSubcommand
            ) =>
        {
            note(help());
            Err(Failure::usage(""))
        }
        Err(error) => Err(Failure::usage(usage_line(&error, &words()))),
    }
}

/// The help of the group of commands that was named, or of all.
fn help() -> clap::builder::StyledStr {
    let mut all = Cli::command();
    all.build();
    match words().iter().find(|word| all.find_subcommand(word).is_some()) {
        Some(group) => all.find_subcommand_mut(group).map(|c| c.render_help()).unwrap_or_default(),
        None => all.render_help(),
    }
}

/// The words of the command line, as far as they are text.
fn words() -> Vec<String> {
    std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).collect()
}

/// A defect, as one line.
fn tell_panic(info: &PanicHookInfo<'_>) {
    let what = info.payload_as_str().unwrap_or("a defect");
    let place = info.location().map(|l| format!(" ({}:{})", l.file(), l.line()));
    let place = place.unwrap_or_default();
    note(format_args!(
        "commonhold: internal error: {}{place}; this is a defect, please report it",
        one_line(what)
    ));
}
