//! A forked child whose system calls are seen one by one, and can be made to fail, to fall short, or to be its last.
//!
//! `PTRACE_SYSCALL` stops the child before and after each system call. A call is kept from happening by making its
//! number invalid before it, and its result is set behind it, so the child sees exactly what a failing kernel would say.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Failure, fork};

/// A system call: its number and arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) number: i64,
    pub(crate) args: [u64; 6],
}

/// What is done with a call before it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It happens.
    Go,
    /// The child is killed before it.
    Kill,
    /// The child is killed behind it.
    KillBehind,
    /// It does not happen, and the child is told this error.
    Fail(i32),
    /// A write writes half.
    Short,
    /// It does not happen, and the child is told that it did: of a write everything.
    Pretend,
}

/// Looks at the calls of a child.
pub(crate) trait Watcher {
    /// Before a call: what is done with it.
    fn before(&mut self, child: &Child, call: &Call) -> Action;
    /// Behind a call: what the child is told.
    fn behind(&mut self, child: &Child, call: &Call, result: i64);
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was killed as the watcher said.
    Killed,
    /// It did all that it should.
    Well,
    /// Something else.
    Badly,
}

/// A stopped child of this process; killed when dropped.
pub(crate) struct Child {
    pid: Pid,
    memory: Option<File>,
    there: bool,
}

/// Forks a child that does `work`, and ends with whether it says that all was well.
pub(crate) fn fork_child(work: impl FnOnce() -> bool) -> Result<Pid, Failure> {
    fork::child(|| if work() { Ok(()) } else { Err("not all was well".into()) })
}

impl Child {
    /// Forks a child that does `work` under this process's eyes.
    pub(crate) fn start(work: impl FnOnce() -> bool) -> Result<Self, Failure> {
        let pid =
            fork_child(|| ptrace::traceme().is_ok() && raise(Signal::SIGSTOP).is_ok() && work())?;
        let mut child = Self { pid, memory: None, there: true };
        match waitpid(pid, None)? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            other => {
                child.there = false;
                return Err(format!("a child that should be traced: {other:?}").into());
            }
        }
        ptrace::setoptions(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL)?;
        child.memory = Some(File::open(format!("/proc/{pid}/mem"))?);
        Ok(child)
    }

    /// Lets it run to its end.
    pub(crate) fn run(&mut self, watcher: &mut dyn Watcher) -> Result<End, Failure> {
        let mut within: Option<(Call, Action)> = None;
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal.take())?;
            match waitpid(self.pid, None)? {
                WaitStatus::PtraceSyscall(_) => {
                    within = match within {
                        None => Some(self.before(watcher)?),
                        Some((call, action)) => {
                            self.behind(watcher, &call, action)?;
                            None
                        }
                    };
                    if !self.there {
                        return Ok(End::Killed);
                    }
                }
                WaitStatus::Stopped(_, other) => signal = Some(other),
                WaitStatus::Exited(_, code) => {
                    self.there = false;
                    return Ok(if code == 0 { End::Well } else { End::Badly });
                }
                WaitStatus::Signaled(..) => {
                    self.there = false;
                    return Ok(End::Badly);
                }
                _ => {}
            }
        }
    }

    fn before(&mut self, watcher: &mut dyn Watcher) -> Result<(Call, Action), Failure> {
        let mut regs = ptrace::getregs(self.pid)?;
        let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        let call = Call { number: regs.orig_rax.cast_signed(), args };
        let action = watcher.before(self, &call);
        match action {
            Action::Go | Action::KillBehind => {}
            Action::Kill => self.kill()?,
            Action::Fail(_) | Action::Pretend => {
                regs.orig_rax = u64::MAX;
                ptrace::setregs(self.pid, regs)?;
            }
            Action::Short => {
                regs.rdx = regs.rdx.div_ceil(2);
                ptrace::setregs(self.pid, regs)?;
            }
        }
        Ok((call, action))
    }

    fn behind(
        &mut self,
        watcher: &mut dyn Watcher,
        call: &Call,
        action: Action,
    ) -> Result<(), Failure> {
        let mut regs = ptrace::getregs(self.pid)?;
        let told = match action {
            Action::Fail(error) => Some(-i64::from(error)),
            Action::Pretend if is_write(call) => Some(call.args[2].cast_signed()),
            Action::Pretend => Some(0),
            _ => None,
        };
        if let Some(told) = told {
            regs.rax = told.cast_unsigned();
            ptrace::setregs(self.pid, regs)?;
        }
        watcher.behind(self, call, regs.rax.cast_signed());
        if action == Action::KillBehind {
            self.kill()?;
        }
        Ok(())
    }

    /// Kills it; it is dead when this returns.
    fn kill(&mut self) -> Result<(), Failure> {
        kill(self.pid, Signal::SIGKILL)?;
        while !matches!(waitpid(self.pid, None)?, WaitStatus::Signaled(..) | WaitStatus::Exited(..))
        {
        }
        self.there = false;
        Ok(())
    }

    /// The file behind one of its descriptors.
    pub(crate) fn file(&self, descriptor: u64) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", self.pid, descriptor.cast_signed() as i32))
    }

    /// Bytes of its memory.
    pub(crate) fn bytes(&self, at: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        let read = self.memory.as_ref().map(|m| m.read_exact_at(&mut bytes, at));
        if !matches!(read, Some(Ok(()))) {
            bytes.clear();
        }
        bytes
    }

    /// A text in its memory that ends with NUL.
    pub(crate) fn text(&self, at: u64) -> String {
        let mut text = Vec::new();
        let mut next = at;
        while text.len() < libc::PATH_MAX as usize {
            match self.bytes(next, 1).first() {
                None | Some(0) => break,
                Some(byte) => text.push(*byte),
            }
            next += 1;
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.there {
            let _ = self.kill();
        }
    }
}

/// Whether it writes the bytes at its second argument, as many as its third says.
pub(crate) fn is_write(call: &Call) -> bool {
    matches!(call.number, libc::SYS_write | libc::SYS_pwrite64)
}
