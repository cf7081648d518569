//! The pool as a program holds it.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use commonhold_runtime::core::queue::Bell;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::core::wait::Deadline;
use commonhold_runtime::{Error, Handle, Runtime};

use crate::error::{PoolError, TaskError};
use crate::figures::{PoolFigures, WorkerView, look};
use crate::kinds::Kinds;
use crate::queue::{Queue, Refused, Shape, Submission};
use crate::reactor::Reactor;
use crate::records::{PAGES, PAYLOAD_BYTES_MAX, TaskId};
use crate::supervisor::{Entry, Office, Supervisor};
use crate::task::{Task, TaskHandle};
use crate::worker::is_worker;

/// The guard that the supervisor holds.
pub(crate) const SUPERVISOR: &str = "workers";

/// So many participants are kept for the next who needs one.
const IDLE_QUEUES: usize = 8;

/// How a pool is run.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) idle: u32,
    pub(crate) idle_time: Duration,
    pub(crate) keep: Duration,
    pub(crate) memory: Option<u64>,
    pub(crate) program: Option<PathBuf>,
    pub(crate) arguments: Vec<OsString>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            min: 1,
            max: u32::try_from(cores).unwrap_or(1),
            idle: 1,
            idle_time: Duration::from_secs(10),
            keep: Duration::from_secs(600),
            memory: None,
            program: None,
            arguments: Vec::new(),
        }
    }
}

impl PoolOptions {
    /// One worker to as many as there are processors; one is kept idle; no memory limit; the program itself.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many workers there are at least and at most.
    #[must_use]
    pub fn workers(mut self, workers: RangeInclusive<u32>) -> Self {
        (self.min, self.max) = workers.into_inner();
        self
    }

    /// How many workers without a task are kept beyond the minimum; the others end after the idle time.
    #[must_use]
    pub fn idle(mut self, idle: u32) -> Self {
        self.idle = idle;
        self
    }

    /// How long there are too many idle workers before one ends; 10 s if never set.
    #[must_use]
    pub fn idle_time(mut self, time: Duration) -> Self {
        self.idle_time = time;
        self
    }

    /// How long an end is kept that nobody takes, when its submitter is dead; 10 minutes if never set.
    #[must_use]
    pub fn keep(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// The most bytes of its own memory that a worker may have (`RLIMIT_DATA`; the segment does not count). Who asks
    /// for more is ended, and his task with him.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The program that workers run; this one if never set. Its `main` calls [`crate::init`] first thing.
    #[must_use]
    pub fn command(
        mut self,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        self.program = Some(program.into());
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    fn check(&self, room: u32) -> Result<(), PoolError> {
        let option = |what, found: String, must: String| PoolError::Option { what, found, must };
        if !(1..=room).contains(&self.max) {
            let must = format!("1 to {room}, the capacity's `workers`");
            return Err(option("number of workers", self.max.to_string(), must));
        }
        if self.min > self.max {
            let must = format!("at most the most workers, {}", self.max);
            return Err(option("least number of workers", self.min.to_string(), must));
        }
        if self.memory.is_some_and(|bytes| bytes < 1 << 24) {
            let found = format!("{} bytes", self.memory.unwrap_or_default());
            return Err(option("memory limit", found, "at least 16 MiB".to_owned()));
        }
        Ok(())
    }
}

/// What a pool's handles share.
pub(crate) struct Shared {
    space: Arc<Space>,
    shape: Shape,
    kinds: Kinds,
    /// Those that nobody uses just now.
    queues: Mutex<Vec<Queue>>,
    reactor: Reactor,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({:?})", self.kinds)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reactor.close(&self.space, &self.shape);
    }
}

impl Shared {
    /// Does something with the queue, through a participant that nobody else uses meanwhile.
    pub(crate) fn with<R>(
        &self,
        work: impl FnOnce(&Queue) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let idle = || self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let free = idle().pop();
        let queue = match free {
            Some(queue) => queue,
            None => Queue::new(Handle::open(&self.space)?, self.shape.clone()),
        };
        let done = work(&queue);
        let mut idle = idle();
        if idle.len() < IDLE_QUEUES {
            idle.push(queue);
        }
        done
    }

