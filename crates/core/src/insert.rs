//! Insert and delete: where records come from and go to.
//!
//! **Slot word**: Free → Reserved → Live → Deleted → Free (word.rs calls them Free, Owned, Published,
//! Retired). A record is named by slot and slot generation, in handles, in the bucket's entry and in the
//! cell: whatever lives in the slot later is somebody else.
//!
//! **Versions never fall for a key**, whatever slot it lives in. The table's version floor is raised to a
//! deletion's version before the bucket's entry goes, by whoever makes it go, and an insert starts above
//! the floor.
//!
//! **Insert**: (1) read the bucket; an entry whose head is live: it exists; whose head is deleted: raise the
//! floor to that version. (2) Reserve a slot and take a cell, or neither. (3) Version = floor + 1. (4) Write
//! the cell, publish it as the slot's head. (5) The bucket's exchange against what (1) read **is the commit
//! point**; lost: back to (1) with the same reservation. (6) Reserved → Live.
//!
//! **Delete**: (1) find the record. (2) Exchange the head for a deleted version: **committed**, and final.
//! (3) Raise the floor. (4) Word → Deleted. (5) Drop the bucket's entry if it still names the record.
//! The steward frees the slot when the store has the deletion (drain.rs).
//!
//! **Crash**: an insert before (5) leaves a reserved slot that no bucket names: the sweep frees it; after
//! (5) the bucket names it: the sweep, or the next who finds it, makes it Live. A delete after (2) is
//! finished by the steward.

use commonhold_os::clock::wall_micros;
use commonhold_segment::sync::{Fault, Ordering, planted};
use crossbeam_utils::Backoff;

use crate::commit::{Committed, Draft, Terms, note};
use crate::error::{Error, UpdateError};
use crate::fence::Fence;
use crate::handle::Handle;
use crate::head::{Head, NO_CELL};
use crate::index::{Bucket, IndexEntry, Place};
use crate::pool::{Kind, Owned, signal};
use crate::read::{Found, Snapshot};
use crate::row::Row;
use crate::table::{RecordRef, TableControl, TableView, store_bytes};
use crate::word::{Phase, Word};

/// So often an insert is beaten at most before the segment is taken for damaged: a bucket changes only when
/// a record comes or goes.
const TRIES_MAX: u32 = 10_000_000;
/// So often it looks again when an entry leads nowhere and yet its bucket stands: an entry goes before its record.
const MOVED_MAX: u32 = 1000;

/// How an insert ended.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub enum Inserted {
    /// The record is there now, by this commit.
    Committed(Committed),
    /// It was there already.
    Exists(RecordRef),
}

/// What is to be inserted.
struct NewRecord<'a> {
    key: &'a str,
    payload: &'a [u8],
    place: Place,
    fence: Fence,
    allow: &'a dyn Fn() -> Result<(), Error>,
}

/// What an insert holds while it tries.
struct Reservation {
    slot: Owned,
    cell: Owned,
    prefix: u64,
}

impl Reservation {
    fn record(&self) -> RecordRef {
        let generation = self.slot.word.generation();
        RecordRef { slot: self.slot.index, generation, prefix: self.prefix }
    }
}

/// What a bucket says of a key.
enum Entry {
    Absent,
    Live(RecordRef),
    /// Deleted at this version; the entry may be replaced once the floor is raised.
    Deleted(IndexEntry, u64),
    /// The record went while we looked.
    Moved,
}

impl Handle {
    /// Inserts `key` with `payload`, unless it is there.
    ///
    /// # Errors
    /// [`Error::BadKey`]; [`Error::Full`] when there is no room; [`Error::Corrupt`].
    pub fn insert(&self, table: usize, key: &str, payload: &[u8]) -> Result<Inserted, Error> {
        self.insert_under(table, key, payload, Fence::NONE, &|| Ok(()))
    }

    /// Like [`Handle::insert`], under the guard that `fence` names. `allow` is asked in each try after the look at the
    /// index and before its exchange: what it forbids did not happen, and what it saw held until it did.
    pub(crate) fn insert_under(
        &self,
        table: usize,
        key: &str,
        payload: &[u8],
        fence: Fence,
        allow: &dyn Fn() -> Result<(), Error>,
    ) -> Result<Inserted, Error> {
        let view = self.space().table(table)?;
        view.check_key(key)?;
        let place = view.place_of(key);
        let new = NewRecord { key, payload, place, fence, allow };
        let backoff = Backoff::new();
        let mut reserved = None;
        let (mut tries, mut stuck) = (0_u32, 0_u32);
        let result = loop {
            tries += 1;
            let endless = stuck > MOVED_MAX && !planted(Fault::NoMovedLimit);
            if tries > TRIES_MAX || endless {
                break Err(view.corrupt("an entry of the index", 0, place.bucket.into()));
            }
            let before = Head::load(view.bucket(place.bucket)?, Ordering::Acquire);
            match self.try_insert(&view, &new, &mut reserved) {
                Ok(Some(done)) => break Ok(done),
                Ok(None) => backoff.snooze(),
                // While we waited for room, somebody else may have inserted the key.
                Err(full @ Error::Full { .. }) => {
                    let bucket = view.read_bucket(place.bucket)?;
                    break match self.entry_of(&view, &bucket, place, key)? {
                        Entry::Live(record) => Ok(Inserted::Exists(record)),
                        _ => Err(full),
                    };
                }
                Err(e) => break Err(e),
            }
            let stands = Head::load(view.bucket(place.bucket)?, Ordering::Acquire) == before;
            stuck = if stands { stuck + 1 } else { 0 };
        };
        if let Some(unused) = reserved {
            self.give_up(&view, &unused);
        }
        self.space().whole(result)
    }

