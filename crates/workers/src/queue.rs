//! The queue: tasks as records, each step of a task one commit.
//!
//! **States** of a task's record, and who makes which step:
//! ```text
//! Free ──► Pending ──► Running ──► Done ───► Free      submitter · worker · worker · who takes the result
//!   └► Reserved ┘        │  └────► Failed ─► Free      (arguments in pages) · worker or supervisor · who takes it
//!          ▲ Pending ◄───┘                             supervisor: the worker is dead, and was not the last attempt
//! ```
//! A record is used again and again; its id has the number of the turn, so who holds an old id finds another one and
//! lets go. Every step is conditional on the very id, state, attempt and worker that it is a step of, so two who try it
//! both cannot both make it: **a task has one end, and its end is taken once**.
//!
//! **Pages**: arguments or a result that do not fit into the record are written first, into free pages, each claimed and
//! filled by one commit that says for which task and attempt; the task's own commit then names them. Pages that nobody
//! names are found by comparing them with their task ([`Queue::sweep_pages`]).
//!
//! **Crash**: a submitter who dies leaves the record Free, Reserved (the supervisor frees it) or Pending. A worker who
//! dies leaves it Pending, Running (the supervisor, who learns of the death from the kernel, makes it Pending or Failed)
//! or ended. What is missing after a commit (hint, bell, freed pages) the supervisor makes good.

pub(crate) mod ends;
mod pages;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::time::Duration;

use commonhold_os::clock::{monotonic_nanos, wall_micros};
use commonhold_os::fork;
use commonhold_os::process::Identity;
use commonhold_runtime::core::commit::Way;
use commonhold_runtime::core::directory::Descriptor;
use commonhold_runtime::core::queue::{Bell, GROUPS};
use commonhold_runtime::core::schema::Decoder;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::{Bytes, Error, Handle, Runtime, Text, Timestamp};

use crate::error::PoolError;
use crate::records::{
    INLINE_BYTES, PAGES, Priority, Process, StoredPage, StoredTask, StoredWorker, TASKS, TaskId,
    TaskState, WORKERS,
};
use crate::table::Numbered;

/// How often a worker without a task looks whether there is one, before it sleeps: at most about what a wake costs.
const SPINS_MAX: u32 = 256;
const SPINS_MIN: u32 = 32;
/// Bytes of a task's state and priority, with which its record begins.
const PEEK_BYTES: usize = 16;
/// The class of hints for free records, after those of the priorities; of pages the only one.
const FREE: usize = 3;
/// The longest sleep of a worker that nobody wakes.
const IDLE_PIECE: Duration = Duration::from_secs(1);

/// What all of a process's queues share.
#[derive(Clone)]
pub(crate) struct Shape {
    queue: Descriptor,
    pages_queue: Descriptor,
    pub(crate) tasks: Numbered<StoredTask>,
    pages: Numbered<StoredPage>,
    pub(crate) workers: Numbered<StoredWorker>,
    /// This process, and the generation in which it was looked up: a forked child is another one.
    me: (Process, u64),
    epoch: u64,
}

impl Shape {
    /// Finds the tables, and makes the records that are not there.
    pub(crate) fn open(runtime: &Runtime) -> Result<Self, PoolError> {
        for table in [TASKS, PAGES, WORKERS] {
            if !runtime.catalogue().tables.iter().any(|t| t.name == table) {
                return Err(PoolError::NoTables { table });
            }
        }
        let handle = runtime.handle()?;
        let queue = handle.register_queue(TASKS)?;
        let pages_queue = handle.register_queue(PAGES)?;
        let tasks = Numbered::open(&handle, TASKS, 't')?;
        let pages = Numbered::open(&handle, PAGES, 'p')?;
        let workers = Numbered::open(&handle, WORKERS, 'w')?;
        // Who looks finds what there is, and clears what is too much.
        for group in 0..GROUPS {
            handle.space().set_hint(&queue, FREE, group)?;
            handle.space().set_hint(&pages_queue, FREE, group)?;
        }
        let me = (Identity::current().map_err(Error::from)?.into(), fork::generation());
        let epoch = handle.space().segment().header().store_epoch;
        Ok(Self { queue, pages_queue, tasks, pages, workers, me, epoch })
    }

    /// This process.
    pub(crate) fn me(&self) -> Result<Process, Error> {
        let (me, generation) = self.me;
        if generation == fork::generation() {
            return Ok(me);
        }
        Ok(Identity::current().map_err(Error::from)?.into())
    }

