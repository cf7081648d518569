//! The process that tests start: its first argument says which role it plays. Pools of tests start it as
//! their worker.

use std::process::ExitCode;

fn main() -> ExitCode {
    commonhold::workers::init(&commonhold_tests::tasks::kinds());
    let args: Vec<String> = std::env::args().skip(1).collect();
    match commonhold_tests::roles::play(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("role {args:?}: {error}");
            ExitCode::FAILURE
        }
    }
}
