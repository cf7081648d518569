//! The key pass: `T_history` in the order of key and version, merged with T in the order of key.

use std::collections::HashSet;

use commonhold_core::hash::{record_prefix, state_hash};

use crate::audit::{Check, RowSource, Stored, TableAudit};
use crate::error::StoreError;

/// One key of the history, up to its last version read so far.
struct Key {
    key: String,
    prefix: u64,
    version: u64,
    deleted: bool,
    clock: Vec<u64>,
    hashes: HashSet<u64>,
    /// The columns of the last version that T must have too.
    columns: Vec<u8>,
}

/// T, one row ahead.
struct Current<'a> {
    source: &'a mut dyn RowSource,
    row: Stored,
    more: bool,
}

impl Current<'_> {
    /// Reads and judges the next row of T.
    fn advance(&mut self, audit: &mut TableAudit) -> Result<(), StoreError> {
        self.more = self.source.next(&mut self.row)?;
        if self.more {
            audit.rows += 1;
            judge_current(audit, &self.row);
        }
        Ok(())
    }
}

/// Whether a clock is strictly after another: no lane behind, one ahead. Clocks of different numbers of lanes are
/// of different segments and are not compared.
fn is_after(clock: &[u64], before: &[u64]) -> bool {
    clock.len() != before.len()
        || (clock.iter().zip(before).all(|(a, b)| a >= b) && clock != before)
}

/// Judges a row of T by itself.
fn judge_current(audit: &mut TableAudit, stored: &Stored) {
    let (table, row) = (audit.table.clone(), &stored.row);
    let name = format!("{table}: key {:?} version {}", row.key, row.version);
    for fault in &stored.faults {
        audit.find(Check::Values, format!("{name}: {fault}"));
    }
    let due = state_hash(record_prefix(&table, &row.key), row.version, &row.payload);
    if stored.faults.is_empty() && due != row.hash {
        audit.find(Check::Hashes, format!("{name}: its hash is not the one of its columns"));
    }
}

/// Judges T alone, where there is no history.
pub(crate) fn current_alone(
    audit: &mut TableAudit,
    current: &mut dyn RowSource,
) -> Result<(), StoreError> {
    let mut current = Current { source: current, row: Stored::default(), more: true };
    while current.more {
        current.advance(audit)?;
    }
    Ok(())
}

/// Judges the history key by key, and T beside it.
pub(crate) fn key_pass(
    audit: &mut TableAudit,
    history: &mut dyn RowSource,
    current: &mut dyn RowSource,
) -> Result<(), StoreError> {
    let mut current = Current { source: current, row: Stored::default(), more: true };
    current.advance(audit)?;
    let mut stored = Stored::default();
    let mut key: Option<Key> = None;
    while history.next(&mut stored)? {
        match &mut key {
            Some(key) if key.key == stored.row.key => key.version(audit, &stored),
            other => {
                if let Some(key) = other.take() {
                    key.finish(audit, &mut current)?;
                }
                *other = Some(Key::start(audit, &stored));
            }
        }
    }
    if let Some(key) = key {
        key.finish(audit, &mut current)?;
    }
    while current.more {
        without_history(audit, &current.row);
        current.advance(audit)?;
    }
    Ok(())
}

fn without_history(audit: &mut TableAudit, stored: &Stored) {
    let (table, row) = (&audit.table, &stored.row);
    let text = format!(
        "{table}: key {:?} version {} (writer {}, sequence {}) has no row in {table}_history",
        row.key, row.version, row.writer, row.sequence
    );
    audit.find(Check::Current, text);
}

impl Key {
    /// The first version of a key that the history has.
    fn start(audit: &mut TableAudit, stored: &Stored) -> Self {
        audit.keys += 1;
        let row = &stored.row;
        let mut key = Self {
            key: row.key.clone(),
            prefix: record_prefix(&audit.table, &row.key),
            version: row.version,
            deleted: row.deleted,
            clock: row.clock.clone(),
            hashes: HashSet::new(),
            columns: Vec::new(),
        };
        if row.version == 0 {
            key.find(audit, Check::Versions, stored, "versions begin with 1");
        }
        key.judge(audit, stored);
        key
    }

