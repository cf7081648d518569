//! Jobs in many processes: each tick once, whoever is killed or stopped.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use commonhold::core::metrics::SampleValue;
use commonhold::workers::jobs::{self, JobOutcome, JobState, JobView};
use commonhold::{Runtime, Table};
use commonhold_tests::stage::eventually;
use commonhold_tests::{Item, LATEST, Process, Stage, stage};

fn open(stage: &Stage) -> Runtime {
    Runtime::open(jobs::configure(stage.sized(64, 4096, 1500))).unwrap()
}

fn start(stage: &Stage, jobs: &[&str]) -> Process {
    let mut process = stage.role("jobs", jobs);
    process.hear("runs");
    process
}

fn view(runtime: &Runtime, name: &str) -> JobView {
    let jobs = jobs::look(runtime.space()).unwrap().unwrap();
    jobs.into_iter().find(|job| job.name == name).unwrap()
}

/// Waits until so many runs of a job have begun.
fn wait_for(runtime: &Runtime, name: &str, runs: u64) {
    eventually(&format!("{runs} runs of {name}"), || view(runtime, name).runs >= runs);
}

fn runs_of(runtime: &Runtime, name: &str, outcome: &str) -> u64 {
    let wanted = [("job", name), ("outcome", outcome)].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let samples = runtime.samples().unwrap();
    let found = samples.iter().find(|sample| {
        sample.name == "commonhold_job_runs_total" && sample.labels.as_slice() == wanted
    });
    match found.unwrap().value {
        SampleValue::Counter(value) => value,
        ref other => panic!("{other:?}"),
    }
}

/// How many ticks of a job were noted, each once, by process.
fn noted(table: &Table<Item>, name: &str) -> BTreeMap<i64, usize> {
    let mut by = BTreeMap::new();
    table
        .scan(|key, item| {
            if key.starts_with(&format!("{name}-")) {
                *by.entry(item.owner).or_default() += 1;
            }
        })
        .unwrap();
    by
}

#[test]
fn each_tick_is_run_once_in_five_processes() {
    for _ in 0..3 {
        let stage = stage!();
        let runtime = open(&stage);
        let jobs = ["fast|10|alone", "slow|45|alone", "second|* * * * * *|alone"];
        let mut processes: Vec<Process> = (0..5).map(|_| start(&stage, &jobs)).collect();
        wait_for(&runtime, "fast", 100);
        wait_for(&runtime, "second", 2);
        processes.iter_mut().for_each(Process::end_well);
        let table: Table<Item> = runtime.table(LATEST).unwrap();
        for name in ["fast", "slow", "second"] {
            let job = view(&runtime, name);
            let by = noted(&table, name);
            assert_eq!((job.state, job.failures), (JobState::Waiting, 0), "{job:?}");
            assert_eq!(by.values().sum::<usize>() as u64, job.runs, "{by:?}");
            assert_eq!(runs_of(&runtime, name, "ok"), job.runs);
            println!("{name}: {} runs, {by:?}", job.runs);
        }
    }
}

#[test]
fn the_next_tick_runs_elsewhere_when_the_one_that_ran_it_is_killed() {
    const ROUNDS: usize = 12;
    let stage = stage!();
    let runtime = open(&stage);
    let jobs = ["tick|20|log"];
    let mut processes: Vec<Process> = (0..5).map(|_| start(&stage, &jobs)).collect();
    let mut killed = Vec::new();
    for _ in 0..ROUNDS {
        // Another one is stopped while that goes on: what it saw is of long ago when it comes back.
        let runner = view(&runtime, "tick").pid;
        let stopped = processes.iter().position(|p| Some(p.id()) != runner).unwrap();
        processes[stopped].stop();
        let before = view(&runtime, "tick").runs;
        wait_for(&runtime, "tick", before + 2);
        let runner = view(&runtime, "tick").pid.unwrap();
        processes[stopped].resume();
        let at = processes.iter().position(|p| p.id() == runner).unwrap();
        processes[at].kill();
        killed.push(runner);
        processes[at] = start(&stage, &jobs);
        let before = view(&runtime, "tick").runs;
        wait_for(&runtime, "tick", before + 2);
        assert!(!killed.contains(&view(&runtime, "tick").pid.unwrap()));
    }
    processes.iter_mut().for_each(Process::end_well);
    let (job, table) = (view(&runtime, "tick"), runtime.table(LATEST).unwrap());
    let by = noted(&table, "tick");
    // No tick was found noted already, and what was not noted was of a killed process.
    assert_eq!(runs_of(&runtime, "tick", "failed"), 0, "{job:?}");
    let interrupted = runs_of(&runtime, "tick", "interrupted");
    assert_eq!(interrupted, job.failures);
    assert!(interrupted <= ROUNDS as u64);
    let all = by.values().sum::<usize>() as u64;
    assert!((job.runs - interrupted..=job.runs).contains(&all), "{all} of {job:?}");
    println!("{} runs, {interrupted} interrupted, {by:?}", job.runs);
}

