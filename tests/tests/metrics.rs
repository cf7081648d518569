//! Metrics counted in by many processes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use commonhold::Runtime;
use commonhold::metrics::{HistogramSample, SampleValue, prometheus_text};
use commonhold::workers::{Capacity, PoolOptions, Scheduler, Task};
use commonhold_testing::exposition::{MISSION, lint, read};
use commonhold_tests::stage::LIMIT;
use commonhold_tests::{Process, Random, stage};

/// What the roles counted, in all: things, the level, and sizes.
fn counted(runtime: &Runtime) -> (u64, f64, HistogramSample) {
    let samples = runtime.samples().unwrap();
    let value = |name: &str| samples.iter().find(|s| s.name == name).unwrap().value.clone();
    let SampleValue::Counter(things) = value("things_total") else { panic!() };
    let SampleValue::Gauge(level) = value("level") else { panic!() };
    let SampleValue::Histogram(sizes) = value("size_bytes") else { panic!() };
    (things, level, sizes)
}

#[test]
fn sums_over_processes_threads_and_forked_children_are_exact() {
    const PROCESSES: u64 = 12;
    const THREADS: u64 = 2;
    const ROUNDS: u64 = 2000;
    let stage = stage!();
    let runtime = stage.open();
    let start = |_| stage.role("count", &[&THREADS.to_string(), &ROUNDS.to_string()]);
    let mut all: Vec<Process> = (0..PROCESSES).map(start).collect();
    all.iter_mut().for_each(Process::end_well);
    // Each counts in its threads, once before it forks, and as parent and child.
    let each = (THREADS + 2) * ROUNDS + 1;
    let (things, level, sizes) = counted(&runtime);
    assert_eq!(things, PROCESSES * each);
    assert_eq!(level, (PROCESSES * each) as f64 / 2.0);
    assert_eq!(sizes.count(), PROCESSES * each);
    assert_eq!(sizes.sum, PROCESSES * (THREADS + 2) * (ROUNDS * (ROUNDS - 1) / 2));
}

#[test]
fn what_a_killed_process_counted_is_kept() {
    const ROUNDS: u64 = 12;
    const EACH: usize = 6;
    let (stage, mut random) = (stage!(), Random::from_environment());
    let runtime = stage.open();
    let (mut acknowledged, mut killed) = (0_u64, 0_u64);
    for round in 0..ROUNDS {
        let acks = |at| stage.path(&format!("acks-{round}-{at}")).display().to_string();
        let mut all: Vec<Process> =
            (0..EACH).map(|at| stage.role("count-on", &[&acks(at)])).collect();
        all.iter_mut().for_each(|process| drop(process.hear("going")));
        random.dawdle(Duration::from_millis(20));
        all.iter_mut().for_each(Process::kill);
        killed += EACH as u64;
        let before = counted(&runtime);
        runtime.sweep().unwrap();
        assert_eq!(counted(&runtime), before, "the sweep takes nothing away");
        let lengths = (0..EACH).map(|at| std::fs::metadata(acks(at)).unwrap().len());
        acknowledged += lengths.sum::<u64>();
        // Each may have been killed between counting and acknowledging.
        let due = acknowledged..=acknowledged + killed;
        let (things, level, sizes) = before;
        assert!(due.contains(&things), "{things} counted, {due:?} due");
        assert!(due.contains(&sizes.count()), "{} counted, {due:?} due", sizes.count());
        assert!((acknowledged as f64..=(acknowledged + killed) as f64).contains(&(level * 2.0)));
    }
    let there = runtime.space().participants();
    let me = std::process::id();
    assert!(there.iter().all(|p| p.identity.pid == me), "left behind: {there:?}");
}

#[test]
fn a_pools_metrics_are_those_of_the_page_and_as_they_should_be() {
    let page = include_str!("../../docs/metrics.md");
    let (_, page) = page.split_once("\n## Of a worker pool\n").unwrap();
    let (page, _) = page.split_once("\n## ").unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut told = BTreeMap::new();
    for row in rows.map(|row| row.trim_start_matches("| ").split(" | ").collect::<Vec<_>>()) {
        for name in row[0].split(", ") {
            told.insert(name.trim_matches('`').to_owned(), row[1].to_owned());
        }
    }
    let stage = stage!();
    let capacity = Capacity { tasks: 64, pages: 128, workers: 8 };
    let runtime = Runtime::open(stage.with_queue(&capacity)).unwrap();
    runtime.guard("another").unwrap();
    let without = read(&prometheus_text(&runtime.samples().unwrap())).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let scheduler = Scheduler::start(&pool).unwrap();
    let task = |kind, with: &str| pool.submit(Task::new(kind, with)).unwrap().wait(LIMIT);
    assert_eq!(task("double", "4").unwrap(), b"8");
    task("error", "a \"word\"").unwrap_err();
    task("exit", "").unwrap_err();
    scheduler.stop(LIMIT).unwrap();
    let text = prometheus_text(&runtime.samples().unwrap());
    let families = read(&text).unwrap();
    let none: [String; 0] = [];
    assert_eq!(lint(&families, &MISSION), none, "{text}");
    let is_new = |name: &String| without.iter().all(|family| family.name != *name);
    let there: BTreeMap<_, _> =
        families.into_iter().map(|f| (f.name, f.kind)).filter(|(name, _)| is_new(name)).collect();
    assert_eq!(there, told);
    pool.stop(LIMIT).unwrap();
}
