//! Jobs as the command shows and changes them; this test program runs them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::time::{Duration, Instant};

use common::World;
use commonhold::workers::jobs::{self, Job, Jobs};
use commonhold::{Config, Runtime};
use serde_json::{Value, json};

/// So long is waited for what must come.
const LIMIT: Duration = Duration::from_secs(30);

fn open(world: &World) -> Runtime {
    let config = Config::named(&world.segment()).store(&world.store()).participants(64);
    Runtime::open(jobs::configure(config)).unwrap()
}

fn start(runtime: &Runtime) -> Jobs {
    let report = Job::cron("report", "0 0 0 29 2 *").unwrap().zone("Europe/Berlin").unwrap();
    let probe = Job::every("probe", Duration::from_secs(3600)).unwrap();
    let jobs = vec![
        report.run(|context| Ok(format!("run {}\nof many", context.number()))),
        probe.run(|_| panic!("out of luck")),
    ];
    Jobs::start(runtime, jobs).unwrap()
}

/// Looks until `there` holds of the job `name`.
fn wait_for(world: &World, name: &str, there: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let seen = world.json(&["jobs"]);
        let jobs = seen["jobs"].as_array().unwrap();
        let job = jobs.iter().find(|job| job["name"] == name).unwrap();
        if there(job) {
            return job.clone();
        }
        assert!(begin.elapsed() < LIMIT, "{seen}");
    }
}

#[test]
fn jobs_are_listed_asked_for_paused_and_resumed() {
    let world = World::new();
    let runtime = open(&world);
    let jobs = start(&runtime);
    let fresh = wait_for(&world, "report", |_| true);
    assert_eq!((&fresh["state"], &fresh["runs"]), (&json!("waiting"), &json!(0)), "{fresh}");
    assert_eq!(
        (&fresh["schedule"], &fresh["zone"]),
        (&json!("0 0 0 29 2 *"), &json!("Europe/Berlin"))
    );
    assert!(
        fresh["due_at"].as_i64().unwrap() % 1_000_000 == 0 && fresh["pid"].is_null(),
        "{fresh}"
    );
    assert_eq!(world.ok(&["jobs", "run", "report"]), "asked for a run of report\n");
    let ran = wait_for(&world, "report", |job| job["last_outcome"] == "ok");
    assert_eq!(
        (&ran["message"], &ran["pid"]),
        (&json!("run 1 of many"), &json!(std::process::id()))
    );
    assert!(ran["duration_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(ran["due_at"], fresh["due_at"], "beside the schedule");
    let asked = world.json(&["jobs", "run", "probe"]);
    assert_eq!(asked, json!({"job": "probe", "done": "asked"}));
    let failed = wait_for(&world, "probe", |job| job["last_outcome"] == "panicked");
    assert_eq!((&failed["message"], &failed["failures"]), (&json!("out of luck"), &json!(1)));
    assert_eq!((&failed["schedule"], &failed["zone"]), (&json!("every 3600s"), &Value::Null));
    assert_eq!(world.ok(&["jobs", "pause", "report"]), "paused report\n");
    let paused = wait_for(&world, "report", |_| true);
    assert_eq!((&paused["state"], &paused["due_at"]), (&json!("stopped"), &Value::Null));
    let text = world.ok(&["jobs"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with(": 2 jobs, 0 running") && lines.len() == 5, "{text}");
    assert!(lines[3].starts_with("probe") && lines[3].ends_with("out of luck"), "{text}");
    assert!(lines[4].contains(" stopped ") && lines[4].contains("Europe/Berlin"), "{text}");
    assert_eq!(world.ok(&["jobs", "resume", "report"]), "resumed report\n");
    assert_eq!(wait_for(&world, "report", |_| true)["state"], "waiting");
    jobs.stop(LIMIT).unwrap();
}

#[test]
fn what_is_not_there_is_said() {
    let world = World::new();
    world.fails(&["jobs"], 1, "segment");
    world.fails(&["jobs", "pause", "x"], 1, "");
    let counters = World::with_counters();
    counters.fails(&["jobs"], 1, "has no table of jobs; `commonhold serve` makes one");
    counters.fails(&["jobs", "run", "x"], 1, "has no table `jobs`");
    let runtime = open(&world);
    assert!(world.ok(&["jobs"]).ends_with(": 0 jobs, 0 running\n"));
    world.fails(&["jobs", "pause", "x"], 1, "there is no job `x`; there are: none");
    start(&runtime).stop(LIMIT).unwrap();
    for action in ["pause", "resume", "run"] {
        world.fails(&["jobs", action, "repor"], 1, "no job `repor`; there are: `probe`, `report`");
        world.fails(&["jobs", action], 2, "see commonhold jobs --help");
    }
    world.fails(&["jobs", "stop", "report"], 2, "see commonhold jobs --help");
}
