//! A space: one mapped segment with its catalogue, as one process sees it. Handles are opened on it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use commonhold_os::fork;
use commonhold_os::lock::{LockFile, Mode};
use commonhold_segment::sync::{AtomicU64, Fault, Ordering, planted};
use commonhold_segment::{Geometry, Layout, NewSegment, Segment, TableGeometry};

use crate::catalogue::{Catalogue, TableSpec};
use crate::error::Error;
use crate::index::ENTRIES;
use crate::table::TableView;

/// The lock byte that everybody holds shared who uses the segment, and who removes it alone.
pub const LOCK_USAGE: u64 = 0;
/// The lock byte of the steward.
pub const LOCK_STEWARD: u64 = 1;
/// The lock byte of who sweeps because a pool is empty.
pub(crate) const LOCK_RECLAIM: u64 = 2;
/// The lock byte of entry 0; the others follow.
pub const LOCK_ENTRIES: u64 = 4096;

/// Lines of the segment's control region.
pub(crate) mod control {
    /// The steward's doorbell.
    pub(crate) const DOORBELL: usize = 0;
    /// Counts the steward's take-overs; who it is stands in the words behind.
    pub(crate) const STEWARD: usize = 1;
    /// Version of the steward's message.
    pub(crate) const MESSAGE: usize = 2;
    /// The head of the list of names.
    pub(crate) const NAMES: usize = 3;
    /// Who waits for the store to have the counters.
    pub(crate) const ASKED: usize = 4;
    /// The highest number of a batch of the store that was seen; the two stamps stand behind it.
    pub(crate) const BATCH: usize = 5;
    /// Whether the store refuses this segment for good.
    pub(crate) const REFUSED: usize = 6;
    /// The message's words begin here.
    pub(crate) const MESSAGE_TEXT: usize = 7;
}

/// Wakes this process's candidate for the steward's role.
type WakeCandidate = Box<dyn Fn() + Send + Sync>;

/// One segment as one process sees it.
pub struct Space {
    segment: Segment,
    catalogue: Catalogue,
    /// Held as long as the space lives: see [`LOCK_USAGE`].
    usage: Option<LockFile>,
    /// The process that took it into use: see [`fork`].
    generation: u64,
    reaper: Mutex<Option<(u64, LockFile)>>,
    /// Wakes this process's own candidate when there is no steward.
    candidate: Mutex<Option<WakeCandidate>>,
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").field("segment", &self.segment).finish_non_exhaustive()
    }
}

/// The geometry that a catalogue asks for.
#[must_use]
pub fn geometry_of(catalogue: &Catalogue) -> Geometry {
    let table = |t: &TableSpec| {
        let buckets = (t.slots / 2).max(1).next_power_of_two();
        // One cell a bucket, one for every so many entries that overflow; and for an operation on a bucket
        // that holds everything as many once more; and one for every participant.
        let overflow = t.slots / ENTRIES as u32 + 1;
        let index_cells = buckets + 2 * overflow + catalogue.participants + 1;
        TableGeometry {
            slots: t.slots,
            cells: t.cells,
            key_bytes: t.key_bytes,
            payload_bytes: t.schema.payload_bytes_max() as u32,
            buckets,
            index_cells,
        }
    };
    Geometry {
        participants: catalogue.participants,
        lanes: catalogue.lanes,
        catalogue_bytes: catalogue.to_json().len() as u32,
        named: catalogue.named,
        tables: catalogue.tables.iter().map(table).collect(),
    }
}

impl Space {
    /// A space over `segment`, which is taken into use: nobody can remove it until the space is dropped.
    /// A segment open for reading only is not taken into use.
    ///
    /// `None` when it is just being removed: look its name up again.
    ///
    /// # Errors
    /// [`Error`] when the catalogue does not fit the header.
    pub fn new(segment: Segment) -> Result<Option<Arc<Self>>, Error> {
        let text = std::str::from_utf8(segment.catalogue()).unwrap_or_default();
        let catalogue = Catalogue::from_json(text)?;
        if geometry_of(&catalogue) != segment.header().geometry {
            return Err(Error::Corrupt { what: "the geometry", offset: 64, found: 0 });
        }
        let mut usage = None;
        if segment.is_writable()
            && let Some(lock) = segment.lock_file()?
        {
            if !lock.try_lock(LOCK_USAGE, Mode::Shared)? {
                return Ok(None);
            }
            usage = Some(lock);
        }
        let (reaper, candidate) = (Mutex::new(None), Mutex::new(None));
        let generation = fork::generation();
        Ok(Some(Arc::new(Self { segment, catalogue, usage, generation, reaper, candidate })))
    }

    /// A space of `catalogue`'s tables in this process's own memory, without a store: for tests and models.
    ///
    /// # Errors
    /// [`Error`] when the sizes are too large.
    pub fn in_heap(catalogue: &Catalogue) -> Result<Arc<Self>, Error> {
        let json = catalogue.to_json();
        let segment = Segment::in_heap(&NewSegment {
            geometry: geometry_of(catalogue),
            catalogue: json.as_bytes(),
            store_id: [0; 16],
            store_epoch: 1,
            store_url: "none",
            uuid: [7; 16],
        })?;
        Self::new(segment)?.ok_or(Error::Removed)
    }

