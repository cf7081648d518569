//! Worker processes and the queue of tasks before them.
//!
//! A [`Pool`] starts worker *processes* of the same executable and looks after them: a worker that dies, hangs or uses
//! too much memory takes nobody with it. Tasks are records of the segment, so whoever is attached can submit
//! ([`Pool::attach`]), a killed supervisor loses none of them, and the next one goes on with the queue.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use commonhold_runtime::{Config, Runtime};
//! use commonhold_workers::{Capacity, Kind, Kinds, Pool, PoolOptions, Task};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let sum = |numbers: Vec<f64>| numbers.iter().sum::<f64>();
//!     let kinds = Kinds::new().with(Kind::json("sum", |_| Ok(()), move |_, n: Vec<f64>| Ok(sum(n))));
//!     commonhold_workers::init(&kinds); // in a worker, this does not return
//!
//!     let config = commonhold_workers::configure(Config::ephemeral(), &Capacity::default());
//!     let runtime = Runtime::open(config)?;
//!     let pool = Pool::start(&runtime, kinds, PoolOptions::new().workers(1..=2))?;
//!     let task = pool.submit(Task::new("sum", b"[1, 2, 3.5]").deadline(Duration::from_secs(5)))?;
//!     assert_eq!(task.wait(Duration::from_secs(10))?, b"6.5");
//!     pool.stop(Duration::from_secs(5))?;
//!     Ok(())
//! }
//! ```
//!
//! **What is promised**: a task has one end, a result or a reason why there is none, and it is delivered once. A task
//! whose worker dies is begun again, up to its `attempts`; so what it does beside returning its result it may do more
//! than once. Nothing is begun again while the worker that had it lives: the kernel says when it is dead.

#![forbid(unsafe_code)]

mod error;
mod figures;
pub mod jobs;
mod kinds;
mod metrics;
mod pool;
mod queue;
mod reactor;
mod records;
mod scheduler;
mod supervisor;
mod table;
mod task;
mod worker;

pub use error::{PoolError, Reason, TaskError};
pub use figures::{PoolFigures, PoolView, TaskView, WorkerView, look};
pub use kinds::{Context, Kind, Kinds};
pub use pool::{Pool, PoolOptions};
pub use records::{
    Capacity, INLINE_BYTES, KIND_BYTES_MAX, PAGES, PAGES_MAX, PAYLOAD_BYTES_MAX, Priority,
    StoredPage, StoredTask, StoredWorker, TASKS, TASKS_MAX, TaskId, TaskState, WORKERS,
    WORKERS_MAX, WorkerState, configure, table_configs,
};
pub use scheduler::{
    EntryFigures, Every, Loaded, Scheduler, SchedulerError, Source, SourceError, TableSource, Tick,
};
pub use task::{Task, TaskHandle};
pub use worker::init;
