//! What the supervisor does: looks at tasks and workers, starts, kills, buries.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use commonhold_os::clock::monotonic_nanos;
use commonhold_os::process::{Identity, Liveness};
use commonhold_runtime::Error;

use super::child::Worker;
use super::voice::Voice;
use super::{LOOK_EVERY, sleep};
use crate::error::{PoolError, Reason};
use crate::metrics::{PoolMetrics, TaskMetrics};
use crate::pool::PoolOptions;
use crate::queue::Queue;
use crate::queue::ends::fit;
use crate::records::{Priority, Process, StoredTask, TaskId, TaskState, WorkerState};

/// How long a task that was cancelled may go on before its worker is killed.
const GRACE: Duration = Duration::from_millis(100);
/// How often pages are compared with their tasks, when nobody dies.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The supervisor's state.
pub(super) struct Warden<'a> {
    pub(super) queue: &'a Queue,
    pub(super) options: &'a PoolOptions,
    pub(super) segment: &'a str,
    pub(super) workers: Vec<Worker>,
    metrics: TaskMetrics<'a>,
    pub(super) pool: PoolMetrics<'a>,
    /// Workers that were buried since the last look, by record and process id.
    pub(super) buried: HashMap<(u64, u64), Buried>,
    /// Workers that died one after the other before any was ready.
    pub(super) stillborn: u32,
    /// No worker is started before.
    pub(super) start_after: Instant,
    /// Why the last one could not be started, or died before it was ready.
    pub(super) no_workers: String,
    /// Since when there are too many idle workers.
    pub(super) spare_since: Option<Instant>,
    /// When submitters were last looked at.
    submitters_seen: Instant,
    pub(super) voice: Voice,
    /// When pages were last compared with their tasks.
    pages_swept: Instant,
    /// Cancelled tasks that run, and when that was first seen.
    cancelled: HashMap<TaskId, Instant>,
}

/// A worker that has ended.
pub(super) struct Buried {
    pub(super) how: String,
    pub(super) killed_for: Option<(TaskId, Reason)>,
}

/// What a look at all tasks found.
pub(super) struct Seen {
    now: u64,
    pub(super) pending: u32,
    /// The records of workers that have a task.
    busy: BTreeSet<u32>,
    /// The next time at which something is due.
    due: u64,
    looks_at_submitters: bool,
    /// A submitter died while it wrote arguments: their pages are named by nobody.
    left_pages: bool,
    /// Whether submitters are there, as far as it was asked.
    alive: HashMap<Process, bool>,
}

impl<'a> Warden<'a> {
    pub(super) fn new(
        queue: &'a Queue,
        options: &'a PoolOptions,
        segment: &'a str,
    ) -> Result<Self, PoolError> {
        Ok(Self {
            queue,
            options,
            segment,
            workers: Vec::new(),
            metrics: TaskMetrics::new(&queue.handle)?,
            pool: PoolMetrics::new(&queue.handle)?,
            buried: HashMap::new(),
            stillborn: 0,
            start_after: Instant::now(),
            no_workers: String::new(),
            spare_since: None,
            submitters_seen: Instant::now(),
            voice: Voice::default(),
            pages_swept: Instant::now(),
            cancelled: HashMap::new(),
        })
    }

