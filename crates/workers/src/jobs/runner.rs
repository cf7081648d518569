//! The thread that claims ticks, and the threads of runs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use commonhold_os::fork;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::core::wait::Deadline;
use commonhold_runtime::{Error, Handle, Table, Text, UpdateError};

use super::clock::{Clock, Moment};
use super::error::JobsError;
use super::job::{Job, JobContext};
use super::metrics::JobMetrics;
use super::records::{JOBS, JobOutcome, JobState, StoredJob};
use super::schedule::Schedule;
use super::turn::Claimer;
use super::view::{interrupted, is_left};
use crate::queue::ends::fit;
use crate::records::Process;
use crate::worker::message;

/// The longest time between two looks: a clock that was set is noticed then.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So often is looked whether to stop.
const STOP_EVERY: Duration = Duration::from_millis(100);
/// So long others leave a tick to the process that ran the last one.
const HEAD_START: Duration = Duration::from_millis(20);
/// So long is waited before the end of a run is committed again.
const RETRY: Duration = Duration::from_millis(100);

/// What the jobs of a process and their threads share.
pub(super) struct Shared {
    pub(super) stopping: AtomicBool,
    runs: Mutex<BTreeMap<String, RunThread>>,
    ended: Condvar,
    trouble: Mutex<Option<String>>,
}

