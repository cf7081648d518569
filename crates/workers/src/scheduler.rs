//! The scheduler: one loop for all periodic ticks of a segment, and workers that do them.
//!
//! **What it does**: an entry ([`Every`]) says how often, and which task kind makes a node's next state of its state; a
//! [`Source`] says which nodes there are, what their states are, and how a next state is committed. Each period the
//! nodes are listed, and each goes to the pool as one task: its name, the time that passed, its state. When the result
//! comes, it is committed *only if the node is still as it was sent*; else the node is sent again with its new state,
//! [`Every::retries`] times at most. So nothing that anybody else commits to a node is ever overwritten.
//!
//! **States** of a node:
//! ```text
//! Idle ──► Sent ──► Idle        its time came · committed, failed, or changed too often
//!  └► Waiting ┘ └──► Sent       no room in the pool · changed meanwhile: its new state
//! ```
//! A node is under way once at most. One whose time comes while it is Waiting or Sent is *late*: that tick is skipped,
//! and the next one covers the time of both. The same holds when the loop itself comes late (a stopped process): one
//! tick, not a burst of them. A tick's step is the time that really passed since the last tick of the node that was
//! committed, and the period for its first. After a tick that *failed* the time begins anew: the node stood still.
//!
//! **One at a time**: a thread holds the guard `scheduler` as long as the loop runs, as the supervisor does with
//! `workers`. It is another thread than the loop's, for a thread holds one guard at most, and sources may need theirs.
//!
//! **Sleep**: no timer but one, the next time of all entries, from a heap. The loop sleeps on a condition variable, which
//! the wakers of its tasks ring (the thread of the pool that watches for ends, reactor.rs) and who gives it an order.
//! At most half of the queue's records are its own, so that others can submit; other nodes wait, first come first served.
//!
//! **Crash**: a scheduler that dies leaves tasks, and no node half ticked: a tick is one commit. Its tasks are bound to
//! it, so the supervisor gives them up; what they give is committed by nobody. The next scheduler begins with the
//! states that there are.

mod entry;
mod error;
mod master;
mod metrics;
mod source;
mod tick;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use commonhold_os::fork;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::{Error, Guard, GuardOptions, Handle};

pub use entry::{EntryFigures, Every};
pub use error::SchedulerError;
pub use source::{Loaded, Source, SourceError, TableSource};
pub use tick::Tick;

use crate::pool::Pool;
use crate::supervisor::{TAKE_OVER, holder};
use crate::worker::message;
use entry::Entry;
use master::{Desk, Master, Order};
use metrics::TickMetrics;

/// The guard that a scheduler holds.
const SCHEDULER: &str = "scheduler";

type Ended = Result<usize, SchedulerError>;

/// Ticks the nodes of a segment, in the workers of its pool.
///
/// # Examples
/// ```no_run
/// # use std::time::Duration;
/// # use commonhold_runtime::{Record, Runtime};
/// # use commonhold_workers::{Every, Kind, Pool, Scheduler, TableSource};
/// # fn example(runtime: &Runtime, pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
/// #[derive(Record)]
/// # #[record(crate = "commonhold_runtime::core")]
/// struct Tank {
///     level: f64,
///     inflow: f64,
/// }
///
/// // Registered with the other kinds, for the workers:
/// let fill = Kind::tick_of::<Tank>("fill", |_, tick, tank| {
///     tank.level += tank.inflow * tick.step.as_secs_f64();
///     Ok(())
/// });
///
/// let scheduler = Scheduler::start(pool)?;
/// let tanks = TableSource::<Tank>::new(runtime, "tanks")?;
/// scheduler.add(Every::new("tanks", Duration::from_millis(10), "fill"), tanks)?;
/// // …
/// scheduler.stop(Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Scheduler {
    desk: Arc<Desk>,
    pool: Pool,
    thread: Option<JoinHandle<Ended>>,
    /// The process that it is of, told apart from its forked children.
    generation: u64,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

impl Scheduler {
    /// Starts the loop, without an entry. Its ticks go to the queue that `pool` submits to; whoever supervises the
    /// workers, now or later. When the scheduler is dropped, ticks that are under way are given up;
    /// [`Scheduler::stop`] lets them finish.
    ///
    /// # Errors
    /// [`SchedulerError::Held`] when the segment has a scheduler already; [`SchedulerError::Thread`];
    /// [`SchedulerError::Runtime`].
    pub fn start(pool: &Pool) -> Result<Self, SchedulerError> {
        let desk = Arc::new(Desk::default());
        let (report, started) = sync_channel(1);
        let thread = {
            let (desk, pool) = (Arc::clone(&desk), pool.attached());
            let named = std::thread::Builder::new().name("commonhold-role".to_owned());
            named.spawn(move || hold(&pool, &desk, report)).map_err(SchedulerError::Thread)?
        };
        let (thread, generation) = (Some(thread), fork::generation());
        let mut scheduler = Self { desk, pool: pool.attached(), thread, generation };
        if started.recv().is_err() {
            // It ended before it was ready, and says why.
            scheduler.join()?;
            return Err(scheduler.has_ended());
        }
        Ok(scheduler)
    }

