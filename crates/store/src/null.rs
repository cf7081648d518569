//! The store `none`: takes everything, keeps nothing.

use std::collections::BTreeMap;

use commonhold_core::catalogue::Catalogue;
use commonhold_core::row::{Row, WriterId};

use crate::audit::Audit;
use crate::error::StoreError;
use crate::foreign::{Appended, Conflict};
use crate::store::{
    Batch, Claim, HistoryRow, Mark, Owner, RowCount, SegmentIdentity, Store, TakenOver,
};
use crate::transfer::{Importing, Receiver, Summary, Transfer};

/// The store `none`. Its epoch is always 1: nothing is kept that an older writer could be mistaken in.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullStore {}

impl Store for NullStore {
    fn url(&self) -> String {
        "none".to_owned()
    }

    fn store_id(&self) -> [u8; 16] {
        [0; 16]
    }

    fn owner(&mut self) -> Result<Option<Owner>, StoreError> {
        Ok(None)
    }

    fn catalogue(&mut self) -> Result<Option<Catalogue>, StoreError> {
        Ok(None)
    }

    fn epoch(&mut self) -> Result<u64, StoreError> {
        Ok(1)
    }

    fn claim_after(
        &mut self,
        _: &SegmentIdentity,
        _: &Catalogue,
        _: Option<u64>,
    ) -> Result<Claim, StoreError> {
        Ok(Claim { epoch: 1, store_id: [0; 16], batch: 0 })
    }

    fn take_over(&mut self) -> Result<TakenOver, StoreError> {
        Ok(TakenOver { fenced: None, epoch: 1, batch: 0 })
    }

    fn join(&mut self, _: [u8; 16], _: u64, _: u64, _: &Catalogue) -> Result<(), StoreError> {
        Ok(())
    }

    fn load(
        &mut self,
        _: usize,
        _: &mut dyn FnMut(Row) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn stamp(&mut self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn append(&mut self, _: &Batch) -> Result<Appended, StoreError> {
        Ok(Appended::default())
    }

    fn conflicts(&mut self) -> Result<Vec<Conflict>, StoreError> {
        Ok(Vec::new())
    }

    fn marks(&mut self) -> Result<Vec<Mark>, StoreError> {
        Ok(Vec::new())
    }

    fn highest_sequences(&mut self, _: usize) -> Result<BTreeMap<WriterId, u64>, StoreError> {
        Ok(BTreeMap::new())
    }

    fn highest_sequence(&mut self, _: usize, _: WriterId) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn history(
        &mut self,
        _: usize,
        _: &str,
        _: &mut dyn FnMut(HistoryRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn row_count(&mut self, _: usize) -> Result<RowCount, StoreError> {
        Ok(RowCount::default())
    }

    fn audit(&mut self) -> Result<Audit, StoreError> {
        Ok(Audit { store: self.url(), epoch: 0, tables: Vec::new() })
    }
}

impl Transfer for NullStore {
    fn export(&mut self, _: &mut dyn Receiver) -> Result<(), StoreError> {
        Err(StoreError::Unclaimed(self.url()))
    }

    fn importing(&mut self) -> Result<Option<Importing>, StoreError> {
        Ok(None)
    }

    fn begin_import(
        &mut self,
        _: &SegmentIdentity,
        _: &Importing,
        _: &Summary,
    ) -> Result<Vec<u64>, StoreError> {
        Err(StoreError::NotEmpty { path: self.url(), why: "it keeps nothing".to_owned() })
    }

    fn end_import(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
