//! A SQLite file as the source and as the target of a copy.

use rusqlite::TransactionBehavior;

use crate::error::StoreError;
use crate::sqlite::connection::of;
use crate::sqlite::plan::Plan;
use crate::sqlite::scan::Table;
use crate::sqlite::{Attached, Session, SqliteStore, meta, plans, take};
use crate::store::SegmentIdentity;
use crate::transfer::{Importing, Receiver, Summary, Transfer, both};

impl Transfer for SqliteStore {
    fn export(&mut self, receiver: &mut dyn Receiver) -> Result<(), StoreError> {
        self.with(|s| {
            s.snapshot(|conn, path| {
                both::export(conn, path, receiver, &mut |spec, look| {
                    look(&Table { conn, path, plan: &Plan::new(spec) })
                })
            })
        })
    }

    fn importing(&mut self) -> Result<Option<Importing>, StoreError> {
        self.with(|s| meta::importing(s.conn, s.path))
    }

    fn begin_import(
        &mut self,
        importer: &SegmentIdentity,
        from: &Importing,
        summary: &Summary,
    ) -> Result<Vec<u64>, StoreError> {
        self.with(|s| s.begin_import(importer, from, summary))
    }

    fn end_import(&mut self) -> Result<(), StoreError> {
        self.with(|s| s.end_import())
    }
}

impl Session<'_> {
    fn begin_import(
        &mut self,
        importer: &SegmentIdentity,
        from: &Importing,
        summary: &Summary,
    ) -> Result<Vec<u64>, StoreError> {
        let (path, plans) = (self.path, plans(&summary.catalogue));
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| of(path, e))?;
        let epoch = both::begin(&*tx, path, from, summary, &mut |spec, look| {
            look(&Table { conn: &tx, path, plan: &Plan::new(spec) })
        })?;
        take(&tx, path, importer, &summary.catalogue, &plans, epoch, self.scratch)?;
        let counts = both::counts(&*tx, path, &summary.catalogue)?;
        tx.commit().map_err(|e| of(path, e))?;
        *self.attached = Some(Attached { uuid: importer.uuid, epoch, plans });
        Ok(counts)
    }

    fn end_import(&mut self) -> Result<(), StoreError> {
        let path = self.path;
        let Some(attached) = self.attached.take() else {
            return Err(StoreError::NotAttached(path.to_owned()));
        };
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| of(path, e))?;
        both::end(&*tx, path, attached.uuid, attached.epoch)?;
        tx.commit().map_err(|e| of(path, e))
    }
}
