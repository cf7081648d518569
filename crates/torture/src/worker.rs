//! A worker process: attaches, waits at the start line, makes its updates, counts what was acknowledged.

use std::sync::atomic::Ordering;
use std::time::Duration;

use commonhold::clock::{ClockOrder, compare};
use commonhold::{Config, Error, Handle, RecordRef, Runtime, UpdateError};
use commonhold_os::clock::monotonic_nanos;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use crate::arena::{Arena, Shape, Violation, WorkerView};
use crate::histogram::record;
use crate::{Mode, Options, System, TortureError, files, peers, resonance};

/// The hidden first argument that makes the command a worker.
pub const WORKER: &str = "__torture-worker";

/// What a worker is told on its command line.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) arena: String,
    pub(crate) index: u32,
    pub(crate) parent: u32,
    pub(crate) options: Options,
    /// The segment's file, or the database of a peer: a file with its path, or a table in PostgreSQL.
    pub(crate) target: String,
    /// To be killed after so many updates, so many nanoseconds later; (0, 0): not.
    pub(crate) victim: (u64, u64),
}

impl Task {
    pub(crate) fn to_args(&self) -> Vec<String> {
        let o = &self.options;
        let numbers = [
            u64::from(self.index),
            u64::from(self.parent),
            u64::from(o.processes),
            o.updates,
            u64::from(o.keys),
            u64::from(o.payload),
            u64::from(o.lanes),
            o.seed,
            self.victim.0,
            self.victim.1,
        ];
        let mut args = vec![WORKER.to_owned(), self.arena.clone(), self.target.clone()];
        args.push(o.name().to_owned());
        args.extend(numbers.iter().map(u64::to_string));
        args
    }

    fn from_args(args: &[String]) -> Option<Self> {
        let [arena, target, mode, numbers @ ..] = args else { return None };
        let numbers: Vec<u64> = numbers.iter().map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let [index, parent, processes, updates, keys, payload, lanes, seed, after, delay] =
            numbers[..]
        else {
            return None;
        };
        let options = Options {
            processes: u32::try_from(processes).ok()?,
            updates,
            keys: u32::try_from(keys).ok()?,
            mode: mode.parse().unwrap_or(Mode::Cas),
            system: mode.parse().ok(),
            payload: u32::try_from(payload).ok()?,
            lanes: u32::try_from(lanes).ok()?,
            seed,
            ..Options::default()
        };
        Some(Self {
            arena: arena.clone(),
            index: u32::try_from(index).ok()?,
            parent: u32::try_from(parent).ok()?,
            options,
            target: target.clone(),
            victim: (after, delay),
        })
    }
}

impl Task {
    /// Whether its target is a table in PostgreSQL, not a file.
    fn is_on_postgres(&self) -> bool {
        !self.target.contains('/')
    }

    /// The clock of its killer. Who waits for a guard most of the time would mostly be killed waiting: every other
    /// worker of a system is killed by the time that it computes.
    fn clock(&self) -> ClockId {
        let computes = self.options.system.is_some() && self.index.is_multiple_of(2);
        if computes { ClockId::CLOCK_PROCESS_CPUTIME_ID } else { ClockId::CLOCK_MONOTONIC }
    }
}

impl Options {
    /// The sizes of the arena.
    pub(crate) fn shape(&self) -> Shape {
        let log = if self.system == Some(System::Resonance) {
            resonance::log_words(self.updates)
        } else {
            0
        };
        Shape { workers: self.processes, records: self.records(), payload: self.payload, log }
    }

    /// Records that the arena keeps: those of the mutex mode.
    pub(crate) fn records(&self) -> u32 {
        if self.mode == Mode::Mutex { self.keys } else { 0 }
    }
}

/// The life of a worker process; `args` are those behind [`WORKER`]. The exit code.
#[must_use]
pub fn worker(args: &[String]) -> u8 {
    if let [first, rest @ ..] = args
        && first == files::FILES_WORKER
    {
        return files::life(rest);
    }
    let Some(task) = Task::from_args(args) else {
        eprintln!("commonhold: {WORKER} is started by torture, not by hand");
        return 2;
    };
    // Children die with their coordinator; one that died before this line is found by the second look.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    if nix::unistd::getppid().as_raw().cast_unsigned() != task.parent {
        return 1;
    }
    let failed = |error: &TortureError, first: bool| {
        if first {
            eprintln!("commonhold: worker {}: {error}", task.index);
        }
        1
    };
    let arena = match Arena::open(&task.arena, task.options.shape()) {
        Ok(arena) => arena,
        Err(e) => return failed(&e, true),
    };
    match work(&task, &arena) {
        Ok(()) => 0,
        Err(e) => {
            let code = failed(&e, arena.failures().fetch_add(1, Ordering::SeqCst) == 0);
            commonhold_os::futex::wake_all(arena.ready());
            code
        }
    }
}

