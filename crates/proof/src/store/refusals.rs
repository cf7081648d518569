//! A store that refuses for some time: locked by another program, full, read-only. Commits go on in memory, waits for
//! durability end with the reason, and when the cause is gone everything is stored.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a child that dies is a verdict

use std::path::Path;
use std::time::{Duration, Instant};

use commonhold::store::{Batch, StoreError, TableBatch};
use commonhold::{Error, Handle, Runtime, Table, UpdateError};
use commonhold_os::clock::monotonic_nanos;
use nix::sys::wait::{WaitStatus, waitpid};
use rusqlite::Connection;

use super::crew::{Crew, change};
use super::judge::{self, HEALED, Said};
use super::place;
use super::work::{Item, TABLES, config};
use crate::random::Random;
use crate::syscalls::fork_child;
use crate::{Failure, Outcome, Plan};

/// Longer than a steward waits for a lock before he says so.
const LOCKED: Duration = Duration::from_millis(4500);
const PATIENCE: Duration = Duration::from_secs(3);
/// The file system that is soon full.
const SMALL_KIB: u32 = 700;
const LARGE_KIB: u32 = 64 * 1024;

/// What a part finds wrong.
type Wrong = Vec<String>;

/// Runs `part` in a process of its own, which may have threads; what it finds wrong.
fn aside(folder: &Path, part: impl FnOnce(&Path) -> Wrong) -> Result<Wrong, Failure> {
    let report = folder.join("wrong");
    let pid = fork_child(|| std::fs::write(&report, part(folder).join("\n")).is_ok())?;
    let status = waitpid(pid, None)?;
    let mut wrong: Wrong =
        std::fs::read_to_string(&report).unwrap_or_default().lines().map(str::to_owned).collect();
    if !matches!(status, WaitStatus::Exited(_, 0)) {
        wrong.push(format!("its process ended with {status:?}"));
    }
    Ok(wrong)
}

fn note(outcome: &mut Outcome, part: &str, wrong: Wrong) {
    outcome.faults += 1;
    wrong.into_iter().for_each(|w| outcome.violation(format!("{part}: {w}")));
}

fn settled(outcome: &mut Outcome, part: &str, folder: &Path, said: &Said) {
    if let Err(wrong) = judge::settled(folder, said) {
        outcome.violation(format!("{part}: {wrong}"));
    }
}

/// Another program holds the database, once for long and then again and again, while processes commit.
pub(crate) fn busy(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let folder = plan.folder.join("busy");
    std::fs::create_dir_all(folder.join("store"))?;
    drop(Runtime::open(config(&folder, false).without_steward())?);
    let mut crew = Crew::new(&folder, plan.seed);
    crew.hire()?;
    crew.hire()?;
    let (holds, seed) = (plan.of(10, 200), plan.seed);
    note(&mut outcome, "locked", aside(&folder, |folder| locked(folder, holds, seed))?);
    let bad = crew.dismiss(Duration::from_secs(20))?;
    outcome.demand(bad == 0, || format!("locked: {bad} processes did not end well"));
    settled(&mut outcome, "locked", &folder, &crew.said()?);
    outcome.faults += holds;
    Ok(outcome)
}

fn locked(folder: &Path, holds: u64, seed: u64) -> Wrong {
    let mut wrong = Wrong::new();
    let runtime = Runtime::open(config(folder, false).without_steward()).unwrap();
    let handle = runtime.handle().unwrap();
    let tables = TABLES.map(|name| Table::<Item, &Handle>::new(&handle, name).unwrap());
    let other = Connection::open(folder.join("store").join("db")).unwrap();
    other.busy_timeout(Duration::from_secs(20)).unwrap();
    // One who only takes over waits longer for the lock before he says so: there is a steward first.
    if let Err(e) = change(&tables[1], "locked", 10).unwrap().durable(HEALED) {
        wrong.push(format!("nobody serves: {e}"));
    }
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let start = Instant::now();
    let commit = change(&tables[1], "locked", 10).unwrap();
    must_time_out(commit.durable(PATIENCE), "locked by another program", &mut wrong);
    std::thread::sleep(LOCKED.saturating_sub(start.elapsed()));
    other.execute_batch("ROLLBACK").unwrap();
    if let Err(e) = commit.durable(HEALED) {
        wrong.push(format!("not stored after the lock is gone: {e}"));
    }
    let mut random = Random::of(seed, 5);
    for _ in 0..holds {
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        std::thread::sleep(Duration::from_millis(random.below(150)));
        other.execute_batch("COMMIT").unwrap();
        std::thread::sleep(Duration::from_millis(random.below(20)));
    }
    let commit = change(&tables[0], "locked", 10).unwrap();
    if let Err(e) = commit.durable(HEALED) {
        wrong.push(format!("not stored after the last lock: {e}"));
    }
    wrong
}

