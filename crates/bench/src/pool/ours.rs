//! Our pool as a contender: worker processes of the benchmark itself, tasks as records of a segment.

use std::collections::VecDeque;
use std::time::Duration;

use commonhold::systems::cascade;
use commonhold::workers::{
    Capacity, Kind as TaskKind, Kinds, Pool, PoolOptions, Task, TaskHandle, configure,
};
use commonhold::{Config, Runtime};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::Outcome;
use crate::place::folder;
use crate::pool::task::{self, Kind};

/// How long one result is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// How many tasks are looked at for one that has ended: more than there are workers.
const LOOKED_AT: usize = 80;

/// Where the records are kept beside the segment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Store {
    None,
    Sqlite,
}

/// What the workers can do; each `main` of the benchmark registers it first thing.
pub(crate) fn kinds() -> Kinds {
    let kind = |kind: Kind| {
        let check = |task: &[u8]| match task.len() {
            0..8 => Err("a task without a number".to_owned()),
            _ => Ok(()),
        };
        TaskKind::new(kind.name(), check, move |_, task| task::run(kind, task))
    };
    Kind::ALL.into_iter().map(kind).fold(Kinds::new(), Kinds::with).with(cascade::kind())
}

/// A segment, its pool, and the tasks that are not finished in the order of their submission.
pub(crate) struct Ours {
    // Dropped in this order: the workers are killed, then the steward drains into the folder.
    tasks: VecDeque<TaskHandle>,
    pool: Pool,
    runtime: Runtime,
    folder: Option<TempDir>,
}

impl Ours {
    pub(crate) fn start(store: Store, workers: usize) -> Outcome<Self> {
        let capacity = Capacity { workers: workers as u32, ..Capacity::default() };
        let config = configure(Config::ephemeral(), &capacity);
        let (config, folder) = match store {
            Store::None => (config, None),
            Store::Sqlite => {
                let folder = folder()?;
                let url = format!("sqlite:{}", folder.path().join("bench.db").display());
                (config.store(&url), Some(folder))
            }
        };
        let runtime = Runtime::open(config)?;
        let options = PoolOptions::new().workers(workers as u32..=workers as u32);
        let pool = Pool::start(&runtime, kinds(), options)?;
        let ready =
            || Ok::<_, crate::Failure>(pool.workers()?.iter().filter(|w| w.pid != 0).count());
        while ready()? < workers {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { tasks: VecDeque::new(), pool, runtime, folder })
    }

    pub(crate) fn pids(&self) -> Outcome<Vec<Pid>> {
        let workers = self.pool.workers()?;
        Ok(workers.iter().map(|worker| Pid::from_raw(worker.pid.cast_signed())).collect())
    }

    /// The pool itself.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl super::Pool for Ours {
    fn submit(&mut self, kind: Kind, task: Vec<u8>) -> Outcome {
        self.tasks.push_back(self.pool.submit(Task::new(kind.name(), &task))?);
        Ok(())
    }

    fn finished(&mut self) -> Outcome<Vec<u8>> {
        // Any that has ended, as from the other pools: a worker that lost its processor holds up nobody else's.
        for at in 0..self.tasks.len().min(LOOKED_AT) {
            let Some(task) = self.tasks.get(at) else { break };
            if let Some(ended) = task.try_take()? {
                self.tasks.remove(at);
                return Ok(ended?);
            }
        }
        let oldest = self.tasks.pop_front().ok_or("no task was submitted")?;
        Ok(oldest.wait(LIMIT)?)
    }

    fn settle(&self) -> Outcome {
        if self.folder.is_some() {
            self.runtime.drain(LIMIT)?;
        }
        Ok(())
    }
}
