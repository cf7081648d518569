//! Running a command while holding a file's lock.
//!
//! The command inherits the descriptor that the kernel's lock belongs to. So the lock is held by whoever lives longer:
//! when this process is killed, the lock stays until the command, and what it started, have ended. (Where a file system
//! has no locks of the kernel, it ends with this process.)

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus};

use commonhold::file::SharedFile;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::failure::{Done, Failure};
use crate::output::note;

/// What is passed on to the command.
const PASSED_ON: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];
/// `si_code` of a signal that the terminal sent: the command has got it, too.
const SI_KERNEL: i32 = 0x80;
/// What shells say of a command that cannot be run, and of one that is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The first argument of this program as it becomes the command.
pub(crate) const UNBLOCKED: &str = "--become-unblocked";

fn set() -> SigSet {
    PASSED_ON.into_iter().chain([Signal::SIGCHLD]).collect()
}

/// Becomes the command; only what goes wrong comes back.
pub(crate) fn become_command(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let program = words.next().unwrap_or_default();
    let unblocked = set().thread_unblock();
    let error = match unblocked {
        Ok(()) => Command::new(&program).args(words).exec(),
        Err(error) => error.into(),
    };
    note(format_args!("commonhold: cannot run {}: {error}", program.display()));
    let missing = error.kind() == ErrorKind::NotFound;
    ExitCode::from(if missing { NOT_FOUND } else { CANNOT_RUN })
}

/// Takes the lock, runs the command to its end, and ends as it did.
pub(super) fn run(file: &SharedFile, command: &[OsString]) -> Done {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::usage("give a command behind --"));
    };
    let lock = file.lock()?;
    fcntl(lock.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    // Before the command is there: none of its signals is missed. It would inherit what is blocked, so it is started
    // by way of this program, which unblocks it.
    set().thread_block()?;
    let signals = SignalFd::with_flags(&set(), SfdFlags::SFD_CLOEXEC)?;
    let this = std::env::current_exe()?;
    let mut child = Command::new(this).arg(UNBLOCKED).arg(program).args(arguments).spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    loop {
        if let Some(status) = child.try_wait()? {
            drop(lock);
            return ended(status);
        }
        let info = match signals.read_signal() {
            Ok(Some(info)) => info,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
        if let Some(signal) = signal.filter(|signal| *signal != Signal::SIGCHLD)
            && info.ssi_code != SI_KERNEL
        {
            // It was not waited for yet, so the number is still its own.
            let _ = kill(pid, signal);
        }
    }
}

fn ended(status: ExitStatus) -> Done {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Ok(()),
        code => Err(Failure::Exit(code.unwrap_or(1))),
    }
}
