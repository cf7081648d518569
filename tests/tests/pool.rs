//! Worker processes, tasks, and all that tasks can do wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use commonhold::Runtime;
use commonhold::workers::{Capacity, PoolOptions, Reason, Task, TaskError};
use commonhold_tests::stage;
use commonhold_tests::stage::{LIMIT, eventually};

const SMALL: Capacity = Capacity { tasks: 64, pages: 128, workers: 8 };

#[test]
fn results_come_back_whatever_their_size() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=2));
    for size in [0, 1, 256, 257, 16 * 1024, 16 * 1024 + 1, 1 << 20] {
        let bytes: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
        let task = pool.submit(Task::new("echo", &bytes)).unwrap();
        assert_eq!(task.wait(LIMIT).unwrap(), bytes, "{size} bytes");
        let again = task.wait(Duration::ZERO);
        assert!(matches!(again, Err(TaskError::Gone { .. })), "{again:?}");
    }
    // The worker gives the arguments' pages back behind its commit.
    eventually("all pages are free", || pool.pages_in_use().unwrap() == 0);
    pool.stop(LIMIT).unwrap();
}

#[test]
fn what_goes_wrong_is_told_and_harms_nobody_else() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let options = PoolOptions::new().workers(2..=2).memory_limit(1 << 28);
    let pool = stage.pool(&runtime, options);
    let fail = |kind: &str, arguments: &[u8]| {
        let limit = if kind == "loop" { Duration::from_millis(300) } else { LIMIT };
        let task = Task::new(kind, arguments).attempts(1).deadline(limit);
        let task = pool.submit(task).unwrap();
        let others = pool.submit(Task::new("double", b"21")).unwrap();
        let error = task.wait(LIMIT).unwrap_err();
        assert_eq!(others.wait(LIMIT).unwrap(), b"42", "beside `{kind}`");
        let text = error.to_string();
        let id = format!("task {} (`{kind}`): ", task.id());
        assert!(text.starts_with(&id), "{text}");
        match error {
            TaskError::Failed { reason, .. } => (reason, text),
            other => panic!("{other}"),
        }
    };
    assert_eq!(fail("error", b"no such thing").0, Reason::Error("no such thing".to_owned()));
    assert_eq!(fail("panic", b"boo").0, Reason::Panic("boo".to_owned()));
    for (kind, words) in [
        ("exit", "its worker exited with status 0: last words"),
        ("kill", "its worker was killed by signal 9 (SIGKILL)"),
        ("memory", "its worker was killed by signal 6 (SIGABRT): memory allocation of"),
        ("loop", "it did not end within its 300 ms; it ran, and its worker was killed"),
        ("large", "its result has 1048577 bytes; at most 1048576 fit"),
    ] {
        let (_, text) = fail(kind, if kind == "exit" { b"first line\nlast words" } else { b"" });
        assert!(text.contains(words), "{text}");
    }
    pool.stop(LIMIT).unwrap();
}
