//! The scheduler: nodes ticked in workers, and all that can come in between.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use commonhold::core::metrics::SampleValue;
use commonhold::workers::{
    Capacity, EntryFigures, Every, Loaded, Pool, PoolOptions, Scheduler, SchedulerError, Source,
    SourceError, TableSource, TaskError,
};
use commonhold::{Runtime, Table};
use commonhold_tests::nodes::{NODES, Node, fresh, with_nodes};
use commonhold_tests::stage;
use commonhold_tests::stage::{LIMIT, Stage};

const CAPACITY: Capacity = Capacity { tasks: 256, pages: 64, workers: 8 };
const PERIOD: Duration = Duration::from_millis(10);

fn open(stage: &Stage, nodes: u32) -> (Runtime, Table<Node>) {
    let runtime = Runtime::open(with_nodes(stage.with_queue(&CAPACITY), nodes.max(8))).unwrap();
    let table = fresh(&runtime, nodes);
    (runtime, table)
}

fn source(runtime: &Runtime) -> TableSource<Node> {
    TableSource::new(runtime, NODES).unwrap()
}

/// Waits until each of the first `count` nodes had so many ticks.
fn wait_for(nodes: &Table<Node>, count: u32, ticks: i64) {
    for n in 0..count {
        nodes.wait_for(&format!("n{n}"), |node| node.ticks >= ticks, LIMIT).unwrap();
    }
}

fn figures(scheduler: &Scheduler) -> EntryFigures {
    let [figures] = scheduler.figures().try_into().unwrap();
    figures
}

/// Yields until `holds`.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        std::thread::yield_now();
    }
}

fn is_empty(pool: &Pool) -> bool {
    let figures = pool.figures().unwrap();
    figures.queued + figures.running + figures.ended == 0
}

/// Each node had as many ticks as its value says; how many all had.
fn judge(nodes: &Table<Node>) -> i64 {
    let mut all = 0;
    let judge = |key: &str, node: Node| {
        assert_eq!(node.value, Node::value_after(node.ticks), "{key}: {node:?}");
        all += node.ticks;
    };
    nodes.scan(judge).unwrap();
    all
}

