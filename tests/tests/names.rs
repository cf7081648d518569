//! Ids and counters: unique and exact, whoever is killed, and kept in the store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use commonhold::store::MarkKind;
use commonhold::{Config, Counter, Error, Ids, Runtime, TableConfig, admin};
use commonhold_tests::stage::LIMIT;
use commonhold_tests::{Process, Random, Stage, stage};
use nix::sys::signal::Signal;

const STEP: u64 = commonhold::core::ids::STEP;

/// What one taker wrote: the ids, how many of them were counted, and whether it died between the two.
fn taken(stage: &Stage, name: &str) -> (Vec<u64>, u64) {
    let text = std::fs::read_to_string(stage.path(name)).unwrap_or_default();
    let ids = text.lines().filter(|line| *line != ".").map(|line| line.parse().unwrap());
    (ids.collect(), text.lines().filter(|line| *line == ".").count() as u64)
}

/// A mark in the store.
fn mark(stage: &Stage, kind: MarkKind, name: &str) -> Option<i64> {
    let marks = commonhold::store::open_read_only(&stage.store()).unwrap().marks().unwrap();
    marks.into_iter().find(|m| m.kind == kind && m.name == name).map(|m| m.value)
}

fn marked(stage: &Stage) -> u64 {
    mark(stage, MarkKind::Ids, "nodes").unwrap_or(0).cast_unsigned()
}

/// A worker that takes ids until it is killed; `index` names its file.
fn taker(stage: &Stage, index: usize, stands: &str) -> Process {
    let file = stage.path(&format!("taken-{index}")).display().to_string();
    let mut process = stage.role("take", &[&file, stands, &u64::MAX.to_string()]);
    process.hear("ready");
    process
}

#[test]
fn a_thousand_processes_take_every_id_once() {
    const HERDS: usize = 10;
    const EACH: usize = 100;
    const IDS: u64 = 60;
    const ALL: u64 = (HERDS * EACH) as u64 * IDS;
    let stage = stage!();
    let runtime = Runtime::open(stage.sized(1100, 64, 100)).unwrap();
    let folder = stage.path("").display().to_string();
    let (each, count) = (EACH.to_string(), IDS.to_string());
    let herd = |n: usize| stage.role("herd", &[&folder, &(n * EACH).to_string(), &each, &count]);
    let mut herds: Vec<Process> = (0..HERDS).map(herd).collect();
    let (ready, start) = (runtime.counter("ready").unwrap(), Instant::now());
    while ready.get().unwrap() < (HERDS * EACH) as i64 {
        assert!(start.elapsed() < 4 * LIMIT, "{} are ready", ready.get().unwrap());
        std::thread::yield_now();
    }
    herds.iter_mut().for_each(Process::end_well);
    let all: Vec<u64> =
        (0..HERDS * EACH).flat_map(|i| taken(&stage, &format!("taken-{i}")).0).collect();
    assert_eq!(all.len() as u64, ALL);
    let distinct: BTreeSet<u64> = all.into_iter().collect();
    assert!(distinct.into_iter().eq(1..=ALL), "each once, and none left out");
    assert_eq!(runtime.counter("taken").unwrap().get().unwrap(), ALL as i64);
    assert_eq!(runtime.ids("nodes").unwrap().last().unwrap(), ALL);
    runtime.drain(LIMIT).unwrap();
    assert_eq!(mark(&stage, MarkKind::Counter, "taken"), Some(ALL as i64));
    assert!((ALL..=ALL + STEP).contains(&marked(&stage)), "{}", marked(&stage));
}

