//! `serve`: the daemon, in the foreground of whoever started it, until a signal stops it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold_server::logging::DEFAULT_FILTER;
use commonhold_server::{Log, ServeError, Server, ServerOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::connect::Globals;
use crate::failure::{Done, Failure};
use crate::parse::duration;
use crate::signals::{PIECE, Signals};

/// Serve the records of a segment over HTTP
///
/// Runs the daemon: records, customers, sigils and resonance networks over HTTP, metrics for Prometheus, and worker
/// processes for heavy tasks. GET /openapi.json describes every route. The segment is made, or gets the
/// systems' tables, where they lack. SIGINT or SIGTERM stops it: requests under way end, workers and jobs end,
/// what is committed is flushed to the store, and the exit code is 0; a second signal cuts the waits short.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold serve
  commonhold serve --listen 127.0.0.1:8080 --json-log
  commonhold serve --listen 0.0.0.0:7340 --token-file /etc/commonhold/token
  commonhold serve --workers 0 --log warn
  curl http://127.0.0.1:7340/openapi.json

The section [serve] of commonhold.toml holds these options and limits; docs/serve.md lists them.")]
pub(crate) struct Serve {
    /// Where to listen; port 0: any that is free [default: 127.0.0.1:7340]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// A file with the bearer token that requests must show; nobody else may read it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The file of the human concept map, for POST /v1/concepts/human
    #[arg(long, value_name = "FILE")]
    human_map: Option<PathBuf>,
    /// The most worker processes; 0: none of its own [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    workers: Option<u32>,
    /// How long requests under way may take when it stops, then jobs, then workers [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    grace: Option<Duration>,
    /// Log as JSON, an object a line
    #[arg(long)]
    json_log: bool,
    /// What to log: a level, or target=level, with commas
    #[arg(long, value_name = "FILTER", env = "COMMONHOLD_LOG", hide_env_values = true)]
    #[arg(default_value = DEFAULT_FILTER)]
    log: String,
}

impl Serve {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let options = self.options(globals)?;
        // Before any thread is started: threads inherit what is blocked.
        let signals = Signals::catch()?;
        raise_descriptors();
        let log = Log::start(self.json_log, &self.log).map_err(Failure::usage)?;
        let server = match Server::start(options) {
            Ok(server) => server,
            Err(error @ ServeError::TokenNeeded { .. }) => {
                return Err(Failure::usage(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        while signals.sleep(Duration::from_secs(3600)).is_ok() {}
        let stopped = stop(&server, &signals);
        drop(server);
        drop(log);
        Ok(stopped?)
    }

    /// The defaults, over them the file, over it the command line.
    fn options(&self, globals: &Globals) -> Result<ServerOptions, Failure> {
        let mut options = ServerOptions::new(globals.config()?);
        if let Some(file) = globals.file() {
            options.read_file(file)?;
        }
        options.kinds = crate::kinds();
        options.listen = self.listen.unwrap_or(options.listen);
        options.grace = self.grace.unwrap_or(options.grace);
        if let Some(file) = &self.token_file {
            options.token_file = Some(Path::new(file).to_owned());
        }
        if let Some(file) = &self.human_map {
            options.human_map = Some(file.clone());
        }
        if let Some(most) = self.workers {
            options.set_workers(most);
        }
        Ok(options)
    }
}

/// Stops; a second signal hurries.
fn stop(server: &Server, signals: &Signals) -> Result<(), ServeError> {
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        while !stopping.is_finished() {
            if signals.sleep(PIECE).is_err() {
                server.hurry();
            }
        }
        stopping.join().unwrap_or(Ok(()))
    })
}

/// A descriptor for each connection: as many as this user may have.
fn raise_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Fewer than asked for serve too.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
