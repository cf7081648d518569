//! The fence of a version: which guard it was committed under, and the guard's number then.
//!
//! **State**
//! ```text
//! bits  0..48  number  the guard's fencing number: one more with each time it is taken
//! bits 48..64  guard   its entry in the directory of names plus one; 0: committed without a guard
//! ```
//! A record that was once committed under a guard is the guard's until it is deleted: commits without it, under
//! another one, or under a number older than the record's, are refused. So whoever holds the guard, and looked at the
//! record under it, knows that nobody else changes it: not who has no guard, nor who had it before.
//!
//! The fence is no part of the state hash and is not stored: numbers are of use only as long as somebody who held the
//! guard may still be there, and nobody outlives his segment.

use crate::directory::NameKind;
use crate::error::Error;
use crate::space::Space;

const NUMBER_BITS: u32 = 48;
/// Fencing numbers count modulo 2^48: at ten million a second, 325 days.
pub const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// One reading of a version's fence, or what a commit carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fence(u64);

impl Fence {
    /// Committed without a guard.
    pub const NONE: Self = Self(0);

    /// Committed under the guard at `guard` of the directory, with `number`.
    #[must_use]
    #[inline]
    pub fn new(guard: u16, number: u64) -> Self {
        Self((u64::from(guard) + 1) << NUMBER_BITS | (number & NUMBER_MASK))
    }

    /// The fence with these bits; every bit pattern is one.
    #[must_use]
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The fence's bits.
    #[must_use]
    #[inline]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The guard's entry in the directory.
    #[must_use]
    pub fn guard(self) -> Option<u16> {
        ((self.0 >> NUMBER_BITS) as u16).checked_sub(1)
    }

    /// The guard's number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0 & NUMBER_MASK
    }

    /// Whether a commit that carries this may displace a version with `found`.
    #[must_use]
    #[inline]
    pub fn may_displace(self, found: Self) -> bool {
        found == self || found == Self::NONE || self.is_newer_than(found)
    }

    fn is_newer_than(self, found: Self) -> bool {
        let ahead = self.number().wrapping_sub(found.number()) & NUMBER_MASK;
        self.guard() == found.guard() && ahead <= NUMBER_MASK / 2
    }
}

impl Space {
    /// Why a commit that carries `carried` was refused by a version with `found`.
    #[cold]
    pub(crate) fn refused_by_fence(&self, table: usize, carried: Fence, found: Fence) -> Error {
        let table = self.catalogue().tables.get(table).map(|t| t.name.clone()).unwrap_or_default();
        let guard = found.guard().map(|g| self.guard_name(g)).unwrap_or_default();
        if carried.guard() == found.guard() {
            let (number, found) = (carried.number(), found.number());
            return Error::Fenced { guard, number, found };
        }
        Error::Guarded { table, guard }
    }

    /// The name of the guard at `index` of the directory, for messages.
    pub(crate) fn guard_name(&self, index: u16) -> String {
        let names = self.names().unwrap_or_default();
        let found = names.into_iter().find(|d| d.index == index && d.kind == NameKind::Guard);
        found.map_or_else(|| format!("number {index}"), |d| d.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_guard_and_no_older_number_may_displace() {
        let fence = Fence::new(3, 7);
        assert_eq!((fence.guard(), fence.number()), (Some(3), 7));
        assert_eq!((Fence::NONE.guard(), Fence::NONE.number()), (None, 0));
        for next in [fence, Fence::new(3, 8), Fence::new(3, 7 + NUMBER_MASK / 2)] {
            assert!(next.may_displace(fence) && next.may_displace(Fence::NONE), "{next:?}");
        }
        for other in [Fence::NONE, Fence::new(3, 6), Fence::new(4, 8), Fence::new(2, 7)] {
            assert!(!other.may_displace(fence), "{other:?}");
        }
        assert!(Fence::new(3, 0).may_displace(Fence::new(3, NUMBER_MASK)), "across the wrap");
    }
}
