//! `cascade`: the harmonic analysis of a file, in worker processes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use commonhold::systems::cascade::{
    self, Analysis, ArgsError, Cascade as Submitted, CascadeArgs, CascadeError, HARMONICS_MAX,
    Node, Options, ReadOptions, Recording, SAMPLES_MIN, Window, read_signal,
};
use commonhold::workers::{self, Capacity, Kinds, Pool, PoolOptions, TaskError};
use commonhold::{Config, Runtime};
use serde::Serialize;

use crate::failure::{Done, Failure, one_line};
use crate::output::{Format, Output, note, print_json, print_table};
use crate::signals::{PIECE, Signals};

/// The most worker processes.
const WORKERS_MAX: u32 = 64;
/// Tasks in the queue for each worker: the one that it runs, and the next.
const TASKS_EACH: u32 = 2;
/// Pages of 16 KiB that the arguments and the result of one task take.
const PAGES_EACH: u32 = 128;
/// Participants beside the workers.
const OTHERS: u32 = 16;
/// So long workers may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Analyse a WAV or CSV file: fundamental, harmonics, distortion, noise, coherence
///
/// Finds the fundamental of each channel (node), its harmonics with amplitude and phase, total harmonic distortion and
/// noise floor, and the coherence of every two nodes. A file that is too long for one task is cut into blocks of
/// equal length; what is shown in full is the block whose fundamental is loudest. The work is done by worker
/// processes of a pool that lives as long as the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold cascade tone.wav
  commonhold cascade tone.wav --from 1.5 --seconds 0.5 --harmonics 20
  commonhold cascade sensors.csv --rate 1000 --min-hz 20 --json

A CSV file has a row a sample and a column a node; without --rate its first column is the time in seconds.
Amplitudes are peak values, phases those of a cosine at the first sample; docs/cascade.md defines all of it.")]
pub(crate) struct Cascade {
    /// The signal: WAV or CSV
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The samples a second of a CSV file
    #[arg(long, value_name = "HZ", value_parser = positive, allow_negative_numbers = true)]
    rate: Option<f64>,
    /// What samples are weighted with: blackman-harris, hann, rectangular
    #[arg(long, value_name = "WINDOW", default_value_t)]
    window: Window,
    /// How many harmonics, the fundamental included
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(HARMONICS_MAX)))]
    harmonics: u32,
    /// The lowest frequency of a fundamental
    #[arg(long, value_name = "HZ", value_parser = positive, allow_negative_numbers = true)]
    min_hz: Option<f64>,
    /// The highest frequency of a fundamental
    #[arg(long, value_name = "HZ", value_parser = positive, allow_negative_numbers = true)]
    max_hz: Option<f64>,
    /// Samples of a segment of the coherence
    #[arg(long, value_name = "N")]
    segment_samples: Option<u32>,
    /// Begin so many seconds into the file
    #[arg(long, value_name = "S", value_parser = not_negative, default_value = "0")]
    #[arg(allow_negative_numbers = true)]
    from: f64,
    /// Read so many seconds
    #[arg(long, value_name = "S", value_parser = positive, allow_negative_numbers = true)]
    seconds: Option<f64>,
    /// Cut into blocks of at most so many seconds
    #[arg(long, value_name = "S", value_parser = positive, allow_negative_numbers = true)]
    block: Option<f64>,
    /// How many worker processes; as many as there are processors, and no more than blocks
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    workers: Option<u32>,
    #[command(flatten)]
    format: Format,
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|x| x.is_finite() && *x > 0.0).ok_or_else(|| "give a number above 0".to_owned())
}

/// A number from 0 up.
fn not_negative(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|x| x.is_finite() && *x >= 0.0)
        .ok_or_else(|| "give a number from 0 up".to_owned())
}

/// A piece of the file.
#[derive(Debug, Serialize)]
struct Block<'a> {
    /// Where it begins in the file.
    from_s: f64,
    #[serde(flatten)]
    analysis: &'a Analysis,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: String,
    /// What the nodes are called.
    names: &'a [String],
    /// The block that the next are of: the one whose fundamental is loudest.
    block: usize,
    #[serde(flatten)]
    loudest: &'a Block<'a>,
    blocks: &'a [Block<'a>],
}

