//! Tasks on their way: cancelled, late, begun again, in their order, awaited, given up, submitted by many.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use commonhold::Runtime;
use commonhold::workers::{
    Capacity, Pool, PoolOptions, Priority, Reason, StoredWorker, Task, TaskError, TaskHandle,
    WORKERS,
};
use commonhold_tests::roles::submit_some;
use commonhold_tests::stage;
use commonhold_tests::stage::{LIMIT, eventually};
use commonhold_tests::tasks::kinds;

const SMALL: Capacity = Capacity { tasks: 64, pages: 128, workers: 8 };

fn reason(task: &TaskHandle) -> Reason {
    match task.wait(LIMIT) {
        Err(TaskError::Failed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Processes that the workers' records had in all.
fn started(runtime: &Runtime) -> u64 {
    let mut all = 0;
    let workers = runtime.table::<StoredWorker>(WORKERS).unwrap();
    workers.scan(|_, worker| all += worker.turn).unwrap();
    all
}

#[test]
fn what_waits_is_cancelled_at_once() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let queue = Pool::attach(&runtime, kinds()).unwrap();
    let task = queue.submit(Task::new("echo", &[1; 20_000])).unwrap();
    assert!(task.cancel().unwrap());
    assert!(!task.cancel().unwrap(), "it has ended already");
    assert_eq!(reason(&task), Reason::Cancelled);
    assert!(!task.cancel().unwrap(), "it is not there any more");
    assert_eq!(queue.pages_in_use().unwrap(), 0);
    let gone = queue.task(task.id()).unwrap_err();
    assert!(matches!(gone, TaskError::Gone { .. }), "{gone:?}");
}

#[test]
fn what_runs_is_told_and_then_killed() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let pid = || pool.workers().unwrap().iter().map(|worker| worker.pid).max();
    let running = || eventually("it runs", || pool.figures().unwrap().running == 1);
    let polite = pool.submit(Task::new("until-cancelled", b"")).unwrap();
    running();
    let before = pid();
    assert!(polite.cancel().unwrap());
    assert_eq!(polite.wait(LIMIT).unwrap(), b"saw it");
    assert_eq!(pid(), before, "its worker lives");
    let deaf = pool.submit(Task::new("loop", b"")).unwrap();
    running();
    let next = pool.submit(Task::new("attempt", b"")).unwrap();
    // Also by somebody else, who does not wait for the end.
    assert!(pool.task(deaf.id()).unwrap().cancel().unwrap());
    assert_eq!(reason(&deaf), Reason::Cancelled);
    assert_eq!(next.wait(LIMIT).unwrap(), b"1");
    assert_ne!(pid(), before, "its worker was killed");
    pool.stop(LIMIT).unwrap();
}

#[test]
fn a_deadline_holds_also_when_no_worker_can_be_started() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let missing = "start a worker process with `/no/such/program`: No such file or directory";
    for (min, program, why) in
        [(0, "/no/such/program", missing), (1, "/bin/false", "the last one exited with status 1")]
    {
        let before = started(&runtime);
        let options = PoolOptions::new().workers(min..=1).command(program, [""; 0]);
        let pool = Pool::start(&runtime, kinds(), options).unwrap();
        let task = Task::new("echo", b"").deadline(Duration::from_millis(250));
        let task = pool.submit(task).unwrap();
        let Reason::Deadline(text) = reason(&task) else { panic!("no deadline") };
        let waited = "it did not end within its 250 ms; it waited for a worker; no worker could be started: ";
        assert!(text.starts_with(&format!("{waited}{why}")), "{text}");
        // Starting again and again without a pause, there would be a hundred.
        let starts = started(&runtime) - before;
        assert!((2..20).contains(&starts), "{starts} starts of {program}");
        pool.stop(LIMIT).unwrap();
    }
}

#[test]
fn a_death_begins_again_and_a_poison_ends() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    let submit = |kind: &'static str, arguments: &'static [u8]| {
        pool.submit(Task::new(kind, arguments).attempts(3)).unwrap()
    };
    let mut innocents = Vec::new();
    let mut bad = Vec::new();
    for _ in 0..4 {
        bad.push((submit("kill", b"once"), submit("kill", b"")));
        innocents.extend((0..8).map(|_| submit("attempt", b"")));
    }
    for (once, always) in bad {
        assert_eq!(once.wait(LIMIT).unwrap(), b"2");
        let how = "was killed by signal 9 (SIGKILL)".to_owned();
        assert_eq!(reason(&always), Reason::WorkerDied { attempts: 3, how });
    }
    for innocent in innocents {
        assert_eq!(innocent.wait(LIMIT).unwrap(), b"1", "it was begun once");
    }
    // An error, a panic is an answer: it is not asked for again.
    let task = pool.submit(Task::new("error", b"no").attempts(5)).unwrap();
    assert_eq!(reason(&task), Reason::Error("no".to_owned()));
    pool.stop(LIMIT).unwrap();
}