#[test]
fn a_killed_run_is_interrupted_and_what_it_missed_is_run_once_elsewhere() {
    let stage = stage!();
    let runtime = open(&stage);
    let door = stage.door("door");
    let job = format!("hold|50|{}", door.path());
    let mut first = start(&stage, &[&job, "tick|20|log"]);
    let visitor = door.next();
    assert_eq!(visitor.attempt, 1);
    let mut second = start(&stage, &[&job, "tick|20|log"]);
    let ticks = view(&runtime, "tick").runs;
    wait_for(&runtime, "tick", ticks + 5);
    assert!(door.nobody_waits(), "two at once");
    first.kill();
    // Ticks came due while it ran: one run for all of them.
    drop(visitor);
    let visitor = door.next();
    assert_eq!(visitor.attempt, 2);
    let seen = view(&runtime, "hold");
    assert_eq!((seen.state, seen.pid), (JobState::Running, Some(second.id())));
    assert_eq!((seen.last_outcome, seen.failures), (Some(JobOutcome::Interrupted), 1));
    assert_eq!(seen.message, format!("process {} died while it ran", first.id()));
    visitor.go(b"");
    let visitor = door.next();
    assert_eq!(visitor.attempt, 3);
    assert_eq!(view(&runtime, "hold").last_outcome, Some(JobOutcome::Ok));
    drop(visitor);
    jobs::pause(&runtime, "hold").unwrap();
    eventually("it stops", || {
        // Who still came goes on.
        door.nobody_waits() && view(&runtime, "hold").state == JobState::Stopped
    });
    second.end_well();
    assert_eq!(runs_of(&runtime, "hold", "interrupted"), 1);
}

#[test]
fn a_look_tells_of_a_dead_process_before_anybody_ends_its_run() {
    let stage = stage!();
    let runtime = open(&stage);
    let door = stage.door("door");
    let mut alone = start(&stage, &[&format!("hold|50|{}", door.path())]);
    let _visitor = door.next();
    assert_eq!(view(&runtime, "hold").state, JobState::Running);
    alone.kill();
    let seen = view(&runtime, "hold");
    assert_eq!((seen.state, seen.last_outcome), (JobState::Waiting, Some(JobOutcome::Interrupted)));
    assert_eq!((seen.runs, seen.failures), (1, 1));
}

#[test]
fn a_stopped_process_keeps_its_run_and_others_go_on() {
    let stage = stage!();
    let runtime = open(&stage);
    let door = stage.door("door");
    let job = format!("hold|50|{}", door.path());
    let mut first = start(&stage, &[&job, "tick|20|log"]);
    let visitor = door.next();
    let mut second = start(&stage, &[&job, "tick|20|log"]);
    first.stop();
    let ticks = view(&runtime, "tick").runs;
    // Its own last tick may be under way too; then that one stands still.
    eventually("others go on, or it has both", || {
        let tick = view(&runtime, "tick");
        tick.runs >= ticks + 10 || (tick.state == JobState::Running && tick.pid == Some(first.id()))
    });
    let seen = view(&runtime, "hold");
    assert_eq!((seen.state, seen.runs, seen.pid), (JobState::Running, 1, Some(first.id())));
    assert!(door.nobody_waits(), "two at once");
    first.resume();
    visitor.go(b"");
    let visitor = door.next();
    assert_eq!(visitor.attempt, 2);
    assert_eq!(view(&runtime, "hold").last_outcome, Some(JobOutcome::Ok));
    jobs::pause(&runtime, "hold").unwrap();
    visitor.go(b"");
    first.end_well();
    second.end_well();
    let job = view(&runtime, "tick");
    assert_eq!((job.failures, view(&runtime, "hold").failures), (0, 0));
    let table = runtime.table(LATEST).unwrap();
    assert_eq!(noted(&table, "tick").values().sum::<usize>() as u64, job.runs);
}

