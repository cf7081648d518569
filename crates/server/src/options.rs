//! How the daemon is run: from code, from the command line, or from the section `[serve]` of `commonhold.toml`.
//!
//! ```toml
//! [serve]
//! listen = "127.0.0.1:7340"      # another address than loopback needs a token_file
//! token_file = "token"           # relative to this file; mode 0600
//! human_map = "human.jsonc"      # the human concept map; relative to this file; none: no route
//! workers = 4                    # worker processes at most; 0: none, tasks go to whoever supervises
//! sigils = 131072                # room for sigils, where their tables are made
//! threads = 2                    # threads that serve connections
//! connections = 4096             # open at once
//! requests = 1024                # under way at once
//! body_bytes = 1048576           # the largest body
//! header_seconds = 10            # for the head of a request, from its first byte
//! idle_seconds = 60              # between two requests of a connection
//! request_seconds = 30           # for a request, its body included
//! body_seconds = 1               # for a request's body, where others need its place
//! stall_seconds = 10             # for a client that does not take its answer
//! grace_seconds = 10             # for requests under way, when the daemon stops
//! drain_seconds = 30             # for the store to take everything, when the daemon stops
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold::systems::sigils::SigilCapacity;
use commonhold::workers::{Kinds, PoolOptions};
use commonhold::{Config, ConfigError};

use crate::error::ServeError;

/// The port when none is named.
pub const DEFAULT_PORT: u16 = 7340;

/// How the daemon is run.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The segment and its store.
    pub segment: Config,
    /// Where it listens; port 0: any that is free.
    pub listen: SocketAddr,
    /// The file with the bearer token that requests must show.
    pub token_file: Option<PathBuf>,
    /// The file of the human concept map; none: there is no such map here.
    pub human_map: Option<PathBuf>,
    /// How worker processes are run; none: there are no own ones, and tasks go to whoever supervises the segment's.
    /// With workers of its own, the program's `main` calls [`commonhold::workers::init`] first thing.
    pub pool: Option<PoolOptions>,
    /// What workers can do.
    pub kinds: Kinds,
    /// Room for sigils, where their tables are made.
    pub sigils: u32,
    /// Threads that serve connections.
    pub threads: u32,
    /// Connections that may be open at once; beyond that the one that is idle longest is closed.
    pub connections: u32,
    /// Requests that may be under way at once; beyond that they are refused.
    pub requests: u32,
    /// The largest body in bytes.
    pub body_bytes: u32,
    /// For the head of a request, from its first byte.
    pub header_time: Duration,
    /// For how long a connection may be without a request.
    pub idle_time: Duration,
    /// For a request, the arrival of its body included.
    pub request_time: Duration,
    /// For a request's body where no place is left: then requests whose bodies have been coming for longer go.
    pub body_time: Duration,
    /// For a client that does not take what is sent.
    pub stall_time: Duration,
    /// For requests under way when the daemon stops; and then for jobs; and then for workers.
    pub grace: Duration,
    /// For the store to take everything when the daemon stops.
    pub drain_time: Duration,
}

impl ServerOptions {
    /// The defaults for a segment: 127.0.0.1, no token, workers as [`PoolOptions`] has them, the kinds of
    /// [`commonhold::systems`].
    #[must_use]
    pub fn new(segment: Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let seconds = Duration::from_secs;
        Self {
            segment,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            token_file: None,
            human_map: None,
            pool: Some(PoolOptions::new()),
            kinds: Kinds::new().with(commonhold::systems::cascade::kind()),
            sigils: SigilCapacity::default().sigils,
            threads: u32::try_from(cores.clamp(1, 8)).unwrap_or(1),
            connections: 4096,
            requests: 1024,
            body_bytes: 1 << 20,
            header_time: seconds(10),
            idle_time: seconds(60),
            request_time: seconds(30),
            body_time: seconds(1),
            stall_time: seconds(10),
            grace: seconds(10),
            drain_time: seconds(30),
        }
    }

    /// Takes over what the section `[serve]` of a `commonhold.toml` says. Other sections are those of
    /// [`Config::from_file`].
    ///
    /// # Errors
    /// [`ServeError::Config`] naming file, line and column; [`ServeError::Option`].
    pub fn read_file(&mut self, path: &Path) -> Result<(), ServeError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let file: File =
            toml::from_str(&text).map_err(|e| ConfigError::of_toml(path, &text, &e))?;
        if let Some(section) = file.serve {
            section.put_into(self, path)?;
        }
        Ok(())
    }

    /// Sets how many worker processes there are at most; 0: none of this daemon's.
    pub fn set_workers(&mut self, most: u32) {
        self.pool = (most > 0).then(|| PoolOptions::new().workers(1..=most));
    }

    /// Whether everything is in its range.
    pub(crate) fn check(&self) -> Result<(), ServeError> {
        let count = |what: &str, found: u32, most: u32| {
            check(what, (1..=most).contains(&found), found, format!("1 to {most}"))
        };
        count("the number of threads", self.threads, 256)?;
        count("the room for sigils", self.sigils, 1 << 23)?;
        count("the number of connections", self.connections, 1_000_000)?;
        count("the number of requests", self.requests, 1_000_000)?;
        count("the largest body", self.body_bytes, 1 << 30)?;
        let times = [
            ("the time for a request's head", self.header_time),
            ("the idle time", self.idle_time),
            ("the time for a request", self.request_time),
            ("the time for a body", self.body_time),
            ("the time for a client that stalls", self.stall_time),
        ];
        for (what, time) in times {
            let whole = (Duration::from_millis(10)..=DAY).contains(&time);
            check(what, whole, format!("{time:?}"), "10 ms to a day".to_owned())?;
        }
        for (what, time) in [("the grace", self.grace), ("the time to drain", self.drain_time)] {
            check(what, time <= DAY, format!("{time:?}"), "at most a day".to_owned())?;
        }
        Ok(())
    }
}

