//! Configuration: which segment, which store, which tables; from code or from `commonhold.toml`.
//!
//! ```toml
//! segment = "shop"                   # a name, or a path with a slash
//! store = "sqlite:shop.db"           # a path relative to this file; or "none"
//! participants = 1024                # the most handles at once
//! lanes = 8                          # counters of the vector clock
//! names = 256                        # guards, counters, ids and metrics at most
//! share_words = 512                  # words that they may count in, for each participant
//! intents = 256                      # pages of 4 KiB for changes of several records under way
//!
//! [tables.customers]
//! fields = ["cap:i64", "used:i64", "access_level:text(16)"]
//! history = "full"                   # or "latest"
//! slots = 10000                      # records that fit
//! cells = 85536                      # versions that fit (default: what it takes)
//! key_bytes = 48                     # the longest key
//! on_foreign_change = "fail"         # or "adopt", "overwrite": what if somebody else changed a row in the database
//! ```
//!
//! A section `[serve]` is the daemon's: `commonhold serve` reads and checks it.

mod file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold_core::catalogue::{
    Catalogue, CatalogueError, History, NAMED_DEFAULT, OnForeignChange, TableSpec,
};
use commonhold_core::record::Record;
use commonhold_core::schema::{Field, Schema, SchemaError};
use commonhold_segment::NamedGeometry;

use crate::place;
use file::ConfigFile;

/// The participants of a segment when none are asked for.
pub const DEFAULT_PARTICIPANTS: u32 = 1024;
/// The lanes of the vector clock when none are asked for.
pub const DEFAULT_LANES: u32 = 8;

/// Why a configuration is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("{}{place}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line and column, as `:LINE:COLUMN`, when known.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// The tables do not fit together.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl ConfigError {
    /// A TOML error in one line, with its place in `text`, which was read from `path`.
    #[must_use]
    pub fn of_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let place = error.span().map_or_else(String::new, |span| {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
            format!(":{line}:{column}")
        });
        let message = error.message().replace('\n', " ");
        Self::Invalid { path: path.to_owned(), place, message }
    }
}

/// A table as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    pub(crate) name: String,
    pub(crate) fields: Result<Vec<Field>, SchemaError>,
    pub(crate) history: Option<History>,
    pub(crate) slots: Option<u32>,
    pub(crate) cells: Option<u32>,
    pub(crate) key_bytes: Option<u32>,
    pub(crate) on_foreign_change: Option<OnForeignChange>,
}

/// A segment as it is asked for.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub(crate) segment: Option<String>,
    pub(crate) ephemeral: bool,
    pub(crate) store: Option<String>,
    pub(crate) participants: Option<u32>,
    pub(crate) lanes: Option<u32>,
    pub(crate) names: Option<u32>,
    pub(crate) share_words: Option<u32>,
    pub(crate) intents: Option<u32>,
    pub(crate) tables: Vec<TableConfig>,
    pub(crate) attach_only: bool,
    pub(crate) no_steward: bool,
    pub(crate) no_tables: bool,
    pub(crate) room_wait: Option<Duration>,
}

impl TableConfig {
    /// The table `name` with the fields of `T`.
    #[must_use]
    pub fn of<T: Record>(name: &str) -> Self {
        Self::with_fields(name, Ok(T::FIELDS.iter().copied().map(Field::from).collect()))
    }

    /// The table `name` with `fields`, each as `name:type`.
    #[must_use]
    pub fn new(name: &str, fields: &[&str]) -> Self {
        Self::with_fields(name, fields.iter().map(|f| f.parse()).collect())
    }

    fn with_fields(name: &str, fields: Result<Vec<Field>, SchemaError>) -> Self {
        let name = name.to_owned();
        let (history, slots, cells, key_bytes) = (None, None, None, None);
        Self { name, fields, history, slots, cells, key_bytes, on_foreign_change: None }
    }

    /// Which versions are stored; every one if never set.
    #[must_use]
    pub fn history(mut self, history: History) -> Self {
        self.history = Some(history);
        self
    }

