//! Forked processes: children of a check, and several processes that share its work.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, getpid, getppid};

use crate::{Failure, Outcome, watch};

/// Starts a process that does `work` and ends: with 0, or with 1 and a line on standard error. It dies with this one.
pub(crate) fn child(work: impl FnOnce() -> Result<(), Failure>) -> Result<Pid, Failure> {
    let parent = getpid();
    // SAFETY: a check has one thread when it forks, so no lock is held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let done = catch_unwind(AssertUnwindSafe(|| bound(parent).and_then(|()| work())));
            let done = done.unwrap_or_else(|_| Err("it panicked".into()));
            if let Err(e) = &done {
                eprintln!("child {}: {e}", std::process::id());
            }
            // No destructors: what was inherited is the parent's.
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
    }
}

/// Binds this process's life to its parent's.
fn bound(parent: Pid) -> Result<(), Failure> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // 0: the parent is in an outer pid namespace.
    if getppid() != parent && getppid() != Pid::from_raw(0) {
        return Err("its parent has gone".into());
    }
    Ok(())
}

/// Kills a child and waits for its end.
pub(crate) fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

/// From now on this process, and those that it starts, run on one of its processors: the `number`-th in turn.
///
/// Who steps a child and the child take turns; on two processors each step would wake the other one, which takes five
/// times as long.
pub(crate) fn keep_together(processors: &CpuSet, number: usize) -> Result<(), Failure> {
    let all = (0..CpuSet::count()).filter(|n| processors.is_set(*n).unwrap_or(false));
    let count = all.clone().count();
    let mut one = CpuSet::new();
    one.set(all.cycle().nth(number % count.max(1)).ok_or("no processor")?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

/// The processors that this process may use.
pub(crate) fn processors() -> Result<CpuSet, Failure> {
    Ok(sched_getaffinity(Pid::from_raw(0))?)
}

/// Shares the work between `count` processes, each on one of the `processors`: each is told its number; their
/// outcomes together.
pub(crate) fn share(
    count: usize,
    processors: &CpuSet,
    work: impl Fn(usize) -> Result<Outcome, Failure>,
) -> Result<Outcome, Failure> {
    let mut workers = Vec::new();
    for number in 0..count {
        let (reader, writer) = nix::unistd::pipe()?;
        let pid = child(|| {
            watch::say_on(writer.as_raw_fd());
            let done = keep_together(processors, number).and_then(|()| work(number));
            let outcome = done.unwrap_or_else(|error| {
                let mut failed = Outcome::default();
                failed.violation(format!("the check itself failed: {error}"));
                failed
            });
            let text = serde_json::to_string(&outcome).unwrap_or_default();
            Ok(File::from(writer).write_all(text.as_bytes())?)
        })?;
        workers.push((pid, reader));
    }
    let mut all = Outcome::default();
    for (pid, reader) in workers {
        all.add(hear(pid, reader)?);
    }
    Ok(all)
}

fn hear(pid: Pid, reader: OwnedFd) -> Result<Outcome, Failure> {
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text)?;
    let status = waitpid(pid, None)?;
    // Who hangs or dies may have left a line that says at what.
    let said = text.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(said).unwrap_or_else(|_| {
        let mut lost = Outcome::default();
        lost.violation(format!("a process of the check ended with {status:?}: {said}"));
        lost
    }))
}