    /// Has the nodes of `source` ticked, the first time after one period.
    ///
    /// # Errors
    /// [`SchedulerError::Known`], [`SchedulerError::Option`]; [`SchedulerError::Task`] when the pool knows no such kind,
    /// or options of the task are out of range; [`SchedulerError::Ended`].
    pub fn add(&self, every: Every, source: impl Source + 'static) -> Result<(), SchedulerError> {
        every.check()?;
        self.pool.kinds().get(&every.kind)?;
        let entry = Entry::new(every, Box::new(source));
        let mut figures = self.desk.figures();
        let name = entry.every.name.clone();
        if figures.contains_key(&name) {
            return Err(SchedulerError::Known { name });
        }
        figures.insert(name.clone(), entry.figures.clone());
        if !self.desk.order(Order::Add(Box::new(entry))) {
            figures.remove(&name);
            return Err(self.has_ended());
        }
        Ok(())
    }

    /// Ends an entry: when this returns, nothing of it is committed any more.
    ///
    /// # Errors
    /// [`SchedulerError::Unknown`]; [`SchedulerError::Ended`].
    pub fn remove(&self, name: &str) -> Result<(), SchedulerError> {
        if !self.desk.figures().contains_key(name) {
            let known: Vec<String> = self.desk.figures().keys().map(|n| format!("`{n}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(SchedulerError::Unknown { name: name.to_owned(), known });
        }
        let (done, removed) = sync_channel(1);
        let told = self.desk.order(Order::Remove(name.to_owned(), done));
        if !told || removed.recv().is_err() {
            return Err(self.has_ended());
        }
        Ok(())
    }

    /// The entries as they are now, by name.
    #[must_use]
    pub fn figures(&self) -> Vec<EntryFigures> {
        self.desk.figures().values().cloned().collect()
    }

    /// Stops: no tick is begun any more. Those that a worker has are waited for and committed; after `limit` they are
    /// given up. When this returns, threads and guard are gone.
    ///
    /// # Errors
    /// [`SchedulerError::TimedOut`] when some were given up; [`SchedulerError::Ended`] when the loop had ended before.
    pub fn stop(mut self, limit: Duration) -> Result<(), SchedulerError> {
        match self.end(limit)? {
            0 => Ok(()),
            ticks => Err(SchedulerError::TimedOut { ticks, limit }),
        }
    }

    fn end(&mut self, limit: Duration) -> Ended {
        self.desk.stop(Instant::now() + limit);
        self.join()
    }

    fn join(&mut self) -> Ended {
        let Some(thread) = self.thread.take() else { return Ok(0) };
        thread.join().unwrap_or_else(|_| Err(self.has_ended()))
    }

    fn has_ended(&self) -> SchedulerError {
        SchedulerError::Ended { why: "`Scheduler::stop` says why".to_owned() }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if self.thread.is_some() && self.generation == fork::generation() {
            let _ = self.end(Duration::ZERO);
        }
    }
}

/// The thread that holds the guard while the loop runs in another one.
fn hold(pool: &Pool, desk: &Arc<Desk>, report: SyncSender<()>) -> Ended {
    let space = pool.space();
    let handle = Handle::open(space)?;
    let guard = Guard::new(&handle, SCHEDULER, &GuardOptions::new())?;
    // A holder that is just dying is waited for, one that lives is not.
    let limit = if holder(space, SCHEDULER)?.is_some() { Duration::ZERO } else { TAKE_OVER };
    match guard.with_within(limit, |_| lead(space, pool, desk, report)) {
        Ok(done) => done,
        Err(Error::Timeout { .. }) => {
            Err(SchedulerError::Held { pid: holder(space, SCHEDULER)?.unwrap_or_default() })
        }
        Err(e) => Err(e.into()),
    }
}

/// Runs the loop in a thread of its own; how many ticks were given up in the end.
fn lead(space: &Arc<Space>, pool: &Pool, desk: &Arc<Desk>, report: SyncSender<()>) -> Ended {
    let run = || -> Ended {
        let handle = Handle::open(space)?;
        let metrics = TickMetrics::new(&handle)?;
        let mut master = Master::new(Arc::clone(desk), pool.attached(), metrics);
        let _ = report.send(());
        Ok(master.run())
    };
    std::thread::scope(|scope| {
        let named = std::thread::Builder::new().name("commonhold-tick".to_owned());
        let thread = named.spawn_scoped(scope, run).map_err(SchedulerError::Thread)?;
        let ended = thread.join();
        desk.close();
        ended.unwrap_or_else(|panic| Err(SchedulerError::Ended { why: message(&*panic) }))
    })
}
