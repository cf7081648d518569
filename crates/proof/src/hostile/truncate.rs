//! The check `truncate`: somebody cuts a segment's file short while processes work on it. All of them end with the error
//! that says so, none by a signal; what was acknowledged as durable is in the store, and nothing else is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a panic is a violation

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use commonhold::core::Snapshot;
use commonhold::store::Check as AuditCheck;
use commonhold::{Error, Handle, Runtime, Table};
use commonhold_segment::sync::Fault;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Random;
use super::scene::{Item, LIMIT, Scene, TABLES};
use super::worker::{Progress, Series, fork, reap, shared};
use crate::{Bite, Check, Failure, Outcome, Plan};

/// See the module.
pub(crate) const CHECK: Check = Check {
    name: "truncate",
    about: "a segment's file is cut short in use: errors, no dead process, and the store has what it acknowledged",
    run,
    bites: &[Bite::Sabotage("no-guard"), Bite::Fault(Fault::NoCutCheck)],
    limit_s: 200,
};

const KEYS: usize = 8;
const ROLES: [&str; 5] = ["writer", "writer", "by handle", "reader", "waiter"];
const STEPS: &[&str] = &["make", "start", "cut", "end", "make anew", "judge"];
/// So long an error may take to show everywhere.
const END: Duration = Duration::from_secs(30);

/// How the file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    ToNothing,
    ToHalf,
    ToOnePage,
    ByOnePage,
    ByOneByte,
    Anywhere,
    /// To nothing, and made as long as it was.
    AndGrown,
    /// Not cut but removed: harmless.
    Removed,
}

const CUTS: [Cut; 8] = [
    Cut::ToNothing,
    Cut::ToHalf,
    Cut::ToOnePage,
    Cut::ByOnePage,
    Cut::ByOneByte,
    Cut::Anywhere,
    Cut::AndGrown,
    Cut::Removed,
];

/// What the processes of one injection share.
struct Board {
    ready: AtomicU64,
    /// 1: the file is cut.
    cut: AtomicU64,
    /// 1: end without an error.
    stop: AtomicU64,
    /// The highest version acknowledged as durable, of each table and key.
    durable: [[AtomicU64; KEYS]; 2],
}

/// One injection.
struct Case<'a> {
    plan: &'a Plan,
    folder: PathBuf,
    board: &'static Board,
    cut: Cut,
}

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let make = |number: u64, _: u64, progress: &Progress| {
        let folder = plan.folder.join(format!("case-{number}"));
        let cut = CUTS[number as usize % CUTS.len()];
        let mut wrong = Vec::new();
        let done = shared::<Board>().and_then(|board| {
            std::fs::create_dir(&folder)?;
            let case = Case { plan, folder: folder.clone(), board, cut };
            case.make(&mut Random::of(plan.seed, number), progress, &mut wrong)
        });
        wrong.extend(done.err().map(|e| e.to_string()));
        let _ = std::fs::remove_dir_all(folder);
        wrong
    };
    let about = |number: u64| {
        let cut = CUTS[number as usize % CUTS.len()];
        format!("{cut:?}; seed {} --only {number}", plan.seed)
    };
    let numbers = plan.only.map_or(0..plan.of(48, 2000), |n| n..n + 1);
    let (name, folder, limit) = ("truncate", plan.folder.as_path(), Duration::from_secs(40));
    let (make, about) = (&make, &about);
    let series = Series { name, folder, numbers, workers: 2, limit, steps: STEPS, make, about };
    let mut outcome = series.run()?;
    outcome.figures = format!("{} processes each", ROLES.len());
    Ok(outcome)
}

fn key(n: usize) -> String {
    format!("key-{n}")
}

