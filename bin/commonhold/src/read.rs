//! `get`, `scan`, `dump`: records as they are in memory, read without an entry and without a lock.

use std::sync::Arc;

use commonhold::core::{Snapshot, Space};
use commonhold::schema::Schema;
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::connect::{Globals, find_table, open_to_read};
use crate::csv;
use crate::failure::{Done, Failure};
use crate::output::{Format, Output, print_json};
use crate::show::{RecordJson, Shown, key_word, plain};
use crate::write::Target;

/// Print a record
///
/// Prints a record: a line for each field, and the version. With fields named, only those. Fails when there is
/// no such record.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold get customers c-42
  commonhold get customers c-42 cap used
  commonhold get customers c-42 --json")]
pub(crate) struct Get {
    #[command(flatten)]
    target: Target,
    /// The fields to print [default: all]
    fields: Vec<String>,
    #[command(flatten)]
    format: Format,
}

/// Print the records of a table, a line each
///
/// Prints the records of a table, a line each, in the order of their keys (byte by byte).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold scan customers
  commonhold scan customers --prefix eu- --json")]
pub(crate) struct Scan {
    /// The table
    table: String,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    #[command(flatten)]
    format: Format,
}

/// Print the records of a table as CSV or JSON
///
/// Prints the keys and fields of all records, in the order of the keys (byte by byte): as CSV (RFC 4180, a
/// head line, line feeds) or as one JSON object.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold dump customers > customers.csv
  commonhold dump customers --format json")]
pub(crate) struct Dump {
    /// The table
    table: String,
    /// How to print the records
    #[arg(long, value_enum, default_value = "csv")]
    format: DumpFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// A format of `dump`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DumpFormat {
    Csv,
    Json,
}

/// The table that a record belongs to, and the record.
#[derive(Debug, Serialize)]
struct InTable<'a> {
    table: &'a str,
    #[serde(flatten)]
    record: RecordJson<'a>,
}

impl Get {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let space = open_to_read(globals.config()?)?;
        let Target { table, key } = &self.target;
        let position = find_table(&space, table)?;
        let schema = schema_of(&space, position)?;
        check_fields(&schema, table, &self.fields)?;
        let Some(seen) = space.peek(position, key)? else {
            let (table, key) = (table.clone(), key.clone());
            return Err(commonhold::Error::NotFound { table, key }.into());
        };
        let shown = Shown::new(key, &schema, &seen)?;
        if self.format.json {
            return print_json(&InTable { table, record: shown.json(&self.fields) });
        }
        let mut out = Output::new();
        print_fields(&mut out, &shown, &self.fields)?;
        if self.fields.is_empty() {
            out.line(format_args!("_version={}", shown.marks.version))?;
        }
        out.finish()
    }
}

impl Scan {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let records = Records::collect(globals, &self.table, &self.prefix)?;
        if self.format.json {
            return print_json(&records);
        }
        let mut out = Output::new();
        for (key, seen) in &records.all {
            let shown = Shown::new(key, &records.schema, seen)?;
            let (line, version) = (shown.line(), shown.marks.version);
            out.line(format_args!("{} {line} _version={version}", key_word(key)))?;
        }
        out.finish()
    }
}

impl Dump {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let records = Records::collect(globals, &self.table, "")?;
        if self.json || self.format == DumpFormat::Json {
            return print_json(&records);
        }
        let mut out = Output::new();
        let names = records.schema.fields().iter().map(|f| f.name.as_str());
        out.line(csv::line(std::iter::once("key").chain(names)))?;
        for (key, seen) in &records.all {
            let values = records.schema.decode(&seen.payload)?;
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            out.line(csv::line(
                std::iter::once(key.as_str()).chain(texts.iter().map(String::as_str)),
            ))?;
        }
        out.finish()
    }
}

/// The records of a table, by key. Each is consistent in itself; together they are of no single instant.
#[derive(Debug)]
struct Records {
    table: String,
    schema: Schema,
    all: Vec<(String, Snapshot)>,
}

impl Records {
    fn collect(globals: &Globals, table: &str, prefix: &str) -> Result<Self, Failure> {
        let space: Arc<Space> = open_to_read(globals.config()?)?;
        let position = find_table(&space, table)?;
        let schema = schema_of(&space, position)?;
        let mut all = Vec::new();
        space.scan(position, |key, seen| {
            if key.starts_with(prefix) {
                all.push((key.to_owned(), seen.clone()));
            }
            Ok::<(), commonhold::Error>(())
        })?;
        all.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        // A record that was deleted and made again meanwhile may have been met in both its slots.
        all.dedup_by(|(later, new), (key, old)| {
            let same = later == key;
            if same && new.version > old.version {
                std::mem::swap(new, old);
            }
            same
        });
        Ok(Self { table: table.to_owned(), schema, all })
    }
}

impl Serialize for Records {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = to.serialize_map(Some(2))?;
        map.serialize_entry("table", &self.table)?;
        map.serialize_entry("records", &List(self))?;
        map.end()
    }
}

struct List<'a>(&'a Records);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let mut list = to.serialize_seq(Some(self.0.all.len()))?;
        for (key, seen) in &self.0.all {
            let damaged = |_| S::Error::custom(format_args!("the record `{key}` is damaged"));
            let shown = Shown::new(key, &self.0.schema, seen).map_err(damaged)?;
            list.serialize_element(&shown.json(&[]))?;
        }
        list.end()
    }
}

/// The fields of the table at `position`.
pub(crate) fn schema_of(space: &Space, position: usize) -> Result<Schema, Failure> {
    let table = space.catalogue().tables.get(position);
    table.map(|t| t.schema.clone()).ok_or_else(|| Failure::failed("the segment has no such table"))
}

/// The named fields must be there.
fn check_fields(schema: &Schema, table: &str, fields: &[String]) -> Done {
    for field in fields {
        if schema.position(field).is_none() {
            let known: Vec<&str> = schema.fields().iter().map(|f| f.name.as_str()).collect();
            let (table, field, known) = (table.to_owned(), field.clone(), known.join(", "));
            return Err(commonhold::Error::UnknownField { table, field, known }.into());
        }
    }
    Ok(())
}

/// A line for each field named in `only`, in that order, or for all.
pub(crate) fn print_fields(out: &mut Output, shown: &Shown<'_>, only: &[String]) -> Done {
    if only.is_empty() {
        for (name, value) in shown.fields() {
            out.line(format_args!("{name}={}", plain(value)))?;
        }
    }
    for wanted in only {
        for (name, value) in shown.fields().filter(|(name, _)| name == wanted) {
            out.line(format_args!("{name}={}", plain(value)))?;
        }
    }
    Ok(())
}
