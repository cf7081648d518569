//! Processes that stand by to supervise the workers: who takes over, when, and what becomes of the queue.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use commonhold::Runtime;
use commonhold::workers::{Capacity, Pool, PoolError, PoolOptions, Task, TaskError, TaskHandle};
use commonhold_tests::roles::submit_some;
use commonhold_tests::stage::{LIMIT, Stage, eventually};
use commonhold_tests::tasks::kinds;
use commonhold_tests::{Process, Random, stage};
use nix::sys::signal::Signal;

const SMALL: Capacity = Capacity { tasks: 64, pages: 128, workers: 8 };
/// Room for all that the killed leave: their ends are kept for a while.
const AMPLE: Capacity = Capacity { tasks: 256, pages: 1024, workers: 8 };

fn options(stage: &Stage) -> PoolOptions {
    stage.workers(PoolOptions::new().workers(1..=1))
}

/// A process that stands by; it is said what it was at first.
fn stander(stage: &Stage, due: &str) -> Process {
    let mut role = stage.role("stand-by", &["1"]);
    role.hear(due);
    role
}

fn supervisor(queue: &Pool) -> Option<u32> {
    queue.figures().unwrap().supervisor
}

/// The result of a task, which is there once.
fn end_of(task: &TaskHandle) -> Vec<u8> {
    let bytes = task.wait(LIMIT).unwrap();
    let again = task.wait(Duration::ZERO);
    assert!(matches!(again, Err(TaskError::Gone { .. })), "{again:?}");
    bytes
}

#[test]
fn who_stands_by_goes_on_with_the_queue_of_a_killed_supervisor() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let door = stage.door("door");
    let mut first = stage.role("supervise", &["1"]);
    first.hear("ready");
    let next = stander(&stage, "stands");
    let held = queue.submit(Task::new("hold", &door.arguments())).unwrap();
    let inside = door.next();
    let echo = |n: u8| queue.submit(Task::new("echo", &[n; 3000])).unwrap();
    let waiting: Vec<TaskHandle> = (0..30).map(echo).collect();
    assert_eq!(supervisor(&queue), Some(first.id()));
    let killed = Instant::now();
    first.signal(Signal::SIGKILL);
    let again = door.next();
    println!("its task was begun again {:?} after the supervisor was killed", killed.elapsed());
    assert_eq!((again.attempt, supervisor(&queue)), (2, Some(next.id())));
    drop(inside);
    again.go(b"here");
    assert_eq!(end_of(&held), b"here");
    for (n, task) in (0..).zip(&waiting) {
        assert_eq!(end_of(task), [n; 3000], "task {n}");
    }
    assert!(door.nobody_waits(), "one was begun once too often");
    let mut next = next;
    next.end_well();
    assert_eq!((supervisor(&queue), queue.pages_in_use().unwrap()), (None, 0));
}

#[test]
fn who_stands_by_takes_over_from_one_that_stops() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let first = Pool::start(&runtime, kinds(), options(&stage)).unwrap();
    let mut second = stander(&stage, "stands");
    let third = Pool::stand_by(&runtime, kinds(), options(&stage)).unwrap();
    assert!(first.supervises() && !third.supervises());
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    assert_eq!(queue.workers().unwrap().len(), 1, "who stands by starts no worker");
    let door = stage.door("door");
    let task = queue.submit(Task::new("hold", &door.arguments())).unwrap();
    let waits = queue.submit(Task::new("attempt", b"")).unwrap();
    door.next().go(b"finished");
    first.stop(LIMIT).unwrap();
    assert_eq!(end_of(&task), b"finished");
    assert_eq!(end_of(&waits), b"1");
    eventually("one of them supervises", || supervisor(&queue).is_some());
    // Then the other one, whoever it was.
    if third.supervises() {
        third.stop(LIMIT).unwrap();
        eventually("the process supervises", || supervisor(&queue) == Some(second.id()));
        assert_eq!(end_of(&queue.submit(Task::new("double", b"4")).unwrap()), b"8");
        second.end_well();
    } else {
        assert_eq!(supervisor(&queue), Some(second.id()));
        second.end_well();
        eventually("the pool supervises", || third.supervises());
        assert_eq!(end_of(&third.submit(Task::new("double", b"4")).unwrap()), b"8");
        third.stop(LIMIT).unwrap();
    }
    assert_eq!(supervisor(&queue), None);
}