    /// How many records fit; 1024 if never set.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = Some(slots);
        self
    }

    /// How many versions fit; if never set what the protocol needs, and with full history 65,536 that wait
    /// for the store.
    #[must_use]
    pub fn cells(mut self, cells: u32) -> Self {
        self.cells = Some(cells);
        self
    }

    /// The longest key in bytes; 48 if never set.
    #[must_use]
    pub fn key_bytes(mut self, key_bytes: u32) -> Self {
        self.key_bytes = Some(key_bytes);
        self
    }

    /// What is done when somebody else changed a row in the database; nothing more of the table is stored, if never set.
    #[must_use]
    pub fn on_foreign_change(mut self, policy: OnForeignChange) -> Self {
        self.on_foreign_change = Some(policy);
        self
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn schema(&self) -> Result<Schema, CatalogueError> {
        let error = |error| CatalogueError::Schema { table: self.name.clone(), error };
        self.fields.clone().and_then(Schema::new).map_err(error)
    }

    /// The table with the sizes asked for, else those of `stored`, else the defaults.
    fn spec(&self, stored: Option<&TableSpec>) -> Result<TableSpec, CatalogueError> {
        let default = TableSpec::new(&self.name, self.schema()?);
        let base = stored.unwrap_or(&default);
        Ok(TableSpec {
            history: self.history.unwrap_or(base.history),
            slots: self.slots.unwrap_or(base.slots),
            cells: self.cells.unwrap_or(if self.slots.is_some() { 0 } else { base.cells }),
            key_bytes: self.key_bytes.unwrap_or(base.key_bytes),
            on_foreign_change: self.on_foreign_change.unwrap_or(base.on_foreign_change),
            ..default
        })
    }
}