fn must_time_out(done: Result<(), Error>, reason: &str, wrong: &mut Wrong) {
    match done {
        Err(Error::Timeout { why, .. }) if why.contains(reason) => {}
        Err(e) => wrong.push(format!("a wait for durability ended without `{reason}`: {e}")),
        Ok(()) => wrong.push(format!("reported durable, although {reason}")),
    }
}

/// The file system of the store is full, and later has room.
pub(crate) fn full(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let folder = plan.folder.join("full");
    let store = folder.join("store");
    place::small(&store, SMALL_KIB)?;
    note(&mut outcome, "full disk", aside(&folder, full_disk)?);
    settled(&mut outcome, "full disk", &folder, &Said::default());
    place::gone(&store)?;
    Ok(outcome)
}

fn full_disk(folder: &Path) -> Wrong {
    const REASON: &str = "no space is left";
    let mut wrong = Wrong::new();
    let runtime = Runtime::open(config(folder, false)).unwrap();
    let handle = runtime.handle().unwrap();
    handle.set_room_wait(Duration::from_millis(100));
    let [full, latest] = TABLES.map(|name| Table::<Item, &Handle>::new(&handle, name).unwrap());
    let key = |n: u64| format!("k{}", n % 16);
    let short = Duration::from_millis(500);
    let fits = (0..5000).find_map(|n| {
        let commit = change(&full, &key(n), 2000).ok()?;
        commit.durable(short).err()
    });
    match fits {
        Some(e) => must_time_out(Err(e), REASON, &mut wrong),
        None => wrong.push("the disk is not full".to_owned()),
    }
    for n in 0..1000 {
        if let Err(e) = change(&latest, &key(n), 2000) {
            wrong.push(format!("a commit with latest history failed: {e}"));
            break;
        }
    }
    let refused = (0..5000).find_map(|n| change(&full, &key(n), 2000).err());
    match refused {
        Some(UpdateError::Failed(e @ Error::Full { .. })) => {
            let text = e.to_string();
            if !(text.contains("cells are in use") && text.contains(REASON)) {
                wrong.push(format!("full without its reason: {text}"));
            }
        }
        other => wrong.push(format!("the cells are used up: {other:?}")),
    }
    place::resize(&folder.join("store"), LARGE_KIB).unwrap();
    drains(&runtime, &full, &mut wrong);
    wrong
}

/// With no more faults a commit succeeds and everything is stored in time.
fn drains(runtime: &Runtime, table: &Table<Item, &Handle>, wrong: &mut Wrong) {
    let start = monotonic_nanos();
    let left = || HEALED.saturating_sub(Duration::from_nanos(monotonic_nanos() - start));
    if let Err(e) = runtime.drain(left()) {
        wrong.push(format!("not drained with no faults: {e}"));
    }
    match change(table, "healed", 10) {
        Ok(commit) => {
            if let Err(e) = commit.durable(left()) {
                wrong.push(format!("not stored with no faults: {e}"));
            }
        }
        Err(e) => wrong.push(format!("no commit with no faults: {e}")),
    }
}

/// The file system of the store is read-only, and later writable.
pub(crate) fn read_only(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let folder = plan.folder.join("readonly");
    let store = folder.join("store");
    place::small(&store, LARGE_KIB)?;
    drop(Runtime::open(config(&folder, false).without_steward())?);
    place::read_only(&store, true)?;
    note(&mut outcome, "read-only disk", aside(&folder, read_only_disk)?);
    settled(&mut outcome, "read-only disk", &folder, &Said::default());
    place::gone(&store)?;
    Ok(outcome)
}

fn read_only_disk(folder: &Path) -> Wrong {
    let mut wrong = Wrong::new();
    let runtime = Runtime::open(config(folder, false)).unwrap();
    let handle = runtime.handle().unwrap();
    let [full, latest] = TABLES.map(|name| Table::<Item, &Handle>::new(&handle, name).unwrap());
    let commit = change(&full, "k", 10).unwrap();
    let reason = "check the";
    must_time_out(commit.durable(PATIENCE / 2), reason, &mut wrong);
    change(&latest, "k", 10).unwrap();
    place::read_only(&folder.join("store"), false).unwrap();
    drains(&runtime, &full, &mut wrong);
    let header = runtime.space().segment().header();
    let mut reader = runtime.store().unwrap();
    let joined = reader.join(header.uuid, header.store_epoch, 0, runtime.catalogue());
    let raised = TableBatch { floor: 1 << 40, ..TableBatch::default() };
    let written =
        joined.and_then(|()| reader.append(&Batch { tables: vec![raised], ..Batch::default() }));
    match written {
        Err(StoreError::ReadOnly(_)) => {}
        other => wrong.push(format!("written through a store opened for reading: {other:?}")),
    }
    wrong
}
