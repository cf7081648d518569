//! Row 15: all metrics of a segment as text, with many processes attached.

use std::hint::black_box;

use commonhold::Metrics;
use commonhold::metrics::prometheus_text;

use crate::crew::Crew;
use crate::measure::{Figure, Way, each, in_turns};
use crate::place::Place;
use crate::report::{Line, Report, time};
use crate::{Effort, Outcome};

/// Histograms of times, and counters, as a daemon with all its parts registers; about.
const HISTOGRAMS: usize = 8;
const COUNTERS: usize = 32;
/// The most that a scrape may take, in nanoseconds.
const TARGET: f64 = 20e6;

/// Row 15.
pub(crate) fn scrape(effort: Effort, report: &mut Report) -> Outcome {
    let place = Place::both_with::<244>(1100, 0, |config| config.share_words(2048))?;
    register(&place.runtime.metrics()?)?;
    let mut alone = None;
    for count in [1, 1000] {
        // Each is a process of its own: the kernel is asked for each whether it lives.
        let _crew = Crew::start(count, &place.path()?)?;
        let samples = || {
            each(1, |_| {
                black_box(place.runtime.samples()?);
                Ok(())
            })
        };
        let text = || {
            each(1, |_| {
                black_box(prometheus_text(&place.runtime.samples()?));
                Ok(())
            })
        };
        let asked = || {
            each(1, |_| {
                black_box(place.runtime.space().participants());
                Ok(())
            })
        };
        let ways: [Way<'_>; 3] = [Box::new(text), Box::new(samples), Box::new(asked)];
        let [text, samples, asked] = in_turns(effort.of(101, 21), ways)?;
        report.add(&line(count, [text, samples, asked], *alone.get_or_insert(text.median)));
    }
    Ok(())
}

fn register(metrics: &Metrics) -> Outcome {
    for number in 0..HISTOGRAMS {
        let histogram = metrics.histogram(&format!("bench_{number}_seconds"), "A time.")?;
        histogram.observe(1 << 20)?;
    }
    for number in 0..COUNTERS {
        metrics.counter(&format!("bench_{number}_total"), "A count.")?.inc()?;
    }
    Ok(())
}

fn line(count: usize, [text, samples, asked]: [Figure; 3], alone: f64) -> Line {
    let what = format!("scrape with {count} processes attached");
    let of_it =
        format!("counted {}, of that who lives {}", time(samples.median), time(asked.median));
    let line = Line::new(15, what, text.to_string())
        .limit(of_it)
        .ratio(format!("{:.2} × one", text.median / alone));
    line.target("≤ 20 ms", text.median <= TARGET)
}
