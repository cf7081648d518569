//! A handle: one participant, one thread's way in. `Send`, not `Sync`, cheap to open.
//!
//! What belongs to the participant alone lives here, in this process's own memory: the spare cell of each
//! table, where it looks for free ones, its sequence in each table, and the clock of all it has seen. Only
//! its entry is in the segment (participant.rs).
//!
//! **Fork**: a forked child that uses its parent's handle is found out before each exchange. It forgets what
//! it inherited (spares, sequences: they are the parent's) and claims an entry of its own.
//!
//! **Crash**: a dead handle leaves an Owned entry with a free lock byte, at most one spare cell a table, at
//! most one reserved slot, and the cells of an index change under way: the sweep finds all of them.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use commonhold_os::fork;
use commonhold_os::lock::LockFile;
use commonhold_segment::sync::{Fault, Ordering, planted};

use crate::error::Error;
use crate::participant::EntryView;
use crate::pool::{Kind, Owned};
use crate::read::Snapshot;
use crate::row::WriterId;
use crate::space::Space;
use crate::table::TableView;
use crate::word::Word;

/// How far a lane's high-water mark is raised at once.
const LANE_STEP: u64 = 4096;

/// What a handle keeps for one table.
#[derive(Debug, Default)]
struct Local {
    spare: Cell<Option<Owned>>,
    cells: Cell<u32>,
    slots: Cell<u32>,
    index: Cell<u32>,
    /// The slot at which a steward begins to collect.
    drained: Cell<u32>,
    sequence: Cell<u64>,
}

/// Buffers that live from one operation to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) seen: Snapshot,
    pub(crate) next: Vec<u8>,
}

/// One participant.
pub struct Handle {
    space: Arc<Space>,
    entry: Cell<u16>,
    word: Cell<Word>,
    writer: Cell<WriterId>,
    lock: RefCell<Option<LockFile>>,
    generation: Cell<u64>,
    tables: Vec<Local>,
    /// The maximum of all clocks read or committed.
    seen: Box<[Cell<u64>]>,
    lane: Cell<usize>,
    lane_limit: Cell<u64>,
    room_wait: Cell<Duration>,
    scratch: Cell<Option<Box<Scratch>>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.writer.get())
    }
}

impl Handle {
    /// Claims an entry of the segment.
    ///
    /// # Errors
    /// [`Error::Participants`] when all are in use; [`Error::ReadOnly`].
    pub fn open(space: &Arc<Space>) -> Result<Self, Error> {
        if !space.segment().is_writable() {
            return Err(Error::ReadOnly);
        }
        let catalogue = space.catalogue();
        let handle = Self {
            space: Arc::clone(space),
            entry: Cell::new(0),
            word: Cell::new(Word::from_bits(0)),
            writer: Cell::default(),
            lock: RefCell::new(None),
            generation: Cell::new(0),
            tables: catalogue.tables.iter().map(|_| Local::default()).collect(),
            seen: (0..catalogue.lanes).map(|_| Cell::new(0)).collect(),
            lane: Cell::new(0),
            lane_limit: Cell::new(0),
            room_wait: Cell::new(Duration::from_secs(10)),
            scratch: Cell::default(),
        };
        handle.register()?;
        Ok(handle)
    }

    /// Claims an entry and starts as a new participant.
    fn register(&self) -> Result<(), Error> {
        let (entry, word, lock) = self.space.claim_entry()?;
        // In a forked child this drops the parent's lock, which closes nothing (lock.rs).
        *self.lock.borrow_mut() = lock;
        self.entry.set(entry);
        self.word.set(word);
        let epoch = self.space.segment().header().store_epoch;
        self.writer.set(WriterId::new(epoch, entry, word.generation()));
        self.generation.set(fork::generation());
        let participants = u64::from(self.space.catalogue().participants.max(1));
        for (local, table) in self.tables.iter().zip(self.space.tables()) {
            // Spread the places where participants look, so that they do not meet.
            let spread = |count: u32| (u64::from(count) * u64::from(entry) / participants) as u32;
            let geometry = table.layout.geometry;
            local.spare.set(None);
            local.sequence.set(0);
            local.cells.set(spread(geometry.cells));
            local.slots.set(spread(geometry.slots));
            local.index.set(spread(geometry.index_cells));
        }
        let lane = usize::from(entry) % self.seen.len().max(1);
        let mark = self.space.lane_mark(lane)?.load(Ordering::Relaxed);
        self.lane.set(lane);
        self.lane_limit.set(mark);
        if let Some(seen) = self.seen.get(lane) {
            seen.set(seen.get().max(mark));
        }
        Ok(())
    }

    /// Whether it belongs to this process, whose generation is `generation`.
    #[inline]
    pub(crate) fn is_of(&self, generation: u64) -> bool {
        self.generation.get() == generation
    }

    /// Becomes a participant of its own in a forked child; true when it just did.
    #[inline]
    pub(crate) fn check_fork(&self) -> Result<bool, Error> {
        if fork::generation() == self.generation.get() {
            return Ok(false);
        }
        self.register().map(|()| true)
    }

    /// For models: this participant, as if it were proved dead.
    #[cfg(feature = "loom")]
    #[must_use]
    pub fn as_dead(&self) -> crate::participant::DeadSet {
        let mut dead = crate::participant::DeadSet::new();
        dead.insert(self.entry.get(), self.word.get());
        dead
    }

    /// For models: claims a cell, as an update does.
    ///
    /// # Errors
    /// As an update.
    #[cfg(feature = "loom")]
    pub fn take_cell(&self, table: usize) -> Result<(), Error> {
        self.spare(&self.space.table(table)?).map(drop)
    }

