//! Copying a store into another one, from outside of any segment.

use std::path::Path;

use commonhold_core::Space;
use commonhold_os::{process, random};
use commonhold_segment::{Segment, new_uuid};
use commonhold_store::{Copied, Progress, SegmentIdentity, Store, StoreError};

use crate::admin::unstored;
use crate::open::{OpenError, open_store};

/// Copies the store at `source` into the empty one at `target` and proves that it holds the same. `progress` is told
/// about each transaction; its error ends the copy, and the next call with the same two goes on behind what is there.
///
/// # Errors
/// [`OpenError::SourceBehind`] when a segment holds commits that the source lacks; else what
/// [`commonhold_store::copy`] says.
pub fn copy_store(
    source: &str,
    target: &str,
    progress: &mut dyn FnMut(&Progress) -> Result<(), StoreError>,
) -> Result<Copied, OpenError> {
    let mut source = commonhold_store::open_read_only(source)?;
    refuse_behind(source.as_mut())?;
    let mut target = open_store(target)?;
    let name = format!("an import from {}", source.url());
    let boot_id = random::hex(&process::boot_id());
    let importer = SegmentIdentity::here(new_uuid(), Path::new(&name), boot_id);
    Ok(commonhold_store::copy(source.as_mut(), target.as_mut(), &importer, progress)?)
}

/// A copy of a store that lacks commits would lack them too.
fn refuse_behind(store: &mut dyn Store) -> Result<(), OpenError> {
    let Some(owner) = store.owner()? else { return Ok(()) };
    let path = Path::new(&owner.path);
    // Not there, damaged or of another boot: there is nothing in memory that could still be stored.
    let Ok(segment) = Segment::attach(path, false) else { return Ok(()) };
    if segment.header().uuid != owner.uuid {
        return Ok(());
    }
    let Some(space) = Space::new(segment)? else { return Ok(()) };
    match unstored(&space)? {
        0 => Ok(()),
        versions => {
            let (path, store) = (path.to_owned(), store.url());
            Err(OpenError::SourceBehind { path, store, versions })
        }
    }
}
