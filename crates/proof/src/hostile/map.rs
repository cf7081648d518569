//! Where each word of a segment belongs, what a wrong one may be, and which records it touches.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::ops::Range;

use commonhold_segment::layout::{
    END_MARK, HEADER_WORDS, INDEX_CELL_WORDS, LINE_WORDS, SLOT_WORDS,
};
use commonhold_segment::{Layout, Segment};

use super::Random;
use super::scene::{Scene, TABLES, bucket_of};

/// A region of the segment.
#[derive(Debug, Clone)]
pub(super) struct Region {
    pub(super) name: &'static str,
    /// The position of its table.
    table: usize,
    range: Range<usize>,
    stride: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing works without it.
    All,
    /// No record depends on it.
    None,
    Slots,
    Cells,
    Buckets,
    Index,
}

/// One wrong word.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    pub(super) region: Region,
    pub(super) at: usize,
    pub(super) old: u64,
    pub(super) new: u64,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { region, at, old, new } = self;
        let (place, inside) = (at - region.range.start, region.stride);
        write!(f, "byte {} ({} {}, word {}", at * 8, region.name, place / inside, place % inside)?;
        write!(f, " of table {}): {old:#x} -> {new:#x}", TABLES[region.table])
    }
}

/// What of the records a wrong word touches.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) all: bool,
    pub(super) keys: BTreeSet<(usize, String)>,
}

/// The regions of a scene's segment.
pub(super) struct Map {
    regions: Vec<Region>,
    layout: Layout,
}

impl Map {
    pub(super) fn of(segment: &Segment) -> Self {
        let layout = segment.layout().clone();
        let mut regions = Vec::new();
        let mut add = |name, table, range: &Range<usize>, stride, kind| {
            regions.push(Region { name, table, range: range.clone(), stride, kind });
        };
        add("header", 0, &(0..HEADER_WORDS), 1, Kind::All);
        add("catalogue", 0, &layout.catalogue, 1, Kind::All);
        add("control", 0, &layout.control, LINE_WORDS, Kind::None);
        add("lanes", 0, &layout.lanes, LINE_WORDS, Kind::None);
        add("entries", 0, &layout.entries, 32, Kind::None);
        for (at, t) in layout.tables.iter().enumerate() {
            add("table control", at, &t.control, LINE_WORDS, Kind::None);
            add("dirty", at, &t.dirty, 1, Kind::None);
            add("taken cells", at, &t.taken_cells, 1, Kind::None);
            add("taken slots", at, &t.taken_slots, 1, Kind::None);
            add("taken index", at, &t.taken_index, 1, Kind::None);
            // The regions on which records depend are met more often.
            for _ in 0..3 {
                add("slot", at, &t.slots, t.slot_stride, Kind::Slots);
                add("cell", at, &t.cells, t.cell_stride, Kind::Cells);
                add("bucket", at, &t.buckets, 1, Kind::Buckets);
                add("index cell", at, &t.index, INDEX_CELL_WORDS, Kind::Index);
            }
        }
        add("end", 0, &(layout.total - 1..layout.total), 1, Kind::All);
        Self { regions, layout }
    }

    /// A wrong word anywhere.
    pub(super) fn wrong(&self, random: &mut Random, base: &[u64]) -> Wrong {
        let region = self.regions[random.below(self.regions.len())].clone();
        let things = region.range.len() / region.stride;
        // The words that come first say what the others are.
        let inside = region.stride.min(if random.below(3) > 0 { 4 } else { usize::MAX });
        let at = region.range.start + random.below(things) * region.stride + random.below(inside);
        let at = at.min(region.range.end - 1);
        let other = region.range.start + random.below(region.range.len());
        let old = base[at];
        let new = value(random, old, base[other]);
        Wrong { region, at, old, new: if new == old { !old } else { new } }
    }

    /// Which records may not be what they were.
    pub(super) fn touched(&self, scene: &Scene, wrong: &Wrong) -> Touched {
        let (base, table, region) = (&scene.base, wrong.region.table, &wrong.region);
        let layout = &self.layout.tables[table];
        let thing = (wrong.at - region.range.start) / region.stride;
        let slots_of = |key: &str| {
            let key = key.to_owned();
            (0..layout.geometry.slots as usize).filter(move |slot| {
                let start = layout.slots.start + slot * layout.slot_stride + SLOT_WORDS;
                let bytes: Vec<u8> =
                    base[start + 2..].iter().take(3).flat_map(|w| w.to_le_bytes()).collect();
                bytes.get(..base[start] as usize) == Some(key.as_bytes())
            })
        };
        let bucket = match region.kind {
            Kind::Buckets => thing as u32,
            Kind::Index => base[layout.index.start + thing * INDEX_CELL_WORDS + 1] as u32,
            _ => u32::MAX,
        };
        let slot = match region.kind {
            Kind::Slots => thing,
            Kind::Cells => {
                base[layout.cells.start + thing * layout.cell_stride + 1] as usize & 0xff_ffff
            }
            _ => usize::MAX,
        };
        let is = |key: &&String| bucket_of(key) == bucket || slots_of(key).any(|s| s == slot);
        let keys = scene.expected[table].keys().filter(is).map(|key| (table, key.clone()));
        Touched { all: region.kind == Kind::All, keys: keys.collect() }
    }

    /// Makes a changed header and catalogue pass the checksum.
    pub(super) fn seal(&self, words: &mut [u64]) {
        let bytes = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        let mut all = bytes(&words[..HEADER_WORDS - 1]);
        let length = (words[9] >> 32) as usize;
        let behind = bytes(&words[HEADER_WORDS..]);
        all.extend(behind.get(..length).unwrap_or_default());
        words[HEADER_WORDS - 1] = commonhold::hash::fnv1a_64(&all);
    }
}

/// What stands where `old` stood.
fn value(random: &mut Random, old: u64, other: u64) -> u64 {
    match random.below(14) {
        0..4 => old ^ 1 << random.below(64),
        4 => 0,
        5 => u64::MAX,
        6 => random.below(300) as u64,
        7 => other,
        8 => old.wrapping_add(1 << 40), // the next cell of a head
        9 => (random.below(140) as u64) << 40 | old & 0xff_ffff_ffff,
        10 => old & !3 | random.below(4) as u64, // another phase
        11 => old.wrapping_add(if random.below(2) == 0 { 1 } else { u64::MAX }),
        12 => END_MARK,
        _ => random.next(),
    }
}
