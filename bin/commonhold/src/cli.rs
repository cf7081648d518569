//! The command line: every command is a variant, its options and its work stand in the module of its group.

use clap::{CommandFactory, Parser, Subcommand};

use crate::care::{Destroy, Drain, Sweep};
use crate::connect::Globals;
use crate::create::Create;
use crate::doctor::Doctor;
use crate::failure::{Done, one_line};
use crate::follow::{Wait, Watch};
use crate::inspect::{Inspect, Top};
use crate::output::Output;
use crate::read::{Dump, Get, Scan};
use crate::tables::{History, Tables};
use crate::verify::Verify;
use crate::write::{Add, Delete, Set};

/// Shared-memory records for the processes of one machine
///
/// Commonhold keeps records in shared memory: any process of the machine reads, changes and waits for them at
/// memory speed, no update is ever lost, a process killed at any instruction harms nobody, and what was committed
/// ends up in a database. This command makes segments and looks after them, reads and changes their
/// records, and audits their stores.
#[derive(Debug, Parser)]
#[command(name = "commonhold", version, propagate_version = false, max_term_width = 110)]
#[command(after_help = "Examples:
  commonhold create counters --field n:i64
  commonhold add counters visits n=1
  commonhold get counters visits
  commonhold verify

Exit codes: 0 done and all holds; 1 the operation or check failed; 2 wrong usage (what the command line alone
shows); 130 and 143 a foreground run ended by SIGINT and SIGTERM. Errors are one line on stderr.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a table, and the segment if it is not there
    Create(Create),
    /// List the tables
    Tables(Tables),
    /// Print a record
    Get(Get),
    /// Set fields of a record
    Set(Set),
    /// Add to numbers of a record
    Add(Add),
    /// Delete a record
    Delete(Delete),
    /// Print the records of a table, a line each
    Scan(Scan),
    /// Print the records of a table as CSV or JSON
    Dump(Dump),
    /// Print every version of a record
    History(History),
    /// Wait until a condition holds of a record, or it changes
    Wait(Wait),
    /// Print the changes of a table as they come
    Watch(Watch),
    /// Wait until the store has everything
    Drain(Drain),
    /// Free what dead processes left
    Sweep(Sweep),
    /// Audit a store from its rows alone
    Verify(Verify),
    /// Remove a segment; its store stays
    Destroy(Destroy),
    /// Look at a segment from outside
    Inspect(Inspect),
    /// Look at a segment again and again
    Top(Top),
    /// Check the host
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// Prints a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold completions bash > ~/.local/share/bash-completion/completions/commonhold
  commonhold completions fish > ~/.config/fish/completions/commonhold.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    fn run(&self) -> Done {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "commonhold", &mut script);
        let mut out = Output::new();
        out.text(String::from_utf8_lossy(&script))?;
        out.finish()
    }
}

impl Cli {
    /// Does what was asked for.
    pub(crate) fn run(&self) -> Done {
        let globals = &self.globals;
        match &self.command {
            Command::Create(c) => c.run(globals),
            Command::Tables(c) => c.run(globals),
            Command::Get(c) => c.run(globals),
            Command::Set(c) => c.run(globals),
            Command::Add(c) => c.run(globals),
            Command::Delete(c) => c.run(globals),
            Command::Scan(c) => c.run(globals),
            Command::Dump(c) => c.run(globals),
            Command::History(c) => c.run(globals),
            Command::Wait(c) => c.run(globals),
            Command::Watch(c) => c.run(globals),
            Command::Drain(c) => c.run(globals),
            Command::Sweep(c) => c.run(globals),
            Command::Verify(c) => c.run(globals),
            Command::Destroy(c) => c.run(globals),
            Command::Inspect(c) => c.run(globals),
            Command::Top(c) => c.run(globals),
            Command::Doctor(c) => c.run(),
            Command::Completions(c) => c.run(),
        }
    }
}

/// What clap says of a wrong command line, as one line.
pub(crate) fn usage_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut parts = Vec::new();
    let mut command = "commonhold".to_owned();
    for part in text.split("\n\n").map(one_line) {
        if let Some(usage) = part.strip_prefix("Usage: ") {
            let words = usage.split(' ').take_while(|w| w.starts_with(|c: char| c.is_lowercase()));
            command = words.collect::<Vec<_>>().join(" ");
        } else if !part.is_empty() && !part.starts_with("For more information") {
            parts.push(part.strip_prefix("error: ").unwrap_or(&part).to_owned());
        }
    }
    format!("{}; see {command} --help", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("commonhold {}", command.get_name());
            assert!(help.contains(&example) || help.contains("commonhold --config"), "{example}");
            assert!(command.get_about().is_some() && command.get_long_about().is_some());
        }
    }

    #[test]
    fn wrong_usage_is_one_line() {
        for wrong in [
            &["commonhold", "git"][..],
            &["commonhold", "set", "t"],
            &["commonhold", "set", "t", "k", "n"],
            &["commonhold", "create", "t", "--field", "n:i65"],
            &["commonhold", "get", "t", "k", "--nope"],
        ] {
            let line = usage_line(&Cli::try_parse_from(wrong).unwrap_err());
            assert!(!line.contains('\n') && line.contains("see commonhold"), "{line}");
        }
    }
}
