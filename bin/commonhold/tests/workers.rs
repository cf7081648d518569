//! Queues and worker processes as the commands make and show them. The workers are processes of this very test
//! program.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::World;
use commonhold::workers::{Context, Kind, Kinds, Pool, PoolOptions, Priority, Task};
use commonhold::{Config, Runtime, workers};
use serde_json::{Value, json};

/// So long is waited for what must come.
const LIMIT: Duration = Duration::from_secs(30);
/// A segment with a queue, and few of everything.
const QUEUE: [&str; 5] = ["create", "--workers=4", "--tasks=16", "--pages=8", "--participants=64"];

fn kinds() -> Kinds {
    let none = |_: &[u8]| Ok(());
    let hold = |task: &Context<'_>, _: &[u8]| {
        while !task.is_cancelled() {
            std::thread::yield_now();
        }
        Ok(Vec::new())
    };
    Kinds::new()
        .with(Kind::new("hold", none, hold))
        .with(Kind::new("echo", none, |_, bytes| Ok(bytes.to_vec())))
        .with(Kind::new("exit", none, |_, _| std::process::exit(3)))
}

/// What this program does as a worker; as a test it is done at once.
#[test]
fn worker() {
    workers::init(&kinds());
}

/// The variable that names the segment to [`supervisor`].
const SEGMENT: &str = "COMMONHOLD_TEST_SUPERVISES";

/// What this program does as a supervisor that is to be killed; as a test it is done at once.
#[test]
fn supervisor() {
    let Ok(segment) = std::env::var(SEGMENT) else { return };
    let runtime = Runtime::open(Config::named(&segment).attach_only()).unwrap();
    let _pool = start(&runtime, 1);
    loop {
        std::thread::park();
    }
}

fn open(world: &World) -> Runtime {
    Runtime::open(Config::named(&world.segment()).attach_only()).unwrap()
}

fn start(runtime: &Runtime, workers: u32) -> Pool {
    let options = PoolOptions::new().workers(workers..=workers);
    let options = options.command(std::env::current_exe().unwrap(), ["worker", "--exact", "-q"]);
    Pool::start(runtime, kinds(), options).unwrap()
}

/// Looks until `there` holds of what `workers --json` prints.
fn wait_for(world: &World, there: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let seen = world.json(&["workers"]);
        if there(&seen) {
            return seen;
        }
        assert!(begin.elapsed() < LIMIT, "{seen}");
    }
}

#[test]
fn a_queue_is_made_and_resized() {
    let world = World::new();
    let plan = world.json(&[&QUEUE[..], &["--plan"]].concat());
    let slots: Vec<_> = plan["tables"].as_array().unwrap().iter().map(|t| &t["slots"]).collect();
    assert_eq!(
        (slots, world.path("segment").exists()),
        (vec![&json!(16), &json!(8), &json!(4)], false)
    );
    assert_eq!(world.json(&QUEUE)["tables"], json!(["tasks", "task_pages", "workers"]));
    let empty = json!({
        "segment": world.segment(), "supervisor_pid": null,
        "pool": {"busy": 0, "idle": 0, "starting": 0, "limit": 4},
        "queue": {"queued": 0, "running": 0, "ended": 0, "damaged": 0, "limit": 16, "oldest_ms": null},
        "workers": []
    });
    assert_eq!(world.json(&["workers"]), empty);
    let text = world.ok(&["workers"]);
    assert!(text.contains(": nobody supervises workers; tasks wait for a program"), "{text}");
    assert_eq!(world.json(&["create", "--workers", "4"])["outcome"], json!("unchanged"));
    // The sizes that are not named stay.
    assert_eq!(world.json(&["create", "--tasks", "32"])["outcome"], json!("recreated"));
    let resized = world.json(&["workers"]);
    assert_eq!((&resized["queue"]["limit"], &resized["pool"]["limit"]), (&json!(32), &json!(4)));
}

