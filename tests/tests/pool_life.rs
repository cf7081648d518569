//! Pools as a whole: how they grow, stop, are killed, and what the next one finds.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use commonhold::workers::{
    Capacity, Pool, PoolError, PoolOptions, Reason, StoredTask, StoredWorker, TASKS, Task,
    TaskError, TaskHandle, TaskId, TaskState, WORKERS,
};
use commonhold::{Runtime, admin};
use commonhold_os::process::{Bell, Identity, Liveness, wait_for_end};
use commonhold_tests::roles::submit_some;
use commonhold_tests::stage::{LIMIT, eventually};
use commonhold_tests::tasks::kinds;
use commonhold_tests::{Random, stage};
use nix::sys::signal::Signal;

const SMALL: Capacity = Capacity { tasks: 64, pages: 128, workers: 8 };
/// Room for all that the killed leave: their ends are kept for a while.
const AMPLE: Capacity = Capacity { tasks: 256, pages: 1024, workers: 8 };

/// The workers that are ready, by what is proof of them.
fn ready(runtime: &Runtime) -> Vec<Identity> {
    let mut ready = Vec::new();
    let workers = runtime.table::<StoredWorker>(WORKERS).unwrap();
    let each = |_: &str, worker: StoredWorker| {
        if worker.pid != 0 {
            ready.push(Identity {
                pid: u32::try_from(worker.pid).unwrap(),
                start_ticks: worker.start,
                pidfd_inode: worker.inode,
                pid_namespace: worker.namespace,
            });
        }
    };
    workers.scan(each).unwrap();
    ready.retain(|process| process.find().0 == Liveness::Alive);
    ready
}

#[test]
fn a_pool_grows_with_its_tasks_and_shrinks_again() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let options = PoolOptions::new().workers(1..=4).idle(0).idle_time(Duration::from_millis(1));
    let pool = stage.pool(&runtime, options);
    let door = stage.door("door");
    let submit = |_| pool.submit(Task::new("hold", &door.arguments())).unwrap();
    let tasks: Vec<TaskHandle> = (0..6).map(submit).collect();
    let inside: Vec<_> = (0..4).map(|_| door.next()).collect();
    let figures = pool.figures().unwrap();
    assert_eq!((figures.busy, figures.idle, figures.queued, figures.running), (4, 0, 2, 4));
    assert!(door.nobody_waits(), "a fifth runs");
    inside.into_iter().for_each(|visitor| visitor.go(b"in"));
    (0..2).for_each(|_| door.next().go(b"in"));
    for task in tasks {
        assert_eq!(task.wait(LIMIT).unwrap(), b"in");
    }
    eventually("one is left", || pool.workers().unwrap().len() == 1);
    let again = pool.submit(Task::new("double", b"4")).unwrap();
    assert_eq!(again.wait(LIMIT).unwrap(), b"8");
    pool.stop(LIMIT).unwrap();
}

#[test]
fn stop_lets_a_task_finish_and_leaves_what_waits() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let door = stage.door("door");
    let runs = queue.submit(Task::new("hold", &door.arguments())).unwrap();
    let visitor = door.next();
    let waits = queue.submit(Task::new("attempt", b"")).unwrap();
    let stopping = std::thread::spawn(move || pool.stop(LIMIT));
    let workers = runtime.table::<StoredWorker>(WORKERS).unwrap();
    eventually("it is told to stop", || {
        let mut told = false;
        workers.scan(|_, worker| told |= worker.stop).unwrap();
        told
    });
    visitor.go(b"finished");
    stopping.join().unwrap().unwrap();
    assert_eq!(runs.wait(Duration::ZERO).unwrap(), b"finished");
    assert_eq!(ready(&runtime), []);
    let error = waits.wait(Duration::ZERO).unwrap_err();
    assert!(error.to_string().ends_with("; no process supervises workers of this segment"));
    let next = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    assert_eq!(waits.wait(LIMIT).unwrap(), b"1");
    next.stop(LIMIT).unwrap();
}

#[test]
fn who_does_not_stop_is_killed_and_its_task_goes_on_with_the_next_pool() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let door = stage.door("door");
    let submit = || queue.submit(Task::new("hold", &door.arguments())).unwrap();
    let tasks = [submit(), submit()];
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    let inside = [door.next(), door.next()];
    let error = pool.stop(Duration::ZERO).unwrap_err();
    assert!(matches!(error, PoolError::TimedOut { .. }), "{error:?}");
    let text = "waited 0 ms for 2 workers to end; they were killed, and their tasks wait again";
    assert_eq!(error.to_string(), text);
    drop(inside);
    assert_eq!(ready(&runtime), []);
    assert_eq!(queue.figures().unwrap().queued, 2);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    for _ in &tasks {
        let visitor = door.next();
        assert_eq!(visitor.attempt, 1, "an attempt that the pool cut short does not count");
        visitor.go(b"at last");
    }
    tasks.iter().for_each(|task| assert_eq!(task.wait(LIMIT).unwrap(), b"at last"));
    // Dropped, it is as with no time at all.
    let task = submit();
    let _inside = door.next();
    drop(pool);
    assert_eq!(ready(&runtime), []);
    assert!(task.cancel().unwrap());
}

