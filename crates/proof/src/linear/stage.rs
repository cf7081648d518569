//! The segment on which histories are made: one table, few slots and few cells, so that all of them are used again
//! and again; and its keeper, which does what a steward does, without a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::schema::Schema;
use commonhold_core::space::{LOCK_STEWARD, geometry_of};
use commonhold_core::{Handle, Space};
use commonhold_os::lock::Mode;
use commonhold_os::mapping::Published;
use commonhold_segment::{NewSegment, Segment};

use crate::Failure;
use crate::random::Random;

/// The table's position.
pub(crate) const TABLE: usize = 0;
/// Its slots.
pub(crate) const SLOTS: u32 = 6;
const NAME: &str = "linear";
/// The most participants at once: processes, keeper, and those that were killed since somebody swept.
const PARTICIPANTS: u32 = 16;
/// Cells beyond what the protocol needs.
const EXTRA_CELLS: u32 = 8;

/// What the segment is.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    path: PathBuf,
    payload_words: usize,
}

/// The key `at`.
pub(crate) fn key(at: usize) -> &'static str {
    ["one", "two", "three", "four"].get(at).copied().unwrap_or("five")
}

impl Stage {
    /// Makes the segment.
    pub(crate) fn new(
        path: PathBuf,
        history: History,
        payload_words: usize,
    ) -> Result<Self, Failure> {
        Self::sized(path, history, payload_words, PARTICIPANTS)
    }

    /// Makes the segment with room for so many participants.
    pub(crate) fn sized(
        path: PathBuf,
        history: History,
        payload_words: usize,
        participants: u32,
    ) -> Result<Self, Failure> {
        // The protocols do not look into a payload: one field makes room for it.
        let field = format!("words:bytes({})", payload_words * 8);
        let schema = Schema::new(vec![field.parse()?])?;
        let table = TableSpec { history, slots: SLOTS, ..TableSpec::new(NAME, schema) };
        let cells = table.cells_min(participants) + EXTRA_CELLS;
        let catalogue = Catalogue::new(participants, 4, vec![TableSpec { cells, ..table }])?;
        let json = catalogue.to_json();
        let new = NewSegment {
            geometry: geometry_of(&catalogue),
            catalogue: json.as_bytes(),
            store_id: [0; 16],
            store_epoch: 1,
            store_url: "none",
            uuid: commonhold_os::random::uuid(),
        };
        match Segment::create_named(&path, &new)?.publish()? {
            Published::Mine => {}
            Published::Theirs => return Err("the segment is there already".into()),
        }
        Ok(Self { path, payload_words })
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Attaches to it.
    pub(crate) fn attach(&self) -> Result<Arc<Space>, Failure> {
        Ok(Space::new(Segment::attach(&self.path, true)?)?.ok_or("the segment is being removed")?)
    }

    pub(crate) fn payload_words(&self) -> usize {
        self.payload_words
    }

    pub(crate) fn table_name(&self) -> &'static str {
        NAME
    }

    /// The keeper's life: drains, sweeps and reaps until it is killed.
    pub(crate) fn keep(&self, seed: u64) -> Result<(), Failure> {
        let mut random = Random::new(seed);
        let space = self.attach()?;
        let lock = space.segment().lock_file()?.ok_or("no file to lock")?;
        while !lock.try_lock(LOCK_STEWARD, Mode::Exclusive)? {
            std::thread::yield_now(); // the last one is just dying
        }
        let handle = Handle::open(&space)?;
        handle.set_room_wait(Duration::from_millis(10));
        space.announce_steward(handle.entry_index())?;
        space.serve(true)?;
        space.reap(true)?;
        space.flag_all()?;
        loop {
            let limit = 1 + random.below(20) as usize;
            drain_once(&handle, limit)?;
            if random.once_in(4) {
                space.reap(random.once_in(2))?;
            }
            if random.once_in(50) {
                space.flag_all()?;
            }
            let nap = Duration::from_nanos(random.below(200_000));
            space.sleep_as_steward(random.once_in(2), nap)?;
        }
    }
}

/// One batch; whether there was anything in it.
fn drain_once(handle: &Handle, limit: usize) -> Result<bool, Failure> {
    let drained = handle.collect(TABLE, limit)?;
    if drained.is_empty() {
        return Ok(false);
    }
    match handle.complete(&drained) {
        // A deletion that found no cell of the index is tried again.
        Ok(()) | Err(commonhold_core::Error::Full { .. }) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Drains everything, with nobody else at it.
pub(crate) fn drain_all(space: &Arc<Space>, handle: &Handle) -> Result<(), Failure> {
    let start = Instant::now();
    space.flag_all()?;
    while drain_once(handle, 1000)? {
        if start.elapsed() > Duration::from_secs(5) {
            return Err("the drain does not end".into());
        }
    }
    Ok(())
}
