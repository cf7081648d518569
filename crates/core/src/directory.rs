//! The directory of names: guards, counters, ids and metrics are found by name, in any process, and are there as
//! long as the segment.
//!
//! **State**: an entry is five lines; the first two are its own hot words, the others its descriptor:
//! ```text
//! line 0   hot words of the first kind: what everybody changes        (guard.rs, counter.rs, ids.rs, metrics.rs)
//! line 1   hot words of the second kind: what changes less often
//! line 2.. word (word.rs) · previous head · kind and share · extra · lengths · name · unit · labels · help
//! ```
//! The registry's head (one control word, head.rs) names the entry registered last; each entry names the one before.
//!
//! **Transitions**: to register, (1) walk the list and look for the name; (2) claim a free entry, Free → Owned;
//! (3) write the descriptor, with the head that (1) began at as its previous; (4) exchange the head against exactly
//! that: **registered**; lost: walk what came meanwhile, back to (3) with the same entry; (5) Owned → Published.
//! An entry is never taken off the list, so an index that was found once stays valid, and a walk needs no second look.
//!
//! **Shares**: a descriptor may have some words in every participant's share. Where they begin follows from the entry
//! before it, so the exchange of the head allots them too. The participant alone writes them, readers sum over all;
//! they are never cleared, so that what a dead participant counted is kept.
//!
//! **Crash**: before (4) an entry is left Owned by a dead one and not on the list: the sweep frees it; after (4) it is
//! on the list: the sweep makes it Published.

mod kind;

use commonhold_segment::layout::{LINE_WORDS, NAME_WORDS};
use commonhold_segment::sync::{AtomicU64, Ordering, fence};

use crate::error::Error;
use crate::handle::Handle;
use crate::head::{Head, NO_CELL};
use crate::participant::{CLAIM_EVERY, CLAIM_WAIT, DeadSet};
use crate::pool::Owned;
use crate::space::{Space, control};
use crate::table::{load_bytes, store_bytes};
use crate::wait::Deadline;
use crate::word::{Phase, Word};

pub use kind::NameKind;

/// Words of a hot line that a kind may use.
const HOT_WORDS: usize = if cfg!(feature = "loom") { 4 } else { LINE_WORDS };
const DESCRIPTOR: usize = 2 * HOT_WORDS;
/// Words of a descriptor before its texts.
const FIXED_WORDS: usize = 5;
/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = if cfg!(feature = "loom") { 8 } else { 64 };
/// The longest unit, in bytes.
pub const UNIT_BYTES_MAX: usize = if cfg!(feature = "loom") { 0 } else { 16 };
/// The longest labels, in bytes.
pub const LABELS_BYTES_MAX: usize = if cfg!(feature = "loom") { 0 } else { 80 };
/// The longest help, in bytes.
pub const HELP_BYTES_MAX: usize = if cfg!(feature = "loom") { 0 } else { 184 };

/// What to register.
#[derive(Debug, Clone, Copy)]
pub struct NewName<'a> {
    /// What it is.
    pub kind: NameKind,
    /// Its name.
    pub name: &'a str,
    /// Its unit, for metrics.
    pub unit: &'a str,
    /// Its labels, for metrics: part of what makes it another one.
    pub labels: &'a str,
    /// What it is for.
    pub help: &'a str,
    /// A number that its kind gives a meaning.
    pub extra: u64,
    /// Words of each participant's share.
    pub width: u16,
}

/// A registered name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Its entry.
    pub index: u16,
    /// What it is.
    pub kind: NameKind,
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Its labels.
    pub labels: String,
    /// What it is for.
    pub help: String,
    /// A number that its kind gives a meaning.
    pub extra: u64,
    /// Where its words begin in each participant's share.
    pub offset: u32,
    /// How many they are.
    pub width: u16,
}

/// An entry's words.
#[derive(Clone, Copy)]
pub(crate) struct NameView<'a> {
    words: &'a [AtomicU64],
}