struct RunThread {
    thread: JoinHandle<()>,
    over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            stopping: AtomicBool::new(false),
            runs: Mutex::default(),
            ended: Condvar::new(),
            trouble: Mutex::default(),
        }
    }

    /// What went wrong last, beside what jobs said themselves.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    fn note(&self, job: &str, error: &JobsError) {
        *lock(&self.trouble) = Some(format!("job `{job}`: {error}"));
    }

    /// Waits for the runs that are under way; the names of those that are not over at `until`.
    pub(super) fn wind_up(&self, until: Instant) -> Vec<String> {
        let mut runs = lock(&self.runs);
        loop {
            join_ended(&mut runs);
            let left = until.saturating_duration_since(Instant::now());
            if runs.is_empty() || left.is_zero() {
                return runs.keys().cloned().collect();
            }
            let waited = self.ended.wait_timeout(runs, left);
            runs = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Joins the threads whose runs are over: they hold nothing any more, and are about to end.
fn join_ended(runs: &mut BTreeMap<String, RunThread>) {
    for (_, run) in runs.extract_if(.., |_, run| run.over) {
        let _ = run.thread.join();
    }
}

/// The thread that claims ticks.
pub(super) struct Runner {
    pub(super) space: Arc<Space>,
    pub(super) handle: Handle,
    pub(super) jobs: Vec<Arc<Job>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) process: Process,
    pub(super) shared: Arc<Shared>,
}

/// What is needed to run one job.
struct Run {
    job: Arc<Job>,
    number: u64,
    due_at: i64,
    handle: Handle,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
}

impl Runner {
    fn now(&self) -> Moment {
        self.clock.now(self.space.segment().header().store_epoch)
    }

    /// Claims ticks until it is to stop.
    pub(super) fn run(self) -> Result<(), JobsError> {
        let ended = self.claim_ticks();
        if let Err(e) = &ended {
            *lock(&self.shared.trouble) = Some(e.to_string());
        }
        ended
    }

    fn claim_ticks(&self) -> Result<(), JobsError> {
        let position = self.space.find_table(JOBS)?;
        let mut spare = None;
        while !self.shared.stopping.load(Ordering::Acquire) {
            let watched = self.handle.watch_table(position)?;
            join_ended(&mut lock(&self.shared.runs));
            let mut next = LOOK_EVERY;
            for job in &self.jobs {
                match self.look_at(job, &mut spare) {
                    Ok(left) => next = next.min(left),
                    Err(e) => {
                        self.space.check_whole()?;
                        self.shared.note(&job.name, &e);
                    }
                }
            }
            self.sleep(position, watched, next)?;
        }
        Ok(())
    }

    /// Sleeps until the table changes or so long, or until it is to stop.
    fn sleep(&self, position: usize, watched: u64, time: Duration) -> Result<(), Error> {
        let deadline = Deadline::after(time);
        while let Some(left) = deadline.left()
            && !self.shared.stopping.load(Ordering::Acquire)
        {
            let piece = Deadline::after(left.min(STOP_EVERY));
            if self.handle.wait_table_changed(position, watched, &piece)? {
                break;
            }
        }
        Ok(())
    }

    /// Looks at one job, and claims its tick if it has come; how long it is to the next look.
    fn look_at(&self, job: &Arc<Job>, spare: &mut Option<Handle>) -> Result<Duration, JobsError> {
        let table = Table::<StoredJob, _>::new(&self.handle, JOBS)?;
        let Some(seen) = table.get(&job.name)? else {
            // Somebody deleted it.
            register(&table, job, &self.now())?;
            return Ok(Duration::ZERO);
        };
        // What the record says counts: others go by it too.
        let theirs;
        let schedule = if job.schedule.is_of(&seen) {
            &job.schedule
        } else {
            theirs = Schedule::of(&job.name, &seen)?;
            &theirs
        };
        let now = self.now();
        if seen.is(JobState::Running) {
            if is_left(&self.space, &seen) {
                self.interrupt(&table, job, &seen, schedule)?;
                return Ok(Duration::ZERO);
            }
            return Ok(LOOK_EVERY);
        }
        let mut settled = seen.clone();
        if settled.settle(schedule, &now) {
            change(&table, &job.name, |stored| *stored == seen && stored.settle(schedule, &now))?;
            return Ok(Duration::ZERO);
        }
        if seen.is_ripe(&now) {
            return self.take(&table, job, &seen, schedule, spare);
        }
        Ok(if seen.is(JobState::Stopped) { LOOK_EVERY } else { seen.due_in(&now) })
    }

    /// Claims a tick, unless another process goes first.
    fn take(
        &self,
        table: &Table<StoredJob, &Handle>,
        job: &Arc<Job>,
        seen: &StoredJob,
        schedule: &Schedule,
        spare: &mut Option<Handle>,
    ) -> Result<Duration, JobsError> {
        let others = seen.runs > 0 && seen.process() != self.process.into();
        let wait = HEAD_START.saturating_sub(seen.late(&self.now()));
        if others && !seen.asked && !wait.is_zero() {
            return Ok(wait);
        }
        let mine = lock(&self.shared.runs).contains_key(&job.name);
        if mine {
            // The thread of the last run has not ended yet, and rings when it has.
            return Ok(Duration::from_millis(1));
        }
        let handle = match spare.take() {
            Some(handle) => handle,
            None => Handle::open(&self.space)?,
        };
        let by = Claimer { participant: handle.entry_index().into(), process: self.process };
        let (number, due_at) = (seen.runs + 1, seen.due_at.0);
        let claimed = {
            let own = Table::<StoredJob, _>::new(&handle, JOBS)?;
            change(&own, &job.name, |stored| stored.claim(seen, schedule, &self.now(), &by))?
        };
        if !claimed {
            *spare = Some(handle);
            return Ok(Duration::ZERO);
        }
        let (job, clock) = (Arc::clone(job), Arc::clone(&self.clock));
        let shared = Arc::clone(&self.shared);
        self.start(table, Run { job, number, due_at, handle, clock, shared })?;
        Ok(Duration::ZERO)
    }

    /// Runs what was claimed in a thread of its own.
    fn start(&self, table: &Table<StoredJob, &Handle>, run: Run) -> Result<(), JobsError> {
        let (job, number) = (Arc::clone(&run.job), run.number);
        // Held until the thread is in the list: it says there that it is over.
        let mut runs = lock(&self.shared.runs);
        let named = std::thread::Builder::new().name("commonhold-job".to_owned());
        match named.spawn(move || run.run()) {
            Ok(thread) => drop(runs.insert(job.name.clone(), RunThread { thread, over: false })),
            Err(e) => {
                drop(runs);
                let why = fit(&format!("cannot start its thread: {e}"));
                let failed = JobOutcome::Failed;
                end(table, &job.name, number, &self.now(), failed, why)?;
                count(&self.handle, &job.name, failed, None);
            }
        }
        Ok(())
    }

    /// Ends the run of a process that is dead.
    fn interrupt(
        &self,
        table: &Table<StoredJob, &Handle>,
        job: &Job,
        seen: &StoredJob,
        schedule: &Schedule,
    ) -> Result<(), JobsError> {
        let why = fit(&interrupted(seen));
        let outcome = JobOutcome::Interrupted;
        let ended = change(table, &job.name, |stored| {
            stored.claimer == seen.claimer
                && stored.end(seen.runs, schedule, &self.now(), outcome, why)
        })?;
        if ended {
            count(&self.handle, &job.name, outcome, None);
        }
        Ok(())
    }
}

impl Run {
    fn run(self) {
        let generation = fork::generation();
        let begin = Instant::now();
        let (outcome, text) = self.work();
        if fork::generation() != generation {
            // A child that the job forked: the run is its parent's, and so is all that is kept for it.
            std::mem::forget(self);
            return;
        }
        let took = begin.elapsed();
        if self.commit(outcome, fit(&text)) {
            count(&self.handle, &self.job.name, outcome, Some(took));
        }
        let Self { job, handle, shared, .. } = self;
        drop(handle);
        if let Some(run) = lock(&shared.runs).get_mut(&job.name) {
            run.over = true;
        }
        shared.ended.notify_all();
    }

    fn work(&self) -> (JobOutcome, String) {
        let name = &self.job.name;
        let context = JobContext {
            name,
            number: self.number,
            due_at: self.due_at,
            stopping: &self.shared.stopping,
        };
        match catch_unwind(AssertUnwindSafe(|| (self.job.work)(&context))) {
            Ok(Ok(said)) => (JobOutcome::Ok, said),
            Ok(Err(why)) => (JobOutcome::Failed, why),
            Err(panic) => (JobOutcome::Panicked, message(&*panic)),
        }
    }

    /// Commits the end, however long there is no room for it; false when the run is not this one's any more.
    fn commit(&self, outcome: JobOutcome, text: Text<256>) -> bool {
        let space = self.handle.space();
        let name = &self.job.name;
        loop {
            let now = self.clock.now(space.segment().header().store_epoch);
            let table = Table::<StoredJob, _>::new(&self.handle, JOBS);
            let ended = table
                .map_err(JobsError::from)
                .and_then(|table| end(&table, name, self.number, &now, outcome, text));
            match ended {
                Ok(ended) => return ended,
                Err(JobsError::Runtime(e)) if !matches!(e, Error::Full { .. }) => {
                    self.shared.note(name, &e.into());
                    return false;
                }
                Err(e) => self.shared.note(name, &e),
            }
            std::thread::sleep(RETRY);
        }
    }
}

/// Ends run `number`; false when it is not under way any more.
fn end(
    table: &Table<StoredJob, &Handle>,
    name: &str,
    number: u64,
    now: &Moment,
    outcome: JobOutcome,
    text: Text<256>,
) -> Result<bool, JobsError> {
    change(table, name, |stored| {
        // A schedule that cannot be read is no reason to leave the record running.
        let schedule = Schedule::of(name, stored);
        schedule.is_ok_and(|schedule| stored.end(number, &schedule, now, outcome, text))
    })
}

/// Counts a run. What cannot be counted is no job's fault.
fn count(handle: &Handle, name: &str, outcome: JobOutcome, took: Option<Duration>) {
    if let Ok(metrics) = JobMetrics::new(handle, name) {
        metrics.count(outcome, took);
    }
}

/// Makes the record of a job, or has it take over the job's schedule.
pub(super) fn register(
    table: &Table<StoredJob, &Handle>,
    job: &Job,
    now: &Moment,
) -> Result<(), JobsError> {
    loop {
        match table.insert(&job.name, &StoredJob::new(&job.schedule, now)) {
            Ok(_) => return Ok(()),
            Err(Error::Exists { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let taken = table.update(&job.name, |stored| {
            if stored.reschedule(&job.schedule, now) { Ok(()) } else { Err(()) }
        });
        match taken {
            Ok(_) | Err(UpdateError::Refused(())) => return Ok(()),
            Err(UpdateError::Failed(Error::NotFound { .. })) => {}
            Err(UpdateError::Failed(e)) => return Err(e.into()),
        }
    }
}

/// Changes the record of a job as one commit, unless `step` says no; whether it was changed.
pub(super) fn change(
    table: &Table<StoredJob, &Handle>,
    name: &str,
    mut step: impl FnMut(&mut StoredJob) -> bool,
) -> Result<bool, JobsError> {
    match table.update(name, |stored| if step(stored) { Ok(()) } else { Err(()) }) {
        Ok(_) => Ok(true),
        Err(UpdateError::Refused(()) | UpdateError::Failed(Error::NotFound { .. })) => Ok(false),
        Err(UpdateError::Failed(e)) => Err(e.into()),
    }
}