#[test]
fn who_stands_by_supervises_at_once_when_nobody_does() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = Pool::stand_by(&runtime, kinds(), options(&stage)).unwrap();
    assert!(pool.supervises());
    let refused = Pool::start(&runtime, kinds(), options(&stage)).unwrap_err();
    assert!(matches!(refused, PoolError::Supervised { .. }), "{refused:?}");
    assert_eq!(end_of(&pool.submit(Task::new("double", b"4")).unwrap()), b"8");
    pool.stop(LIMIT).unwrap();
    let wrong = Pool::stand_by(&runtime, kinds(), PoolOptions::new().workers(0..=0)).unwrap_err();
    assert!(matches!(wrong, PoolError::Option { .. }), "{wrong:?}");
    let program = options(&stage).command("/nowhere/at/all", Vec::<String>::new());
    let wrong = Pool::stand_by(&runtime, kinds(), program).unwrap_err();
    assert!(wrong.to_string().contains("/nowhere/at/all"), "{wrong}");
}

#[test]
fn a_stander_by_that_stops_harms_nobody() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = Pool::start(&runtime, kinds(), options(&stage)).unwrap();
    let stands = Pool::stand_by(&runtime, kinds(), options(&stage)).unwrap();
    let door = stage.door("door");
    let task = stands.submit(Task::new("hold", &door.arguments())).unwrap();
    let inside = door.next();
    stands.stop(Duration::ZERO).unwrap();
    drop(Pool::stand_by(&runtime, kinds(), options(&stage)).unwrap());
    let mut killed = stander(&stage, "stands");
    killed.kill();
    assert_eq!(supervisor(&pool), Some(std::process::id()));
    inside.go(b"undisturbed");
    assert_eq!(end_of(&task), b"undisturbed");
    pool.stop(LIMIT).unwrap();
}

#[test]
fn a_stopped_supervisor_is_not_robbed() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let mut first = stage.role("supervise", &["1"]);
    first.hear("ready");
    first.stop();
    let pool = Pool::stand_by(&runtime, kinds(), options(&stage)).unwrap();
    // Its workers live, and so does it: they do the tasks.
    for n in 0..100_u64 {
        let task = pool.submit(Task::new("double", n.to_string().as_bytes())).unwrap();
        assert_eq!(end_of(&task), (n * 2).to_string().into_bytes());
        assert!(!pool.supervises());
    }
    first.signal(Signal::SIGKILL);
    eventually("the pool supervises", || pool.supervises());
    pool.stop(LIMIT).unwrap();
}

#[test]
fn who_cannot_take_over_tries_again() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let first = Pool::start(&runtime, kinds(), options(&stage)).unwrap();
    let program = stage.path("program");
    let late = PoolOptions::new().workers(1..=1).command(&program, Vec::<String>::new());
    let stands = Pool::stand_by(&runtime, kinds(), late).unwrap();
    first.stop(LIMIT).unwrap();
    let task = stands.submit(Task::new("double", b"4")).unwrap();
    // Its program is not there yet: it takes the guard, and gives it up again.
    let terms = || {
        let guards = runtime.space().guards().unwrap();
        guards.iter().find(|guard| guard.name == "workers").unwrap().number
    };
    let before = terms();
    eventually("it tries again", || terms() > before + 2);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_commonhold-test-role"), &program).unwrap();
    assert_eq!(end_of(&task), b"8");
    stands.stop(LIMIT).unwrap();
}

#[test]
fn standing_by_leaves_nothing() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = Pool::start(&runtime, kinds(), options(&stage)).unwrap();
    let mut role = stage.role("start-stop", &["stand-by", "200"]);
    let before = role.next_line().unwrap();
    assert_eq!(role.next_line().unwrap(), before, "after two hundred more");
    assert!(before.contains(" 0 children"), "{before}");
    role.end_well();
    // And when it takes over each time.
    pool.stop(LIMIT).unwrap();
    let mut role = stage.role("start-stop", &["stand-by", "50"]);
    let before = role.next_line().unwrap();
    assert_eq!(role.next_line().unwrap(), before, "after fifty more");
    assert!(before.contains(" 0 children"), "{before}");
    role.end_well();
}

#[test]
fn whoever_supervises_is_killed_and_another_one_goes_on() {
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
        let begin = || stage.role("stand-by", &["1"]);
        let mut all: Vec<Process> = (0..3).map(|_| begin()).collect();
        for _ in 0..12 {
            let mut found = None;
            eventually("one of them supervises", || {
                found = supervisor(&queue).and_then(|pid| all.iter().position(|p| p.id() == pid));
                found.is_some()
            });
            random.dawdle(Duration::from_millis(40));
            all.remove(found.unwrap()).kill();
            all.push(begin());
        }
        over.store(true, Ordering::Release);
        let right = submits.join().unwrap();
        all.into_iter().for_each(|mut process| process.end_well());
        right
    });
    assert!(right > 0 && right % 20 == 0, "{right}");
    let figures = queue.figures().unwrap();
    assert_eq!((figures.queued, figures.running, figures.supervisor), (0, 0, None));
    let workers = queue.workers().unwrap();
    assert!(workers.is_empty(), "left behind: {workers:?}");
}
