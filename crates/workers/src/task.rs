//! Tasks as their submitter sees them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use commonhold_os::fork;
use commonhold_runtime::core::wait::Deadline;

use crate::error::TaskError;
use crate::pool::Shared;
use crate::queue::ends::Taken;
use crate::records::{Priority, TaskId};

/// The longest time that a task can be given.
const DEADLINE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most attempts.
const ATTEMPTS_MAX: u64 = 1000;

/// A task to be submitted.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    pub(crate) kind: &'a str,
    pub(crate) arguments: &'a [u8],
    pub(crate) deadline: Duration,
    pub(crate) attempts: u64,
    pub(crate) priority: Priority,
    pub(crate) bound: bool,
}

impl<'a> Task<'a> {
    /// A task of this kind: 60 s, three attempts, normal priority.
    #[must_use]
    pub fn new(kind: &'a str, arguments: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        let deadline = Duration::from_secs(60);
        let (arguments, priority) = (arguments.as_ref(), Priority::Normal);
        Self { kind, arguments, deadline, attempts: 3, priority, bound: false }
    }

    /// How long it may take from submission to its end, all attempts and the wait for a worker included. A worker that
    /// is still at it then is killed.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How often it is begun at most. It is begun again when its worker died, and for no other reason.
    #[must_use]
    pub fn attempts(mut self, attempts: u64) -> Self {
        self.attempts = attempts;
        self
    }

    /// How soon it is begun, among those that wait.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Gives it up when the process that submits it dies: its result is of use to nobody else. Without this it is done,
    /// and its end is kept for a while.
    #[must_use]
    pub fn bound(mut self) -> Self {
        self.bound = true;
        self
    }

    pub(crate) fn check(&self) -> Result<(), TaskError> {
        if self.deadline.is_zero() || self.deadline > DEADLINE_MAX {
            let found = format!("{} ms", self.deadline.as_millis());
            let must = "more than nothing and at most 30 days".to_owned();
            return Err(TaskError::Option { what: "deadline", found, must });
        }
        if !(1..=ATTEMPTS_MAX).contains(&self.attempts) {
            let (found, must) = (self.attempts.to_string(), format!("1 to {ATTEMPTS_MAX}"));
            return Err(TaskError::Option { what: "number of attempts", found, must });
        }
        Ok(())
    }
}

/// A task that was submitted. Its end is delivered once: by [`TaskHandle::wait`], or by awaiting it, with any executor.
/// When it is dropped before, the task goes on, and its end is given up.
#[derive(Debug)]
pub struct TaskHandle {
    shared: Arc<Shared>,
    id: TaskId,
    /// Nothing is to be given up when it is dropped.
    taken: AtomicBool,
    /// Its number among those that are awaited in this process.
    number: u64,
    /// In a forked child it is the parent's.
    generation: u64,
}

impl TaskHandle {
    /// The submitter's.
    pub(crate) fn new(shared: Arc<Shared>, id: TaskId) -> Self {
        Self::with(shared, id, false)
    }

    /// Of one who only looks at somebody's task: when it is dropped, the end is still the submitter's.
    pub(crate) fn of_another(shared: Arc<Shared>, id: TaskId) -> Self {
        Self::with(shared, id, true)
    }

    fn with(shared: Arc<Shared>, id: TaskId, taken: bool) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (number, generation) = (NUMBER.fetch_add(1, Ordering::Relaxed), fork::generation());
        Self { shared, id, taken: AtomicBool::new(taken), number, generation }
    }

    /// Its id. Whoever is attached finds the task by it ([`crate::Pool::task`]).
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Waits for the end of the task: its result, or why there is none.
    ///
    /// # Errors
    /// [`TaskError::Failed`]; [`TaskError::TimedOut`] when `limit` passed first, and the task goes on;
    /// [`TaskError::Gone`] when the end was taken before.
    pub fn wait(&self, limit: Duration) -> Result<Vec<u8>, TaskError> {
        let deadline = Deadline::after(limit);
        loop {
            if let Some(ended) = self.try_take()? {
                return ended;
            }
            let ended = self.shared.with(|queue| queue.wait_ended(self.id, &deadline))?;
            if !ended {
                // What is damaged elsewhere is no answer to this.
                let why = self.shared.why_not_done().unwrap_or_default();
                return Err(TaskError::TimedOut { id: self.id, limit, why });
            }
        }
    }

    /// The end of the task, if it has ended.
    ///
    /// # Errors
    /// [`TaskError::Runtime`].
    pub fn try_take(&self) -> Result<Option<Result<Vec<u8>, TaskError>>, TaskError> {
        let id = self.id;
        Ok(match self.shared.with(|queue| queue.take(id))? {
            Taken::NotYet => None,
            Taken::Gone => {
                self.taken.store(true, Ordering::Relaxed);
                Some(Err(TaskError::Gone { id }))
            }
            Taken::End(end) => {
                self.taken.store(true, Ordering::Relaxed);
                let failed = |reason| TaskError::Failed { id, kind: end.kind, reason };
                Some(end.outcome.map_err(failed))
            }
        })
    }

    /// Gives the task up. One that waits ends at once; one that runs is told ([`crate::Context::is_cancelled`]), and its
    /// worker is killed if it has not ended a little later. False when it had ended already. Its end is to be taken as
    /// any other.
    ///
    /// # Errors
    /// [`TaskError::Runtime`].
    pub fn cancel(&self) -> Result<bool, TaskError> {
        Ok(self.shared.with(|queue| queue.cancel(self.id))?)
    }

    /// Gives the task up if no worker has it.
    pub(crate) fn cancel_pending(&self) -> Result<bool, TaskError> {
        Ok(self.shared.with(|queue| queue.cancel_pending(self.id))?)
    }

    fn poll_end(&self, waker: &Waker) -> Poll<Result<Vec<u8>, TaskError>> {
        // First the waker, then the look: an end in between wakes.
        let ended = self.shared.watch((self.id, self.number), waker).map_err(TaskError::from);
        match ended.and_then(|()| self.try_take()) {
            Ok(None) => Poll::Pending,
            Ok(Some(ended)) => {
                self.shared.forget((self.id, self.number));
                Poll::Ready(ended)
            }
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

impl Future for TaskHandle {
    type Output = Result<Vec<u8>, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        self.poll_end(context.waker())
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.shared.forget((self.id, self.number));
        if !*self.taken.get_mut() && self.generation == fork::generation() {
            // Best effort: if it fails, its end is given up when the submitter has been dead for a while.
            let _ = self.shared.with(|queue| queue.detach(self.id));
        }
    }
}