#[test]
fn nothing_is_given_out_twice_when_takers_and_stewards_are_killed() {
    const TAKERS: usize = 6;
    const ROUNDS: usize = 30;
    let (stage, mut random) = (stage!(), Random::from_environment());
    let runtime = Runtime::open(stage.config().without_steward()).unwrap();
    let stands = |i: usize| if i.is_multiple_of(2) { "candidate" } else { "worker" };
    let mut takers: Vec<Process> = (0..TAKERS).map(|i| taker(&stage, i, stands(i))).collect();
    takers.iter_mut().for_each(|t| t.tell("go"));
    let mut number = TAKERS;
    for _ in 0..ROUNDS {
        random.dawdle(Duration::from_millis(20));
        let at = random.below(TAKERS as u64) as usize;
        takers[at].kill();
        takers[at] = taker(&stage, number, stands(at));
        takers[at].tell("go");
        number += 1;
    }
    takers.iter_mut().for_each(Process::kill);
    let (mut all, mut counted, mut uncounted) = (Vec::new(), 0, 0);
    for i in 0..number {
        let (ids, dots) = taken(&stage, &format!("taken-{i}"));
        assert!(ids.is_sorted(), "taker {i}");
        uncounted += ids.len() as u64 - dots;
        counted += dots;
        all.extend(ids);
    }
    let (count, distinct) = (all.len() as u64, all.into_iter().collect::<BTreeSet<u64>>());
    assert_eq!(distinct.len() as u64, count, "each once");
    let last = runtime.ids("nodes").unwrap().last().unwrap();
    assert!(last > STEP, "the steward was needed: {last}");
    assert!(distinct.last().is_some_and(|id| *id <= last));
    assert!(last - count <= number as u64, "a kill loses one id at most: {last}, {count}");
    let sum = runtime.counter("taken").unwrap().get().unwrap().cast_unsigned();
    assert!((counted..=counted + uncounted).contains(&sum), "{counted} + {uncounted}, {sum}");
    assert!(last <= marked(&stage), "the store covers every id");
}

#[test]
fn nothing_is_given_out_again_when_the_segment_is_lost() {
    const TAKERS: usize = 4;
    let (stage, mut random) = (stage!(), Random::from_environment());
    let (mut seen, mut before) = (BTreeSet::new(), 0);
    for round in 0..12 {
        drop(stage.open());
        let start = |i| taker(&stage, round * TAKERS + i, "candidate");
        let mut takers: Vec<Process> = (0..TAKERS).map(start).collect();
        takers.iter_mut().for_each(|t| t.tell("go"));
        random.dawdle(Duration::from_millis(60));
        takers.iter().for_each(|t| t.signal(Signal::SIGKILL));
        takers.iter_mut().for_each(Process::kill);
        let (mut lowest, mut highest) = (u64::MAX, before);
        for i in 0..TAKERS {
            for id in taken(&stage, &format!("taken-{}", round * TAKERS + i)).0 {
                assert!(seen.insert(id), "round {round}: {id} was given out twice");
                (lowest, highest) = (lowest.min(id), highest.max(id));
            }
        }
        assert!(lowest > before, "round {round}: {lowest} after {before}");
        before = marked(&stage);
        assert!(
            (highest..=highest + STEP + TAKERS as u64).contains(&before),
            "{highest}, {before}"
        );
        // As after a crash of the machine: the store is all there is.
        admin::destroy(&stage.there(), Duration::ZERO, true).unwrap();
    }
    assert!(!seen.is_empty());
}

#[test]
fn a_segment_made_anew_goes_on_with_its_counters_and_above_its_ids() {
    let stage = stage!();
    let runtime = stage.open();
    let handle = runtime.handle().unwrap();
    let (orders, nodes) =
        (Counter::new(&handle, "orders").unwrap(), Ids::new(&handle, "nodes").unwrap());
    assert_eq!((nodes.last().unwrap(), nodes.next().unwrap(), nodes.next().unwrap()), (0, 1, 2));
    assert_eq!((orders.add(-7).unwrap(), orders.add(2).unwrap()), (-7, -5));
    // A counter and an allocator of one name are two.
    let same = Counter::new(&handle, "nodes").unwrap();
    assert_eq!(same.add(9).unwrap(), 9);
    drop((orders, nodes, same));
    drop(handle);
    drop(runtime); // the last one out stores what is left
    assert_eq!(mark(&stage, MarkKind::Counter, "orders"), Some(-5));
    admin::destroy(&stage.there(), LIMIT, false).unwrap();
    let first = marked(&stage) + 1;
    assert!(first <= 2 + STEP + 1, "{first}");
    let config = stage.config().table(TableConfig::new("more", &["n:i64"]));
    let runtime = Runtime::open(config).unwrap();
    assert_eq!(runtime.ids("nodes").unwrap().next().unwrap(), first);
    assert_eq!(runtime.counter("orders").unwrap().get().unwrap(), -5);
    assert_eq!(runtime.counter("nodes").unwrap().add(1).unwrap(), 10);
    drop(runtime);
    // Adding a table makes the segment anew.
    let config = stage.config().table(TableConfig::new("most", &["n:i64"]));
    assert!(admin::create_tables(&config, LIMIT).unwrap());
    let runtime = Runtime::open(stage.there()).unwrap();
    let next = runtime.ids("nodes").unwrap().next().unwrap();
    assert!(next > first && next <= first + STEP + 1, "{next} after {first}");
    assert_eq!(runtime.counter("orders").unwrap().get().unwrap(), -5);
    assert_eq!(runtime.counter("nodes").unwrap().get().unwrap(), 10);
}

