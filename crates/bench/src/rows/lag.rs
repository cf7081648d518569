//! Row 14: how late the ticks of an event loop come while a harmonic cascade runs on the loop itself, and elsewhere: in
//! threads, in processes on sockets, and in our pool.
//!
//! The loop is tokio's of one thread. A timer of the kernel's (timerfd) ticks on it each millisecond; the lag of a tick is the
//! time from the moment it was due to the moment the loop got to it. **Every tick counts, those too that were due while
//! the loop was held up**: a ticker that skips them would report the first one only.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use commonhold::systems::cascade::{Analysis, CascadeArgs, analyze_resonance, run_cascade};
use commonhold_os::clock::monotonic_nanos;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::pool::homemade::Sockets;
use crate::pool::ours::{Ours, Store};
use crate::pool::task::{Tasks, recordings, run};
use crate::report::{Line, Report, time};
use crate::watch::{self, Watch};
use crate::{Effort, Outcome};

/// Between two ticks.
const TICK: Duration = Duration::from_millis(1);
/// Between two cascades, and how long the loop is held up by one.
const PERIOD: Duration = Duration::from_millis(50);
const CASCADE: Duration = Duration::from_millis(20);
/// Samples of each of a signal's two channels: a sixth of a second at 48 kHz.
const SAMPLES: usize = 8_192;
/// What moving a cascade to the pool is to take off the loop's lag, and how late a tick may come then.
const LOWER: f64 = 0.8;
const LATE: Duration = Duration::from_millis(50);
/// No further cascade is begun while so many are not finished.
const UNFINISHED: usize = 4;
/// Workers of each pool.
const WORKERS: usize = 2;

/// Where the cascade runs.
enum Way {
    Nowhere,
    OnTheLoop,
    Threads,
    Sockets(Sockets),
    Pool(Box<Ours>),
}

/// What is analysed.
struct Load {
    tasks: Tasks,
    recordings: Vec<CascadeArgs>,
    analyses: Vec<Analysis>,
    /// Analyses of one cascade, so that it holds the loop up for [`CASCADE`].
    nodes: usize,
}

/// A way's lags in nanoseconds, over all turns.
struct Contender {
    name: &'static str,
    way: Way,
    lags: Vec<u64>,
    cascades: usize,
}

/// Row 14.
pub(crate) fn coordinator(effort: Effort, report: &mut Report) -> Outcome {
    let load = Arc::new(Load::new()?);
    let all = sched_getaffinity(Pid::from_raw(0))?;
    let cores = (0..CpuSet::count()).filter(|core| all.is_set(*core).unwrap_or(false));
    let cores: BTreeSet<usize> = cores.collect();
    measured(effort, report, &load, &format!("{} cores", cores.len()))?;
    let mut one = CpuSet::new();
    one.set(*cores.first().ok_or("no core")?)?;
    // What is started from here on keeps to it as well.
    sched_setaffinity(Pid::from_raw(0), &one)?;
    watch::forget();
    let pinned = measured(effort, report, &load, "all pinned to one core");
    sched_setaffinity(Pid::from_raw(0), &all)?;
    pinned
}

impl Load {
    fn new() -> Outcome<Self> {
        let recordings = recordings(SAMPLES)?;
        let tasks = Tasks::cascades(&recordings)?;
        // As they come out of a task.
        let analysis = |args| Analysis::decode(&analyze_resonance(args)?.encode());
        let analyses = recordings.iter().map(analysis).collect::<Result<_, _>>()?;
        let mut best = Duration::MAX;
        for number in 0..20 {
            let task = tasks.task(number);
            let start = Instant::now();
            run(tasks.kind, &task)?;
            best = best.min(start.elapsed());
        }
        let nodes = (CASCADE.as_nanos() / best.as_nanos().max(1)).max(1) as usize;
        Ok(Self { tasks, recordings, analyses, nodes })
    }

    fn check(&self, result: &[u8]) -> Result<(), String> {
        self.tasks.check(result).map(|_| ()).map_err(|e| e.to_string())
    }
}

fn measured(effort: Effort, report: &mut Report, load: &Arc<Load>, cores: &str) -> Outcome {
    let runtime =
        Builder::new_current_thread().enable_io().max_blocking_threads(WORKERS).build()?;
    let sockets = Sockets::start(&runtime, WORKERS)?;
    let [none, sqlite] = [Store::None, Store::Sqlite].map(|store| Ours::start(store, WORKERS));
    let (none, sqlite) = (none?, sqlite?);
    let pids = [sockets.pids(), none.pids()?, sqlite.pids()?].concat();
    let mut all = [
        ("idle", Way::Nowhere),
        ("on the loop", Way::OnTheLoop),
        ("threads", Way::Threads),
        ("processes on sockets", Way::Sockets(sockets)),
        ("no store", Way::Pool(Box::new(none))),
        ("SQLite", Way::Pool(Box::new(sqlite))),
    ]
    .map(|(name, way)| Contender { name, way, lags: Vec::new(), cascades: 0 });
    let span = Duration::from_millis(effort.of(5_000, 1_000));
    let watch = Watch::start(&pids)?;
    for _ in 0..effort.of(3, 1) {
        for contender in &mut all {
            contender.turn(&runtime, load, span)?;
        }
    }
    watch::note(watch.share(&pids)?);
    for contender in &mut all {
        contender.lags.sort_unstable();
    }
    let [idle, on_the_loop, threads, sockets, none, sqlite] = &all;
    let lower = |whom: &Contender, share| 1.0 - whom.quantile(share) / on_the_loop.quantile(share);
    let says = |whom: &Contender| {
        let [p95, p99] = [0.95, 0.99].map(|share| 100.0 * lower(whom, share));
        format!("{}: p95 {p95:.1} %, p99 {p99:.1} % lower", whom.name)
    };
    let reached = |whom: &Contender| {
        lower(whom, 0.95) >= LOWER
            && lower(whom, 0.99) >= LOWER
            && whom.quantile(0.95) < LATE.as_nanos() as f64
    };
    let what = format!(
        "lag of a 1 ms ticker, p50 / p95 / p99 / max; each {} ms {} analyses of two channels of {SAMPLES} samples, \
         {WORKERS} workers, {cores}",
        PERIOD.as_millis(),
        load.nodes
    );
    let line = Line::new(14, what, [none, sqlite].map(Contender::says).join("; "))
        .limit(idle.says())
        .peer([on_the_loop, threads, sockets].map(Contender::says).join("; "))
        .ratio([none, sqlite, sockets].map(says).join("; "))
        .target(
            "p95 and p99 80 % lower than on the loop, p95 < 50 ms",
            reached(none) && reached(sqlite),
        );
    report.add(&line);
    Ok(())
}

