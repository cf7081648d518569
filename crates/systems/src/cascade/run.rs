//! The analysis as a task: a worker process computes it, and the caller awaits it.

use std::future::Future;
use std::time::Duration;

use commonhold_workers::{Kind, Pool, Task, TaskError, TaskHandle};

use super::{Analysis, ArgsError, CascadeArgs, analyze_resonance};

/// The name of the task kind.
pub const KIND: &str = "analyze_resonance";

/// Why there is no analysis.
#[derive(Debug, thiserror::Error)]
pub enum CascadeError {
    /// The signal, or what is wanted of it.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// The task, or the pool.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// The task kind that a pool's kinds need: arguments are those of [`CascadeArgs::encode`], checked before they are
/// dispatched, and the result is that of [`Analysis::encode`].
#[must_use]
pub fn kind() -> Kind {
    let decode = |bytes: &[u8]| CascadeArgs::decode(bytes).map_err(|error| error.to_string());
    Kind::new(
        KIND,
        move |bytes| decode(bytes).map(drop),
        move |_, bytes| {
            let analysis = analyze_resonance(&decode(bytes)?).map_err(|error| error.to_string())?;
            Ok(analysis.encode())
        },
    )
}

/// An analysis that was submitted: awaited with any executor, or waited for.
#[derive(Debug)]
pub struct Cascade(TaskHandle);

impl Cascade {
    /// Submits the analysis of `args`.
    ///
    /// # Errors
    /// [`CascadeError::Args`] when the signal is too large for a task; [`CascadeError::Task`] when the queue is full.
    pub fn submit(pool: &Pool, args: &CascadeArgs) -> Result<Self, CascadeError> {
        Ok(Self(pool.submit(Task::new(KIND, &args.encode()?))?))
    }

    /// The task: its id, and to cancel it.
    #[must_use]
    pub fn task(&self) -> &TaskHandle {
        &self.0
    }

    /// Waits for the analysis.
    ///
    /// # Errors
    /// [`CascadeError::Task`]: the task failed, or has not ended after `limit`; then it may be waited for again.
    pub fn wait(&self, limit: Duration) -> Result<Analysis, CascadeError> {
        Ok(Analysis::decode(&self.0.wait(limit)?)?)
    }
}

/// Has `args` analysed by a worker of `pool`, which knows [`kind`]. It is submitted at once; the future resolves with the
/// analysis, and needs the pool no more.
///
/// # Errors
/// The future's: those of [`Cascade::submit`] and [`Cascade::wait`].
///
/// # Examples
/// ```no_run
/// # use commonhold_runtime::Runtime;
/// use commonhold_systems::cascade::{self, CascadeArgs, Options, Signal, run_cascade};
/// # use commonhold_workers::{Kinds, Pool, PoolOptions};
/// # async fn example(runtime: &Runtime, samples: Vec<f64>) -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::start(runtime, Kinds::new().with(cascade::kind()), PoolOptions::new())?;
/// let args = CascadeArgs::new(Signal::new(44_100.0, vec![samples])?, Options::default())?;
/// let analysis = run_cascade(&pool, &args).await?;
/// println!("{:?} Hz", analysis.strongest.fundamental_hz);
/// # Ok(())
/// # }
/// ```
pub fn run_cascade(
    pool: &Pool,
    args: &CascadeArgs,
) -> impl Future<Output = Result<Analysis, CascadeError>> + Send + use<> {
    let submitted = Cascade::submit(pool, args);
    async move { Ok(Analysis::decode(&submitted?.0.await?)?) }
}
