//! The ownership word of cells, slots and participants' entries: who may write what stands behind it.
//!
//! **State**
//! ```text
//! bits  0..2   phase       Free, Owned, Published, Retired
//! bits  2..14  owner       entry of the participant, while Owned
//! bits 14..64  generation  grows with every transition into Owned
//! ```
//! | phase | of a cell | of a slot | of an entry |
//! | --- | --- | --- | --- |
//! | Free | nobody's | no record | no participant |
//! | Owned | its owner writes it | reserved by an insert | a participant, alive or dead |
//! | Published | a version that may be read | a live record | – |
//! | Retired | – | a deleted record that the store has not yet | – |
//!
//! **Transitions**: by compare-exchange only, always against the exact word that was judged. Because the
//! generation grows whenever a word becomes Owned, the displacer's taking included, equal generations
//! before and after a copy mean that nobody wrote in between.
//!
//! **Crash**: Owned by a dead participant is found by the sweep; every other phase belongs to nobody.

use commonhold_segment::sync::{AtomicU64, Ordering};

/// What a word says about the thing behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nobody's.
    Free,
    /// Its owner alone writes it.
    Owned,
    /// It may be read; nobody writes it.
    Published,
    /// Deleted, until the store has it.
    Retired,
}

/// One reading of an ownership word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(u64);

const OWNER_SHIFT: u32 = 2;
const GENERATION_SHIFT: u32 = 14;
const OWNER_MASK: u64 = 0xfff;
/// Generations count modulo 2^50: at a million transitions a second, 35 years.
pub const GENERATION_MASK: u64 = (1 << 50) - 1;

impl Word {
    /// The word with these bits; every bit pattern is one.
    #[must_use]
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word's bits.
    #[must_use]
    #[inline]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// A fresh reading.
    #[inline]
    pub(crate) fn load(word: &AtomicU64, ordering: Ordering) -> Self {
        Self(word.load(ordering))
    }

    /// The phase.
    #[must_use]
    #[inline]
    pub fn phase(self) -> Phase {
        match self.0 & 3 {
            0 => Phase::Free,
            1 => Phase::Owned,
            2 => Phase::Published,
            _ => Phase::Retired,
        }
    }

    /// The entry of the owner; meaningful while Owned.
    #[must_use]
    #[inline]
    pub fn owner(self) -> u16 {
        (self.0 >> OWNER_SHIFT & OWNER_MASK) as u16
    }

    /// The generation.
    #[must_use]
    #[inline]
    pub fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    /// Whether it is Owned by `entry`.
    #[must_use]
    #[inline]
    pub fn is_owned_by(self, entry: u16) -> bool {
        self.phase() == Phase::Owned && self.owner() == entry
    }

    /// Owned by `entry`, one generation on.
    #[must_use]
    #[inline]
    pub fn claimed_by(self, entry: u16) -> Self {
        let generation = (self.generation() + 1) & GENERATION_MASK;
        Self(generation << GENERATION_SHIFT | u64::from(entry) << OWNER_SHIFT | 1)
    }

    /// One generation back: a fault for models.
    pub(crate) fn back(self) -> Self {
        Self(self.0.wrapping_sub(1 << GENERATION_SHIFT))
    }

    /// Published, in the same generation.
    #[must_use]
    #[inline]
    pub fn published(self) -> Self {
        Self(self.generation() << GENERATION_SHIFT | 2)
    }

    /// Retired, in the same generation.
    #[must_use]
    #[inline]
    pub fn retired(self) -> Self {
        Self(self.generation() << GENERATION_SHIFT | 3)
    }

    /// Free, in the same generation.
    #[must_use]
    #[inline]
    pub fn freed(self) -> Self {
        Self(self.generation() << GENERATION_SHIFT)
    }

    /// Turns `word` from exactly this reading into `next`; false when somebody was first.
    ///
    /// It takes over what the last owner wrote and hands on what this one did; and `SeqCst`, because who
    /// frees something, or makes a slot Live, then looks at words that the other side (a waiter for room,
    /// the steward) writes before it looks at this one.
    #[inline]
    pub(crate) fn exchange(self, word: &AtomicU64, next: Self) -> bool {
        word.compare_exchange(self.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_touch_each_other() {
        let word = Word::from_bits(0).claimed_by(0xffe);
        assert_eq!((word.phase(), word.owner(), word.generation()), (Phase::Owned, 0xffe, 1));
        assert!(word.is_owned_by(0xffe) && !word.is_owned_by(0));
        let next = word.published().claimed_by(3).retired();
        assert_eq!((next.phase(), next.generation()), (Phase::Retired, 2));
        assert_eq!(next.freed().phase(), Phase::Free);
        let last = Word::from_bits(u64::MAX).claimed_by(0);
        assert_eq!(last.generation(), 0, "the generation wraps within its bits");
    }
}
