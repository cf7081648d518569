//! Changes of several records under a guard.

use std::process::exit;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commonhold::{Error, Guard, GuardOptions, Table};
use nix::sys::wait::{WaitStatus, waitpid};

use super::{Ended, attach, say, stop_when_told, told};
use crate::fork::fork;
use crate::purse::{GUARD, Purse};
use crate::stage::{FULL, Item, LATEST};

fn limit(args: &[&str]) -> Result<Option<Duration>, std::num::ParseIntError> {
    args.first().map(|ms| Ok(Duration::from_millis(ms.parse()?))).transpose()
}

/// Waits for the guard, says what happened to the holder before and how many changes were made, and then makes one
/// change after the other in the same section, until it is told to stop or the guard is taken from it: how many.
pub(super) fn relay(segment: &str, args: &[&str]) -> Ended {
    let runtime = attach(segment, false)?;
    let handle = runtime.handle()?;
    let purse = Purse::new(&handle, limit(args)?)?;
    let stop = stop_when_told();
    say("ready");
    let mut made = 0;
    let left = purse.guard.with(|held| {
        let before = purse.check(held)?;
        say(&format!("holds {:?} {} {before}", held.previous(), held.number()));
        while !stop.load(Ordering::Acquire) {
            purse.transfer(held)?;
            made += 1;
        }
        Ok::<(), Error>(())
    });
    match left.and_then(|left| left) {
        Ok(()) => say(&format!("left {made}")),
        Err(Error::Fenced { .. }) => say(&format!("fenced {made}")),
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

/// Waits for the guard once, looks, and leaves.
pub(super) fn visit(segment: &str, args: &[&str]) -> Ended {
    let runtime = attach(segment, false)?;
    let handle = runtime.handle()?;
    let purse = Purse::new(&handle, limit(args)?)?;
    say("ready");
    let seen = purse.guard.with(|held| Ok::<_, Error>((held.previous(), purse.check(held)?)))??;
    say(&format!("had {:?} {}", seen.0, seen.1));
    Ok(())
}

/// Holds the guard, plans a change, and commits it when told.
pub(super) fn plan(segment: &str, args: &[&str]) -> Ended {
    let runtime = attach(segment, false)?;
    let handle = runtime.handle()?;
    let purse = Purse::new(&handle, limit(args)?)?;
    let full: Table<Item, _> = Table::new(&handle, FULL)?;
    let latest: Table<Item, _> = Table::new(&handle, LATEST)?;
    let left = purse.guard.with(|held| {
        let mut changes = held.changes();
        changes.update(&full, "from", |item| item.n = 0)?;
        changes.update(&latest, "to", |item| item.n = 0)?;
        say("planned");
        told();
        let made = changes.commit();
        say(&format!("commit {made:?}"));
        Ok::<(), Error>(())
    });
    say(&format!("left {:?}", left.and_then(|left| left)));
    Ok(())
}

/// Reads without the guard until told to stop: every record is whole each time.
pub(super) fn look(segment: &str) -> Ended {
    let runtime = attach(segment, false)?;
    let handle = runtime.handle()?;
    let purse = Purse::new(&handle, None)?;
    let stop = stop_when_told();
    say("ready");
    let mut looks = 0_u64;
    while !stop.load(Ordering::Acquire) {
        let [_, _, count] = purse.read();
        looks += u64::from(count >= 0);
    }
    say(&format!("looked {looks}"));
    Ok(())
}

/// Forks inside its section. The child can neither look, commit nor give the guard away; then the parent commits.
pub(super) fn fork_inside(segment: &str, args: &[&str]) -> Ended {
    let runtime = attach(segment, false)?;
    let handle = runtime.handle()?;
    let purse = Purse::new(&handle, None)?;
    let full: Table<Item, _> = Table::new(&handle, FULL)?;
    let mut child = false;
    let made = purse.guard.with(|held| {
        let mut changes = held.changes();
        changes.update(&full, "from", |_| ())?;
        changes.update(&full, "count", |_| ())?;
        let mut other = held.changes();
        other.update(&full, "from", |_| ())?;
        let Some(pid) = fork()? else {
            child = true;
            let looked = held.get(&full, "from");
            let one = if args == ["alone"] { other.commit() } else { changes.commit() };
            let refused = matches!(looked, Err(Error::Fenced { .. }));
            return Ok(refused && matches!(one, Err(Error::Fenced { .. })));
        };
        let status = waitpid(pid, None)?;
        drop(changes);
        purse.transfer(held)?;
        Ok::<_, Box<dyn std::error::Error>>(status == WaitStatus::Exited(pid, 0))
    });
    if child {
        // It has left its copy of the section: the parent still holds the guard.
        let free = purse.guard.try_with(|_| ());
        let held = matches!(&free, Ok(None));
        let well = matches!(made, Ok(Ok(true))) && held;
        if !well {
            eprintln!("child: refused {made:?}, then {free:?}");
        }
        exit(i32::from(!well));
    }
    say(&format!("parent {}", made??));
    Ok(())
}

/// Told so, makes a record under the guard, and counts it in another one.
pub(super) fn found(segment: &str, args: &[&str]) -> Ended {
    let [key] = args[..] else { return Err("found: arguments".into()) };
    let runtime = attach(segment, false)?;
    let handle = runtime.handle()?;
    let guard = Guard::new(&handle, GUARD, &GuardOptions::new())?;
    let full: Table<Item, _> = Table::new(&handle, FULL)?;
    let latest: Table<Item, _> = Table::new(&handle, LATEST)?;
    say("ready");
    told();
    let number = guard.change(|changes| {
        let mut number = 0;
        changes.update(&latest, "founded", |item| {
            item.n += 1;
            number = item.n;
        })?;
        changes.insert(&full, key, &Item { owner: number, n: 1 })?;
        Ok::<i64, Error>(number)
    })?;
    say(&format!("founded {number}"));
    Ok(())
}
