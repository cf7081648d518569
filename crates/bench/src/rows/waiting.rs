//! Row 6: from an update to the one who waits for it.

use std::time::Duration;

use crate::crew::Crew;
use crate::measure::Figure;
use crate::place::Place;
use crate::report::{Line, Report, time};
use crate::worker::Job;
use crate::{Effort, Outcome};

/// Row 6.
pub(crate) fn woken(effort: Effort, report: &mut Report) -> Outcome {
    let place = Place::both::<244>(18, 0)?;
    let crew = Crew::start(2, &place.path()?)?;
    let jobs = [Job::TurnAsleep, Job::FutexAsleep, Job::TurnRunning, Job::FutexRunning];
    let mut samples = [const { Vec::new() }; 4];
    let span = Duration::from_millis(effort.of(500, 200));
    for _ in 0..effort.of(7, 3) {
        for (job, samples) in jobs.into_iter().zip(&mut samples) {
            samples.extend(crew.round(job, 2, span)?.samples);
        }
    }
    let [asleep, futex_asleep, running, futex_running] = samples.map(|mut s| Figure::of(&mut s));
    let ratio = asleep.median / futex_asleep.median;
    let line = Line::new(
        6,
        "wait → woken, the waiter asleep (update and read included)",
        asleep.to_string(),
    )
    .limit(format!("bare futex {futex_asleep}"))
    .ratio(format!("{ratio:.2} × limit"));
    report.add(&line.target("≤ 1.1 × bare futex", ratio <= 1.1));
    let line = Line::new(6, "the same, both running", running.to_string())
        .limit(format!("bare futex, 200 looks first {futex_running}"))
        .ratio(format!("{} more", time(running.median - futex_running.median)));
    report.add(&line.target("≤ 0.3 µs", running.median <= 300.0));
    Ok(())
}
