//! Rows 10 and 11: what more participants and more records cost, and attaching to a large segment.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commonhold::catalogue::History;
use commonhold::{Commit, Config, Handle, Runtime, TableConfig};
use commonhold_os::mapping::Mapping;
use memmap2::{MmapOptions, MmapRaw};

use crate::arena::shared_file;
use crate::measure::{Figure, Random, Way, each, in_turns};
use crate::peers::exchange;
use crate::place::{LATEST, Place, Sample, fill, find};
use crate::report::{Line, Report, time};
use crate::{Effort, Outcome};

type Small = Sample<52>;
/// Words of a slot and of a cell in the memory that the floor works on: those of a record of 64 bytes.
const SLOT: usize = 16;
const CELL: usize = 32;

/// Row 10.
pub(crate) fn growth(effort: Effort, report: &mut Report) -> Outcome {
    participants(effort, report)?;
    records(effort, report)
}

fn participants(effort: Effort, report: &mut Report) -> Outcome {
    let place = Place::both::<52>(2100, 0)?;
    let table = place.runtime.table::<Small>(LATEST)?;
    let record = find(&table, 1)?.first().copied().ok_or("no record")?;
    let mut attached: Vec<Handle> = Vec::new();
    let mut alone = None;
    for count in [1, 100, 1000, 2000] {
        while attached.len() + 1 < count {
            attached.push(place.runtime.handle()?);
        }
        let update: Way<'_> = Box::new(|| {
            each(effort.of(4_000, 2_000), |_| {
                let done = table.update_at(record, |sample| sample.value += 1)?;
                black_box(done.as_ref().map(Commit::version)).ok_or("the record is gone")?;
                Ok(())
            })
        });
        let [ours] = in_turns(effort.of(151, 51), [update])?;
        let alone = *alone.get_or_insert(ours.median);
        let ratio = ours.median / alone;
        let what = format!("update of 64 B with {count} participants attached");
        let line = Line::new(10, what, ours.to_string()).ratio(format!("{ratio:.2} × one"));
        report.add(&if count > 1 { line.target("flat (≤ 1.1 ×)", ratio <= 1.1) } else { line });
    }
    Ok(())
}

/// The bare memory of `count` records: slots that name cells, in shared memory as the runtime's.
struct Floor {
    memory: MmapRaw,
    names: Vec<[u64; 4]>,
    spare: u64,
}

impl Floor {
    fn new(count: usize) -> Outcome<Self> {
        let file = shared_file(8 * (count * (SLOT + CELL) + CELL))?;
        let memory = MmapOptions::new().map_raw(&file)?;
        let names = (0..count as u64).map(|n| [n; 4]).collect();
        let floor = Self { memory, names, spare: count as u64 };
        for (number, word) in (0..count as u64).zip(floor.words().iter().step_by(SLOT)) {
            word.store(number, Ordering::Relaxed);
        }
        let cells = floor.words().get(count * SLOT..).unwrap_or_default();
        cells.iter().for_each(|word| word.store(1, Ordering::Relaxed));
        Ok(floor)
    }

    fn words(&self) -> &[AtomicU64] {
        let length = self.memory.len() / 8;
        // SAFETY: a page-aligned mapping of so many words that outlives the borrow; any bits are valid.
        unsafe { std::slice::from_raw_parts(self.memory.as_mut_ptr().cast::<AtomicU64>(), length) }
    }

