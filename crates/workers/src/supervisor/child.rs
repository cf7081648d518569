//! One worker process, as its supervisor sees it.

use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use commonhold_os::process::Pidfd;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::error::{PoolError, Reason};
use crate::pool::PoolOptions;
use crate::records::TaskId;
use crate::worker::{ORDER, Order};

/// The longest line of a worker's output that is kept.
const LINE_BYTES: usize = 2000;

/// A worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) slot: u32,
    child: Child,
    pidfd: Pidfd,
    output: Option<PipeReader>,
    line: Vec<u8>,
    last_line: String,
    /// Told to stop.
    pub(super) stops: bool,
    /// Killed for this task, for this reason.
    pub(super) killed_for: Option<(TaskId, Reason)>,
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
                return Err(commonhold_runtime::Error::from(e).into());
            }
        };
        Ok(Self {
            slot: order.slot,
            child,
            pidfd,
            output: Some(output),
            line: Vec::new(),
            last_line: String::new(),
            stops: false,
            killed_for: None,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.pidfd.as_fd()).chain(self.output.as_ref().map(AsFd::as_fd))
    }

    pub(super) fn kill(&mut self) {
        // It was not waited for, so the number is its own.
        let _ = self.child.kill();
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Passes on what it wrote.
    pub(super) fn read_output(&mut self) {
        let mut bytes = [0; 4096];
        while let Some(output) = &mut self.output {
            match output.read(&mut bytes) {
                Ok(0) => self.output = None,
                Ok(length) => {
                    for byte in bytes.iter().take(length) {
                        self.byte(*byte);
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if self.output.is_none() {
            self.end_line();
        }
    }

    fn byte(&mut self, byte: u8) {
        if byte == b'\n' || self.line.len() >= LINE_BYTES {
            self.end_line();
        }
        if byte != b'\n' {
            self.line.push(byte);
        }
    }

    fn end_line(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stderr(), "worker {}: {line}", self.pid());
        // The lines of a backtrace say less than the message before them.
        let is_trace = line.starts_with([' ', '\t'])
            || ["note: ", "stack backtrace:"].iter().any(|start| line.starts_with(start));
        if !is_trace && !line.trim().is_empty() {
            self.last_line = line;
        }
    }

    /// How it ended, in words that go on "its worker …".
    pub(super) fn how(&self, status: ExitStatus) -> String {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => {
                let name = nix::sys::signal::Signal::try_from(signal).map_or("", |s| s.as_str());
                format!("was killed by signal {signal} ({name})")
            }
            (None, None) => "ended".to_owned(),
        };
        if self.last_line.is_empty() { how } else { format!("{how}: {}", self.last_line) }
    }
}
