//! The daemon: `commonhold serve`, the program that lies beside this one, on a segment of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::Outcome;
use crate::place::folder;

/// The daemon's process; killed with the value, and its segment and store go with it.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
    /// In shared memory.
    _segment: TempDir,
    store: TempDir,
}

impl Daemon {
    /// Starts it, with a SQLite store or none, and waits until it serves.
    pub(crate) fn start(stored: bool) -> Outcome<Self> {
        let exe = std::env::current_exe()?;
        let program = exe.parent().ok_or("no target folder")?.join("commonhold");
        let segment =
            tempfile::Builder::new().prefix("commonhold-bench-").tempdir_in("/dev/shm")?;
        let store = folder()?;
        let url = format!("sqlite:{}", store.path().join("bench.db").display());
        let mut command = Command::new(&program);
        command.arg("--segment").arg(segment.path().join("segment"));
        command.args(["--store", if stored { &url } else { "none" }]);
        command.args(["serve", "--listen", "127.0.0.1:0", "--workers", "0", "--json-log"]);
        command.args(["--log", "commonhold_server=info"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|e| {
            format!("{}: {e}; cargo build --release -p commonhold-cli makes it", program.display())
        })?;
        let mut daemon = Self { child, address: String::new(), _segment: segment, store };
        daemon.listen()?;
        Ok(daemon)
    }

    /// Reads its log until it says where it serves; the rest is read and dropped, so that it never waits for this.
    fn listen(&mut self) -> Outcome {
        let log = self.child.stderr.take().ok_or("no pipe to the daemon")?;
        let mut lines = BufReader::new(log).lines();
        let mut said = String::new();
        for line in lines.by_ref() {
            let line = line?;
            if let Some(address) = address_in(&line) {
                self.address = address;
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(());
            }
            said.push_str(&line);
            said.push('\n');
        }
        Err(format!("the daemon did not start: {said}").into())
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.store.path().join("bench.db")
    }

    /// Has it stop, and waits until it has; it must end well.
    pub(crate) fn stop(&mut self) -> Outcome {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the daemon stopped with {status}").into())
        }
    }
}

/// The address in the log's line that says it.
fn address_in(line: &str) -> Option<String> {
    fn find(value: &Value) -> Option<&str> {
        let object = value.as_object()?;
        let own = object.get("address").and_then(Value::as_str);
        own.or_else(|| object.values().find_map(find))
    }
    let value: Value = serde_json::from_str(line).ok()?;
    find(&value).map(str::to_owned)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
