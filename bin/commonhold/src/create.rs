//! `create`: makes the segment, or adds tables to the one that is there; `--plan` only computes its sizes.

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use commonhold::catalogue::{Catalogue, History, TableSpec};
use commonhold::schema::Field;
use commonhold::workers::{
    self, Capacity, PAGES, PAGES_MAX, TASKS, TASKS_MAX, WORKERS, WORKERS_MAX,
};
use commonhold::{Config, OpenError, Runtime, TableConfig, admin};
use serde::Serialize;

use crate::connect::{Globals, open};
use crate::failure::{Done, Failure};
use crate::output::{Format, bytes_text, print_json, print_line};
use crate::parse::duration;
use crate::plan::{Plan, print_plan};

/// The longest wait for the store, when a command adds its tables to a segment that is there.
const DRAIN: Duration = Duration::from_secs(60);

/// Make a table, and the segment if it is not there
///
/// Makes a table, and the segment if it is not there; without a table those of the configuration. A segment's
/// size is fixed: one that is there and not in use is drained and made anew from its store, with the
/// tables it had and the new ones. Sizes not given are those the table had, or the defaults. A queue of tasks is
/// three tables; each of --workers, --tasks and --pages adds it, or changes its size.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold create counters --field n:i64
  commonhold create customers --field cap:i64 --field used:i64 --slots 100000
  commonhold create customers --slots 200000      (enlarge it)
  commonhold create --workers 8 --tasks 4096      (a queue of tasks for up to 8 worker processes)
  commonhold --config commonhold.toml create --plan

Types: i64 u64 f64 bool timestamp text(n) bytes(n) json(n), n being the limit in bytes.")]
pub(crate) struct Create {
    /// The table [default: those of the configuration]
    table: Option<String>,
    /// A field: name:type (repeat it for each; may be left out for a table that is there)
    #[arg(long = "field", value_name = "NAME:TYPE", requires = "table")]
    fields: Vec<Field>,
    /// Store every version, or only the latest [default: full]
    #[arg(long, value_name = "full|latest", requires = "table")]
    history: Option<History>,
    /// How many records fit [default: 1024]
    #[arg(long, value_name = "N", requires = "table", value_parser = from_one(1 << 24))]
    slots: Option<u32>,
    /// How many versions fit [default: what it takes, and with full history 65536 that wait for the store]
    #[arg(long, value_name = "N", requires = "table", value_parser = from_one(1 << 24))]
    cells: Option<u32>,
    /// The longest key, in bytes [default: 48]
    #[arg(long, value_name = "N", requires = "table", value_parser = from_one(1024))]
    key_bytes: Option<u32>,
    /// The most participants (threads that change something) at once [default: 1024]
    #[arg(long, value_name = "N", value_parser = from_one(4095))]
    participants: Option<u32>,
    /// Counters of the vector clock [default: 8]
    #[arg(long, value_name = "N", value_parser = from_one(64))]
    lanes: Option<u32>,
    /// Guards, counters, ids and metrics at most [default: 256]
    #[arg(long, value_name = "N", value_parser = from_one(4096))]
    names: Option<u32>,
    /// Words of each participant for what guards and metrics count [default: 512]
    #[arg(long, value_name = "N", value_parser = from_one(1 << 16))]
    share_words: Option<u32>,
    /// Pages of 4 KiB for guarded changes of several records under way [default: 256]
    #[arg(long, value_name = "N", value_parser = from_one(1 << 14))]
    intents: Option<u32>,
    /// Add a queue of tasks for so many worker processes [default, with --tasks or --pages: 64]
    #[arg(long, value_name = "N", value_parser = from_one(WORKERS_MAX.into()))]
    workers: Option<u32>,
    /// Tasks that the queue holds: waiting, running, or with a result that was not taken [default: 1024]
    #[arg(long, value_name = "N", value_parser = from_one(TASKS_MAX.into()))]
    tasks: Option<u32>,
    /// Pages of 16 KiB for arguments and results of tasks over 256 bytes [default: 1024]
    #[arg(long, value_name = "N", value_parser = from_one(PAGES_MAX.into()))]
    pages: Option<u32>,
    /// Print the sizes, and create nothing
    #[arg(long)]
    plan: bool,
    /// The longest wait for the store, when a segment is drained to be made anew
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    timeout: Duration,
    #[command(flatten)]
    format: Format,
}

fn from_one(last: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=last)
}

/// What `create` did.
#[derive(Debug, Serialize)]
struct Created<'a> {
    segment: String,
    store: &'a str,
    /// `created`, `recreated` or `unchanged`.
    outcome: &'a str,
    tables: Vec<&'a str>,
    total_bytes: u64,
}

