//! The desk: participants of the segment that requests borrow, one at a time, and the threads in which they wait.
//!
//! A request that need not wait is done at once on the thread that runs it, by a participant that waits for no room.
//! What has to wait (for room in a full table, for the store) is done on a blocking thread; how many may wait at
//! once is bounded, and who comes then waits for a thread first, and is told to come again when none was free in time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commonhold::{Error, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::problem::{Kind, Problem};

/// So many participants are kept for the next who needs one.
const IDLE_HANDLES: usize = 16;

/// Why something was not done through a participant.
#[derive(Debug)]
pub enum Stop {
    /// There is no room, or the store has to be waited for; who waits may get it done.
    Wait(Error),
    /// It cannot be done.
    Problem(Problem),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Full { .. } | Error::IntentFull { .. } | Error::Timeout { .. } => {
                Self::Wait(error)
            }
            other => Self::Problem(other.into()),
        }
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Stop> for Problem {
    fn from(stop: Stop) -> Self {
        match stop {
            // What was waited for did not come: room, or the store.
            Stop::Wait(error) => Self::new(Kind::Unavailable, error.to_string()).retry_after(1),
            Stop::Problem(problem) => problem,
        }
    }
}

/// Lends participants.
pub struct Desk {
    runtime: Arc<Runtime>,
    idle: Mutex<Vec<Handle>>,
    room_wait: Duration,
    waiting: Arc<Semaphore>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Desk {
    /// A desk for the segment, where `waiting` requests may wait at once, `room_wait` each for room.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>, room_wait: Duration, waiting: usize) -> Self {
        let waiting = Arc::new(Semaphore::new(waiting));
        Self { runtime, idle: Mutex::default(), room_wait, waiting }
    }

    /// The segment.
    #[must_use]
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Works through a participant that nobody else uses meanwhile, and that waits for no room.
    ///
    /// # Errors
    /// What `work` returns; [`Error::Participants`].
    pub fn with<R, E: From<Error>>(
        &self,
        work: impl FnOnce(&Handle) -> Result<R, E>,
    ) -> Result<R, E> {
        self.lend(Duration::ZERO, work)
    }

    fn lend<R, E: From<Error>>(
        &self,
        room_wait: Duration,
        work: impl FnOnce(&Handle) -> Result<R, E>,
    ) -> Result<R, E> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let free = idle().pop();
        let handle = match free {
            Some(handle) => handle,
            None => self.runtime.handle()?,
        };
        handle.set_room_wait(room_wait);
        let done = work(&handle);
        let mut idle = idle();
        if idle.len() < IDLE_HANDLES {
            idle.push(handle);
        }
        done
    }

    /// Works at once; if that finds no room, again on a blocking thread, where it waits for room.
    ///
    /// # Errors
    /// What `work` returns; [`Kind::Unavailable`] when there was no room, or too many wait for it.
    pub async fn work<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl Fn(&Handle) -> Result<R, Stop> + Send + 'static,
    ) -> Result<R, Problem> {
        match self.with(&work) {
            Err(Stop::Wait(_)) => self.waiting(work).await,
            other => Ok(other?),
        }
    }

    /// Works on a blocking thread, where it may wait.
    ///
    /// # Errors
    /// As [`Desk::work`].
    pub async fn waiting<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Handle) -> Result<R, Stop> + Send + 'static,
    ) -> Result<R, Problem> {
        let (desk, room_wait) = (Arc::clone(self), self.room_wait);
        self.blocking(move || Ok(desk.lend(room_wait, work)?)).await
    }

    /// Works on a blocking thread.
    ///
    /// # Errors
    /// What `work` returns; [`Kind::Unavailable`] when too many wait for too long.
    pub async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<R, Problem> + Send + 'static,
    ) -> Result<R, Problem> {
        let permit = self.permit().await?;
        let thread = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        match thread.await {
            Ok(done) => done,
            Err(end) => match end.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Problem::new(Kind::Unavailable, "the daemon is stopping")),
            },
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = timeout(self.room_wait, Arc::clone(&self.waiting).acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or_else(|| {
            let detail = "too many requests wait for room or for the store; try again";
            Problem::new(Kind::Unavailable, detail).retry_after(1)
        })
    }

    /// Gives back the participants that nobody uses.
    pub fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
