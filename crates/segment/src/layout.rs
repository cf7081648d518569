//! Geometry and layout: the numbers fixed at creation, and every offset that follows from them.
//!
//! All offsets are in 8-byte words from the segment's start. Regions, in order, each on its own line
//! (128 bytes, since processors fetch lines in pairs):
//!
//! ```text
//! header     512 words       identity, geometry, store; written once, then read only (header.rs)
//! catalogue  as long as it is, whole lines
//! control     64 lines       one line a word (`control` below), then the steward's message
//! lanes       1 line a lane  high-water marks of the vector clock
//! entries     2 lines each   participants
//! shares      whole lines a participant: its part of counts that readers sum (metrics, waits)
//! names       5 lines each   guards, counters, ids and metrics by name
//! intents     INTENT_WORDS each  changes of several records that are decided and not wholly made
//! then for each table
//!   control   1 line a word  (`table` below)
//!   dirty     1 bit a slot   hints for the steward
//!   taken     1 bit a cell, slot and cell of the index: hints for who looks for a free one
//!   slots     8 words, then the key area, whole 64-byte lines
//!   cells     CELL_WORDS + lanes + payload, whole 64-byte lines
//!   buckets   1 word each    heads of the index
//!   index     16 words each  cells of the index
//! end        one page        its last word is the end mark, which is gone when the file was ever cut short
//! ```
//!
//! The end mark has a page of its own: the kernel clears what is behind a cut page by page, the last ones first taken
//! from those who map them, so whoever saw a word that a cut cleared finds the mark cleared afterwards.

use std::ops::Range;

/// Words of a line: 128 bytes. One word a line under loom, whose words are large and slow.
pub const LINE_WORDS: usize = if cfg!(feature = "loom") { 1 } else { 16 };
/// Words of a page.
const PAGE_WORDS: usize = 512;
/// The last word of every segment.
pub const END_MARK: u64 = u64::from_le_bytes(*b"HOLDSEND");
/// Words of the fixed header.
pub const HEADER_WORDS: usize = 512;
/// Words of a cell before clock and payload.
pub const CELL_WORDS: usize = 10;
/// Words of a cell of the index.
pub const INDEX_CELL_WORDS: usize = 16;
/// Words of a slot before its key area.
pub const SLOT_WORDS: usize = if cfg!(feature = "loom") { 3 } else { 8 };
/// Words of a participant's entry.
pub const ENTRY_WORDS: usize = if cfg!(feature = "loom") { 10 } else { 32 };
/// Words of an entry of the directory of names: two hot lines, then the descriptor.
pub const NAME_WORDS: usize = if cfg!(feature = "loom") { 14 } else { 80 };
/// Words of a cell of an intent.
pub const INTENT_WORDS: usize = if cfg!(feature = "loom") { 24 } else { 512 };
/// Lines of the segment's control region.
const CONTROL_LINES: usize = if cfg!(feature = "loom") { 9 } else { 64 };
/// Lines of a table's control region.
const TABLE_CONTROL_LINES: usize = 5;

/// The sizes of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableGeometry {
    /// Records that fit.
    pub slots: u32,
    /// Versions that fit.
    pub cells: u32,
    /// The longest key, in bytes.
    pub key_bytes: u32,
    /// The largest payload, in bytes.
    pub payload_bytes: u32,
    /// Heads of the index; a power of two.
    pub buckets: u32,
    /// Cells of the index.
    pub index_cells: u32,
}

/// The sizes of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// The most participants at once.
    pub participants: u32,
    /// Counters of the vector clock.
    pub lanes: u32,
    /// Bytes of the catalogue, which this crate does not interpret.
    pub catalogue_bytes: u32,
    /// What is found by a name and is no table.
    pub named: NamedGeometry,
    /// The tables.
    pub tables: Vec<TableGeometry>,
}

/// The sizes of what is found by a name and is no table: guards, counters, ids, metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamedGeometry {
    /// Names that fit.
    pub names: u32,
    /// Words of each participant's share.
    pub share_words: u32,
    /// Cells of intents.
    pub intents: u32,
}

/// Where one table's regions stand, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableLayout {
    /// The table's sizes.
    pub geometry: TableGeometry,
    /// One line a control word.
    pub control: Range<usize>,
    /// One bit a slot.
    pub dirty: Range<usize>,
    /// One bit a cell.
    pub taken_cells: Range<usize>,
    /// One bit a slot.
    pub taken_slots: Range<usize>,
    /// One bit a cell of the index.
    pub taken_index: Range<usize>,
    /// The slots.
    pub slots: Range<usize>,
    /// The cells.
    pub cells: Range<usize>,
    /// The heads of the index.
    pub buckets: Range<usize>,
    /// The cells of the index.
    pub index: Range<usize>,
    /// Words from one slot to the next.
    pub slot_stride: usize,
    /// Words from one cell to the next.
    pub cell_stride: usize,
}

/// Where everything stands, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The catalogue.
    pub catalogue: Range<usize>,
    /// The segment's control words, one line each, then the steward's message.
    pub control: Range<usize>,
    /// The clock's high-water marks, one line each.
    pub lanes: Range<usize>,
    /// The participants' entries.
    pub entries: Range<usize>,
    /// The participants' shares.
    pub shares: Range<usize>,
    /// Words from one participant's share to the next.
    pub share_stride: usize,
    /// The directory of names.
    pub names: Range<usize>,
    /// The cells of intents.
    pub intents: Range<usize>,
    /// The tables.
    pub tables: Vec<TableLayout>,
    /// The whole segment.
    pub total: usize,
}