impl Create {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let config = globals.config()?;
        let there = there(&config)?;
        let config = self.with_table(config, there.as_ref())?;
        if self.plan {
            let plan = Plan::new(&config, &config.catalogue(there.as_ref())?)?;
            return if self.format.json { print_json(&plan) } else { print_plan(&plan) };
        }
        let existed = config.segment_path().exists();
        refuse_other_store(globals, &config, existed)?;
        let outcome = match (admin::create_tables(&config, self.timeout)?, existed) {
            (false, _) => "unchanged",
            (true, true) => "recreated",
            (true, false) => "created",
        };
        self.tell(&config, outcome)
    }

    /// The configuration with the table of the command line.
    fn with_table(&self, config: Config, there: Option<&Catalogue>) -> Result<Config, Failure> {
        let mut config = config;
        if let Some(participants) = self.participants {
            config = config.participants(participants);
        }
        config = self.names.into_iter().fold(config, Config::names);
        config = self.share_words.into_iter().fold(config, Config::share_words);
        config = self.intents.into_iter().fold(config, Config::intents);
        if let Some(lanes) = self.lanes {
            config = config.lanes(lanes);
        }
        config = self.with_queue(config, there);
        let Some(name) = &self.table else {
            if config.tables().is_empty() {
                let help = "name a table and its fields, or a --config with tables, or --workers; for instance: \
                            commonhold create counters --field n:i64";
                return Err(Failure::usage(help));
            }
            return Ok(config);
        };
        let mut fields: Vec<String> = self.fields.iter().map(ToString::to_string).collect();
        if fields.is_empty() {
            fields = known_fields(name, &config, there)?;
        }
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let table = TableConfig::new(name, &fields);
        // What is wrong with the name or the fields alone shows without looking at any segment.
        let alone = Config::default().table(table.clone()).catalogue(None);
        alone.map_err(|e| Failure::usage(e.to_string()))?;
        Ok(config.table(self.with_sizes(table)))
    }

    /// The configuration with the tables of a queue, if one is asked for. Sizes not given are those that there are.
    fn with_queue(&self, config: Config, there: Option<&Catalogue>) -> Config {
        if self.workers.or(self.tasks).or(self.pages).is_none() {
            return config;
        }
        let size = |given: Option<u32>, table, default| {
            let slots = || there?.find(table).map(|(_, spec)| spec.slots);
            given.or_else(slots).unwrap_or(default)
        };
        let default = Capacity::default();
        let capacity = Capacity {
            tasks: size(self.tasks, TASKS, default.tasks),
            pages: size(self.pages, PAGES, default.pages),
            workers: size(self.workers, WORKERS, default.workers),
        };
        workers::configure(config, &capacity)
    }

    fn with_sizes(&self, mut table: TableConfig) -> TableConfig {
        if let Some(history) = self.history {
            table = table.history(history);
        }
        if let Some(slots) = self.slots {
            table = table.slots(slots);
        }
        if let Some(cells) = self.cells {
            table = table.cells(cells);
        }
        if let Some(key_bytes) = self.key_bytes {
            table = table.key_bytes(key_bytes);
        }
        table
    }

    fn tell(&self, config: &Config, outcome: &str) -> Done {
        let space = admin::look(config)?;
        let segment = config.segment_path().display().to_string();
        let store = &space.segment().header().store_url;
        let tables: Vec<&str> = space.catalogue().tables.iter().map(|t| t.name.as_str()).collect();
        let total_bytes = space.segment().layout().total as u64 * 8;
        if self.format.json {
            return print_json(&Created { segment, store, outcome, tables, total_bytes });
        }
        let size = bytes_text(total_bytes);
        let how = match outcome {
            "unchanged" => "was there already, as asked for",
            "recreated" => "was drained and made anew from its store",
            _ => "created",
        };
        print_line(format_args!(
            "segment {segment} {how}: {size}, tables {}, store {store}",
            tables.join(", ")
        ))
    }
}

/// The fields that the table has in the configuration, the segment or its store.
fn known_fields(
    name: &str,
    config: &Config,
    there: Option<&Catalogue>,
) -> Result<Vec<String>, Failure> {
    let texts = |spec: &TableSpec| spec.schema.fields().iter().map(ToString::to_string).collect();
    let configured = match config.tables().iter().any(|t| t.name() == name) {
        true => Some(config.catalogue(there)?),
        false => None,
    };
    let found = configured.as_ref().or(there).and_then(|c| c.find(name));
    found.map(|(_, spec)| texts(spec)).ok_or_else(|| {
        Failure::usage(format!(
            "table `{name}` is new: name its fields, for instance --field n:i64 --field 'name:text(32)'"
        ))
    })
}

/// The catalogue of the segment, or else of its store.
pub(crate) fn there(config: &Config) -> Result<Option<Catalogue>, Failure> {
    match admin::look(config) {
        Ok(space) => Ok(Some(space.catalogue().clone())),
        Err(OpenError::Missing { .. }) => {
            // A store that is not there, or none yet: creating the segment tells what else is wrong with it.
            let store = commonhold::store::open_read_only(&config.store_url());
            Ok(store.and_then(|mut store| store.catalogue()).unwrap_or_default())
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens the segment; makes it, or adds those of `tables` to it that it lacks. Sizes that somebody chose stay.
pub(crate) fn open_or_create(config: Config, tables: &[TableConfig]) -> Result<Runtime, Failure> {
    let there = there(&config)?;
    let known = |name: &str| there.as_ref().is_some_and(|c| c.find(name).is_some());
    let missing: Vec<_> = tables.iter().filter(|t| !known(t.name())).collect();
    let adds = !missing.is_empty() && config.segment_path().exists();
    let config = missing.into_iter().cloned().fold(config, Config::table);
    if adds {
        admin::create_tables(&config, DRAIN)?;
    }
    open(config)
}

/// A segment that is there keeps its store.
fn refuse_other_store(globals: &Globals, config: &Config, existed: bool) -> Done {
    let Some(asked) = globals.store().filter(|_| existed) else { return Ok(()) };
    let found = admin::look(config)?.segment().header().store_url.clone();
    let asked = commonhold::store::normalise(asked)?;
    if asked == found {
        return Ok(());
    }
    Err(OpenError::OtherStore { path: config.segment_path(), found, asked }.into())
}