    /// One try; `None`: somebody was first, look again.
    fn try_insert(
        &self,
        table: &TableView<'_>,
        new: &NewRecord<'_>,
        reserved: &mut Option<Reservation>,
    ) -> Result<Option<Inserted>, Error> {
        let (key, place) = (new.key, new.place);
        let mut bucket = table.read_bucket(place.bucket)?;
        let mut entries = bucket.entries.clone();
        match self.entry_of(table, &bucket, place, key)? {
            Entry::Absent => {}
            Entry::Live(record) => return Ok(Some(Inserted::Exists(record))),
            Entry::Moved => return Ok(None),
            Entry::Deleted(entry, version) => {
                raise_floor(table, version)?;
                // The deleter may not have come to it yet; see drain.rs on incarnations.
                if !planted(Fault::NoOldFlag) {
                    self.space().flag(table, entry.slot);
                }
                entries.retain(|e| *e != entry);
            }
        }
        (new.allow)()?;
        if self.check_fork()? {
            *reserved = None; // the parent's
        }
        let reservation = match reserved.take() {
            Some(reservation) => reservation,
            None => self.reserve(table, key)?,
        };
        let record = reservation.record();
        let staged = self.stage(table, &reservation, new);
        let reservation = reserved.insert(reservation);
        let (version, hash) = staged?;
        let (slot, generation) = (record.slot, record.generation);
        entries.push(IndexEntry { slot, tag: place.tag, generation });
        if planted(Fault::StaleBucket) {
            bucket = table.read_bucket(place.bucket)?;
        }
        // Should we die behind the commit point, the reaper flags the slot and wakes who watches the table.
        self.entry()?.noted.store(note(table, record), Ordering::Relaxed);
        if !self.exchange_bucket(table, &bucket, &entries)? {
            return Ok(None);
        }
        self.settle(table, reservation)?;
        *reserved = None;
        let committed = self.committed(table.position, record, version, hash);
        Ok(Some(Inserted::Committed(committed)))
    }

    /// What `bucket` says of `key`.
    fn entry_of(
        &self,
        table: &TableView<'_>,
        bucket: &Bucket,
        place: Place,
        key: &str,
    ) -> Result<Entry, Error> {
        for entry in bucket.entries.iter().filter(|e| e.tag == place.tag) {
            let slot = table.slot(entry.slot)?;
            let Some((prefix, word)) = slot.holds(entry.generation, key) else { continue };
            let record = RecordRef { slot: entry.slot, generation: entry.generation, prefix };
            let mut seen = Snapshot::default();
            return match self.look(table, record, &mut seen)? {
                Found::Gone => Ok(Entry::Moved),
                Found::Version if seen.deleted => Ok(Entry::Deleted(*entry, seen.version)),
                Found::Version => {
                    if word.phase() == Phase::Owned && word.exchange(slot.word, word.published()) {
                        self.space().flag(table, slot.index);
                    }
                    Ok(Entry::Live(record))
                }
            };
        }
        Ok(Entry::Absent)
    }

    /// Step 2: a slot and a cell, or neither; the slot's key is written.
    fn reserve(&self, table: &TableView<'_>, key: &str) -> Result<Reservation, Error> {
        let slot = self.claim(table, Kind::Slots)?;
        let cell = match self.spare(table) {
            Ok(cell) => cell,
            Err(e) => {
                self.give_back(table, Kind::Slots, &[slot]);
                return Err(e);
            }
        };
        // From here on the cell belongs to the reservation.
        self.keep_spare(table, None);
        let prefix = table.slot(slot.index)?.store_key(&table.spec.name, key);
        Ok(Reservation { slot, cell, prefix })
    }

