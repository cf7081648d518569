//! The seam: every atomic, fence and futex of the protocols comes from here, so that the very same code
//! runs on real memory and, with the feature `loom`, under loom's model checker.
//!
//! **Store/load crossings.** Four places publish a word and then look at another (a commit and the
//! steward's flag, a flag and the doorbell, a freed cell and the waiters for it, a commit and the table's
//! watch word). Where both sides use `SeqCst` accesses, their single total order forbids that both miss
//! each other; loom weakens `SeqCst` accesses but not fences, so [`crossing`] is a `SeqCst` fence there and
//! nothing elsewhere. Where what is looked at second is read with a weaker ordering (heads, slot words,
//! free cells), that side has a real `SeqCst` fence between the two.
//!
//! With `loom` there are two more things for models: faults that can be planted ([`planted`]) and deaths
//! (`model::dies_after`). With `faults`, the faults can be planted in real processes (`plant`). Neither exists in a
//! normal build.

#[cfg(not(feature = "loom"))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(not(feature = "loom"))]
pub use commonhold_os::clock::monotonic_nanos;
#[cfg(not(feature = "loom"))]
pub use commonhold_os::futex::{
    wait as futex_wait, wake_all as futex_wake_all, wake_one as futex_wake_one,
};

/// Stands between a `SeqCst` store and the `SeqCst` load that must not miss the other side's store.
#[cfg(not(feature = "loom"))]
#[inline]
pub fn crossing() {}

#[cfg(feature = "loom")]
pub use model::{
    AtomicU64, Ordering, crossing, fence, futex_wait, futex_wake_all, futex_wake_one,
    monotonic_nanos,
};

