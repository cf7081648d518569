//! What all requests share: the segment, the worker pool, and the desk where participants are lent.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use commonhold::systems::resonance::{GUARD, METRICS_PREFIX, ResonanceNetworks};
use commonhold::systems::sigils::SigilIdentity;
use commonhold::workers::Pool;
use commonhold::{Error, Guard, GuardOptions, Runtime};

use crate::desk::Desk;
use crate::openapi;

/// What the routes work with; the daemon starts it and stops it again.
#[derive(Debug)]
pub struct Parts {
    /// The segment.
    pub runtime: Arc<Runtime>,
    /// The worker pool, if the segment has the tables of a queue.
    pub pool: Option<Pool>,
    /// The sigils, if the segment has their tables.
    pub sigils: Option<SigilIdentity>,
    /// Limits.
    pub options: AppOptions,
}

/// Limits of what one request may wait for, and what it may touch beside the segment.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// The longest wait for room in a full table.
    pub room_wait: Duration,
    /// The wait for the store, of a durable write that names none.
    pub durable_wait: Duration,
    /// The longest wait for the store that a request may ask for.
    pub durable_wait_max: Duration,
    /// The longest wait for a task in the worker pool.
    pub task_wait: Duration,
    /// How many requests may wait at once, each in a thread of its own; the next is told to come again.
    pub waiting: usize,
    /// The most bytes of a body.
    pub body_bytes: usize,
    /// The file of the human concept map, if there is one.
    pub human_map: Option<PathBuf>,
    /// Whether requests need a bearer token: the OpenAPI document says so.
    pub needs_token: bool,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            room_wait: Duration::from_secs(5),
            durable_wait: Duration::from_secs(10),
            durable_wait_max: Duration::from_secs(60),
            task_wait: Duration::from_secs(25),
            waiting: 64,
            body_bytes: 1 << 20,
            human_map: None,
            needs_token: false,
        }
    }
}

/// What all requests share.
#[derive(Debug)]
pub struct App {
    desk: Arc<Desk>,
    pool: RwLock<Option<Pool>>,
    sigils: Option<SigilIdentity>,
    options: AppOptions,
    ready: AtomicBool,
    document: OnceLock<String>,
}

impl App {
    /// Takes the parts; it is not ready yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { runtime, pool, sigils, options } = parts;
        let desk = Arc::new(Desk::new(runtime, options.room_wait, options.waiting));
        // The metrics of the guard are there before somebody takes it; without room for them there are none.
        let _ = desk.with(|handle| {
            let options = GuardOptions::new().metrics(METRICS_PREFIX);
            Guard::new(handle, GUARD, &options).map(drop)
        });
        let _ = desk.with(|handle| ResonanceNetworks::new(handle).map(drop));
        let (pool, ready) = (RwLock::new(pool), AtomicBool::new(false));
        Self { desk, pool, sigils, options, ready, document: OnceLock::new() }
    }

    /// The segment.
    #[must_use]
    pub fn runtime(&self) -> &Arc<Runtime> {
        self.desk.runtime()
    }

    /// Where participants are lent.
    #[must_use]
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// The sigils, if the segment has their tables. Who runs the daemon starts and stops their jobs.
    #[must_use]
    pub fn sigils(&self) -> Option<&SigilIdentity> {
        self.sigils.as_ref()
    }

    /// The limits.
    #[must_use]
    pub fn options(&self) -> &AppOptions {
        &self.options
    }

    /// Does something with the worker pool; `None` when there is none, or it was taken to be stopped.
    pub fn with_pool<R>(&self, work: impl FnOnce(&Pool) -> R) -> Option<R> {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(work)
    }

    /// Takes the worker pool out, to stop it. Requests that need one are told that there is none from now on.
    pub fn take_pool(&self) -> Option<Pool> {
        self.pool.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The OpenAPI document of this daemon and its tables, as JSON.
    pub fn document(&self) -> &str {
        self.document.get_or_init(|| {
            let document = openapi::document(self.runtime().catalogue(), &self.options);
            document.to_string()
        })
    }

    /// Whether `/readyz` says yes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Sets what `/readyz` says: yes when everything is started, no when the stop begins.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Gives the participants back that nobody uses, so that the segment may be left.
    pub fn close(&self) {
        self.desk.close();
    }

    /// Everything that the segment counts, as text for Prometheus.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Truncated`].
    pub fn metrics_text(&self) -> Result<String, Error> {
        let samples = self.runtime().samples()?;
        Ok(commonhold::metrics::prometheus_text(&samples))
    }
}
