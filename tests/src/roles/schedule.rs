//! Schedulers that are killed, and one that shows that it leaves nothing.

use std::time::Duration;

use commonhold::workers::{Every, Pool, PoolOptions, Scheduler, TableSource};
use commonhold_testing::process::threads;

use super::{Ended, attach, say, told};
use crate::nodes::{NODES, Node};
use crate::stage::LIMIT;
use crate::tasks;

/// Ticks all nodes each 10 ms by the kind that is asked for, in workers that another process supervises; until it is
/// told something or killed.
pub(super) fn schedule(segment: &str, args: &[&str]) -> Ended {
    let [kind] = args[..] else { return Err("schedule: arguments".into()) };
    let runtime = attach(segment, false)?;
    let pool = Pool::attach(&runtime, tasks::kinds())?;
    let scheduler = Scheduler::start(&pool)?;
    let every = Every::new("nodes", Duration::from_millis(10), kind);
    scheduler.add(every, TableSource::<Node>::new(&runtime, NODES)?)?;
    say("schedules");
    told();
    Ok(scheduler.stop(LIMIT)?)
}

/// Starts and stops a pool and a scheduler again and again, each time after some ticks; then what threads, descriptors
/// and tasks there are more than in the beginning.
pub(super) fn reload(segment: &str, args: &[&str]) -> Ended {
    let [rounds] = args[..] else { return Err("reload: arguments".into()) };
    let runtime = attach(segment, false)?;
    let nodes = runtime.table::<Node>(NODES)?;
    let count = |folder: &str| std::fs::read_dir(folder).map(Iterator::count);
    let before = (threads()?, count("/proc/self/fd")?);
    for round in 0..rounds.parse::<i64>()? {
        let options = PoolOptions::new().workers(1..=2);
        let pool = Pool::start(&runtime, tasks::kinds(), options)?;
        let scheduler = Scheduler::start(&pool)?;
        let every = Every::new("nodes", Duration::from_millis(1), "advance");
        scheduler.add(every, TableSource::<Node>::new(&runtime, NODES)?)?;
        nodes.wait_for("n0", |node| node.ticks > 5 * round, LIMIT)?;
        scheduler.stop(LIMIT)?;
        let left = pool.figures()?;
        if left.queued + left.running + left.ended > 0 {
            return Err(format!("tasks are left: {left:?}").into());
        }
        pool.stop(LIMIT)?;
    }
    // Descriptors at once: what a thread of the pool's or the scheduler's has is closed before it ends.
    let descriptors = count("/proc/self/fd")?;
    let threads = threads()?;
    say(&format!("threads {threads} of {}, descriptors {descriptors} of {}", before.0, before.1));
    Ok(())
}

/// Adds to every node, round about, until it is told something; says how often each.
pub(super) fn add(segment: &str, args: &[&str]) -> Ended {
    let [count] = args[..] else { return Err("add: arguments".into()) };
    let count: u32 = count.parse()?;
    let runtime = attach(segment, false)?;
    let nodes = runtime.table::<Node>(NODES)?;
    let stop = super::stop_when_told();
    let mut rounds = 0;
    while !stop.load(std::sync::atomic::Ordering::Acquire) {
        for n in 0..count {
            nodes.update(&format!("n{n}"), |node| node.added += 1)?;
        }
        rounds += 1;
        if rounds == 1 {
            say("adds");
        }
    }
    say(&format!("rounds {rounds}"));
    Ok(())
}