    pub(crate) fn watch(&self, id: (TaskId, u64), waker: &Waker) -> Result<(), Error> {
        self.reactor.watch(id, waker, || Handle::open(&self.space), &self.shape)
    }

    pub(crate) fn forget(&self, id: (TaskId, u64)) {
        self.reactor.forget(id);
    }

    /// What is known of why a task has not ended, as the end of a sentence.
    pub(crate) fn why_not_done(&self) -> Result<String, Error> {
        let Some(view) = look(&self.space)? else { return Ok(String::new()) };
        let figures = view.figures;
        Ok(match figures.supervisor {
            None => "; no process supervises workers of this segment".to_owned(),
            Some(_) => format!(
                "; {} tasks wait, {} run, {} workers are there",
                figures.queued,
                figures.running,
                figures.busy + figures.idle
            ),
        })
    }
}

/// The worker pool of a segment. `Sync`: any thread may submit.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    supervisor: Option<Supervisor>,
}

impl Pool {
    /// Starts workers and looks after them, in a thread of this process; tasks that an earlier supervisor left are
    /// gone on with. When the pool is dropped its workers are killed, and their tasks wait; [`Pool::stop`] lets them
    /// finish.
    ///
    /// # Errors
    /// [`PoolError`]; [`PoolError::Supervised`] when somebody does already.
    pub fn start(runtime: &Runtime, kinds: Kinds, options: PoolOptions) -> Result<Self, PoolError> {
        Self::supervised(runtime, kinds, options, Entry::Start)
    }

    /// Like [`Pool::start`] when nobody supervises. While another process does, this one submits to its queue and stands
    /// by: it takes over, with its own workers and options, as soon as that one has stopped or is dead. [`Pool::stop`] and
    /// dropping end that too.
    ///
    /// # Errors
    /// [`PoolError`], but not [`PoolError::Supervised`].
    pub fn stand_by(
        runtime: &Runtime,
        kinds: Kinds,
        options: PoolOptions,
    ) -> Result<Self, PoolError> {
        Self::supervised(runtime, kinds, options, Entry::StandBy)
    }

    fn supervised(
        runtime: &Runtime,
        kinds: Kinds,
        options: PoolOptions,
        entry: Entry,
    ) -> Result<Self, PoolError> {
        if is_worker() {
            return Err(PoolError::InWorker);
        }
        let segment = runtime.path().ok_or(PoolError::NoName)?.display().to_string();
        let mut pool = Self::attach(runtime, kinds)?;
        options.check(pool.shared.shape.workers.count())?;
        let (space, shape) = (Arc::clone(&pool.shared.space), pool.shared.shape.clone());
        let office = Office { space, shape, options, segment };
        pool.supervisor = Some(Supervisor::start(office, entry)?);
        Ok(pool)
    }

    /// Submits to the queue of a segment whose workers somebody else supervises, now or later.
    ///
    /// # Errors
    /// [`PoolError::NoTables`]; [`PoolError::Runtime`].
    pub fn attach(runtime: &Runtime, kinds: Kinds) -> Result<Self, PoolError> {
        let (space, shape) = (Arc::clone(runtime.space()), Shape::open(runtime)?);
        let (queues, reactor) = (Mutex::default(), Reactor::default());
        let shared = Arc::new(Shared { space, shape, kinds, queues, reactor });
        Ok(Self { shared, supervisor: None })
    }

