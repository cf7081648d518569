//! The coordinator: makes segment, store and arena, starts the processes, opens the start line, waits for
//! them all, and has the judge look.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use commonhold::catalogue::History;
use commonhold::core::Inserted;
use commonhold::{Config, Runtime, TableConfig};
use commonhold_os::futex;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::arena::Arena;
use crate::report::{Comparison, Report};
use crate::worker::Task;
use crate::{Mode, Options, TortureError, judge, key, peers, signals};

/// The table of the runtime's mode.
pub(crate) const TABLE: &str = "records";
/// How long the steward may take for what is left at the end.
pub(crate) const DRAIN: Duration = Duration::from_secs(600);
/// The longest a killer's fuse burns after the victim's chosen update, in nanoseconds.
const FUSE: u64 = 30_000;
/// The same when an update is one of a system's, which take longer: each octave up to 2^this is as likely.
const SYSTEM_FUSE_OCTAVES: u64 = 22;
/// Versions that may wait for the store.
const JOURNAL_CELLS: u32 = 262_144;

/// How the processes ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// For each worker whether it was killed.
    pub(crate) killed: Vec<bool>,
    /// Kills that count.
    pub(crate) kills: u32,
    pub(crate) elapsed_ms: u64,
}

/// Seed 002's way and ours, side by side, with the same options but the mode.
///
/// # Errors
/// [`TortureError`].
pub fn compare(options: &Options, progress: &dyn Fn(&str)) -> Result<Comparison, TortureError> {
    let before = Options { mode: Mode::Naive, kill: 0, ..options.clone() };
    let after = Options { mode: Mode::Cas, ..options.clone() };
    Ok(Comparison { before: run(&before, progress)?, after: run(&after, progress)? })
}

