//! Row 13: many tasks through pools of 2, 8 and 64 workers, beside pools made at home and Piscina.

use std::time::Duration;

use nix::unistd::Pid;

use crate::pool::homemade::{Homemade, Transport};
use crate::pool::ours::{Ours, Store};
use crate::pool::piscina::Piscina;
use crate::pool::task::Tasks;
use crate::pool::{Inline, Load, Pool, Run, drive};
use crate::report::{Line, Report, rate, time};
use crate::watch::{self, Watch};
use crate::{Effort, Outcome};

/// Workers.
const WORKERS: [usize; 3] = [2, 8, 64];
/// Tasks that are submitted and not finished, when the rate is measured.
const WINDOW: usize = 256;
/// How long the caller rests before each task, when the way to a sleeping worker is measured.
const REST: Duration = Duration::from_millis(1);

/// Row 13.
pub(crate) fn pools(effort: Effort, report: &mut Report) -> Outcome {
    let piscina = Piscina::install();
    if let Err(why) = &piscina {
        eprintln!("bench: row 13 without Piscina: {why}");
    }
    let piscina = piscina.map_err(|why| why.to_string());
    for tasks in [Tasks::empty(), Tasks::transforms()?] {
        for workers in WORKERS {
            watch::forget();
            beside(effort, report, &tasks, piscina.as_ref(), workers)?;
        }
    }
    Ok(())
}

/// One who does the tasks.
struct Contender<'a> {
    name: &'static str,
    way: Way<'a>,
    /// Busy, and with workers asleep.
    runs: [Vec<Run>; 2],
}

/// How it does them.
enum Way<'a> {
    Pool(Box<dyn Pool>, Vec<Pid>),
    Node(&'a Piscina, usize),
    Missing(&'a str),
}

impl Way<'_> {
    fn drive(&mut self, tasks: &Tasks, load: Load) -> Outcome<Run> {
        let (run, share) = match self {
            Self::Pool(pool, pids) => {
                let watch = Watch::start(pids)?;
                let run = drive(pool.as_mut(), tasks, load)?;
                pool.settle()?;
                (run, watch.share(pids)?)
            }
            Self::Node(piscina, threads) => {
                let watch = Watch::start(&[])?;
                let (run, seconds) = piscina.drive(*threads, tasks, load)?;
                (run, watch.share_with(seconds)?)
            }
            Self::Missing(_) => return Ok(Run::default()),
        };
        watch::note(share);
        Ok(run)
    }
}

impl<'a> Contender<'a> {
    fn new(name: &'static str, way: Way<'a>) -> Self {
        Self { name, way, runs: [Vec::new(), Vec::new()] }
    }

    fn homemade(name: &'static str, transport: Transport, workers: usize) -> Outcome<Self> {
        let pool = Homemade::start(transport, workers)?;
        let pids = pool.pids();
        Ok(Self::new(name, Way::Pool(Box::new(pool), pids)))
    }

    /// The median run by rate, and with workers asleep by median time.
    fn median(&mut self) -> [Run; 2] {
        let [busy, asleep] = &mut self.runs;
        busy.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        asleep.sort_by(|a, b| a.quantile(0.5).total_cmp(&b.quantile(0.5)));
        [busy, asleep].map(|runs| runs.get(runs.len() / 2).cloned().unwrap_or_default())
    }

    fn says(&self, figure: impl Fn(&Run) -> String, run: &Run) -> String {
        match self.way {
            Way::Missing(why) => format!("{}: left out, {why}", self.name),
            _ => format!("{} {}", self.name, figure(run)),
        }
    }
}

fn waits(run: &Run) -> String {
    [0.5, 0.95, 0.99].map(|share| time(run.quantile(share))).join(" / ")
}

fn beside(
    effort: Effort,
    report: &mut Report,
    tasks: &Tasks,
    piscina: Result<&Piscina, &String>,
    workers: usize,
) -> Outcome {
    let busy = Load { count: effort.of(100_000, 5_000), window: WINDOW, rest: Duration::ZERO };
    let asleep = Load { count: effort.of(1_000, 200), window: 1, rest: REST };
    let warm = Load { count: 2_000, ..busy };
    let node = match piscina {
        Ok(piscina) => Way::Node(piscina, workers),
        Err(why) => Way::Missing(why),
    };
    let ours = |name, store| {
        let pool = Ours::start(store, workers)?;
        let pids = pool.pids()?;
        Ok::<_, crate::Failure>(Contender::new(name, Way::Pool(Box::new(pool), pids)))
    };
    let mut all = [
        Contender::new("in the caller itself", Way::Pool(Box::<Inline>::default(), Vec::new())),
        Contender::homemade("sockets", Transport::Sockets, workers)?,
        Contender::homemade("pipes", Transport::Pipes, workers)?,
        Contender::new("Piscina (threads)", node),
        ours("no store", Store::None)?,
        ours("SQLite", Store::Sqlite)?,
    ];
    for contender in &mut all {
        if let Way::Pool(pool, _) = &mut contender.way {
            drive(pool.as_mut(), tasks, warm)?;
        }
    }
    for _ in 0..effort.of(3, 1) {
        for contender in &mut all {
            for (load, runs) in [busy, asleep].into_iter().zip(&mut contender.runs) {
                runs.push(contender.way.drive(tasks, load)?);
            }
        }
    }
    let medians = all.each_mut().map(Contender::median);
    let of = |figure: fn(&Run) -> String, which: usize, whom: std::ops::Range<usize>| {
        let all = all.iter().zip(&medians).skip(whom.start).take(whom.len());
        let says = all.filter_map(|(c, runs)| Some(c.says(figure, runs.get(which)?)));
        says.collect::<Vec<_>>().join("; ")
    };
    let what = format!("{} task, {workers} workers", tasks.kind.name());
    let line = |what: String, figure: fn(&Run) -> String, which| {
        Line::new(13, what, of(figure, which, 4..6)).peer(of(figure, which, 1..4))
    };
    let tasks_per_s: fn(&Run) -> String = |run| rate(run.rate);
    let [_, [sockets, _], [pipes, _], _, [none, _], [sqlite, _]] = &medians;
    let times = |run: &Run| format!("{:.2} ×", run.rate / sockets.rate.max(pipes.rate));
    report.add(
        &line(format!("{what}: {} tasks, {WINDOW} at once", busy.count), tasks_per_s, 0)
            .limit(of(tasks_per_s, 0, 0..1))
            .ratio(format!(
                "{}, SQLite {} the better of sockets and pipes",
                times(none),
                times(sqlite)
            )),
    );
    let quantiles = "submit → start, p50 / p95 / p99";
    report.add(&line(format!("the same: {quantiles}"), waits, 0));
    report.add(&line(format!("{what} asleep, one task at a time: {quantiles}"), waits, 1));
    Ok(())
}