#[test]
fn there_is_one_supervisor() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let mut first = stage.role("supervise", &["1"]);
    first.hear("ready");
    let start = || Pool::start(&runtime, kinds(), stage.workers(PoolOptions::new().workers(1..=1)));
    let refused = |pid: u32| match start() {
        Err(PoolError::Supervised { pid: found }) => assert_eq!(found, pid),
        other => panic!("{other:?}"),
    };
    refused(first.id());
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    assert_eq!(queue.workers().unwrap().len(), 1, "the second started no worker");
    first.end_well();
    let pool = start().unwrap();
    refused(std::process::id());
    let mut other = stage.role("supervise", &["1"]);
    let text = format!(
        "the workers of this segment have a supervisor already, process {}; `Pool::attach` submits to it",
        std::process::id()
    );
    assert_eq!(other.hear("refused"), text);
    assert_eq!(pool.figures().unwrap().supervisor, Some(std::process::id()));
    pool.stop(LIMIT).unwrap();
}

#[test]
fn starting_and_stopping_leaves_nothing() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let mut role = stage.role("start-stop", &["start", "100"]);
    let before = role.next_line().unwrap();
    assert_eq!(role.next_line().unwrap(), before, "after a hundred more");
    assert!(before.contains(" 0 children"), "{before}");
    role.end_well();
    assert_eq!(ready(&runtime), []);
}

#[test]
fn a_segment_made_anew_goes_on_with_its_tasks() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let large = "large ".repeat(20_000);
    // They are submitted by a process that ends without giving anything up.
    let leave = |tasks: &[&str]| -> Vec<TaskId> {
        let mut role = stage.role("leave", tasks);
        let ids = role.hear("ids");
        role.end_well();
        ids.split_whitespace().map(|id| TaskId::from_number(id.parse().unwrap())).collect()
    };
    let mut ids = leave(&["echo", &large, "error", "then"]);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    pool.drain(LIMIT).unwrap();
    pool.stop(LIMIT).unwrap();
    ids.extend(leave(&["echo", "small", "echo", &large, "attempt", ""]));
    let figures = queue.figures().unwrap();
    assert_eq!((figures.ended, figures.queued), (2, 3));
    runtime.drain(LIMIT).unwrap();
    drop(queue);
    drop(runtime);
    admin::destroy(&stage.there(), LIMIT, false).unwrap();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let ids: [TaskId; 5] = ids.try_into().unwrap();
    let [ended, failed, small, paged, brief] = ids.map(|id| pool.task(id).unwrap());
    assert_eq!(ended.wait(LIMIT).unwrap(), large.as_bytes());
    let error = failed.wait(LIMIT).unwrap_err();
    let of = |error: &TaskError| matches!(error, TaskError::Failed { reason: Reason::Error(why), .. } if why == "then");
    assert!(of(&error), "{error:?}");
    assert_eq!(small.wait(LIMIT).unwrap(), b"small");
    assert_eq!(paged.wait(LIMIT).unwrap(), large.as_bytes());
    assert_eq!(brief.wait(LIMIT).unwrap(), b"1");
    eventually("all pages are free", || pool.pages_in_use().unwrap() == 0);
    pool.stop(LIMIT).unwrap();
}

#[test]
fn a_killed_supervisor_takes_its_workers_along_and_the_next_goes_on() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let door = stage.door("door");
    for round in 0..3_u8 {
        let mut supervisor = stage.role("supervise", &["2"]);
        supervisor.hear("ready");
        let held: Vec<TaskHandle> =
            (0..2).map(|_| queue.submit(Task::new("hold", &door.arguments())).unwrap()).collect();
        let inside = [door.next(), door.next()];
        let bytes = |n: u8| vec![n ^ round; usize::from(n) * 997];
        let submit = |n| queue.submit(Task::new("echo", &bytes(n))).unwrap();
        let waiting: Vec<TaskHandle> = (0..40).map(submit).collect();
        let workers = ready(&runtime);
        assert_eq!(workers.len(), 2);
        let killed = Instant::now();
        supervisor.signal(Signal::SIGKILL);
        let bell = Bell::new().unwrap();
        for worker in &workers {
            while let (Liveness::Alive, pidfd) = worker.find() {
                wait_for_end(pidfd.as_ref(), &bell, LIMIT);
                assert!(killed.elapsed() < LIMIT, "{worker:?} outlives its supervisor");
            }
        }
        println!("its workers were dead {:?} after the supervisor was killed", killed.elapsed());
        drop(inside);
        supervisor.kill();
        assert_eq!(queue.figures().unwrap().supervisor, None);
        let next = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
        for _ in &held {
            let visitor = door.next();
            assert_eq!(visitor.attempt, 2, "it was begun once before");
            visitor.go(b"here");
        }
        for task in &held {
            assert_eq!(task.wait(LIMIT).unwrap(), b"here");
        }
        for (n, task) in (0..).zip(&waiting) {
            assert_eq!(task.wait(LIMIT).unwrap(), bytes(n), "task {n}");
            let again = task.wait(Duration::ZERO);
            assert!(matches!(again, Err(TaskError::Gone { .. })), "{again:?}");
        }
        assert!(door.nobody_waits(), "one was begun once too often");
        next.stop(LIMIT).unwrap();
        assert_eq!(queue.pages_in_use().unwrap(), 0);
    }
}