impl Cascade {
    /// Reads, analyses and prints.
    pub(crate) fn run(&self) -> Done {
        let signals = Signals::catch()?;
        let from = ReadOptions { rate_hz: self.rate, from_s: self.from, seconds: self.seconds };
        let recording = read_signal(&self.file, &from)?;
        let blocks = self.blocks(&recording).map_err(|error| self.failed(error))?;
        let (starts, args): (Vec<usize>, Vec<CascadeArgs>) = blocks.into_iter().unzip();
        let analyses = self.analyse(&args, &signals)?;
        let rate_hz = recording.signal.rate_hz();
        let from_s =
            |start: usize| (self.from * rate_hz).round() / rate_hz + start as f64 / rate_hz;
        let block = |(start, analysis)| Block { from_s: from_s(start), analysis };
        let blocks: Vec<Block<'_>> = starts.into_iter().zip(&analyses).map(block).collect();
        let (loudest, _) = blocks.iter().enumerate().fold((0, -1.0), |best, (at, block)| {
            let amplitude = block.analysis.strongest.amplitude();
            if amplitude > best.1 { (at, amplitude) } else { best }
        });
        let Some(shown) = blocks.get(loudest) else { return Ok(()) };
        let (names, file) = (recording.names.as_slice(), self.file.display().to_string());
        let report = Report { file, names, block: loudest, loudest: shown, blocks: &blocks };
        if self.format.json { print_json(&report) } else { print(&report) }
    }

    fn failed(&self, error: ArgsError) -> Failure {
        let file = self.file.display();
        Failure::failed(match (error, self.block) {
            (ArgsError::TooShort(samples), Some(block)) => format!(
                "{file}: blocks of {block} s have {samples} samples; at least {SAMPLES_MIN} are needed"
            ),
            (error, _) => format!("{file}: {error}"),
        })
    }

    /// The pieces that are analysed, each with the number of its first sample.
    fn blocks(&self, recording: &Recording) -> Result<Vec<(usize, CascadeArgs)>, ArgsError> {
        let signal = &recording.signal;
        let most = CascadeArgs::samples_max(signal.channels().len(), signal.sample_bytes());
        let wanted = self.block.map_or(most, |seconds| (seconds * signal.rate_hz()) as usize);
        let options = Options {
            window: self.window,
            harmonics: self.harmonics,
            min_hz: self.min_hz,
            max_hz: self.max_hz,
            segment: self.segment_samples,
        };
        let blocks = signal.blocks(wanted.min(most))?.into_iter();
        blocks.map(|(at, block)| Ok((at, CascadeArgs::new(block, options)?))).collect()
    }

    /// Has the blocks analysed by a pool of worker processes.
    fn analyse(&self, blocks: &[CascadeArgs], signals: &Signals) -> Result<Vec<Analysis>, Failure> {
        let workers = self.workers.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            u32::try_from(cores.min(blocks.len())).unwrap_or(1).clamp(1, WORKERS_MAX)
        });
        let tasks = workers * TASKS_EACH;
        let capacity = Capacity { tasks, pages: tasks * PAGES_EACH, workers };
        let config = Config::ephemeral().store("none").participants(workers + OTHERS);
        let runtime = Runtime::open(workers::configure(config, &capacity))?;
        let options = PoolOptions::new().workers(workers..=workers);
        let pool = Pool::start(&runtime, Kinds::new().with(cascade::kind()), options)?;
        let mut waiting: VecDeque<Submitted> = VecDeque::new();
        let mut analyses = Vec::with_capacity(blocks.len());
        for block in blocks {
            if waiting.len() >= tasks as usize {
                analyses.extend(next(&mut waiting, signals)?);
            }
            waiting.push_back(Submitted::submit(&pool, block)?);
        }
        while let Some(analysis) = next(&mut waiting, signals)? {
            analyses.push(analysis);
        }
        if let Err(error) = pool.stop(STOP_WITHIN) {
            note(format_args!("commonhold: {error}"));
        }
        Ok(analyses)
    }
}

/// Waits for the first that was submitted.
fn next(waiting: &mut VecDeque<Submitted>, signals: &Signals) -> Result<Option<Analysis>, Failure> {
    let Some(first) = waiting.pop_front() else { return Ok(None) };
    loop {
        signals.check()?;
        match first.wait(PIECE) {
            Err(CascadeError::Task(TaskError::TimedOut { .. })) => {}
            ended => return Ok(Some(ended?)),
        }
    }
}