const DAY: Duration = Duration::from_secs(86_400);

fn check(place: &str, holds: bool, found: impl ToString, must: String) -> Result<(), ServeError> {
    if holds {
        return Ok(());
    }
    Err(ServeError::Option { place: place.to_owned(), found: found.to_string(), must })
}

/// The file as the daemon reads it; the rest is [`Config`]'s.
#[derive(serde::Deserialize)]
struct File {
    serve: Option<Section>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    listen: Option<SocketAddr>,
    token_file: Option<PathBuf>,
    human_map: Option<PathBuf>,
    workers: Option<u32>,
    sigils: Option<u32>,
    threads: Option<u32>,
    connections: Option<u32>,
    requests: Option<u32>,
    body_bytes: Option<u32>,
    header_seconds: Option<f64>,
    idle_seconds: Option<f64>,
    request_seconds: Option<f64>,
    body_seconds: Option<f64>,
    stall_seconds: Option<f64>,
    grace_seconds: Option<f64>,
    drain_seconds: Option<f64>,
}

impl Section {
    fn put_into(self, options: &mut ServerOptions, path: &Path) -> Result<(), ServeError> {
        fn put<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        put(&mut options.listen, self.listen);
        put(&mut options.sigils, self.sigils);
        put(&mut options.threads, self.threads);
        put(&mut options.connections, self.connections);
        put(&mut options.requests, self.requests);
        put(&mut options.body_bytes, self.body_bytes);
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Some(file) = self.token_file {
            options.token_file = Some(folder.join(file));
        }
        if let Some(file) = self.human_map {
            options.human_map = Some(folder.join(file));
        }
        if let Some(most) = self.workers {
            options.set_workers(most);
        }
        for (name, place, value) in [
            ("header_seconds", &mut options.header_time, self.header_seconds),
            ("idle_seconds", &mut options.idle_time, self.idle_seconds),
            ("request_seconds", &mut options.request_time, self.request_seconds),
            ("body_seconds", &mut options.body_time, self.body_seconds),
            ("stall_seconds", &mut options.stall_time, self.stall_seconds),
            ("grace_seconds", &mut options.grace, self.grace_seconds),
            ("drain_seconds", &mut options.drain_time, self.drain_seconds),
        ] {
            let Some(value) = value else { continue };
            let at = format!("{}: `{name}` in [serve]", path.display());
            let must = "seconds, from 0 to 86400".to_owned();
            check(&at, (0.0..=86_400.0).contains(&value), value, must)?;
            *place = Duration::from_secs_f64(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ServerOptions, ServeError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let mut options = ServerOptions::new(Config::ephemeral());
        options.read_file(&path)?;
        options.check()?;
        Ok(options)
    }

    #[test]
    fn a_file_says_what_code_says() {
        let options = read(
            "segment = \"x\"\n[serve]\nlisten = \"[::1]:80\"\ntoken_file = \"t\"\nhuman_map = \"h\"\nworkers = 0\nidle_seconds = 3\n\
             grace_seconds = 0.5\n",
        );
        let options = options.unwrap();
        assert_eq!(options.listen, "[::1]:80".parse().unwrap());
        assert!(options.token_file.unwrap().ends_with("t"));
        assert!(options.human_map.unwrap().ends_with("h"));
        assert!(options.pool.is_none());
        assert_eq!(options.idle_time, Duration::from_secs(3));
        assert_eq!(options.grace, Duration::from_millis(500));
        assert_eq!(options.connections, 4096);
        assert!(read("segment = \"x\"\n").unwrap().pool.is_some());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, want) in [
            ("[serve]\nlissen = \"x\"\n", "c.toml:2:1: unknown field `lissen`"),
            ("[serve]\nworkers = -1\n", "c.toml:2:11: "),
            ("[serve]\nlisten = \"localhost\"\n", "c.toml:2:10: invalid socket address"),
            ("[serve]\nidle_seconds = nan\n", "`idle_seconds` in [serve] is NaN; write seconds"),
            ("[serve]\nconnections = 0\n", "the number of connections is 0; write 1 to 1000000"),
            ("[serve]\nidle_seconds = 0\n", "the idle time is 0ns; write 10 ms to a day"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(want) && !error.contains('\n'), "{error}");
        }
    }
}
