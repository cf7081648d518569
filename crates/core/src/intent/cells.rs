//! The cells of intents: claimed, written, read, freed, and swept.

use commonhold_segment::layout::INTENT_WORDS;
use commonhold_segment::sync::{AtomicU64, Ordering, fence};

use super::{INTENT, INTENT_BYTES, damaged};
use crate::directory::NameKind;
use crate::error::Error;
use crate::guard::Grant;
use crate::handle::Handle;
use crate::head::{Head, NO_CELL};
use crate::participant::{CLAIM_EVERY, DeadSet};
use crate::pool::Owned;
use crate::space::Space;
use crate::table::{load_bytes, store_bytes};
use crate::wait::Deadline;
use crate::word::{Phase, Word};

/// A cell of an intent.
#[derive(Clone, Copy)]
pub(super) struct IntentCell<'a> {
    pub(super) word: &'a AtomicU64,
    next: &'a AtomicU64,
    length: &'a AtomicU64,
    bytes: &'a [AtomicU64],
}

impl Space {
    pub(super) fn intent_cell(&self, index: u32) -> Result<IntentCell<'_>, Error> {
        let range = self.layout().intents.clone();
        let start = range.start + index as usize * INTENT_WORDS;
        let inside = start + INTENT_WORDS <= range.end;
        let words = self.segment().words().get(start..start + INTENT_WORDS);
        match words.filter(|_| inside) {
            Some([word, next, length, bytes @ ..]) => Ok(IntentCell { word, next, length, bytes }),
            _ => Err(damaged(index.into())),
        }
    }

    /// The cells of the chain that begins with `first`, each with its ownership word; cut where it is too long.
    pub(super) fn intent_chain(&self, first: u32) -> Result<Vec<Owned>, Error> {
        let mut chain = Vec::new();
        let mut at = first;
        while at != NO_CELL && chain.len() < self.catalogue().named.intents as usize {
            let cell = self.intent_cell(at)?;
            chain.push(Owned { index: at, word: Word::load(cell.word, Ordering::Acquire) });
            let next = cell.next.load(Ordering::Relaxed);
            at = u32::try_from(next).map_err(|_| damaged(next))?.checked_sub(1).unwrap_or(NO_CELL);
        }
        Ok(chain)
    }

    pub(super) fn intent_bytes(&self, chain: &[Owned]) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        for owned in chain {
            let cell = self.intent_cell(owned.index)?;
            let length = cell.length.load(Ordering::Relaxed) as usize;
            let mut bytes = Vec::new();
            load_bytes(cell.bytes, length.min(INTENT_BYTES), &mut bytes);
            all.append(&mut bytes);
        }
        Ok(all)
    }

    /// Frees cells as long as their words are those given.
    pub(super) fn free_intent(&self, cells: &[Owned]) {
        for owned in cells {
            if let Ok(cell) = self.intent_cell(owned.index) {
                owned.word.exchange(cell.word, owned.word.freed());
            }
        }
    }

    /// For the sweep: frees the cells of the dead that no guard's head leads to.
    pub(crate) fn sweep_intents(&self, dead: &DeadSet) -> Result<(), Error> {
        if dead.is_empty() {
            return Ok(());
        }
        for index in 0..self.catalogue().named.intents {
            let cell = self.intent_cell(index)?;
            let word = Word::load(cell.word, Ordering::Acquire);
            // He is dead, so a cell that is not led to by now never will be.
            if dead.owns(self, word) && !self.is_led_to(index)? {
                word.exchange(cell.word, word.freed());
            }
        }
        Ok(())
    }

    /// Whether some guard's intent has the cell; also when it cannot be told, because it just changes.
    fn is_led_to(&self, index: u32) -> Result<bool, Error> {
        for guard in self.names()?.iter().filter(|d| d.kind == NameKind::Guard) {
            let word = self.name_entry(guard.index)?.warm(INTENT)?;
            let head = Head::load(word, Ordering::Acquire);
            let chain = self.intent_chain(head.cell());
            fence(Ordering::Acquire);
            if Head::load(word, Ordering::Relaxed) != head
                || chain?.iter().any(|c| c.index == index)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Guards whose last change is decided and not wholly made.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn unfinished_guards(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for guard in self.names()?.into_iter().filter(|d| d.kind == NameKind::Guard) {
            let word = self.name_entry(guard.index)?.warm(INTENT)?;
            if Head::load(word, Ordering::Acquire).cell() != NO_CELL {
                names.push(guard.name);
            }
        }
        Ok(names)
    }

    /// How many cells of intents are in use.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn intents_in_use(&self) -> Result<u32, Error> {
        let cells = (0..self.catalogue().named.intents).map(|i| self.intent_cell(i));
        let used =
            |cell: IntentCell<'_>| Word::load(cell.word, Ordering::Relaxed).phase() != Phase::Free;
        cells.map(|cell| Ok(u32::from(used(cell?)))).sum()
    }
}

impl Handle {
    /// `needed` free cells of intents; waits a little when others have them.
    pub(super) fn claim_intent(&self, grant: &Grant, needed: usize) -> Result<Vec<Owned>, Error> {
        let space = self.space();
        let count = space.catalogue().named.intents;
        let deadline = Deadline::after(self.room_wait());
        let mut reaped = false;
        loop {
            let mut cells = Vec::with_capacity(needed);
            for index in 0..count {
                if cells.len() == needed {
                    break;
                }
                let cell = space.intent_cell(index)?;
                let now = Word::load(cell.word, Ordering::Acquire);
                let word = now.claimed_by(self.entry_index());
                if now.phase() == Phase::Free && now.exchange(cell.word, word) {
                    cells.push(Owned { index, word });
                }
            }
            if cells.len() == needed {
                return Ok(cells);
            }
            let free = cells.len();
            space.free_intent(&cells);
            if !reaped {
                reaped = true;
                space.reap(false)?;
                continue;
            }
            if needed > count as usize || deadline.left().is_none() {
                let guard = space.guard_name(grant.guard.index);
                return Err(Error::IntentFull { guard, needed, free });
            }
            std::thread::sleep(CLAIM_EVERY);
        }
    }

    /// Step 3: the first cell.
    pub(super) fn write_intent(&self, cells: &[Owned], bytes: &[u8]) -> Result<u32, Error> {
        // The claims came before, in the eyes of whoever sees any of these.
        fence(Ordering::Release);
        let mut next = NO_CELL;
        let chunks: Vec<&[u8]> = bytes.chunks(INTENT_BYTES).collect();
        for (owned, chunk) in cells.iter().zip(chunks).rev() {
            let cell = self.space().intent_cell(owned.index)?;
            let following = if next == NO_CELL { 0 } else { u64::from(next) + 1 };
            cell.next.store(following, Ordering::Relaxed);
            cell.length.store(chunk.len() as u64, Ordering::Relaxed);
            store_bytes(cell.bytes, chunk);
            next = owned.index;
        }
        Ok(next)
    }
}
