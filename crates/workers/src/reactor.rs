//! Wakes who awaits tasks: one thread a process, which sleeps on the queue's bell for ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use commonhold_runtime::core::queue::Bell;
use commonhold_runtime::{Error, Handle};

use crate::queue::{Queue, Shape};
use crate::records::{TaskId, TaskState};

/// The longest sleep: who ended a task may have died before he rang.
const PIECE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Waiting {
    tasks: HashMap<TaskId, Waker>,
    runs: bool,
}

/// The tasks that are awaited in this process.
#[derive(Debug, Default)]
pub(crate) struct Reactor {
    waiting: Arc<Mutex<Waiting>>,
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reactor {
    /// Has `waker` woken when the task ends. To be followed by a look whether it has.
    pub(crate) fn watch(
        &self,
        id: TaskId,
        waker: &Waker,
        handle: impl FnOnce() -> Result<Handle, Error>,
        shape: &Shape,
    ) -> Result<(), Error> {
        let mut waiting = lock(&self.waiting);
        match waiting.tasks.get_mut(&id) {
            Some(known) => known.clone_from(waker),
            None => drop(waiting.tasks.insert(id, waker.clone())),
        }
        if !waiting.runs {
            let queue = Queue::new(handle()?, shape.clone());
            let shared = Arc::clone(&self.waiting);
            let thread = std::thread::Builder::new().name("commonhold-ends".to_owned());
            let spawned = thread.spawn(move || watch_ends(&queue, &shared));
            let no_thread = |error| {
                commonhold_os::OsError::new(
                    "start a thread for",
                    std::path::Path::new("ends of tasks"),
                    error,
                )
            };
            spawned.map_err(|e| Error::from(no_thread(e)))?;
            waiting.runs = true;
        }
        Ok(())
    }

    pub(crate) fn forget(&self, id: TaskId) {
        lock(&self.waiting).tasks.remove(&id);
    }
}

/// Runs until nobody has awaited anything for a second.
fn watch_ends(queue: &Queue, shared: &Mutex<Waiting>) {
    let space = queue.space();
    let mut quiet = false;
    while let Ok(heard) = space.listen_bell(queue.queue_words(), Bell::Done) {
        let ids: Vec<TaskId> = lock(shared).tasks.keys().copied().collect();
        for id in &ids {
            let runs = [TaskState::Reserved, TaskState::Pending, TaskState::Running];
            let task = queue.task(*id);
            // What cannot be read its owner is to see.
            let ended = task.map_or(true, |t| t.is_none_or(|t| !runs.iter().any(|s| t.is(*s))));
            let waker = if ended { lock(shared).tasks.remove(id) } else { None };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        let mut waiting = lock(shared);
        if waiting.tasks.is_empty() && quiet {
            waiting.runs = false;
            return;
        }
        quiet = waiting.tasks.is_empty();
        drop(waiting);
        if space.sleep_bell(queue.queue_words(), Bell::Done, heard, PIECE).is_err() {
            break;
        }
    }
    // The segment is cut: who waits finds out himself.
    let mut waiting = lock(shared);
    waiting.runs = false;
    waiting.tasks.drain().for_each(|(_, waker)| waker.wake());
}
