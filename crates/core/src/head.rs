//! The head of a record or of a bucket: which cell holds the current version.
//!
//! **State**
//! ```text
//! bit   0      WAITERS  somebody sleeps on this very word; whoever displaces it wakes all
//! bits  1..40  tag      the version, modulo 2^39
//! bits 40..64  cell     index of the cell plus one; 0: none, so that zeroed memory names nothing
//! ```
//! The tag is what makes a recycled cell different from the old state (ABA): a participant would have to be
//! stopped between its reading and its exchange for exactly 2^39 commits of that record, 15 hours at ten
//! million a second, and then meet the same cell. Tags are compared modulo: see [`Head::is_newer_than`].
//!
//! The low half, which the futex compares, is WAITERS and 31 bits of the tag: it changes with every commit.

use commonhold_segment::sync::{AtomicU64, Fault, Ordering, futex_wake_all, planted};

use crate::catalogue::INDEX_MAX;

pub(crate) const TAG_MASK: u64 = (1 << 39) - 1;
const CELL_SHIFT: u32 = 40;
const WAITERS: u64 = 1;

/// No cell.
pub const NO_CELL: u32 = INDEX_MAX;

/// One reading of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head(u64);

impl Head {
    /// The head naming `cell` at `version`, with nobody waiting.
    #[must_use]
    #[inline]
    pub fn new(cell: u32, version: u64) -> Self {
        Self(u64::from(cell.wrapping_add(1) & INDEX_MAX) << CELL_SHIFT | (version & TAG_MASK) << 1)
    }

    /// The head with these bits; every bit pattern is one.
    #[must_use]
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The head's bits.
    #[must_use]
    #[inline]
    pub fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn load(word: &AtomicU64, ordering: Ordering) -> Self {
        Self(word.load(ordering))
    }

    /// The cell; [`NO_CELL`] when there is none.
    #[must_use]
    #[inline]
    pub fn cell(self) -> u32 {
        (self.0 >> CELL_SHIFT).wrapping_sub(1) as u32 & INDEX_MAX
    }

    /// The version modulo 2^39.
    #[must_use]
    #[inline]
    pub fn tag(self) -> u64 {
        self.0 >> 1 & TAG_MASK
    }

    /// Whether somebody sleeps on it.
    #[must_use]
    #[inline]
    pub fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    /// The same with WAITERS set.
    #[must_use]
    #[inline]
    pub fn with_waiters(self) -> Self {
        Self(self.0 | WAITERS)
    }

    /// The same cell and version, whoever waits.
    #[must_use]
    #[inline]
    pub fn position(self) -> Self {
        Self(self.0 & !WAITERS)
    }

    /// Whether this version came after `other`'s, as long as they are less than 2^38 apart.
    #[must_use]
    #[inline]
    pub fn is_newer_than(self, other: Self) -> bool {
        let distance = self.versions_since(other);
        distance != 0 && distance <= TAG_MASK / 2
    }

    /// How many versions came after `other`'s up to this one, modulo 2^39.
    #[must_use]
    #[inline]
    pub fn versions_since(self, other: Self) -> u64 {
        self.tag().wrapping_sub(other.tag()) & TAG_MASK
    }

    /// Whether it names exactly `version`.
    #[must_use]
    #[inline]
    pub fn is_version(self, version: u64) -> bool {
        self.tag() == version & TAG_MASK
    }

    /// Turns `word` from this position into `next`, whoever began to wait meanwhile; true when done.
    /// Everybody who waited is woken.
    ///
    /// `SeqCst`: this is the commit, and the committer then looks at words that others write before they
    /// look at the head (the steward's flags, the table's watch word).
    #[inline]
    pub(crate) fn displace(self, word: &AtomicU64, next: Self) -> bool {
        let Some(expected) = self.exchange(word, |_| next) else { return false };
        if expected.has_waiters() && !planted(Fault::NoHeadWake) {
            futex_wake_all(word);
        }
        true
    }

    /// The same without a wake: whoever displaces `next` wakes those who wait now.
    #[inline]
    pub(crate) fn displace_quietly(self, word: &AtomicU64, next: Self) -> bool {
        let waited_for =
            |before: Self| if before.has_waiters() { next.with_waiters() } else { next };
        self.exchange(word, waited_for).is_some()
    }

    /// What was displaced, with who waited for it.
    #[inline]
    fn exchange(self, word: &AtomicU64, next: impl Fn(Self) -> Self) -> Option<Self> {
        let mut expected = self;
        loop {
            let next = next(expected);
            match word.compare_exchange(expected.0, next.0, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return Some(expected),
                Err(now) if Self(now).position() == self.position() => expected = Self(now),
                Err(_) => return None,
            }
        }
    }

    /// Puts `next` into `word`, which nobody else moves; everybody who waited is woken.
    pub(crate) fn replace(word: &AtomicU64, next: Self) {
        let waited_for = Self(word.swap(next.0, Ordering::SeqCst)).has_waiters();
        if waited_for && !planted(Fault::NoStoredWake) {
            futex_wake_all(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_order() {
        let head = Head::new(7, (1 << 39) + 5);
        assert_eq!((head.cell(), head.tag(), head.has_waiters()), (7, 5, false));
        assert!(head.is_version((1 << 39) + 5) && head.is_version(5));
        assert_eq!(head.with_waiters().position(), head);
        assert_eq!(Head::new(NO_CELL, 1).cell(), NO_CELL);
        assert!(Head::new(0, 0).is_newer_than(Head::new(0, TAG_MASK)), "across the wrap");
        assert!(!Head::new(0, 3).is_newer_than(Head::new(1, 3)));
        assert!(!Head::new(0, 3).is_newer_than(Head::new(1, 4)));
    }
}
