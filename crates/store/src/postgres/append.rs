//! One try to append a batch: what is there is locked and compared, then the rows are written, and all is committed.

use super::connection::Connection;
use super::fence::{self, Begun};
use super::meta::{self, Meta};
use super::plan::Plan;
use super::write::{TableWriter, Written};
use super::{Attached, commit, foreign};
use crate::error::StoreError;
use crate::foreign::{Appended, ForeignChange, KeyRows, by_key, compare};
use crate::store::{Batch, MarkKind, TableBatch};

/// Rows that are there and are not, from one look to the next.
pub(super) fn moving(path: &str) -> StoreError {
    let why = "rows of the batch come and go; does somebody else, or a trigger, write them?";
    StoreError::Rejected { path: path.to_owned(), why: why.to_owned() }
}

/// One table's part of a batch, and the rows that are there.
struct Part<'a> {
    part: &'a TableBatch,
    plan: &'a Plan,
    keys: Vec<KeyRows<'a>>,
    current: foreign::Current<'a>,
}

/// One try to append a batch.
pub(super) struct Appending<'a> {
    pub(super) conn: &'a Connection,
    pub(super) attached: &'a Attached,
    pub(super) batch: &'a Batch,
    /// Whether to ask first which versions are there.
    pub(super) look: bool,
}

impl Appending<'_> {
    /// None: it would have been better to look.
    pub(super) fn run(
        &self,
        store_id: &str,
        channel: Option<&str>,
    ) -> Result<Option<Appended>, StoreError> {
        let (conn, path) = (self.conn, self.conn.path());
        let parts = self.batch.tables.iter().map(|part| self.part(part));
        let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
        // A statement that cannot be prepared says nothing either before the owner is known.
        let mut unprepared = Ok(());
        let mut next = |part: &mut Part<'_>| match part.current.next() {
            Ok(look) => look,
            Err(e) => {
                if unprepared.is_ok() {
                    unprepared = Err(e.of_table(&part.plan.spec.name));
                }
                None
            }
        };
        let looks: Vec<_> = parts.iter_mut().map(&mut next).collect();
        let Begun { meta, looked } = fence::begin(conn, store_id, self.keys(), &looks)?;
        meta::check_owner(&meta, path, self.attached.uuid, self.attached.epoch)?;
        let last = meta::check_last(&meta, path, self.batch)?;
        unprepared?;
        let (mut foreign, mut wrote) = (Vec::new(), !self.batch.marks.is_empty());
        for (part, rows) in parts.iter_mut().zip(looked) {
            let taken = rows.and_then(|rows| part.current.take(rows));
            taken.map_err(|e| e.of_table(&part.plan.spec.name))?;
        }
        for part in &mut parts {
            let written = self.table(&meta, part);
            let of_table = |e: StoreError| e.of_table(&part.plan.spec.name);
            let Some((changes, noted)) = written.map_err(of_table)? else {
                conn.execute("ROLLBACK")?;
                return Ok(None);
            };
            wrote |= changes.is_empty() || noted;
            foreign.extend(changes);
        }
        // A stopped table that is tried again, and nothing else, is no batch.
        if !wrote && !foreign.is_empty() {
            conn.execute("ROLLBACK")?;
            return Ok(Some(Appended { batch: last, written: false, foreign }));
        }
        self.batch.marks.iter().try_for_each(|mark| meta::write_mark(&meta, path, mark))?;
        let number = last + 1;
        meta::set_last(&meta, path, self.batch, number)?;
        let notice = channel.map(|channel| (channel, self.notice(number)));
        commit(conn, &meta, notice.as_ref().map(|(channel, text)| (*channel, text.as_str())))?;
        Ok(Some(Appended { batch: number, written: true, foreign }))
    }

    fn plan(&self, part: &TableBatch) -> Result<&Plan, StoreError> {
        let path = self.conn.path();
        let no_table = || StoreError::NoTable { path: path.to_owned(), position: part.table };
        self.attached.plans.get(part.table).ok_or_else(no_table)
    }

    /// What the transaction reads of the meta table.
    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = ["owner", "epoch", "batch", meta::STAMP].map(str::to_owned).to_vec();
        for plan in self.batch.tables.iter().filter_map(|part| self.plan(part).ok()) {
            keys.extend([&plan.floor_key, &plan.count_key, &plan.link_key].map(String::clone));
        }
        let ids = self.batch.marks.iter().filter(|mark| mark.kind == MarkKind::Ids);
        keys.extend(ids.map(meta::mark_key));
        keys
    }

    fn part<'b>(&'b self, part: &'b TableBatch) -> Result<Part<'b>, StoreError> {
        let plan = self.plan(part)?;
        let why = "its key's rows are not in ascending order";
        let keys =
            by_key(&part.rows).map_err(|row| crate::encode::bad_row(&plan.spec, row, why))?;
        let current = foreign::Current::new(self.conn, plan, part, &keys);
        Ok(Part { part, plan, keys, current })
    }

    /// Writes one table's part of the batch unless somebody else changed its rows; the foreign changes, and whether one
    /// was noted just now. None when versions are there and were not looked for.
    fn table(
        &self,
        meta: &Meta<'_>,
        part: &mut Part<'_>,
    ) -> Result<Option<(Vec<ForeignChange>, bool)>, StoreError> {
        let Part { part, plan, keys, current } = part;
        let (conn, epoch) = (self.conn, self.attached.epoch);
        let (changes, noted) = compare(current, &plan.spec, epoch, part, keys)?;
        if changes.is_empty() {
            let writer = TableWriter { conn, meta, plan };
            if writer.write(part, keys, self.look)? == Written::SomeKnown {
                return if self.look { Err(moving(conn.path())) } else { Ok(None) };
            }
        }
        Ok(Some((changes, noted)))
    }

    /// What listeners are told: the number of the batch and its tables, as JSON.
    fn notice(&self, number: u64) -> String {
        let plans = self.batch.tables.iter().filter_map(|part| self.plan(part).ok());
        let names: Vec<_> = plans.map(|plan| plan.spec.name.as_str()).collect();
        serde_json::json!({ "batch": number, "tables": names }).to_string()
    }
}
