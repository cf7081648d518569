//! Rows 3, 4 and 5: many processes on one record, and two on many.

use std::time::Duration;

use crate::crew::Crew;
use crate::measure::Figure;
use crate::place::Place;
use crate::report::{Line, Report, rate, time};
use crate::worker::Job;
use crate::{Effort, Outcome};

/// The ways, in the order of their turns.
const WAYS: [Job; 6] =
    [Job::Hot, Job::HotRaw, Job::MutexFnv, Job::MutexState, Job::Mutex, Job::Exchange];

/// What one number of processes gave: rates in the order of [`WAYS`], 99.9 % times of ours and the mutex.
struct Point {
    rates: [f64; WAYS.len()],
    tails: [f64; 2],
}

fn point(effort: Effort, processes: usize) -> Outcome<Point> {
    crate::watch::forget();
    let place = Place::both::<244>(processes as u32 + 16, 0)?;
    let crew = Crew::start(processes, &place.path()?)?;
    let time = Duration::from_millis(effort.of(1000, 400));
    let mut samples = [const { Vec::new() }; WAYS.len()];
    for _ in 0..effort.of(3, 1) {
        for (job, samples) in WAYS.into_iter().zip(&mut samples) {
            samples.push(crew.round(job, processes, time)?.rate);
        }
    }
    let rates = samples.map(|mut s| Figure::of(&mut s).median);
    let mut tails = [0.0; 2];
    for (tail, job) in tails.iter_mut().zip([Job::HotTimed, Job::MutexFnvTimed]) {
        *tail = crew.round(job, processes, time * 2)?.quantile(0.999);
    }
    Ok(Point { rates, tails })
}

/// Row 3, and row 4 with its figures.
pub(crate) fn one_record(effort: Effort, report: &mut Report) -> Outcome {
    let mut alone = None;
    for processes in effort.of(&[1, 8, 64, 1000][..], &[1, 8, 64]) {
        let point = point(effort, *processes)?;
        add_point(report, *processes, &point);
        let (alone, before) = *alone.get_or_insert((point.rates[0], crate::watch::worst()));
        crate::watch::note(before);
        if *processes > 1 {
            let share = point.rates[0] / alone;
            let ours = format!("{} of {}", rate(point.rates[0]), rate(alone));
            let what = format!("hot record against its serial bound, {processes} processes");
            let line = Line::new(4, what, ours).ratio(format!("{:.0} %", share * 100.0));
            report.add(&line.target("≥ 50 %, then 80 %", share >= 0.5));
        }
    }
    Ok(())
}

fn add_point(report: &mut Report, processes: usize, point: &Point) {
    let [typed, raw, fnv, state, mutex, exchange] = point.rates;
    let what = format!("hot 256 B record, typed, {processes} processes");
    let line = Line::new(3, what, rate(typed))
        .limit(format!("raw compare-exchange {}", rate(exchange)))
        .peer(format!("mutex with FNV-1a {}; with our hash {}; without {}", rate(fnv), rate(state), rate(mutex)))
        .ratio(format!(
            "{:.1} × mutex with FNV-1a; {:.1} × with our hash; {:.1} × without; {:.0} % of compare-exchange",
            typed / fnv,
            typed / state,
            typed / mutex,
            100.0 * typed / exchange
        ));
    let line = if processes < 1000 {
        line
    } else {
        let reached = typed >= 4e6 && typed >= 5.0 * fnv && typed >= 0.2 * exchange;
        line.target("≥ 4 M/s; ≥ 5 × mutex with FNV-1a; ≥ 20 % of compare-exchange", reached)
    };
    report.add(&line);
    let what = format!("the same, as bytes, {processes} processes");
    report
        .add(&Line::new(3, what, rate(raw)).ratio(format!("{:.1} × mutex with FNV-1a", raw / fnv)));
    let [ours, theirs] = point.tails;
    let what = format!("the same, 99.9 % of the times, {processes} processes");
    let line = Line::new(3, what, format!("≤ {}", time(ours)))
        .peer(format!("mutex with FNV-1a ≤ {}", time(theirs)))
        .ratio(format!("{:.0} times shorter", theirs / ours));
    let line = if processes < 1000 { line } else { line.target("≤ 100 µs", ours <= 100_000.0) };
    report.add(&line);
}

/// Row 4 is measured with row 3.
pub(crate) fn serial_bound(_: Effort, _: &mut Report) -> Outcome {
    Ok(())
}

/// Row 5.
pub(crate) fn many_records(effort: Effort, report: &mut Report) -> Outcome {
    let stored = Place::both::<244>(18, 0)?;
    let ours = scaling(effort, &stored)?;
    let [one, two, bare_one, bare_two] = ours;
    let share = two / (2.0 * one);
    let bare = bare_two / (2.0 * bare_one);
    let line = Line::new(
        5,
        "1024 records of 256 B, 2 processes",
        format!("{}; one {}", rate(two), rate(one)),
    )
    .limit(format!("bare steps in memory of one's own {}; one {}", rate(bare_two), rate(bare_one)))
    .ratio(format!("{:.0} % of 2 × one; the bare steps {:.0} %", share * 100.0, bare * 100.0));
    report.add(&line.target("≥ 85 % of 2 × one", share >= 0.85));
    drop(stored);
    let [one, two, ..] = scaling(effort, &without_store()?)?;
    let what = "the same without store and steward";
    let line = Line::new(5, what, format!("{}; one {}", rate(two), rate(one)))
        .ratio(format!("{:.0} % of 2 × one", 50.0 * two / one));
    report.add(&line);
    Ok(())
}

fn scaling(effort: Effort, place: &Place) -> Outcome<[f64; 4]> {
    let crew = Crew::start(2, &place.path()?)?;
    let time = Duration::from_millis(effort.of(1000, 300));
    let turns = [(Job::Spread, 1), (Job::Spread, 2), (Job::SpreadBare, 1), (Job::SpreadBare, 2)];
    let mut samples = [const { Vec::new() }; 4];
    for _ in 0..effort.of(5, 3) {
        for ((job, active), samples) in turns.into_iter().zip(&mut samples) {
            samples.push(crew.round(job, active, time)?.rate);
        }
    }
    Ok(samples.map(|mut s| Figure::of(&mut s).median))
}

fn without_store() -> Outcome<Place> {
    Place::both_with::<244>(18, 0, |config| config.store("none").without_steward())
}
