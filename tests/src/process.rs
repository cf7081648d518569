//! A role as the test sees it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A role that says nothing for so long hangs: an error, not a synchronisation.
const SILENCE_MS: u16 = 60_000;

/// A process that plays a role; killed and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Not the child's, whose `wait` would close it: it may have a child of its own.
    input: Option<ChildStdin>,
    out: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(program: &str, role: &str, segment: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args([role, &std::process::id().to_string(), segment]).args(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let input = child.stdin.take();
        Self { name: format!("{role} {args:?}"), child, input, out }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Its next line; `None` when it has ended.
    pub fn next_line(&mut self) -> Option<String> {
        if self.out.buffer().is_empty() {
            let mut fds = [PollFd::new(self.out.get_ref().as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::from(SILENCE_MS)).unwrap();
            assert!(ready > 0, "{} hangs", self.name);
        }
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }

    /// Its next line, which begins with `word`; what stands behind that.
    pub fn hear(&mut self, word: &str) -> String {
        let line = self.next_line().unwrap_or_else(|| panic!("{} ended before {word}", self.name));
        let rest = line.strip_prefix(word);
        rest.unwrap_or_else(|| panic!("{} said {line:?} for {word}", self.name)).trim().to_owned()
    }

    /// Everything it still said before it ended.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        rest
    }

    /// Tells it a line.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Stops it; it has stopped when this returns.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let status = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{}: {status:?}", self.name);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills it; it is dead and waited for when this returns.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its input and waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        drop(self.input.take());
        self.child.wait().unwrap()
    }

    /// Closes its input; it must end well.
    pub fn end_well(&mut self) {
        let status = self.end();
        assert!(status.success(), "{}: {status}", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also when the test failed; a stopped process is killed too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
