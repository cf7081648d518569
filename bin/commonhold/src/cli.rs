//! The command line: every command is a variant, its options and its work stand in the module of its group.

use clap::{CommandFactory, Parser, Subcommand};
use commonhold::store::redact;

use crate::care::{Destroy, Drain, Sweep};
use crate::cascade::Cascade;
use crate::concepts::Concepts;
use crate::connect::Globals;
use crate::create::Create;
use crate::decide::{Resolve, TakeOver};
use crate::doctor::Doctor;
use crate::failure::{Done, one_line};
use crate::file::File;
use crate::follow::{Wait, Watch};
use crate::inspect::Inspect;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::names::{CounterCommand, IdsCommand};
use crate::output::Output;
use crate::read::{Dump, Get, Scan};
use crate::replay::Replay;
use crate::resonance::Resonance;
use crate::serve::Serve;
use crate::sigils::Sigils;
use crate::tables::{History, Tables};
use crate::top::Top;
use crate::torture::Torture;
use crate::transfer::{Export, Import};
use crate::verify::Verify;
use crate::workers::Workers;
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

Exit codes:
  0    done, and all holds
  1    the operation or check failed
  2    wrong usage: what the command line alone shows
  130  a foreground run was ended by SIGINT (143: by SIGTERM)
Errors are one line on stderr.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(Create),
    Tables(Tables),
    Get(Get),
    Set(Set),
    Add(Add),
    Delete(Delete),
    Counter(CounterCommand),
    Ids(IdsCommand),
    Scan(Scan),
    Dump(Dump),
    History(History),
    Wait(Wait),
    Watch(Watch),
    Drain(Drain),
    Sweep(Sweep),
    Verify(Verify),
    Export(Export),
    Import(Import),
    Destroy(Destroy),
    TakeOver(TakeOver),
    Resolve(Resolve),
    Inspect(Inspect),
    Top(Top),
    Metrics(Metrics),
    Workers(Workers),
    Jobs(Jobs),
    Torture(Torture),
    Replay(Replay),
    Resonance(Resonance),
    Sigils(Sigils),
    Cascade(Cascade),
    File(File),
    Concepts(Concepts),
    Serve(Serve),
    Doctor(Doctor),
    Completions(Completions),
}

/// Print a completion script for a shell
///
/// Prints a script that completes commands, options and files in a shell. Write it where the shell looks for
/// such scripts.
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
            Command::Counter(c) => c.run(globals),
            Command::Ids(c) => c.run(globals),
            Command::Scan(c) => c.run(globals),
            Command::Dump(c) => c.run(globals),
            Command::History(c) => c.run(globals),
            Command::Wait(c) => c.run(globals),
            Command::Watch(c) => c.run(globals),
            Command::Drain(c) => c.run(globals),
            Command::Sweep(c) => c.run(globals),
            Command::Verify(c) => c.run(globals),
            Command::Export(c) => c.run(globals),
            Command::Import(c) => c.run(globals),
            Command::Destroy(c) => c.run(globals),
            Command::TakeOver(c) => c.run(globals),
            Command::Resolve(c) => c.run(globals),
            Command::Inspect(c) => c.run(globals),
            Command::Top(c) => c.run(globals),
            Command::Metrics(c) => c.run(globals),
            Command::Workers(c) => c.run(globals),
            Command::Jobs(c) => c.run(globals),
            Command::Torture(c) => c.run(globals),
            Command::Replay(c) => c.run(globals.segment(), globals.store()),
            Command::Resonance(c) => c.run(globals),
            Command::Sigils(c) => c.run(globals),
            Command::Cascade(c) => c.run(),
            Command::File(c) => c.run(),
            Command::Concepts(c) => c.run(),
            Command::Serve(c) => c.run(globals),
            Command::Doctor(c) => c.run(),
            Command::Completions(c) => c.run(),
        }
    }
}

/// What clap says of a wrong command line, as one line; `words` are those of the command line.
pub(crate) fn usage_line(error: &clap::Error, words: &[String]) -> String {
    let text = without_passwords(error.render().to_string(), words);
    let (noise, known) = (["Usage: ", "For more information"], Cli::command());
    let parts = text.split("\n\n").map(one_line);
    let parts = parts.filter(|p| !p.is_empty() && !noise.iter().any(|n| p.starts_with(n)));
    let parts: Vec<String> =
        parts.map(|p| p.strip_prefix("error: ").unwrap_or(&p).to_owned()).collect();
    let command = words.iter().find(|word| known.find_subcommand(word).is_some());
    let command = command.map_or_else(String::new, |word| format!("{word} "));
    format!("{}; see commonhold {command}--help", parts.join("; "))
}

/// `text`, which may quote `words` or the environment, without the passwords of their urls.
fn without_passwords(mut text: String, words: &[String]) -> String {
    let store = std::env::var("COMMONHOLD_STORE");
    for word in words.iter().chain(&store) {
        let value = if word.starts_with('-') { word.split_once('=').map(|w| w.1) } else { None };
        let value = value.unwrap_or(word);
        if value.contains("://") || value.starts_with("postgres") {
            text = text.replace(value, &redact(value));
        }
    }
    text
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
            let words: Vec<String> = wrong.iter().map(|w| (*w).to_owned()).collect();
            let line = usage_line(&Cli::try_parse_from(wrong).unwrap_err(), &words);
            assert!(!line.contains('\n') && line.contains("; see commonhold "), "{line}");
            let named = ["set", "create", "get"].contains(&wrong[1]);
            assert_eq!(line.ends_with(&format!("{} --help", wrong[1])), named, "{line}");
        }
    }
}
