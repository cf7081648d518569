//! What could go wrong with a pool and did not show by itself: found by reading, each with the harm it did.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use commonhold::Runtime;
use commonhold::workers::{
    Capacity, Pool, PoolError, PoolOptions, Reason, TASKS, Task, TaskError, TaskHandle, TaskState,
    WORKERS, look,
};
use commonhold_tests::stage;
use commonhold_tests::stage::LIMIT;

const SMALL: Capacity = Capacity { tasks: 64, pages: 128, workers: 8 };

/// One worker, and how long a test waits for what must come.
fn one() -> PoolOptions {
    PoolOptions::new().workers(1..=1)
}

/// Waits until `seen` says so.
fn until(what: &str, seen: impl Fn() -> bool) {
    let begin = Instant::now();
    while !seen() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        std::thread::yield_now();
    }
}

/// Rings when it is woken.
struct Ring(Mutex<std::sync::mpsc::Sender<()>>);

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        // The test may have ended.
        let _ = self.0.lock().unwrap().send(());
    }
}

fn ring() -> (Waker, Receiver<()>) {
    let (sender, receiver) = channel();
    (Arc::new(Ring(Mutex::new(sender))).into(), receiver)
}

fn poll(task: &mut TaskHandle, waker: &Waker) -> Poll<Result<Vec<u8>, TaskError>> {
    Pin::new(task).poll(&mut Context::from_waker(waker))
}

#[test]
fn who_looks_at_a_task_or_cancels_it_leaves_its_end_to_its_submitter() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, one());
    let task = pool.submit(Task::new("double", b"21")).unwrap();
    // Whether it has ended by now or not.
    drop(pool.task(task.id()));
    assert_eq!(task.wait(LIMIT).unwrap(), b"42");
    let task = pool.submit(Task::new("until-cancelled", b"")).unwrap();
    let other = Pool::attach(&runtime, commonhold_tests::tasks::kinds()).unwrap();
    assert!(other.task(task.id()).unwrap().cancel().unwrap());
    let ended = task.wait(LIMIT);
    assert!(!matches!(ended, Err(TaskError::Gone { .. })), "{ended:?}");
    pool.stop(LIMIT).unwrap();
}

#[test]
fn each_of_two_who_await_a_task_is_woken() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, one());
    let mut first = pool.submit(Task::new("until-cancelled", b"")).unwrap();
    let mut second = pool.task(first.id()).unwrap();
    let ((first_waker, first_rings), (second_waker, second_rings)) = (ring(), ring());
    assert!(poll(&mut first, &first_waker).is_pending());
    assert!(poll(&mut second, &second_waker).is_pending());
    // One that is given up takes nobody else's waker with it.
    let mut third = pool.task(first.id()).unwrap();
    assert!(poll(&mut third, Waker::noop()).is_pending());
    drop(third);
    assert!(first.cancel().unwrap());
    first_rings.recv_timeout(LIMIT).expect("the first is woken");
    second_rings.recv_timeout(LIMIT).expect("the second is woken");
    pool.stop(LIMIT).unwrap();
}

/// An executor's task: the last one who has its waker drops it, and its future.
struct Job(#[allow(dead_code)] Mutex<Option<TaskHandle>>);

impl Wake for Job {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_whose_drop_drops_a_future_stops_nobody() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, one());
    let mut task = pool.submit(Task::new("until-cancelled", b"")).unwrap();
    let inner = pool.submit(Task::new("until-cancelled", b"")).unwrap();
    let (sender, done) = channel();
    let cancelled = task.id();
    std::thread::spawn(move || {
        let job = Waker::from(Arc::new(Job(Mutex::new(Some(inner)))));
        let pending = poll(&mut task, &job).is_pending();
        // From here on nobody else has the job; another waker takes its place.
        drop(job);
        let pending = pending && poll(&mut task, Waker::noop()).is_pending();
        let _ = sender.send((task, pending));
    });
    let (task, pending) = done.recv_timeout(LIMIT).expect("whoever drops it holds no lock");
    assert!(pending && task.id() == cancelled);
    drop(task);
    let _ = pool.stop(Duration::ZERO);
}

/// Panics when it is woken.
struct Boo(AtomicBool);

impl Wake for Boo {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        panic!("boo");
    }
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_asleep() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, one());
    let mut bad = pool.submit(Task::new("until-cancelled", b"")).unwrap();
    let boo = Arc::new(Boo(AtomicBool::new(false)));
    assert!(poll(&mut bad, &Waker::from(Arc::clone(&boo))).is_pending());
    assert!(bad.cancel().unwrap());
    until("it is woken", || boo.0.load(Ordering::SeqCst));
    let mut good = pool.submit(Task::new("until-cancelled", b"")).unwrap();
    let (waker, rings) = ring();
    assert!(poll(&mut good, &waker).is_pending());
    assert!(good.cancel().unwrap());
    rings.recv_timeout(LIMIT).expect("it is woken");
    pool.stop(LIMIT).unwrap();
}

