//! What a pool refuses, and that a refusal leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use commonhold::Runtime;
use commonhold::workers::{Capacity, Pool, PoolError, PoolOptions, Reason, Task, TaskError};
use commonhold_tests::stage;
use commonhold_tests::stage::{LIMIT, eventually};
use commonhold_tests::tasks::kinds;

const SMALL: Capacity = Capacity { tasks: 4, pages: 4, workers: 8 };
const PAGE: usize = 16 * 1024;

#[test]
fn what_no_worker_could_do_is_refused_before_dispatch() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = Pool::attach(&runtime, kinds()).unwrap();
    let refused = |task: Task<'_>| pool.submit(task).map(|task| task.id()).unwrap_err();
    for kind in ["no-such", "", &"x".repeat(49)] {
        let error = refused(Task::new(kind, b""));
        assert!(matches!(error, TaskError::UnknownKind { .. }), "{error:?}");
        let text = format!("no task kind `{kind}` is registered; there are: `");
        assert!(error.to_string().starts_with(&text), "{error}");
        assert!(error.to_string().contains("`attempt`, `double`, `echo`"), "{error}");
    }
    for (kind, arguments, why) in [
        ("double", "", "EOF while parsing a value"),
        ("double", "-1", "invalid value: integer `-1`, expected u64"),
        ("double", "\"1\"", "invalid type: string \"1\", expected u64"),
        ("double", "1 2", "trailing characters"),
        ("double", "\u{0}", "expected value"),
        ("strict", "{\"name\": \"a\"}", "missing field `n`"),
        ("strict", "{\"name\": \"a\", \"n\": 1, \"m\": 2}", "unknown field `m`"),
        ("strict", "{\"name\": 5, \"n\": 1}", "invalid type: integer `5`, expected a string"),
        ("strict", "{\"name\": \"a\", \"n\": 0}", "`n` of a is 0"),
    ] {
        let error = refused(Task::new(kind, arguments));
        let text = format!("the arguments of a task `{kind}` are not valid: {why}");
        assert!(matches!(error, TaskError::Arguments { .. }), "{error:?}");
        assert!(error.to_string().starts_with(&text), "{arguments}: {error}");
    }
    let error = refused(Task::new("echo", &vec![0; (1 << 20) + 1]));
    let text = "the arguments of a task `echo` have 1048577 bytes; at most 1048576 fit";
    assert_eq!(error.to_string(), text);
    for (task, text) in [
        (Task::new("echo", b"").deadline(Duration::ZERO), "a task's deadline is 0 ms; it must be "),
        (Task::new("echo", b"").deadline(Duration::MAX), "a task's deadline is 18446744073709"),
        (Task::new("echo", b"").attempts(0), "a task's number of attempts is 0; it must be 1 to "),
        (Task::new("echo", b"").attempts(1001), "a task's number of attempts is 1001; it must be "),
    ] {
        let error = refused(task);
        assert!(error.to_string().starts_with(text), "{error}");
    }
    let figures = pool.figures().unwrap();
    assert_eq!((figures.queued, figures.ended, figures.room), (0, 0, 4));
    assert_eq!(pool.pages_in_use().unwrap(), 0);
}

#[test]
fn pools_that_cannot_be_are_refused() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let fails = |options: PoolOptions| {
        Pool::start(&runtime, kinds(), stage.workers(options)).unwrap_err().to_string()
    };
    let new = PoolOptions::new;
    assert_eq!(
        fails(new().workers(0..=0)),
        "the pool's number of workers is 0; it must be 1 to 8, the capacity's `workers`"
    );
    assert!(fails(new().workers(1..=9)).starts_with("the pool's number of workers is 9; it must"));
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = fails(new().workers(3..=2));
    assert_eq!(
        reversed,
        "the pool's least number of workers is 3; it must be at most the most workers, 2"
    );
    let little = fails(new().workers(1..=1).memory_limit(1 << 20));
    assert_eq!(little, "the pool's memory limit is 1048576 bytes; it must be at least 16 MiB");
    let options = PoolOptions::new().workers(1..=1).command("/no/such/program", [""; 0]);
    let missing = Pool::start(&runtime, kinds(), options).unwrap_err().to_string();
    let text = "start a worker process with `/no/such/program`: No such file or directory";
    assert!(missing.starts_with(text), "{missing}");
    let figures = Pool::attach(&runtime, kinds()).unwrap().figures().unwrap();
    assert_eq!((figures.supervisor, figures.starting, figures.idle), (None, 0, 0));

    let other = stage!();
    let runtime = other.open();
    let error = Pool::start(&runtime, kinds(), PoolOptions::new()).unwrap_err();
    assert!(matches!(error, PoolError::NoTables { table: "tasks" }), "{error:?}");
}

#[test]
fn a_full_queue_pushes_back_and_takes_more_when_there_is_room() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let submit = |n: usize| queue.submit(Task::new("echo", &[n as u8]));
    let mut waiting: Vec<_> = (0..4).map(|n| submit(n).unwrap()).collect();
    for _ in 0..3 {
        let text = "the queue is full: 4 tasks are in use; wait for results, or raise the capacity's `tasks`";
        assert_eq!(submit(9).unwrap_err().to_string(), text);
    }
    // One that ended is in use until its end was taken.
    assert!(waiting[2].cancel().unwrap());
    assert!(submit(9).is_err());
    let ended = waiting[2].wait(LIMIT);
    assert!(matches!(ended, Err(TaskError::Failed { reason: Reason::Cancelled, .. })), "{ended:?}");
    waiting[2] = submit(2).unwrap();
    assert!(submit(9).is_err());
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    for (n, task) in waiting.iter().enumerate() {
        assert_eq!(task.wait(LIMIT).unwrap(), [n as u8]);
    }
    for round in 0..100 {
        let task = submit(round).unwrap();
        assert_eq!(task.wait(LIMIT).unwrap(), [round as u8]);
    }
    pool.stop(LIMIT).unwrap();
}

#[test]
fn pages_run_out_and_come_back() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let submit = |pages: usize| queue.submit(Task::new("echo", &vec![7; pages * PAGE]));
    let three = submit(3).unwrap();
    for _ in 0..3 {
        let error = submit(2).unwrap_err();
        let text = "the queue is full: 4 pages for arguments and results are in use; wait for results, or raise the capacity's `pages`";
        assert_eq!(error.to_string(), text);
        assert_eq!(queue.pages_in_use().unwrap(), 3, "the refused one's are free again");
    }
    // The records of the refused are free again.
    for small in [(); 3].map(|()| queue.submit(Task::new("echo", b"")).unwrap()) {
        assert!(small.cancel().unwrap());
    }
    assert_eq!(queue.figures().unwrap().queued, 1);
    assert!(three.cancel().unwrap());
    assert_eq!(queue.pages_in_use().unwrap(), 0);
    three.wait(LIMIT).unwrap_err();
    // Two pages of arguments leave two for the result.
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    for _ in 0..20 {
        let task = submit(2).unwrap();
        assert_eq!(task.wait(LIMIT).unwrap(), vec![7; 2 * PAGE]);
        eventually("all pages are free", || queue.pages_in_use().unwrap() == 0);
    }
    // Three leave one.
    let error = submit(3).unwrap().wait(LIMIT).unwrap_err();
    let text = "there are no pages for its result of 49152 bytes; take results, or raise the capacity's `pages`";
    assert!(error.to_string().ends_with(text), "{error}");
    eventually("all pages are free", || queue.pages_in_use().unwrap() == 0);
    pool.stop(LIMIT).unwrap();
}