    /// The same queue, without what this one supervises.
    pub(crate) fn attached(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), supervisor: None }
    }

    pub(crate) fn space(&self) -> &Arc<Space> {
        &self.shared.space
    }

    pub(crate) fn kinds(&self) -> &Kinds {
        &self.shared.kinds
    }

    /// Whether this pool supervises the workers just now; one that stands by may from the next moment on.
    #[must_use]
    pub fn supervises(&self) -> bool {
        self.supervisor.as_ref().is_some_and(Supervisor::supervises)
    }

    /// How many tasks there is room for in all.
    pub(crate) fn room(&self) -> usize {
        self.shared.shape.tasks.count() as usize
    }

    /// Submits a task.
    ///
    /// # Errors
    /// [`TaskError::UnknownKind`], [`TaskError::Arguments`], [`TaskError::TooLarge`], [`TaskError::Option`];
    /// [`TaskError::Full`]: nothing waits for room here, the caller may.
    pub fn submit(&self, task: Task<'_>) -> Result<TaskHandle, TaskError> {
        task.check()?;
        self.shared.kinds.get(task.kind)?.check(task.arguments)?;
        let new = Submission {
            kind: task.kind,
            arguments: task.arguments,
            priority: task.priority,
            attempts: task.attempts,
            limit: task.deadline,
            bound: task.bound,
        };
        let submitted = self.shared.with(|queue| match queue.submit(&new) {
            Err(Refused::Failed(e)) => Err(e),
            other => Ok(other),
        })?;
        match submitted {
            Ok(id) => Ok(TaskHandle::new(Arc::clone(&self.shared), id)),
            Err(refused) => Err(self.full(&refused)),
        }
    }

    fn full(&self, refused: &Refused) -> TaskError {
        let shape = &self.shared.shape;
        if matches!(refused, Refused::Pages) {
            let pages = self.shared.space.find_table(PAGES).ok();
            let tables = &self.shared.space.catalogue().tables;
            let limit = pages.and_then(|p| tables.get(p)).map_or(0, |t| t.slots);
            return TaskError::Full {
                what: "pages for arguments and results",
                limit,
                raise: "pages",
            };
        }
        TaskError::Full { what: "tasks", limit: shape.tasks.count(), raise: "tasks" }
    }

    /// A task that was submitted, maybe by another process: to cancel it, or to take its end. When this handle is dropped
    /// without that, the end is still there for the submitter.
    ///
    /// # Errors
    /// [`TaskError::Gone`].
    pub fn task(&self, id: TaskId) -> Result<TaskHandle, TaskError> {
        match self.shared.with(|queue| queue.task(id))? {
            Some(_) => Ok(TaskHandle::of_another(Arc::clone(&self.shared), id)),
            None => Err(TaskError::Gone { id }),
        }
    }

    /// How many workers and tasks there are.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn figures(&self) -> Result<PoolFigures, Error> {
        Ok(look(&self.shared.space)?.unwrap_or_default().figures)
    }

    /// The workers that there are.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn workers(&self) -> Result<Vec<WorkerView>, Error> {
        Ok(look(&self.shared.space)?.unwrap_or_default().workers)
    }

    /// How many pages of arguments and results are in use.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn pages_in_use(&self) -> Result<u32, Error> {
        self.shared.with(Queue::pages_in_use)
    }

    /// The most bytes of arguments, and of a result.
    #[must_use]
    pub fn payload_limit(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    /// Waits until no task waits or runs.
    ///
    /// # Errors
    /// [`PoolError::TimedOut`] when `limit` passed first.
    pub fn drain(&self, limit: Duration) -> Result<(), PoolError> {
        let deadline = Deadline::after(limit);
        let (space, queue) = (&self.shared.space, self.shared.shape.queue_words());
        loop {
            let heard = space.listen_bell(queue, Bell::Done)?;
            let figures = self.figures()?;
            let left = figures.queued + figures.running;
            if left == 0 {
                return Ok(());
            }
            let Some(time) = deadline.left() else {
                return Err(PoolError::TimedOut { what: format!("{left} tasks to end"), limit });
            };
            // An end that nobody waits for rings nobody.
            space.sleep_bell(queue, Bell::Done, heard, time.min(Duration::from_millis(10)))?;
        }
    }

    /// Ends the workers, each after the task that it has; after `limit` they are killed, and their tasks wait. Tasks
    /// that wait go on waiting, for the next supervisor. Who only stands by does so no more.
    ///
    /// # Errors
    /// [`PoolError::TimedOut`] when some were killed.
    pub fn stop(mut self, limit: Duration) -> Result<(), PoolError> {
        self.supervisor.take().map_or(Ok(()), |supervisor| supervisor.stop(limit))
    }
}
