//! The command `commonhold`: parse, call, print. Each group of commands has a module; the work is done by the
//! library.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod care;
mod cli;
mod connect;
mod create;
mod csv;
mod doctor;
mod failure;
mod follow;
mod inspect;
mod output;
mod parse;
mod plan;
mod read;
mod show;
mod signals;
mod tables;
mod verify;
mod write;

use std::panic::{PanicHookInfo, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, usage_line};
use failure::{Done, Failure, one_line};
use output::note;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(tell_panic));
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

fn run() -> Done {
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) if !error.use_stderr() => Ok(error.print()?),
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let help = error.render().to_string();
            Err(Failure::usage(if help.is_empty() { help } else { "no command; see commonhold --help".to_owned() }))
        }
        Err(error) => Err(Failure::usage(usage_line(&error))),
    }
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
