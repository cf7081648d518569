//! `with_postgres COMMAND…`: runs the command with a private PostgreSQL, which `COMMONHOLD_TEST_POSTGRES` names to it.
//! `scripts/with_postgres.sh` calls it.

use std::process::{Command, ExitCode};

use commonhold_testing::postgres::{Server, VARIABLE};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("with_postgres: no command; give one");
        return ExitCode::from(2);
    };
    let server = Server::start();
    let status =
        Command::new(&program).args(arguments).env(VARIABLE, server.url("postgres")).status();
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
        Err(e) => {
            eprintln!("with_postgres: {}: {e}; check the command", program.display());
            ExitCode::from(127)
        }
    }
}