impl Contender {
    fn turn(&mut self, runtime: &Runtime, load: &Arc<Load>, span: Duration) -> Outcome {
        let (lags, cascades) = runtime.block_on(async {
            let ticker = tokio::spawn(tick(span));
            let periods = Ticks::new(PERIOD)?;
            let mut running = JoinSet::new();
            let mut cascades = 0;
            while !ticker.is_finished() {
                // Those that were missed meanwhile are left out: who is late does not get more to do for it.
                periods.next().await?;
                if running.len() < UNFINISHED * load.nodes {
                    for number in 0..load.nodes {
                        self.way.start(&mut running, load, number)?;
                    }
                    cascades += 1;
                }
                while let Some(done) = running.try_join_next() {
                    done??;
                }
            }
            let lags = ticker.await??;
            while let Some(done) = running.join_next().await {
                done??;
            }
            Outcome::Ok((lags, cascades))
        })?;
        self.lags.extend(lags);
        self.cascades += cascades;
        Ok(())
    }

    fn quantile(&self, share: f64) -> f64 {
        let last = self.lags.len().saturating_sub(1) as f64;
        self.lags.get((last * share) as usize).copied().unwrap_or_default() as f64
    }

    fn says(&self) -> String {
        let quantiles = [0.5, 0.95, 0.99, 1.0].map(|share| time(self.quantile(share)));
        let cascades = match self.way {
            Way::Nowhere => String::new(),
            _ => format!(" ({} cascades)", self.cascades),
        };
        format!("{} {}{cascades}", self.name, quantiles.join(" / "))
    }
}

impl Way {
    /// Has one analysis done, and its result looked at.
    fn start(
        &self,
        running: &mut JoinSet<Result<(), String>>,
        load: &Arc<Load>,
        number: usize,
    ) -> Outcome {
        let (load, kind) = (Arc::clone(load), load.tasks.kind);
        match self {
            Self::Nowhere => {}
            Self::OnTheLoop => load.check(&run(kind, &load.tasks.task(number))?)?,
            Self::Threads => {
                running.spawn(async move {
                    let task = load.tasks.task(number);
                    let done = tokio::task::spawn_blocking(move || run(kind, &task));
                    load.check(&done.await.map_err(|e| e.to_string())??)
                });
            }
            Self::Sockets(sockets) => {
                let socket = sockets.socket(number)?;
                running.spawn(async move {
                    let task = load.tasks.task(number);
                    let done = Sockets::call(&socket, kind, &task);
                    load.check(&done.await.map_err(|e| e.to_string())?)
                });
            }
            Self::Pool(ours) => {
                let number = number % load.recordings.len();
                let args = load.recordings.get(number).ok_or("no recording")?;
                let analysis = run_cascade(ours.pool(), args);
                running.spawn(async move {
                    let analysis = analysis.await.map_err(|e| e.to_string())?;
                    let is_right = load.analyses.get(number) == Some(&analysis);
                    is_right.then_some(()).ok_or(format!("analysis {number} is not the right one"))
                });
            }
        }
        Ok(())
    }
}

/// The ticks of one timer.
struct Ticks {
    timer: AsyncFd<OwnedFd>,
    /// When the next one is due.
    due: u64,
    period: u64,
}

impl Ticks {
    fn new(period: Duration) -> Outcome<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let due = monotonic_nanos() + period.as_nanos() as u64;
        let first = TimeSpec::from_duration(Duration::from_nanos(due));
        let expiration = Expiration::IntervalDelayed(first, TimeSpec::from_duration(period));
        timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        // SAFETY: the descriptor is the timer's own, owned by this value, and never closed or replaced before it goes.
        let timer = unsafe { AsyncFd::register(OwnedFd::from(timer)) }?;
        Ok(Self { timer, due, period: period.as_nanos() as u64 })
    }

    /// Waits for a tick; how many are there.
    async fn next(&self) -> Result<u64, std::io::Error> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut count = [0; size_of::<u64>()];
            if let Ok(read) = ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), &mut count)?)) {
                read?;
                return Ok(u64::from_ne_bytes(count));
            }
        }
    }
}

/// Ticks for `span`; the lag of each.
async fn tick(span: Duration) -> Result<Vec<u64>, String> {
    let mut ticks = Ticks::new(TICK).map_err(|e| e.to_string())?;
    let wanted = (span.as_nanos() / TICK.as_nanos()) as usize;
    let mut lags = Vec::with_capacity(wanted);
    while lags.len() < wanted {
        let count = ticks.next().await.map_err(|e| e.to_string())?;
        let now = monotonic_nanos();
        for _ in 0..count {
            lags.push(now.saturating_sub(ticks.due));
            ticks.due += ticks.period;
        }
    }
    Ok(lags)
}
