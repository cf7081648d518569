//! The benchmarks: every row of the performance targets, each with its limit and its peer measured in the same
//! run. `cargo run --release -p commonhold-bench -- [ROW…] [--quick]`; `docs/performance.md` says what a row is.

mod arena;
mod crew;
mod http;
mod locks;
mod measure;
mod peers;
mod place;
mod pool;
mod report;
mod rows;
mod sql;
mod watch;
mod worker;

use std::process::ExitCode;

use crate::report::Report;

/// A failure of any kind, to be printed.
type Failure = Box<dyn std::error::Error>;
type Outcome<T = ()> = Result<T, Failure>;

/// How thorough to be.
#[derive(Debug, Clone, Copy)]
struct Effort {
    quick: bool,
}

impl Effort {
    /// `full`, or `quick` if asked to be quick.
    fn of<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn main() -> ExitCode {
    commonhold::workers::init(&pool::ours::kinds());
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = args.as_slice()
        && first == worker::WORKER
    {
        return worker::life(rest);
    }
    if let [first, rest @ ..] = args.as_slice()
        && first == pool::homemade::WORKER
    {
        return pool::homemade::life(rest);
    }
    if let [first, rest @ ..] = args.as_slice()
        && first == http::bare::SERVER
    {
        return http::bare::life(rest);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Outcome {
    let effort = Effort { quick: args.iter().any(|a| a == "--quick") };
    let mut wanted: Vec<u32> = Vec::new();
    for arg in args.iter().filter(|a| *a != "--quick") {
        match arg.parse() {
            Ok(row) if rows::ROWS.iter().any(|(number, _)| *number == row) => wanted.push(row),
            _ => {
                return Err(format!("`{arg}`: rows are 1 to 18, the only option is --quick").into());
            }
        }
    }
    if cfg!(debug_assertions) {
        eprintln!("bench: a debug build; its figures mean nothing, use --release");
    }
    let mut report = Report::start();
    for (number, row) in rows::ROWS {
        if wanted.is_empty() || wanted.contains(number) {
            watch::forget();
            row(effort, &mut report).map_err(|e| format!("row {number}: {e}"))?;
        }
    }
    report.end();
    Ok(())
}
