//! The two jobs of sigils: once in all processes together, whichever of them have started them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commonhold_runtime::Runtime;
use commonhold_workers::jobs::{Job, Jobs};

use super::error::SigilError;
use super::identity::SigilIdentity;

/// The job that makes permanent what was recalled often; every ten seconds.
pub const CRYSTALLIZE: &str = "sigils.crystallize";
/// The job that sweeps what faded; every five seconds.
pub const DECAY: &str = "sigils.decay";

/// The jobs that were started through a [`SigilIdentity`] or its clones.
#[derive(Debug, Clone, Default)]
pub(super) struct Started(Arc<Mutex<Option<Jobs>>>);

impl SigilIdentity {
    /// The two jobs, for a program that starts them with others of its own.
    ///
    /// # Errors
    /// [`SigilError::Jobs`].
    pub fn jobs(&self) -> Result<Vec<Job>, SigilError> {
        let (crystallizes, decays) = (self.without_jobs(), self.without_jobs());
        let crystallize = Job::cron(CRYSTALLIZE, "*/10 * * * * *")?.run(move |_| {
            let done = crystallizes.crystallize_memory_patterns().map_err(|e| e.to_string())?;
            Ok(format!("{} of {} became permanent", done.crystallized, done.seen))
        });
        let decay = Job::cron(DECAY, "*/5 * * * * *")?.run(move |_| {
            let done = decays.process_memory_decay().map_err(|e| e.to_string())?;
            Ok(format!("{} of {} were swept", done.swept, done.seen))
        });
        Ok(vec![crystallize, decay])
    }

    /// Starts the two jobs in this process; each tick runs once in all processes that did. The segment must have the
    /// table of jobs ([`commonhold_workers::jobs::configure`] adds it). When they are started already, nothing happens.
    ///
    /// # Errors
    /// [`SigilError::Jobs`].
    pub fn start(&self, runtime: &Runtime) -> Result<(), SigilError> {
        let mut started = self.started.0.lock().unwrap_or_else(PoisonError::into_inner);
        if started.is_none() {
            *started = Some(Jobs::start(runtime, self.jobs()?)?);
        }
        Ok(())
    }

    /// Stops the jobs that [`SigilIdentity::start`] started, here and not in other processes; waits at most `limit` for
    /// what is under way. When none are started, nothing happens. They also stop when the last clone is dropped.
    ///
    /// # Errors
    /// [`SigilError::Jobs`] when something was still under way; it goes on to its end.
    pub fn stop(&self, limit: Duration) -> Result<(), SigilError> {
        let started = self.started.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        started.map_or(Ok(()), |jobs| Ok(jobs.stop(limit)?))
    }
}