#[test]
fn what_workers_say_is_passed_on() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let test = std::process::id().to_string();
    let mut role = Command::new(env!("CARGO_BIN_EXE_commonhold-test-role"))
        .args(["supervise", &test, &stage.segment(), "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    queue.submit(Task::new("say", b"hear, hear")).unwrap().wait(LIMIT).unwrap();
    drop(role.stdin.take());
    let said = role.wait_with_output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8(said.stderr).unwrap();
    for text in [": out: hear, hear\n", ": err: hear, hear\n"] {
        let lines =
            said.lines().filter(|l| l.starts_with("worker ") && l.ends_with(text.trim_end()));
        assert_eq!(lines.count(), 1, "{said}");
    }
}

#[test]
fn supervisors_and_submitters_are_killed_at_any_time() {
    let (stage, mut random) = (stage!(), Random::from_environment());
    let runtime = Runtime::open(stage.with_queue(&AMPLE)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let over = AtomicBool::new(false);
    let right = std::thread::scope(|scope| {
        let submits = scope.spawn(|| {
            let mut right = 0;
            while !over.load(Ordering::Acquire) {
                right += submit_some(&runtime, 20, 40_000).unwrap();
            }
            right
        });
        for _ in 0..12 {
            let mut supervisor = stage.role("supervise", &["2"]);
            let mut submitter = stage.role("submit", &["1000000", "200000"]);
            // Now and then before it has begun.
            if random.below(4) > 0 {
                supervisor.hear("ready");
            }
            random.dawdle(Duration::from_millis(40));
            supervisor.kill();
            submitter.kill();
        }
        over.store(true, Ordering::Release);
        // The last 20 end with this one; so do those of the dead, and nobody takes their ends.
        let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2).keep(Duration::ZERO));
        let right = submits.join().unwrap();
        eventually("nothing is left", || {
            let figures = queue.figures().unwrap();
            let left = figures.queued + figures.running + figures.ended;
            left + queue.pages_in_use().unwrap() == 0
        });
        pool.stop(LIMIT).unwrap();
        right
    });
    assert!(right > 0 && right % 20 == 0, "{right}");
    assert_eq!(ready(&runtime), []);
    // Nor is any record reserved: the queue takes as many as it has room for.
    let submit = |_| queue.submit(Task::new("echo", b"")).unwrap();
    let all: Vec<TaskHandle> = (0..AMPLE.tasks).map(submit).collect();
    assert_eq!(all.len(), 256);
}

#[test]
fn who_dies_while_it_submits_leaves_no_record_and_no_page() {
    let (stage, mut random) = (stage!(), Random::from_environment());
    let capacity = Capacity { tasks: 8, pages: 8, workers: 1 };
    let runtime = Runtime::open(stage.with_queue(&capacity)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    // Almost all pages are taken, so that it writes some again and again, and finds too few.
    let most = queue.submit(Task::new("echo", &[1; 6 * 16 * 1024])).unwrap();
    let tasks = runtime.table::<StoredTask>(TASKS).unwrap();
    let reserved = || {
        let mut reserved = 0;
        let count = |_: &str, task: StoredTask| {
            reserved += u32::from(task.state == TaskState::Reserved as i64);
        };
        tasks.scan(count).unwrap();
        reserved
    };
    for _ in 0..4 {
        let before = reserved();
        let mut submitter = stage.role("press", &["60000"]);
        eventually("it writes", || reserved() > before);
        random.dawdle(Duration::from_micros(500));
        submitter.kill();
    }
    assert!(most.cancel().unwrap());
    drop(most);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    eventually("no record is reserved", || reserved() == 0);
    eventually("no page is in use", || queue.pages_in_use().unwrap() == 0);
    pool.stop(LIMIT).unwrap();
    let submit = |_| queue.submit(Task::new("echo", &[1; 300])).unwrap();
    assert_eq!((0..8).map(submit).collect::<Vec<TaskHandle>>().len(), 8);
}
