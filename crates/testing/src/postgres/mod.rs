//! A PostgreSQL for tests.
//!
//! [`Database`] is an empty database for one test: in the server that `COMMONHOLD_TEST_POSTGRES` names
//! (`scripts/with_postgres.sh` starts one), otherwise in a server of this process. [`Server`] is one of the test's own,
//! for those that kill it, stop it, or need other settings.
//!
//! A server has a temporary folder with its data and its socket. It never runs as root, and it ends with the process that
//! started it, however that ends: a shell that waits for the end of a pipe then stops it and removes the folder.
//!
//! Where the programs are missing these functions panic with one line that says what to install: a test that needs
//! PostgreSQL fails without it.

mod programs;
mod server;

use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub use server::{Options, PASSWORD, Server, Stop};

/// The variable that names a running server, as a url of its database `postgres` with a superuser.
pub const VARIABLE: &str = "COMMONHOLD_TEST_POSTGRES";

/// The server of this process.
static SERVER: OnceLock<Server> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// An empty database; dropped with it.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Makes a database.
    ///
    /// # Panics
    /// When no server can be had, with one line that says why.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a server")]
    pub fn new() -> Self {
        let server = match std::env::var(VARIABLE) {
            Ok(url) => url,
            Err(_) => SERVER.get_or_init(Server::start).url("postgres"),
        };
        let count = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{count}", std::process::id());
        sql(&server, &format!("CREATE DATABASE {name}"));
        Self { server, name }
    }

    /// Its url.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.replacen("/postgres?", &format!("/{}?", self.name), 1)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements in it, as [`sql`] does.
    ///
    /// # Panics
    /// When one fails, with the server's message.
    #[expect(clippy::must_use_candidate, reason = "most statements give nothing")]
    pub fn sql(&self, text: &str) -> String {
        sql(&self.url(), text)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The server may be gone already.
        let _ = try_sql(&self.server, &drop);
    }
}

/// Runs statements by `psql`, each in a transaction of its own, and gives the rows they return: a line each, the columns
/// separated by `|`.
///
/// # Panics
/// When one fails, with the server's message.
#[expect(clippy::must_use_candidate, reason = "most statements give nothing")]
pub fn sql(url: &str, text: &str) -> String {
    match try_sql(url, text) {
        Ok(rows) => rows,
        Err(e) => panic!("{text}: {e}"),
    }
}

/// As [`sql`], with the message of a statement that fails as the error.
///
/// # Errors
/// What `psql` says, also when there is none.
pub fn try_sql(url: &str, text: &str) -> Result<String, String> {
    let mut psql = programs::command("psql")?;
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            psql.env_remove(name);
        }
    }
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", text]);
    let output = psql.stdin(Stdio::null()).output().map_err(|e| format!("psql: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}