    /// The queue's words.
    pub(crate) fn queue_words(&self) -> &Descriptor {
        &self.queue
    }
}

/// A task to be submitted.
pub(crate) struct Submission<'a> {
    pub(crate) kind: &'a str,
    pub(crate) arguments: &'a [u8],
    pub(crate) priority: Priority,
    pub(crate) attempts: u64,
    pub(crate) limit: Duration,
    /// Given up when its submitter dies.
    pub(crate) bound: bool,
}

/// Why a task was not submitted.
pub(crate) enum Refused {
    Tasks,
    Pages,
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The queue of a segment, through one participant. `Send`, not `Sync`.
pub(crate) struct Queue {
    pub(crate) handle: Handle,
    pub(crate) shape: Shape,
    cursor: Cell<u32>,
    page_cursor: Cell<u32>,
    spins: Cell<u32>,
}

impl Queue {
    pub(crate) fn new(handle: Handle, shape: Shape) -> Self {
        let start = u32::from(handle.entry_index()).wrapping_mul(7);
        let (cursor, page_cursor) = (Cell::new(start), Cell::new(start));
        Self { handle, shape, cursor, page_cursor, spins: Cell::new(SPINS_MAX) }
    }

    pub(crate) fn space(&self) -> &Space {
        self.handle.space()
    }

    pub(crate) fn task(&self, id: TaskId) -> Result<Option<Box<StoredTask>>, Error> {
        if id.slot() >= self.shape.tasks.count() {
            return Ok(None);
        }
        let task = self.shape.tasks.get(&self.handle, id.slot())?;
        let is_it = task.task_id() == id && !task.is(TaskState::Free);
        Ok(is_it.then(|| Box::new(task)))
    }

    /// Where record `slot` stands, and its priority.
    pub(crate) fn peek(&self, slot: u32) -> Result<(i64, i64), Error> {
        self.shape.tasks.look_front(&self.handle, slot, PEEK_BYTES, |payload| {
            let mut fields = Decoder::new(payload);
            let state = fields.i64().unwrap_or(-1);
            (state, fields.i64().unwrap_or(-1))
        })
    }