#[test]
fn a_queue_is_added_to_what_is_there() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=7"]);
    world.fails(&["workers"], 1, "has no queue of tasks; add one: commonhold create --workers N");
    let frame = world.ok(&["top", "--once", "--interval", "10ms"]);
    assert!(!frame.contains("queue") && !frame.contains("workers"), "{frame}");
    world.ok(&["create", "--tasks", "8", "--pages", "4"]);
    let tables = world.json(&["tables"])["tables"].clone();
    let slots: Vec<_> = tables.as_array().unwrap().iter().map(|t| t["slots"].clone()).collect();
    assert_eq!(slots, [16, 8, 4, 64]);
    assert_eq!(world.ok(&["get", "counters", "a", "n"]), "n=7\n");
    let frame = world.ok(&["top", "--once", "--interval", "10ms"]);
    assert!(frame.contains("\nworkers 0 busy  0 idle  0 starting  no supervisor\n"), "{frame}");
    let queue =
        "\nqueue 0 waiting  0 running  0 not taken  of 8  tasks 0/s  (0 in all)  failed 0/s";
    assert!(frame.contains(queue), "{frame}");
}

#[test]
fn sizes_that_cannot_be_are_wrong_usage() {
    let world = World::new();
    for (option, value, limit) in [
        ("--workers", "0", "not in 1..=1000"),
        ("--workers", "1001", "not in 1..=1000"),
        ("--workers", "two", "invalid digit"),
        ("--tasks", "0", "not in 1..=1048576"),
        ("--tasks", "1048577", "not in 1..=1048576"),
        ("--pages", "65537", "not in 1..=65536"),
    ] {
        world.fails(&["create", option, value], 2, limit);
    }
    world.fails(&["workers"], 1, "create it first");
    world.fails(&["workers", "all"], 2, "unexpected argument");
    assert_eq!(std::fs::read_dir(world.path("")).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_table_of_that_name_that_is_no_queue_stays_as_it_is() {
    let world = World::new();
    world.ok(&[&["create", "tasks", "--field", "n:i64"], &common::SMALL[..]].concat());
    world.fails(&["create", "--workers", "2"], 1, "tasks");
    world.ok(&["create", "task_pages", "--field", "n:i64", "--slots", "4"]);
    world.ok(&["create", "workers", "--field", "n:i64", "--slots", "4"]);
    world.ok(&["set", "tasks", "a", "n=1"]);
    world.fails(&["workers"], 1, "its table `tasks` is not a queue's; use another segment");
    assert!(world.ok(&["top", "--once", "--interval", "10ms"]).contains("\ntasks "));
    let refused = Pool::attach(&open(&world), kinds()).unwrap_err().to_string();
    assert!(refused.contains("`tasks` of the segment has other fields"), "{refused}");
    assert_eq!(world.ok(&["dump", "tasks"]), "key,n\na,1\n");
}

#[test]
fn a_pool_at_work_is_shown() {
    let world = World::new();
    world.ok(&QUEUE);
    let runtime = open(&world);
    let pool = start(&runtime, 1);
    let held = pool.submit(Task::new("hold", "").priority(Priority::High)).unwrap();
    let busy = wait_for(&world, |seen| seen["pool"]["busy"] == 1);
    let waits = pool.submit(Task::new("echo", "x")).unwrap();
    let (me, seen) = (std::process::id(), wait_for(&world, |seen| seen["queue"]["queued"] == 1));
    assert_eq!(seen["supervisor_pid"], json!(me));
    assert_eq!((&seen["queue"]["running"], &seen["queue"]["limit"]), (&json!(1), &json!(16)));
    assert!(seen["queue"]["oldest_ms"].is_u64(), "{seen}");
    let worker = &busy["workers"][0];
    let names = ["worker", "state", "turn", "last_end"].map(|name| worker[name].clone());
    assert_eq!(names, [json!(0), json!("busy"), json!(1), Value::Null]);
    let task = &worker["task"];
    let names = ["id", "kind", "attempt", "priority"].map(|name| task[name].clone());
    assert_eq!(names, [json!(held.id().get()), json!("hold"), json!(1), json!("high")]);
    let (pid, id) = (worker["pid"].to_string(), held.id().to_string());
    let text = world.ok(&["workers"]);
    let line = |n: usize| text.lines().nth(n).unwrap();
    assert!(line(0).ends_with(&format!(": process {me} supervises the workers")), "{text}");
    assert_eq!(line(1), "workers 1 busy, 0 idle, 0 starting; room for 4");
    assert!(line(2).starts_with("tasks 1 waiting (the oldest "), "{text}");
    assert!(line(2).ends_with("), 1 running, 0 ended and not taken; room for 16"), "{text}");
    let words: Vec<&str> = line(5).split_whitespace().collect();
    assert_eq!((&words[..3], words.last()), (&["0", &pid, "busy"][..], Some(&"-")));
    assert!(line(5).contains(&format!("{id}  hold")), "{text}");
    let frame = world.ok(&["top", "--once", "--interval", "10ms"]);
    let head = format!("\nworkers 1 busy  0 idle  0 starting  supervisor {me}  oldest task waits ");
    assert!(frame.contains(&head) && frame.contains("\nqueue 1 waiting  1 running  "), "{frame}");
    let row =
        frame.lines().find(|l| l.starts_with("0       ")).unwrap_or_else(|| panic!("{frame}"));
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..4], ["0", &pid, "busy", "hold"], "{row}");
    assert!(row.contains(&id), "{row}");
    assert!(held.cancel().unwrap());
    assert_eq!(waits.wait(LIMIT).unwrap(), b"x");
    pool.stop(LIMIT).unwrap();
}

