//! The word of a guard: see [`crate::guard`] for its bits and transitions.

use commonhold_segment::sync::{AtomicU64, Ordering};

use crate::fence::NUMBER_MASK;

const WAITERS: u64 = 1;
const REASON_SHIFT: u32 = 1;
const HOLDER_SHIFT: u32 = 3;
const HOLDER_MASK: u64 = 0xfff;
const NUMBER_SHIFT: u32 = 16;

/// How the guard came to its holder: what happened to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Previous {
    /// He left it.
    Released,
    /// He died while he held it. What he had decided was finished before this holder got the guard.
    Died,
    /// He held it longer than the hold limit, and it was taken from him.
    Fenced,
    /// He left it with a change decided that he could not make wholly; it was finished since.
    Unfinished,
}

/// One reading of a guard's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GuardWord(u64);

impl GuardWord {
    /// Nobody ever took it.
    pub(super) const NEVER: Self = Self(0);

    /// Whether nobody has it, and its last holder left nothing behind.
    #[inline]
    pub(super) fn is_left(self) -> bool {
        self.holder().is_none() && self.previous() == Previous::Released
    }

    /// What a futex compares.
    #[inline]
    pub(super) fn low_half(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(super) fn load(word: &AtomicU64, ordering: Ordering) -> Self {
        Self(word.load(ordering))
    }

    #[inline]
    pub(super) fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    #[inline]
    pub(super) fn with_waiters(self) -> Self {
        Self(self.0 | WAITERS)
    }

    #[inline]
    pub(super) fn without_waiters(self) -> Self {
        Self(self.0 & !WAITERS)
    }

    #[inline]
    pub(super) fn previous(self) -> Previous {
        match self.0 >> REASON_SHIFT & 3 {
            0 => Previous::Released,
            1 => Previous::Died,
            2 => Previous::Fenced,
            _ => Previous::Unfinished,
        }
    }

    #[inline]
    pub(super) fn with_previous(self, previous: Previous) -> Self {
        Self(self.0 & !(3 << REASON_SHIFT) | (previous as u64) << REASON_SHIFT)
    }

    /// The holder's entry.
    #[inline]
    pub(super) fn holder(self) -> Option<u16> {
        ((self.0 >> HOLDER_SHIFT & HOLDER_MASK) as u16).checked_sub(1)
    }

    pub(super) fn number(self) -> u64 {
        self.0 >> NUMBER_SHIFT
    }

    /// Taken by `entry`.
    #[inline]
    pub(super) fn taken_by(self, entry: u16) -> Self {
        let number = (self.number() + 1) & NUMBER_MASK;
        let kept = self.0 & (WAITERS | 3 << REASON_SHIFT);
        Self(number << NUMBER_SHIFT | (u64::from(entry) + 1) << HOLDER_SHIFT | kept)
    }

    /// Nobody's.
    #[inline]
    pub(super) fn left(self, previous: Previous) -> Self {
        Self(self.0 & !(HOLDER_MASK << HOLDER_SHIFT)).with_previous(previous)
    }

    /// Whether it is still the same time that the guard was taken.
    #[inline]
    pub(super) fn is_hold_of(self, other: Self) -> bool {
        self.0 >> HOLDER_SHIFT == other.0 >> HOLDER_SHIFT
    }

    /// Turns `word` from exactly this reading into `next`. `SeqCst`, as all ownership words.
    #[inline]
    pub(super) fn exchange(self, word: &AtomicU64, next: Self) -> bool {
        word.compare_exchange(self.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_touch_each_other() {
        let word = GuardWord(0).taken_by(4094).with_waiters();
        assert_eq!((word.holder(), word.number(), word.has_waiters()), (Some(4094), 1, true));
        assert!(word.is_hold_of(word.without_waiters()));
        for previous in [Previous::Died, Previous::Fenced, Previous::Unfinished, Previous::Released]
        {
            let left = word.left(previous);
            assert_eq!((left.holder(), left.number(), left.previous()), (None, 1, previous));
            let next = left.taken_by(0);
            assert_eq!((next.holder(), next.number(), next.previous()), (Some(0), 2, previous));
            assert!(next.has_waiters() && !next.is_hold_of(word));
        }
        let last = GuardWord(u64::MAX).taken_by(1);
        assert_eq!((last.number(), last.holder()), (0, Some(1)), "the number wraps in its bits");
    }
}