impl Case<'_> {
    fn segment(&self) -> PathBuf {
        self.folder.join("segment")
    }

    fn make(
        &self,
        random: &mut Random,
        progress: &Progress,
        wrong: &mut Vec<String>,
    ) -> Result<(), Failure> {
        progress.step(0);
        let runtime = Runtime::open(Scene::config(&self.folder))?;
        for name in TABLES {
            let table: Table<Item> = runtime.table(name)?;
            (0..KEYS).try_for_each(|n| table.insert(&key(n), &Item::default()).map(drop))?;
        }
        runtime.drain(LIMIT)?;
        drop(runtime);
        progress.step(1);
        let mut crew = Vec::new();
        for (at, role) in ROLES.iter().enumerate() {
            crew.push((at, *role, self.start(at, role)?));
        }
        let all = |board: &Board| board.ready.load(Ordering::SeqCst) >= ROLES.len() as u64;
        let start = Instant::now();
        while !all(self.board) && start.elapsed() < END {
            std::thread::yield_now();
        }
        let until = Instant::now() + Duration::from_micros(random.below(60_000) as u64);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        progress.step(2);
        self.cut(random)?;
        progress.step(3);
        for (at, role, child) in crew {
            if let Some(what) = end(child) {
                wrong.push(format!("{role} {at}: {what}"));
            }
            let said = std::fs::read_to_string(self.said(at)).unwrap_or_default();
            wrong.extend(said.lines().map(|line| format!("{role} {at}: {line}")));
        }
        progress.step(4);
        let _ = std::fs::remove_file(self.segment());
        self.anew(progress, wrong)
    }

    fn cut(&self, random: &mut Random) -> Result<(), Failure> {
        let path = self.segment();
        if self.cut == Cut::Removed {
            std::fs::remove_file(path)?;
            std::thread::sleep(Duration::from_millis(20)); // they go on meanwhile
            self.board.stop.store(1, Ordering::SeqCst);
            return Ok(());
        }
        let file: File = OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        file.set_len(match self.cut {
            Cut::ToHalf => length / 2,
            Cut::ToOnePage => 4096,
            Cut::ByOnePage => length - 4096,
            Cut::ByOneByte => length - 1,
            Cut::Anywhere => random.below(length as usize) as u64,
            _ => 0,
        })?;
        if self.cut == Cut::AndGrown {
            file.set_len(length)?;
        }
        self.board.cut.store(1, Ordering::SeqCst);
        Ok(())
    }

    fn said(&self, at: usize) -> PathBuf {
        self.folder.join(format!("{at}.said"))
    }

    /// Starts a process that works until the error comes.
    fn start(&self, at: usize, role: &str) -> Result<Pid, Failure> {
        if let Some(child) = fork()? {
            return Ok(child);
        }
        let ended = catch_unwind(AssertUnwindSafe(|| self.serve(at, role)));
        let said = match ended {
            Ok(Ok(())) => None,
            Ok(Err(what)) => Some(what),
            Err(_) => Some("panicked".to_owned()),
        };
        if let Some(what) = said {
            let mut file = File::create(self.said(at)).unwrap();
            let _ = writeln!(file, "{}", what.replace('\n', " "));
        }
        // SAFETY: ends the process; nothing of the parent's is run or written once more.
        unsafe { libc::_exit(0) }
    }

    fn serve(&self, at: usize, role: &str) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| format!("cannot begin: {e}");
        let config = Scene::config(&self.folder).attach_only();
        let runtime = Runtime::open(config).map_err(|e| text(&e))?;
        if self.plan.sabotaged("no-guard") {
            // SAFETY: the default action.
            unsafe { signal(Signal::SIGBUS, SigHandler::SigDfl) }.map_err(|e| text(&e))?;
        }
        let handle = runtime.handle().map_err(|e| text(&e))?;
        let tables = TABLES.map(|name| Table::<Item, _>::new(&handle, name).unwrap());
        self.board.ready.fetch_add(1, Ordering::SeqCst);
        let mut random = Random::of(self.plan.seed, at as u64);
        loop {
            let cut = self.board.cut.load(Ordering::SeqCst) == 1;
            let position = random.below(2);
            match self.step(role, &tables[position], position, &mut random) {
                Err(Error::Truncated { .. }) => return Ok(()),
                Err(Error::Timeout { .. }) if !cut => {}
                Err(e) => return Err(format!("another error: {e}")),
                Ok(()) if cut => return Err("an operation begun after the cut was done".to_owned()),
                Ok(()) => {}
            }
            if self.board.stop.load(Ordering::SeqCst) == 1 {
                return Ok(());
            }
        }
    }

    fn step(
        &self,
        role: &str,
        table: &Table<Item, &Handle>,
        at: usize,
        random: &mut Random,
    ) -> Result<(), Error> {
        let n = random.below(KEYS);
        let raise = |item: &mut Item| item.n += 1;
        match role {
            "writer" => {
                let done = table.update(&key(n), raise);
                let commit = done.map_err(|e| e.or_refused(|never| match never {}))?;
                if random.below(8) == 0 {
                    commit.durable(END)?;
                    self.board.durable[at][n].fetch_max(commit.version(), Ordering::SeqCst);
                }
            }
            "by handle" => {
                // Found before the cut, used behind it.
                let record = table.find(&key(n))?;
                for _ in 0..50 {
                    let Some(record) = record else { return Err(lost("a record")) };
                    table.get_at(record)?.ok_or_else(|| lost("a record"))?;
                    let done = table.update_at(record, raise);
                    let commit = done.map_err(|e| e.or_refused(|never| match never {}))?;
                    commit.ok_or_else(|| lost("a record"))?;
                }
            }
            "reader" => {
                table.get(&key(n))?.ok_or_else(|| lost("a record"))?;
                if table.len()? != KEYS {
                    return Err(lost("records"));
                }
            }
            _ => {
                let long = if self.cut == Cut::Removed { 0 } else { 3 };
                table.wait_for(&key(n), |item| item.n < 0, Duration::from_secs(long))?;
            }
        }
        Ok(())
    }

    /// The segment made anew from its store holds what was acknowledged, and works.
    fn anew(&self, progress: &Progress, wrong: &mut Vec<String>) -> Result<(), Failure> {
        let runtime = Runtime::open(Scene::config(&self.folder))?;
        progress.step(5);
        for (at, name) in TABLES.iter().enumerate() {
            for (n, durable) in self.board.durable[at].iter().enumerate() {
                let durable = durable.load(Ordering::SeqCst);
                let seen: Option<Snapshot> = runtime.space().peek(at, &key(n))?;
                let version = seen.as_ref().map_or(0, |seen| seen.version);
                if version < durable.max(1) {
                    wrong.push(format!("{name} {}: durable {durable}, stored {version}", key(n)));
                }
            }
            let table: Table<Item> = runtime.table(name)?;
            for n in 0..KEYS {
                let before = table.get(&key(n))?.map_or(-1, |item| item.n);
                let commit = table.update(&key(n), |item| item.n += 1)?;
                commit.durable(LIMIT)?;
                if commit.version() as i64 != before + 2 {
                    wrong.push(format!(
                        "{name} {}: {before} at version {}",
                        key(n),
                        commit.version()
                    ));
                }
            }
        }
        drop(runtime);
        let url = format!("sqlite:{}", self.folder.join("store.db").display());
        let audit = commonhold::store::open(&url)?.audit()?;
        // What was committed last and not stored is lost with the memory; of a writer who worked on several records it
        // need not be his last commits, and the audit then says which of his numbers is missing.
        let findings = audit.tables.iter().flat_map(|t| &t.findings);
        let findings = findings.filter(|finding| finding.check != AuditCheck::Writers);
        wrong.extend(findings.map(|finding| format!("stored: {finding:?}")));
        Ok(())
    }
}

/// Something was not there that nobody removed.
fn lost(what: &'static str) -> Error {
    Error::NotFound { table: "one of both".to_owned(), key: what.to_owned() }
}

/// How a process ended, if not as it should.
fn end(child: Pid) -> Option<String> {
    let start = Instant::now();
    while start.elapsed() < END {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
            Ok(WaitStatus::Exited(_, 0)) => return None,
            other => return Some(format!("ended by {other:?}")),
        }
    }
    let _ = kill(child, Signal::SIGKILL);
    reap(child);
    Some("it did not end".to_owned())
}