#[test]
fn how_workers_ended_is_shown_and_who_is_dead_does_not_count() {
    let world = World::new();
    world.ok(&QUEUE);
    let runtime = open(&world);
    let pool = start(&runtime, 1);
    let error = pool.submit(Task::new("exit", "").attempts(1)).unwrap().wait(LIMIT).unwrap_err();
    assert!(error.to_string().contains("its worker exited with status 3"), "{error}");
    let again = wait_for(&world, |seen| seen["pool"]["idle"] == 1);
    let worker = &again["workers"][0];
    assert_eq!((&worker["state"], &worker["turn"]), (&json!("idle"), &json!(2)));
    assert!(worker["last_end"].as_str().unwrap().starts_with("exited with status 3"), "{again}");
    let frame = world.ok(&["top", "--once", "--interval", "10ms"]);
    assert!(frame.contains("failed 0/s  (1 in all)"), "{frame}");
    assert!(frame.contains("exited with status 3"), "{frame}");
    pool.stop(LIMIT).unwrap();
    drop(runtime);
    let stopped = world.json(&["workers"]);
    assert_eq!((&stopped["supervisor_pid"], &stopped["pool"]["idle"]), (&Value::Null, &json!(0)));
    assert_eq!(stopped["workers"][0]["state"], json!("gone"));
    let text = world.ok(&["workers"]);
    assert!(text.contains("gone") && text.contains("exited with status 0"), "{text}");
}

#[test]
fn ways_to_fail_are_counted_and_there_from_the_start() {
    let world = World::new();
    world.ok(&QUEUE);
    let runtime = open(&world);
    let waits = Pool::attach(&runtime, kinds()).unwrap().submit(Task::new("hold", "")).unwrap();
    assert!(waits.cancel().unwrap());
    start(&runtime, 1).stop(LIMIT).unwrap();
    let text = world.ok(&["metrics"]);
    let lines = text.lines().filter_map(|l| l.strip_prefix("commonhold_task_errors_total"));
    let mut counted: Vec<&str> = lines.collect();
    counted.sort_unstable();
    let want = [
        r#"{reason="cancelled"} 1"#,
        r#"{reason="deadline"} 0"#,
        r#"{reason="error"} 0"#,
        r#"{reason="panic"} 0"#,
        r#"{reason="result"} 0"#,
        r#"{reason="worker_died"} 0"#,
    ];
    assert_eq!(counted, want);
    for name in ["resonance_worker_task_duration_ms_count", "resonance_worker_pool_size"] {
        assert!(text.contains(&format!("\n{name} 0\n")), "{name}: {text}");
    }
}

#[test]
fn a_killed_supervisors_workers_are_not_taken_for_idle() {
    let world = World::new();
    world.ok(&QUEUE);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["supervisor", "--exact", "--nocapture"]).env(SEGMENT, world.segment());
    let mut supervisor = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let there = wait_for(&world, |seen| seen["pool"]["idle"] == 1);
    assert_eq!(there["supervisor_pid"], json!(supervisor.id()));
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let seen = wait_for(&world, |seen| seen["workers"][0]["state"] == "gone");
    assert_eq!((&seen["supervisor_pid"], &seen["pool"]["idle"]), (&Value::Null, &json!(0)));
    assert_eq!(seen["workers"][0]["pid"], there["workers"][0]["pid"]);
    let frame = world.ok(&["top", "--once", "--interval", "10ms"]);
    assert!(frame.contains("\nworkers 0 busy  0 idle  0 starting  no supervisor\n"), "{frame}");
}
