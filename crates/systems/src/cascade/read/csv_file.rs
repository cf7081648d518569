//! CSV files: a row a sample, a column a node.

use std::io::Read;

use csv::{ByteRecord, ReaderBuilder};

use super::{FILE_SAMPLES_MAX, ReadOptions, Recording, Signal, Wrong, check_channels, span};

/// The largest file that is read, so that no other one fills the memory.
const FILE_BYTES_MAX: usize = 1 << 28;
/// How far a time may be off an even grid, in steps.
const UNEVEN_MAX: f64 = 0.1;
/// What is shown of a field that is no number.
const SHOWN_CHARS: usize = 40;

/// Columns of numbers, with what is known of them.
struct Table {
    names: Option<Vec<String>>,
    columns: Vec<Vec<f64>>,
    /// The line of each row.
    lines: Vec<usize>,
}

/// Reads what is wanted of a CSV file.
pub(super) fn read(file: impl Read, options: &ReadOptions) -> Result<Recording, Wrong> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(Wrong::File)?;
    if bytes.len() > FILE_BYTES_MAX {
        let most = FILE_BYTES_MAX >> 20;
        return Err(Wrong::Content(format!("larger than {most} MiB; cut it into parts")));
    }
    let mut table = table(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes))?;
    let unit = time_unit(&table, options.rate_hz)?;
    let time = unit.map(|unit| (table.columns.remove(0), unit));
    let mut names = match table.names.take() {
        Some(names) => names,
        None => (0..table.columns.len() + usize::from(time.is_some()))
            .map(|column| format!("column {}", column + 1))
            .collect(),
    };
    if time.is_some() {
        names.remove(0);
    }
    check_channels(table.columns.len())?;
    let rate_hz = match (options.rate_hz, time) {
        (Some(rate_hz), _) => rate_hz,
        (None, Some((times, unit))) => rate(&times, unit, &table.lines)?,
        (None, None) => return Err(no_rate()),
    };
    super::super::signal::check_rate(rate_hz).map_err(Wrong::Signal)?;
    let (from, to) = span(options, rate_hz, table.lines.len())?;
    let cut = |column: Vec<f64>| column.get(from..to).unwrap_or_default().to_vec();
    let columns = table.columns.into_iter().map(cut).collect();
    Ok(Recording { signal: Signal::new(rate_hz, columns).map_err(Wrong::Signal)?, names })
}

fn no_rate() -> Wrong {
    let why = "no time column: give the sample rate, or name the first column `time`";
    Wrong::Content(why.to_owned())
}

/// Reads all rows.
fn table(bytes: &[u8]) -> Result<Table, Wrong> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .delimiter(delimiter(bytes))
        .from_reader(bytes);
    let mut table = Table { names: None, columns: Vec::new(), lines: Vec::new() };
    let (mut row, mut line) = (ByteRecord::new(), Lines::new(bytes));
    let mut width = 0;
    let damaged = |error: csv::Error| Wrong::Content(format!("no CSV file: {error}"));
    while reader.read_byte_record(&mut row).map_err(damaged)? {
        let number = line.of(row.position().map_or(0, |position| position.byte() as usize));
        if width == 0 {
            width = row.len();
            table.columns = vec![Vec::new(); width];
            if row.iter().any(|field| value(field).is_none()) {
                let name = |field| String::from_utf8_lossy(field).trim().to_owned();
                table.names = Some(row.iter().map(name).collect());
                continue;
            }
        }
        if row.len() != width {
            let why =
                format!("{} fields, and {width} in the first row; make them equal", row.len());
            return Err(Wrong::Line(number, why));
        }
        for (at, (field, column)) in row.iter().zip(&mut table.columns).enumerate() {
            let number_of = value(field).filter(|value| value.is_finite());
            column.push(number_of.ok_or_else(|| no_number(&table.names, number, at, field))?);
        }
        table.lines.push(number);
        if table.lines.len() * width > FILE_SAMPLES_MAX {
            let why = format!("more than {FILE_SAMPLES_MAX} numbers; cut it into parts");
            return Err(Wrong::Content(why));
        }
    }
    if table.lines.is_empty() {
        return Err(Wrong::Content("no row of numbers; a row a sample is read".to_owned()));
    }
    Ok(table)
}

