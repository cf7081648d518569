//! A crew: worker processes that live for several orders, so that all ways are measured with the very same
//! processes, one after the other.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use commonhold_os::futex;
use commonhold_torture::histogram::{self, HISTOGRAM_WORDS};

use crate::Outcome;
use crate::arena::{Arena, Line};
use crate::watch::{self, Watch};
use crate::worker::{Job, WORKER};
use nix::unistd::Pid;

/// The longest that all workers may take to start, or to end an order.
const PATIENCE: Duration = Duration::from_secs(120);
/// So often a disturbed round is tried.
const TRIES: u32 = 4;

/// Running workers.
pub(crate) struct Crew {
    arena: Arena,
    children: Vec<Child>,
}

/// What an order gave.
pub(crate) struct Round {
    /// Operations a second, of all together.
    pub(crate) rate: f64,
    times: Vec<u64>,
    /// Single times, in nanoseconds.
    pub(crate) samples: Vec<f64>,
}

impl Round {
    /// The time below which `share` of the operations stayed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        histogram::quantile(&self.times, share) as f64
    }
}

impl Crew {
    /// Starts `count` workers on a segment and waits until they are attached.
    pub(crate) fn start(count: usize, segment: &str) -> Outcome<Self> {
        let mut crew = Self { arena: Arena::create(count)?, children: Vec::new() };
        let exe = std::env::current_exe()?;
        let parent = std::process::id().to_string();
        for index in 0..count {
            let index = index.to_string();
            let args = [WORKER, crew.arena.path(), &parent, &index, segment];
            let child =
                Command::new(&exe).args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
            crew.children.push(child.map_err(|e| format!("start worker {index}: {e}"))?);
        }
        let board = crew.arena.board();
        crew.wait_until(&board.ready, count as u64)?;
        Ok(crew)
    }

    fn wait_until(&self, word: &Line, wanted: u64) -> Outcome {
        let start = Instant::now();
        loop {
            let now = word.0.load(Ordering::SeqCst);
            if now >= wanted {
                return Ok(());
            }
            if self.arena.board().failures.0.load(Ordering::SeqCst) > 0 {
                return Err("a worker failed; its message is above".into());
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("only {now} of {wanted} workers after {PATIENCE:?}").into());
            }
            futex::wait(&word.0, now as u32, Duration::from_millis(100));
        }
    }

    fn counted(&self) -> u64 {
        self.arena.desks().iter().map(|desk| desk.count.0.load(Ordering::Relaxed)).sum()
    }

    /// Has the first `active` workers do `job`; measures for `time` after letting them get going. A round that
    /// others disturbed is repeated; the least disturbed one counts, and how disturbed it was is noted.
    pub(crate) fn round(&self, job: Job, active: usize, time: Duration) -> Outcome<Round> {
        let (mut best, mut share) = self.try_round(job, active, time)?;
        for _ in 1..TRIES {
            if share <= watch::DISTURBED {
                break;
            }
            let (round, other) = self.try_round(job, active, time)?;
            if other < share {
                (best, share) = (round, other);
            }
        }
        watch::note(share);
        Ok(best)
    }

    fn try_round(&self, job: Job, active: usize, time: Duration) -> Outcome<(Round, f64)> {
        let board = self.arena.board();
        for desk in self.arena.desks() {
            desk.count.0.store(0, Ordering::Relaxed);
            desk.sampled.0.store(0, Ordering::Relaxed);
            desk.histogram.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        for line in [&board.stop, &board.done, &board.word, &board.sleepers, &board.stamp] {
            line.0.store(0, Ordering::SeqCst);
        }
        let value = || board.record.first().map_or(0, |word| word.load(Ordering::SeqCst));
        let first = value();
        board.active.store(active as u64, Ordering::SeqCst);
        self.order(job);
        // Waking a thousand takes about 30 ms; then each needs its first turn on a processor.
        std::thread::sleep(time / 4 + Duration::from_micros(300) * active as u32);
        let pids: Vec<Pid> =
            self.children.iter().map(|c| Pid::from_raw(c.id().cast_signed())).collect();
        let watch = Watch::start(&pids)?;
        let (before, start) = (self.counted(), Instant::now());
        std::thread::sleep(time);
        let (after, elapsed) = (self.counted(), start.elapsed());
        let share = watch.share(&pids)?;
        board.stop.0.store(1, Ordering::SeqCst);
        self.wait_until(&board.done, active as u64)?;
        // What was counted must be what was done.
        let made = match job {
            Job::Exchange => Some(board.word.0.load(Ordering::SeqCst)),
            job if job.is_section() => Some(board.word.0.load(Ordering::SeqCst)),
            Job::Mutex | Job::MutexFnv | Job::MutexState | Job::MutexFnvTimed => {
                Some(value() - first)
            }
            _ => None,
        };
        let counted = self.counted();
        if made.is_some_and(|made| made != counted) {
            return Err(format!("{job:?}: {counted} counted, {made:?} made").into());
        }
        Ok((self.gather((after - before) as f64 / elapsed.as_secs_f64()), share))
    }

    /// How many times a second workers that do nothing but sleep are woken, one after the other, by one thread.
    pub(crate) fn wakes(&self, active: usize, time: Duration) -> Outcome<f64> {
        let over = AtomicBool::new(false);
        let wake = || {
            while !over.load(Ordering::Relaxed) {
                for desk in self.arena.desks() {
                    if desk.asleep.0.swap(0, Ordering::SeqCst) == 1 {
                        futex::wake_all(&desk.asleep.0);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(wake);
            let round = self.round(Job::Sleep, active, time);
            over.store(true, Ordering::Relaxed);
            Ok(round?.rate)
        })
    }

    fn gather(&self, rate: f64) -> Round {
        let mut round = Round { rate, times: vec![0; HISTOGRAM_WORDS], samples: Vec::new() };
        for desk in self.arena.desks() {
            histogram::add(&desk.histogram, &mut round.times);
            let sampled = desk.sampled.0.load(Ordering::Relaxed) as usize;
            let samples = desk.samples.iter().take(sampled);
            round.samples.extend(samples.map(|s| s.load(Ordering::Relaxed) as f64));
        }
        round
    }

    fn order(&self, job: Job) {
        let board = self.arena.board();
        board.job.store(job as u64, Ordering::SeqCst);
        board.turn.0.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(&board.turn.0);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.arena.board().stop.0.store(1, Ordering::SeqCst);
        self.order(Job::Exit);
        for child in &mut self.children {
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}
