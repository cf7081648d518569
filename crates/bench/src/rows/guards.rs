//! Row 12: guards beside the mutexes: alone, with many processes, and what they add to an update.

use std::hint::black_box;
use std::time::Duration;

use commonhold::core::guard::{Grant, Patience};
use commonhold::{Commit, Error, Guard, GuardOptions, Handle, Table};

use crate::arena::{Arena, Line as Word};
use crate::crew::Crew;
use crate::locks::{Lock, Robustness, two_exchanges};
use crate::measure::{Figure, Way, each, in_turns};
use crate::place::{GUARD, LATEST, Place, Sample, find, key};
use crate::report::{Line, Report, rate, time};
use crate::worker::Job;
use crate::{Effort, Outcome};

/// The ways, in the order of their turns: rates, then waits.
const SECTIONS: [Job; 4] = [Job::Guard, Job::Pthread, Job::Robust, Job::RawSync];
const WAITS: [Job; 4] = [Job::GuardWait, Job::PthreadWait, Job::RobustWait, Job::RawSyncWait];

/// Row 12.
pub(crate) fn guards(effort: Effort, report: &mut Report) -> Outcome {
    alone(effort, report)?;
    for processes in effort.of(&[2, 64, 1000][..], &[2, 64]) {
        crate::watch::forget();
        together(effort, report, *processes)?;
    }
    crate::watch::forget();
    changes::<52>(effort, report)?;
    changes::<244>(effort, report)
}

/// Empty sections that nobody else wants.
fn empty(lock: &impl Lock, count: u64) -> Outcome<f64> {
    each(count, |_| lock.with(|| ()))
}

fn alone(effort: Effort, report: &mut Report) -> Outcome {
    let place = Place::both::<52>(16, 0)?;
    let handle = place.runtime.handle()?;
    let guard = Guard::new(&handle, GUARD, &GuardOptions::new())?;
    let bare = handle.guard(GUARD, None, "")?;
    let arena = Arena::create(0)?;
    let (plain, robust) = (arena.pthread(Robustness::Stalled), arena.pthread(Robustness::Robust));
    let raw_sync = arena.mutex()?;
    let word = Word(0.into());
    let count = effort.of(20_000, 5_000);
    let ways: [Way<'_>; 6] = [
        Box::new(|| empty(&guard, count)),
        Box::new(|| {
            each(count, |_| {
                let mut grant = Grant::of(bare);
                handle.acquire_into(&mut grant, Patience::Forever)?;
                Ok(handle.release(&grant)?)
            })
        }),
        Box::new(|| empty(&plain, count)),
        Box::new(|| empty(&robust, count)),
        Box::new(|| empty(&raw_sync, count)),
        Box::new(|| {
            each(count, |_| {
                two_exchanges(&word.0);
                Ok(())
            })
        }),
    ];
    let [guard, core, plain, robust, raw_sync, floor] = in_turns(effort.of(151, 51), ways)?;
    let line = |what: &str, ours: Figure| {
        let ratio = ours.median / plain.median;
        Line::new(12, what, ours.to_string())
            .limit(format!("two compare-exchanges {floor}"))
            .peer(format!("pthread mutex {plain}; robust {robust}; raw_sync {raw_sync}"))
            .ratio(format!(
                "{ratio:.2} × pthread mutex (best of each {:.2}); {:.2} × robust",
                ours.best / plain.best,
                ours.median / robust.median
            ))
            .target("≤ 1.5 × pthread mutex", ratio <= 1.5)
    };
    report.add(&line("empty section, nobody else there", guard));
    report.add(&line("the same, acquire and release of the core", core));
    Ok(())
}

/// Short sections of so many processes.
fn together(effort: Effort, report: &mut Report, processes: usize) -> Outcome {
    let place = Place::both::<244>(processes as u32 + 16, 0)?;
    let crew = Crew::start(processes, &place.path()?)?;
    let time_each = Duration::from_millis(effort.of(1000, 300));
    let mut samples = [const { Vec::new() }; SECTIONS.len()];
    for _ in 0..effort.of(5, 1) {
        for (job, samples) in SECTIONS.into_iter().zip(&mut samples) {
            samples.push(crew.round(job, processes, time_each)?.rate);
        }
    }
    let mut waits = [[0.0; 2]; WAITS.len()];
    for (job, wait) in WAITS.into_iter().zip(&mut waits) {
        let round = crew.round(job, processes, time_each * 2)?;
        *wait = [round.quantile(0.999), round.rate];
    }
    let rates = samples.map(|mut s| Figure::of(&mut s).median);
    let [ours, plain, robust, raw_sync] = rates;
    let peers = |[a, b, c]: [String; 3]| format!("pthread mutex {a}; robust {b}; raw_sync {c}");
    let what = format!("short section, {processes} processes");
    let line = Line::new(12, what, rate(ours))
        .peer(peers([plain, robust, raw_sync].map(rate)))
        .ratio(format!("{:.2} × pthread mutex; {:.2} × robust", ours / plain, ours / robust));
    report.add(&line);
    let [ours, plain, robust, raw_sync] = waits.map(|[tail, _]| tail);
    let what = format!("the same, 99.9 % of the waits, {processes} processes");
    let line = Line::new(12, what, format!("≤ {}", time(ours)))
        .peer(peers([plain, robust, raw_sync].map(|tail| format!("≤ {}", time(tail)))))
        .ratio(format!("{:.2} × pthread mutex; {:.2} × robust", ours / plain, ours / robust));
    report.add(&line);
    Ok(())
}

/// One record changed without a guard and with one, and two with one.
fn changes<const N: usize>(effort: Effort, report: &mut Report) -> Outcome {
    let bytes = N + 12;
    let place = Place::both::<N>(16, 0)?;
    let handle = place.runtime.handle()?;
    let table: Table<Sample<N>, &Handle> = Table::new(&handle, LATEST)?;
    let guard = Guard::new(&handle, GUARD, &GuardOptions::new())?;
    let record = find(&table, 1)?.first().copied().ok_or("no record")?;
    let (free, one, two) = (key(0), key(1), key(2));
    let count = effort.of(4_000, 1_000);
    let ways: [Way<'_>; 4] = [
        Box::new(|| {
            each(count, |_| {
                let done = table.update_at(record, |sample| sample.value += 1)?;
                black_box(done.as_ref().map(Commit::version)).ok_or("the record is gone")?;
                Ok(())
            })
        }),
        Box::new(|| {
            each(count, |_| {
                black_box(table.update(&free, |sample| sample.value += 1)?.version());
                Ok(())
            })
        }),
        Box::new(|| each(count, |_| Ok(change(&guard, &table, &[&one])?))),
        Box::new(|| each(count, |_| Ok(change(&guard, &table, &[&one, &two])?))),
    ];
    let [by_record, by_key, one, two] = in_turns(effort.of(101, 31), ways)?;
    let line = |what: &str, ours: Figure, without: f64| {
        Line::new(12, format!("{what}, {bytes} B"), ours.to_string())
            .limit(format!("without a guard {by_key} by key, {} by record", time(by_record.median)))
            .ratio(format!("{:.2} × without", ours.median / without))
    };
    report.add(&line("change of one record under a guard", one, by_key.median));
    report.add(&line("change of two records under a guard", two, 2.0 * by_key.median));
    Ok(())
}

fn change<const N: usize>(
    guard: &Guard<&Handle>,
    table: &Table<Sample<N>, &Handle>,
    keys: &[&str],
) -> Result<(), Error> {
    guard.change(|changes| {
        for key in keys {
            changes.update(table, key, |sample| sample.value += 1)?;
        }
        Ok(())
    })
}