#[test]
fn jobs_are_paused_resumed_and_asked_for_from_another_process() {
    let stage = stage!();
    let runtime = open(&stage);
    let jobs = ["tick|20|log", "other|20|log"];
    let mut processes = vec![start(&stage, &jobs), start(&stage, &jobs)];
    wait_for(&runtime, "tick", 3);
    jobs::pause(&runtime, "tick").unwrap();
    eventually("it stops", || view(&runtime, "tick").state == JobState::Stopped);
    // A pause outlives those who were there.
    processes.push(start(&stage, &jobs));
    let (runs, others) = (view(&runtime, "tick").runs, view(&runtime, "other").runs);
    wait_for(&runtime, "other", others + 10);
    let seen = view(&runtime, "tick");
    assert_eq!((seen.runs, seen.paused, seen.due_at), (runs, true, None));
    jobs::run_now(&runtime, "tick").unwrap();
    wait_for(&runtime, "tick", runs + 1);
    let others = view(&runtime, "other").runs;
    wait_for(&runtime, "other", others + 5);
    let seen = view(&runtime, "tick");
    assert_eq!((seen.runs, seen.state, seen.asked), (runs + 1, JobState::Stopped, false));
    jobs::resume(&runtime, "tick").unwrap();
    wait_for(&runtime, "tick", runs + 4);
    processes.iter_mut().for_each(Process::end_well);
    // Nobody is left: what is asked for waits for the next one.
    jobs::run_now(&runtime, "tick").unwrap();
    assert!(view(&runtime, "tick").asked);
    let mut last = start(&stage, &jobs);
    eventually("it is done", || !view(&runtime, "tick").asked);
    last.end_well();
}

#[test]
fn a_run_that_all_want_is_run_by_one() {
    let stage = stage!();
    let runtime = open(&stage);
    let mut processes: Vec<Process> =
        (0..5).map(|_| start(&stage, &["asked|3600000|enter"])).collect();
    let mut by = BTreeMap::<_, u32>::new();
    for run in 1..=300 {
        // Nobody goes first here.
        jobs::run_now(&runtime, "asked").unwrap();
        eventually("it is done", || {
            let job = view(&runtime, "asked");
            job.runs >= run && job.state == JobState::Waiting
        });
        let job = view(&runtime, "asked");
        assert_eq!((job.runs, job.failures), (run, 0), "{job:?}");
        *by.entry(job.pid).or_default() += 1;
    }
    processes.iter_mut().for_each(Process::end_well);
    assert_eq!(runs_of(&runtime, "asked", "ok"), 300);
    println!("{by:?}");
}

#[test]
fn stopped_jobs_leave_neither_thread_nor_descriptor_nor_participant() {
    let stage = stage!();
    let _runtime = open(&stage);
    let mut role = stage.role("jobs-again", &["20"]);
    let counts = role.hear("threads");
    role.end_well();
    let numbers: Vec<u32> = counts
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    assert_eq!(numbers.len(), 6, "{counts}");
    assert!(numbers.chunks(2).all(|pair| pair[0] == pair[1]), "{counts}");
}

#[test]
fn a_fork_neither_stops_jobs_nor_ends_a_run_twice() {
    let stage = stage!();
    let runtime = open(&stage);
    let mut role = stage.role("jobs-fork", &[]);
    assert_eq!(role.hear("runs"), "1, failures 0, the parent");
    role.end_well();
    assert_eq!(runs_of(&runtime, "within", "ok"), 1);
}