    /// What to sleep on.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.workers.iter().flat_map(Worker::descriptors)
    }

    /// Waits until the workers of the supervisor before are dead, and makes their records free.
    pub(super) fn take_over(&mut self, limit: Duration) -> Result<(), PoolError> {
        let (queue, begin) = (self.queue, Instant::now());
        for slot in 0..queue.shape.workers.count() {
            loop {
                match self.is_gone(slot, begin, limit) {
                    Ok(true) => break,
                    Ok(false) => {}
                    // Its worker, if it has one, ends with its supervisor, and when it reads this.
                    Err(PoolError::Runtime(e)) if e.is_damage() => {
                        self.voice.say_once(&format!("worker record {slot}: {e}"));
                        break;
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        self.scan()?;
        Ok(queue.sweep_pages()?)
    }

    /// Makes a worker's record free whose process is dead, or not ready yet; waits for the death of one that is ready.
    /// False: it has changed meanwhile, and is to be looked at again.
    fn is_gone(&self, slot: u32, begin: Instant, limit: Duration) -> Result<bool, PoolError> {
        let (queue, workers) = (self.queue, &self.queue.shape.workers);
        let worker = workers.get(&queue.handle, slot)?;
        if worker.state() == WorkerState::Gone {
            return Ok(true);
        }
        if worker.state() == WorkerState::Ready {
            wait_for_death(&worker.process(), begin, limit)?;
        }
        // Who is not ready yet has no task, and finds in his record that he has come too late.
        Ok(workers.update(&queue.handle, slot, |now| {
            let same = now.turn == worker.turn && now.state == worker.state;
            now.turn = (now.turn + 1) & (u64::MAX >> 1);
            now.state = WorkerState::Gone.code();
            now.last_end = fit("ended with its supervisor");
            same
        })?)
    }

    /// Looks at everything, and does what is to be done; when to look again.
    pub(super) fn look(&mut self) -> Result<Instant, PoolError> {
        let (space, words) = (self.queue.space(), self.queue.queue_words());
        // Before the look: who submits behind its back and finds nobody idle asks for another one.
        space.set_grows(words, (self.workers.len() as u32) < self.options.max)?;
        let seen = self.scan()?;
        let (begin, running) = (Instant::now(), seen.busy.len() as u32);
        self.give_up_unready()?;
        self.start_workers(seen.pending.saturating_add(running))?;
        self.retire(&seen.busy)?;
        let alive = self.workers.len() as u32;
        self.show(alive, running, seen.pending);
        // Who was woken for them may have died before he took one.
        for _ in 0..seen.pending.min(alive.saturating_sub(running)) {
            space.ring_ready(words)?;
        }
        let mut next = begin + LOOK_EVERY;
        if seen.pending > 0 && alive < self.options.max {
            next = next.min(self.start_after.max(begin + Duration::from_millis(1)));
        }
        let left = next.saturating_duration_since(begin).as_nanos() as u64;
        space.set_grows(words, alive < self.options.max && Instant::now() >= self.start_after)?;
        let at = space.end_look(words, seen.due.min(seen.now.saturating_add(left)))?;
        Ok(begin + Duration::from_nanos(at.saturating_sub(seen.now)))
    }

    /// What the metrics say. There may be no room for them; that harms nobody.
    pub(super) fn show(&self, alive: u32, busy: u32, queued: u32) {
        let idle = alive.saturating_sub(busy);
        let (size, pool) = (alive, &self.pool);
        let all = [(&pool.size, size), (&pool.busy, busy), (&pool.idle, idle)];
        for (gauge, value) in all.into_iter().chain([(&pool.queued, queued)]) {
            let _ = gauge.set(value.into());
        }
    }

    /// Looks at all tasks.
    pub(super) fn scan(&mut self) -> Result<Seen, PoolError> {
        let looks_at_submitters = self.submitters_seen.elapsed() >= LOOK_EVERY;
        if looks_at_submitters {
            self.submitters_seen = Instant::now();
        }
        let mut seen = Seen {
            now: monotonic_nanos(),
            pending: 0,
            busy: BTreeSet::new(),
            due: u64::MAX >> 1,
            looks_at_submitters,
            left_pages: false,
            alive: HashMap::new(),
        };
        self.queue.space().begin_look(self.queue.queue_words())?;
        let died = !self.buried.is_empty();
        for slot in 0..self.queue.shape.tasks.count() {
            match self.look_at_slot(slot, &mut seen) {
                // One damaged record is not the end of all the others.
                Err(e) if e.is_damage() => {
                    self.voice.say_once(&format!("task record {slot}: {e}"));
                }
                other => other?,
            }
        }
        self.cancelled.retain(|_, since| since.elapsed() < LOOK_EVERY * 2);
        self.buried.clear();
        if died {
            // One that was to look, or to wake others, is among them, maybe.
            self.queue.space().ring_ready_all(self.queue.queue_words())?;
        }
        if died || seen.left_pages || self.pages_swept.elapsed() >= SWEEP_EVERY {
            self.pages_swept = Instant::now();
            self.queue.sweep_pages()?;
        }
        Ok(seen)
    }

    fn look_at_slot(&mut self, slot: u32, seen: &mut Seen) -> Result<(), Error> {
        if self.queue.peek(slot)?.0 == TaskState::Free.code() {
            return self.queue.hint_free(slot);
        }
        let task = self.queue.shape.tasks.get(&self.queue.handle, slot)?;
        self.look_at(&task, seen)
    }

    fn look_at(&mut self, task: &StoredTask, seen: &mut Seen) -> Result<(), Error> {
        if task.epoch != self.queue.epoch() {
            // Of a segment before this one, whose workers are gone: its times mean nothing here.
            return self.queue.renew(task, seen.now);
        }
        match TaskState::from_code(task.state) {
            Some(TaskState::Reserved) if self.is_abandoned(task, seen) => {
                let reserved = |now: &StoredTask| now.is(TaskState::Reserved);
                seen.left_pages |= self.queue.release(task.task_id(), reserved)?;
                Ok(())
            }
            Some(TaskState::Pending) if task.bound && self.is_abandoned(task, seen) => {
                self.queue.release(task.task_id(), |now| now.is(TaskState::Pending)).map(drop)
            }
            Some(TaskState::Pending) => self.look_at_pending(task, seen),
            Some(TaskState::Running) => {
                if task.bound && !task.cancelled && self.is_abandoned(task, seen) {
                    self.queue.cancel(task.task_id())?;
                }
                self.look_at_running(task, seen)
            }
            Some(TaskState::Done | TaskState::Failed) => {
                let keep = u64::try_from(self.options.keep.as_nanos()).unwrap_or(u64::MAX);
                let old = task.bound || task.ended.saturating_add(keep) <= seen.now;
                if old && self.is_abandoned(task, seen) {
                    let ended = task.ended;
                    self.queue.release(task.task_id(), |now| now.ended == ended)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the task's submitter is dead.
    fn is_abandoned(&self, task: &StoredTask, seen: &mut Seen) -> bool {
        if !seen.looks_at_submitters {
            return false;
        }
        let alive = || task.submitter().find().0 != Liveness::Dead;
        !*seen.alive.entry(task.submitter().into()).or_insert_with(alive)
    }

    fn fail(
        &self,
        task: &StoredTask,
        same: impl Fn(&StoredTask) -> bool,
        reason: &Reason,
    ) -> Result<(), Error> {
        if self.queue.fail_if(task.task_id(), same, reason)? {
            self.metrics.count_error(reason);
        }
        Ok(())
    }

    fn look_at_pending(&mut self, task: &StoredTask, seen: &mut Seen) -> Result<(), Error> {
        let reason = if task.cancelled {
            Reason::Cancelled
        } else if task.due <= seen.now {
            self.too_late(task, "it waited for a worker")
        } else {
            seen.pending += 1;
            seen.due = seen.due.min(task.due);
            let class = Priority::from_code(task.priority);
            return self.queue.hint_pending(task.task_id(), class);
        };
        self.fail(task, |now| now.is(TaskState::Pending), &reason)
    }

    fn look_at_running(&mut self, task: &StoredTask, seen: &mut Seen) -> Result<(), Error> {
        let (id, now) = (task.task_id(), seen.now);
        let late = task.due <= now;
        let reason = if late && !task.cancelled {
            self.too_late(task, "it ran, and its worker was killed")
        } else {
            Reason::Cancelled
        };
        let is_his = |w: &&mut Worker| {
            (u64::from(w.slot), u64::from(w.pid())) == (task.worker, task.worker_pid)
        };
        let Some(worker) = self.workers.iter_mut().find(is_his) else {
            return self.after_death(task, now);
        };
        seen.busy.insert(worker.slot);
        if !late && !task.cancelled {
            seen.due = seen.due.min(task.due);
            return Ok(());
        }
        let grace =
            GRACE.saturating_sub(self.cancelled.entry(id).or_insert_with(Instant::now).elapsed());
        if task.cancelled && !late && !grace.is_zero() {
            seen.due = seen.due.min(now.saturating_add(grace.as_nanos() as u64));
        } else if worker.killed_for.is_none() {
            worker.killed_for = Some((id, reason));
            worker.kill();
        }
        Ok(())
    }

    /// The worker that had the task is dead: it waits again, or has failed.
    fn after_death(&self, task: &StoredTask, now: u64) -> Result<(), Error> {
        let buried = self.buried.get(&(task.worker, task.worker_pid));
        let (id, killed_for) = (task.task_id(), buried.and_then(|b| b.killed_for.as_ref()));
        let how = buried.map_or("was killed with its supervisor", |b| b.how.as_str());
        let attempts = task.attempt.cast_unsigned();
        let reason = match killed_for {
            Some((of, reason)) if *of == id => reason.clone(),
            _ if task.cancelled => Reason::Cancelled,
            _ if task.due <= now => self.too_late(task, &format!("its worker {how}")),
            // It came to a worker that was just killed for another one's sake.
            Some(_) => return self.queue.requeue(task, false).map(drop),
            None if task.attempt < task.attempts => {
                return self.queue.requeue(task, true).map(drop);
            }
            None => Reason::WorkerDied { attempts, how: how.to_owned() },
        };
        let attempt = task.attempt;
        self.fail(task, |now| now.is(TaskState::Running) && now.attempt == attempt, &reason)
    }

    fn too_late(&self, task: &StoredTask, why: &str) -> Reason {
        let ms = task.limit / 1_000_000;
        let no_workers = match &self.no_workers {
            text if text.is_empty() || task.is(TaskState::Running) => String::new(),
            text => format!("; no worker could be started: {text}"),
        };
        Reason::Deadline(format!("it did not end within its {ms} ms; {why}{no_workers}"))
    }
}

/// Waits until the kernel says that a process is dead.
fn wait_for_death(process: &Identity, begin: Instant, limit: Duration) -> Result<(), PoolError> {
    loop {
        let (liveness, pidfd) = process.find();
        if liveness == Liveness::Dead {
            return Ok(());
        }
        let waited = begin.elapsed();
        if waited > limit {
            return Err(PoolError::LeftOver { pid: process.pid.into(), waited });
        }
        match &pidfd {
            Some(pidfd) => sleep(&[std::os::fd::AsFd::as_fd(pidfd)], begin + limit),
            None => sleep(&[], Instant::now() + Duration::from_millis(10)),
        }
    }
}