    /// A further version.
    fn version(&mut self, audit: &mut TableAudit, stored: &Stored) {
        let row = &stored.row;
        let next = self.version.saturating_add(1);
        if row.version < next {
            self.find(audit, Check::Versions, stored, "the version stands twice");
        } else if row.version > next && !self.deleted {
            let (table, key, last) = (&audit.table, &self.key, row.version - 1);
            let text = if next == last {
                format!("{table}_history: key {key:?}: version {next} is missing")
            } else {
                format!("{table}_history: key {key:?}: versions {next} to {last} are missing")
            };
            audit.find(Check::Versions, text);
        }
        // After a deletion the record is another one, which need not have seen the deleted one's clock.
        if !self.deleted && !is_after(&row.clock, &self.clock) {
            let what = "its clock is not after its predecessor's";
            self.find(audit, Check::Clocks, stored, what);
        }
        if row.sequence == 0 {
            let what = "sequence 0, which only a key's first row may have";
            self.find(audit, Check::Writers, stored, what);
        }
        self.judge(audit, stored);
    }

    /// Judges hash and uniqueness, and keeps what the next version and T are compared with.
    fn judge(&mut self, audit: &mut TableAudit, stored: &Stored) {
        let row = &stored.row;
        // A row with faults has been reported by the chain pass; its payload is not whole.
        if stored.faults.is_empty() {
            if state_hash(self.prefix, row.version, &row.payload) != row.hash {
                let what = "its hash is not the one of its columns";
                self.find(audit, Check::Hashes, stored, what);
            }
            if !self.hashes.insert(row.hash) {
                self.find(audit, Check::Unique, stored, "another version has the same hash");
            }
        }
        (self.version, self.deleted) = (row.version, row.deleted);
        self.clock.clone_from(&row.clock);
        self.columns.clear();
        self.columns.extend_from_slice(stored.shared_columns());
    }

    fn find(&self, audit: &mut TableAudit, check: Check, stored: &Stored, what: &str) {
        let (table, version, at) = (&audit.table, stored.row.version, stored.position);
        let text = format!(
            "{table}_history: key {:?} version {version} at position {at}: {what}",
            self.key
        );
        audit.find(check, text);
    }

    /// The end of a key: T must have its last version, or nothing if that is a deletion.
    fn finish(self, audit: &mut TableAudit, current: &mut Current<'_>) -> Result<(), StoreError> {
        while current.more && current.row.row.key < self.key {
            without_history(audit, &current.row);
            current.advance(audit)?;
        }
        let (table, key, version) = (audit.table.clone(), &self.key, self.version);
        let there = current.more && current.row.row.key == self.key;
        match (there, self.deleted) {
            (false, true) => return Ok(()),
            (false, false) => {
                let text = format!(
                    "{table}: key {key:?} is missing; {table}_history ends with version {version}"
                );
                audit.find(Check::Current, text);
                return Ok(());
            }
            (true, true) => {
                let found = current.row.row.version;
                let text = format!(
                    "{table}: key {key:?} version {found} is there; version {version} deleted it"
                );
                audit.find(Check::Current, text);
            }
            (true, false) if current.row.shared_columns() != self.columns => {
                let found = current.row.row.version;
                let text = if found == version {
                    format!(
                        "{table}: key {key:?} version {found} differs from the same version in {table}_history"
                    )
                } else {
                    format!(
                        "{table}: key {key:?} has version {found}; {table}_history ends with version {version}"
                    )
                };
                audit.find(Check::Current, text);
            }
            (true, false) => {}
        }
        current.advance(audit)
    }
}