/// Runs one torture; `progress` is told what is being done.
///
/// # Errors
/// [`TortureError`] when it could not be run to its end. What it showed is in the report.
pub fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<Report, TortureError> {
    options.check()?;
    signals::catch()?;
    let start = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("commonhold-torture-")
        .tempdir()
        .map_err(|e| TortureError::system("make a temporary folder", e))?;
    let mut report = match options.mode {
        Mode::Cas => run_runtime(options, &folder, progress),
        Mode::Naive | Mode::Store => run_database(options, &folder, progress),
        Mode::Mutex => run_mutex(options, progress),
    }?;
    report.total_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

fn run_runtime(
    options: &Options,
    folder: &TempDir,
    progress: &dyn Fn(&str),
) -> Result<Report, TortureError> {
    let filler = format!("filler:bytes({})", options.payload - 12);
    let participants = options.processes + 16;
    let journal = if options.history == History::Full { JOURNAL_CELLS } else { 0 };
    let table = TableConfig::new(TABLE, &["value:i64", &filler])
        .history(options.history)
        .slots(options.keys)
        .cells(2 * options.keys + participants + 1 + journal)
        .key_bytes(16);
    let default = format!("sqlite:{}", folder.path().join("torture.db").display());
    let config = Config::ephemeral()
        .store(options.store.as_deref().unwrap_or(&default))
        .participants(participants)
        .lanes(options.lanes)
        .table(table);
    let runtime = Runtime::open(config)?;
    create_records(options, &runtime)?;
    let path = runtime.path().map(|p| p.display().to_string()).unwrap_or_default();
    let (arena, ended) = processes(options, &path, progress)?;
    progress("sweeping what the dead left, draining, auditing");
    runtime.sweep()?;
    runtime.drain(DRAIN)?;
    runtime.sweep()?;
    judge::judge_runtime(options, &runtime, &judge::claims(&arena, options), &ended)
}

fn create_records(options: &Options, runtime: &Runtime) -> Result<(), TortureError> {
    let handle = runtime.handle()?;
    let mut payload = 0_i64.to_le_bytes().to_vec();
    payload.extend((options.payload - 12).to_le_bytes());
    payload.resize(options.payload as usize, 0);
    for number in 0..options.keys {
        match handle.insert(0, &key(number.into()), &payload)? {
            Inserted::Committed(_) => {}
            Inserted::Exists(_) => {
                let text = "the store has records of an earlier torture; name an empty one";
                return Err(TortureError::Options(text.to_owned()));
            }
        }
    }
    Ok(())
}

fn run_database(
    options: &Options,
    folder: &TempDir,
    progress: &dyn Fn(&str),
) -> Result<Report, TortureError> {
    let on_postgres = options.store.as_deref().filter(|url| peers::postgres::is_meant(url));
    let (store, (arena, ended), (value, sequential)) = if let Some(url) = on_postgres {
        let table = peers::postgres::Table::create(url, options)?;
        let ran = processes_in(options, table.target(), Some(table.environment()), progress)?;
        (commonhold::store::normalise(url)?, ran, table.state()?)
    } else {
        let path = folder.path().join("peer.db");
        peers::create_database(&path, options)?;
        let ran = processes(options, &path.display().to_string(), progress)?;
        (format!("sqlite:{}", path.display()), ran, peers::database_state(&path)?)
    };
    let claims = judge::claims(&arena, options);
    let mut report = judge::report(options, &claims, &ended, value, None);
    report.versions_sequential = Some(sequential && report.lost == 0);
    report.store = store;
    report.store_rows = Some(options.keys.into());
    report.ok = report.holds();
    Ok(report)
}

fn run_mutex(options: &Options, progress: &dyn Fn(&str)) -> Result<Report, TortureError> {
    let (arena, ended) = processes(options, "-", progress)?;
    let (mut value, mut sequential) = (0, true);
    for record in 0..options.keys {
        if let [v, version, ..] = arena.record(record) {
            value += v.load(Ordering::Acquire).cast_signed();
            sequential &= v.load(Ordering::Acquire) == version.load(Ordering::Acquire);
        }
    }
    let claims = judge::claims(&arena, options);
    let mut report = judge::report(options, &claims, &ended, value, None);
    report.versions_sequential = Some(sequential);
    report.ok = report.holds();
    Ok(report)
}

/// Starts all processes, lets them go at once, and waits for the last.
pub(crate) fn processes(
    options: &Options,
    target: &str,
    progress: &dyn Fn(&str),
) -> Result<(Arena, Ended), TortureError> {
    processes_in(options, target, None, progress)
}

/// The same, with a variable of their environment.
fn processes_in(
    options: &Options,
    target: &str,
    variable: Option<(&str, &str)>,
    progress: &dyn Fn(&str),
) -> Result<(Arena, Ended), TortureError> {
    let shape = options.shape();
    let id = commonhold_os::random::hex(&commonhold_os::random::uuid());
    let name = format!("commonhold-arena-{id}");
    let arena = Arena::create(&name, shape)?;
    let victims = victims(options);
    progress(&format!("{}: starting {} processes", options.name(), options.processes));
    let mut crew = Crew { pids: Vec::new() };
    let exe = std::env::current_exe().map_err(|e| TortureError::system("find this program", e))?;
    for (index, victim) in (0_u32..).zip(&victims) {
        let task = Task {
            arena: name.clone(),
            index,
            parent: std::process::id(),
            options: options.clone(),
            target: target.to_owned(),
            victim: *victim,
        };
        let mut command = Command::new(&exe);
        let command = command.args(task.to_args()).stdin(Stdio::null()).stdout(Stdio::null());
        let command = command.envs(variable);
        let child = command.spawn().map_err(|e| {
            let what = format!("start process {index} (ulimit -u, ulimit -n)");
            TortureError::system(&what, e)
        })?;
        crew.pids.push(Some(Pid::from_raw(child.id().cast_signed())));
        signals::check()?;
    }
    while arena.ready().load(Ordering::SeqCst) < u64::from(options.processes) {
        let seen = arena.ready().load(Ordering::SeqCst);
        signals::check()?;
        crew.check(&arena)?;
        futex::wait(arena.ready(), seen as u32, Duration::from_millis(100));
    }
    progress(&format!("{}: {} updates", options.name(), options.updates));
    let start = Instant::now();
    arena.start()?;
    let killed = crew.wait_all(&arena)?;
    let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let kills = (0_u32..).zip(&killed).filter(|(index, killed)| {
        let done = arena.worker(*index).acknowledged.load(Ordering::Acquire);
        **killed && done >= 1 && done < options.updates
    });
    let kills = kills.count() as u32;
    Ok((arena, Ended { killed, kills, elapsed_ms }))
}

/// For each worker after how many updates it is killed, and how many nanoseconds later; (0, 0): not.
fn victims(options: &Options) -> Vec<(u64, u64)> {
    let mut state = options.seed;
    let mut next = |below: u64| {
        // splitmix64 (Steele, Lea, Flood 2014)
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % below.max(1)
    };
    let mut victims = vec![(0, 0); options.processes as usize];
    let mut left = u64::from(options.kill);
    let mut open = u64::from(options.processes);
    for victim in &mut victims {
        if next(open) < left {
            let fuse = match options.system {
                Some(_) => 1 << (10 + next(SYSTEM_FUSE_OCTAVES - 9)),
                None => FUSE,
            };
            *victim = (1 + next(options.updates - 1), 1 + next(fuse));
            left -= 1;
        }
        open -= 1;
    }
    victims
}

/// The processes that run.
struct Crew {
    pids: Vec<Option<Pid>>,
}

impl Crew {
    /// Fails when a worker ended before the start.
    fn check(&mut self, arena: &Arena) -> Result<(), TortureError> {
        if arena.failures().load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        Err(TortureError::Worker { index: 0, why: " to start".to_owned() })
    }

    /// Waits for all; which were killed.
    fn wait_all(&mut self, arena: &Arena) -> Result<Vec<bool>, TortureError> {
        let mut killed = Vec::with_capacity(self.pids.len());
        for (index, place) in (0_u32..).zip(&mut self.pids) {
            let Some(pid) = *place else { continue };
            let status = loop {
                signals::check()?;
                match waitpid(pid, None) {
                    Err(Errno::EINTR) => {}
                    done => break done,
                }
            };
            *place = None;
            match status {
                Ok(WaitStatus::Exited(_, 0)) => killed.push(false),
                Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)) => killed.push(true),
                other => return Err(TortureError::Worker { index, why: format!(": {other:?}") }),
            }
        }
        if arena.failures().load(Ordering::SeqCst) > 0 {
            return Err(TortureError::Worker { index: 0, why: String::new() });
        }
        Ok(killed)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for pid in self.pids.iter().flatten() {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        for pid in self.pids.iter().flatten() {
            let _ = waitpid(*pid, None);
        }
    }
}