    /// Copies the cell of a random record into the spare one and exchanges the two.
    fn swap(&mut self, random: &mut Random) -> Outcome {
        let count = self.names.len();
        let [name, ..] = self.names.get(random.below(count)).ok_or("no name")?;
        let words = self.words();
        let slot = words.get(*name as usize * SLOT).ok_or("no slot")?;
        let cell = |index: u64| {
            let start = count * SLOT + index as usize * CELL;
            words.get(start..start + 25).ok_or("no cell")
        };
        let old = slot.load(Ordering::Acquire);
        let (from, to) = (cell(old)?, cell(self.spare)?);
        for (to, from) in to.iter().zip(from) {
            to.store(from.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        // Three exchanges as in an update: the head's and two ownership words'.
        let first = |cell: &[AtomicU64]| cell.first().map(exchange).ok_or("an empty cell");
        slot.compare_exchange(old, self.spare, Ordering::SeqCst, Ordering::Relaxed)
            .map_err(|_| "somebody else was here")?;
        first(from)?;
        first(to)?;
        self.spare = old;
        Ok(())
    }
}

fn records(effort: Effort, report: &mut Report) -> Outcome {
    let mut one: Option<[f64; 2]> = None;
    for count in effort.of(&[1, 1000, 100_000, 1_000_000][..], &[1, 1000, 100_000]) {
        let [ours, floor] = random_updates(effort, *count)?;
        let [ours_one, floor_one] = *one.get_or_insert([ours.median, floor.median]);
        let (more, memory) = (ours.median - ours_one, floor.median - floor_one);
        let what = format!("update of 64 B at random among {count} records, no store");
        let line = Line::new(10, what, ours.to_string())
            .limit(format!("the bare swap in as much memory {floor}"))
            .ratio(format!(
                "{} more than with one; the bare swap {} more",
                time(more),
                time(memory)
            ));
        let flat = more <= memory.max(0.0) * 1.5 + 0.1 * ours_one;
        report.add(&if *count > 1 {
            line.target("flat but for the memory (≤ 1.5 × its increase + 10 %)", flat)
        } else {
            line
        });
    }
    Ok(())
}

fn random_updates(effort: Effort, count: usize) -> Outcome<[Figure; 2]> {
    let table = TableConfig::of::<Small>(LATEST).history(History::Latest).slots(count as u32);
    let config = Config::ephemeral().participants(16).without_steward().table(table);
    let runtime = Runtime::open(config)?;
    let table = runtime.table::<Small>(LATEST)?;
    let records = fill(&table, count)?;
    let mut floor = Floor::new(count)?;
    let (mut random, mut again) = (Random::new(1), Random::new(1));
    let batch = effort.of(200_000, 50_000);
    let ways: [Way<'_>; 2] = [
        Box::new(|| {
            each(batch, |_| {
                let record = records.get(random.below(count)).ok_or("no record")?;
                let done = table.update_at(*record, |sample| sample.value += 1)?;
                black_box(done.as_ref().map(Commit::version)).ok_or("the record is gone")?;
                Ok(())
            })
        }),
        Box::new(|| each(batch, |_| floor.swap(&mut again))),
    ];
    in_turns(effort.of(9, 5), ways)
}

/// Row 11.
pub(crate) fn attach(effort: Effort, report: &mut Report) -> Outcome {
    // 1 KiB a record: cell, slot and index.
    let table = TableConfig::of::<Sample<1012>>(LATEST).history(History::Latest).slots(760_000);
    let place = Place::new(|config| config.table(table))?;
    let path = place.runtime.path().ok_or("the segment has no file")?.to_owned();
    let name = place.path()?;
    let bytes = std::fs::metadata(&path)?.len();
    let attach = || Runtime::open(Config::named(&name).attach_only().without_steward());
    let ways: [Way<'_>; 3] = [
        Box::new(|| {
            each(1, |_| {
                black_box(attach()?);
                Ok(())
            })
        }),
        Box::new(|| {
            each(1, |_| {
                black_box(attach()?.table::<Sample<1012>>(LATEST)?.get("nobody")?);
                Ok(())
            })
        }),
        Box::new(|| {
            each(1, |_| {
                black_box(Mapping::attach(&path, true)?);
                Ok(())
            })
        }),
    ];
    let [ours, first, limit] = in_turns(effort.of(200, 50), ways)?;
    let size = format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30));
    let line = |what: &str, figure: Figure| {
        Line::new(11, format!("{what} {size}"), figure.to_string())
            .limit(format!("open, map and unmap the file {limit}"))
            .ratio(format!("{:.1} × limit", figure.median / limit.median))
    };
    let reached = ours.median <= Duration::from_micros(200).as_nanos() as f64;
    report.add(&line("attach to and detach from", ours).target("≤ 200 µs", reached));
    report.add(&line("the same with a participant and a first lookup,", first));
    Ok(())
}