#[test]
fn higher_priorities_go_first() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let door = stage.door("door");
    let first = pool.submit(Task::new("hold", &door.arguments())).unwrap();
    let visitor = door.next();
    let order = [Priority::Low, Priority::Normal, Priority::High];
    let file = stage.path("order");
    let mut tasks = Vec::new();
    for n in 0..15 {
        let priority = order[n % 3];
        let arguments = format!("{}\n{priority:?}", file.display());
        tasks.push(pool.submit(Task::new("note", &arguments).priority(priority)).unwrap());
    }
    visitor.go(b"");
    tasks.iter().chain([&first]).for_each(|task| drop(task.wait(LIMIT).unwrap()));
    let noted = std::fs::read_to_string(file).unwrap();
    let due = [["High\n"; 5], ["Normal\n"; 5], ["Low\n"; 5]].concat().concat();
    assert_eq!(noted, due);
    pool.stop(LIMIT).unwrap();
}

#[test]
fn who_drops_the_handle_gives_the_end_up() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let nothing_left = || {
        eventually("nothing is left", || {
            let figures = pool.figures().unwrap();
            let left = figures.queued + figures.running + figures.ended;
            left + pool.pages_in_use().unwrap() == 0
        });
    };
    let door = stage.door("door");
    let large = Task::new("echo", &[5; 40_000]);
    // While it runs, while it waits, and when it has ended.
    let running = pool.submit(Task::new("hold", &door.arguments())).unwrap();
    let visitor = door.next();
    drop(running);
    drop(pool.submit(large.clone()).unwrap());
    drop(pool.submit(Task::new("error", b"nobody hears it")).unwrap());
    visitor.go(&[6; 40_000]);
    nothing_left();
    let ended = pool.submit(large.clone()).unwrap();
    eventually("it has ended", || pool.figures().unwrap().ended == 1);
    drop(ended);
    nothing_left();
    // Who only looked at it does not.
    let mine = pool.submit(large).unwrap();
    drop(pool.task(mine.id()).unwrap());
    assert_eq!(mine.wait(LIMIT).unwrap(), [5; 40_000]);
    nothing_left();
    pool.stop(LIMIT).unwrap();
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The plainest executor that there is; when it has nothing to do for the first time it calls `first`.
fn block_on<F: Future>(future: F, first: impl FnOnce()) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let (mut future, mut first) = (pin!(future), Some(first));
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        if let Some(first) = first.take() {
            first();
        }
        let parked = Instant::now();
        std::thread::park_timeout(LIMIT);
        assert!(parked.elapsed() < LIMIT, "nobody woke it");
    }
}

/// All of them at once: each poll asks each that has not ended.
async fn all(tasks: Vec<TaskHandle>) -> Vec<Result<Vec<u8>, TaskError>> {
    let mut tasks: Vec<_> = tasks.into_iter().map(|task| (Box::pin(task), None)).collect();
    std::future::poll_fn(|context| {
        for (task, end) in tasks.iter_mut().filter(|(_, end)| end.is_none()) {
            if let Poll::Ready(done) = task.as_mut().poll(context) {
                *end = Some(done);
            }
        }
        if tasks.iter().all(|(_, end)| end.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    tasks.into_iter().map(|(_, end)| end.unwrap()).collect()
}

#[test]
fn a_thousand_are_awaited_at_once() {
    let stage = stage!();
    let capacity = Capacity { tasks: 1000, pages: 8, workers: 8 };
    let runtime = Runtime::open(stage.with_queue(&capacity)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    let submit = |n: u64| {
        let kind = if n.is_multiple_of(10) { "error" } else { "double" };
        pool.submit(Task::new(kind, &n.to_string())).unwrap()
    };
    // The last one goes on when all were asked already: somebody has to wake who awaits it.
    let door = stage.door("door");
    let mut tasks: Vec<_> = (0..999).map(submit).collect();
    tasks.push(pool.submit(Task::new("hold", &door.arguments())).unwrap());
    let ends = block_on(all(tasks), || door.next().go(b"1998"));
    for (n, end) in (0_u64..).zip(ends) {
        match end {
            Ok(result) => assert_eq!(result, (2 * n).to_string().as_bytes()),
            Err(TaskError::Failed { reason, .. }) => {
                assert!(n.is_multiple_of(10));
                assert_eq!(reason, Reason::Error(n.to_string()));
            }
            Err(e) => panic!("{n}: {e}"),
        }
    }
    assert_eq!(pool.figures().unwrap().ended, 0);
    pool.stop(LIMIT).unwrap();
}

#[test]
fn threads_and_processes_submit_at_once() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&SMALL)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    let mut others: Vec<_> = (0..3).map(|_| stage.role("submit", &["60", "40000"])).collect();
    std::thread::scope(|scope| {
        let each = |_| scope.spawn(|| submit_some(&runtime, 60, 40_000).unwrap());
        let threads: Vec<_> = (0..8).map(each).collect();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 60));
    });
    for other in &mut others {
        assert_eq!(other.hear("did"), "60");
        other.end_well();
    }
    let figures = pool.figures().unwrap();
    assert_eq!((figures.queued, figures.running, figures.ended), (0, 0, 0));
    pool.stop(LIMIT).unwrap();
    assert_eq!(Pool::attach(&runtime, kinds()).unwrap().pages_in_use().unwrap(), 0);
}
