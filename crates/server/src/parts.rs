//! What a daemon runs beside its routes: the segment with the tables of the systems, and the worker pool.

use std::sync::Arc;
use std::time::Duration;

use commonhold::core::catalogue::Catalogue;
use commonhold::systems::sigils::{self, SigilCapacity, SigilError, SigilIdentity, SigilOptions};
use commonhold::systems::{customers, resonance};
use commonhold::workers::jobs::{self, JobsError};
use commonhold::workers::{self, Capacity, Pool, PoolError};
use commonhold::{Config, OpenError, Runtime, admin};

use crate::error::ServeError;
use crate::options::ServerOptions;

/// The longest wait for the store, when tables are added to a segment that is there.
const DRAIN: Duration = Duration::from_secs(60);

/// What was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) pool: Option<Pool>,
    pub(crate) sigils: Option<SigilIdentity>,
}

/// Opens the segment and starts what works on it.
pub(crate) fn start(options: &ServerOptions) -> Result<Started, ServeError> {
    let runtime = Arc::new(open(options)?);
    let pool = start_pool(&runtime, options)?;
    let sigils = open_sigils(&runtime)?;
    Ok(Started { runtime, pool, sigils })
}

/// The sigils, where the segment has their tables.
fn open_sigils(runtime: &Runtime) -> Result<Option<SigilIdentity>, ServeError> {
    match SigilIdentity::open(runtime, SigilOptions::new()) {
        Ok(sigils) => Ok(Some(sigils)),
        Err(SigilError::NoTable { .. } | SigilError::OtherTable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Starts the jobs of the sigils, where the segment has a table for them.
pub(crate) fn start_jobs(runtime: &Runtime, sigils: &SigilIdentity) -> Result<(), ServeError> {
    match sigils.start(runtime) {
        Err(SigilError::Jobs(why @ (JobsError::NoTable | JobsError::OtherTable))) => {
            tracing::warn!(%why, "sigils neither crystallize nor decay by this daemon");
            Ok(())
        }
        started => Ok(started?),
    }
}

/// The tables of the systems.
fn system_tables(options: &ServerOptions) -> Config {
    let config = workers::configure(Config::default(), &Capacity::default());
    let config = customers::with_customers(jobs::configure(config));
    let capacity = SigilCapacity { sigils: options.sigils, ..SigilCapacity::default() };
    let config = sigils::configure(config, &capacity);
    resonance::table_configs().into_iter().fold(config, Config::table)
}

/// Opens the segment; makes it, or adds the tables of the systems to it where they lack. Sizes that somebody chose stay. A
/// segment that is in use, or has no store, stays as it is.
fn open(options: &ServerOptions) -> Result<Runtime, ServeError> {
    let config = &options.segment;
    let there = there(config)?;
    let known = |name: &str| {
        let asked = config.tables().iter().any(|table| table.name() == name);
        asked || there.as_ref().is_some_and(|c| c.find(name).is_some())
    };
    let systems = system_tables(options);
    let missing: Vec<_> = systems.tables().iter().filter(|t| !known(t.name())).cloned().collect();
    let names: Vec<_> = missing.iter().map(|table| table.name().to_owned()).collect();
    let whole = missing.into_iter().fold(config.clone(), Config::table);
    if !names.is_empty() && !config.is_ephemeral() && config.segment_path().exists() {
        match admin::create_tables(&whole, DRAIN) {
            Ok(_) => {}
            Err(error @ (OpenError::InUse { .. } | OpenError::NoStore { .. })) => {
                let tables = names.join(" ");
                tracing::warn!(tables, why = %error, "the segment lacks tables; their routes answer 404");
                return Ok(Runtime::open(config.clone())?);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Runtime::open(whole)?)
}

/// The tables that there are, in the segment or, if there is none, in its store.
fn there(config: &Config) -> Result<Option<Catalogue>, ServeError> {
    if config.is_ephemeral() {
        return Ok(None);
    }
    match admin::look(config) {
        Ok(space) => Ok(Some(space.catalogue().clone())),
        Err(OpenError::Missing { .. }) => {
            // A store that is not there, or none yet: making the segment tells what else is wrong with it.
            let store = commonhold::store::open_read_only(&config.store_url());
            Ok(store.and_then(|mut store| store.catalogue()).unwrap_or_default())
        }
        Err(error) => Err(error.into()),
    }
}

/// Workers of this daemon, now or when who supervises them stops or dies; or the queue alone, where it shall have none.
fn start_pool(runtime: &Arc<Runtime>, options: &ServerOptions) -> Result<Option<Pool>, ServeError> {
    let pool = match &options.pool {
        None => Pool::attach(runtime, options.kinds.clone()),
        // The first daemon supervises; the next ones stand by.
        Some(pool) => Pool::stand_by(runtime, options.kinds.clone(), pool.clone()),
    };
    match pool {
        Ok(pool) => Ok(Some(pool)),
        Err(PoolError::NoTables { .. } | PoolError::OtherTable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
