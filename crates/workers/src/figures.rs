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
    /// How many tasks there is room for in all.
    pub room: u32,
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
}

/// A worker as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Its record's number.
    pub number: u32,
    /// Its process id; 0 while it starts.
    pub pid: u32,
    /// What it is at.
    pub state: WorkerState,
    /// When it was started, in microseconds since 1970.
    pub started_at: i64,
    /// Processes that its record has had, with this one.
    pub turn: u64,
    /// The task that it has.
    pub task: Option<TaskView>,
    /// How the process before it ended; empty when there was none.
    pub last_end: String,
}

/// What a look at a queue found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolView {
    /// How many there are of what.
    pub figures: PoolFigures,
    /// The tasks that there are.
    pub tasks: Vec<TaskView>,
    /// The workers that there are.
    pub workers: Vec<WorkerView>,
}

/// A look at the queue of a segment. `None` when it has none.
///
/// # Errors
/// [`Error::Corrupt`] when the segment is damaged.
pub fn look(space: &Space) -> Result<Option<PoolView>, Error> {
    let (Ok(tasks), Ok(workers)) = (space.find_table(TASKS), space.find_table(WORKERS)) else {
        return Ok(None);
    };
    let guard = space.guards()?.into_iter().find(|g: &GuardFigures| g.name == SUPERVISOR);
    let holder = guard.and_then(|g| g.holder);
    let holder = holder.and_then(|entry| space.identity_of(entry));
    let living = holder.filter(|process| process.find().0 != Liveness::Dead);
    let mut figures = PoolFigures {
        supervisor: living.map(|process| process.pid),
        room: space.catalogue().tables.get(tasks).map_or(0, |t| t.slots),
        ..PoolFigures::default()
    };
    let mut there = Vec::new();
    each(space, tasks, |task: StoredTask| there.extend(view(&task)))?;
    for task in &there {
        match task.state {
            TaskState::Pending => figures.queued += 1,
            TaskState::Running => figures.running += 1,
            TaskState::Done | TaskState::Failed => figures.ended += 1,
            TaskState::Free | TaskState::Reserved => {}
        }
    }
    let (mut at, mut number) = (Vec::new(), 0);
    each(space, workers, |worker: StoredWorker| {
        number += 1;
        at.push((worker, number - 1));
    })?;
    let mut seen = Vec::new();
    for (worker, number) in at {
        if worker.state() == WorkerState::Gone {
            continue;
        }
        let has = |t: &&TaskView| t.state == TaskState::Running && t.worker == Some(number);
        let task = there.iter().find(has).cloned();
        match (worker.state(), &task) {
            (WorkerState::Starting, _) => figures.starting += 1,
            (_, Some(_)) => figures.busy += 1,
            (_, None) => figures.idle += 1,
        }
        seen.push(WorkerView {
            number,
            pid: u32::try_from(worker.pid).unwrap_or(0),
            state: worker.state(),
            started_at: worker.started_at.0,
            turn: worker.turn,
            task,
            last_end: worker.last_end.as_str().to_owned(),
        });
    }
    Ok(Some(PoolView { figures, tasks: there, workers: seen }))
}

/// Visits all records of a table, in the order of their keys.
fn each<T: Record>(space: &Space, position: usize, mut visit: impl FnMut(T)) -> Result<(), Error> {
    let mut all = std::collections::BTreeMap::new();
    space.scan(position, |key, seen| {
        let damaged = |at: usize| Error::Corrupt { what: "a payload", offset: 0, found: at as u64 };
        let record = T::decode(&mut Decoder::new(&seen.payload)).map_err(|e| damaged(e.at))?;
        all.insert(key.to_owned(), record);
        Ok::<(), Error>(())
    })?;
    all.into_values().for_each(&mut visit);
    Ok(())
}

fn view(task: &StoredTask) -> Option<TaskView> {
    let state = TaskState::from_code(task.state).filter(|state| *state != TaskState::Free)?;
    Some(TaskView {
        id: task.task_id(),
        kind: task.kind.as_str().to_owned(),
        state,
        priority: Priority::from_code(task.priority),
        attempt: task.attempt.cast_unsigned(),
        worker: (state == TaskState::Running).then_some(task.worker as u32),
        age: Duration::from_nanos(monotonic_nanos().saturating_sub(task.submitted)),
    })
}