impl<'a> NameView<'a> {
    /// A word of the first hot line.
    #[inline]
    pub(crate) fn hot(self, at: usize) -> Result<&'a AtomicU64, Error> {
        self.words.get(..HOT_WORDS).and_then(|line| line.get(at)).ok_or_else(|| damaged(at))
    }

    /// A word of the second hot line.
    #[inline]
    pub(crate) fn warm(self, at: usize) -> Result<&'a AtomicU64, Error> {
        let line = self.words.get(HOT_WORDS..DESCRIPTOR);
        line.and_then(|line| line.get(at)).ok_or_else(|| damaged(at))
    }

    fn descriptor(self) -> Option<(&'a [AtomicU64; FIXED_WORDS], &'a [AtomicU64])> {
        self.words.get(DESCRIPTOR..)?.split_first_chunk()
    }

    fn word(self) -> Option<&'a AtomicU64> {
        self.words.get(DESCRIPTOR)
    }

    fn write(self, new: &NewName<'_>, previous: Head, offset: u32) {
        let Some(([_, before, shape, extra, lengths], mut texts)) = self.descriptor() else {
            return;
        };
        // The claim came before, in the eyes of whoever sees any of these.
        fence(Ordering::Release);
        before.store(previous.bits(), Ordering::Relaxed);
        let width = u64::from(new.width);
        shape.store(new.kind.code() | width << 16 | u64::from(offset) << 32, Ordering::Relaxed);
        extra.store(new.extra, Ordering::Relaxed);
        let all = [new.name, new.unit, new.labels, new.help];
        let sum = all.iter().rev().fold(0, |sum, text| sum << 16 | text.len() as u64);
        lengths.store(sum, Ordering::Relaxed);
        for (text, limit) in all.into_iter().zip(LIMITS) {
            let (own, rest) = texts.split_at((limit / 8).min(texts.len()));
            store_bytes(own, text.as_bytes());
            texts = rest;
        }
    }

    /// The descriptor and the head before it, of an entry on the list.
    fn read(self, index: u16) -> Option<(Descriptor, Head)> {
        let ([_, before, shape, extra, lengths], mut texts) = self.descriptor()?;
        let (shape, lengths) = (shape.load(Ordering::Relaxed), lengths.load(Ordering::Relaxed));
        let mut all = [String::new(), String::new(), String::new(), String::new()];
        for (i, (text, limit)) in all.iter_mut().zip(LIMITS).enumerate() {
            let (own, rest) = texts.split_at((limit / 8).min(texts.len()));
            let length = (lengths >> (16 * i) & 0xffff) as usize;
            let mut bytes = Vec::new();
            load_bytes(own, length.min(limit), &mut bytes);
            *text = String::from_utf8(bytes).ok().filter(|t| t.len() == length)?;
            texts = rest;
        }
        let [name, unit, labels, help] = all;
        let descriptor = Descriptor {
            index,
            kind: NameKind::from_code(shape & 0xffff)?,
            name,
            unit,
            labels,
            help,
            extra: extra.load(Ordering::Relaxed),
            offset: (shape >> 32) as u32,
            width: (shape >> 16) as u16,
        };
        Some((descriptor, Head::from_bits(before.load(Ordering::Relaxed))))
    }
}

const LIMITS: [usize; 4] = [NAME_BYTES_MAX, UNIT_BYTES_MAX, LABELS_BYTES_MAX, HELP_BYTES_MAX];

#[cold]
fn damaged(at: usize) -> Error {
    Error::Corrupt { what: "an entry of the directory of names", offset: 0, found: at as u64 }
}