    /// Whether the segment's name still leads to this segment.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.usage.as_ref().is_none_or(LockFile::is_current)
    }

    /// Holds [`LOCK_USAGE`] with `lock`, so that nobody removes the segment.
    ///
    /// Nobody can have it alone while this space holds it; but a forked child's copy of the space holds nothing, and
    /// after its parent has gone the segment may be removed under it.
    pub(crate) fn hold_usage(&self, lock: &LockFile) -> Result<(), Error> {
        let held = lock.try_lock(LOCK_USAGE, Mode::Shared)?;
        let inherited = self.generation != fork::generation();
        let there = held && (!inherited || lock.is_current());
        if there || planted(Fault::NoUsage) { Ok(()) } else { Err(Error::Removed) }
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The catalogue.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// An error when the segment's file was cut short: to be called after reading what an operation answers with, and
    /// after writing what it says is done. What was not there any more reads as zero.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    #[inline]
    pub fn check_whole(&self) -> Result<(), Error> {
        if self.segment.is_cut() && !planted(Fault::NoCutCheck) {
            return Err(self.truncated());
        }
        Ok(())
    }

    /// What an operation answers with: `result`, or what is wrong with the segment as a whole.
    #[inline]
    pub(crate) fn whole<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        self.check_whole().and(result)
    }

    #[cold]
    fn truncated(&self) -> Error {
        Error::Truncated { path: self.segment.path().map(Path::to_owned).unwrap_or_default() }
    }

    #[inline]
    pub(crate) fn layout(&self) -> &Layout {
        self.segment.layout()
    }

    /// The table at `position` of the catalogue.
    #[inline]
    pub(crate) fn table(&self, position: usize) -> Result<TableView<'_>, Error> {
        let spec = self.catalogue.tables.get(position);
        match (spec, self.layout().tables.get(position)) {
            (Some(spec), Some(layout)) => {
                Ok(TableView { position, spec, layout, words: self.segment.words() })
            }
            _ => Err(self.unknown_table(&format!("number {position}"))),
        }
    }

    /// Every table.
    pub(crate) fn tables(&self) -> impl Iterator<Item = TableView<'_>> {
        (0..self.catalogue.tables.len()).filter_map(|i| self.table(i).ok())
    }

    /// The position of the table `name`.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] naming those that there are.
    pub fn find_table(&self, name: &str) -> Result<usize, Error> {
        let found = self.catalogue.find(name).map(|(position, _)| position);
        found.ok_or_else(|| self.unknown_table(name))
    }

    fn unknown_table(&self, table: &str) -> Error {
        let names: Vec<&str> = self.catalogue.tables.iter().map(|t| t.name.as_str()).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Error::UnknownTable { table: table.to_owned(), known }
    }

    /// The word at `offset`; a reader of the header's checked layout never asks beyond the end.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> Result<&AtomicU64, Error> {
        self.segment.words().get(offset).ok_or(Error::Corrupt {
            what: "an offset",
            offset: offset.saturating_mul(8),
            found: offset as u64,
        })
    }

    /// Runs `work` with this process's lock description for reaping, one thread at a time. `None` when
    /// another thread is at it, or the segment has no file.
    pub(crate) fn with_reaper<T>(
        &self,
        work: impl FnOnce(&LockFile) -> T,
    ) -> Result<Option<T>, Error> {
        // In a forked child the lock may be held for ever by a thread that is not there; others reap then.
        let Ok(mut guard) = self.reaper.try_lock() else { return Ok(None) };
        let generation = fork::generation();
        if guard.as_ref().is_none_or(|(made, _)| *made != generation) {
            *guard = self.segment.lock_file()?.map(|lock| (generation, lock));
        }
        Ok(guard.as_ref().map(|(_, lock)| work(lock)))
    }

    /// Sets what wakes this process's candidate for the steward's role.
    pub fn on_no_steward(&self, wake: Box<dyn Fn() + Send + Sync>) {
        if let Ok(mut candidate) = self.candidate.lock() {
            *candidate = Some(wake);
        }
    }

    pub(crate) fn wake_candidate(&self) {
        // Who holds it sets it: then the new candidate looks by itself.
        if let Ok(candidate) = self.candidate.try_lock()
            && let Some(wake) = candidate.as_ref()
        {
            wake();
        }
    }

    /// The high-water mark of a lane of the clock.
    pub(crate) fn lane_mark(&self, lane: usize) -> Result<&AtomicU64, Error> {
        self.word(self.layout().lanes.start + lane * commonhold_segment::layout::LINE_WORDS)
    }

    /// Raises the high-water marks to those of a stored clock.
    pub(crate) fn raise_lanes(&self, clock: &[u64]) -> Result<(), Error> {
        for (lane, value) in clock.iter().enumerate().take(self.catalogue.lanes as usize) {
            self.lane_mark(lane)?.fetch_max(*value, Ordering::Relaxed);
        }
        Ok(())
    }
}
