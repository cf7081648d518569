//! The torture of the pool: tasks of all sizes, and workers that are killed at any instruction while they have them.
//!
//! - **Submitters** (submit.rs) keep a window of tasks under way, know what the result of each must be, and look that
//!   its end is delivered once: for some of them a rival asks for the end at the same time.
//! - **The killer** (killer.rs) kills workers, most of them while they have a task, and looks at the records how long
//!   after `kill(2)` the dead one's task waits again or has failed.
//! - A **gate** keeps both in step, so that the kills are spread over all tasks, and as many are made as were asked for.
//! - The **judge** (judge.rs) looks afterwards for what is left: processes, tasks, pages, cells, participants, and rows
//!   of the store that are not what is in memory.
//!
//! A task must end with its result, or as failed because its worker died in each of its attempts: there are no other
//! faults here, so any other end is one of the pool.

mod gate;
mod job;
mod judge;
mod killer;
mod report;
mod submit;

use std::time::{Duration, Instant};

use commonhold::workers::{Capacity, Kinds, Pool, PoolOptions, WORKERS_MAX, configure};
use commonhold::{Config, Runtime};

use crate::coordinator::DRAIN;
use crate::{Options, TortureError, signals};
use gate::Gate;
use killer::Killer;

pub use job::kind;
pub use report::WorkersReport;

/// So long is waited for what must come; then the run has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Threads that submit.
const SUBMITTERS: u64 = 2;
/// The most tasks that the queue holds.
const TASKS: u32 = 128;
/// The pages for all tasks that can be under way at once, each with the largest arguments and result.
const PAGES: u32 = TASKS * 12;

/// Checks what [`Options::check`] does not: with this system `updates` are tasks, and `kill` kills.
pub(crate) fn check(options: &Options) -> Result<(), TortureError> {
    let no = |text: String| Err(TortureError::Options(text));
    if !(1..=WORKERS_MAX).contains(&options.processes) {
        return no(format!("--processes {}: 1 to {WORKERS_MAX} workers", options.processes));
    }
    if options.updates > 10_000_000 {
        return no(format!("--updates {}: at most 10000000 tasks", options.updates));
    }
    if u64::from(options.kill) > options.updates {
        return no(format!(
            "--kill {} with {} tasks: at most one kill a task",
            options.kill, options.updates
        ));
    }
    Ok(())
}

/// Runs the torture of the pool; `progress` is told what is being done.
///
/// # Errors
/// [`TortureError`] when it could not be run to its end. What it showed is in the report.
pub fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<WorkersReport, TortureError> {
    options.check()?;
    signals::catch()?;
    let start = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("commonhold-torture-")
        .tempdir()
        .map_err(|e| TortureError::system("make a temporary folder", e))?;
    let default = format!("sqlite:{}", folder.path().join("torture.db").display());
    let store = options.store.as_deref().unwrap_or(&default);
    let capacity = Capacity { tasks: TASKS, pages: PAGES, workers: options.processes };
    let config = Config::ephemeral().store(store).lanes(options.lanes);
    let config = config.participants(options.processes * 2 + 64).intents(4096);
    let runtime = Runtime::open(configure(config, &capacity))?;
    progress(&format!("workers: starting {} workers", options.processes));
    let only = PoolOptions::new().workers(options.processes..=options.processes);
    let before = killer::processes(&runtime)?;
    let pool = Pool::start(&runtime, Kinds::new().with(kind()), only)?;
    let left = pool.figures()?;
    if left.queued + left.running + left.ended > 0 {
        let text = "the store has tasks of an earlier torture; name an empty one";
        return Err(TortureError::Options(text.to_owned()));
    }
    let mut killer = Killer::new(options, &runtime, before)?;
    progress(&format!("workers: {} tasks, {} kills", options.updates, options.kill));
    let began = Instant::now();
    let ends = all_tasks(options, &pool, &mut killer)?;
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    progress("stopping the workers, sweeping what the dead left, draining, auditing");
    pool.drain(LIMIT)?;
    killer.see_all_ready()?;
    let pages = pool.pages_in_use()?;
    pool.stop(LIMIT)?;
    let killed = killer.end()?;
    runtime.sweep()?;
    runtime.drain(DRAIN)?;
    runtime.sweep()?;
    let mut report = judge::judge(options, &runtime, &ends, &killed)?;
    report.pages_left = pages;
    report.elapsed_ms = elapsed_ms;
    report.tasks_per_s = options.updates * 1000 / elapsed_ms.max(1);
    report.total_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.ok = report.holds();
    Ok(report)
}

/// Submits and kills, until all tasks have ended.
fn all_tasks(
    options: &Options,
    pool: &Pool,
    killer: &mut Killer,
) -> Result<submit::Ends, TortureError> {
    let gate = Gate::new(options);
    std::thread::scope(|scope| {
        let submitters: Vec<_> = (0..SUBMITTERS)
            .map(|first| {
                let gate = &gate;
                scope.spawn(move || gate.close_on_error(submit::submit(options, pool, gate, first)))
            })
            .collect();
        let killed = gate.close_on_error(killer.kill_all(&gate));
        let mut all = submit::Ends::default();
        for submitter in submitters {
            let panicked = |_| Err(TortureError::system("submit", std::io::ErrorKind::Other));
            all.add(submitter.join().unwrap_or_else(panicked)?);
        }
        killed.map(|()| all)
    })
}