#[test]
fn a_drain_covers_what_was_added_before_it() {
    let stage = stage!();
    drop(stage.open());
    let mut steward = stage.role("candidate", &[]);
    steward.hear("ready");
    let runtime = stage.attach();
    std::thread::scope(|scope| {
        for name in ["a", "b", "a", "c"] {
            let (stage, runtime) = (&stage, &runtime);
            scope.spawn(move || {
                let counter = runtime.counter(name).unwrap();
                for _ in 0..20 {
                    let value = counter.add(1).unwrap();
                    runtime.drain(LIMIT).unwrap();
                    let stored = mark(stage, MarkKind::Counter, name).unwrap();
                    assert!(stored >= value, "{name}: {stored} is stored, not {value}");
                }
            });
        }
    });
    steward.end_well();
    assert_eq!(mark(&stage, MarkKind::Counter, "a"), Some(40));
}

#[test]
fn a_counter_is_stored_soon_although_nobody_asks() {
    let stage = stage!();
    let runtime = stage.open();
    let counter = runtime.counter("orders").unwrap();
    for value in 1..=2 {
        counter.add(1).unwrap();
        let start = Instant::now();
        while mark(&stage, MarkKind::Counter, "orders") != Some(value) {
            assert!(start.elapsed() < LIMIT, "{value} is not stored");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_sum_that_does_not_fit_adds_nothing() {
    let runtime =
        Runtime::open(Config::ephemeral().table(TableConfig::new("t", &["n:i64"]))).unwrap();
    let counter = runtime.counter("orders").unwrap();
    counter.add(i64::MAX).unwrap();
    let refused = counter.add(1).unwrap_err();
    assert!(matches!(refused, Error::CounterOverflow { .. }), "{refused}");
    let want =
        format!("counter `orders`: {} + 1 does not fit in 64 bits; nothing was added", i64::MAX);
    assert_eq!(refused.to_string(), want);
    assert_eq!(counter.get().unwrap(), i64::MAX);
    assert_eq!(counter.add(i64::MIN).unwrap(), -1);
    assert!(counter.add(i64::MIN).is_err());
    assert_eq!(counter.get().unwrap(), -1);
}

#[test]
fn names_that_cannot_be_are_refused() {
    let config = Config::ephemeral().names(2).table(TableConfig::new("t", &["n:i64"]));
    let runtime = Runtime::open(config).unwrap();
    for name in ["", "a\nb", &"x".repeat(65)] {
        for refused in [runtime.counter(name).unwrap_err(), runtime.ids(name).unwrap_err()] {
            assert!(matches!(refused, Error::BadName { .. }), "{refused}");
        }
    }
    let first = runtime.counter("a").unwrap();
    let second = runtime.ids("a").unwrap();
    let refused = runtime.counter("b").unwrap_err();
    assert!(matches!(refused, Error::NamesFull { raise: "names", limit: 2, .. }), "{refused}");
    assert_eq!((first.add(1).unwrap(), second.next().unwrap()), (1, 1));
}

#[test]
fn who_waits_for_an_id_is_told_why() {
    let stage = stage!();
    drop(stage.open());
    let runtime = stage.attach();
    let ids = runtime.ids("nodes").unwrap();
    let late = ids.next_within(Duration::from_millis(30)).unwrap_err();
    assert!(matches!(late, Error::Timeout { .. }), "{late}");
    let late = late.to_string();
    assert!(
        late.contains("the store to cover more ids of `nodes`: no process is the steward"),
        "{late}"
    );
    assert_eq!(ids.last().unwrap(), 0, "nothing was taken");
    let mut steward = stage.role("candidate", &[]);
    steward.hear("ready");
    assert_eq!(ids.next().unwrap(), 1, "a wait that failed leaves no gap");
    steward.end_well();
}

#[test]
fn one_process_takes_many_in_order() {
    let runtime =
        Runtime::open(Config::ephemeral().table(TableConfig::new("t", &["n:i64"]))).unwrap();
    let ids = runtime.ids("nodes").unwrap();
    for id in 1..=5 * STEP {
        assert_eq!(ids.next().unwrap(), id);
    }
    assert_eq!(ids.last().unwrap(), 5 * STEP);
}
