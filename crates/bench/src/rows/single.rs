//! Rows 1 and 2: one process alone, updates and reads by handle, lookup by key.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use commonhold::{Commit, Handle, RecordRef, Table};

use crate::measure::{Figure, Way, each, in_turns};
use crate::peers::BareSteps;
use crate::place::{FULL, LATEST, LATEST_AT, Place, Sample, find, key, raise};
use crate::report::{Line, Report, time};
use crate::{Effort, Outcome};

/// Versions that may wait for the store; a batch of updates stays below it.
const JOURNAL: u32 = 65_536;

/// Row 1.
pub(crate) fn update(effort: Effort, report: &mut Report) -> Outcome {
    update_of::<52>(effort, report, 80.0)?;
    update_of::<244>(effort, report, 160.0)?;
    update_of::<1012>(effort, report, 550.0)
}

/// A batch of updates of one record.
fn updates<const N: usize>(
    table: &Table<Sample<N>>,
    record: RecordRef,
    count: u64,
) -> Outcome<f64> {
    each(count, |_| {
        let done = table.update_at(record, |sample| sample.value += 1)?;
        black_box(done.as_ref().map(Commit::version)).ok_or("the record is gone")?;
        Ok(())
    })
}

fn raw_updates(handle: &Handle, record: RecordRef, count: u64) -> Outcome<f64> {
    each(count, |_| {
        let done = handle.update_at(LATEST_AT, record, raise).map_err(|e| format!("{e:?}"))?;
        black_box(done.map(|c| c.version)).ok_or("the record is gone")?;
        Ok(())
    })
}

fn update_of<const N: usize>(effort: Effort, report: &mut Report, target: f64) -> Outcome {
    let bytes = N + 12;
    let place = Place::both::<N>(16, JOURNAL)?;
    let latest = place.runtime.table::<Sample<N>>(LATEST)?;
    let full = place.runtime.table::<Sample<N>>(FULL)?;
    let first = |table: &Table<Sample<N>>| find(table, 1).map(|refs| refs.first().copied());
    let record = first(&latest)?.ok_or("no record")?;
    let journal = first(&full)?.ok_or("no record")?;
    let count = effort.of(4_000, 2_000);
    let (mut bare, mut hash) = (BareSteps::new(bytes), BareSteps::new(bytes));
    let ways: [Way<'_>; 5] = [
        Box::new(|| updates(&latest, record, count)),
        Box::new(|| raw_updates(latest.handle(), record, count)),
        Box::new(|| {
            each(count, |_| {
                bare.update();
                Ok(())
            })
        }),
        Box::new(|| {
            each(count, |_| {
                hash.hash();
                Ok(())
            })
        }),
        Box::new(|| {
            let nanos = updates(&full, journal, count)?;
            place.runtime.drain(Duration::from_secs(60))?;
            Ok(nanos)
        }),
    ];
    let [typed, raw, bare, hash, full] = in_turns(effort.of(151, 51), ways)?;
    let bare_text = format!("bare steps {bare}; the hash alone {}", time(hash.median));
    let line = |what: &str, ours: Figure| {
        Line::new(1, format!("{what}, {bytes} B"), ours.to_string())
            .limit(&bare_text)
            .ratio(format!("{:.2} × limit", ours.median / bare.median))
    };
    let reached = typed.median <= target;
    report.add(&line("update, typed", typed).target(format!("≤ {target} ns"), reached));
    report.add(&line("update, as bytes", raw));
    report.add(&line("update, typed, full history", full));
    Ok(())
}

/// Row 2.
pub(crate) fn read(effort: Effort, report: &mut Report) -> Outcome {
    read_of::<52>(effort, report, 15.0)?;
    read_of::<244>(effort, report, 25.0)
}

fn read_of<const N: usize>(effort: Effort, report: &mut Report, target: f64) -> Outcome {
    const KEYS: usize = 64;
    let bytes = N + 12;
    let place = Place::both::<N>(16, JOURNAL)?;
    let table = place.runtime.table::<Sample<N>>(LATEST)?;
    let handle = table.handle();
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let records = find(&table, KEYS)?;
    let map: HashMap<&str, Sample<N>> =
        keys.iter().map(|k| Ok((k.as_str(), Sample::new()?))).collect::<Outcome<_>>()?;
    let record = |n: u64| records.get(n as usize % KEYS).copied().ok_or("no record");
    let name = |n: u64| keys.get(n as usize % KEYS).map(String::as_str).ok_or("no key");
    let count = effort.of(20_000, 5_000);
    let mut bare = BareSteps::new(bytes);
    let ways: [Way<'_>; 5] = [
        Box::new(|| {
            each(count, |n| {
                black_box(table.get_at(record(n)?)?).ok_or("the record is gone")?;
                Ok(())
            })
        }),
        Box::new(|| {
            each(count, |n| {
                let read = handle.read_at(LATEST_AT, record(n)?, |seen| {
                    black_box(&seen.payload);
                })?;
                Ok(read.ok_or("the record is gone")?)
            })
        }),
        Box::new(|| {
            each(count, |n| {
                black_box(table.get(name(n)?)?).ok_or("the record is gone")?;
                Ok(())
            })
        }),
        Box::new(|| {
            each(count, |n| {
                black_box(map.get(name(n)?).cloned()).ok_or("the record is gone")?;
                Ok(())
            })
        }),
        Box::new(|| {
            each(count, |_| {
                bare.copy();
                Ok(())
            })
        }),
    ];
    let [typed, raw, by_key, map, copy] = in_turns(effort.of(151, 51), ways)?;
    let line = |what: &str, ours: Figure| {
        Line::new(2, format!("{what}, {bytes} B"), ours.to_string())
            .limit(format!("one copy {copy}"))
            .ratio(format!("{:.1} × limit", ours.median / copy.median))
    };
    let goal = format!("≤ {target} ns");
    report.add(&line("read by handle, as bytes", raw).target(&goal, raw.median <= target));
    report.add(&line("read by handle, typed", typed).target(&goal, typed.median <= target));
    let adds = by_key.median - typed.median;
    let line = Line::new(2, format!("lookup by a 16-byte key adds, {bytes} B"), time(adds))
        .peer(format!("HashMap get and clone {map}"))
        .ratio(format!("whole {:.1} × peer", by_key.median / map.median));
    report.add(&line.target("≤ 50 ns", adds <= 50.0));
    Ok(())
}
