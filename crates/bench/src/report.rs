//! The report: one line of a Markdown table a measurement, printed as soon as it is there.

use crate::watch;

/// One measurement; what is not set prints as a dash.
#[derive(Debug, Default)]
pub(crate) struct Line {
    row: u32,
    what: String,
    ours: String,
    limit: String,
    peer: String,
    ratio: String,
    target: String,
    reached: Option<bool>,
}

/// The lines so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    reached: u32,
    unjudged: u32,
    missed: Vec<String>,
}

impl Line {
    pub(crate) fn new(row: u32, what: impl Into<String>, ours: impl Into<String>) -> Self {
        Self { row, what: what.into(), ours: ours.into(), ..Self::default() }
    }

    /// The floor: what no implementation can beat.
    pub(crate) fn limit(self, limit: impl Into<String>) -> Self {
        Self { limit: limit.into(), ..self }
    }

    /// What others do.
    pub(crate) fn peer(self, peer: impl Into<String>) -> Self {
        Self { peer: peer.into(), ..self }
    }

    pub(crate) fn ratio(self, ratio: impl Into<String>) -> Self {
        Self { ratio: ratio.into(), ..self }
    }

    pub(crate) fn target(self, target: impl Into<String>, reached: bool) -> Self {
        Self { target: target.into(), reached: Some(reached), ..self }
    }
}

impl Report {
    pub(crate) fn start() -> Self {
        println!("| row | what | ours | limit | peer | ratio | target | reached | others |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        Self::default()
    }

    pub(crate) fn add(&mut self, line: &Line) {
        let disturbed = watch::worst();
        let verdict = line.reached.filter(|_| disturbed <= watch::DISTURBED);
        let reached = match (line.reached, verdict) {
            (None, _) => "–".to_owned(),
            (_, Some(true)) => "yes".to_owned(),
            (_, Some(false)) => "**no**".to_owned(),
            _ => "not judged".to_owned(),
        };
        let reached = format!("{reached} | {:.0} %", 100.0 * disturbed);
        let cells = [&line.what, &line.ours, &line.limit, &line.peer, &line.ratio, &line.target]
            .map(|cell| if cell.is_empty() { "–" } else { cell.as_str() });
        println!("| {} | {} | {reached} |", line.row, cells.join(" | "));
        match verdict {
            Some(true) => self.reached += 1,
            Some(false) => self.missed.push(format!("{}: {}", line.row, line.what)),
            None => self.unjudged += u32::from(line.reached.is_some()),
        }
    }

    pub(crate) fn end(&self) {
        println!(
            "\n{} targets reached, {} missed, {} not judged because others used the machine",
            self.reached,
            self.missed.len(),
            self.unjudged
        );
        for missed in &self.missed {
            println!("- missed: row {missed}");
        }
    }
}

/// A rate with its unit.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        r if r >= 1e6 => format!("{:.2} M/s", r / 1e6),
        r if r >= 1e3 => format!("{:.1} k/s", r / 1e3),
        r => format!("{r:.0} /s"),
    }
}

/// A time with its unit.
pub(crate) fn time(nanos: f64) -> String {
    match nanos {
        n if n >= 1e6 => format!("{:.2} ms", n / 1e6),
        n if n >= 1e4 => format!("{:.1} µs", n / 1e3),
        n if n >= 1e3 => format!("{:.2} µs", n / 1e3),
        n => format!("{n:.1} ns"),
    }
}
