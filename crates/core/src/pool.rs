//! Pools: how a participant gets a free cell or slot, gives it back, and waits when there is none.
//!
//! A pool is its ownership words: a free thing is claimed by compare-exchange on its word, and nothing else
//! says whose it is. Where to look is said by hints, one *taken* bit a thing, so that an empty pool of a
//! million is seen to be empty in microseconds: the claimer sets the bit before he looks at the word, who
//! frees clears it after the word is Free. A kill in between leaves a set bit at a free thing; the sweep
//! clears it. A bit that is wrongly clear costs its finder one look. Claimer (bit, then word) and freer
//! (word, then bit) cross; all four accesses are `SeqCst`, so that not both miss each other and leave the
//! bit set at a free thing with nobody dying.
//!
//! **Waiting**: the table's room word has a WAITERS bit. A waiter sets it, looks once more, and sleeps on
//! exactly that value; whoever frees something looks at the bit afterwards, and if it is set moves the word
//! and wakes all. The freeing exchange and the look at the bit are `SeqCst`, and the waiter's mark is
//! followed by a `SeqCst` fence (what he then looks at is not `SeqCst`), so one of them sees the other.

use std::time::Duration;

use commonhold_segment::layout::INDEX_CELL_WORDS;
use commonhold_segment::sync::{
    AtomicU64, Fault, Ordering, crossing, fence, futex_wait, futex_wake_all, monotonic_nanos,
    planted,
};

use crate::error::Error;
use crate::handle::Handle;
use crate::participant::bump;
use crate::space::Space;
use crate::table::{TableControl, TableView};
use crate::word::{Phase, Word};

/// The longest sleep before looking again: a waker may have died between its change and its wake.
pub(crate) const WAIT_PIECE: Duration = Duration::from_millis(100);

/// The ownership words of one kind of thing in one table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool<'a> {
    words: &'a [AtomicU64],
    taken: &'a [AtomicU64],
    stride: usize,
    /// Which word of each thing is its ownership word.
    at: usize,
    count: u32,
}

/// Something this participant owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) index: u32,
    pub(crate) word: Word,
}

/// The kinds of things that a table has pools of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Cells,
    Slots,
    IndexCells,
}

impl<'a> TableView<'a> {
    pub(crate) fn pool(&self, kind: Kind) -> Pool<'a> {
        let (layout, geometry) = (self.layout, self.layout.geometry);
        let (range, hints) = match kind {
            Kind::Cells => (&layout.cells, &layout.taken_cells),
            Kind::Slots => (&layout.slots, &layout.taken_slots),
            Kind::IndexCells => (&layout.index, &layout.taken_index),
        };
        let (stride, at, count) = match kind {
            Kind::Cells => (layout.cell_stride, 0, geometry.cells),
            Kind::Slots => (layout.slot_stride, 2, geometry.slots),
            Kind::IndexCells => (INDEX_CELL_WORDS, 0, geometry.index_cells),
        };
        let words = self.words.get(range.clone()).unwrap_or_default();
        let taken = self.words.get(hints.clone()).unwrap_or_default();
        Pool { words, taken, stride, at, count }
    }
}

