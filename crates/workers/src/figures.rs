//! What a queue and its workers look like, found by looking; no participant is needed.

use std::time::Duration;

use commonhold_os::clock::monotonic_nanos;
use commonhold_os::process::Liveness;
use commonhold_runtime::core::guard::GuardFigures;
use commonhold_runtime::core::schema::Decoder;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::{Error, Record};

use crate::pool::SUPERVISOR;
use crate::records::{
    Priority, StoredTask, StoredWorker, TASKS, TaskId, TaskState, WORKERS, WorkerState,
};
use crate::table::find_table;

/// How many there are of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolFigures {
    /// Workers that are started and not ready yet.
    pub starting: u32,
    /// Workers that have a task.
    pub busy: u32,
    /// Workers that have none.
    pub idle: u32,
    /// Tasks that wait for a worker.
    pub queued: u32,
    /// Tasks that a worker has.
    pub running: u32,
    /// Tasks that have ended and whose end was not taken.
    pub ended: u32,
    /// Records of tasks and workers that cannot be read; the others are shown.
    pub damaged: u32,
    /// How many tasks there is room for in all.
    pub room: u32,
    /// How many workers there is room for.
    pub worker_room: u32,
    /// The supervisor's process; none: nobody supervises.
    pub supervisor: Option<u32>,
}

/// A task as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// Its kind.
    pub kind: String,
    /// Where it stands.
    pub state: TaskState,
    /// Its priority.
    pub priority: Priority,
    /// How often it was begun.
    pub attempt: u64,
    /// The record of the worker that has it.
    pub worker: Option<u32>,
    /// How long ago it was submitted.
    pub age: Duration,
    /// How long it has been running in this attempt; none: no worker has it.
    pub ran: Option<Duration>,
}

/// A worker as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Its record's number.
    pub number: u32,
    /// Its process id; 0 while it starts.
    pub pid: u32,
    /// What it is at; [`WorkerState::Gone`]: its process is dead, and its record waits for another one.
    pub state: WorkerState,
    /// When it was started, in microseconds since 1970.
    pub started_at: i64,
    /// Its turn of the record: it grows with each process that the record has.
    pub turn: u64,
    /// The task that it has.
    pub task: Option<TaskView>,
    /// How the last process of its record that ended did; empty when there was none.
    pub last_end: String,
}

/// What a look at a queue found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolView {
    /// How many there are of what.
    pub figures: PoolFigures,
    /// The tasks that there are, the oldest first.
    pub tasks: Vec<TaskView>,
    /// The workers that there are.
    pub workers: Vec<WorkerView>,
    /// Records of workers that have no living process, but had one.
    pub gone: Vec<WorkerView>,
}

impl PoolView {
    /// The task that waits for a worker and was submitted first.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<&TaskView> {
        self.tasks.iter().find(|task| task.state == TaskState::Pending)
    }
}

/// A look at the queue of a segment. `None` when it has none.
///
/// # Errors
/// [`Error::Corrupt`] when the segment is damaged.
pub fn look(space: &Space) -> Result<Option<PoolView>, Error> {
    let tasks = find_table::<StoredTask>(space, TASKS);
    let workers = find_table::<StoredWorker>(space, WORKERS);
    let (Some((tasks, room)), Some((workers, worker_room))) = (tasks, workers) else {
        return Ok(None);
    };
    let guard = space.guards()?.into_iter().find(|g: &GuardFigures| g.name == SUPERVISOR);
    let holder = guard.and_then(|g| g.holder);
    let holder = holder.and_then(|entry| space.identity_of(entry));
    let living = holder.filter(|process| process.find().0 != Liveness::Dead);
    let supervisor = living.map(|process| process.pid);
    let figures = PoolFigures { supervisor, room, worker_room, ..PoolFigures::default() };
    let mut view = PoolView { figures, ..PoolView::default() };
    let free = TaskState::Free.code();
    // Most records are free: they are not decoded.
    let used = |payload: &[u8]| Decoder::new(payload).i64() != Ok(free);
    let damaged = each(space, tasks, used, |_, task| view.tasks.extend(see_task(&task)))?;
    view.tasks.sort_unstable_by_key(|task| std::cmp::Reverse(task.age));
    for task in &view.tasks {
        match task.state {
            TaskState::Pending => view.figures.queued += 1,
            TaskState::Running => view.figures.running += 1,
            TaskState::Done | TaskState::Failed => view.figures.ended += 1,
            TaskState::Free | TaskState::Reserved => {}
        }
    }
    let mut seen = Vec::new();
    let see = |number, worker: StoredWorker| seen.extend(see_worker(number, &worker, &view));
    view.figures.damaged = damaged + each(space, workers, |_| true, see)?;
    seen.sort_unstable_by_key(|worker| worker.number);
    (view.gone, view.workers) = seen.into_iter().partition(|w| w.state == WorkerState::Gone);
    for worker in &view.workers {
        match (worker.state, &worker.task) {
            (WorkerState::Starting, _) => view.figures.starting += 1,
            (_, Some(_)) => view.figures.busy += 1,
            (_, None) => view.figures.idle += 1,
        }
    }
    Ok(Some(view))
}

/// Visits the records of a table that `which` picks by their payload; how many of them cannot be read.
fn each<T: Record>(
    space: &Space,
    position: usize,
    which: impl Fn(&[u8]) -> bool,
    mut visit: impl FnMut(u32, T),
) -> Result<u32, Error> {
    let mut damaged = 0;
    space.scan(position, |key, seen| {
        // A key that is no number is none of the queue's.
        let number = key.get(1..).and_then(|digits| digits.parse().ok());
        let Some(number) = number.filter(|_| which(&seen.payload)) else { return Ok(()) };
        match T::decode(&mut Decoder::new(&seen.payload)) {
            Ok(record) => visit(number, record),
            Err(_) => damaged += 1,
        }
        Ok::<(), Error>(())
    })?;
    Ok(damaged)
}

fn see_task(task: &StoredTask) -> Option<TaskView> {
    let state = TaskState::from_code(task.state).filter(|state| *state != TaskState::Free)?;
    let now = monotonic_nanos();
    let since = |nanos| Duration::from_nanos(now.saturating_sub(nanos));
    let runs = state == TaskState::Running;
    Some(TaskView {
        id: task.task_id(),
        kind: task.kind.as_str().to_owned(),
        state,
        priority: Priority::from_code(task.priority),
        attempt: task.attempt.cast_unsigned(),
        worker: runs.then_some(task.worker as u32),
        age: since(task.submitted),
        ran: runs.then(|| since(task.started)),
    })
}

/// A worker's record; none when it never had a process.
fn see_worker(number: u32, worker: &StoredWorker, view: &PoolView) -> Option<WorkerView> {
    if worker.turn == 0 {
        return None;
    }
    // Who has no supervisor that buries him may be dead, and does not become ready any more.
    let is_dead = || {
        let starts = worker.state() == WorkerState::Starting;
        starts || worker.process().find().0 == Liveness::Dead
    };
    let unburied = view.figures.supervisor.is_none() && is_dead();
    let state = if unburied { WorkerState::Gone } else { worker.state() };
    let has = |t: &&TaskView| t.state == TaskState::Running && t.worker == Some(number);
    let task = view.tasks.iter().find(has).filter(|_| state == WorkerState::Ready).cloned();
    Some(WorkerView {
        number,
        pid: u32::try_from(worker.pid).unwrap_or(0),
        state,
        started_at: worker.started_at.0,
        turn: worker.turn,
        task,
        last_end: worker.last_end.as_str().to_owned(),
    })
}
