//! One worker process, as its supervisor sees it.

use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use commonhold_os::process::Pidfd;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::sleep;
use super::voice::Voice;
use crate::error::{PoolError, Reason};
use crate::pool::PoolOptions;
use crate::records::TaskId;
use crate::worker::{ORDER, Order};

/// The longest line of a worker's output that is kept.
const LINE_BYTES: usize = 2000;
/// So much of one worker's output is read before the others and the tasks are looked at again.
const READ_BYTES: usize = 64 * 1024;

/// How long one that is dropped is waited for.
const DROPPED: Duration = Duration::from_secs(1);

/// A worker process. When this is dropped before its end was seen, it is killed.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) slot: u32,
    pub(super) since: Instant,
    child: Child,
    pidfd: Pidfd,
    output: Option<PipeReader>,
    line: Vec<u8>,
    last_line: String,
    /// Told to stop.
    pub(super) stops: bool,
    /// Killed for this task, for this reason.
    pub(super) killed_for: Option<(TaskId, Reason)>,
    has_ended: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = self.pidfd.kill();
            // Not for ever: one that hangs in the kernel dies when that lets it go.
            sleep(&[self.pidfd.as_fd()], Instant::now() + DROPPED);
            let _ = self.child.try_wait();
        }
    }
}

impl Worker {
    pub(super) fn start(options: &PoolOptions, order: &Order) -> Result<Self, PoolError> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => "/proc/self/exe".into(),
        };
        let error = |what| move |error: std::io::Error| PoolError::System { what, error };
        let text = serde_json::to_string(order)
            .map_err(|e| error("write a worker's order")(std::io::Error::other(e)))?;
        let (output, input) =
            std::io::pipe().map_err(error("make a pipe for a worker's output"))?;
        let flags = fcntl(&output, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        flags
            .and_then(|flags| fcntl(&output, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)))
            .map_err(|e| error("read a worker's output")(e.into()))?;
        let both = input.try_clone().map_err(error("make a pipe for a worker's output"))?;
        let spawned = Command::new(&program)
            .args(&options.arguments)
            .env(ORDER, text)
            // A terminal's signals are for who looks at it: the supervisor ends his workers.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(both)
            .stderr(input)
            .spawn();
        let mut child = spawned
            .map_err(|error| PoolError::Spawn { program: program.display().to_string(), error })?;
        let pidfd = match Pidfd::of_child(child.id()) {
            Ok(pidfd) => pidfd,
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error("have a descriptor of a worker")(std::io::Error::other(e)));
            }
        };
        Ok(Self {
            slot: order.slot,
            since: Instant::now(),
            child,
            pidfd,
            output: Some(output),
            line: Vec::new(),
            last_line: String::new(),
            stops: false,
            killed_for: None,
            has_ended: false,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.pidfd.as_fd()).chain(self.output.as_ref().map(AsFd::as_fd))
    }

    pub(super) fn kill(&self) {
        // A worker that made itself another user's ends when its supervisor does.
        let _ = self.pidfd.kill();
    }

    /// How it ended, if it has: the inner one is none when somebody else waited for it. What it started, and what did not
    /// leave its process group, is killed.
    pub(super) fn ended(&mut self) -> Option<Option<ExitStatus>> {
        if !self.pidfd.has_ended() {
            return None;
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        if !self.has_ended && waitid(Id::PIDFd(self.pidfd.as_fd()), flags).is_ok() {
            // Nobody has waited for it yet: the number of the group is nobody else's.
            let group = i32::try_from(self.child.id()).map(Pid::from_raw);
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
        }
        self.has_ended = true;
        Some(self.child.try_wait().ok().flatten())
    }

    /// Passes on what it wrote, a part at a time.
    pub(super) fn read_output(&mut self, voice: &mut Voice) {
        let mut bytes = [0; 4096];
        for _ in 0..READ_BYTES / bytes.len() {
            let Some(output) = &mut self.output else { return };
            match output.read(&mut bytes) {
                Ok(0) => {
                    self.output = None;
                    return self.end_line(voice);
                }
                Ok(length) => {
                    bytes.iter().take(length).for_each(|byte| self.byte(*byte, voice));
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn byte(&mut self, byte: u8, voice: &mut Voice) {
        if byte == b'\n' || self.line.len() >= LINE_BYTES {
            self.end_line(voice);
        }
        if byte != b'\n' {
            self.line.push(byte);
        }
    }

    /// What it wrote last may have no end of line.
    pub(super) fn end_line(&mut self, voice: &mut Voice) {
        if self.line.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        voice.say(format!("worker {}: {line}", self.pid()));
        // The lines of a backtrace say less than the message before them.
        let is_trace = line.starts_with([' ', '\t'])
            || ["note: ", "stack backtrace:"].iter().any(|start| line.starts_with(start));
        if !is_trace && !line.trim().is_empty() {
            self.last_line = line;
        }
    }

    /// How it ended, in words that go on "its worker …".
    pub(super) fn how(&self, status: Option<ExitStatus>) -> String {
        let how = match status.map_or((None, None), |s| (s.code(), s.signal())) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => {
                let name = Signal::try_from(signal).map_or("", |s| s.as_str());
                format!("was killed by signal {signal} ({name})")
            }
            (None, None) => "ended, and somebody else was told how".to_owned(),
        };
        if self.last_line.is_empty() { how } else { format!("{how}: {}", self.last_line) }
    }
}