impl<'a> Pool<'a> {
    pub(crate) fn word(&self, index: u32) -> Option<&'a AtomicU64> {
        self.words.get(index as usize * self.stride + self.at)
    }

    /// Every ownership word.
    pub(crate) fn words(&self) -> impl Iterator<Item = (u32, &'a AtomicU64)> + use<'a> {
        (0..self.count).zip(self.words.iter().skip(self.at).step_by(self.stride))
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Claims a free thing, looking at each that is not hinted taken, from `*cursor` on.
    fn claim(&self, owner: u16, cursor: &std::cell::Cell<u32>) -> Option<Owned> {
        let words = self.taken.len();
        let start = (cursor.get() as usize / 64) % words.max(1);
        (start..words).chain(0..start).find_map(|at| {
            let owned = self.claim_of(at, owner)?;
            cursor.set(owned.index);
            Some(owned)
        })
    }

    /// Claims a free thing of the 64 that hint word `at` is about.
    fn claim_of(&self, at: usize, owner: u16) -> Option<Owned> {
        let hints = self.taken.get(at)?;
        let mut taken = hints.load(Ordering::Acquire);
        while taken != u64::MAX {
            let bit = (!taken).trailing_zeros();
            let index = (at * 64) as u32 + bit;
            let word = self.word(index).filter(|_| index < self.count)?;
            taken = hints.fetch_or(1 << bit, Ordering::SeqCst) | 1 << bit;
            crossing();
            let now = Word::load(word, Ordering::SeqCst);
            let next = now.claimed_by(owner);
            if now.phase() == Phase::Free && now.exchange(word, next) {
                return Some(Owned { index, word: next });
            }
        }
        None
    }

    /// Frees a thing whose word still is `from`; false when it is not.
    pub(crate) fn free(&self, index: u32, from: Word) -> bool {
        if planted(Fault::HintFirst) {
            self.hint_free(index);
            return self.word(index).is_some_and(|word| from.exchange(word, from.freed()));
        }
        let freed = self.word(index).is_some_and(|word| from.exchange(word, from.freed()));
        if freed {
            self.hint_free(index);
        }
        freed
    }

    /// Frees a thing as long as it is of `generation`, whatever its phase.
    pub(crate) fn free_generation(&self, index: u32, generation: u64) {
        while let Some(word) = self.word(index) {
            let now = Word::load(word, Ordering::Acquire);
            if now.generation() != generation || now.phase() == Phase::Free || self.free(index, now)
            {
                return;
            }
        }
    }

    /// Whether its hint says that the thing is taken.
    #[cfg(feature = "loom")]
    pub(crate) fn is_hinted_taken(&self, index: u32) -> bool {
        let hints = self.taken.get(index as usize / 64);
        hints.is_some_and(|h| h.load(Ordering::SeqCst) >> (index % 64) & 1 == 1)
    }

    /// Clears the hint of a free thing; to be called after its word became Free.
    pub(crate) fn hint_free(&self, index: u32) {
        if let Some(hints) = self.taken.get(index as usize / 64) {
            let bit = 1 << (index % 64);
            let weak = planted(Fault::NoHintCrossing);
            if !weak {
                crossing();
            }
            let order = if weak { Ordering::Relaxed } else { Ordering::SeqCst };
            if hints.load(order) & bit != 0 {
                // Before the look at who waits for room, as the exchange that freed it.
                hints.fetch_and(!bit, Ordering::SeqCst);
            }
        }
    }
}

impl Space {
    /// To be called after something was freed: wakes those who wait for room.
    pub(crate) fn signal_room(&self, table: &TableView<'_>) -> Result<(), Error> {
        signal(table.control(TableControl::Room)?);
        Ok(())
    }
}

/// Moves a control word and wakes its sleepers, if it has any.
#[inline]
pub(crate) fn signal(word: &AtomicU64) {
    crossing();
    let now = word.load(Ordering::SeqCst);
    if now & 1 == 1 && !planted(Fault::NoRoomWake) {
        signal_slow(word, now);
    }
}

/// Like [`signal`], and wakes too who sleeps on a value that a dead participant moved the word from.
pub(crate) fn signal_all(word: &AtomicU64) {
    signal(word);
    if !planted(Fault::NoRoomWake) && !planted(Fault::NoReapWake) {
        futex_wake_all(word);
    }
}

#[cold]
fn signal_slow(word: &AtomicU64, mut now: u64) {
    while now & 1 == 1 {
        let next = (now & !1).wrapping_add(2);
        match word.compare_exchange(now, next, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return futex_wake_all(word),
            Err(other) => now = other,
        }
    }
}

/// Announces a sleeper on a control word; what to sleep on.
pub(crate) fn announce(word: &AtomicU64) -> u64 {
    let value = word.fetch_or(1, Ordering::SeqCst) | 1;
    // Not `crossing`: what the sleeper looks at next is read with weaker orderings.
    if !planted(Fault::NoAnnounceFence) {
        fence(Ordering::SeqCst);
    }
    value
}

impl Handle {
    /// Claims one free thing, waiting for room as long as the handle's limit says.
    pub(crate) fn claim(&self, table: &TableView<'_>, kind: Kind) -> Result<Owned, Error> {
        let cursor = self.cursor(table.position, kind);
        let at_once = cursor.and_then(|at| table.pool(kind).claim(self.entry_index(), at));
        if let Some(owned) = at_once {
            return Ok(owned);
        }
        let mut claimed = self.claim_many(table, kind, 1)?;
        claimed.pop().ok_or_else(|| self.full(table, kind, 0))
    }

    /// Claims `count` free things, all or none.
    pub(crate) fn claim_many(
        &self,
        table: &TableView<'_>,
        kind: Kind,
        count: usize,
    ) -> Result<Vec<Owned>, Error> {
        let mut claimed = self.try_claim(table, kind, count);
        if claimed.len() < count {
            bump(self.entry()?.waits);
            let start = monotonic_nanos();
            let limit = self.room_wait();
            loop {
                let room = table.control(TableControl::Room)?;
                let seen = announce(room);
                if !planted(Fault::NoLookAfterMark) {
                    claimed = self.try_claim(table, kind, count);
                }
                if claimed.len() == count {
                    break;
                }
                let waited = Duration::from_nanos(monotonic_nanos() - start);
                if waited >= limit {
                    return Err(self.full(table, kind, waited.as_millis()));
                }
                self.space().check_whole()?;
                self.space().hurry_steward()?;
                if waited >= WAIT_PIECE {
                    self.space().reclaim(table)?;
                }
                futex_wait(room, seen as u32, WAIT_PIECE.min(limit - waited));
            }
        }
        Ok(claimed)
    }

    /// Claims `count`, or none at all.
    fn try_claim(&self, table: &TableView<'_>, kind: Kind, count: usize) -> Vec<Owned> {
        let pool = table.pool(kind);
        let Some(cursor) = self.cursor(table.position, kind) else { return Vec::new() };
        let mut claimed = Vec::with_capacity(count);
        while claimed.len() < count {
            match pool.claim(self.entry_index(), cursor) {
                Some(owned) => claimed.push(owned),
                None => {
                    self.give_back(table, kind, &claimed);
                    return Vec::new();
                }
            }
        }
        claimed
    }

    /// Frees what this participant owns.
    pub(crate) fn give_back(&self, table: &TableView<'_>, kind: Kind, owned: &[Owned]) {
        let pool = table.pool(kind);
        for it in owned {
            pool.free(it.index, it.word);
        }
        if !owned.is_empty() {
            let _ = self.space().signal_room(table);
        }
    }

    fn full(&self, table: &TableView<'_>, kind: Kind, waited_ms: u128) -> Error {
        let (what, raise) = match kind {
            Kind::Cells => ("cells", "cells"),
            Kind::Slots => ("slots", "slots"),
            Kind::IndexCells => ("cells of the index", "slots"),
        };
        let lag = self.space().steward_message().map(|m| format!(" ({m})")).unwrap_or_default();
        let why = format!("; waited {waited_ms} ms for the steward and the sweep{lag}");
        Error::Full {
            table: table.spec.name.clone(),
            what,
            limit: table.pool(kind).count(),
            raise,
            why,
        }
    }
}