/// Prints the tables.
fn print(report: &Report<'_>) -> Done {
    let mut out = Output::new();
    let (analysis, names) = (report.loudest.analysis, report.names);
    let seconds: f64 = report.blocks.iter().map(|block| block.analysis.seconds).sum();
    out.line(format_args!(
        "{}: {} node{} at {} Hz, {seconds:.3} s, window {}",
        report.file,
        names.len(),
        if names.len() == 1 { "" } else { "s" },
        digits(analysis.rate_hz),
        analysis.window,
    ))?;
    if report.blocks.len() > 1 {
        let heads = ["from", "loudest node", "fundamental", "amplitude", "distortion", "noise"];
        let rows = report.blocks.iter().map(|block| {
            let [first, rest @ ..] = node_row(&block.analysis.strongest, names);
            [vec![format!("{:.3} s", block.from_s), first], rest[..4].to_vec()].concat()
        });
        table(&mut out, heads, rows)?;
        out.line("")?;
        out.line(format_args!(
            "The loudest of the {} blocks is that from {:.3} s:",
            report.blocks.len(),
            report.loudest.from_s
        ))?;
    }
    let heads = ["node", "fundamental", "amplitude", "distortion", "noise", "snr", "rms", "mean"];
    table(&mut out, heads, analysis.nodes.iter().map(|node| node_row(node, names).to_vec()))?;
    for node in analysis.nodes.iter().filter(|node| !node.harmonics.is_empty()) {
        let name = name_of(names, node.node);
        let heads = [name.as_str(), "frequency", "amplitude", "", "phase"];
        let first = node.amplitude();
        let rows = node.harmonics.iter().zip(1..).map(|(harmonic, order)| {
            let level = 20.0 * (harmonic.amplitude / first).log10();
            let (hz, amplitude) = (hertz(harmonic.hz), digits(harmonic.amplitude));
            let (level, phase) =
                (format!("{level:.1} dB"), format!("{:.4} rad", unsigned(harmonic.phase)));
            vec![format!("{order:>2}"), hz, amplitude, level, phase]
        });
        table(&mut out, heads, rows)?;
    }
    if !analysis.coherence.is_empty() {
        let rows = analysis.coherence.iter().map(|pair| {
            let both = format!("{}, {}", name_of(names, pair.a), name_of(names, pair.b));
            vec![
                both,
                or_none(pair.at_fundamental, |c| format!("{c:.4}")),
                format!("{:.4}", pair.mean),
            ]
        });
        table(&mut out, ["coherence", "at the fundamental", "on average"], rows)?;
        out.line(format_args!("({} segments)", analysis.coherence_segments))?;
    }
    out.finish()
}

/// Prints a table with an empty line before it.
fn table<const N: usize>(
    out: &mut Output,
    heads: [&str; N],
    rows: impl Iterator<Item = Vec<String>>,
) -> Done {
    let heads = heads.map(str::to_owned).to_vec();
    out.line("")?;
    print_table(out, &std::iter::once(heads).chain(rows).collect::<Vec<_>>())
}

fn node_row(node: &Node, names: &[String]) -> [String; 8] {
    let distortion = |(thd, db): (f64, f64)| format!("{:.3} % ({db:.1} dB)", 100.0 * thd);
    [
        name_of(names, node.node),
        or_none(node.fundamental_hz, hertz),
        or_none(node.harmonics.first().map(|first| first.amplitude), digits),
        or_none(node.thd.zip(node.thd_db), distortion),
        or_none(node.noise_density, |noise| format!("{}/\u{221a}Hz", digits(noise))),
        or_none(node.snr_db, |db| format!("{db:.1} dB")),
        digits(node.rms),
        digits(node.mean),
    ]
}

fn name_of(names: &[String], node: usize) -> String {
    names.get(node).map_or_else(|| node.to_string(), |name| one_line(name))
}

fn or_none<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn hertz(hz: f64) -> String {
    format!("{} Hz", digits(hz))
}

/// 0 for what is shown as -0.0000.
fn unsigned(phase: f64) -> f64 {
    if phase.abs() < 0.00005 { 0.0 } else { phase }
}

/// Six digits, as people write them.
fn digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    let plain = rounded == 0.0 || (1e-4..1e9).contains(&rounded.abs());
    if plain { rounded.to_string() } else { format!("{rounded:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_digits() {
        let shown = [0.0, -0.5, 440.000_123, 1_234_567.0, 1e12 / 3.0, 0.000_012_345_678];
        let shown = shown.map(digits);
        assert_eq!(shown, ["0", "-0.5", "440", "1234570", "3.33333e11", "1.23457e-5"]);
    }
}
