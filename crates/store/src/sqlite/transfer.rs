//! A SQLite file as the source and as the target of a copy.

use commonhold_core::catalogue::History;
use rusqlite::TransactionBehavior;

use crate::error::StoreError;
use crate::sqlite::connection::of;
use crate::sqlite::scan::View;
use crate::sqlite::{Attached, Session, SqliteStore, meta, plans, take};
use crate::store::SegmentIdentity;
use crate::transfer::{Importing, Receiver, Summary, Transfer, rows};
use crate::view::TableView;

impl Transfer for SqliteStore {
    fn export(&mut self, receiver: &mut dyn Receiver) -> Result<(), StoreError> {
        self.with(|s| {
            s.snapshot(|conn, path| {
                let plans = meta::catalogue(conn, path)?.as_ref().map(plans).unwrap_or_default();
                let views: Vec<_> = plans.iter().map(|plan| View { conn, path, plan }).collect();
                rows::export(conn, path, &tables(&views), receiver)
            })
        })
    }

    fn importing(&mut self) -> Result<Option<Importing>, StoreError> {
        self.with(|s| rows::importing(s.conn, s.path))
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

fn tables<'a>(views: &'a [View<'_>]) -> Vec<&'a dyn TableView> {
    views.iter().map(|view| view as &dyn TableView).collect()
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
        let views: Vec<_> = plans.iter().map(|plan| View { conn: &tx, path, plan }).collect();
        let epoch = rows::check_target(&tx, path, &tables(&views), from, summary)?;
        take(&tx, path, importer, &summary.catalogue, &plans, epoch, self.scratch)?;
        // What an earlier run wrote of a table without history may be gone from the source.
        for plan in plans.iter().filter(|plan| plan.spec.history == History::Latest) {
            let delete = format!("DELETE FROM \"{}\"", plan.spec.name);
            tx.execute_batch(&delete).map_err(|e| of(path, e))?;
        }
        let counts = rows::begin(&tx, path, &tables(&views), from)?;
        drop(views);
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
        meta::check_owner(&tx, path, attached.uuid, attached.epoch)?;
        rows::end(&tx, path)?;
        tx.commit().map_err(|e| of(path, e))
    }
}
