//! Making a planned change, record by record, and taking new records out again. All of it may be done twice, late, and by
//! two at once: see [`crate::intent`].

use commonhold_segment::sync::{Fault, planted};

use crate::commit::Terms;
use crate::error::{Error, UpdateError};
use crate::fence::Fence;
use crate::guard::Grant;
use crate::handle::Handle;
use crate::insert::Inserted;
use crate::intent::Planned;
use crate::read::Snapshot;

/// Why a commit of a planned record did not happen.
pub(super) enum Stop {
    /// It was made before.
    Made,
    Failed(Error),
}

impl Handle {
    /// Step 5 of the records that were not there.
    pub(super) fn make_new_ones(
        &self,
        grant: &Grant,
        published: Fence,
        planned: &[Planned],
    ) -> Result<(), Error> {
        let mut new = planned.iter().filter(|p| p.seen.is_none());
        new.try_for_each(|p| self.make_new(grant, published, p))
    }

    /// Step 5 of the records that were there, and of those that came meanwhile.
    pub(super) fn make_others(
        &self,
        grant: &Grant,
        published: Fence,
        planned: &[Planned],
    ) -> Result<(), Error> {
        planned.iter().try_for_each(|p| self.make(grant, published, p))
    }

    /// Takes the new records out again that went in under this change.
    pub(super) fn unmake_new_ones(
        &self,
        grant: &Grant,
        published: Fence,
        planned: &[Planned],
    ) -> Result<(), Error> {
        let mut new = planned.iter().filter(|p| p.seen.is_none());
        new.try_for_each(|p| self.unmake_new(grant, published, p))
    }

    /// Whether a record that was there has another version than the one looked at.
    pub(super) fn has_begun(&self, planned: &[Planned]) -> Result<bool, Error> {
        for one in planned {
            if let Some((record, version)) = one.seen
                && self.read_at(one.table, record, |seen| seen.version)? != Some(version)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Step 5 of one record that was there, or came meanwhile; nothing when it was made before.
    fn make(&self, grant: &Grant, published: Fence, planned: &Planned) -> Result<(), Error> {
        let (record, version) = match planned.seen {
            Some((record, version)) => (record, Some(version)),
            None => match self.locate(planned.table, &planned.key)? {
                Some(record) => (record, None),
                None => return Ok(()),
            },
        };
        let due = |seen: &Snapshot| {
            self.check_held(grant).map_err(Stop::Failed)?;
            let made = match version {
                Some(version) => seen.version != version,
                None => is_made(seen.fence, published),
            };
            if made { Err(Stop::Made) } else { Ok(()) }
        };
        let Some(payload) = &planned.next else {
            return ended(self.delete_under(planned.table, record, grant.fence(), due));
        };
        let terms = Terms { fence: grant.fence(), ..Terms::update(record) };
        let step = |seen: &Snapshot, next: &mut Vec<u8>| {
            due(seen)?;
            next.extend_from_slice(payload);
            Ok(())
        };
        match ended(self.exchange(planned.table, terms, step)) {
            Err(Error::Guarded { .. }) if version.is_none() => Ok(()),
            other => other,
        }
    }

    /// Step 5 of a record that was not there. One that came meanwhile is left for [`Handle::make`].
    fn make_new(&self, grant: &Grant, published: Fence, planned: &Planned) -> Result<(), Error> {
        let (table, key, fence) = (planned.table, &planned.key, grant.fence());
        let Some(payload) = &planned.next else { return Ok(()) };
        let allow = || self.check_held(grant);
        let record = match self.insert_under(table, key, payload, fence, &allow)? {
            Inserted::Committed(_) => return Ok(()),
            Inserted::Exists(record) => record,
        };
        let found = self.read_at(table, record, |seen| seen.fence)?.unwrap_or_default();
        if found == Fence::NONE || found.guard() == published.guard() {
            return Ok(());
        }
        Err(self.space().refused_by_fence(table, fence, found))
    }

    /// Takes a new record out again that went in under this change, and keeps out one that is just going in.
    fn unmake_new(&self, grant: &Grant, published: Fence, planned: &Planned) -> Result<(), Error> {
        let table = self.space().table(planned.table)?;
        let place = table.place_of(&planned.key);
        let record = loop {
            self.check_held(grant)?;
            let bucket = table.read_bucket(place.bucket)?;
            if let Some(record) = self.locate(planned.table, &planned.key)? {
                break record;
            }
            // Whoever looked before this and inserts after it is refused.
            if planted(Fault::NoBucketTouch)
                || self.exchange_bucket(&table, &bucket, &bucket.entries)?
            {
                return Ok(());
            }
        };
        let ours = |seen: &Snapshot| {
            self.check_held(grant).map_err(Stop::Failed)?;
            if is_made(seen.fence, published) { Ok(()) } else { Err(Stop::Made) }
        };
        // What came meanwhile without a guard, or is another one's, stays.
        match ended(self.delete_under(planned.table, record, grant.fence(), ours)) {
            Err(Error::Guarded { .. }) => Ok(()),
            other => other,
        }
    }
}

/// Whether a version with the fence `found` is what the change that `published` decided made of a new record.
fn is_made(found: Fence, published: Fence) -> bool {
    found.guard() == published.guard() && found.may_displace(published)
}

/// What a conditional commit comes to: made now or before, by this holder or another.
pub(super) fn ended<T>(result: Result<Option<T>, UpdateError<Stop>>) -> Result<(), Error> {
    match result {
        Ok(_) | Err(UpdateError::Refused(Stop::Made)) => Ok(()),
        Err(UpdateError::Refused(Stop::Failed(e)) | UpdateError::Failed(e)) => Err(e),
    }
}
