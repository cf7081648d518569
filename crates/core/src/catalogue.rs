//! The catalogue: what tables a segment holds and how large everything is. It is fixed at creation, stands
//! in the segment's header and in the store, and every offset follows from it.

use std::str::FromStr;

use commonhold_segment::NamedGeometry;

use crate::schema::{Field, Schema, SchemaError, check_name};

/// The most slots or cells a table has: 24 bits, the last value meaning none.
pub const INDEX_MAX: u32 = (1 << 24) - 1;
/// The most participants a segment has: 12 bits, the last value meaning none.
pub const PARTICIPANTS_MAX: u32 = (1 << 12) - 1;
/// The most lanes of the vector clock.
pub const LANES_MAX: u32 = 64;
/// The most bytes of a key.
pub const KEY_BYTES_MAX: u32 = 1024;
/// The most tables of a segment.
pub const TABLES_MAX: usize = 64;
/// The most names of guards, counters, ids and metrics.
pub const NAMES_MAX: u32 = 4096;
/// The most words of a participant's share.
pub const SHARE_WORDS_MAX: u32 = 1 << 16;
/// The most cells of intents: 64 MiB of changes under way.
pub const INTENTS_MAX: u32 = 1 << 14;
/// The sizes if none are asked for: 256 names, 4 KiB for each participant's share, 1 MiB for intents.
pub const NAMED_DEFAULT: NamedGeometry = if cfg!(feature = "loom") {
    NamedGeometry { names: 0, share_words: 0, intents: 0 }
} else {
    NamedGeometry { names: 256, share_words: 512, intents: 256 }
};

/// Whether a table keeps every version or the latest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum History {
    /// Each version becomes a row of the history table.
    Full,
    /// Only the latest version is stored; the fastest.
    Latest,
}

impl FromStr for History {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "latest" => Ok(Self::Latest),
            _ => Err(format!("`{text}` is not a history; use full or latest")),
        }
    }
}

impl std::fmt::Display for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Latest => "latest",
        })
    }
}

/// What is done when somebody else changed a row in the database directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnForeignChange {
    /// Nothing more of the table is stored until somebody decides.
    #[default]
    Fail,
    /// What stands in the database becomes the record's next version.
    Adopt,
    /// What stands in the segment replaces it.
    Overwrite,
}

impl OnForeignChange {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for OnForeignChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fail => "fail",
            Self::Adopt => "adopt",
            Self::Overwrite => "overwrite",
        })
    }
}

/// One table: its schema and its sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// The name: a table of the database.
    pub name: String,
    /// The fields.
    pub schema: Schema,
    /// Which versions are stored.
    pub history: History,
    /// How many records fit.
    pub slots: u32,
    /// How many versions fit: the current ones, one spare a handle, and with full history those not yet stored.
    pub cells: u32,
    /// The longest key, in bytes.
    pub key_bytes: u32,
    /// What is done when somebody else changed a row in the database.
    pub on_foreign_change: OnForeignChange,
}

/// The tables of a segment and the sizes they share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// The most participants (handles) at once.
    pub participants: u32,
    /// The counters of the vector clock.
    pub lanes: u32,
    /// The sizes of what is found by a name and is no table.
    pub named: NamedGeometry,
    /// The tables, by position.
    pub tables: Vec<TableSpec>,
}

/// Why a catalogue is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// A table's schema or name.
    #[error("table `{table}`: {error}")]
    Schema {
        /// The table.
        table: String,
        /// Why.
        error: SchemaError,
    },
    /// The same name twice.
    #[error("table `{0}` is defined twice")]
    Twice(String),
    /// A number outside its range.
    #[error("{what} is {found}; it must be {low} to {high}")]
    Range {
        /// What number.
        what: String,
        /// Its value.
        found: u64,
        /// The smallest allowed.
        low: u64,
        /// The largest allowed.
        high: u64,
    },
    /// Not a catalogue at all.
    #[error("not a catalogue: {0}")]
    Unreadable(String),
}

impl TableSpec {
    /// A table named `name` with `schema` and the default sizes: 1024 records, keys of 48 bytes, full history.
    #[must_use]
    pub fn new(name: &str, schema: Schema) -> Self {
        Self {
            name: name.to_owned(),
            schema,
            history: History::Full,
            slots: 1024,
            cells: 0,
            key_bytes: 48,
            on_foreign_change: OnForeignChange::default(),
        }
    }

    /// The number of cells when none was asked for: what the protocol needs, and with full history room
    /// for 65,536 versions that wait for the store.
    #[must_use]
    pub fn default_cells(&self, participants: u32) -> u32 {
        let waiting = if self.history == History::Full { 65_536 } else { 0 };
        self.cells_min(participants).saturating_add(waiting).min(INDEX_MAX)
    }

    /// The fewest cells with which every slot has one, every handle has a spare, and (full history) a base.
    #[must_use]
    pub fn cells_min(&self, participants: u32) -> u32 {
        let per_slot = if self.history == History::Full { 2 } else { 1 };
        self.slots.saturating_mul(per_slot).saturating_add(participants).saturating_add(1)
    }

