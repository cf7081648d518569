//! Views: what the words of a table mean. Every index that comes out of shared memory is checked here.
//!
//! **Slot**: `head`, `persisted`, `word` on its first line; then, written while Reserved and validated by
//! the word's generation, the key's length, the record's hash prefix and the key.
//!
//! **Cell**: `word`; place (slot, deleted, length); slot generation; version; previous head; hash; writer;
//! sequence; time; fence; clock; payload. Everything behind `word` is written by the owner alone and read by
//! copying between two looks at `word`: see [`crate::read`].

use commonhold_segment::TableLayout;
use commonhold_segment::layout::{INDEX_CELL_WORDS, LINE_WORDS, SLOT_WORDS};
use commonhold_segment::sync::{AtomicU64, Fault, Ordering, fence, planted};

use crate::catalogue::{History, TableSpec};
use crate::error::Error;
use crate::hash;
use crate::word::{Phase, Word};

/// A table's words.
#[derive(Clone, Copy)]
pub(crate) struct TableView<'a> {
    pub(crate) position: usize,
    pub(crate) spec: &'a TableSpec,
    pub(crate) layout: &'a TableLayout,
    pub(crate) words: &'a [AtomicU64],
}

/// Lines of a table's control region.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TableControl {
    /// The version floor: no version of this table's future incarnations is at or below it.
    Floor = 0,
    /// Bit 0 WAITERS, then a count: moved when somebody waits for any change.
    Watch = 1,
    /// Bit 0 WAITERS, then a count: moved when cells or slots were freed and somebody waits for them.
    Room = 2,
    /// Whether the store takes it: see [`crate::stop`].
    Stop = 3,
    /// Foreign changes that stewards met.
    Conflicts = 4,
}

/// A slot's words.
#[derive(Clone, Copy)]
pub(crate) struct SlotView<'a> {
    pub(crate) index: u32,
    pub(crate) head: &'a AtomicU64,
    pub(crate) persisted: &'a AtomicU64,
    pub(crate) word: &'a AtomicU64,
    key: &'a [AtomicU64],
}

/// A cell's words.
#[derive(Clone, Copy)]
pub(crate) struct CellView<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) place: &'a AtomicU64,
    pub(crate) slot_generation: &'a AtomicU64,
    pub(crate) version: &'a AtomicU64,
    pub(crate) previous: &'a AtomicU64,
    pub(crate) hash: &'a AtomicU64,
    pub(crate) writer: &'a AtomicU64,
    pub(crate) sequence: &'a AtomicU64,
    pub(crate) time: &'a AtomicU64,
    pub(crate) fence: &'a AtomicU64,
    /// The clock's lanes, then the payload.
    pub(crate) rest: &'a [AtomicU64],
}

/// Where a record stands: the slot and the slot's generation; and the prefix of its state hash.
///
/// It goes stale when the record is deleted; using it then finds that out and changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef {
    pub(crate) slot: u32,
    pub(crate) generation: u64,
    pub(crate) prefix: u64,
}

/// A cell's place word: slot, deleted, length of the payload in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    pub(crate) fn new(slot: u32, deleted: bool, length: usize) -> Self {
        Self((length as u64) << 32 | u64::from(deleted) << 24 | u64::from(slot))
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }

    pub(crate) fn deleted(self) -> bool {
        self.0 >> 24 & 1 == 1
    }

    pub(crate) fn length(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// Writes `bytes` into `words`, the last one padded with zeros.
#[inline]
pub(crate) fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, chunk) in words.iter().zip(whole) {
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    if let (Some(word), false) = (words.get(whole.len()), rest.is_empty()) {
        let last = rest.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
        word.store(last, Ordering::Relaxed);
    }
}

/// Reads `count` bytes of `words` into `out`, replacing what it holds; cut to what there is.
#[inline]
pub(crate) fn load_bytes(words: &[AtomicU64], count: usize, out: &mut Vec<u8>) {
    if planted(Fault::NoLengthCheck) {
        out.reserve(count);
    }
    let words = words.get(..count.div_ceil(8)).unwrap_or_default();
    out.resize(words.len() * 8, 0);
    let (chunks, _) = out.as_chunks_mut::<8>();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.load(Ordering::Relaxed).to_le_bytes();
    }
    out.truncate(count);
}

impl<'a> TableView<'a> {
    #[inline]
    pub(crate) fn is_full_history(&self) -> bool {
        self.spec.history == History::Full
    }

