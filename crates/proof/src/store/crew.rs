//! Processes that commit, stand for the steward's role, and note what they were told to be durable.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a child that dies is a verdict

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use commonhold::{Bytes, Error, Handle, Ids, Runtime, Table, UpdateError};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::judge::Said;
use super::work::{IDS, Item, NAME, TABLES, Version, config};
use crate::Failure;
use crate::random::Random;
use crate::syscalls::fork_child;

/// Each of them goes on for so long, or until it is told to stop.
const LIMIT: Duration = Duration::from_secs(120);
const KEYS: u64 = 16;
const DELETABLE_KEYS: u64 = 4;
/// With this begin the keys that are deleted at times.
pub(crate) const DELETABLE: &str = "d";

/// The processes at work on one segment.
pub(crate) struct Crew {
    folder: PathBuf,
    seed: u64,
    hired: u64,
    pids: Vec<Pid>,
}

impl Crew {
    pub(crate) fn new(folder: &Path, seed: u64) -> Self {
        Self { folder: folder.to_owned(), seed, hired: 0, pids: Vec::new() }
    }

    /// One more process.
    pub(crate) fn hire(&mut self) -> Result<(), Failure> {
        let (folder, seed, number) = (self.folder.clone(), self.seed, self.hired);
        self.pids.push(fork_child(|| commit(&folder, seed, number))?);
        self.hired += 1;
        Ok(())
    }

    /// Kills the one with this process id; false when it is none of the crew.
    pub(crate) fn kill(&mut self, pid: u32) -> Result<bool, Failure> {
        let pid = Pid::from_raw(pid.cast_signed());
        if !self.pids.contains(&pid) {
            return Ok(false);
        }
        kill(pid, Signal::SIGKILL)?;
        waitpid(pid, None)?;
        self.pids.retain(|other| *other != pid);
        Ok(true)
    }

    /// Ends the work; how many of them did not end well and soon.
    pub(crate) fn dismiss(&mut self, within: Duration) -> Result<usize, Failure> {
        File::create(self.folder.join("stop"))?;
        let start = Instant::now();
        let mut bad = 0;
        for pid in std::mem::take(&mut self.pids) {
            loop {
                match waitpid(pid, Some(WaitPidFlag::WNOHANG))? {
                    WaitStatus::StillAlive if start.elapsed() < within => std::thread::yield_now(),
                    WaitStatus::StillAlive => {
                        kill(pid, Signal::SIGKILL)?;
                        waitpid(pid, None)?;
                        bad += 1;
                        break;
                    }
                    WaitStatus::Exited(_, 0) => break,
                    _ => {
                        bad += 1;
                        break;
                    }
                }
            }
        }
        std::fs::remove_file(self.folder.join("stop"))?;
        Ok(bad)
    }

    /// How many reports of durability there are so far.
    pub(crate) fn reports(&self) -> Result<usize, Failure> {
        Ok(self.said()?.durable.len())
    }

    /// What all of them noted, the killed ones too.
    pub(crate) fn said(&self) -> Result<Said, Failure> {
        let mut said = Said::default();
        for number in 0..self.hired {
            let text = std::fs::read_to_string(self.folder.join(format!("notes{number}")));
            let text = text.unwrap_or_default();
            // A line that its writer was killed in has no end.
            let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            lines.filter_map(Version::read).for_each(|(_, version)| said.any(version));
        }
        Ok(said)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for pid in &self.pids {
            let _ = kill(*pid, Signal::SIGKILL);
            let _ = waitpid(*pid, None);
        }
    }
}

/// A process's work: commits; of some commits it waits until they are durable, and notes that.
fn commit(folder: &Path, seed: u64, number: u64) -> bool {
    let start = Instant::now();
    let runtime = Runtime::open(config(folder, false)).unwrap();
    let handle = runtime.handle().unwrap();
    handle.set_room_wait(Duration::from_millis(50));
    let tables = TABLES.map(|name| Table::<Item, &Handle>::new(&handle, name).unwrap());
    let ids = Ids::new(&handle, NAME).unwrap();
    let mut random = Random::of(seed, number);
    let notes = folder.join(format!("notes{number}"));
    let mut notes = File::options().create(true).append(true).open(notes).unwrap();
    while !folder.join("stop").exists() && start.elapsed() < LIMIT {
        if random.chance(20)
            && let Ok(version) = ids.next_within(Duration::from_millis(500))
        {
            let (table, key) = (IDS.to_owned(), NAME.to_owned());
            let line = Version { table, key, version, deleted: false }.line('A');
            notes.write_all(line.as_bytes()).unwrap();
        }
        let table = &tables[random.below(2) as usize];
        let number = random.below(KEYS);
        // Who is killed may not have said that he deleted: of the others it is known that nobody did.
        let deletable = number < DELETABLE_KEYS;
        let key = format!("{}{number}", if deletable { DELETABLE } else { "k" });
        let deleted = deletable && random.chance(20);
        let done = if deleted {
            table.delete(&key).map_err(UpdateError::Failed)
        } else {
            change(table, &key, random.below(200) as usize)
        };
        let commit = match done {
            Ok(commit) => commit,
            Err(UpdateError::Failed(Error::Full { .. } | Error::NotFound { .. })) => continue,
            Err(_) => return false,
        };
        if random.chance(20) && commit.durable(Duration::from_millis(500)).is_ok() {
            let (table, version) = (table.name().to_owned(), commit.version());
            let line = Version { table, key, version, deleted }.line('A');
            notes.write_all(line.as_bytes()).unwrap();
        }
    }
    true
}

/// Counts up in a record, and gives it a filler of `length` bytes.
pub(crate) fn change<'a>(
    table: &'a Table<Item, &Handle>,
    key: &str,
    length: usize,
) -> Result<commonhold::Commit<'a>, UpdateError<std::convert::Infallible>> {
    let filler = Bytes::new(&vec![7; length]).unwrap();
    let change = |item: &mut Item| {
        item.n += 1;
        item.filler = filler;
    };
    table.update_or_insert(key, || Item { n: 1, filler }, change)
}