fn counter(runtime: &Runtime, name: &str) -> i64 {
    let found = runtime.samples().unwrap().into_iter().find(|s| s.name == name).unwrap();
    match found.value {
        SampleValue::Counter(value) => value.cast_signed(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_tick_of_a_hundred_nodes_is_made_once() {
    let stage = stage!();
    let (runtime, nodes) = open(&stage, 100);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    let begin = Instant::now();
    let scheduler = Scheduler::start(&pool).unwrap();
    scheduler.add(Every::new("all", PERIOD, "advance"), source(&runtime)).unwrap();
    wait_for(&nodes, 100, 10);
    scheduler.stop(LIMIT).unwrap();
    let passed = i64::try_from(begin.elapsed().as_nanos()).unwrap();
    let all = judge(&nodes);
    assert_eq!(all, counter(&runtime, "commonhold_ticks_total"));
    assert_eq!(0, counter(&runtime, "commonhold_ticks_retried_total"));
    assert_eq!(0, counter(&runtime, "commonhold_ticks_failed_total"));
    // Steps are what really passed: the first is the period, and they add up to no more than passed in all.
    nodes
        .scan(|key, node| {
            let period = i64::try_from(PERIOD.as_nanos()).unwrap();
            assert!((period..=passed).contains(&node.elapsed), "{key}: {node:?} of {passed}");
        })
        .unwrap();
    assert!(is_empty(&pool), "{:?}", pool.figures());
    pool.stop(LIMIT).unwrap();
}

/// Changes a node right before it is committed, as somebody else; so many times.
struct Meddler {
    source: TableSource<Node>,
    others: Table<Node>,
    times: u32,
}

impl Source for Meddler {
    fn load(&mut self) -> Result<Vec<(String, Loaded)>, SourceError> {
        self.source.load()
    }

    fn reload(&mut self, node: &str) -> Result<Option<Loaded>, SourceError> {
        self.source.reload(node)
    }

    fn commit(&mut self, node: &str, loaded: &Loaded, next: &[u8]) -> Result<bool, SourceError> {
        if self.times > 0 {
            self.times -= 1;
            self.others.update(node, |node| node.added += 1).unwrap();
        }
        self.source.commit(node, loaded, next)
    }
}

#[test]
fn a_node_that_changed_is_sent_again_with_its_new_state() {
    let stage = stage!();
    let (runtime, nodes) = open(&stage, 1);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let scheduler = Scheduler::start(&pool).unwrap();
    let meddler =
        |times| Meddler { source: source(&runtime), others: runtime.table(NODES).unwrap(), times };
    // Changed three times: the fourth try is committed.
    scheduler.add(Every::new("all", PERIOD, "advance").retries(3), meddler(3)).unwrap();
    wait_for(&nodes, 1, 2);
    until("the figures say it", || figures(&scheduler).ticks >= 2);
    let seen = figures(&scheduler);
    assert_eq!((seen.retried, seen.beaten, seen.failed), (3, 0, 0), "{seen:?}");
    scheduler.remove("all").unwrap();
    // Changed once more often than it is sent: the tick is skipped, and the next one is made.
    let ticks = nodes.get("n0").unwrap().unwrap().ticks;
    scheduler.add(Every::new("all", PERIOD, "advance").retries(1), meddler(2)).unwrap();
    wait_for(&nodes, 1, ticks + 1);
    until("the figures say it", || figures(&scheduler).ticks >= 1);
    let seen = figures(&scheduler);
    assert_eq!((seen.retried, seen.beaten, seen.failed), (1, 1, 0), "{seen:?}");
    scheduler.stop(LIMIT).unwrap();
    judge(&nodes);
    assert_eq!(nodes.get("n0").unwrap().unwrap().added, 5);
    assert_eq!(4, counter(&runtime, "commonhold_ticks_retried_total"));
    pool.stop(LIMIT).unwrap();
}

#[test]
fn what_another_process_adds_meanwhile_is_not_lost() {
    let stage = stage!();
    let (runtime, nodes) = open(&stage, 4);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    let scheduler = Scheduler::start(&pool).unwrap();
    let mut other = stage.role("add", &["4"]);
    other.hear("adds");
    let every = Every::new("all", Duration::from_millis(1), "advance").retries(0);
    scheduler.add(every, source(&runtime)).unwrap();
    // It adds so often that ticks are beaten; those that are not must have lost nothing.
    until("a tick is beaten", || figures(&scheduler).beaten > 20);
    other.tell("enough");
    let rounds: i64 = other.hear("rounds").parse().unwrap();
    let ticks = nodes.get("n0").unwrap().unwrap().ticks;
    wait_for(&nodes, 4, ticks + 5);
    scheduler.stop(LIMIT).unwrap();
    nodes.scan(|key, node| assert_eq!(node.added, rounds, "{key}: {node:?}")).unwrap();
    assert_eq!(judge(&nodes), counter(&runtime, "commonhold_ticks_total"));
    pool.stop(LIMIT).unwrap();
}

#[test]
fn workers_that_die_cost_no_tick() {
    let stage = stage!();
    let (runtime, nodes) = open(&stage, 4);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    let scheduler = Scheduler::start(&pool).unwrap();
    scheduler.add(Every::new("all", PERIOD, "advance-or-die"), source(&runtime)).unwrap();
    wait_for(&nodes, 4, 7);
    scheduler.stop(LIMIT).unwrap();
    assert_eq!(judge(&nodes), counter(&runtime, "commonhold_ticks_total"));
    assert!(counter(&runtime, "commonhold_worker_deaths_total") >= 8, "two of each node's first 7");
    assert_eq!(0, counter(&runtime, "commonhold_ticks_failed_total"));
    assert!(is_empty(&pool), "{:?}", pool.figures());
    pool.stop(LIMIT).unwrap();
}

#[test]
fn a_tick_that_fails_is_told_and_the_others_go_on() {
    let stage = stage!();
    let (runtime, nodes) = open(&stage, 3);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let scheduler = Scheduler::start(&pool).unwrap();
    scheduler.add(Every::new("all", PERIOD, "advance-or-fail"), source(&runtime)).unwrap();
    for n in [0, 2] {
        nodes.wait_for(&format!("n{n}"), |node| node.ticks >= 5, LIMIT).unwrap();
    }
    until("three of them failed", || figures(&scheduler).failed >= 3);
    let told = figures(&scheduler).last_error.unwrap();
    assert!(
        told.starts_with("node `n1`: task ") && told.ends_with(": it failed: it will not"),
        "{told}"
    );
    assert_eq!(nodes.get("n1").unwrap().unwrap(), Node::default());
    // A node that goes is not missed.
    nodes.delete("n1").unwrap();
    until("it is gone", || figures(&scheduler).nodes == 2);
    scheduler.stop(LIMIT).unwrap();
    judge(&nodes);
    pool.stop(LIMIT).unwrap();
}

/// Fails in one of the ways that a source can.
struct Broken(u32);

impl Source for Broken {
    fn load(&mut self) -> Result<Vec<(String, Loaded)>, SourceError> {
        match self.0 {
            0 => Err("no nodes today".into()),
            1 => panic!("what nodes"),
            _ => Ok(vec![("n0".to_owned(), Loaded { version: 1, state: b"odd".to_vec() })]),
        }
    }

    fn reload(&mut self, _: &str) -> Result<Option<Loaded>, SourceError> {
        Ok(None)
    }

    fn commit(&mut self, _: &str, _: &Loaded, _: &[u8]) -> Result<bool, SourceError> {
        Ok(true)
    }
}

#[test]
fn a_broken_source_harms_nobody_else() {
    let stage = stage!();
    let (runtime, nodes) = open(&stage, 1);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let scheduler = Scheduler::start(&pool).unwrap();
    let slow = Duration::from_secs(3600);
    let error = |wanted: &str| {
        let told = scheduler.figures().into_iter().find(|e| e.name == "broken").unwrap().last_error;
        told.is_some_and(|told| told.contains(wanted))
    };
    for (way, wanted) in [
        (0, "no nodes today"),
        (1, "its source panicked: what nodes"),
        (2, "the arguments of a task `advance` are not valid: the state is no such record"),
    ] {
        scheduler
            .add(Every::new("broken", Duration::from_millis(1), "advance"), Broken(way))
            .unwrap();
        until(wanted, || error(wanted));
        scheduler.remove("broken").unwrap();
    }
    scheduler.add(Every::new("all", PERIOD, "advance"), source(&runtime)).unwrap();
    wait_for(&nodes, 1, 3);
    let known = scheduler.add(Every::new("all", slow, "advance"), source(&runtime)).unwrap_err();
    assert!(matches!(known, SchedulerError::Known { .. }), "{known}");
    let kind = scheduler.add(Every::new("x", slow, "no-such"), source(&runtime)).unwrap_err();
    assert!(matches!(kind, SchedulerError::Task(TaskError::UnknownKind { .. })), "{kind}");
    let period = scheduler.add(Every::new("x", Duration::ZERO, "advance"), source(&runtime));
    assert!(matches!(period, Err(SchedulerError::Option { what: "period", .. })), "{period:?}");
    let unknown = scheduler.remove("x").unwrap_err().to_string();
    assert_eq!(unknown, "the scheduler has no entry `x`; there are: `all`");
    // Of an entry that was removed nothing is committed any more.
    scheduler.remove("all").unwrap();
    let last = nodes.get("n0").unwrap().unwrap();
    scheduler.add(Every::new("other", Duration::from_millis(1), "advance"), Broken(2)).unwrap();
    until("the loop went on", || figures(&scheduler).failed >= 20);
    assert_eq!(nodes.get("n0").unwrap().unwrap(), last);
    scheduler.stop(LIMIT).unwrap();
    pool.stop(LIMIT).unwrap();
}

/// Takes its time, once.
struct Sleepy {
    source: TableSource<Node>,
    loads: Arc<AtomicU32>,
}

impl Source for Sleepy {
    fn load(&mut self) -> Result<Vec<(String, Loaded)>, SourceError> {
        if self.loads.fetch_add(1, Ordering::Relaxed) == 1 {
            std::thread::sleep(PERIOD * 20);
        }
        self.source.load()
    }

    fn reload(&mut self, node: &str) -> Result<Option<Loaded>, SourceError> {
        self.source.reload(node)
    }

    fn commit(&mut self, node: &str, loaded: &Loaded, next: &[u8]) -> Result<bool, SourceError> {
        self.source.commit(node, loaded, next)
    }
}

#[test]
fn ticks_that_were_missed_are_skipped() {
    let stage = stage!();
    let (runtime, nodes) = open(&stage, 2);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let scheduler = Scheduler::start(&pool).unwrap();
    let loads = Arc::new(AtomicU32::new(0));
    let sleepy = Sleepy { source: source(&runtime), loads: Arc::clone(&loads) };
    let begin = Instant::now();
    scheduler.add(Every::new("all", PERIOD, "advance"), sleepy).unwrap();
    let slept = i64::try_from((PERIOD * 20).as_nanos()).unwrap();
    let passed = |node: &Node| node.elapsed >= slept;
    for key in ["n0", "n1"] {
        nodes.wait_for(key, passed, LIMIT).unwrap();
    }
    // Of each node's twenty times that passed meanwhile, two at most were not missed.
    until("the figures say it", || figures(&scheduler).late >= 2 * 18);
    let loads = u128::from(loads.load(Ordering::Relaxed));
    let times = begin.elapsed().as_nanos() / PERIOD.as_nanos();
    assert!(loads + 18 <= times, "{loads} times of {times} were made: some of those missed too");
    scheduler.stop(LIMIT).unwrap();
    assert_eq!(judge(&nodes), counter(&runtime, "commonhold_ticks_total"));
    pool.stop(LIMIT).unwrap();
}

#[test]
fn nodes_for_which_there_is_no_room_have_their_turn() {
    let stage = stage!();
    let capacity = Capacity { tasks: 8, ..CAPACITY };
    let runtime = Runtime::open(with_nodes(stage.with_queue(&capacity), 300)).unwrap();
    let nodes = fresh(&runtime, 300);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let scheduler = Scheduler::start(&pool).unwrap();
    let every = Every::new("all", Duration::from_millis(1), "advance");
    scheduler.add(every, source(&runtime)).unwrap();
    wait_for(&nodes, 300, 3);
    scheduler.stop(LIMIT).unwrap();
    assert_eq!(judge(&nodes), counter(&runtime, "commonhold_ticks_total"));
    assert!(counter(&runtime, "commonhold_ticks_late_total") > 0);
    pool.stop(LIMIT).unwrap();
}

#[test]
fn what_hangs_when_it_is_stopped_is_given_up() {
    let stage = stage!();
    let (runtime, nodes) = open(&stage, 3);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let scheduler = Scheduler::start(&pool).unwrap();
    let every = Every::new("all", PERIOD, "hang").deadline(LIMIT * 100);
    scheduler.add(every, source(&runtime)).unwrap();
    until("one of them runs", || pool.figures().unwrap().running == 1);
    until("all are sent", || figures(&scheduler).under_way == 3);
    let given_up = scheduler.stop(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(given_up, SchedulerError::TimedOut { ticks: 1, .. }), "{given_up}");
    until("nothing is left of it", || is_empty(&pool));
    assert_eq!(judge(&nodes), 0);
    pool.stop(LIMIT).unwrap();
}

#[test]
fn start_and_stop_leave_no_thread_and_no_task() {
    let stage = stage!();
    let (_runtime, nodes) = open(&stage, 5);
    let mut role = stage.role("reload", &["5"]);
    let counts = role.hear("threads");
    let [threads, descriptors] = counts.split(", descriptors ").collect::<Vec<_>>()[..] else {
        panic!("{counts}");
    };
    for counts in [threads, descriptors] {
        let (after, before) = counts.split_once(" of ").unwrap();
        assert_eq!(after, before, "{counts}");
    }
    role.end_well();
    assert!(judge(&nodes) >= 25);
}

#[test]
fn a_second_scheduler_is_refused_and_takes_over_from_a_killed_one() {
    let stage = stage!();
    let (runtime, nodes) = open(&stage, 3);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let mut first = stage.role("schedule", &["advance"]);
    first.hear("schedules");
    wait_for(&nodes, 3, 2);
    let refused = Scheduler::start(&pool).unwrap_err();
    assert!(matches!(refused, SchedulerError::Held { pid } if pid == first.id()), "{refused}");
    first.kill();
    let scheduler = Scheduler::start(&pool).unwrap();
    scheduler.add(Every::new("all", PERIOD, "advance"), source(&runtime)).unwrap();
    let before = nodes.get("n0").unwrap().unwrap().ticks;
    wait_for(&nodes, 3, before + 5);
    scheduler.stop(LIMIT).unwrap();
    judge(&nodes);
    // What a killed one had sent is given up, also when a worker has it for ever.
    let mut last = stage.role("schedule", &["hang"]);
    last.hear("schedules");
    until("one of them runs", || pool.figures().unwrap().running == 1);
    until("others wait", || pool.figures().unwrap().queued == 2);
    last.kill();
    until("nothing is left of it", || is_empty(&pool));
    pool.stop(LIMIT).unwrap();
}