    /// Tries `attempt` on the records that hints of `class` lead to, until it gives something.
    fn find<R>(
        &self,
        queue: &Descriptor,
        class: usize,
        count: u32,
        cursor: &Cell<u32>,
        mut attempt: impl FnMut(u32) -> Result<Option<R>, Error>,
    ) -> Result<Option<R>, Error> {
        let space = self.space();
        let hints = space.hints(queue, class)?;
        let mut in_group = |group: u32| {
            let rows = count.saturating_sub(group).div_ceil(GROUPS);
            let first = cursor.get() / GROUPS;
            for row in 0..rows {
                let slot = group + (first + row) % rows * GROUPS;
                let tried = match attempt(slot) {
                    // A record that cannot be read is not the one; the others are.
                    Err(e) if e.is_damage() => None,
                    other => other?,
                };
                if let Some(found) = tried {
                    cursor.set((slot + 1) % count.max(1));
                    return Ok(Some(found));
                }
            }
            Ok::<_, Error>(None)
        };
        let first = cursor.get() % GROUPS;
        for group in (0..GROUPS).map(|step| (first + step) % GROUPS) {
            if hints >> group & 1 == 0 {
                continue;
            }
            if let Some(found) = in_group(group)? {
                return Ok(Some(found));
            }
            // None: so says the look after the hint was cleared.
            space.clear_hint(queue, class, group)?;
            if let Some(found) = in_group(group)? {
                // Somebody may have looked meanwhile, found no hint and gone to sleep.
                space.set_hint(queue, class, group)?;
                if class != FREE {
                    space.ring_ready(queue)?;
                }
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Takes a task on: the id that it has now.
    pub(crate) fn submit(&self, new: &Submission<'_>) -> Result<TaskId, Refused> {
        let inline = new.arguments.len() <= INLINE_BYTES;
        let id = self.reserve(new, inline)?.ok_or(Refused::Tasks)?;
        if !inline {
            let written = self.write_pages(id, 0, new.arguments);
            let pages = match written {
                Ok(Some(pages)) => pages,
                Ok(None) | Err(_) => {
                    self.unreserve(id)?;
                    return Err(written.err().map_or(Refused::Pages, Refused::Failed));
                }
            };
            let named = pages::names(&pages);
            let bytes = new.arguments.len() as u64;
            let made = self.shape.tasks.update(&self.handle, id.slot(), |task| {
                let ours = task.task_id() == id && task.is(TaskState::Reserved);
                task.state = TaskState::Pending.code();
                (task.arguments_bytes, task.argument_pages) = (bytes, named);
                ours
            });
            if !matches!(made, Ok(true)) {
                // Somebody took this process for dead; or there was no room in the store's way for so long.
                self.free_pages(id, &named)?;
                self.unreserve(id)?;
                return Err(made.err().map_or(Refused::Tasks, Refused::Failed));
            }
        }
        self.announce_pending(id, new.priority, new.limit)?;
        Ok(id)
    }

    fn reserve(&self, new: &Submission<'_>, inline: bool) -> Result<Option<TaskId>, Error> {
        let (now, shape, me) = (monotonic_nanos(), &self.shape, self.shape.me()?);
        let limit = u64::try_from(new.limit.as_nanos()).unwrap_or(u64::MAX);
        let too_long = |error| {
            let (table, key) = (TASKS.to_owned(), new.kind.to_owned());
            let error =
                commonhold_runtime::core::record::FieldError { field: "kind".to_owned(), error };
            Error::Field { table, key, error }
        };
        let kind = Text::new(new.kind).map_err(too_long)?;
        let arguments =
            if inline { Bytes::new(new.arguments).unwrap_or_default() } else { Bytes::default() };
        let state = if inline { TaskState::Pending } else { TaskState::Reserved };
        let attempt = |slot: u32| {
            if self.peek(slot)?.0 != TaskState::Free.code() {
                return Ok(None);
            }
            let mut id = TaskId(0);
            let made = shape.tasks.update(&self.handle, slot, |task| {
                if !task.is(TaskState::Free) {
                    return false;
                }
                id = TaskId::next(task.id, slot);
                *task = StoredTask {
                    state: state.code(),
                    id: id.get(),
                    kind,
                    priority: new.priority.code(),
                    attempts: i64::try_from(new.attempts).unwrap_or(i64::MAX),
                    epoch: shape.epoch,
                    submitted_at: Timestamp(wall_micros()),
                    submitted: now,
                    due: now.saturating_add(limit) & (u64::MAX >> 1),
                    limit: limit & (u64::MAX >> 1),
                    bound: new.bound,
                    arguments_bytes: arguments.as_bytes().len() as u64,
                    arguments,
                    ..StoredTask::default()
                };
                task.set_submitter(me);
                true
            })?;
            Ok(made.then_some(id))
        };
        self.find(&shape.queue, FREE, shape.tasks.count(), &self.cursor, attempt)
    }

    fn unreserve(&self, id: TaskId) -> Result<(), Error> {
        self.shape.tasks.update(&self.handle, id.slot(), |task| {
            let ours = task.task_id() == id && task.is(TaskState::Reserved);
            task.state = TaskState::Free.code();
            ours
        })?;
        self.announce_free(id.slot())
    }

    /// Behind the commit that made a task Pending.
    pub(crate) fn announce_pending(
        &self,
        id: TaskId,
        priority: Priority,
        limit: Duration,
    ) -> Result<(), Error> {
        let (space, queue) = (self.space(), &self.shape.queue);
        space.set_hint(queue, priority.class(), id.slot() % GROUPS)?;
        let comes = space.ring_ready(queue)?;
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let due = monotonic_nanos().saturating_add(limit).min(u64::MAX >> 1);
        // Nobody comes: there may be one more.
        space.look_by(queue, if !comes && space.grows(queue)? { 1 } else { due })
    }

    /// Has a worker look, or else the supervisor, if he may start one.
    fn wake_worker(&self) -> Result<(), Error> {
        let (space, queue) = (self.space(), &self.shape.queue);
        if !space.ring_ready(queue)? && space.grows(queue)? {
            space.look_by(queue, 1)?;
        }
        Ok(())
    }

    /// Has the supervisor look at once.
    pub(crate) fn ring_supervisor(&self) -> Result<(), Error> {
        self.space().look_by(&self.shape.queue, 1)
    }

    pub(crate) fn ring_done(&self) -> Result<(), Error> {
        self.space().ring_bell(&self.shape.queue, Bell::Done)
    }

    pub(crate) fn queue_words(&self) -> &Descriptor {
        &self.shape.queue
    }

    /// The making of the segment.
    pub(crate) fn epoch(&self) -> u64 {
        self.shape.epoch
    }

    /// For the supervisor: makes a hint good whose setter may have died. He rings for those that wait.
    pub(crate) fn hint_pending(&self, id: TaskId, priority: Priority) -> Result<(), Error> {
        self.hint(priority.class(), id.slot())
    }

    /// The same of a free record.
    pub(crate) fn hint_free(&self, slot: u32) -> Result<(), Error> {
        self.hint(FREE, slot)
    }

    fn hint(&self, class: usize, slot: u32) -> Result<(), Error> {
        let (space, group) = (self.space(), slot % GROUPS);
        if space.hints(&self.shape.queue, class)? >> group & 1 == 0 {
            space.set_hint(&self.shape.queue, class, group)?;
        }
        Ok(())
    }

    /// Behind a commit that made a record free.
    pub(crate) fn announce_free(&self, slot: u32) -> Result<(), Error> {
        self.space().set_hint(&self.shape.queue, FREE, slot % GROUPS)
    }

    /// The first task that waits, made `worker`'s; `None`: there is none.
    pub(crate) fn claim(&self, worker: u32) -> Result<Option<Box<StoredTask>>, Error> {
        for priority in Priority::ALL {
            let claim = |slot| self.claim_record(slot, priority, worker);
            let count = self.shape.tasks.count();
            let class = priority.class();
            if let Some(task) = self.find(&self.shape.queue, class, count, &self.cursor, claim)? {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    fn claim_record(
        &self,
        slot: u32,
        priority: Priority,
        worker: u32,
    ) -> Result<Option<Box<StoredTask>>, Error> {
        let pending = (TaskState::Pending.code(), priority.code());
        if self.peek(slot)? != pending {
            return Ok(None);
        }
        let now = monotonic_nanos();
        let mut claimed = None;
        let (epoch, me) = (self.shape.epoch, self.shape.me.0.pid);
        // Who waits for the task waits for its end.
        let way = Way { quiet: true, ..Way::default() };
        let made = self.shape.tasks.update_way(&self.handle, slot, way, |task| {
            // What is past its time, or of another boot, is the supervisor's.
            let stale = task.epoch != epoch || task.due <= now;
            if (task.state, task.priority) != pending || stale || task.cancelled {
                return false;
            }
            task.state = TaskState::Running.code();
            task.attempt += 1;
            task.started = now;
            (task.worker, task.worker_pid) = (worker.into(), me);
            claimed = Some(Box::new(task.clone()));
            true
        })?;
        Ok(claimed.filter(|_| made))
    }

    /// Where to wait for something to do: to be asked before looking.
    pub(crate) fn listen_ready(&self) -> Result<u64, Error> {
        self.space().listen_ready(&self.shape.queue)
    }

    /// A task that came since `heard`, or comes in a moment, made `worker`'s. If there is none, and `stays` says so, waits
    /// until somebody rings.
    pub(crate) fn await_task(
        &self,
        worker: u32,
        heard: u64,
        stays: impl Fn() -> Result<bool, Error>,
    ) -> Result<Option<Box<StoredTask>>, Error> {
        let (space, queue) = (self.space(), &self.shape.queue);
        let mut task = None;
        let spins = self.spins.get();
        if space.search_ready(queue, heard, spins)? {
            task = self.claim(worker)?;
        }
        // Where staying awake is in vain, because tasks come seldom or there is no processor for their submitter meanwhile,
        // it is for a shorter time next time.
        let next = if task.is_some() { spins * 2 } else { spins / 2 };
        self.spins.set(next.clamp(SPINS_MIN, SPINS_MAX));
        if task.is_none() {
            let heard = space.announce_ready(queue)?;
            task = self.claim(worker)?;
            if task.is_none() && stays()? {
                space.sleep_ready(queue, heard, IDLE_PIECE)?;
                task = if stays()? { self.claim(worker)? } else { None };
            }
        }
        // Who rang meanwhile may have left it to this worker to wake the others.
        self.pass_on()?;
        Ok(task)
    }

    /// Has another worker look if there is a task that waits.
    fn pass_on(&self) -> Result<(), Error> {
        for priority in Priority::ALL {
            let pending = (TaskState::Pending.code(), priority.code());
            let look = |slot| Ok(Some(()).filter(|()| self.peek(slot).is_ok_and(|p| p == pending)));
            let (count, class, cursor) =
                (self.shape.tasks.count(), priority.class(), Cell::new(self.cursor.get()));
            if self.find(&self.shape.queue, class, count, &cursor, look)?.is_some() {
                return self.wake_worker();
            }
        }
        Ok(())
    }
}
