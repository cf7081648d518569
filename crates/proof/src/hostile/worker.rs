//! Workers: forked processes that make injection after injection, watched from outside. One that dies or hangs is a
//! violation, and another goes on behind the injection. An endless loop is told by the processor time that it takes:
//! on a busy machine anything may take long.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commonhold_os::clock::monotonic_nanos;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

use crate::{Failure, Outcome};

/// More memory than any operation on a small segment needs.
const MEMORY: u64 = 512 << 20;
/// No injection waits so long for anything.
const SLEEPS: Duration = Duration::from_secs(100);
/// With so many workers gone the rest tells nothing new.
const GONE_MAX: usize = 3;
/// A worker that found so much stops.
const WRONG_MAX: usize = 10;

/// What a worker shares with who watches it.
#[derive(Debug)]
pub(super) struct Progress {
    number: AtomicU64,
    started: AtomicU64,
    /// What the worker had taken of the processor when it started.
    taken: AtomicU64,
    step: AtomicU64,
    done: AtomicU64,
}

impl Progress {
    /// Says what comes next.
    pub(super) fn step(&self, step: usize) {
        self.step.store(step as u64, Ordering::SeqCst);
    }
}

/// A series of injections: `make` makes the one of a number, and says what was wrong.
pub(super) struct Series<'a> {
    pub(super) name: &'static str,
    pub(super) folder: &'a Path,
    pub(super) numbers: std::ops::Range<u64>,
    pub(super) workers: u64,
    /// The most processor time of one injection.
    pub(super) limit: Duration,
    pub(super) steps: &'static [&'static str],
    pub(super) make: &'a dyn Fn(u64, u64, &Progress) -> Vec<String>,
    /// Describes an injection whose maker is gone.
    pub(super) about: &'a dyn Fn(u64) -> String,
}

/// What panicked last, anywhere in this process.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Forks: the child's process id in the parent, `None` in the child, which dies with its parent.
pub(super) fn fork() -> Result<Option<Pid>, Failure> {
    // SAFETY: the checks fork while they have one thread.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => {
            // SAFETY: a plain system call.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(None)
        }
    }
}

/// Waits for a child's end.
pub(super) fn reap(child: Pid) -> Option<WaitStatus> {
    waitpid(child, None).ok()
}

/// What a child, or this process, has taken of the processor.
fn processor_nanos(child: Option<Pid>) -> u64 {
    let mut clock = libc::CLOCK_PROCESS_CPUTIME_ID;
    if let Some(child) = child {
        // SAFETY: a plain question to the system; `clock` lives over the call.
        unsafe { libc::clock_getcpuclockid(child.as_raw(), &raw mut clock) };
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Memory that is shared with the children.
pub(super) fn shared<T>() -> Result<&'static T, Failure> {
    // SAFETY: a fresh anonymous mapping, zeroed, never unmapped; `T` is made of atomics, for which zero is valid, and
    // smaller than a page.
    unsafe {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0);
        if page == libc::MAP_FAILED || size_of::<T>() > 4096 {
            return Err("no shared page".into());
        }
        Ok(&*page.cast::<T>())
    }
}

impl Series<'_> {
    /// Makes all injections.
    pub(super) fn run(&self) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        let mut crew = Vec::new();
        for worker in 0..self.workers {
            let progress = shared::<Progress>()?;
            let from = self.numbers.start + worker;
            crew.push((worker, progress, self.start(worker, from, progress)?));
        }
        while !crew.is_empty() && outcome.violations.len() < GONE_MAX {
            std::thread::sleep(Duration::from_millis(5));
            let mut left = Vec::new();
            for (worker, progress, child) in crew {
                let Some(what) = self.look(progress, child) else {
                    left.push((worker, progress, child));
                    continue;
                };
                if progress.done.load(Ordering::SeqCst) == 1 {
                    continue;
                }
                let number = progress.number.load(Ordering::SeqCst);
                let step = progress.step.load(Ordering::SeqCst) as usize;
                let step = self.steps.get(step).copied().unwrap_or("?");
                let about = (self.about)(number);
                outcome.violation(format!("{} {number}: {what} in {step}; {about}", self.name));
                let next = number + self.workers;
                left.push((worker, progress, self.start(worker, next, progress)?));
            }
            crew = left;
        }
        for (_, _, child) in crew {
            let _ = kill(child, Signal::SIGKILL);
            reap(child);
        }
        for worker in 0..self.workers {
            let said = std::fs::read_to_string(self.said(worker)).unwrap_or_default();
            said.lines().for_each(|line| outcome.violation(line));
        }
        outcome.faults = self.numbers.end - self.numbers.start;
        Ok(outcome)
    }

    fn said(&self, worker: u64) -> PathBuf {
        self.folder.join(format!("{}-{worker}.said", self.name))
    }

    /// How the worker ended, if it did or had to.
    fn look(&self, progress: &Progress, child: Pid) -> Option<String> {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(WaitStatus::Exited(_, 0)) if progress.done.load(Ordering::SeqCst) == 1 => {
                return Some(String::new());
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => return Some(format!("killed by {signal}")),
            other => return Some(format!("ended: {other:?}")),
        }
        let started = progress.started.load(Ordering::SeqCst);
        let took = Duration::from_nanos(monotonic_nanos().saturating_sub(started));
        let taken = progress.taken.load(Ordering::SeqCst);
        let taken = Duration::from_nanos(processor_nanos(Some(child)).saturating_sub(taken));
        if taken <= self.limit && took <= SLEEPS {
            return None;
        }
        let _ = kill(child, Signal::SIGKILL);
        reap(child);
        Some(format!("no end after {taken:?} of the processor, {took:?} in all"))
    }

    fn start(&self, worker: u64, from: u64, progress: &'static Progress) -> Result<Pid, Failure> {
        progress.started.store(monotonic_nanos(), Ordering::SeqCst);
        progress.number.store(from, Ordering::SeqCst);
        progress.taken.store(0, Ordering::SeqCst);
        if let Some(child) = fork()? {
            return Ok(child);
        }
        let _ = setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY);
        std::panic::set_hook(Box::new(|info| {
            if let Ok(mut panic) = PANIC.lock() {
                *panic = Some(info.to_string().replace('\n', " "));
            }
        }));
        let mut said = OpenOptions::new().create(true).append(true).open(self.said(worker))?;
        let (mut number, mut found) = (from, 0);
        while number < self.numbers.end && found < WRONG_MAX {
            progress.number.store(number, Ordering::SeqCst);
            progress.started.store(monotonic_nanos(), Ordering::SeqCst);
            progress.taken.store(processor_nanos(None), Ordering::SeqCst);
            let made = catch_unwind(AssertUnwindSafe(|| (self.make)(number, worker, progress)));
            let mut wrong = made.unwrap_or_default();
            wrong.extend(PANIC.lock().ok().and_then(|mut p| p.take()));
            found += wrong.len();
            for what in wrong {
                writeln!(said, "{} {number}: {what}; {}", self.name, (self.about)(number))?;
            }
            number += self.workers;
        }
        progress.done.store(1, Ordering::SeqCst);
        // SAFETY: ends the process; nothing of the parent's is run or written once more.
        unsafe { libc::_exit(0) }
    }
}
