//! The way to stdout: lines for people, or exactly one JSON object. Writing to a closed pipe is an error that ends
//! the command quietly, never a panic.

use std::fmt::Display;
use std::io::{BufWriter, StdoutLock, Write};
use std::time::Duration;

use serde::Serialize;

use crate::failure::Done;

/// How the result is printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Format {
    /// Print one JSON object on stdout, and nothing else there.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Stdout, buffered; [`Output::finish`] writes what is left.
#[derive(Debug)]
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    /// Takes stdout.
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(std::io::stdout().lock()))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl Display) -> Done {
        Ok(writeln!(self.0, "{line}")?)
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: impl Display) -> Done {
        Ok(write!(self.0, "{text}")?)
    }

    /// Writes a value as JSON, without a line end.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Done {
        serde_json::to_writer(&mut self.0, value).map_err(std::io::Error::from)?;
        Ok(())
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&mut self) -> Done {
        Ok(self.0.flush()?)
    }

    /// Writes what is buffered, for the last time.
    pub(crate) fn finish(mut self) -> Done {
        self.flush()
    }
}

/// Prints one JSON object.
pub(crate) fn print_json(value: &impl Serialize) -> Done {
    let mut out = Output::new();
    out.json(value)?;
    out.line("")?;
    out.finish()
}

/// Prints one line.
pub(crate) fn print_line(line: impl Display) -> Done {
    let mut out = Output::new();
    out.line(line)?;
    out.finish()
}

/// A line on stderr that is no error; when nobody reads stderr, it is lost.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints rows in aligned columns, the first row being the heads; numbers stand to the right.
pub(crate) fn print_table(out: &mut Output, rows: &[Vec<String>]) -> Done {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, at: usize| row.get(at).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().map(|row| cell(row, at).chars().count()).max().unwrap_or(0))
        .collect();
    let numeric = |at: usize| {
        rows.iter()
            .skip(1)
            .all(|row| cell(row, at).starts_with(|c: char| c == '-' || c.is_ascii_digit()))
    };
    let right: Vec<bool> = (0..columns).map(|at| at > 0 && numeric(at)).collect();
    for row in rows {
        let mut line = String::new();
        for (at, (width, right)) in widths.iter().zip(&right).enumerate() {
            let text = cell(row, at);
            let gap = if at == 0 { "" } else { "  " };
            let padded = if *right {
                format!("{gap}{text:>width$}")
            } else {
                format!("{gap}{text:<width$}")
            };
            line.push_str(&padded);
        }
        out.line(line.trim_end())?;
    }
    Ok(())
}

/// A number of bytes for people.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// A length of time for people.
pub(crate) fn short_time(time: Duration) -> String {
    nanos_text(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// A length of time for people, from nanoseconds.
pub(crate) fn nanos_text(nanos: u64) -> String {
    match nanos {
        ..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{} us", nanos / 1_000),
        1_000_000..10_000_000_000 => format!("{} ms", nanos / 1_000_000),
        _ => time_text(nanos / 1_000_000_000),
    }
}

/// A length of time for people, from seconds.
pub(crate) fn time_text(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        let texts = [0, 1023, 1024, 1536, 150 << 20, u64::MAX].map(bytes_text);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "150 MiB", "16777216 TiB"]);
    }
}
