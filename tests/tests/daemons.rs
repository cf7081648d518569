//! Two daemons and three processes on one segment: what becomes of jobs, workers and requests when some are killed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::TcpStream;

use commonhold::core::metrics::SampleValue;
use commonhold::systems::sigils::{self, SigilCapacity};
use commonhold::workers::jobs::{self, JobState, JobView};
use commonhold::workers::{self, Capacity, Pool, Task};
use commonhold::{Runtime, Table};
use commonhold_testing::exposition::{MISSION, lint, read};
use commonhold_tests::stage::{LIMIT, Stage, eventually};
use commonhold_tests::tasks::kinds;
use commonhold_tests::{Item, LATEST, Process, stage};

const SWEEP: &str = "sigils.decay";

/// A daemon's process.
struct Daemon {
    process: Process,
    address: String,
}

impl Daemon {
    fn start(stage: &Stage) -> Self {
        let mut process = stage.role("serve", &[&stage.store()]);
        let address = process.hear("serves");
        Self { process, address }
    }

    /// Asks, and gives the status and the body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let (host, length) = (&self.address, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn get(&self, path: &str) -> String {
        let (status, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Encodes a payload; the path of its sigil.
    fn encode(&self, payload: &str) -> String {
        let (status, body) = self.ask("POST", "/v1/sigils", &format!("{{\"payload\":{payload}}}"));
        assert_eq!(status, 201, "{body}");
        let (_, id) = body.split_once("\"id\":\"").unwrap();
        format!("/v1/sigils/{}", id.split_once('"').unwrap().0)
    }
}

/// A segment with everything that daemons and processes work on.
fn open(stage: &Stage) -> Runtime {
    let config = jobs::configure(stage.sized(128, 4096, 1500));
    let queue = Capacity { tasks: 64, pages: 128, workers: 8 };
    let config = workers::configure(config, &queue);
    let capacity = SigilCapacity { sigils: 1024, ..SigilCapacity::default() };
    Runtime::open(sigils::configure(config, &capacity)).unwrap()
}

fn library(stage: &Stage) -> Process {
    let mut process = stage.role("jobs-and-sigils", &["tick|20|log"]);
    process.hear("runs");
    process
}

fn view(runtime: &Runtime, name: &str) -> JobView {
    let jobs = jobs::look(runtime.space()).unwrap().unwrap();
    jobs.into_iter().find(|job| job.name == name).unwrap()
}

/// The sum of a counter over its labels, of those that have this one.
fn counted(runtime: &Runtime, name: &str, labels: &[(&str, &str)]) -> u64 {
    let has = |of: &[(String, String)]| {
        labels.iter().all(|(n, v)| of.iter().any(|(name, value)| name == n && value == v))
    };
    let samples = runtime.samples().unwrap();
    let of = samples.iter().filter(|sample| sample.name == name && has(&sample.labels));
    of.map(|sample| match sample.value {
        SampleValue::Counter(value) => value,
        ref other => panic!("{other:?}"),
    })
    .sum()
}

#[test]
fn each_tick_is_run_once_in_all_and_elsewhere_when_its_runner_is_killed() {
    const ROUNDS: usize = 10;
    let stage = stage!();
    let runtime = open(&stage);
    let mut daemons = [Daemon::start(&stage), Daemon::start(&stage)];
    let mut libraries: Vec<Process> = Vec::new();
    let mut killed = Vec::new();
    for _ in 0..ROUNDS {
        let before = view(&runtime, SWEEP).runs;
        jobs::run_now(&runtime, SWEEP).unwrap();
        eventually("the sweep is done", || {
            let job = view(&runtime, SWEEP);
            job.runs > before && job.state == JobState::Waiting
        });
        // It may be another one meanwhile.
        let runner = view(&runtime, SWEEP).pid.unwrap();
        assert!(!killed.contains(&runner), "{runner} was killed before");
        killed.push(runner);
        if let Some(daemon) = daemons.iter_mut().find(|daemon| daemon.process.id() == runner) {
            daemon.process.kill();
            *daemon = Daemon::start(&stage);
        } else {
            let library = libraries.iter_mut().find(|process| process.id() == runner).unwrap();
            library.kill();
            *library = self::library(&stage);
        }
        // Only now, so that a daemon is the first to be killed.
        libraries.resize_with(3, || library(&stage));
        daemons.iter().for_each(|daemon| drop(daemon.get("/readyz")));
    }
    let text = daemons[0].get("/metrics");
    let none: [String; 0] = [];
    assert_eq!(lint(&read(&text).unwrap(), &MISSION), none, "{text}");
    daemons.iter_mut().for_each(|daemon| daemon.process.end_well());
    libraries.iter_mut().for_each(Process::end_well);
    let of = |job: &str, outcome| {
        counted(&runtime, "commonhold_job_runs_total", &[("job", job), ("outcome", outcome)])
    };
    for name in [SWEEP, "sigils.crystallize", "tick"] {
        let job = view(&runtime, name);
        let interrupted = of(name, "interrupted");
        assert_eq!(of(name, "failed") + of(name, "panicked"), 0, "{job:?}");
        assert_eq!(of(name, "ok") + interrupted, job.runs, "{job:?}");
        assert!(interrupted <= ROUNDS as u64, "{job:?}");
        // What a run did, once for each: an interrupted one may have done it, or not.
        let done = match name {
            SWEEP => counted(&runtime, "sigil_gc_sweep_total", &[]),
            "tick" => {
                let (table, mut noted): (Table<Item>, _) = (runtime.table(LATEST).unwrap(), 0);
                table.scan(|key, _| noted += u64::from(key.starts_with("tick-"))).unwrap();
                noted
            }
            _ => continue,
        };
        assert!((job.runs - interrupted..=job.runs).contains(&done), "{done} of {job:?}");
        println!("{name}: {} runs, {interrupted} interrupted", job.runs);
    }
    assert!(view(&runtime, SWEEP).runs >= ROUNDS as u64);
}

#[test]
fn when_a_daemon_is_killed_the_other_one_serves_and_supervises() {
    let stage = stage!();
    let runtime = open(&stage);
    let (mut first, second) = (Daemon::start(&stage), Daemon::start(&stage));
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let supervisor = || queue.figures().unwrap().supervisor;
    assert_eq!(supervisor(), Some(first.process.id()));
    let payloads: Vec<String> = (0..50).map(|n| format!("{{\"n\":{n},\"text\":\"ä\"}}")).collect();
    let sigils: Vec<String> = payloads.iter().map(|payload| first.encode(payload)).collect();
    let door = stage.door("door");
    let task = queue.submit(Task::new("hold", &door.arguments())).unwrap();
    let _inside = door.next();
    first.process.kill();
    let again = door.next();
    assert_eq!((again.attempt, supervisor()), (2, Some(second.process.id())));
    again.go(b"here");
    assert_eq!(task.wait(LIMIT).unwrap(), b"here");
    for (path, payload) in sigils.iter().zip(&payloads) {
        let body = second.get(path);
        assert!(body.contains(payload), "{payload}: {body}");
    }
    let mut all: Vec<String> = sigils;
    all.extend(payloads.iter().map(|payload| second.encode(payload)));
    // Equal payloads stay two sigils.
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 100);
    // And back again, when it stops.
    let third = Daemon::start(&stage);
    let mut second = second;
    second.process.end_well();
    eventually("the third one supervises", || supervisor() == Some(third.process.id()));
    all.iter().for_each(|path| drop(third.get(path)));
    let mut third = third;
    third.process.end_well();
    assert_eq!(supervisor(), None);
}
