//! A world of its own for each test: a folder in shared memory with a segment and a SQLite store, in which the
//! command runs. Everything goes with the folder when the test ends, failed or not.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The sizes that keep a test's segment small.
pub(crate) const SMALL: [&str; 4] = ["--participants=16", "--slots=16", "--cells=300", "--json"];

/// A folder, a segment and a store.
pub(crate) struct World {
    folder: TempDir,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A run that goes on; it is killed with its test.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
    pub(crate) stderr: BufReader<ChildStderr>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("commonhold-cli-").tempdir_in("/dev/shm");
        Self { folder: folder.unwrap() }
    }

    /// A world with the table `counters` (n:i64, name:text(12)).
    pub(crate) fn with_counters() -> Self {
        let world = Self::new();
        let fields = ["--field", "n:i64", "--field", "name:text(12)"];
        world.ok(&[&["create", "counters"], &fields[..], &SMALL[..]].concat());
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text_path(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn segment(&self) -> String {
        self.text_path("segment")
    }

    pub(crate) fn store(&self) -> String {
        format!("sqlite:{}", self.text_path("store.db"))
    }

    /// The command with nothing of the surroundings in its way.
    pub(crate) fn bare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_commonhold"));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("HOME", self.folder.path()).env_remove("XDG_DATA_HOME");
        command.env_remove("COMMONHOLD_SEGMENT").env_remove("COMMONHOLD_STORE");
        command
    }

    /// The command on this world's segment and store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare();
        command.env("COMMONHOLD_SEGMENT", self.segment()).env("COMMONHOLD_STORE", self.store());
        command.args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments))
    }

    /// Runs what must succeed; what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert!(ran.code == Some(0) && ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
        ran.stdout
    }

    /// Runs what must succeed and print one JSON object.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--json"]].concat());
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(value.is_object(), "{text}");
        value
    }

    /// Runs what must fail with `code` and one line that holds `why`.
    pub(crate) fn fails(&self, arguments: &[&str], code: i32, why: &str) {
        let ran = self.run(arguments);
        assert_eq!(ran.stdout, "", "{arguments:?}");
        ran.failed(code, why);
    }

    /// Starts a run that goes on.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }

    /// Starts a watch of `counters`, which is at work when this returns.
    pub(crate) fn watch(&self, arguments: &[&str]) -> Running {
        let mut watch = self.start(&[&["watch", "counters"], arguments].concat());
        let line = next_line(&mut watch.stderr);
        assert!(line.starts_with("watching counters"), "{line}");
        watch
    }
}

/// Runs a command to its end.
pub(crate) fn ran(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The next line, without its end.
pub(crate) fn next_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    assert!(line.ends_with('\n'), "the output ended with {line:?}");
    line.trim_end().to_owned()
}

impl Ran {
    /// It ended with `code` and one line on stderr that holds `why`.
    pub(crate) fn failed(&self, code: i32, why: &str) {
        let line = &self.stderr;
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(line.starts_with("commonhold: ") && line.matches('\n').count() == 1, "{line:?}");
        assert!(line.contains(why), "{line:?} lacks {why:?}");
        assert!(!line.contains("panicked") && !line.contains("internal error"), "{line:?}");
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ran {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        Ran { code: self.child.wait().unwrap().code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Has ended already when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