    /// Steps 3 and 4: the version, the cell, the slot's head; version and hash. The slot is ours and nobody is led to it.
    fn stage(
        &self,
        table: &TableView<'_>,
        reservation: &Reservation,
        new: &NewRecord<'_>,
    ) -> Result<(u64, u64), Error> {
        let slot = table.slot(reservation.slot.index)?;
        let before = table.control(TableControl::Floor)?.load(Ordering::SeqCst);
        let version = before.wrapping_add(1);
        let none = Head::new(NO_CELL, before);
        let record = reservation.record();
        let time = wall_micros();
        let draft =
            Draft { record, version, previous: none, deleted: false, time, fence: new.fence };
        let hash = self.write(table, reservation.cell, &draft, new.payload)?;
        Head::replace(slot.persisted, none);
        self.publish_first(table, reservation, Head::new(reservation.cell.index, version))?;
        Ok((version, hash))
    }

    /// Makes the reservation's cell the head of its slot and frees the cell that was left there.
    fn publish_first(
        &self,
        table: &TableView<'_>,
        reservation: &Reservation,
        head: Head,
    ) -> Result<(), Error> {
        let slot = table.slot(reservation.slot.index)?;
        let old = Head::load(slot.head, Ordering::Acquire);
        let left = if old.cell() == NO_CELL || old.cell() == head.cell() {
            None
        } else {
            // Read while it is still the head: afterwards it may be freed and be somebody's before we look.
            let cell = table.cell(old.cell())?;
            Some(Word::load(cell.word, Ordering::Acquire))
        };
        Head::replace(slot.head, head);
        if let Some(word) = left
            && word.phase() == Phase::Published
            && table.pool(Kind::Cells).free(old.cell(), word)
        {
            self.space().signal_room(table)?;
        }
        Ok(())
    }

    /// Step 6, after the commit point.
    fn settle(&self, table: &TableView<'_>, reservation: &Reservation) -> Result<(), Error> {
        let slot = table.slot(reservation.slot.index)?;
        let cell = table.cell(reservation.cell.index)?;
        self.count_commit(table.position, &self.entry()?);
        reservation.cell.word.exchange(cell.word, reservation.cell.word.published());
        let word = reservation.slot.word;
        word.exchange(slot.word, word.published());
        self.space().flag(table, slot.index);
        signal(table.control(TableControl::Watch)?);
        Ok(())
    }

    /// Gives a reservation back that no bucket ever named. Its cell stays as the head of the free slot if
    /// it was published there.
    fn give_up(&self, table: &TableView<'_>, unused: &Reservation) {
        if let (Ok(slot), Ok(cell)) = (table.slot(unused.slot.index), table.cell(unused.cell.index))
        {
            if Head::load(slot.head, Ordering::Acquire).cell() == unused.cell.index {
                unused.cell.word.exchange(cell.word, unused.cell.word.published());
            } else {
                self.give_back(table, Kind::Cells, &[unused.cell]);
            }
        }
        self.give_back(table, Kind::Slots, &[unused.slot]);
    }

    /// Deletes `record`: `None` when it is gone already. `allow` sees the last state and may refuse.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with what `allow` returned; [`UpdateError::Failed`].
    pub fn delete_at<E>(
        &self,
        table: usize,
        record: RecordRef,
        mut allow: impl FnMut(&Snapshot) -> Result<(), E>,
    ) -> Result<Option<Committed>, UpdateError<E>> {
        self.delete_under(table, record, Fence::NONE, |current| allow(current))
    }

    /// Like [`Handle::delete_at`], under the guard that `fence` names.
    pub(crate) fn delete_under<E>(
        &self,
        table: usize,
        record: RecordRef,
        fence: Fence,
        mut allow: impl FnMut(&Snapshot) -> Result<(), E>,
    ) -> Result<Option<Committed>, UpdateError<E>> {
        let terms = Terms { delete: true, fence, ..Terms::update(record) };
        let deleted = self.exchange(table, terms, |current, _| allow(current))?;
        if let Some(committed) = deleted {
            let view = self.space().table(table)?;
            // The deletion is committed and final, whatever becomes of this; what is missing (no cell of
            // the index was free, say) the steward does when he stores it.
            if self.finish_deletion(&view, record, committed.version, false).is_err() {
                self.space().flag(&view, record.slot);
            }
        }
        Ok(deleted)
    }

    /// Deletes `key`; `allow` sees the last state and may refuse.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with what `allow` returned; [`Error::NotFound`], [`Error::BadKey`].
    pub fn delete<E>(
        &self,
        table: usize,
        key: &str,
        mut allow: impl FnMut(&Snapshot) -> Result<(), E>,
    ) -> Result<Committed, UpdateError<E>> {
        let mut before = None;
        while let Some(record) = self.locate(table, key)? {
            if let Some(committed) = self.delete_at(table, record, &mut allow)? {
                return Ok(committed);
            }
            if before.replace(record) == Some(record) {
                break; // deleted; its entry is just being dropped
            }
        }
        let table = self.space().table(table)?.spec.name.clone();
        Err(Error::NotFound { table, key: key.to_owned() }.into())
    }