impl Config {
    /// The segment `name`: a file under `/dev/shm`, or a path if it holds a slash.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { segment: Some(name.to_owned()), ..Self::default() }
    }

    /// A segment that goes with its creator. Without a store unless one is named.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self { ephemeral: true, ..Self::default() }
    }

    /// Where commits go: `sqlite:PATH`, `postgres://USER@HOST/DATABASE` or `none`.
    #[must_use]
    pub fn store(self, url: &str) -> Self {
        self.with_store(Some(url))
    }

    /// Adds a table, or replaces the one of that name.
    #[must_use]
    pub fn table(mut self, table: TableConfig) -> Self {
        self.tables.retain(|t| t.name != table.name);
        self.tables.push(table);
        self
    }

    /// The most handles at once; 1024 if never set.
    #[must_use]
    pub fn participants(mut self, participants: u32) -> Self {
        self.participants = Some(participants);
        self
    }

    /// Guards, counters, ids and metrics at most; 256 if never set.
    #[must_use]
    pub fn names(mut self, names: u32) -> Self {
        self.names = Some(names);
        self
    }

    /// The words of each participant in which guards and metrics count; 512 if never set.
    #[must_use]
    pub fn share_words(mut self, words: u32) -> Self {
        self.share_words = Some(words);
        self
    }

    /// Pages of 4 KiB for guarded changes of several records that are under way; 256 if never set.
    #[must_use]
    pub fn intents(mut self, pages: u32) -> Self {
        self.intents = Some(pages);
        self
    }

    /// Counters of the vector clock; 8 if never set.
    #[must_use]
    pub fn lanes(mut self, lanes: u32) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// Only attaches: a segment that is not there is an error.
    #[must_use]
    pub fn attach_only(mut self) -> Self {
        self.attach_only = true;
        self
    }

    /// The segment may be without tables: for guards, counters and ids alone.
    #[must_use]
    pub fn without_tables(mut self) -> Self {
        self.no_tables = true;
        self
    }

    /// This process never becomes the steward. Some other must, else nothing is stored.
    #[must_use]
    pub fn without_steward(mut self) -> Self {
        self.no_steward = true;
        self
    }

    /// The longest wait for a free cell or slot before it is an error; ten seconds if never set.
    #[must_use]
    pub fn room_wait(mut self, limit: Duration) -> Self {
        self.room_wait = Some(limit);
        self
    }

    /// Replaces the segment's name, if `name` is some.
    #[must_use]
    pub fn with_segment(mut self, name: Option<&str>) -> Self {
        self.segment = name.map(str::to_owned).or(self.segment);
        self
    }

    /// Replaces the store, if `url` is some.
    #[must_use]
    pub fn with_store(mut self, url: Option<&str>) -> Self {
        self.store = url.map(without_password).or(self.store);
        self
    }

    /// Reads a `commonhold.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, the line and the column.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let file: ConfigFile =
            toml::from_str(&text).map_err(|e| ConfigError::of_toml(path, &text, &e))?;
        let mut config = file.into_config(path)?;
        // A relative store is beside the configuration, wherever the program was started.
        if let Some(relative) = config.store.as_deref().and_then(|s| s.strip_prefix("sqlite:")) {
            let folder = path.parent().unwrap_or(Path::new("."));
            config.store = Some(format!("sqlite:{}", folder.join(relative).display()));
        }
        Ok(config)
    }

    /// What stands in the environment and, in the working directory, in `commonhold.toml`: `COMMONHOLD_SEGMENT`
    /// and `COMMONHOLD_STORE` before the file.
    ///
    /// # Errors
    /// [`ConfigError`] when the file is there and not a configuration.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let file = Path::new("commonhold.toml");
        let config = if file.exists() { Self::from_file(file)? } else { Self::default() };
        let [segment, store] =
            ["COMMONHOLD_SEGMENT", "COMMONHOLD_STORE"].map(|name| std::env::var(name).ok());
        Ok(config.with_segment(segment.as_deref()).with_store(store.as_deref()))
    }

    /// The segment's name.
    #[must_use]
    pub fn segment_name(&self) -> &str {
        self.segment.as_deref().unwrap_or(place::DEFAULT_SEGMENT)
    }

    /// Whether the segment goes with its creator.
    #[must_use]
    pub fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// The segment's file.
    #[must_use]
    pub fn segment_path(&self) -> PathBuf {
        place::segment_path(self.segment_name())
    }

    /// The store's URL: the one named, or the default.
    #[must_use]
    pub fn store_url(&self) -> String {
        match &self.store {
            Some(url) => url.clone(),
            None if self.ephemeral => "none".to_owned(),
            None => place::default_store(self.segment_name()),
        }
    }

    /// The tables asked for, by name.
    #[must_use]
    pub fn tables(&self) -> &[TableConfig] {
        &self.tables
    }

    /// The catalogue asked for, over what the store already has: its other tables, and its sizes where none
    /// are asked for.
    ///
    /// # Errors
    /// [`ConfigError::Catalogue`] naming the table and what is out of range.
    pub fn catalogue(&self, stored: Option<&Catalogue>) -> Result<Catalogue, ConfigError> {
        let in_store = |name: &str| stored.and_then(|c| c.find(name)).map(|(_, spec)| spec);
        let mut tables: Vec<TableSpec> = stored.map(|c| c.tables.clone()).unwrap_or_default();
        for wanted in &self.tables {
            let spec = wanted.spec(in_store(&wanted.name))?;
            match tables.iter_mut().find(|t| t.name == spec.name) {
                Some(place) => *place = spec,
                None => tables.push(spec),
            }
        }
        let participants = self.participants.or(stored.map(|c| c.participants));
        let participants = participants.unwrap_or(DEFAULT_PARTICIPANTS);
        // More participants need more cells than a stored table asked for.
        for table in &mut tables {
            if table.cells != 0 && table.cells < table.cells_min(participants) {
                table.cells = 0;
            }
        }
        let lanes = self.lanes.or(stored.map(|c| c.lanes)).unwrap_or(DEFAULT_LANES);
        let named = stored.map_or(NAMED_DEFAULT, |c| c.named);
        let named = NamedGeometry {
            names: self.names.unwrap_or(named.names),
            share_words: self.share_words.unwrap_or(named.share_words),
            intents: self.intents.unwrap_or(named.intents),
        };
        Ok(Catalogue::new(participants, lanes, tables)?.with_named(named)?)
    }
}

