//! Guards: holders and waiters that are killed, stopped and forked.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use commonhold::core::guard::GuardFigures;
use commonhold::{Error, Guard, GuardOptions, Handle, Runtime, Table, admin};
use commonhold_tests::stage::LIMIT;
use commonhold_tests::{FULL, Item, LATEST, Process, Purse, Random, Stage, judge, stage};

/// A hold limit in milliseconds, as roles take it.
const LIMIT_MS: &str = "30";

fn figures(runtime: &Runtime) -> GuardFigures {
    runtime.space().guards().unwrap().remove(0)
}

/// Waits for what must come.
fn until(mut comes: impl FnMut() -> bool) {
    let start = Instant::now();
    while !comes() {
        assert!(start.elapsed() < LIMIT, "it never comes");
        std::thread::yield_now();
    }
}

fn asleep(runtime: &Runtime, count: usize) {
    until(|| figures(runtime).waiters as usize == count);
}

/// The segment with the three records.
fn filled(stage: &Stage, limit: Option<Duration>) -> (Runtime, Handle) {
    let runtime = Runtime::open(stage.sized(160, 200, 1500)).unwrap();
    let handle = runtime.handle().unwrap();
    Purse::new(&handle, limit).unwrap().fill();
    (runtime, handle)
}

fn waiting(stage: &Stage, role: &str, args: &[&str]) -> Process {
    let mut process = stage.role(role, args);
    process.hear("ready");
    process
}

/// What a role said that got the guard: what happened before, and how many changes were made.
fn had(process: &mut Process) -> (String, i64) {
    let said = process.hear("had");
    let (previous, made) = said.split_once(' ').unwrap();
    (previous.to_owned(), made.parse().unwrap())
}

/// What a role said that holds the guard: what happened before, its number, and how many changes were made.
fn holds(process: &mut Process) -> (String, u64, i64) {
    let said = process.hear("holds");
    let words: Vec<&str> = said.split(' ').collect();
    (words[0].to_owned(), words[1].parse().unwrap(), words[2].parse().unwrap())
}

/// Stops `holder` where a change of its is half made: how many were made before.
fn stop_half_made(holder: &Process, purse: &Purse<'_>, random: &mut Random) -> i64 {
    let start = Instant::now();
    loop {
        random.dawdle(Duration::from_micros(500));
        holder.stop();
        if purse.made().is_none() {
            let [_, _, count] = purse.read();
            return count;
        }
        holder.resume();
        assert!(start.elapsed() < LIMIT, "it never stands in the middle of a change");
    }
}

fn settle(stage: &Stage, runtime: &Runtime) {
    judge::settle(stage, runtime);
    assert_eq!(runtime.space().intents_in_use().unwrap(), 0, "cells of intents");
}

#[test]
fn five_hundred_holders_are_killed_and_the_next_sees_no_part_of_a_change() {
    let (stage, mut random) = (stage!(), Random::from_environment());
    let (runtime, handle) = filled(&stage, None);
    let mut reader = waiting(&stage, "look", &[]);
    let mut holder = waiting(&stage, "relay", &[]);
    let (_, mut number, mut made) = holds(&mut holder);
    for round in 0..500 {
        let mut next = waiting(&stage, "relay", &[]);
        asleep(&runtime, 1);
        random.dawdle(Duration::from_millis(2));
        holder.kill();
        let (previous, its_number, now) = holds(&mut next);
        assert_eq!(previous, "Died", "round {round}");
        assert!(its_number > number && now >= made, "round {round}: {its_number}, {now}");
        (number, made, holder) = (its_number, now, next);
    }
    holder.tell("stop");
    made += holder.hear("left").parse::<i64>().unwrap();
    holder.end_well();
    reader.tell("stop");
    reader.hear("looked");
    reader.end_well();
    assert_eq!(Purse::new(&handle, None).unwrap().made(), Some(made));
    drop(handle);
    settle(&stage, &runtime);
}

#[test]
fn nobody_is_left_waiting_when_waiters_are_killed() {
    const WAITERS: usize = 6;
    let (stage, mut random) = (stage!(), Random::from_environment());
    let (runtime, handle) = filled(&stage, None);
    for round in 0..24 {
        let mut holder = waiting(&stage, "relay", &[]);
        holds(&mut holder);
        let mut waiters = Vec::new();
        for _ in 0..WAITERS {
            waiters.push(waiting(&stage, "visit", &[]));
            asleep(&runtime, waiters.len());
        }
        // The first one asleep looks after the holder.
        match round % 4 {
            0 => waiters.remove(0).kill(),
            1 => (0..WAITERS - 1).for_each(|_| waiters.remove(0).kill()),
            2 => {
                waiters.remove(0).kill();
                holder.kill();
            }
            _ => {}
        }
        if round % 4 != 2 {
            holder.tell("stop");
            holder.hear("left");
        }
        // Whoever is woken now may be one of these.
        for _ in 0..waiters.len() / 2 {
            let at = random.below(waiters.len() as u64) as usize;
            waiters.swap_remove(at).kill();
        }
        for waiter in &mut waiters {
            had(waiter);
            waiter.end_well();
        }
        assert_eq!(figures(&runtime).holder, None);
    }
    drop(handle);
    settle(&stage, &runtime);
}

