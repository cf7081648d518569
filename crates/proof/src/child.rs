//! Forked children of a check: they die with it, run nothing of its destructors, and are killed by their pid.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use commonhold_os::futex;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Failure, fork};

/// Who says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(10);

/// Words that this process and those that it forks share.
pub(crate) fn shared_words(count: usize) -> Result<&'static [AtomicU64], Failure> {
    // SAFETY: a fresh anonymous mapping, at an address of the kernel's choice; checked below.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            count * 8,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: page-aligned, zeroed, never unmapped, and only ever used as these atomics.
    Ok(unsafe { std::slice::from_raw_parts(memory.cast::<AtomicU64>(), count) })
}

/// What a check and its children tell each other: numbers that rise.
#[derive(Clone, Copy)]
pub(crate) struct Post(&'static [AtomicU64]);

impl Post {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self(shared_words(64)?))
    }

    /// What word `at` says.
    pub(crate) fn read(&self, at: usize) -> u64 {
        self.0.get(at).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// Puts a number into word `at`.
    pub(crate) fn tell(&self, at: usize, value: u64) {
        if let Some(word) = self.0.get(at) {
            word.store(value, Ordering::SeqCst);
            futex::wake_all(word);
        }
    }

    /// Lets `time` pass, of which nothing is expected.
    pub(crate) fn doze(&self, time: Duration) {
        if let Some(word) = self.0.last() {
            futex::wait(word, 0, time);
        }
    }

    /// Waits until word `at` has come to `value`; too long is an error.
    pub(crate) fn hear(&self, at: usize, value: u64) -> Result<(), Failure> {
        let start = Instant::now();
        while self.read(at) < value {
            if start.elapsed() > SILENCE {
                return Err(format!("nobody says {value} in word {at}").into());
            }
            if let Some(word) = self.0.get(at) {
                futex::wait(word, self.read(at) as u32, Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// A forked child; killed and waited for when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    ended: bool,
}

impl Child {
    /// Forks a child that does `work` and ends: with 0, or with 1 and a line on standard error.
    pub(crate) fn start(work: impl FnOnce() -> Result<(), Failure>) -> Result<Self, Failure> {
        Ok(Self { pid: fork::child(work)?, ended: false })
    }

    /// The same, in a pid namespace of its own; with `own_proc` also with its own `/proc`. What is returned is its
    /// supervisor, which stays outside and ends as it does.
    pub(crate) fn start_apart(
        own_proc: bool,
        work: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        Self::start(|| {
            let spaces = if own_proc { libc::CLONE_NEWNS } else { 0 } | libc::CLONE_NEWPID;
            // SAFETY: `unshare(flags)` takes a number.
            if unsafe { libc::unshare(spaces) } != 0 {
                return Err(format!("unshare: {}", std::io::Error::last_os_error()).into());
            }
            let mut inner = Self::start(|| {
                if own_proc {
                    mount_proc()?;
                }
                work()
            })?;
            match inner.wait()? {
                Some(0) => Ok(()),
                // Killed, as who killed it knows.
                // SAFETY: ends the process.
                None => unsafe { libc::_exit(1) },
                other => Err(format!("the process in the namespace ended with {other:?}").into()),
            }
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill(self.pid, signal)?)
    }

    /// Kills it; it is a zombie when this returns, or already was.
    pub(crate) fn kill_unreaped(&self) -> Result<(), Failure> {
        use nix::sys::wait::{Id, waitid};
        self.signal(Signal::SIGKILL)?;
        waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
        Ok(())
    }

    /// Kills it and waits for it; how it ended, if by itself.
    pub(crate) fn kill(&mut self) -> Result<Option<i32>, Failure> {
        self.signal(Signal::SIGKILL)?;
        self.wait()
    }

    /// Stops it; it has stopped, or ended, when this returns.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGSTOP)?;
        // An end is left to be waited for.
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(self.pid), flags)?;
        Ok(())
    }

    /// Waits for its end: its exit code, or none when a signal ended it.
    pub(crate) fn wait(&mut self) -> Result<Option<i32>, Failure> {
        loop {
            match waitpid(self.pid, None)? {
                WaitStatus::Exited(_, code) => {
                    self.ended = true;
                    return Ok(Some(code));
                }
                WaitStatus::Signaled(..) => {
                    self.ended = true;
                    return Ok(None);
                }
                _ => {}
            }
        }
    }

    /// Its end, if it has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool, Failure> {
        if !self.ended {
            let status = waitpid(self.pid, Some(WaitPidFlag::WNOHANG))?;
            self.ended = matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        }
        Ok(self.ended)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.kill();
        }
    }
}

/// Mounts a `/proc` of this process's pid namespace, in its own mount namespace.
fn mount_proc() -> Result<(), Failure> {
    let none = std::ptr::null();
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: C strings that live over the calls; what may be null is.
    let done = unsafe {
        libc::mount(c"none".as_ptr(), c"/".as_ptr(), none, flags, none.cast()) == 0
            && libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, none.cast())
                == 0
    };
    if done { Ok(()) } else { Err(format!("mount: {}", std::io::Error::last_os_error()).into()) }
}
