//! Wakes who awaits tasks: one thread a process, which sleeps on the queue's bell for ends.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use commonhold_os::{OsError, fork};
use commonhold_runtime::core::queue::Bell;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::{Error, Handle};

use crate::queue::{Queue, Shape};
use crate::records::TaskId;

/// The longest sleep: who ended a task may have died before he rang.
const PIECE: Duration = Duration::from_secs(1);

/// A task, and which handle of it.
type Awaited = (TaskId, u64);

#[derive(Debug, Default)]
struct Waiting {
    /// By task, and by the number of the handle that is awaited: several may await one task.
    tasks: HashMap<Awaited, Waker>,
    /// The thread, while it runs, and the process that it is of, told apart from its forked children.
    thread: Option<(JoinHandle<()>, u64)>,
    closes: bool,
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
        id: Awaited,
        waker: &Waker,
        handle: impl FnOnce() -> Result<Handle, Error>,
        shape: &Shape,
    ) -> Result<(), Error> {
        let (waker, generation) = (waker.clone(), fork::generation());
        let mut waiting = lock(&self.waiting);
        let runs = |w: &Waiting| w.thread.as_ref().is_some_and(|(_, of)| *of == generation);
        let old = waiting.tasks.insert(id, waker);
        let missing = !runs(&waiting);
        drop(waiting);
        // Wakers are dropped without the lock: one may be the last that keeps another task's handle.
        drop(old);
        if !missing {
            return Ok(());
        }
        let queue = Queue::new(handle()?, shape.clone());
        let mut waiting = lock(&self.waiting);
        if runs(&waiting) {
            return Ok(()); // another one was first
        }
        let shared = Arc::clone(&self.waiting);
        let thread = std::thread::Builder::new().name("commonhold-ends".to_owned());
        let spawned = thread.spawn(move || watch_ends(&queue, &shared)).map_err(|error| {
            OsError::new("start a thread for", Path::new("ends of tasks"), error)
        })?;
        // In a forked child the parent's thread does not exist, and is nothing to join.
        std::mem::forget(waiting.thread.replace((spawned, generation)));
        Ok(())
    }

    /// Ends the thread. To be called when nobody awaits anything any more.
    pub(crate) fn close(&self, space: &Space, shape: &Shape) {
        let thread = {
            let mut waiting = lock(&self.waiting);
            waiting.closes = true;
            waiting.thread.take()
        };
        let Some((thread, of)) = thread else { return };
        // In a forked child there is no such thread; and what it wakes may drop the last that is awaited.
        let is_other = thread.thread().id() != std::thread::current().id();
        if of == fork::generation() && is_other {
            // In a segment that is cut nobody sleeps.
            let _ = space.ring_bell(shape.queue_words(), Bell::Done);
            let _ = thread.join();
        }
    }

    pub(crate) fn forget(&self, id: Awaited) {
        let waker = lock(&self.waiting).tasks.remove(&id);
        // Dropped without the lock: it may be the last that keeps another task's handle.
        drop(waker);
    }
}

/// Runs until nobody has awaited anything for a second.
fn watch_ends(queue: &Queue, shared: &Mutex<Waiting>) {
    let space = queue.space();
    let mut quiet = false;
    while let Ok(heard) = space.listen_bell(queue.queue_words(), Bell::Done) {
        let ids: Vec<Awaited> = lock(shared).tasks.keys().copied().collect();
        for id in &ids {
            // What cannot be read its owner is to see.
            let ended = queue.has_ended(id.0).unwrap_or(true);
            let waker = if ended { lock(shared).tasks.remove(id) } else { None };
            waker.into_iter().for_each(wake);
        }
        let mut waiting = lock(shared);
        if waiting.closes || (waiting.tasks.is_empty() && quiet) {
            waiting.thread = None;
            return;
        }
        quiet = waiting.tasks.is_empty();
        drop(waiting);
        if space.sleep_bell(queue.queue_words(), Bell::Done, heard, PIECE).is_err() {
            break;
        }
    }
    // The segment is cut: who waits finds out himself.
    let left = {
        let mut waiting = lock(shared);
        waiting.thread = None;
        std::mem::take(&mut waiting.tasks)
    };
    left.into_values().for_each(wake);
}

/// An executor's waker may panic; that is not the end of all the others.
fn wake(waker: Waker) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
}
