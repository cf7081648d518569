//! `tables` and `history`: what there is, and how a record came to be what it is.

use std::time::Duration;

use commonhold::catalogue::{History as Kept, TableSpec};
use commonhold::{OpenError, Runtime, admin};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::connect::{Globals, close};
use crate::failure::{Done, Failure, one_line};
use crate::output::{Format, Output, note, print_json, print_table};
use crate::parse::duration;
use crate::show::{RecordJson, Shown, key_word};
use crate::write::Target;

/// List the tables
///
/// Lists the tables of the segment, or, if it is not there, those of its store.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold tables
  commonhold tables --json")]
pub(crate) struct Tables {
    #[command(flatten)]
    format: Format,
}

/// Print every version of a record
///
/// Prints every version of a record, from the rows of the store, its deletions included. What is committed and
/// not yet stored is stored first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold history customers c-42
  commonhold history customers c-42 --json")]
pub(crate) struct History {
    #[command(flatten)]
    target: Target,
    /// The longest wait for the store
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,
    #[command(flatten)]
    format: Format,
}

/// All tables.
#[derive(Debug, Serialize)]
struct TablesJson {
    segment: String,
    /// Whether the segment is there.
    mapped: bool,
    store: String,
    tables: Vec<TableJson>,
}

/// One table.
#[derive(Debug, Serialize)]
struct TableJson {
    name: String,
    fields: Vec<String>,
    history: String,
    records: u64,
    slots: u32,
    cells: u32,
    key_bytes: u32,
}

impl TableJson {
    fn new(spec: &TableSpec, records: u64) -> Self {
        Self {
            name: spec.name.clone(),
            fields: spec.schema.fields().iter().map(ToString::to_string).collect(),
            history: spec.history.to_string(),
            records,
            slots: spec.slots,
            cells: spec.cells,
            key_bytes: spec.key_bytes,
        }
    }
}

impl Tables {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let config = globals.config()?;
        let segment = config.segment_path().display().to_string();
        let mut found =
            TablesJson { segment, mapped: true, store: config.store_url(), tables: Vec::new() };
        match admin::look(&config) {
            Ok(space) => {
                found.store.clone_from(&space.segment().header().store_url);
                for (position, spec) in space.catalogue().tables.iter().enumerate() {
                    let records = u64::from(space.figures(position)?.slots.published);
                    found.tables.push(TableJson::new(spec, records));
                }
            }
            Err(OpenError::Missing { .. }) => {
                found.mapped = false;
                found.tables = stored_tables(&found.store)?;
            }
            Err(error) => return Err(error.into()),
        }
        if self.format.json {
            return print_json(&found);
        }
        if !found.mapped {
            note(format_args!("no segment {}; this is what its store has", found.segment));
        }
        let heads = ["table", "records", "slots", "history", "fields"];
        let mut rows = vec![heads.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()];
        for table in found.tables {
            let (records, slots) = (table.records.to_string(), table.slots.to_string());
            rows.push(vec![table.name, records, slots, table.history, table.fields.join(" ")]);
        }
        let mut out = Output::new();
        print_table(&mut out, &rows)?;
        out.finish()
    }
}

fn stored_tables(url: &str) -> Result<Vec<TableJson>, Failure> {
    let mut store = commonhold::store::open_read_only(url)?;
    let catalogue = store.catalogue()?;
    let mut tables = Vec::new();
    for (position, spec) in catalogue.iter().flat_map(|c| &c.tables).enumerate() {
        tables.push(TableJson::new(spec, store.row_count(position)?.current));
    }
    Ok(tables)
}

/// One version as JSON.
#[derive(Debug, Serialize)]
struct VersionJson<'a> {
    #[serde(flatten)]
    record: RecordJson<'a>,
    deleted: bool,
    link: &'a str,
}

/// Every version of one record.
struct Versions<'a> {
    target: &'a Target,
    spec: &'a TableSpec,
    rows: Vec<commonhold::store::HistoryRow>,
}

impl History {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let config = globals.config()?;
        let url = match admin::look(&config) {
            Ok(space) => {
                let url = space.segment().header().store_url.clone();
                drop(space);
                if let Err(failure) = self.drain(Runtime::open(config.attach_only())?) {
                    let why = failure.line().unwrap_or_default();
                    note(format_args!("not everything is stored yet: {}", one_line(&why)));
                }
                url
            }
            Err(OpenError::Missing { .. }) => config.store_url(),
            Err(error) => return Err(error.into()),
        };
        let Target { table, key } = &self.target;
        let mut store = commonhold::store::open_read_only(&url)?;
        let catalogue = store.catalogue()?;
        let found = catalogue.as_ref().and_then(|c| c.find(table));
        let Some((position, spec)) = found else {
            return Err(Failure::failed(format!("store {url} has no table `{table}`")));
        };
        if spec.history == Kept::Latest {
            let what = "keeps the latest version only (history = latest)";
            return Err(Failure::failed(format!("table `{table}` {what}; it has no history")));
        }
        let mut rows = Vec::new();
        store.history(position, key, &mut |row| {
            rows.push(row);
            Ok(())
        })?;
        if rows.is_empty() {
            let (table, key) = (table.clone(), key.clone());
            return Err(commonhold::Error::NotFound { table, key }.into());
        }
        let versions = Versions { target: &self.target, spec, rows };
        if self.format.json { print_json(&versions) } else { versions.print() }
    }

    fn drain(&self, runtime: Runtime) -> Done {
        let drained = runtime.drain(self.timeout);
        let closed = close(runtime);
        drained?;
        closed
    }
}

impl Versions<'_> {
    fn print(&self) -> Done {
        let mut out = Output::new();
        for stored in &self.rows {
            let shown = Shown::stored(&self.spec.schema, &stored.row)?;
            let (version, writer) = (shown.marks.version, &shown.marks.writer);
            let what = if stored.row.deleted { "deleted".to_owned() } else { shown.line() };
            let (key, seq) = (key_word(shown.key), shown.marks.sequence);
            let at = shown.marks.committed_at;
            out.line(format_args!(
                "{key} {what} _version={version} _writer={writer} _seq={seq} _committed_at={at}"
            ))?;
        }
        out.finish()
    }
}

impl Serialize for Versions<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = to.serialize_map(Some(3))?;
        map.serialize_entry("table", &self.target.table)?;
        map.serialize_entry("key", &self.target.key)?;
        map.serialize_entry("versions", &VersionList(self))?;
        map.end()
    }
}

struct VersionList<'a>(&'a Versions<'a>);

impl Serialize for VersionList<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let mut list = to.serialize_seq(Some(self.0.rows.len()))?;
        for stored in &self.0.rows {
            let damaged = |_| S::Error::custom("a row does not fit its schema");
            let shown = Shown::stored(&self.0.spec.schema, &stored.row).map_err(damaged)?;
            let (record, deleted) = (shown.json(&[]), stored.row.deleted);
            list.serialize_element(&VersionJson { record, deleted, link: &stored.link })?;
        }
        list.end()
    }
}
