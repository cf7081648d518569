//! `replay`: an access log through many worker processes.

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::RangedI64ValueParser;
use commonhold::systems::clients::Caps;
use commonhold::systems::replay::{Options, ReplayError, Report, WORKERS_MAX, run};
use nix::sys::signal::Signal;

use crate::failure::{Done, Failure};
use crate::output::{Format, Output, note, print_json};

/// Feeds an access log through worker processes, one commit a line.
///
/// Lines in Common or Combined Log Format, plain or gzip, are dealt to the workers in turn. Each counts its lines in
/// the table `clients`: requests, bytes, and what a cap denied. Without --segment the segment goes at the end, and
/// without --store its store too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold replay access.log.gz --workers 8 --by client
  commonhold --segment web replay access.log --cap-requests 100 --kill 3
  commonhold --segment web dump clients

Lines that do not parse are counted, and the first of them named on stderr.")]
pub(crate) struct Replay {
    /// The log: Common or Combined Log Format, plain or gzip
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// How many worker processes
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    workers: u32,
    /// What a record is kept for
    #[arg(long, value_enum, default_value_t = By::Client)]
    by: By,
    /// Deny a client more requests than this
    #[arg(long, value_name = "N", value_parser = not_negative())]
    cap_requests: Option<i64>,
    /// Deny a client more bytes than this
    #[arg(long, value_name = "N", value_parser = not_negative())]
    cap_bytes: Option<i64>,
    /// Kill this many workers on the way; others take over
    #[arg(long, value_name = "N", default_value_t = 0)]
    kill: u32,
    /// Decides who is killed, and when [default: another each time, reported]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    format: Format,
}

/// What a record is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Each client, the first word of a line
    Client,
}

fn not_negative() -> RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(0..)
}

impl Replay {
    /// Replays in the segment and store that were named, if they were.
    pub(crate) fn run(&self, segment: Option<&str>, store: Option<&str>) -> Done {
        let report = match run(&self.options(segment, store), &mut |line| note(line)) {
            Ok(report) => report,
            Err(ReplayError::Stopped(number)) => {
                return Err(Signal::try_from(number).map_or_else(Failure::from, Failure::Signal));
            }
            Err(error) => return Err(error.into()),
        };
        if self.format.json {
            print_json(&report)?;
        } else {
            print(&report)?;
        }
        if report.ok {
            return Ok(());
        }
        report.findings.iter().skip(1).for_each(|finding| note(format_args!("also: {finding}")));
        let first = report.findings.first().map(String::as_str);
        Err(Failure::failed(first.unwrap_or("the replay does not hold")))
    }

    fn options(&self, segment: Option<&str>, store: Option<&str>) -> Options {
        let By::Client = self.by;
        Options {
            log: self.log.clone(),
            workers: self.workers,
            caps: Caps {
                requests: self.cap_requests.unwrap_or(i64::MAX),
                bytes: self.cap_bytes.unwrap_or(i64::MAX),
            },
            kills: self.kill,
            seed: self.seed.unwrap_or_else(any_seed),
            segment: segment.map(str::to_owned),
            store: store.map(str::to_owned),
        }
    }
}

fn print(report: &Report) -> Done {
    let mut out = Output::new();
    for (name, value) in report.figures() {
        out.line(format!("{name:<18}{value}"))?;
    }
    out.finish()
}

/// Another one each time; it is in the report.
fn any_seed() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_nanos() as u64 ^ u64::from(std::process::id()) << 48
}
