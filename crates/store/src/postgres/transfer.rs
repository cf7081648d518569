//! A database of PostgreSQL as the source and as the target of a copy.

use super::meta::{self, Meta};
use super::plan::Plan;
use super::scan::View;
use super::{Attached, PostgresStore, commit, fence, plans, take};
use crate::chain::hex;
use crate::error::StoreError;
use crate::store::SegmentIdentity;
use crate::transfer::{Importing, Receiver, Summary, Transfer, rows};
use crate::view::TableView;

impl Transfer for PostgresStore {
    fn export(&mut self, receiver: &mut dyn Receiver) -> Result<(), StoreError> {
        self.snapshot(|conn| {
            let meta = Meta::new(conn);
            let catalogue = meta::catalogue(&meta, conn.path())?;
            let plans = catalogue.as_ref().map(plans).unwrap_or_default();
            let views: Vec<_> = plans.iter().map(|plan| View::new(conn, plan)).collect();
            rows::export(&meta, conn.path(), &tables(&views), receiver)
        })
    }

    fn importing(&mut self) -> Result<Option<Importing>, StoreError> {
        self.snapshot(|conn| rows::importing(&Meta::new(conn), conn.path()))
    }

    fn begin_import(
        &mut self,
        importer: &SegmentIdentity,
        from: &Importing,
        summary: &Summary,
    ) -> Result<Vec<u64>, StoreError> {
        let (url, store_id) = (self.url.clone(), hex(&self.store_id));
        self.with(|conn, attached| {
            let plans: Vec<Plan> = plans(&summary.catalogue);
            let meta = fence::begin_by_force(conn, &url, &store_id)?;
            let views: Vec<_> = plans.iter().map(|plan| View::new(conn, plan)).collect();
            let path = conn.path();
            let epoch = rows::check_target(&meta, path, &tables(&views), from, summary)?;
            take(conn, &meta, importer, &summary.catalogue, &plans, epoch)?;
            meta.flush()?;
            // What an earlier run wrote of a table without history may be gone from the source.
            for plan in plans.iter().filter(|plan| !plan.full) {
                conn.execute(&format!("DELETE FROM \"{}\"", plan.spec.name))?;
            }
            let counts = rows::begin(&meta, path, &tables(&views), from)?;
            commit(conn, &meta, None)?;
            drop(views);
            *attached = Some(Attached { uuid: importer.uuid, epoch, plans });
            Ok(counts)
        })
    }

    fn end_import(&mut self) -> Result<(), StoreError> {
        let store_id = hex(&self.store_id);
        self.with(|conn, attached| {
            let path = conn.path();
            let attached = attached.take().ok_or(StoreError::NotAttached(path.to_owned()))?;
            let meta = fence::begin(conn, &store_id, Vec::new(), &[])?.meta;
            meta::check_owner(&meta, path, attached.uuid, attached.epoch)?;
            rows::end(&meta, path)?;
            commit(conn, &meta, None)
        })
    }
}

fn tables<'a>(views: &'a [View<'_>]) -> Vec<&'a dyn TableView> {
    views.iter().map(|view| view as &dyn TableView).collect()
}
