//! Worker pools: what they are given to do, and the way that all are measured.

pub(crate) mod homemade;
pub(crate) mod ours;
pub(crate) mod piscina;
pub(crate) mod task;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use commonhold_os::clock::monotonic_nanos;

use crate::Outcome;
use crate::pool::task::{Kind, Tasks};

/// A pool as its caller sees it.
pub(crate) trait Pool {
    /// Has `task` done some time.
    fn submit(&mut self, kind: Kind, task: Vec<u8>) -> Outcome;
    /// Waits for a result that was not given yet.
    fn finished(&mut self) -> Outcome<Vec<u8>>;
    /// Waits until it does nothing more, so that it does not disturb the next one.
    fn settle(&self) -> Outcome {
        Ok(())
    }
}

/// How tasks are handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) count: usize,
    /// Tasks that are submitted and not finished, at most.
    pub(crate) window: usize,
    /// How long the caller rests before each task, so that all workers are asleep.
    pub(crate) rest: Duration,
}

/// What a run gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// Tasks a second.
    pub(crate) rate: f64,
    /// From submission to start in nanoseconds, in order.
    waits: Vec<u64>,
}

impl Run {
    pub(crate) fn new(rate: f64, mut waits: Vec<u64>) -> Self {
        waits.sort_unstable();
        Self { rate, waits }
    }

    /// The time below which `share` of the tasks started.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let last = self.waits.len().saturating_sub(1);
        self.waits.get((last as f64 * share) as usize).copied().unwrap_or_default() as f64
    }
}

/// Has the pool do all tasks; fails unless each one's result comes exactly once and is right.
pub(crate) fn drive(pool: &mut dyn Pool, tasks: &Tasks, load: Load) -> Outcome<Run> {
    let mut submitted = Vec::with_capacity(load.count);
    let mut waits = vec![None; load.count];
    let start = Instant::now();
    for done in 0..load.count {
        while submitted.len() < load.count && submitted.len() - done < load.window {
            if !load.rest.is_zero() {
                std::thread::sleep(load.rest);
            }
            let task = tasks.task(submitted.len());
            submitted.push(monotonic_nanos());
            pool.submit(tasks.kind, task)?;
        }
        let (number, started) = tasks.check(&pool.finished()?)?;
        let wait = waits.get_mut(number).ok_or_else(|| format!("a result of task {number}"))?;
        let submitted = submitted.get(number).ok_or("a result of a task not submitted")?;
        if wait.replace(started.saturating_sub(*submitted)).is_some() {
            return Err(format!("two results of task {number}").into());
        }
    }
    let rate = load.count as f64 / start.elapsed().as_secs_f64();
    // As many results as tasks, none twice: none is missing.
    let waits = waits.into_iter().collect::<Option<_>>().ok_or("a task without a result")?;
    Ok(Run::new(rate, waits))
}

/// The simplest pool: none. It does each task where it is submitted, and gives the cost of the measurement itself.
#[derive(Debug, Default)]
pub(crate) struct Inline(VecDeque<Vec<u8>>);

impl Pool for Inline {
    fn submit(&mut self, kind: Kind, task: Vec<u8>) -> Outcome {
        self.0.push_back(task::run(kind, &task)?);
        Ok(())
    }

    fn finished(&mut self) -> Outcome<Vec<u8>> {
        Ok(self.0.pop_front().ok_or("no task was submitted")?)
    }
}
