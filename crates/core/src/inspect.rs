//! Looking from outside: figures derived by looking, without an entry and without a write.

use std::collections::BTreeSet;

use commonhold_os::process::Liveness;
#[cfg(feature = "loom")]
use commonhold_segment::sync::AtomicU64;
use commonhold_segment::sync::Ordering;

use crate::error::Error;
use crate::handle::Handle;
use crate::head::Head;
use crate::participant::EntryView;
use crate::pool::Kind;
use crate::read::{Found, Snapshot, snapshot};
use crate::space::Space;
use crate::stop::Stop;
use crate::table::{RecordRef, SlotView, TableControl};
use crate::word::{Phase, Word};

/// How many things are in each phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// Nobody's.
    pub free: u32,
    /// A participant's.
    pub owned: u32,
    /// To be read.
    pub published: u32,
    /// Deleted, not yet stored.
    pub retired: u32,
}

/// What a table looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFigures {
    /// Slots by phase; published ones hold a record.
    pub slots: Phases,
    /// Cells by phase.
    pub cells: Phases,
    /// Cells of the index by phase.
    pub index_cells: Phases,
    /// Records whose head the store has not.
    pub unstored_records: u64,
    /// Versions that the store has not (latest history: how far the heads are ahead).
    pub unstored_versions: u64,
    /// The version floor.
    pub floor: u64,
    /// Foreign changes that stewards met.
    pub conflicts: u64,
    /// Whether nothing of it is stored until somebody decides about one.
    pub stopped: bool,
}

/// Where a slot stood when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotMark {
    /// The slot's word, if nobody was just taking the slot: its head is then one of this generation.
    settled: Option<Word>,
    head: Head,
}

/// How many commits the heads show between two looks at a table's slots, deletions included: never too many. A
/// slot that was taken anew in between counts once, whatever else came with that.
#[must_use]
pub fn commits_between(before: &[SlotMark], after: &[SlotMark]) -> u64 {
    let generation = |mark: &SlotMark| mark.settled.map(Word::generation);
    let commits = |(before, after): (&SlotMark, &SlotMark)| {
        let moved = after.head.versions_since(before.head);
        let same = generation(before).is_some() && generation(before) == generation(after);
        if same { moved } else { moved.min(1) }
    };
    before.iter().zip(after).map(commits).sum()
}

impl Phases {
    fn count(&mut self, phase: Phase) {
        let count = match phase {
            Phase::Free => &mut self.free,
            Phase::Owned => &mut self.owned,
            Phase::Published => &mut self.published,
            Phase::Retired => &mut self.retired,
        };
        *count += 1;
    }
}

impl Space {
    /// What the table at `position` looks like, at no single instant.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Corrupt`].
    pub fn figures(&self, position: usize) -> Result<TableFigures, Error> {
        let table = self.table(position)?;
        let phases = |kind| {
            let mut phases = Phases::default();
            for (_, word) in table.pool(kind).words() {
                phases.count(Word::load(word, Ordering::Relaxed).phase());
            }
            phases
        };
        let (mut unstored_records, mut unstored_versions) = (0, 0);
        for slot in table.slots() {
            let persisted = Head::load(slot.persisted, Ordering::Acquire);
            let head = Head::load(slot.head, Ordering::Acquire);
            let phase = Word::load(slot.word, Ordering::Acquire).phase();
            let lives = matches!(phase, Phase::Published | Phase::Retired);
            if lives && head.is_newer_than(persisted) {
                unstored_records += 1;
                unstored_versions += head.versions_since(persisted);
            }
        }
        self.check_whole()?;
        Ok(TableFigures {
            slots: phases(Kind::Slots),
            cells: phases(Kind::Cells),
            index_cells: phases(Kind::IndexCells),
            unstored_records,
            unstored_versions,
            floor: table.control(TableControl::Floor)?.load(Ordering::Acquire),
            conflicts: table.control(TableControl::Conflicts)?.load(Ordering::Relaxed),
            stopped: self.stop_of(position)? != Stop::Goes,
        })
    }

