//! The torture of a shared file: processes add concepts to one `human.jsonc`, and one of them is killed at a random moment
//! again and again, and replaced. Three ways side by side:
//!
//! | way | an update is |
//! | --- | --- |
//! | plain | load, modify, save |
//! | lock file | the same under a lock file that is made exclusively, and removed by others when it is a second old |
//! | shared file | `SharedFile::update` |
//!
//! **Who counts**: a worker notes each update in a file of its own after the call returned, with one `write(2)`. What is
//! noted and not in the file afterwards is lost. An update also adds one to the worker's own count in the file: an update
//! that is made twice adds two. **The watcher** (watch.rs) reads the file after each change and parses it.

mod report;
mod watch;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Options, TortureError, signals};
use watch::Watch;

pub use report::{FilesReport, WayReport};
pub(crate) use worker::{FILES_WORKER, life};

/// One is killed so often.
const KILL_EVERY: Duration = Duration::from_millis(100);
/// So long a way may take; then the run has failed.
const LIMIT: Duration = Duration::from_secs(300);

/// In the shared file from the start; the programs of the other ways know no comments.
const COMMENT: &str = "// what all have learned";

/// How a file is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Load, modify, save.
    Plain,
    /// A lock file that is stale by its age.
    LockFile,
    /// This project's.
    Shared,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::LockFile, Self::Shared];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::LockFile => "lock-file",
            Self::Shared => "shared-file",
        }
    }
}

/// Checks what [`Options::check`] does not: with this system `kill` is the most kills of each way.
pub(crate) fn check(options: &Options) -> Result<(), TortureError> {
    let no = |text: String| Err(TortureError::Options(text));
    if !(1..=500).contains(&options.processes) {
        return no(format!("--processes {}: 1 to 500", options.processes));
    }
    if u64::from(options.processes).saturating_mul(options.updates) > 1_000_000 {
        return no(
            "--system files with more than 1000000 updates in all; lower --updates".to_owned()
        );
    }
    Ok(())
}

/// Runs the torture of a shared file; `progress` is told what is being done.
///
/// # Errors
/// [`TortureError`] when it could not be run to its end. What it showed is in the report.
pub fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<FilesReport, TortureError> {
    options.check()?;
    signals::catch()?;
    let mut ways = Vec::new();
    for way in Way::ALL {
        progress(&format!(
            "{}: {} processes, {} updates each",
            way.name(),
            options.processes,
            options.updates
        ));
        ways.push(one_way(options, way)?);
    }
    let (processes, updates, kill) = (options.processes, options.updates, options.kill);
    let report = FilesReport { system: "files", processes, updates, kill, ways, ok: false };
    let ok = report.ways.iter().any(|way| way.way == Way::Shared.name() && way.holds(&report));
    Ok(FilesReport { ok, ..report })
}

fn one_way(options: &Options, way: Way) -> Result<WayReport, TortureError> {
    let folder = tempfile::Builder::new()
        .prefix("commonhold-torture-")
        .tempdir()
        .map_err(|e| TortureError::system("make a temporary folder", e))?;
    let path = folder.path().join("human.jsonc");
    let comment = if way == Way::Shared { COMMENT } else { "" };
    let text = format!("{{\n  {comment}\n  \"concepts\": {{}}\n}}\n");
    std::fs::write(&path, text).map_err(|e| TortureError::system("write the file", e))?;
    let watch = Watch::start(&path)?;
    let began = Instant::now();
    let mut crew = Crew::start(options, way, folder.path())?;
    crew.work(options)?;
    let elapsed = began.elapsed();
    let seen = watch.end()?;
    let (kills, failures) = (crew.kills, crew.failures);
    drop(crew);
    WayReport::judge(way, folder.path(), &path, &seen, (kills, failures), elapsed)
}

/// The processes of one way.
struct Crew {
    way: Way,
    folder: PathBuf,
    updates: u64,
    members: Vec<Option<Child>>,
    random: u64,
    kills: u32,
    failures: u32,
    lives: u64,
}

impl Crew {
    fn start(options: &Options, way: Way, folder: &Path) -> Result<Self, TortureError> {
        let mut crew = Self {
            way,
            folder: folder.to_owned(),
            updates: options.updates,
            members: Vec::new(),
            random: options.seed | 1,
            kills: 0,
            failures: 0,
            lives: 0,
        };
        for index in 0..options.processes as usize {
            let member = crew.hire(index)?;
            crew.members.push(Some(member));
        }
        Ok(crew)
    }

    /// Starts the process number `index`, which goes on where its predecessor was killed.
    fn hire(&mut self, index: usize) -> Result<Child, TortureError> {
        self.lives += 1;
        let exe =
            std::env::current_exe().map_err(|e| TortureError::system("find this program", e))?;
        let numbers = [index as u64, self.lives, self.updates, u64::from(std::process::id())];
        let mut command = Command::new(exe);
        command.args([crate::WORKER, FILES_WORKER, self.way.name()]).arg(&self.folder);
        command.args(numbers.map(|number| number.to_string()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
            .spawn()
            .map_err(|e| TortureError::system("start a process (ulimit -u, ulimit -n)", e))
    }

    /// Kills and replaces, until all have made their updates.
    fn work(&mut self, options: &Options) -> Result<(), TortureError> {
        let (start, mut next_kill) = (Instant::now(), KILL_EVERY);
        let most = if options.kill == 0 { u32::MAX } else { options.kill };
        loop {
            signals::check()?;
            self.reap()?;
            let alive: Vec<usize> = self
                .members
                .iter()
                .enumerate()
                .filter(|(_, member)| member.is_some())
                .map(|(at, _)| at)
                .collect();
            if alive.is_empty() {
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                return Err(TortureError::system("finish in 300 s", std::io::ErrorKind::TimedOut));
            }
            if start.elapsed() >= next_kill && self.kills < most {
                let victim = alive.get(self.below(alive.len())).copied().unwrap_or_default();
                self.kill(victim)?;
                // Any moment of the interval, so that it does not keep step with anything.
                next_kill += KILL_EVERY;
            }
            std::thread::sleep(Duration::from_micros(500 + self.below(1000) as u64));
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % limit.max(1) as u64) as usize
    }

    fn reap(&mut self) -> Result<(), TortureError> {
        for member in &mut self.members {
            let Some(child) = member else { continue };
            let ended =
                child.try_wait().map_err(|e| TortureError::system("wait for a process", e))?;
            if let Some(status) = ended {
                self.failures += u32::from(!status.success());
                *member = None;
            }
        }
        Ok(())
    }

    fn kill(&mut self, index: usize) -> Result<(), TortureError> {
        let Some(Some(child)) = self.members.get_mut(index) else { return Ok(()) };
        let error = |e| TortureError::system("kill a process", e);
        child.kill().map_err(error)?;
        let status = child.wait().map_err(error)?;
        if status.code().is_some() {
            // It had ended by itself just before.
            self.failures += u32::from(!status.success());
            if let Some(member) = self.members.get_mut(index) {
                *member = None;
            }
            return Ok(());
        }
        self.kills += 1;
        let next = self.hire(index)?;
        if let Some(member) = self.members.get_mut(index) {
            *member = Some(next);
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for child in self.members.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
