//! The form of `commonhold.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use commonhold_core::catalogue::{History, OnForeignChange};

use super::{Config, ConfigError, TableConfig, without_password};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    segment: Option<String>,
    store: Option<String>,
    participants: Option<u32>,
    lanes: Option<u32>,
    names: Option<u32>,
    share_words: Option<u32>,
    intents: Option<u32>,
    #[serde(default)]
    tables: BTreeMap<String, TableFile>,
    /// The daemon's section, which the daemon reads.
    #[serde(rename = "serve")]
    _serve: Option<serde::de::IgnoredAny>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    fields: Vec<String>,
    history: Option<History>,
    slots: Option<u32>,
    cells: Option<u32>,
    key_bytes: Option<u32>,
    on_foreign_change: Option<OnForeignChange>,
}

impl ConfigFile {
    /// What it asks for; `path` is named in errors.
    pub(super) fn into_config(self, path: &Path) -> Result<Config, ConfigError> {
        let table = |(name, file): (String, TableFile)| {
            let fields: Vec<&str> = file.fields.iter().map(String::as_str).collect();
            let mut table = TableConfig::new(&name, &fields);
            table.history = file.history;
            table.slots = file.slots;
            table.cells = file.cells;
            table.key_bytes = file.key_bytes;
            table.on_foreign_change = file.on_foreign_change;
            table
        };
        let config = Config {
            segment: self.segment,
            store: self.store.as_deref().map(without_password),
            participants: self.participants,
            lanes: self.lanes,
            names: self.names,
            share_words: self.share_words,
            intents: self.intents,
            tables: self.tables.into_iter().map(table).collect(),
            ..Config::default()
        };
        config.catalogue(None).map_err(|e| ConfigError::Invalid {
            path: path.to_owned(),
            place: String::new(),
            message: e.to_string(),
        })?;
        Ok(config)
    }
}
