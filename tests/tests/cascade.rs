//! The harmonic analysis in worker processes: what comes back is what the pure function gives here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use commonhold::Runtime;
use commonhold::systems::cascade::{
    ArgsError, Cascade, CascadeArgs, CascadeError, KIND, Options, Signal, analyze_resonance,
    run_cascade,
};
use commonhold::workers::{Capacity, Kinds, Pool, PoolOptions, Task, TaskError};
use commonhold_tests::stage;
use commonhold_tests::stage::LIMIT;
use nix::sys::signal::{Signal as Kill, kill};
use nix::unistd::Pid;

const CAPACITY: Capacity = Capacity { tasks: 64, pages: 1024, workers: 8 };

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Two nodes of `samples` samples, another signal for each `seed`.
fn args(seed: u32, samples: usize) -> CascadeArgs {
    let node = |at: f64| {
        let hz = 300.0 + f64::from(seed) + at;
        let tone = |n: usize| (std::f64::consts::TAU * hz * n as f64 / 8000.0).sin();
        (0..samples).map(|n| tone(n) + 0.2 * tone(3 * n)).collect()
    };
    let signal = Signal::new(8000.0, vec![node(0.0), node(0.5)]).unwrap();
    CascadeArgs::new(signal, Options::default()).unwrap()
}

#[test]
fn what_is_awaited_is_what_the_pure_function_gives() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&CAPACITY)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=2));
    // All are submitted before the first is awaited.
    let all: Vec<_> = (0..12).map(|seed| args(seed, 64 + 500 * seed as usize)).collect();
    let runs: Vec<_> = all.iter().map(|args| run_cascade(&pool, args)).collect();
    for (args, run) in all.iter().zip(runs) {
        assert_eq!(block_on(run).unwrap(), analyze_resonance(args).unwrap());
    }
    let waited = Cascade::submit(&pool, &all[1]).unwrap().wait(LIMIT).unwrap();
    assert_eq!(waited, analyze_resonance(&all[1]).unwrap());
    // A worker gives the pages of the arguments back behind the commit of the result.
    pool.stop(LIMIT).unwrap();
    let queue = Pool::attach(&runtime, Kinds::new()).unwrap();
    assert_eq!(queue.pages_in_use().unwrap(), 0);
}

#[test]
fn killed_workers_change_nothing_of_the_results() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&CAPACITY)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    let most = CascadeArgs::samples_max(2, 8);
    let all: Vec<_> = (0..6).map(|seed| args(seed, most)).collect();
    let runs: Vec<_> = all.iter().map(|args| run_cascade(&pool, args)).collect();
    let mut runs = runs.into_iter();
    let expected: Vec<_> = all.iter().map(|args| analyze_resonance(args).unwrap()).collect();
    assert_eq!(block_on(runs.next().unwrap()).unwrap(), expected[0]);
    // The one that had the first task, and maybe the other, which has no process id while it starts.
    let workers: Vec<u32> = pool.workers().unwrap().iter().map(|worker| worker.pid).collect();
    let ready: Vec<u32> = workers.into_iter().filter(|pid| *pid != 0).collect();
    assert!(!ready.is_empty());
    for pid in ready {
        kill(Pid::from_raw(pid.try_into().unwrap()), Kill::SIGKILL).unwrap();
    }
    for (run, expected) in runs.zip(&expected[1..]) {
        assert_eq!(block_on(run).unwrap(), *expected);
    }
    pool.stop(LIMIT).unwrap();
}

#[test]
fn what_cannot_be_dispatched_is_refused_before() {
    let stage = stage!();
    let runtime = Runtime::open(stage.with_queue(&CAPACITY)).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let large = args(0, CascadeArgs::samples_max(2, 8) + 1);
    let refused = block_on(run_cascade(&pool, &large)).unwrap_err();
    assert!(matches!(refused, CascadeError::Args(ArgsError::TooLarge { .. })), "{refused}");
    let refused = pool.submit(Task::new(KIND, b"cas1")).unwrap_err().to_string();
    assert!(refused.contains(KIND) && refused.contains("shorter than the header"), "{refused}");
    let mut bytes = args(0, 64).encode().unwrap();
    bytes[24..32].copy_from_slice(&(-1.0f64).to_le_bytes());
    let refused = pool.submit(Task::new(KIND, &bytes)).unwrap_err().to_string();
    assert!(refused.contains(KIND) && refused.contains("sample rate is -1.0 Hz"), "{refused}");
    let others = Pool::attach(&runtime, Kinds::new()).unwrap();
    let refused = block_on(run_cascade(&others, &args(0, 64))).unwrap_err();
    assert!(matches!(refused, CascadeError::Task(TaskError::UnknownKind { .. })), "{refused}");
    assert_eq!(pool.figures().unwrap().queued, 0);
    pool.stop(LIMIT).unwrap();
}