    fn check(&self, participants: u32) -> Result<(), CatalogueError> {
        let schema = |error| CatalogueError::Schema { table: self.name.clone(), error };
        check_name(&self.name).map_err(schema)?;
        let reserved = ["commonhold", "sqlite"].iter().any(|p| self.name.starts_with(p));
        if reserved || self.name.ends_with("_history") {
            return Err(schema(SchemaError::BadName(self.name.clone())));
        }
        let of = |what: &str| format!("table `{}`: {what}", self.name);
        range(of("slots"), self.slots, 1, INDEX_MAX - 1)?;
        range(of("key_bytes"), self.key_bytes, 1, KEY_BYTES_MAX)?;
        range(of("cells"), self.cells, self.cells_min(participants), INDEX_MAX - 1)
    }
}

fn range(what: String, found: u32, low: u32, high: u32) -> Result<(), CatalogueError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(CatalogueError::Range { what, found: found.into(), low: low.into(), high: high.into() })
}

impl Catalogue {
    /// A catalogue of `tables`; a table with 0 cells gets the default number.
    ///
    /// # Errors
    /// [`CatalogueError`] naming the table and what is out of range.
    pub fn new(
        participants: u32,
        lanes: u32,
        tables: Vec<TableSpec>,
    ) -> Result<Self, CatalogueError> {
        range("participants".to_owned(), participants, 1, PARTICIPANTS_MAX)?;
        range("lanes".to_owned(), lanes, 1, LANES_MAX)?;
        range("the number of tables".to_owned(), tables.len() as u32, 0, TABLES_MAX as u32)?;
        let mut catalogue = Self { participants, lanes, named: NAMED_DEFAULT, tables };
        for i in 0..catalogue.tables.len() {
            let (before, rest) = catalogue.tables.split_at_mut(i);
            let Some(table) = rest.first_mut() else { break };
            if table.cells == 0 {
                table.cells = table.default_cells(participants);
            }
            table.check(participants)?;
            if before.iter().any(|other| other.name == table.name) {
                return Err(CatalogueError::Twice(table.name.clone()));
            }
        }
        Ok(catalogue)
    }

    /// The same with other sizes of what is found by a name and is no table.
    ///
    /// # Errors
    /// [`CatalogueError::Range`].
    pub fn with_named(self, named: NamedGeometry) -> Result<Self, CatalogueError> {
        range("names".to_owned(), named.names, 0, NAMES_MAX)?;
        range("share_words".to_owned(), named.share_words, 0, SHARE_WORDS_MAX)?;
        range("intents".to_owned(), named.intents, 0, INTENTS_MAX)?;
        Ok(Self { named, ..self })
    }

    /// The table `name` and its position.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(usize, &TableSpec)> {
        self.tables.iter().enumerate().find(|(_, t)| t.name == name)
    }

    /// The catalogue as JSON, as it stands in header and store.
    #[must_use]
    pub fn to_json(&self) -> String {
        let tables = self.tables.iter().map(TableJson::from).collect();
        let NamedGeometry { names, share_words, intents } = self.named;
        let (participants, lanes) = (self.participants, self.lanes);
        let json = CatalogueJson { participants, lanes, names, share_words, intents, tables };
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// Reads a catalogue from JSON.
    ///
    /// # Errors
    /// [`CatalogueError`] when it is none or out of range.
    pub fn from_json(text: &str) -> Result<Self, CatalogueError> {
        let json: CatalogueJson =
            serde_json::from_str(text).map_err(|e| CatalogueError::Unreadable(e.to_string()))?;
        let tables = json.tables.into_iter().map(TableSpec::try_from).collect::<Result<_, _>>()?;
        let (names, share_words, intents) = (json.names, json.share_words, json.intents);
        Self::new(json.participants, json.lanes, tables)?.with_named(NamedGeometry {
            names,
            share_words,
            intents,
        })
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueJson {
    participants: u32,
    lanes: u32,
    #[serde(default = "names")]
    names: u32,
    #[serde(default = "share_words")]
    share_words: u32,
    #[serde(default = "intents")]
    intents: u32,
    tables: Vec<TableJson>,
}

// A catalogue that was stored before these sizes were.
fn names() -> u32 {
    NAMED_DEFAULT.names
}

fn share_words() -> u32 {
    NAMED_DEFAULT.share_words
}

fn intents() -> u32 {
    NAMED_DEFAULT.intents
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TableJson {
    name: String,
    fields: Vec<String>,
    history: History,
    slots: u32,
    cells: u32,
    key_bytes: u32,
    // A catalogue that was stored before this was has the default, and the default is written as before.
    #[serde(default, skip_serializing_if = "OnForeignChange::is_default")]
    on_foreign_change: OnForeignChange,
}

impl From<&TableSpec> for TableJson {
    fn from(spec: &TableSpec) -> Self {
        Self {
            name: spec.name.clone(),
            fields: spec.schema.fields().iter().map(Field::to_string).collect(),
            history: spec.history,
            slots: spec.slots,
            cells: spec.cells,
            key_bytes: spec.key_bytes,
            on_foreign_change: spec.on_foreign_change,
        }
    }
}

impl TryFrom<TableJson> for TableSpec {
    type Error = CatalogueError;

    fn try_from(json: TableJson) -> Result<Self, CatalogueError> {
        let error = |error| CatalogueError::Schema { table: json.name.clone(), error };
        let fields = json.fields.iter().map(|f| f.parse()).collect::<Result<Vec<Field>, _>>();
        let schema = fields.and_then(Schema::new).map_err(error)?;
        let TableJson { name, history, slots, cells, key_bytes, on_foreign_change, .. } = json;
        Ok(Self { name, schema, history, slots, cells, key_bytes, on_foreign_change })
    }
}
