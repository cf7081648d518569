//! Allocators of ids.

use std::borrow::Borrow;
use std::time::Duration;

use commonhold_core::directory::Descriptor;
use commonhold_core::{Error, Handle};

/// Gives out ids: 1, 2, 3 …, each once, for ever: across processes, kills, restarts and crashes of the machine.
/// `Send`, not `Sync`.
///
/// An id is given out only when the store already knows that it may be; it knows so of 4096 more at a time. So nothing
/// is stored per id, and a segment that is made anew from its store leaves out what was left of the last 4096. Who is
/// killed loses the one id that he was just taking, at most. With the store `none` ids begin at 1 again in a new segment.
///
/// `H` is the participant: its own ([`Handle`], from [`crate::Runtime::ids`]) or a shared one (`&Handle`).
pub struct Ids<H: Borrow<Handle> = Handle> {
    handle: H,
    found: Descriptor,
}

impl<H: Borrow<Handle>> std::fmt::Debug for Ids<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ids({})", self.found.name)
    }
}

impl<H: Borrow<Handle>> Ids<H> {
    /// The allocator `name`, made now if it is not there.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::NamesFull`].
    pub fn new(handle: H, name: &str) -> Result<Self, Error> {
        let found = handle.borrow().register_ids(name)?;
        Ok(Self { handle, found })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.found.name
    }

    /// The next id. The first one, and the first of each 4096 when they go fast, waits for the store: as long as the
    /// participant waits for room ([`Handle::set_room_wait`], ten seconds if never set).
    ///
    /// # Errors
    /// [`Error::Timeout`] saying why the store does not have the mark; [`Error::IdsSpent`].
    ///
    /// # Examples
    /// ```
    /// # use commonhold_runtime::{Config, Runtime, TableConfig};
    /// # let config = Config::ephemeral().table(TableConfig::new("t", &["n:i64"]));
    /// let runtime = Runtime::open(config)?;
    /// let nodes = runtime.ids("nodes")?;
    /// assert_eq!((nodes.next()?, nodes.next()?), (1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn next(&self) -> Result<u64, Error> {
        let handle = self.handle.borrow();
        handle.next_id(&self.found, handle.room_wait())
    }

    /// The next id; waits for the store at most `limit`.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub fn next_within(&self, limit: Duration) -> Result<u64, Error> {
        self.handle.borrow().next_id(&self.found, limit)
    }

    /// The last id that was given out by anybody; 0 before the first. After a restart it begins at the store's mark.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the segment's file was cut short.
    pub fn last(&self) -> Result<u64, Error> {
        self.handle.borrow().space().last_id(&self.found)
    }
}
