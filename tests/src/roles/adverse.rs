//! Pools in surroundings that do them harm: children that somebody else waits for, forks, too few descriptors.

use std::process::exit;
use std::time::Duration;

use commonhold::workers::{Capacity, Pool, PoolOptions, Task, TaskError, configure};
use commonhold::{Config, Runtime};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, alarm, dup2_stderr};

use super::{Ended, say};
use crate::fork::fork;
use crate::stage::LIMIT;
use crate::tasks::kinds;

/// A child that is not done by then hangs.
const ALARM_S: u32 = 20;

fn open(segment: &str) -> Result<Runtime, Box<dyn std::error::Error>> {
    let capacity = Capacity { tasks: 64, pages: 64, workers: 8 };
    let config = Config::named(segment).store("none").participants(64);
    Ok(Runtime::open(configure(config, &capacity))?)
}

/// Nobody waits for this process's children but the kernel: says how a task ended whose worker was killed, and what
/// one gives that came after it.
pub(super) fn reaped(segment: &str) -> Ended {
    // SAFETY: no handler is installed; nothing in this process relies on the signal.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    let runtime = open(segment)?;
    let pool = Pool::start(&runtime, kinds(), PoolOptions::new().workers(1..=1))?;
    let task = pool.submit(Task::new("kill", b"").attempts(1))?;
    match task.wait(LIMIT) {
        Err(TaskError::Failed { reason, .. }) => say(&format!("failed {}", reason.label())),
        other => say(&format!("{other:?}")),
    }
    let after = pool.submit(Task::new("double", b"21"))?.wait(LIMIT)?;
    say(&String::from_utf8_lossy(&after));
    Ok(pool.stop(LIMIT)?)
}

/// A child that inherits a pool and a task drops both; then says what the task gave its submitter.
pub(super) fn inherited(segment: &str) -> Ended {
    let runtime = open(segment)?;
    let pool = Pool::start(&runtime, kinds(), PoolOptions::new().workers(1..=1))?;
    let task = pool.submit(Task::new("double", b"21"))?;
    let Some(child) = fork()? else {
        alarm::set(ALARM_S);
        drop(task);
        drop(pool);
        exit(0);
    };
    let ended = waitpid(child, None)?;
    say(if matches!(ended, WaitStatus::Exited(_, 0)) { "child ended" } else { "child hangs" });
    say(&format!("{:?}", task.wait(LIMIT).map_err(|e| e.to_string())));
    Ok(pool.stop(LIMIT)?)
}

/// Starts pools of four workers with ever more descriptors until there are enough; a start that fails leaves no child.
pub(super) fn few_descriptors(segment: &str) -> Ended {
    let runtime = open(segment)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let open = std::fs::read_dir("/proc/self/fd")?.count() as u64;
    let (mut failed, mut left) = (0, 0);
    for more in 0..100 {
        setrlimit(Resource::RLIMIT_NOFILE, (open + more).min(hard), hard)?;
        let started = Pool::start(&runtime, kinds(), PoolOptions::new().workers(4..=4));
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        match started {
            Ok(pool) => {
                say(&format!("failed {failed} left {left}"));
                let task = pool.submit(Task::new("double", b"21"))?;
                say(&format!("{:?}", task.wait(LIMIT).map_err(|e| e.to_string())));
                return Ok(pool.stop(LIMIT)?);
            }
            Err(_) => failed += 1,
        }
        // Dead or alive: nobody is left to wait for a child that is still there.
        let any = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG));
        left += u32::from(any != Err(Errno::ECHILD));
    }
    Err("no number of descriptors is enough".into())
}

/// A worker writes without end; says how that task ended.
pub(super) fn flood(segment: &str) -> Ended {
    // What is passed on is nobody's to read.
    dup2_stderr(std::fs::File::create("/dev/null")?)?;
    let runtime = open(segment)?;
    let pool = Pool::start(&runtime, kinds(), PoolOptions::new().workers(2..=2))?;
    let task = Task::new("flood", b"").attempts(1).deadline(Duration::from_millis(300));
    match pool.submit(task)?.wait(LIMIT) {
        Err(TaskError::Failed { reason, .. }) => say(&format!("failed {}", reason.label())),
        other => say(&format!("{other:?}")),
    }
    Ok(pool.stop(LIMIT)?)
}
