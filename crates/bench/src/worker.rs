//! A worker process: attaches, then does what the board orders until it is told to stop, and sleeps between.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commonhold::{Commit, Config, Error, Guard, GuardOptions, Handle, RecordRef, Runtime, Table};
use commonhold_os::clock::monotonic_nanos;
use commonhold_os::futex;
use commonhold_torture::histogram;
use nix::sys::signal::Signal;

use crate::Outcome;
use crate::arena::{Arena, Board, Desk, SAMPLES};
use crate::locks::{Lock, Robustness, add_one};
use crate::measure::Random;
use crate::peers::{BareSteps, Hashed, exchange, pass_turn, under_mutex, wait_turn};
use crate::place::{FULL, GUARD, LATEST, LATEST_AT, RECORDS, Sample256, find, key, raise};

/// The hidden first argument that makes the benchmark a worker.
pub(crate) const WORKER: &str = "__bench-worker";
/// How long the giver of a turn waits so that the taker is asleep, in nanoseconds.
const ASLEEP: u64 = 200_000;
/// Looks of the bare futex before it sleeps, when both run: as many as the runtime's.
const SPINS: u32 = 200;

/// What a worker may be ordered to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Job {
    Exit,
    /// Update the hot record: typed, as bytes, typed and timed.
    Hot,
    HotRaw,
    HotTimed,
    /// Update a record under a mutex.
    Mutex,
    MutexFnv,
    MutexState,
    MutexFnvTimed,
    /// Add to one word.
    Exchange,
    /// Update one of 1024 records, at random; the bare steps of it, in memory of one's own.
    Spread,
    SpreadBare,
    /// Hand over a turn to one who sleeps, or runs: the runtime's way and with a bare futex.
    TurnAsleep,
    TurnRunning,
    FutexAsleep,
    FutexRunning,
    /// Update a record of one's own and wait until it is stored: latest and full history.
    DurableLatest,
    DurableFull,
    /// The same with one record for all, with full history.
    DurableHot,
    /// Sleep until the benchmark wakes it.
    Sleep,
    /// A short section: under a guard, and under the mutexes; and how long each waits for it.
    Guard,
    Pthread,
    Robust,
    RawSync,
    GuardWait,
    PthreadWait,
    RobustWait,
    RawSyncWait,
}

const JOBS: [Job; 27] = [
    Job::Exit,
    Job::Hot,
    Job::HotRaw,
    Job::HotTimed,
    Job::Mutex,
    Job::MutexFnv,
    Job::MutexState,
    Job::MutexFnvTimed,
    Job::Exchange,
    Job::Spread,
    Job::SpreadBare,
    Job::TurnAsleep,
    Job::TurnRunning,
    Job::FutexAsleep,
    Job::FutexRunning,
    Job::DurableLatest,
    Job::DurableFull,
    Job::DurableHot,
    Job::Sleep,
    Job::Guard,
    Job::Pthread,
    Job::Robust,
    Job::RawSync,
    Job::GuardWait,
    Job::PthreadWait,
    Job::RobustWait,
    Job::RawSyncWait,
];

impl Job {
    /// Whether it counts the sections in the board's word, not atomically.
    pub(crate) fn is_section(self) -> bool {
        self as u64 >= Self::Guard as u64
    }
}

/// What a worker works with.
struct Kit<'a> {
    index: usize,
    arena: &'a Arena,
    board: &'a Board,
    desk: &'a Desk,
    handle: &'a Handle,
    latest: Table<Sample256, &'a Handle>,
    full: Table<Sample256, &'a Handle>,
    records: Vec<RecordRef>,
    guard: Guard<&'a Handle>,
}

/// The life of a worker; `args` are those behind [`WORKER`].
pub(crate) fn life(args: &[String]) -> ExitCode {
    let Err(error) = serve(args) else { return ExitCode::SUCCESS };
    eprintln!("bench: worker: {error}");
    if let Some(arena) = args.first().and_then(|path| Arena::open(path).ok()) {
        arena.board().failures.0.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(&arena.board().ready.0);
        futex::wake_all(&arena.board().done.0);
    }
    ExitCode::FAILURE
}