impl Space {
    /// The entry `index` of the directory.
    #[inline]
    pub(crate) fn name_entry(&self, index: u16) -> Result<NameView<'_>, Error> {
        let range = self.layout().names.clone();
        let start = range.start + usize::from(index) * NAME_WORDS;
        let inside = start + NAME_WORDS <= range.end;
        let words = self.segment().words().get(start..start + NAME_WORDS).filter(|_| inside);
        words.map(|words| NameView { words }).ok_or_else(|| damaged(index.into()))
    }

    fn registry(&self) -> Result<&AtomicU64, Error> {
        self.control_line(control::NAMES)
    }

    /// Visits the descriptors from `head` on, the last registered first, until `visit` gives something.
    fn walk_names<T>(
        &self,
        head: Head,
        until: Head,
        mut visit: impl FnMut(Descriptor) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let (mut at, mut left) = (head, self.catalogue().named.names);
        while at.cell() != NO_CELL && at.position() != until.position() {
            let index = u16::try_from(at.cell()).map_err(|_| damaged(at.cell() as usize))?;
            let found = self.name_entry(index)?.read(index).filter(|_| left > 0);
            let (descriptor, previous) = found.ok_or_else(|| damaged(index.into()))?;
            if let Some(made) = visit(descriptor) {
                return Ok(Some(made));
            }
            (at, left) = (previous, left - 1);
        }
        Ok(None)
    }

    /// Every registered name, in the order in which they were registered.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn names(&self) -> Result<Vec<Descriptor>, Error> {
        let head = Head::load(self.registry()?, Ordering::Acquire);
        let mut all = Vec::new();
        let pushed = self.walk_names(head, Head::from_bits(0), |descriptor| {
            all.push(descriptor);
            None::<()>
        });
        self.whole(pushed)?;
        all.reverse();
        Ok(all)
    }

    /// The descriptor of `name`, if it is registered as a `kind`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn find_name(&self, kind: NameKind, name: &str) -> Result<Option<Descriptor>, Error> {
        let head = Head::load(self.registry()?, Ordering::Acquire);
        let same = |d: Descriptor| (d.kind == kind && d.name == name).then_some(d);
        self.whole(self.walk_names(head, Head::from_bits(0), same))
    }

    /// Calls `visit` with the entry of every name of `kind`, the last registered first. Reads no text.
    pub(crate) fn each_name_of(
        &self,
        kind: NameKind,
        mut visit: impl FnMut(u16) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut at = Head::load(self.registry()?, Ordering::Acquire);
        for _ in 0..=self.catalogue().named.names {
            if at.cell() == NO_CELL {
                return Ok(());
            }
            let index = u16::try_from(at.cell()).map_err(|_| damaged(at.cell() as usize))?;
            let fixed = self.name_entry(index)?.descriptor();
            let ([_, before, shape, ..], _) = fixed.ok_or_else(|| damaged(index.into()))?;
            if shape.load(Ordering::Relaxed) & 0xffff == kind.code() {
                visit(index)?;
            }
            at = Head::load(before, Ordering::Relaxed);
        }
        Err(damaged(at.cell() as usize))
    }

    /// The descriptor of an entry that is on the list.
    pub(crate) fn descriptor(&self, index: u16) -> Result<Descriptor, Error> {
        let read = self.name_entry(index)?.read(index).map(|(descriptor, _)| descriptor);
        read.ok_or_else(|| damaged(index.into()))
    }

    /// A word of a participant's share.
    #[inline]
    pub(crate) fn share(&self, entry: u16, at: u32) -> Result<&AtomicU64, Error> {
        let (layout, at) = (self.layout(), at as usize);
        let start = layout.shares.start + usize::from(entry) * layout.share_stride;
        let inside = at < layout.share_stride && start + at < layout.shares.end;
        let word = self.segment().words().get(start + at).filter(|_| inside);
        word.ok_or(Error::Corrupt { what: "a share", offset: 0, found: at as u64 })
    }

    /// The sum of a word over all participants' shares, the dead included.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn sum_shares(&self, at: u32) -> Result<u64, Error> {
        let mut sum = [0];
        self.sum_shares_from(at, &mut sum)?;
        Ok(sum.iter().sum())
    }

    /// The sums of as many words as `sums` has, from word `at` on. Share by share, for they lie far apart.
    pub(crate) fn sum_shares_from(&self, at: u32, sums: &mut [u64]) -> Result<(), Error> {
        sums.fill(0);
        let last = at.saturating_add(sums.len().saturating_sub(1) as u32);
        let (layout, words) = (self.layout(), self.segment().words());
        for entry in 0..self.catalogue().participants as u16 {
            // All words of a share are there when its last one is.
            self.share(entry, last)?;
            let start =
                layout.shares.start + usize::from(entry) * layout.share_stride + at as usize;
            for (sum, word) in sums.iter_mut().zip(words.iter().skip(start)) {
                *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
            }
        }
        Ok(())
    }

    /// For the sweep: settles the entries that the dead left half registered. How many it freed.
    pub(crate) fn sweep_names(&self, dead: &DeadSet) -> Result<u32, Error> {
        let mut freed = 0;
        for index in 0..self.catalogue().named.names as u16 {
            let Some(word) = self.name_entry(index)?.word() else { continue };
            let seen = Word::load(word, Ordering::Acquire);
            if !dead.owns(self, seen) {
                continue;
            }
            // He is dead, so what is not on the list by now never will be.
            let head = Head::load(self.registry()?, Ordering::Acquire);
            let here = |d: Descriptor| (d.index == index).then_some(());
            let listed = self.walk_names(head, Head::from_bits(0), here)?.is_some();
            let next = if listed { seen.published() } else { seen.freed() };
            freed += u32::from(seen.exchange(word, next) && !listed);
        }
        Ok(freed)
    }
}

impl Handle {
    /// The descriptor of a name, registered now if it is not yet.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::OtherKind`] when the name stands for something else; [`Error::NamesFull`] when there
    /// is no room for another one, or for its share.
    pub fn register_name(&self, new: &NewName<'_>) -> Result<Descriptor, Error> {
        check_texts(new)?;
        self.check_fork()?;
        let mut claimed = None;
        let registered = self.register_with(new, &mut claimed);
        if let Some(owned) = claimed
            && let Some(word) = self.space().name_entry(owned.index as u16)?.word()
        {
            owned.word.exchange(word, owned.word.freed());
        }
        self.space().whole(registered)
    }