    /// For models: leaves everything as a killed participant does; the dead.
    #[cfg(feature = "loom")]
    #[must_use]
    pub fn abandon(self) -> crate::participant::DeadSet {
        let dead = self.as_dead();
        self.generation.set(u64::MAX); // as if inherited by a fork: nothing is given back
        dead
    }

    /// The segment it works on.
    #[must_use]
    #[inline]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The segment it works on, to keep.
    #[must_use]
    pub fn space_arc(&self) -> Arc<Space> {
        Arc::clone(&self.space)
    }

    /// Who commits through it.
    #[must_use]
    pub fn writer(&self) -> WriterId {
        self.writer.get()
    }

    /// How many commits this participant made in the table at `position`: its last sequence.
    #[must_use]
    pub fn sequence(&self, position: usize) -> u64 {
        self.tables.get(position).map_or(0, |local| local.sequence.get())
    }

    /// The slot at which a steward begins to collect.
    pub(crate) fn resume(&self, position: usize) -> u32 {
        self.tables.get(position).map_or(0, |local| local.drained.get())
    }

    /// Where he begins the next time.
    pub(crate) fn resume_at(&self, position: usize, slot: u32) {
        if let Some(local) = self.tables.get(position) {
            local.drained.set(slot);
        }
    }

    /// The longest wait for a free cell or slot before it is an error. Ten seconds if never set.
    pub fn set_room_wait(&self, limit: Duration) {
        self.room_wait.set(limit);
    }

    /// The longest wait for a free cell or slot, or for the store to cover an id.
    #[must_use]
    pub fn room_wait(&self) -> Duration {
        self.room_wait.get()
    }

    /// The number of its entry in the segment.
    #[must_use]
    #[inline]
    pub fn entry_index(&self) -> u16 {
        self.entry.get()
    }

    #[inline]
    pub(crate) fn entry(&self) -> Result<EntryView<'_>, Error> {
        self.space.entry(self.entry.get())
    }

    pub(crate) fn cursor(&self, position: usize, kind: Kind) -> Option<&Cell<u32>> {
        self.tables.get(position).map(|local| match kind {
            Kind::Cells => &local.cells,
            Kind::Slots => &local.slots,
            Kind::IndexCells => &local.index,
        })
    }

    /// The cell to write the next version into: the spare of an earlier try, or a free one.
    #[inline]
    pub(crate) fn spare(&self, table: &TableView<'_>) -> Result<Owned, Error> {
        let kept = self.tables.get(table.position).and_then(|local| local.spare.get());
        match kept {
            Some(owned) => Ok(owned),
            None => {
                let owned = self.claim(table, Kind::Cells)?;
                self.keep_spare(table, Some(owned));
                Ok(owned)
            }
        }
    }

    /// Keeps `owned` for the next update of the table, or nothing. Another spare that is kept is freed.
    #[inline]
    pub(crate) fn keep_spare(&self, table: &TableView<'_>, owned: Option<Owned>) {
        let Some(local) = self.tables.get(table.position) else { return };
        let old = local.spare.replace(owned);
        if let (Some(old), Some(_)) = (old, owned) {
            self.give_back(table, Kind::Cells, &[old]);
        }
    }

    /// The sequence of the next commit in the table.
    #[inline]
    pub(crate) fn next_sequence(&self, position: usize) -> u64 {
        self.sequence(position) + 1
    }

    /// Counts a commit.
    #[inline]
    pub(crate) fn count_commit(&self, position: usize, entry: &EntryView<'_>) {
        if let Some(local) = self.tables.get(position) {
            local.sequence.set(local.sequence.get() + 1);
        }
        self.tick();
        crate::participant::bump(entry.commits);
    }

    /// What this handle has seen, lane by lane.
    #[inline]
    pub(crate) fn seen(&self) -> &[Cell<u64>] {
        &self.seen
    }

    /// The lane of the clock that this handle counts in.
    #[inline]
    pub(crate) fn lane(&self) -> usize {
        self.lane.get()
    }

    /// Makes sure that the lane's high-water mark covers the next commit.
    #[inline]
    pub(crate) fn reserve_tick(&self) -> Result<(), Error> {
        let next = self.seen.get(self.lane.get()).map_or(0, Cell::get).saturating_add(1);
        if next > self.lane_limit.get() {
            let limit = next.saturating_add(LANE_STEP);
            self.space.lane_mark(self.lane.get())?.fetch_max(limit, Ordering::Relaxed);
            self.lane_limit.set(limit);
        }
        Ok(())
    }

    fn tick(&self) {
        if let Some(own) = self.seen.get(self.lane.get()) {
            own.set(own.get().saturating_add(1));
        }
    }

    fn free_entry(&self) {
        if let Ok(entry) = self.entry() {
            let word = self.word.get();
            word.exchange(entry.word, word.freed());
        }
    }

    /// The buffers; an operation inside another one's closure gets fresh ones.
    #[inline]
    pub(crate) fn take_scratch(&self) -> Box<Scratch> {
        self.scratch.take().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn put_scratch(&self, scratch: Box<Scratch>) {
        self.scratch.set(Some(scratch));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if fork::generation() != self.generation.get() {
            return; // a forked child: all of it is the parent's
        }
        if planted(Fault::EntryFreedFirst) {
            self.free_entry();
        }
        for table in self.space.tables() {
            let spare = self.tables.get(table.position).and_then(|local| local.spare.take());
            if let Some(spare) = spare {
                self.give_back(&table, Kind::Cells, &[spare]);
            }
        }
        self.free_entry();
        // The lock byte becomes free behind this, with its description.
    }
}