#[test]
fn who_was_fenced_off_before_his_commit_cannot_make_it() {
    let stage = stage!();
    let limit = Some(Duration::from_millis(LIMIT_MS.parse().unwrap()));
    let (runtime, handle) = filled(&stage, limit);
    for stopped in [true, false] {
        let mut slow = stage.role("plan", &[LIMIT_MS]);
        slow.hear("planned");
        if stopped {
            slow.stop();
        }
        let mut next = waiting(&stage, "visit", &[LIMIT_MS]);
        assert_eq!(had(&mut next), ("Fenced".to_owned(), 0));
        next.end_well();
        slow.resume();
        slow.tell("commit");
        for word in ["commit", "left"] {
            let said = slow.hear(word);
            assert!(said.starts_with("Err(Fenced"), "{word}: {said}");
        }
        slow.end_well();
        assert_eq!(Purse::new(&handle, limit).unwrap().made(), Some(0));
    }
    drop(handle);
    settle(&stage, &runtime);
}

#[test]
fn a_change_that_was_decided_is_made_once_when_its_holder_is_fenced_off() {
    let (stage, mut random) = (stage!(), Random::from_environment());
    let limit = Some(Duration::from_millis(LIMIT_MS.parse().unwrap()));
    let (runtime, handle) = filled(&stage, limit);
    let purse = Purse::new(&handle, limit).unwrap();
    let mut all = 0;
    for round in 0..20 {
        let mut slow = waiting(&stage, "relay", &[LIMIT_MS]);
        let (_, number, _) = holds(&mut slow);
        let before = stop_half_made(&slow, &purse, &mut random);
        let mut next = waiting(&stage, "relay", &[LIMIT_MS]);
        let (previous, its_number, made) = holds(&mut next);
        assert_eq!((previous.as_str(), its_number), ("Fenced", number + 1), "round {round}");
        assert_eq!(made, before + 1, "round {round}: the change that was half made");
        slow.resume();
        // He is told that what was decided is made, and nothing after it.
        all += slow.hear("fenced").parse::<i64>().unwrap();
        assert_eq!(all, made, "round {round}");
        slow.end_well();
        next.tell("stop");
        all += next.hear("left").parse::<i64>().unwrap();
        next.end_well();
        assert_eq!(purse.made(), Some(all), "round {round}");
    }
    drop(purse);
    drop(handle);
    settle(&stage, &runtime);
}

#[test]
fn without_a_limit_a_stopped_holder_keeps_the_guard() {
    let (stage, mut random) = (stage!(), Random::from_environment());
    let (runtime, handle) = filled(&stage, None);
    let purse = Purse::new(&handle, None).unwrap();
    let mut holder = waiting(&stage, "relay", &[]);
    let (_, number, _) = holds(&mut holder);
    let before = stop_half_made(&holder, &purse, &mut random);
    for _ in 0..5 {
        let late = purse.guard.with_within(Duration::from_millis(50), |_| ()).unwrap_err();
        assert!(matches!(late, Error::Timeout { .. }), "{late}");
        let due = format!("process {} holds it", holder.id());
        assert!(late.to_string().contains(&due), "{late}");
        assert!(purse.guard.try_with(|_| ()).unwrap().is_none());
        runtime.sweep().unwrap();
    }
    assert_eq!((figures(&runtime).number, purse.made()), (number, None));
    holder.resume();
    holder.tell("stop");
    let made: i64 = holder.hear("left").parse().unwrap();
    assert!(made > before);
    assert_eq!(purse.made(), Some(made));
    holder.end_well();
    drop(purse);
    drop(handle);
    settle(&stage, &runtime);
}

#[test]
fn the_steward_finishes_what_nobody_comes_for() {
    let (stage, mut random) = (stage!(), Random::from_environment());
    let (runtime, handle) = filled(&stage, None);
    let purse = Purse::new(&handle, None).unwrap();
    for _ in 0..10 {
        let mut holder = waiting(&stage, "relay", &[]);
        holds(&mut holder);
        let before = stop_half_made(&holder, &purse, &mut random);
        holder.kill();
        until(|| purse.made() == Some(before + 1));
        until(|| runtime.space().intents_in_use().unwrap() == 0);
        // The next holder is told all the same.
        let mut next = waiting(&stage, "visit", &[]);
        assert_eq!(had(&mut next), ("Died".to_owned(), before + 1));
        next.end_well();
    }
    drop(purse);
    drop(handle);
    settle(&stage, &runtime);
}