fn serve(args: &[String]) -> Outcome {
    let [arena, parent, index, segment] = args else { return Err("started by hand".into()) };
    // Workers die with the benchmark; if it died before this line, the second look finds it.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid().as_raw() != parent.parse::<i32>()? {
        return Err("the benchmark is gone".into());
    }
    let arena = Arena::open(arena)?;
    let index: usize = index.parse()?;
    let desk = arena.desks().get(index).ok_or("no such desk")?;
    let config = Config::named(segment).attach_only().without_steward();
    let runtime = Runtime::open(config.room_wait(Duration::from_secs(300)))?;
    let handle = runtime.handle()?;
    let latest = Table::new(&handle, LATEST)?;
    let full = Table::new(&handle, FULL)?;
    let records = find(&latest, RECORDS as usize)?;
    let board = arena.board();
    let guard = Guard::new(&handle, GUARD, &GuardOptions::new())?;
    let (arena, handle) = (&arena, &handle);
    let kit = Kit { index, arena, board, desk, handle, latest, full, records, guard };
    let mut turn = 0;
    board.ready.0.fetch_add(1, Ordering::SeqCst);
    futex::wake_all(&board.ready.0);
    loop {
        while board.turn.0.load(Ordering::SeqCst) == turn {
            futex::wait(&board.turn.0, turn as u32, Duration::from_secs(1));
        }
        turn = board.turn.0.load(Ordering::SeqCst);
        let job = JOBS.get(board.job.load(Ordering::SeqCst) as usize).ok_or("no such job")?;
        if *job == Job::Exit {
            return Ok(());
        }
        if (index as u64) < board.active.load(Ordering::SeqCst) {
            kit.work(*job)?;
            board.done.0.fetch_add(1, Ordering::SeqCst);
            futex::wake_all(&board.done.0);
        }
    }
}

