//! The audit: what the rows of a store prove by themselves.
//!
//! Two passes a table, both streaming. The **chain pass** reads `T_history` in the order of writing: positions, links,
//! the sequences of the writers. The **key pass** reads it in the order of key and version beside T: versions, clocks,
//! hashes, and whether T is what the history ends with. Memory grows with the number of writers and
//! with the versions of the one key that has most, not with the rows.
//!
//! **What it finds and how exactly.** Each row's link is judged against the link *stored* in the row before, so that
//! a changed row is named and the rows after it are not. A removed row is named by its position, by the gap in its
//! key's versions, by T, by its writer's sequence. A cut tail is named by count and head of the chain in the meta
//! table. **What it cannot find**: a history that someone with write access recomputed as a whole, T and the meta table
//! included (`docs/store-format.md`).

mod chain_pass;
mod key_pass;
mod ranges;
pub(crate) mod tables;

use std::collections::BTreeMap;

use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::row::Row;
use serde::Serialize;

use crate::chain::{Columns, Link};
use crate::error::StoreError;

pub(crate) use chain_pass::{ChainPass, Expected};
pub(crate) use key_pass::{current_alone, key_pass};

/// The most findings listed for each table; more are counted only.
pub const FINDINGS_MAX: usize = 100;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// The tables and their columns.
    Layout,
    /// Every column holds what its type allows.
    Values,
    /// Positions are 1, 2, 3 … up to the count in the meta table.
    Positions,
    /// Every link is that of its row; the last is the head in the meta table.
    Links,
    /// The versions of a key are without gap.
    Versions,
    /// Each version's clock is strictly after its predecessor's.
    Clocks,
    /// Every hash is that of its row.
    Hashes,
    /// The hashes of a key's versions differ.
    Unique,
    /// The sequences of a writer are 1, 2, 3 … without gap.
    Writers,
    /// T is what the history ends with.
    Current,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub check: Check,
    /// One line that names the row.
    pub text: String,
}

/// What the rows of one table prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableAudit {
    /// The table.
    pub table: String,
    /// `full` or `latest`.
    pub history: &'static str,
    /// Rows of T.
    pub rows: u64,
    /// Rows of `T_history`.
    pub history_rows: u64,
    /// Keys in `T_history`.
    pub keys: u64,
    /// Writers in `T_history`.
    pub writers: u64,
    /// How many findings there are, by what they are about.
    pub counts: BTreeMap<Check, u64>,
    /// The first [`FINDINGS_MAX`] findings.
    pub findings: Vec<Finding>,
}

/// What the rows of a store prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// The store's url.
    pub store: String,
    /// The epoch of the last claim.
    pub epoch: u64,
    /// The tables of the catalogue.
    pub tables: Vec<TableAudit>,
}

impl Audit {
    /// Whether nothing was found.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.tables.iter().all(TableAudit::ok)
    }

    /// Whether nothing was found about `check`, in any table.
    #[must_use]
    pub fn holds(&self, check: Check) -> bool {
        self.tables.iter().all(|t| t.holds(check))
    }

    /// How many findings there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.tables.iter().map(TableAudit::total).sum()
    }

    /// The findings that are listed.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.tables.iter().flat_map(|t| &t.findings)
    }
}

impl TableAudit {
    pub(crate) fn new(table: &str, history: &'static str) -> Self {
        Self {
            table: table.to_owned(),
            history,
            rows: 0,
            history_rows: 0,
            keys: 0,
            writers: 0,
            counts: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.counts.is_empty()
    }

    /// Whether nothing was found about `check`.
    #[must_use]
    pub fn holds(&self, check: Check) -> bool {
        !self.counts.contains_key(&check)
    }

    /// How many findings there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(crate) fn find(&mut self, check: Check, text: String) {
        *self.counts.entry(check).or_default() += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { check, text });
        }
    }
}

/// A row as it stands in the database, decoded as far as it can be.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The row; what could not be decoded is zero or empty.
    pub(crate) row: Row,
    /// Every column but `_link`, as the link covers them.
    pub(crate) columns: Columns,
    /// How much of `columns` is what T and `T_history` share.
    pub(crate) shared: usize,
    /// The position in `T_history`.
    pub(crate) position: u64,
    /// The link in `T_history`.
    pub(crate) link: Option<Link>,
    /// What could not be decoded.
    pub(crate) faults: Vec<String>,
    /// Whether every field was decoded: `row.payload` is then what stands there.
    pub(crate) whole: bool,
}

impl Stored {
    /// What is wrong with the row of `table` alone: a column that cannot be what was written, or a hash that is not that
    /// of the columns.
    pub(crate) fn fault(&self, table: &str) -> Option<String> {
        if let Some(fault) = self.faults.first() {
            return Some(fault.clone());
        }
        let row = &self.row;
        let hash = state_hash(record_prefix(table, &row.key), row.version, &row.payload);
        (hash != row.hash).then(|| "its hash is not the one of its columns".to_owned())
    }

    /// The columns that T and `T_history` share.
    pub(crate) fn shared_columns(&self) -> &[u8] {
        self.columns.prefix(self.shared)
    }
}

/// Rows, one after the other.
pub(crate) trait RowSource {
    /// Reads the next row into `into`; false when there is none.
    fn next(&mut self, into: &mut Stored) -> Result<bool, StoreError>;
}
