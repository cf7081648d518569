//! Supervisors and submitters.

use std::time::Duration;

use commonhold::Runtime;
use commonhold::workers::{Pool, PoolError, PoolOptions, Task, TaskError};
use commonhold_testing::process::threads;

use super::{Ended, attach, say, told};
use crate::stage::LIMIT;
use crate::tasks::kinds;

/// Supervises so many workers until it is told anything.
pub(super) fn supervise(segment: &str, args: &[&str]) -> Ended {
    let [workers] = args[..] else { return Err("supervise: arguments".into()) };
    let workers = workers.parse()?;
    let runtime = attach(segment, true)?;
    let pool = Pool::start(&runtime, kinds(), PoolOptions::new().workers(workers..=workers));
    let pool = match pool {
        Ok(pool) => pool,
        Err(e) => {
            say(&format!("refused {e}"));
            return Ok(());
        }
    };
    say("ready");
    told();
    pool.stop(LIMIT)?;
    Ok(())
}

/// Supervises so many workers when nobody else does, until it is told anything; says `supervises` or `stands` at first.
pub(super) fn stand_by(segment: &str, args: &[&str]) -> Ended {
    let [workers] = args[..] else { return Err("stand-by: arguments".into()) };
    let workers = workers.parse()?;
    let runtime = attach(segment, true)?;
    let options = PoolOptions::new().workers(workers..=workers);
    let pool = Pool::stand_by(&runtime, kinds(), options)?;
    say(if pool.supervises() { "supervises" } else { "stands" });
    told();
    pool.stop(LIMIT)?;
    Ok(())
}

/// Submits tasks (kind, arguments, kind, arguments …), says their ids, and ends as if killed: it gives up nothing.
pub(super) fn leave(segment: &str, args: &[&str]) -> Ended {
    let pool = Pool::attach(&attach(segment, false)?, kinds())?;
    let mut ids = Vec::new();
    for task in args.as_chunks::<2>().0 {
        let task = pool.submit(Task::new(task[0], task[1]))?;
        ids.push(task.id().to_string());
        std::mem::forget(task);
    }
    say(&format!("ids {}", ids.join(" ")));
    Ok(())
}

/// Tries to submit a task with so many bytes for ever.
pub(super) fn press(segment: &str, args: &[&str]) -> Ended {
    let [bytes] = args[..] else { return Err("press: arguments".into()) };
    let pool = Pool::attach(&attach(segment, false)?, kinds())?;
    let bytes = vec![1; bytes.parse()?];
    loop {
        match pool.submit(Task::new("echo", &bytes)) {
            Err(TaskError::Full { .. }) => {}
            submitted => drop(submitted?),
        }
    }
}

/// Submits so many tasks, a few at a time, and looks at each result.
pub(super) fn submit(segment: &str, args: &[&str]) -> Ended {
    let [count, bytes] = args[..] else { return Err("submit: arguments".into()) };
    let runtime = attach(segment, false)?;
    say(&format!("did {}", submit_some(&runtime, count.parse()?, bytes.parse()?)?));
    Ok(())
}

/// Submits `count` tasks through a pool of its own, with less than `bytes` bytes each, and looks at each result; how many
/// were right.
///
/// # Errors
/// The runtime's; a wrong result.
pub fn submit_some(
    runtime: &Runtime,
    count: u64,
    bytes: u64,
) -> Result<u64, Box<dyn std::error::Error>> {
    let pool = Pool::attach(runtime, kinds())?;
    let (mut sent, mut right) = (std::collections::VecDeque::new(), 0);
    for n in 0..count {
        let bytes: Vec<u8> = (0..(n * 9_973 + 300) % bytes).map(|i| (i ^ n) as u8).collect();
        let task = loop {
            match pool.submit(Task::new("echo", &bytes).attempts(1000)) {
                Err(TaskError::Full { .. }) => right += take(sent.pop_front())?,
                submitted => break submitted?,
            }
        };
        sent.push_back((task, bytes));
        if sent.len() > 4 {
            right += take(sent.pop_front())?;
        }
    }
    while !sent.is_empty() {
        right += take(sent.pop_front())?;
    }
    Ok(right)
}

type Sent = (commonhold::workers::TaskHandle, Vec<u8>);

fn take(sent: Option<Sent>) -> Result<u64, Box<dyn std::error::Error>> {
    let Some((task, bytes)) = sent else { return Ok(0) };
    if task.wait(LIMIT)? == bytes { Ok(1) } else { Err("another's result".into()) }
}

/// How the role `start-stop` begins.
type Begin = fn(&Runtime) -> Result<Pool, PoolError>;

/// Starts (or stands by) and stops a pool so many times, and says what of this process was there before and after that.
pub(super) fn start_stop(segment: &str, args: &[&str]) -> Ended {
    let (begin, times): (Begin, _) = match args {
        ["start", times] => (|r| Pool::start(r, kinds(), PoolOptions::new().workers(1..=1)), times),
        ["stand-by", times] => {
            (|r| Pool::stand_by(r, kinds(), PoolOptions::new().workers(1..=1)), times)
        }
        _ => return Err("start-stop: arguments".into()),
    };
    let runtime = attach(segment, false)?;
    let once = |limit: Duration| -> Ended {
        let pool = begin(&runtime)?;
        if limit.is_zero() {
            drop(pool);
        } else {
            pool.submit(Task::new("double", b"1"))?.wait(LIMIT)?;
            pool.stop(limit)?;
        }
        Ok(())
    };
    once(LIMIT)?;
    say(&figures(&runtime)?);
    for n in 0..times.parse::<u32>()? {
        once(if n % 2 == 0 { LIMIT } else { Duration::ZERO })?;
    }
    say(&figures(&runtime)?);
    Ok(())
}

/// Descriptors, threads, children and participants of this process.
fn figures(runtime: &Runtime) -> Result<String, Box<dyn std::error::Error>> {
    let count = |folder: &str| std::fs::read_dir(folder).map(Iterator::count);
    let mut children = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let listed = std::fs::read_to_string(thread?.path().join("children"))?;
        children += listed.split_whitespace().count();
    }
    runtime.sweep()?;
    let participants = runtime.space().participants().len();
    let (descriptors, threads) = (count("/proc/self/fd")?, threads()?);
    Ok(format!(
        "{descriptors} descriptors, {threads} threads, {children} children, {participants} participants"
    ))
}