impl Kit<'_> {
    fn work(&self, job: Job) -> Outcome {
        let hot = *self.records.first().ok_or("no record")?;
        match job {
            Job::Exit => Ok(()),
            Job::Hot => self.again(|| self.update(hot)),
            Job::HotTimed => self.timed(|| self.update(hot)),
            Job::HotRaw => self.again(|| {
                let done = self.handle.update_at(LATEST_AT, hot, raise);
                done.map_err(|e| format!("{e:?}"))?.ok_or("the record is gone")?;
                Ok(())
            }),
            Job::Mutex => self.mutex(Hashed::Not),
            Job::MutexFnv => self.mutex(Hashed::Fnv),
            Job::MutexState => self.mutex(Hashed::State),
            Job::MutexFnvTimed => {
                let mutex = self.arena.mutex()?;
                self.timed(|| under_mutex(mutex.as_ref(), self.board, Hashed::Fnv))
            }
            Job::Exchange => self.again(|| {
                exchange(&self.board.word.0);
                Ok(())
            }),
            Job::Spread => {
                let mut random = Random::new(self.index as u64 + 1);
                self.again(|| {
                    let at = random.below(self.records.len());
                    self.update(*self.records.get(at).ok_or("no record")?)
                })
            }
            Job::SpreadBare => {
                let mut steps = BareSteps::new(256);
                self.again(|| {
                    steps.update();
                    Ok(())
                })
            }
            Job::TurnAsleep => self.turns(ASLEEP, |_| self.await_turn(), |_| self.give_turn()),
            Job::TurnRunning => self.turns(0, |_| self.await_turn(), |_| self.give_turn()),
            Job::FutexAsleep => self.bare_turns(ASLEEP, 0),
            Job::FutexRunning => self.bare_turns(0, SPINS),
            Job::DurableLatest => self.durable(&self.latest, self.index),
            Job::DurableFull => self.durable(&self.full, self.index),
            Job::DurableHot => self.durable(&self.full, 0),
            Job::Sleep => self.again(|| self.sleep()),
            Job::Guard => self.sections(&self.guard),
            Job::GuardWait => self.waits(&self.guard),
            Job::Pthread => self.sections(&self.arena.pthread(Robustness::Stalled)),
            Job::PthreadWait => self.waits(&self.arena.pthread(Robustness::Stalled)),
            Job::Robust => self.sections(&self.arena.pthread(Robustness::Robust)),
            Job::RobustWait => self.waits(&self.arena.pthread(Robustness::Robust)),
            Job::RawSync => self.sections(&self.arena.mutex()?),
            Job::RawSyncWait => self.waits(&self.arena.mutex()?),
        }
    }

    #[inline]
    fn update(&self, record: RecordRef) -> Outcome {
        let done = self.latest.update_at(record, |sample| sample.value += 1)?;
        std::hint::black_box(done.as_ref().map(Commit::version)).ok_or("the record is gone")?;
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.board.stop.0.load(Ordering::Relaxed) != 0
    }

    /// Does `operation` until the order is over, and counts.
    #[inline]
    fn again(&self, mut operation: impl FnMut() -> Outcome) -> Outcome {
        let mut count = 0;
        while !self.stopped() {
            operation()?;
            count += 1;
            self.desk.count.0.store(count, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The same, with each time in the histogram.
    fn timed(&self, mut operation: impl FnMut() -> Outcome) -> Outcome {
        let mut before = monotonic_nanos();
        self.again(|| {
            operation()?;
            let now = monotonic_nanos();
            histogram::record(&self.desk.histogram, now.saturating_sub(before));
            before = now;
            Ok(())
        })
    }

    fn mutex(&self, hashed: Hashed) -> Outcome {
        let mutex = self.arena.mutex()?;
        self.again(|| under_mutex(mutex.as_ref(), self.board, hashed))
    }

    /// Short sections under a lock.
    fn sections(&self, lock: &impl Lock) -> Outcome {
        let word = &self.board.word.0;
        self.again(|| lock.with(|| add_one(word)))
    }

    /// The same, with the time from asking to having in the histogram.
    fn waits(&self, lock: &impl Lock) -> Outcome {
        let word = &self.board.word.0;
        self.again(|| {
            let asked = monotonic_nanos();
            let mut waited = 0;
            lock.with(|| {
                waited = monotonic_nanos().saturating_sub(asked);
                add_one(word);
            })?;
            histogram::record(&self.desk.histogram, waited);
            Ok(())
        })
    }

    fn bare_turns(&self, pause: u64, spins: u32) -> Outcome {
        let mine = self.index as u64 % 2;
        let wait = |board: &Board| Ok(wait_turn(board, mine, spins));
        self.turns(pause, wait, |board| {
            pass_turn(board);
            Ok(())
        })
    }

    /// Takes a turn, notes how long ago it was given, waits `pause`, gives it.
    fn turns(
        &self,
        pause: u64,
        mut wait: impl FnMut(&Board) -> Outcome<bool>,
        mut give: impl FnMut(&Board) -> Outcome,
    ) -> Outcome {
        let mut sampled = 0;
        self.again(|| {
            if !wait(self.board)? {
                return Ok(());
            }
            let now = monotonic_nanos();
            let given = self.board.stamp.0.load(Ordering::Relaxed);
            if given != 0
                && let Some(sample) = self.desk.samples.get(sampled % SAMPLES)
            {
                sample.store(now.saturating_sub(given), Ordering::Relaxed);
                sampled += 1;
                self.desk.sampled.0.store(sampled as u64, Ordering::Relaxed);
            }
            while monotonic_nanos() - now < pause {
                std::hint::spin_loop();
            }
            self.board.stamp.0.store(monotonic_nanos(), Ordering::Relaxed);
            give(self.board)
        })
    }

    fn await_turn(&self) -> Outcome<bool> {
        let mine = self.index as i64 % 2;
        let ready = |sample: &Sample256| sample.value % 2 == mine;
        match self.latest.wait_for(&key(0), ready, Duration::from_millis(100)) {
            Ok(sample) => Ok(std::hint::black_box(sample).value % 2 == mine),
            Err(Error::Timeout { .. }) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn give_turn(&self) -> Outcome {
        self.latest.update(&key(0), |sample| sample.value += 1)?;
        Ok(())
    }

    /// Sleeps until it is woken, or the order is over.
    fn sleep(&self) -> Outcome {
        let word = &self.desk.asleep.0;
        word.store(1, Ordering::SeqCst);
        while word.load(Ordering::SeqCst) == 1 && !self.stopped() {
            futex::wait(word, 1, Duration::from_millis(100));
        }
        Ok(())
    }

    fn durable(&self, table: &Table<Sample256, &Handle>, number: usize) -> Outcome {
        let record = table.find(&key(number % RECORDS as usize))?.ok_or("no record")?;
        self.timed(|| {
            let done = table.update_at(record, |sample| sample.value += 1)?;
            done.ok_or("the record is gone")?.durable(Duration::from_secs(60))?;
            Ok(())
        })
    }
}
