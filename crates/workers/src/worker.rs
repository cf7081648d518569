//! A worker process: takes tasks from the queue, one at a time, until it is told to stop or its supervisor dies.

use std::any::Any;
use std::os::unix::process::parent_id;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use commonhold_os::clock::monotonic_nanos;
use commonhold_os::process::Identity;
use commonhold_runtime::core::schema::Decoder;
use commonhold_runtime::{Config, Error, Runtime};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::error::{PoolError, Reason};
use crate::kinds::{Context, Kinds};
use crate::metrics::TaskMetrics;
use crate::queue::{Queue, Shape};
use crate::records::{StoredTask, WorkerState};

/// The environment variable that makes a process a worker.
pub(crate) const ORDER: &str = "COMMONHOLD_WORKER";

/// What a supervisor tells a worker that it starts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The segment's path.
    pub(crate) segment: String,
    /// The worker's record.
    pub(crate) slot: u32,
    /// Which process of that record.
    pub(crate) turn: u64,
    /// The segment's id: another one may have got its path.
    pub(crate) uuid: [u8; 16],
    /// The supervisor's process.
    pub(crate) supervisor: u32,
    /// The most bytes of memory of its own.
    pub(crate) memory: Option<u64>,
}

/// To be called first thing in `main`. Returns at once, unless this process was started as a worker: then it takes tasks
/// of these kinds, and ends when it is told to.
pub fn init(kinds: &Kinds) {
    let Some(order) = std::env::var_os(ORDER) else { return };
    let order = order.to_str().and_then(|text| serde_json::from_str::<Order>(text).ok());
    let Some(order) = order else {
        eprintln!("commonhold worker: the variable {ORDER} is not a supervisor's; remove it");
        std::process::exit(1);
    };
    let code = match order.work(kinds) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("commonhold worker: {error}");
            1
        }
    };
    std::process::exit(code);
}

/// Whether this process was started as a worker.
pub(crate) fn is_worker() -> bool {
    std::env::var_os(ORDER).is_some()
}

fn system(what: &'static str) -> impl Fn(nix::Error) -> PoolError {
    move |e| PoolError::System { what, error: e.into() }
}

impl Order {
    fn work(&self, kinds: &Kinds) -> Result<(), PoolError> {
        set_pdeathsig(Signal::SIGKILL).map_err(system("have a worker end with its supervisor"))?;
        // He may have died before that; and what a task starts inherits the variable, and is no worker.
        if parent_id() != self.supervisor {
            let found = format!("{} of process {}", ORDER, self.supervisor);
            let must = "this process's parent's; its supervisor died, or a task left the variable to what it started";
            return Err(PoolError::Option { what: "supervisor", found, must: must.to_owned() });
        }
        if let Some(bytes) = self.memory {
            setrlimit(Resource::RLIMIT_DATA, bytes, bytes)
                .map_err(system("limit a worker's memory"))?;
        }
        let config = Config::named(&self.segment).attach_only().without_tables().without_steward();
        let runtime = Runtime::open(config)?;
        if runtime.space().segment().header().uuid != self.uuid {
            return Ok(()); // the supervisor will find out too
        }
        let queue = Queue::new(runtime.handle()?, Shape::open(&runtime)?);
        let me = Identity::current().map_err(Error::from)?;
        let mine = queue.shape.workers.update(&queue.handle, self.slot, |worker| {
            let ours = worker.turn == self.turn && worker.state() == WorkerState::Starting;
            worker.state = WorkerState::Ready.code();
            worker.set_process(me.into());
            ours
        })?;
        if !mine {
            return Ok(()); // given up before it was ready
        }
        queue.ring_supervisor()?;
        let metrics = TaskMetrics::new(&queue.handle)?;
        while !self.is_told_to_stop(&queue)? {
            let heard = queue.listen_ready()?;
            let task = match queue.claim(self.slot)? {
                None => {
                    let stays = || self.is_told_to_stop(&queue).map(|told| !told);
                    queue.await_task(self.slot, heard, stays)?
                }
                task => task,
            };
            if let Some(task) = task {
                run(&queue, &metrics, kinds, &task)?;
            }
        }
        Ok(())
    }

    fn is_told_to_stop(&self, queue: &Queue) -> Result<bool, Error> {
        queue.shape.workers.look_front(&queue.handle, self.slot, 17, |payload| {
            let mut fields = Decoder::new(payload);
            let (_, turn) = (fields.i64(), fields.u64());
            turn != Ok(self.turn) || fields.bool() != Ok(false)
        })
    }
}

/// Runs a task that was claimed, and ends it.
fn run(
    queue: &Queue,
    metrics: &TaskMetrics<'_>,
    kinds: &Kinds,
    task: &StoredTask,
) -> Result<(), Error> {
    if task.attempt == 1 {
        let waited = task.started.saturating_sub(task.submitted);
        let _ = metrics.wait.observe_time(Duration::from_nanos(waited));
    }
    let Some(arguments) = queue.arguments(task)? else {
        let why = "its arguments are not there: the store had the task without them";
        return queue.finish(task, Err(Reason::Error(why.to_owned()))).map(drop);
    };
    let is_cancelled = || {
        let now = queue.task(task.task_id());
        now.is_ok_and(|now| now.is_none_or(|now| now.cancelled || now.due <= monotonic_nanos()))
    };
    let context = Context {
        id: task.task_id(),
        attempt: task.attempt.cast_unsigned(),
        is_cancelled: &is_cancelled,
    };
    let outcome = match kinds.get(task.kind.as_str()) {
        Ok(kind) => {
            let ran = catch_unwind(AssertUnwindSafe(|| kind.run(&context, &arguments)));
            ran.map_or_else(
                |panic| Err(Reason::Panic(message(&*panic))),
                |r| r.map_err(Reason::Error),
            )
        }
        Err(unknown) => Err(Reason::Error(format!("in the worker, {unknown}"))),
    };
    if u64::from(std::process::id()) != task.worker_pid {
        std::process::exit(0); // a child that the task forked is no worker
    }
    let ran = monotonic_nanos().saturating_sub(task.started);
    // What is counted is no reason to lose a result.
    let _ = metrics.duration.observe_time(Duration::from_nanos(ran));
    if let Some(reason) = queue.finish(task, outcome)? {
        metrics.count_error(&reason);
    }
    Ok(())
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "(no message)".to_owned())
}