    /// Where the heads of the table at `position` stand, for [`commits_between`].
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Truncated`].
    pub fn slot_marks(&self, position: usize) -> Result<Vec<SlotMark>, Error> {
        let table = self.table(position)?;
        let mark = |slot: SlotView<'_>| {
            let word = Word::load(slot.word, Ordering::Acquire);
            let head = Head::load(slot.head, Ordering::Acquire);
            let still = Word::load(slot.word, Ordering::Acquire) == word;
            let settled = Some(word).filter(|word| still && word.phase() != Phase::Owned);
            SlotMark { settled, head: head.position() }
        };
        let marks = table.slots().map(mark).collect();
        self.check_whole()?;
        Ok(marks)
    }

    /// Cells of the table that are neither free, nor led to by a head, nor the spare of somebody alive: what was
    /// leaked, when nobody is at work and everything is stored.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Corrupt`].
    pub fn unreferenced_cells(&self, position: usize) -> Result<u32, Error> {
        let table = self.table(position)?;
        let mut led = BTreeSet::new();
        for slot in table.slots() {
            led.insert(Head::load(slot.head, Ordering::Acquire).cell());
        }
        let (mut leaked, mut spares) = (0, BTreeSet::new());
        for (index, word) in table.pool(Kind::Cells).words() {
            let word = Word::load(word, Ordering::Acquire);
            if word.phase() == Phase::Free || led.contains(&index) {
                continue;
            }
            // Each handle keeps one at most.
            let spare = word.phase() == Phase::Owned && self.is_alive(word.owner());
            leaked += u32::from(!spare || !spares.insert(word.owner()));
        }
        self.check_whole()?;
        Ok(leaked)
    }

    fn is_alive(&self, entry: u16) -> bool {
        let alive = |e: EntryView<'_>| e.is_owned() && e.identity().find().0 == Liveness::Alive;
        self.entry(entry).is_ok_and(alive)
    }

    /// For models: free things whose hint says that they are taken, so that nobody finds them.
    ///
    /// # Errors
    /// [`Error::UnknownTable`].
    #[cfg(feature = "loom")]
    pub fn hidden_things(&self, position: usize) -> Result<u32, Error> {
        let table = self.table(position)?;
        let hidden = |kind| {
            let pool = table.pool(kind);
            let free = |w: &AtomicU64| Word::load(w, Ordering::Acquire).phase() == Phase::Free;
            pool.words().filter(|(i, w)| free(w) && pool.is_hinted_taken(*i)).count() as u32
        };
        Ok([Kind::Cells, Kind::Slots, Kind::IndexCells].into_iter().map(hidden).sum())
    }

    /// Visits every record of the table: a consistent copy of each, at no single instant.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Corrupt`], or what `visit` returns.
    pub fn scan<E: From<Error>>(
        &self,
        position: usize,
        mut visit: impl FnMut(&str, &Snapshot) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = self.table(position)?;
        let lanes = self.catalogue().lanes as usize;
        let mut seen = Snapshot::default();
        for slot in table.slots() {
            let word = Word::load(slot.word, Ordering::Acquire);
            if !matches!(word.phase(), Phase::Owned | Phase::Published) {
                continue;
            }
            let Some((key, prefix)) = slot.key(word.generation()) else { continue };
            let record = RecordRef { slot: slot.index, generation: word.generation(), prefix };
            // A reserved slot is a record once its bucket names it.
            if word.phase() == Phase::Owned && table.locate_only(&key)? != Some(record) {
                continue;
            }
            let found = snapshot(&table, &slot, word.generation(), lanes, &mut seen);
            let found = self.whole(found)?;
            if found == Found::Version && !seen.deleted {
                visit(&key, &seen)?;
            }
        }
        Ok(self.check_whole()?)
    }

    /// Reads one record without a handle.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::BadKey`], [`Error::Corrupt`].
    pub fn peek(&self, position: usize, key: &str) -> Result<Option<Snapshot>, Error> {
        let table = self.table(position)?;
        table.check_key(key)?;
        let Some(record) = self.whole(table.locate_only(key))? else { return Ok(None) };
        let slot = table.slot(record.slot)?;
        let lanes = self.catalogue().lanes as usize;
        let mut seen = Snapshot::default();
        let found = self.whole(snapshot(&table, &slot, record.generation, lanes, &mut seen))?;
        Ok((found == Found::Version && !seen.deleted).then_some(seen))
    }
}

impl Handle {
    /// Flags the record for the steward, who then looks at it.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn flag_record(&self, table: usize, record: RecordRef) -> Result<(), Error> {
        let view = self.space().table(table)?;
        self.space().flag(&view, record.slot);
        Ok(())
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn commits_are_told_from_the_heads() {
        let free = Word::from_bits(0);
        let first = free.claimed_by(7);
        let second = first.freed().claimed_by(7);
        let mark = |word: Word, version| {
            let settled = Some(word).filter(|w| w.phase() != Phase::Owned);
            SlotMark { settled, head: Head::new(3, version) }
        };
        let of = |word: Word, before, after| {
            let marks = [mark(word.published(), before), mark(word.published(), after)];
            commits_between(&marks[..1], &marks[1..])
        };
        assert_eq!(of(first, 5, 5), 0);
        assert_eq!(of(first, 5, 10), 5);
        assert_eq!(of(first, (1 << 39) - 1, 1), 2, "over the end of the tag");
        let between = |before, after| commits_between(&[before], &[after]);
        assert_eq!(between(mark(free, 0), mark(first.published(), 40)), 1, "an insert");
        assert_eq!(between(mark(first, 9), mark(first.published(), 40)), 1, "its end");
        assert_eq!(between(mark(first.published(), 9), mark(second.published(), 40)), 1);
    }
}
