//! From the global options to a configuration, and from there to the segment: to read it, or to change it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use commonhold::core::Space;
use commonhold::core::flag::Doorbell;
use commonhold::store::StoreError;
use commonhold::{Config, OpenError, Runtime, admin};

use crate::failure::{Done, Failure};

/// The configuration that is read when none is named.
const CONFIG_FILE: &str = "commonhold.toml";

/// Options of every command, before or after its name.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Globals {
    /// The segment: a name (a file under /dev/shm), or a path with a slash
    #[arg(long, global = true, env = "COMMONHOLD_SEGMENT", hide_env_values = true)]
    #[arg(value_name = "NAME|PATH", help_heading = "Global options")]
    segment: Option<String>,
    /// Where commits go: sqlite:PATH, postgres://USER@HOST/DATABASE or none [default: the segment's own, else a file in the user's data folder]
    #[arg(long, global = true, env = "COMMONHOLD_STORE", hide_env_values = true)]
    #[arg(value_name = "URL", value_parser = store_url, help_heading = "Global options")]
    store: Option<String>,
    /// A configuration [default: commonhold.toml in the working directory, if there is one]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    config: Option<PathBuf>,
}

/// A store's url; empty, as from an empty variable, stands for none given.
pub(crate) fn store_url(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    commonhold::store::normalise(text).map(|_| text.to_owned()).map_err(|e| e.to_string())
}

fn given(option: Option<&str>) -> Option<&str> {
    option.filter(|text| !text.is_empty())
}

impl Globals {
    /// The configuration: the file, and over it what the command line and the environment say.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let config = self.file().map(Config::from_file).transpose()?.unwrap_or_default();
        let store = given(self.store.as_deref());
        Ok(config.with_segment(given(self.segment.as_deref())).with_store(store))
    }

    /// The configuration's file, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.config {
            Some(file) => Some(file),
            None => Some(Path::new(CONFIG_FILE)).filter(|file| file.exists()),
        }
    }

    /// The segment that was named by an option or the environment.
    pub(crate) fn segment(&self) -> Option<&str> {
        given(self.segment.as_deref())
    }

    /// The store that was named by an option or the environment.
    pub(crate) fn store(&self) -> Option<&str> {
        given(self.store.as_deref())
    }

    /// The store that was named, else that of the segment, else the configured or default one.
    pub(crate) fn store_of_segment(&self) -> Result<String, Failure> {
        if let Some(url) = self.store() {
            return Ok(url.to_owned());
        }
        let config = self.config()?;
        // A segment that is not there or damaged does not matter here.
        match admin::look(&config) {
            Ok(space) => Ok(space.segment().header().store_url.clone()),
            Err(_) => Ok(config.store_url()),
        }
    }
}

/// Opens the segment to change it: this process is a candidate for the steward's role, and stores what it
/// committed before it ends if nobody else does.
pub(crate) fn open(config: Config) -> Result<Runtime, Failure> {
    refuse_nothing(&config)?;
    Ok(Runtime::open(config)?)
}

/// Opens the segment to look at it: nothing is written, no entry is taken. If it is not there, it is made
/// anew from its store.
pub(crate) fn open_to_read(config: Config) -> Result<Arc<Space>, Failure> {
    let runtime = open(config.without_steward())?;
    Ok(Arc::clone(runtime.space()))
}

/// With neither a segment nor a store there is nothing to open: no store is made for a mistyped name.
fn refuse_nothing(config: &Config) -> Done {
    let path = config.segment_path();
    if path.exists() || !config.tables().is_empty() {
        return Ok(());
    }
    match commonhold::store::open_read_only(&config.store_url()) {
        Err(StoreError::Missing(_) | StoreError::NotAStore(_)) => {
            Err(OpenError::NoTables { path, store: config.store_url() }.into())
        }
        _ => Ok(()),
    }
}

/// Ends a run that changed something: drains what this process has to drain, and tells when the store did not
/// take it and nobody is left to try again.
pub(crate) fn close(runtime: Runtime) -> Done {
    let space = Arc::clone(runtime.space());
    drop(runtime);
    if space.steward_state() != Doorbell::None {
        return Ok(());
    }
    let Some(why) = space.steward_message() else { return Ok(()) };
    match admin::unstored(&space)? {
        0 => Ok(()),
        versions => Err(Failure::failed(format!(
            "committed in memory, but the store still lacks {versions} of the segment's versions or counters: {why}; \
             `commonhold drain` tries again"
        ))),
    }
}

/// The position of a table, or an error that names those that there are.
pub(crate) fn find_table(space: &Space, name: &str) -> Result<usize, Failure> {
    Ok(space.find_table(name)?)
}