    /// Steps 3 to 5 of a delete, by the deleter or (`stored`) by the steward, who then frees the slot.
    pub(crate) fn finish_deletion(
        &self,
        table: &TableView<'_>,
        record: RecordRef,
        version: u64,
        stored: bool,
    ) -> Result<(), Error> {
        raise_floor(table, version)?;
        let slot = table.slot(record.slot)?;
        if !stored {
            retire(&slot, record.generation);
        }
        if let Some((key, _)) = slot.key(record.generation) {
            self.drop_entry(table, &key, record)?;
        }
        if stored {
            table.pool(Kind::Slots).free_generation(slot.index, record.generation);
            self.space().signal_room(table)?;
        } else {
            // The steward may have been here before the word said Deleted.
            self.space().flag(table, slot.index);
        }
        Ok(())
    }

    /// Drops the entry of `key` if it still names `record`.
    fn drop_entry(&self, table: &TableView<'_>, key: &str, record: RecordRef) -> Result<(), Error> {
        let place = table.place_of(key);
        loop {
            let bucket = table.read_bucket(place.bucket)?;
            let names = |e: &IndexEntry| e.names(record.slot, record.generation);
            if !bucket.entries.iter().any(names) {
                return Ok(());
            }
            let rest: Vec<_> = bucket.entries.iter().filter(|e| !names(e)).copied().collect();
            if self.exchange_bucket(table, &bucket, &rest)? {
                return Ok(());
            }
        }
    }

    /// Puts a stored row into a segment that nobody uses yet, as the store has it.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no room; [`Error::Exists`]; [`Error::BadKey`].
    pub fn load_row(&self, table: usize, row: &Row) -> Result<(), Error> {
        let view = self.space().table(table)?;
        view.check_key(&row.key)?;
        let place = view.place_of(&row.key);
        let bucket = view.read_bucket(place.bucket)?;
        if !matches!(self.entry_of(&view, &bucket, place, &row.key)?, Entry::Absent) {
            return Err(Error::Exists { table: view.spec.name.clone(), key: row.key.clone() });
        }
        let reservation = self.reserve(&view, &row.key)?;
        let record = reservation.record();
        let none = Head::new(NO_CELL, row.version.saturating_sub(1));
        let (version, time) = (row.version, row.committed_at);
        let fence = Fence::NONE;
        let draft = Draft { record, version, previous: none, deleted: false, time, fence };
        self.write(&view, reservation.cell, &draft, &row.payload)?;
        let cell = view.cell(reservation.cell.index)?;
        cell.hash.store(row.hash, Ordering::Relaxed);
        cell.writer.store(row.writer.to_bits(), Ordering::Relaxed);
        cell.sequence.store(row.sequence, Ordering::Relaxed);
        let lanes = self.lane_count();
        for (lane, to) in cell.rest.iter().take(lanes).enumerate() {
            to.store(row.clock.get(lane).copied().unwrap_or(0), Ordering::Relaxed);
        }
        store_bytes(cell.rest.get(lanes..).unwrap_or_default(), &row.payload);
        self.space().raise_lanes(&row.clock)?;
        let head = Head::new(reservation.cell.index, row.version);
        self.publish_first(&view, &reservation, head)?;
        let slot = view.slot(record.slot)?;
        Head::replace(slot.persisted, head);
        let mut entries = bucket.entries.clone();
        entries.push(IndexEntry {
            slot: record.slot,
            tag: place.tag,
            generation: record.generation,
        });
        if !self.exchange_bucket(&view, &bucket, &entries)? {
            return Err(view.corrupt("a segment in use while it is loaded", 0, 0));
        }
        reservation.cell.word.exchange(cell.word, reservation.cell.word.published());
        reservation.slot.word.exchange(slot.word, reservation.slot.word.published());
        Ok(())
    }

    /// Raises the version floor of a table to what the store says.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn load_floor(&self, table: usize, floor: u64) -> Result<(), Error> {
        raise_floor(&self.space().table(table)?, floor)
    }
}

/// Raises the table's version floor to `version`.
pub(crate) fn raise_floor(table: &TableView<'_>, version: u64) -> Result<(), Error> {
    let floor = table.control(TableControl::Floor)?;
    if !planted(Fault::NoFloor) {
        floor.fetch_max(version, Ordering::SeqCst);
    }
    Ok(())
}

/// Marks a slot of `generation` Deleted, from Reserved or Live.
fn retire(slot: &crate::table::SlotView<'_>, generation: u64) {
    loop {
        let now = Word::load(slot.word, Ordering::Acquire);
        let settled = matches!(now.phase(), Phase::Free | Phase::Retired);
        if now.generation() != generation || settled || now.exchange(slot.word, now.retired()) {
            return;
        }
    }
}