/// A fault that a model plants to see that it would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A reader does not look at the head again after the cell's generation.
    NoSecondLook,
    /// A reader does not look at the generation again after the copy.
    NoGenerationCheck,
    /// A reader's acquire fence between copy and generation is missing.
    NoReadFence,
    /// A writer's release fence between claim and payload is missing.
    NoWriteFence,
    /// The displacer takes a cell without a new generation.
    NoBump,
    /// A reader does not compare the slot generation.
    NoSlotGeneration,
    /// Who displaces a marked head wakes nobody.
    NoHeadWake,
    /// Who frees something wakes nobody.
    NoRoomWake,
    /// A waiter for room does not look again after his mark.
    NoLookAfterMark,
    /// The steward reads the head before he clears the flag.
    FlagClearedLate,
    /// The steward sleeps without looking at the flags again.
    NoLookAtFlags,
    /// Who sets a flag does not ring.
    NoRing,
    /// The sweep takes what the living own.
    SweepLiving,
    /// The sweep does not look whether an entry has a new owner.
    SweepReused,
    /// An insert exchanges whatever bucket there is now.
    StaleBucket,
    /// The version floor is not raised.
    NoFloor,
    /// What a waiter reads after his mark is not ordered by a fence.
    NoAnnounceFence,
    /// What the steward reads after clearing flags is not ordered by a fence.
    NoCollectFence,
    /// A committer does not note the slot in his entry before the exchange.
    NoNote,
    /// A committer marks his cell Published whatever became of it meanwhile.
    BlindPublish,
    /// The sweep leaves the hints of free things as they are.
    NoHintRepair,
    /// The sweep frees a dead one's reserved slot without a look at its bucket.
    NoBucketLook,
    /// The sweep takes a dead one's cell for unreferenced when it is not the head.
    NoChainWalk,
    /// Who leaves frees his entry before what he owns.
    EntryFreedFirst,
    /// A reaper frees the entry of a dead one before he sweeps.
    EntrySweptLast,
    /// The steward reports a batch stored before he stores it.
    CompleteFirst,
    /// The steward takes a batch that failed for stored.
    FailureIsStored,
    /// Who looks for a free entry does not wait for those that others are just freeing.
    NoClaimWait,
    /// Who cannot be told alive from here (another pid namespace) is taken for dead.
    UnknownIsDead,
    /// A forked child does not look whether the segment was removed under it.
    NoUsage,
    /// A waiter marks what stands there now, not what it looked at.
    BlindMark,
    /// Who moves `persisted` wakes nobody.
    NoStoredWake,
    /// Who waits for the steward does not hurry him.
    NoHurry,
    /// A new steward does not look through all slots.
    NoFlagAll,
    /// A leaving steward does not look at the flags again.
    BlindLeaver,
    /// Who inserts over a deletion does not flag the deleted slot.
    NoOldFlag,
    /// The steward does not look for the deletions before what he collected.
    NoPredecessors,
    /// The reaper does not wake those whom the dead left sleeping.
    NoNotedWake,
    /// The reaper wakes only those whom the dead had not yet taken the mark from.
    NoReapWake,
    /// The reaper forgets the noted slot before he has flagged it.
    NotedForgotten,
    /// Who frees a thing clears its hint before its word is Free.
    HintFirst,
    /// What the freer reads of the hints is not ordered behind his exchange.
    NoHintCrossing,
    /// The sweep leaves what was marked Published late.
    NoLateSweep,
    /// Nobody looks whether the file was cut short.
    NoCutCheck,
    /// A worker that was woken, or looked out for a ring, goes on saying that it looks next.
    SearcherStays,
    /// Who rang and woke nobody does not wake those who fell asleep meanwhile.
    NoSecondWake,
    /// A chain of the index is followed for ever.
    NoChainLimit,
    /// Room is made for as many bytes as a word of the segment says.
    NoLengthCheck,
    /// An insert looks again as long as an entry of the index leads nowhere.
    NoMovedLimit,
    /// A damaged record keeps the others of its table from the store.
    DamageBlocks,
    /// An id is given out before the store covers it.
    IdBeforeStored,
    /// Who raises a mark wakes nobody.
    NoMarkWake,
    /// Who waits for counters takes a round that was under way for his.
    OneRound,
    /// Who releases a guard does not look whether somebody waits.
    GuardBlindRelease,
    /// A guard is taken whoever holds it.
    GuardSecondHolder,
    /// The reaper does not take a dead one's guards from him.
    NoGuardSweep,
    /// Who takes a guard after a death does not finish what the dead had begun.
    NoRollForward,
    /// A change of several records is not written down before the first of them.
    NoIntent,
    /// Who takes a guard from a living holder leaves him the head of the intents.
    NoIntentBump,
    /// Who reads a record under a guard does not make it the guard's.
    NoStamp,
    /// An intent's cells are freed before it is taken off.
    IntentFreedFirst,
    /// Who undoes a change does not keep out a record that is just going in.
    NoBucketTouch,
    /// Who makes a record one of a class leaves a hint alone that is set already.
    HintSkipped,
    /// The supervisor ends his look as if nobody had asked for another one meanwhile.
    LookOverwritten,
    /// What the supervisor looks at is not ordered behind the begin of his look.
    NoLookFence,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 65] = [
        Self::NoSecondLook,
        Self::NoGenerationCheck,
        Self::NoReadFence,
        Self::NoWriteFence,
        Self::NoBump,
        Self::NoSlotGeneration,
        Self::NoHeadWake,
        Self::NoRoomWake,
        Self::NoLookAfterMark,
        Self::FlagClearedLate,
        Self::NoLookAtFlags,
        Self::NoRing,
        Self::SweepLiving,
        Self::SweepReused,
        Self::StaleBucket,
        Self::NoFloor,
        Self::NoAnnounceFence,
        Self::NoCollectFence,
        Self::NoNote,
        Self::BlindPublish,
        Self::NoHintRepair,
        Self::NoBucketLook,
        Self::NoChainWalk,
        Self::EntryFreedFirst,
        Self::EntrySweptLast,
        Self::CompleteFirst,
        Self::FailureIsStored,
        Self::NoClaimWait,
        Self::UnknownIsDead,
        Self::NoUsage,
        Self::BlindMark,
        Self::NoStoredWake,
        Self::NoHurry,
        Self::NoFlagAll,
        Self::BlindLeaver,
        Self::NoOldFlag,
        Self::NoPredecessors,
        Self::NoNotedWake,
        Self::NoReapWake,
        Self::NotedForgotten,
        Self::HintFirst,
        Self::NoHintCrossing,
        Self::NoLateSweep,
        Self::NoCutCheck,
        Self::SearcherStays,
        Self::NoSecondWake,
        Self::NoChainLimit,
        Self::NoLengthCheck,
        Self::NoMovedLimit,
        Self::DamageBlocks,
        Self::IdBeforeStored,
        Self::NoMarkWake,
        Self::OneRound,
        Self::GuardBlindRelease,
        Self::GuardSecondHolder,
        Self::NoGuardSweep,
        Self::NoRollForward,
        Self::NoIntent,
        Self::NoIntentBump,
        Self::NoStamp,
        Self::IntentFreedFirst,
        Self::NoBucketTouch,
        Self::HintSkipped,
        Self::LookOverwritten,
        Self::NoLookFence,
    ];
}

/// Whether a model has planted `fault`: never, in a normal build.
#[cfg(not(any(feature = "loom", feature = "faults")))]
#[inline]
#[must_use]
pub const fn planted(_fault: Fault) -> bool {
    false
}

#[cfg(all(feature = "faults", not(feature = "loom")))]
pub use faults::{plant, planted};

/// Faults planted in a process, for checks on real memory. Not in a normal build.
#[cfg(all(feature = "faults", not(feature = "loom")))]
mod faults {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Fault;

    /// The fault's number plus one; 0: none.
    static PLANTED: AtomicUsize = AtomicUsize::new(0);

    /// Plants `fault`, or none, in this process and those that it forks.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.store(fault.map_or(0, |f| f as usize + 1), Ordering::Relaxed);
    }

    /// Whether `fault` is planted.
    #[must_use]
    #[inline]
    pub fn planted(fault: Fault) -> bool {
        PLANTED.load(Ordering::Relaxed) == fault as usize + 1
    }
}

#[cfg(feature = "loom")]
pub use model::planted;

/// The modelled machine.
#[cfg(feature = "loom")]
pub mod model;