/// What separates the fields: a semicolon or a tab if one stands in the first row, else a comma.
fn delimiter(bytes: &[u8]) -> u8 {
    let rows = bytes.split(|byte| *byte == b'\n');
    let first = rows.into_iter().find(|row| !row.trim_ascii().is_empty() && !row.starts_with(b"#"));
    let first = first.unwrap_or_default();
    [b';', b'\t'].into_iter().find(|separator| first.contains(separator)).unwrap_or(b',')
}

fn value(field: &[u8]) -> Option<f64> {
    std::str::from_utf8(field).ok()?.trim().parse().ok()
}

fn no_number(names: &Option<Vec<String>>, line: usize, at: usize, field: &[u8]) -> Wrong {
    let name = names.as_ref().and_then(|names| names.get(at));
    let name = name.map_or(String::new(), |name| format!(" ({})", shown(name)));
    let field = String::from_utf8_lossy(field);
    let what = match field.trim() {
        "" => "empty".to_owned(),
        text => format!("`{}` is no finite number", shown(text)),
    };
    Wrong::Line(line, format!("column {}{name}: {what}", at + 1))
}

/// The beginning of `text`, without control characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN_CHARS {
        shown.push('…');
    }
    shown
}

/// The seconds of one unit of the first column if that is a time.
fn time_unit(table: &Table, rate_hz: Option<f64>) -> Result<Option<f64>, Wrong> {
    let named = table.names.as_ref().and_then(|names| unit(names.first()?));
    let alone = table.columns.len() < 2;
    match (named, rate_hz) {
        (Some(_), _) if alone => Err(Wrong::Content("a time column and no other".to_owned())),
        (Some(unit), _) => Ok(Some(unit)),
        (None, Some(_)) => Ok(None),
        (None, None) if table.names.is_none() && !alone => Ok(Some(1.0)),
        (None, None) => Err(no_rate()),
    }
}

/// The seconds of one unit of a column of this name, if it is one of times.
fn unit(name: &str) -> Option<f64> {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    let word: String = letters.flat_map(char::to_lowercase).collect();
    match word.as_str() {
        "t" | "ts" | "time" | "times" | "timesec" | "timeseconds" | "s" | "sec" | "seconds" => {
            Some(1.0)
        }
        "tms" | "timems" | "ms" | "milliseconds" => Some(1e-3),
        "tus" | "timeus" | "us" | "microseconds" | "tµs" | "timeµs" | "µs" => Some(1e-6),
        _ => None,
    }
}

/// The sample rate that evenly stepping times tell.
fn rate(times: &[f64], unit: f64, lines: &[usize]) -> Result<f64, Wrong> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Err(no_rate()) };
    let step = (last - first) / (times.len() - 1).max(1) as f64;
    for (at, (time, line)) in times.iter().zip(lines).enumerate() {
        let off = (time - first) / step - at as f64;
        // Of times that go nowhere it is NaN, which is not within either.
        if !(step > 0.0 && off.abs() <= UNEVEN_MAX) {
            let why = format!(
                "column 1 is the time and does not step evenly: {time} is off its place by more than a tenth of \
                 {step} on average; resample, or give the sample rate"
            );
            return Err(Wrong::Line(*line, why));
        }
    }
    // Nine digits are more than the times have, and take away what their rounding left.
    let rate_hz = 1.0 / (step * unit);
    Ok(format!("{rate_hz:.8e}").parse().unwrap_or(rate_hz))
}

/// Counts lines: a row's position may be that of blank or comment lines before it.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, line: 1 }
    }

    /// The line of the row that begins at `byte` or behind the blank and comment lines there.
    fn of(&mut self, byte: usize) -> usize {
        while let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            let line = rest.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            let nothing = line.starts_with(b"#") || line.iter().all(|c| b"\r\n".contains(c));
            if self.at >= byte && !nothing {
                break;
            }
            self.at += line.len();
            self.line += 1;
        }
        self.line
    }
}