#[test]
fn a_worker_that_somebody_else_waited_for_is_dead() {
    let stage = stage!();
    let mut role = stage.role("reaped", &[]);
    role.hear("failed worker_died");
    role.hear("42");
    role.end_well();
}

#[test]
fn a_forked_child_lets_go_of_its_parents_pool_and_tasks() {
    let stage = stage!();
    let mut role = stage.role("inherited", &[]);
    role.hear("child ended");
    role.hear("Ok([52, 50])");
    role.end_well();
}

#[test]
fn a_pool_that_does_not_start_leaves_no_worker_behind() {
    let stage = stage!();
    let mut role = stage.role("few-descriptors", &[]);
    let said = role.hear("failed");
    let [failed, left] =
        said.split(" left ").map(|n| n.parse::<u32>().unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("{said}")
    };
    assert!(failed > 3 && left == 0, "of {failed} pools that did not start {left} left children");
    role.hear("Ok([52, 50])");
    role.end_well();
}

#[test]
fn a_worker_that_writes_without_end_is_looked_after_too() {
    let stage = stage!();
    let mut role = stage.role("flood", &[]);
    role.hear("failed deadline");
    role.end_well();
}

#[test]
fn a_damaged_workers_record_does_not_end_the_pool() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=2));
    until("the worker is ready", || pool.figures().unwrap().idle == 1);
    let handle = runtime.handle().unwrap();
    let table = runtime.space().find_table(WORKERS).unwrap();
    let record = handle.locate(table, "w0000000").unwrap().unwrap();
    let damaged = handle.update_at(table, record, |now, next| {
        next.extend_from_slice(now);
        next.iter_mut().skip(16).for_each(|byte| *byte = 0xff);
        Ok::<(), ()>(())
    });
    assert!(damaged.unwrap().is_some());
    // Its worker ends when it reads that; the next one gets another record.
    let task = pool.submit(Task::new("kill", b"").attempts(1)).unwrap();
    match task.wait(LIMIT) {
        Err(TaskError::Failed { reason: Reason::WorkerDied { .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
    let task = pool.submit(Task::new("double", b"21")).unwrap();
    assert_eq!(task.wait(LIMIT).unwrap(), b"42");
    pool.stop(LIMIT).unwrap();
    // So does the first one of the next pool.
    let pool = stage.pool(&runtime, one());
    let task = pool.submit(Task::new("double", b"21")).unwrap();
    assert_eq!(task.wait(LIMIT).unwrap(), b"42");
    pool.stop(LIMIT).unwrap();
}

#[test]
fn hints_of_free_records_that_were_lost_come_back() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, one());
    until("the worker is ready", || pool.figures().unwrap().idle == 1);
    let queue = runtime.handle().unwrap().register_queue(TASKS).unwrap();
    // As if somebody had been killed behind his commit, in each group.
    for group in 0..64 {
        runtime.space().clear_hint(&queue, 3, group).unwrap();
    }
    let begin = Instant::now();
    let task = loop {
        match pool.submit(Task::new("double", b"21")) {
            Err(TaskError::Full { .. }) if begin.elapsed() < LIMIT => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    assert_eq!(task.wait(LIMIT).unwrap(), b"42");
    pool.stop(LIMIT).unwrap();
}

#[test]
fn tasks_whose_workers_are_killed_by_stop_wait_for_the_next_pool() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, one());
    let task = pool.submit(Task::new("until-cancelled", b"").attempts(1)).unwrap();
    until("it runs", || pool.figures().unwrap().running == 1);
    let stopped = pool.stop(Duration::ZERO);
    assert!(matches!(stopped, Err(PoolError::TimedOut { .. })), "{stopped:?}");
    let seen = look(runtime.space()).unwrap().unwrap();
    assert_eq!(seen.tasks.iter().map(|t| t.state).collect::<Vec<_>>(), [TaskState::Pending]);
    let pool = stage.pool(&runtime, one());
    until("it runs again", || pool.figures().unwrap().running == 1);
    assert!(task.cancel().unwrap());
    assert_eq!(task.wait(LIMIT).unwrap(), b"saw it");
    pool.stop(LIMIT).unwrap();
}

#[test]
fn a_pool_may_be_given_all_the_time_to_stop() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    stage.pool(&runtime, one()).stop(Duration::MAX).unwrap();
}