struct Cursor(usize);

impl Cursor {
    /// The next `words`, from a line's start; `None` beyond what an address can be.
    fn take(&mut self, words: usize) -> Option<Range<usize>> {
        let start = self.0.checked_next_multiple_of(LINE_WORDS)?;
        self.0 = start.checked_add(words)?;
        Some(start..self.0)
    }

    fn many(&mut self, count: u32, stride: usize) -> Option<Range<usize>> {
        self.take((count as usize).checked_mul(stride)?)
    }
}

/// Rounds up to whole 64-byte lines.
fn lines(words: usize) -> usize {
    if cfg!(feature = "loom") { words } else { words.next_multiple_of(8) }
}

impl TableGeometry {
    /// Words of the key area of a slot: its length, the hash prefix, the bytes.
    #[must_use]
    pub fn key_words(&self) -> usize {
        2 + (self.key_bytes as usize).div_ceil(8)
    }

    fn layout(&self, lane_count: u32, cursor: &mut Cursor) -> Option<TableLayout> {
        let slot_stride = SLOT_WORDS + lines(self.key_words());
        let payload = (self.payload_bytes as usize).div_ceil(8);
        let cell_stride = lines(CELL_WORDS + lane_count as usize + payload);
        Some(TableLayout {
            geometry: *self,
            control: cursor.take(TABLE_CONTROL_LINES * LINE_WORDS)?,
            dirty: cursor.take((self.slots as usize).div_ceil(64))?,
            taken_cells: cursor.take((self.cells as usize).div_ceil(64))?,
            taken_slots: cursor.take((self.slots as usize).div_ceil(64))?,
            taken_index: cursor.take((self.index_cells as usize).div_ceil(64))?,
            slots: cursor.many(self.slots, slot_stride)?,
            cells: cursor.many(self.cells, cell_stride)?,
            buckets: cursor.many(self.buckets, 1)?,
            index: cursor.many(self.index_cells, INDEX_CELL_WORDS)?,
            slot_stride,
            cell_stride,
        })
    }
}

impl Geometry {
    /// Derives every offset; `None` when the sizes are beyond what an address can be.
    #[must_use]
    pub fn layout(&self) -> Option<Layout> {
        let mut cursor = Cursor(if cfg!(feature = "loom") { 0 } else { HEADER_WORDS });
        let catalogue_words = (self.catalogue_bytes as usize).div_ceil(8);
        let catalogue = cursor.take(if cfg!(feature = "loom") { 0 } else { catalogue_words })?;
        let control = cursor.take(CONTROL_LINES * LINE_WORDS)?;
        let lanes = cursor.many(self.lanes, LINE_WORDS)?;
        let entries = cursor.many(self.participants, ENTRY_WORDS)?;
        let share_stride = (self.named.share_words as usize).next_multiple_of(LINE_WORDS);
        let shares = cursor.many(self.participants, share_stride)?;
        let names = cursor.many(self.named.names, NAME_WORDS)?;
        let intents = cursor.many(self.named.intents, INTENT_WORDS)?;
        let each = |t: &TableGeometry| t.layout(self.lanes, &mut cursor);
        let tables = self.tables.iter().map(each).collect::<Option<Vec<_>>>()?;
        // Whole pages.
        let total = cursor.0.checked_next_multiple_of(PAGE_WORDS)?.checked_add(PAGE_WORDS)?;
        let total = if cfg!(feature = "loom") { cursor.0 } else { total };
        Some(Layout {
            catalogue,
            control,
            lanes,
            entries,
            shares,
            share_stride,
            names,
            intents,
            tables,
            total,
        })
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn regions_follow_each_other_on_lines_of_their_own() {
        let table = TableGeometry {
            slots: 100,
            cells: 200,
            key_bytes: 48,
            payload_bytes: 256,
            buckets: 64,
            index_cells: 90,
        };
        let named = NamedGeometry { names: 3, share_words: 17, intents: 2 };
        let tables = vec![table, table];
        let geometry = Geometry { participants: 7, lanes: 8, catalogue_bytes: 77, named, tables };
        let layout = geometry.layout().expect("small");
        let mut regions =
            vec![layout.catalogue.clone(), layout.control.clone(), layout.lanes.clone()];
        let named = [&layout.entries, &layout.shares, &layout.names, &layout.intents];
        regions.extend(named.into_iter().cloned());
        assert_eq!(layout.shares.len(), 7 * 32, "whole lines");
        for t in &layout.tables {
            let taken = [&t.taken_cells, &t.taken_slots, &t.taken_index];
            let things = [&t.slots, &t.cells, &t.buckets, &t.index];
            let parts = [&t.control, &t.dirty].into_iter().chain(taken).chain(things);
            regions.extend(parts.cloned());
            assert_eq!(t.cell_stride * 8, 448, "a 256-byte record takes seven lines");
        }
        let mut end = HEADER_WORDS;
        for region in regions {
            assert!(region.start >= end && region.start % LINE_WORDS == 0, "{region:?}");
            end = region.end;
        }
        assert!(layout.total >= end);
    }

    #[test]
    fn sizes_beyond_an_address_are_none() {
        let table = TableGeometry {
            slots: u32::MAX,
            cells: u32::MAX,
            key_bytes: u32::MAX,
            payload_bytes: u32::MAX,
            buckets: u32::MAX,
            index_cells: u32::MAX,
        };
        let named = NamedGeometry::default();
        let tables = vec![table; 64];
        let geometry = Geometry { participants: 1, lanes: 1, catalogue_bytes: 1, named, tables };
        assert!(geometry.layout().is_none());
    }
}