#[test]
fn a_segment_made_anew_has_no_half_made_change() {
    let (stage, mut random) = (stage!(), Random::from_environment());
    drop(filled(&stage, None));
    for _ in 0..10 {
        // Nobody here is a steward: what was decided is still not made when the segment is removed.
        let runtime = stage.attach();
        let handle = runtime.handle().unwrap();
        let purse = Purse::new(&handle, None).unwrap();
        let mut holder = waiting(&stage, "relay", &[]);
        holds(&mut holder);
        let before = stop_half_made(&holder, &purse, &mut random);
        holder.kill();
        assert_eq!(purse.made(), None);
        drop(purse);
        drop(handle);
        drop(runtime);
        admin::destroy(&stage.there(), LIMIT, false).unwrap();
        let runtime = stage.open();
        let handle = runtime.handle().unwrap();
        assert_eq!(Purse::new(&handle, None).unwrap().made(), Some(before + 1));
        drop(handle);
        settle(&stage, &runtime);
    }
}

#[test]
fn a_child_forked_inside_a_section_has_no_guard() {
    let stage = stage!();
    let (runtime, handle) = filled(&stage, None);
    for made in 1..=10 {
        // What it wants to commit: several records, or one alone.
        let what = if made % 2 == 0 { "several" } else { "alone" };
        let mut role = stage.role("fork-inside", &[what]);
        assert_eq!(role.hear("parent"), "true");
        role.end_well();
        assert_eq!(Purse::new(&handle, None).unwrap().made(), Some(made));
        let now = figures(&runtime);
        assert_eq!((now.holder, now.number), (None, made as u64), "left once, by the parent");
    }
    drop(handle);
    settle(&stage, &runtime);
}

#[test]
fn a_guard_inside_another_ones_section_is_refused_whatever_it_is_asked_through() {
    let stage = stage!();
    let (runtime, handle) = filled(&stage, None);
    let purse = Purse::new(&handle, None).unwrap();
    let other = runtime.handle().unwrap();
    let there = stage.attach();
    let options = GuardOptions::new();
    let inner = [
        Guard::new(&handle, "inner", &options).unwrap(),
        Guard::new(&other, "inner", &options).unwrap(),
        Guard::new(&other, purse.guard.name(), &options).unwrap(),
    ];
    let mapped_again = there.guard("inner").unwrap();
    let table: Table<Item> = runtime.table(FULL).unwrap();
    table.insert("free", &Item::default()).unwrap();
    let refused = |nested: Result<(), Error>| {
        let nested = nested.unwrap_err();
        assert!(matches!(nested, Error::Nested { .. }), "{nested}");
        nested.to_string()
    };
    let section = || {
        for guard in &inner {
            let said = refused(guard.with(|_| ()));
            assert!(said.contains("`transfers`") && said.contains(guard.name()), "{said}");
            refused(guard.try_with(|_| ()).map(drop));
            refused(guard.with_within(LIMIT, |_| ()));
        }
        refused(mapped_again.with(|_| ()));
    };
    purse.guard.with(|_| section()).unwrap();
    // Also inside the closure of an update, inside the section.
    purse.guard.with(|_| table.update("free", |_| section()).map(drop)).unwrap().unwrap();
    inner.iter().for_each(|guard| guard.with(|_| ()).unwrap());
    mapped_again.with(|_| ()).unwrap();
    drop((inner, mapped_again, purse, table));
    drop((handle, other, there));
    settle(&stage, &runtime);
}

#[test]
fn a_hundred_and_twenty_eight_create_at_once() {
    const CREATORS: usize = 128;
    let stage = stage!();
    let (runtime, handle) = filled(&stage, None);
    let latest: Table<Item> = runtime.table(LATEST).unwrap();
    latest.insert("founded", &Item::default()).unwrap();
    let start = |i: usize| waiting(&stage, "found", &[&format!("node-{i}")]);
    let mut creators: Vec<Process> = (0..CREATORS).map(start).collect();
    creators.iter_mut().for_each(|creator| creator.tell("go"));
    let number = |creator: &mut Process| creator.hear("founded").parse::<i64>().unwrap();
    let numbers: BTreeSet<i64> = creators.iter_mut().map(number).collect();
    creators.iter_mut().for_each(Process::end_well);
    assert_eq!(numbers, (1..=CREATORS as i64).collect(), "each its own");
    assert_eq!(latest.get("founded").unwrap().unwrap().n, CREATORS as i64);
    let nodes = judge::memory(&runtime, FULL);
    let owners = nodes.iter().filter(|(key, _)| key.starts_with("node-")).map(|(_, seen)| seen.0);
    assert_eq!(owners.collect::<BTreeSet<i64>>(), numbers);
    drop((latest, handle));
    settle(&stage, &runtime);
}