    /// A word of the table's control region.
    #[inline]
    pub(crate) fn control(&self, line: TableControl) -> Result<&'a AtomicU64, Error> {
        let offset = self.layout.control.start + line as usize * LINE_WORDS;
        self.words.get(offset).ok_or_else(|| self.corrupt("a control word", offset, 0))
    }

    /// The slot `index`.
    #[inline]
    pub(crate) fn slot(&self, index: u32) -> Result<SlotView<'a>, Error> {
        let stride = self.layout.slot_stride;
        let start = self.layout.slots.start + index as usize * stride;
        let words = self.words.get(start..start + stride).unwrap_or_default();
        match words {
            [head, persisted, word, ..] if index < self.layout.geometry.slots => {
                let key = words.get(SLOT_WORDS..).unwrap_or_default();
                Ok(SlotView { index, head, persisted, word, key })
            }
            _ => Err(self.corrupt("the index of a slot", 0, index.into())),
        }
    }

    /// Every slot.
    pub(crate) fn slots(&self) -> impl Iterator<Item = SlotView<'a>> + use<'a> {
        let view = *self;
        (0..self.layout.geometry.slots).filter_map(move |i| view.slot(i).ok())
    }

    /// The cell `index`.
    #[inline]
    pub(crate) fn cell(&self, index: u32) -> Result<CellView<'a>, Error> {
        let stride = self.layout.cell_stride;
        let start = self.layout.cells.start + index as usize * stride;
        let words = self.words.get(start..start + stride).unwrap_or_default();
        match words {
            [
                word,
                place,
                slot_generation,
                version,
                previous,
                hash,
                writer,
                sequence,
                time,
                fence,
                rest @ ..,
            ] if index < self.layout.geometry.cells => Ok(CellView {
                word,
                place,
                slot_generation,
                version,
                previous,
                hash,
                writer,
                sequence,
                time,
                fence,
                rest,
            }),
            _ => Err(self.corrupt("the index of a cell", 0, index.into())),
        }
    }

    /// The head of bucket `index`.
    #[inline]
    pub(crate) fn bucket(&self, index: u32) -> Result<&'a AtomicU64, Error> {
        let buckets = self.words.get(self.layout.buckets.clone()).unwrap_or_default();
        buckets.get(index as usize).ok_or_else(|| self.corrupt("a bucket", 0, index.into()))
    }

    /// The words of the index's cell `index`.
    #[inline]
    pub(crate) fn index_cell(
        &self,
        index: u32,
    ) -> Result<&'a [AtomicU64; INDEX_CELL_WORDS], Error> {
        let cells = self.words.get(self.layout.index.clone()).unwrap_or_default();
        let cell = cells.as_chunks().0.get(index as usize);
        cell.ok_or_else(|| self.corrupt("a cell of the index", 0, index.into()))
    }

    /// The ownership words of the cells: where the first is, how far apart, how many.
    pub(crate) fn corrupt(&self, what: &'static str, offset: usize, found: u64) -> Error {
        Error::Corrupt { what, offset: offset.saturating_mul(8), found }
    }

    /// Checks that `key` can be one.
    pub(crate) fn check_key(&self, key: &str) -> Result<(), Error> {
        let (length, limit) = (key.len(), self.spec.key_bytes);
        let why = if key.bytes().any(|b| b == 0) { " with NUL in it" } else { "" };
        if length == 0 || length > limit as usize || !why.is_empty() {
            return Err(Error::BadKey { table: self.spec.name.clone(), length, limit, why });
        }
        Ok(())
    }
}

impl SlotView<'_> {
    /// Writes the key; the caller has the slot Reserved.
    pub(crate) fn store_key(&self, table: &str, key: &str) -> u64 {
        let prefix = hash::record_prefix(table, key);
        if let [length, prefix_word, bytes @ ..] = self.key {
            // The reservation came before, in the eyes of whoever sees any of these.
            fence(Ordering::Release);
            length.store(key.len() as u64, Ordering::Relaxed);
            prefix_word.store(prefix, Ordering::Relaxed);
            store_bytes(bytes, key.as_bytes());
        }
        prefix
    }

    /// Whether the slot, in `generation`, holds `key`; then the record's hash prefix and its word.
    pub(crate) fn holds(&self, generation: u64, key: &str) -> Option<(u64, Word)> {
        let before = Word::load(self.word, Ordering::Acquire);
        let [length, prefix, bytes @ ..] = self.key else { return None };
        if before.generation() != generation
            || before.phase() == Phase::Free
            || length.load(Ordering::Relaxed) != key.len() as u64
        {
            return None;
        }
        let prefix = prefix.load(Ordering::Relaxed);
        let (whole, rest) = key.as_bytes().as_chunks::<8>();
        let same = bytes
            .iter()
            .zip(whole)
            .all(|(word, chunk)| word.load(Ordering::Relaxed) == u64::from_le_bytes(*chunk));
        let last = rest.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let ends = rest.is_empty()
            || bytes.get(whole.len()).is_some_and(|word| word.load(Ordering::Relaxed) == last);
        // Pairs with the fence in `store_key`: a later writer's bytes would show his reservation here.
        fence(Ordering::Acquire);
        let after = Word::load(self.word, Ordering::Relaxed);
        (same && ends && after.generation() == generation).then_some((prefix, before))
    }

    /// The key and hash prefix of the slot in `generation`; `None` when it is another's by now or damaged.
    pub(crate) fn key(&self, generation: u64) -> Option<(String, u64)> {
        let [length, prefix, bytes @ ..] = self.key else { return None };
        let count = usize::try_from(length.load(Ordering::Relaxed)).ok()?;
        let prefix = prefix.load(Ordering::Relaxed);
        let mut out = Vec::new();
        load_bytes(bytes, count, &mut out);
        fence(Ordering::Acquire);
        let after = Word::load(self.word, Ordering::Relaxed);
        if after.generation() != generation || out.len() != count {
            return None;
        }
        String::from_utf8(out).ok().map(|key| (key, prefix))
    }
}
