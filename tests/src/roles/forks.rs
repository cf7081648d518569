//! Children without exec.

use std::process::exit;

use commonhold::{Runtime, Table};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Ended, attach, say, told};
use crate::fork::fork;
use crate::stage::{FULL, Item, LATEST};

/// Commits of the parent before it forks.
const BEFORE: u64 = 5;
/// Commits of parent and child, each, afterwards.
const AFTER: u64 = 200;
const KEY: &str = "forked";

/// Parent and child go on with the same table, through `table` as it is, from inside a `closure`, or `anew` from the
/// inherited runtime. Each says who it was and how many commits it made.
pub(super) fn commit(segment: &str, args: &[&str]) -> Ended {
    let [way] = args[..] else { return Err("fork: arguments".into()) };
    let runtime = attach(segment, way == "anew")?;
    let table: Table<Item> = runtime.table(FULL)?;
    table.insert(KEY, &Item::default())?;
    for _ in 1..BEFORE {
        table.update(KEY, |item| item.n += 1)?;
    }
    let parent = table.handle().writer();
    let child = if way == "closure" { fork_in_closure(&table)? } else { fork()? };
    let Some(child) = child else { as_child(way, &runtime, &table) };
    for due in 1..=AFTER {
        let commit = table.update(KEY, |item| item.n += 1)?;
        let forked_within = u64::from(way == "closure");
        if commit.writer() != parent || commit.sequence() != BEFORE + forked_within + due {
            return Err(format!("parent {parent}: {commit:?}").into());
        }
    }
    match waitpid(child, None)? {
        WaitStatus::Exited(_, 0) => {}
        other => return Err(format!("the child ended with {other:?}").into()),
    }
    say(&format!("parent {parent} {}", table.handle().sequence(0)));
    Ok(())
}

fn fork_in_closure(table: &Table<Item>) -> Result<Option<Pid>, Box<dyn std::error::Error>> {
    let mut forked = None;
    table.update(KEY, |item| {
        if forked.is_none() {
            forked = Some(fork());
        }
        item.n += 1;
    })?;
    Ok(forked.ok_or("the closure did not run")??)
}

/// The child's life; never returns to what its parent was doing.
fn as_child(way: &str, runtime: &Runtime, table: &Table<Item>) -> ! {
    let work = |table: &Table<Item>| {
        for _ in 0..AFTER {
            table.update(KEY, |item| item.n += 1)?;
        }
        let handle = table.handle();
        say(&format!("child {} {}", handle.writer(), handle.sequence(0)));
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    let done = match way {
        "anew" => runtime.table(FULL).map_err(Into::into).and_then(|table| work(&table)),
        _ => work(table),
    };
    if let Err(e) = &done {
        eprintln!("child: {e}");
    }
    exit(i32::from(done.is_err()))
}

/// Forks and lets itself be killed; the child, told so, commits through what it inherited.
pub(super) fn orphan(segment: &str) -> Ended {
    let runtime = attach(segment, false)?;
    let table: Table<Item> = runtime.table(LATEST)?;
    table.insert(KEY, &Item::default())?;
    for _ in 1..BEFORE {
        table.update(KEY, |item| item.n += 1)?; // each leaves a spare cell with its writer
    }
    if fork()?.is_some() {
        loop {
            nix::unistd::pause();
        }
    }
    say(&format!("forked {}", table.handle().entry_index()));
    told();
    for _ in 0..AFTER {
        table.update(KEY, |item| item.n += 1)?;
    }
    drop(table);
    drop(runtime);
    say("done");
    exit(0)
}