fn work(task: &Task, arena: &Arena) -> Result<(), TortureError> {
    if let Some(System::Resonance) = task.options.system {
        return resonance::work(task, arena);
    }
    match task.options.mode {
        Mode::Cas => cas(task, arena),
        Mode::Mutex => peers::mutex(task, arena),
        Mode::Naive if task.is_on_postgres() => peers::postgres::naive(task, arena),
        Mode::Store if task.is_on_postgres() => peers::postgres::store(task, arena),
        Mode::Naive => peers::naive(task, arena),
        Mode::Store => peers::store(task, arena),
    }
}

/// Makes all updates of a worker: times each, counts it after it returned, and meets its killer.
pub(crate) fn updates(
    task: &Task,
    view: &WorkerView<'_>,
    mut update: impl FnMut(u64) -> Result<(), TortureError>,
) -> Result<(), TortureError> {
    let mut killer = None;
    for number in 0..task.options.updates {
        if task.victim.0 > 0 {
            if number == task.victim.0 {
                killer = Some(arm(task.clock(), task.victim.1)?);
            }
            if number + 1 == task.options.updates {
                // The kill is due with one update left: wait for it, in the time that it is due in.
                loop {
                    match task.clock() {
                        ClockId::CLOCK_MONOTONIC => nix::unistd::pause(),
                        _ => std::hint::spin_loop(),
                    }
                }
            }
        }
        let start = monotonic_nanos();
        update(number)?;
        view.acknowledged.store(number + 1, Ordering::Release);
        let nanos = monotonic_nanos() - start;
        record(view.histogram, nanos);
        if nanos > view.longest.load(Ordering::Relaxed) {
            view.longest.store(nanos, Ordering::Relaxed);
        }
    }
    drop(killer);
    Ok(())
}

/// Has the kernel kill this process when `nanos` have passed on `clock`.
fn arm(clock: ClockId, nanos: u64) -> Result<Timer, TortureError> {
    let failed = |e| TortureError::system("arm the killer", e);
    let event = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
    let mut timer = Timer::new(clock, event).map_err(failed)?;
    let expiration = Expiration::OneShot(Duration::from_nanos(nanos.max(1)).into());
    timer.set(expiration, TimerSetTimeFlags::empty()).map_err(failed)?;
    Ok(timer)
}

fn cas(task: &Task, arena: &Arena) -> Result<(), TortureError> {
    let config = Config::named(&task.target).attach_only().without_steward();
    let runtime = Runtime::open(config.room_wait(Duration::from_secs(300)))?;
    let handle = runtime.handle()?;
    let view = arena.worker(task.index);
    view.writer.store(handle.writer().to_bits(), Ordering::Release);
    let options = &task.options;
    // Each record is looked up once, as a program would that updates it again and again.
    let distinct = options.updates.min(options.keys.into());
    let find = |update| handle.locate(0, &options.key(task.index, update));
    let records: Vec<Option<RecordRef>> = (0..distinct).map(find).collect::<Result<_, _>>()?;
    arena.wait_for_start()?;
    updates(task, &view, |number| {
        let record = records.get((number % distinct) as usize).copied().flatten();
        let record = record.ok_or_else(|| missing(&options.key(task.index, number)))?;
        one(&handle, record, number, &view)
    })
}

fn missing(key: &str) -> Error {
    Error::NotFound { table: crate::coordinator::TABLE.to_owned(), key: key.to_owned() }
}

/// One update through the runtime, with what can be checked on the spot.
fn one(
    handle: &Handle,
    record: RecordRef,
    number: u64,
    view: &WorkerView<'_>,
) -> Result<(), TortureError> {
    let mut before = ([0; 8], 0, 0);
    let step = |seen: &commonhold::core::Snapshot, next: &mut Vec<u8>| {
        let ([value, ..], _) = seen.payload.as_chunks::<8>() else { return Err(()) };
        let mut clock = [0; 8];
        clock.iter_mut().zip(&seen.clock).for_each(|(to, from)| *to = *from);
        before = (clock, seen.clock.len().min(8), seen.version);
        next.extend_from_slice(&(i64::from_le_bytes(*value) + 1).to_le_bytes());
        next.extend_from_slice(seen.payload.get(8..).unwrap_or_default());
        Ok(())
    };
    let done = handle.update_seen(0, record, step).map_err(|e| match e {
        UpdateError::Refused(()) => Error::Corrupt { what: "a payload", offset: 0, found: 0 },
        UpdateError::Failed(e) => e,
    })?;
    let commit = done.ok_or_else(|| missing("(by handle)"))?;
    let (clock, lanes, version) = before;
    let mut seen = 0;
    let order = compare(clock.get(..lanes).unwrap_or_default(), commit.clock.lanes());
    // Of a wider clock eight lanes are here: they may be equal, never before.
    if !(order == ClockOrder::Before || (lanes == 8 && order == ClockOrder::Equal)) {
        seen |= Violation::Clock as u64;
    }
    if commit.version != version + 1 {
        seen |= Violation::Version as u64;
    }
    if commit.sequence != number + 1 {
        seen |= Violation::Sequence as u64;
    }
    if seen != 0 {
        view.violations.fetch_or(seen, Ordering::Relaxed);
    }
    Ok(())
}