/// A url in its normal form, if it may have a password: this process remembers that, and nothing shows it.
fn without_password(url: &str) -> String {
    let normal = url.starts_with("postgres").then(|| commonhold_store::normalise(url).ok());
    normal.flatten().unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let file: ConfigFile = toml::from_str(text)
            .map_err(|e| ConfigError::of_toml(Path::new("c.toml"), text, &e))?;
        file.into_config(Path::new("c.toml"))
    }

    #[test]
    fn no_password_is_kept() {
        let config = Config::named("shop").store("postgres://u:secret@h/d");
        let file = read("store = \"postgres://u:secret@h/d?notify=n\"").unwrap();
        for (config, url) in [(config, "postgres://u@h/d"), (file, "postgres://u@h/d?notify=n")] {
            assert_eq!(config.store_url(), url);
            assert!(!format!("{config:?}").contains("secret"));
        }
    }

    #[test]
    fn a_file_says_what_code_says() {
        let config = read(
            "segment = \"shop\"\nstore = \"none\"\nlanes = 4\n[tables.customers]\nfields = [\"cap:i64\", \"name : text(9)\"]\nslots = 7\nhistory = \"latest\"\n",
        );
        let code = Config::named("shop").store("none").lanes(4).table(
            TableConfig::new("customers", &["cap:i64", "name:text(9)"])
                .slots(7)
                .history(History::Latest),
        );
        let catalogues = [config.unwrap(), code].map(|c| c.catalogue(None).unwrap());
        assert_eq!(catalogues[0], catalogues[1]);
    }

    #[test]
    fn a_table_says_what_becomes_of_foreign_changes() {
        let text =
            |policy| format!("[tables.t]\nfields = [\"n:i64\"]\non_foreign_change = {policy}\n");
        let config = read(&text("\"adopt\"")).unwrap().catalogue(None).unwrap();
        assert_eq!(config.tables[0].on_foreign_change, OnForeignChange::Adopt);
        assert_eq!(Catalogue::from_json(&config.to_json()), Ok(config.clone()));
        // Asked for again without a word it stays; and what is the default is not written, for older readers.
        let again = Config::named("a").table(TableConfig::new("t", &["n:i64"]));
        assert_eq!(again.catalogue(Some(&config)).unwrap().tables, config.tables);
        assert!(!again.catalogue(None).unwrap().to_json().contains("foreign"));
        let error = read(&text("\"ask\"")).unwrap_err().to_string();
        assert!(error.contains("`fail`, `adopt`, `overwrite`") && error.contains(":3:"), "{error}");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            ("segment = \"a\"\nsgment = 1\n", "c.toml:2:1: unknown field `sgment`"),
            ("[tables.t]\nfields = [\"n:i64\"]\nslot = 3\n", "c.toml:3:1: unknown field `slot`"),
            ("lanes = \"x\"\n", "c.toml:1:9: invalid type"),
            ("[tables.t]\nfields = [\"n:i65\"]\n", "`i65` is not a type"),
            (
                "[tables.t]\nfields = [\"n:i64\"]\nslots = 0\n",
                "table `t`: slots is 0; it must be 1",
            ),
        ];
        for (text, want) in cases {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(want) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn what_the_store_has_stays() {
        let stored =
            Config::named("a").participants(9).table(TableConfig::new("x", &["n:i64"]).slots(5));
        let stored = stored.catalogue(None).unwrap();
        let asked = Config::named("a").table(TableConfig::new("y", &["m:bool"]));
        let both = asked.catalogue(Some(&stored)).unwrap();
        assert_eq!(both.participants, 9);
        assert_eq!(both.tables[0], stored.tables[0]);
        assert_eq!(both.tables[1].name, "y");
    }
}