    fn register_with(
        &self,
        new: &NewName<'_>,
        claimed: &mut Option<Owned>,
    ) -> Result<Descriptor, Error> {
        let space = self.space();
        let registry = space.registry()?;
        let mut known = Head::from_bits(0);
        let deadline = Deadline::after(CLAIM_WAIT);
        loop {
            let head = Head::load(registry, Ordering::Acquire);
            let same = |d: Descriptor| same_name(new, &d).then_some(d);
            if let Some(found) = space.walk_names(head, known, same)? {
                return fits(new, found);
            }
            known = head;
            let last = space.walk_names(head, Head::from_bits(0), Some)?;
            let offset = last.as_ref().map_or(0, |d| d.offset.saturating_add(d.width.into()));
            let share_words = space.catalogue().named.share_words;
            if offset.saturating_add(new.width.into()) > share_words {
                return Err(full(new, "share_words", share_words));
            }
            let owned = match *claimed {
                Some(owned) => owned,
                None => match self.claim_name(new, &deadline) {
                    Ok(Some(owned)) => *claimed.insert(owned),
                    // Somebody is just registering, maybe this very name; or just did.
                    Ok(None) => continue,
                    Err(_) if Head::load(registry, Ordering::Acquire) != head => continue,
                    Err(e) => return Err(e),
                },
            };
            let entry = space.name_entry(owned.index as u16)?;
            entry.write(new, head, offset);
            if head.displace(registry, Head::new(owned.index, head.tag().wrapping_add(1))) {
                *claimed = None;
                if let Some(word) = entry.word() {
                    owned.word.exchange(word, owned.word.published());
                }
                let read = entry.read(owned.index as u16).map(|(descriptor, _)| descriptor);
                return read.ok_or_else(|| damaged(owned.index as usize));
            }
        }
    }

    /// A free entry of the directory; `None` when there may be one, or the name, in a moment.
    fn claim_name(&self, new: &NewName<'_>, wait: &Deadline) -> Result<Option<Owned>, Error> {
        let limit = self.space().catalogue().named.names;
        let mut passing = false;
        for index in 0..limit as u16 {
            let Some(word) = self.space().name_entry(index)?.word() else { continue };
            let now = Word::load(word, Ordering::Acquire);
            let next = now.claimed_by(self.entry_index());
            if now.phase() == Phase::Free && now.exchange(word, next) {
                return Ok(Some(Owned { index: index.into(), word: next }));
            }
            passing |= now.phase() != Phase::Published;
        }
        if passing && wait.left().is_some() {
            std::thread::sleep(CLAIM_EVERY);
            return Ok(None);
        }
        Err(full(new, "names", limit))
    }
}

fn same_name(new: &NewName<'_>, old: &Descriptor) -> bool {
    // Labels make another metric, of the same kind. A guard has none: what stands there says how it is shown.
    let other = new.kind != NameKind::Guard && new.kind == old.kind && old.labels != new.labels;
    old.name == new.name && old.kind.shares_names_with(new.kind) && !other
}

/// What is registered, if it is what is asked for.
fn fits(new: &NewName<'_>, found: Descriptor) -> Result<Descriptor, Error> {
    let same = found.kind == new.kind
        && found.extra == new.extra
        && found.width == new.width
        && found.unit == new.unit;
    if same {
        return Ok(found);
    }
    let of = |kind: NameKind, unit: &str, extra: u64| match (kind, unit, extra) {
        (NameKind::Guard, _, 0) => "a guard without a hold limit".to_owned(),
        (NameKind::Guard, _, limit) => {
            format!("a guard with a hold limit of {} ms", limit / 1_000_000)
        }
        (_, "", _) => format!("a {kind}"),
        (_, _, _) => format!("a {kind} in {unit}"),
    };
    Err(Error::OtherKind {
        name: new.name.to_owned(),
        found: of(found.kind, &found.unit, found.extra),
        asked: of(new.kind, new.unit, new.extra),
    })
}

fn full(new: &NewName<'_>, raise: &'static str, limit: u32) -> Error {
    let name = new.name.to_owned();
    Error::NamesFull { kind: new.kind.to_string(), name, raise, limit }
}

fn check_texts(new: &NewName<'_>) -> Result<(), Error> {
    let bad = |why: String| {
        let shown: String = new.name.chars().take(40).collect();
        Error::BadName { kind: new.kind.to_string(), name: shown, why }
    };
    if new.name.is_empty() || new.name.chars().any(char::is_control) {
        return Err(bad("it is empty or has control characters".to_owned()));
    }
    let texts = [new.name, new.unit, new.labels, new.help];
    let what = ["the name", "its unit", "its labels", "its help"];
    for ((text, what), limit) in texts.into_iter().zip(what).zip(LIMITS) {
        if text.len() > limit {
            return Err(bad(format!("{what} has {} bytes; at most {limit} fit", text.len())));
        }
    }
    Ok(())
}
