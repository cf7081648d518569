//! Queues under loom: no task waits while a worker sleeps, and the supervisor sees whatever he was asked to look at. A lost
//! wake-up shows as a deadlock. The records are words of the model; how a worker looks for one is `Queue::find`'s way
//! (crates/workers), for one group.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod model;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use commonhold_core::Space;
use commonhold_core::catalogue::Catalogue;
use commonhold_core::directory::Descriptor;
use commonhold_core::queue::Bell;
use commonhold_segment::NamedGeometry;
use commonhold_segment::sync::{AtomicU64, Ordering};
use loom::thread;
use model::*;

const FREE: u64 = 0;
const PENDING: u64 = 1;
const TAKEN: u64 = 2;
/// A point in time that does not come.
const LATE: u64 = 100;

/// What a worker or a submitter may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slip {
    Nothing,
    /// Who sets a hint again, having cleared it, wakes nobody.
    NoRingAgain,
    /// The hint is cleared after the second look.
    ClearedLate,
    /// Who takes one behind a cleared hint leaves it cleared.
    NotSetAgain,
    /// The submitter rings before he sets the hint.
    RungFirst,
    /// The worker announces himself after his last look.
    HeardLate,
    /// Who was woken wakes nobody for what is left.
    NotPassedOn,
}

#[derive(Clone)]
struct Tasks {
    space: Arc<Space>,
    queue: Descriptor,
    records: Arc<[AtomicU64; 2]>,
    slip: Slip,
}

impl Tasks {
    fn new(slip: Slip) -> Self {
        let named = NamedGeometry { names: 1, share_words: 0, intents: 0 };
        let catalogue = Catalogue::new(1, 1, Vec::new()).unwrap().with_named(named).unwrap();
        let space = Space::in_heap(&catalogue).unwrap();
        let queue = open(&space).register_queue("q").unwrap();
        let records = Arc::new([AtomicU64::new(FREE), AtomicU64::new(FREE)]);
        Self { space, queue, records, slip }
    }

    fn commit(&self, record: usize) {
        let word = &self.records[record];
        word.compare_exchange(FREE, PENDING, Ordering::AcqRel, Ordering::Acquire).unwrap();
    }

    fn submit(&self, record: usize) {
        self.commit(record);
        if self.slip == Slip::RungFirst {
            self.space.ring_ready(&self.queue).unwrap();
        }
        self.space.set_hint(&self.queue, 0, 0).unwrap();
        if self.slip != Slip::RungFirst {
            self.space.ring_ready(&self.queue).unwrap();
        }
    }

    fn take(word: &AtomicU64) -> bool {
        let order = (Ordering::AcqRel, Ordering::Acquire);
        word.load(Ordering::Acquire) == PENDING
            && word.compare_exchange(PENDING, TAKEN, order.0, order.1).is_ok()
    }

    fn waits(word: &AtomicU64) -> bool {
        word.load(Ordering::Acquire) == PENDING
    }

    /// As `Queue::find`, in one group.
    fn find(&self, attempt: fn(&AtomicU64) -> bool) -> bool {
        let (space, queue) = (&self.space, &self.queue);
        if space.hints(queue, 0).unwrap() & 1 == 0 {
            return false;
        }
        if self.records.iter().any(attempt) {
            return true;
        }
        if self.slip != Slip::ClearedLate {
            space.clear_hint(queue, 0, 0).unwrap();
        }
        let found = self.records.iter().any(attempt);
        if self.slip == Slip::ClearedLate {
            space.clear_hint(queue, 0, 0).unwrap();
        }
        if found && self.slip != Slip::NotSetAgain {
            space.set_hint(queue, 0, 0).unwrap();
            if self.slip != Slip::NoRingAgain {
                space.ring_ready(queue).unwrap();
            }
        }
        found
    }

    /// As `Queue::await_task`; whether it took one.
    fn await_task(&self, heard: u64) -> bool {
        let (space, queue) = (&self.space, &self.queue);
        let mut took = space.search_ready(queue, heard, 1).unwrap() && self.find(Self::take);
        if !took {
            let mut heard = space.announce_ready(queue).unwrap();
            took = self.find(Self::take);
            if !took {
                if self.slip == Slip::HeardLate {
                    heard = space.announce_ready(queue).unwrap();
                }
                space.sleep_ready(queue, heard, LONG).unwrap();
                took = self.find(Self::take);
            }
        }
        if self.slip != Slip::NotPassedOn && self.find(Self::waits) {
            space.ring_ready(queue).unwrap();
        }
        took
    }

    /// Waits until there is a task for it, and takes that.
    fn work(&self) {
        loop {
            let heard = self.space.listen_ready(&self.queue).unwrap();
            if self.find(Self::take) || self.await_task(heard) {
                return;
            }
        }
    }
}

/// Two tasks of one group, and a worker for each; the second one comes when the first has already looked in vain.
fn two_workers(slip: Slip) {
    let tasks = Tasks::new(slip);
    // As it is when a group was emptied and nobody has looked since.
    tasks.space.set_hint(&tasks.queue, 0, 0).unwrap();
    let workers = [tasks.clone(), tasks.clone()].map(|tasks| thread::spawn(move || tasks.work()));
    tasks.submit(0);
    tasks.submit(1);
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(tasks.records.iter().all(|r| r.load(Ordering::Acquire) == TAKEN));
}

/// One worker, and two who submit at once; it takes both.
fn two_submitters(slip: Slip) {
    let tasks = Tasks::new(slip);
    let worker = {
        let tasks = tasks.clone();
        thread::spawn(move || (0..2).for_each(|_| tasks.work()))
    };
    let other = {
        let tasks = tasks.clone();
        thread::spawn(move || tasks.submit(1))
    };
    tasks.submit(0);
    other.join().unwrap();
    worker.join().unwrap();
}

/// Two who have the supervisor look at what they committed, each by a time of his own; he sees both.
fn looks() {
    let tasks = Tasks::new(Slip::Nothing);
    // The supervisor before was killed while he looked.
    tasks.space.begin_look(&tasks.queue).unwrap();
    let supervisor = {
        let Tasks { space, queue, records, .. } = tasks.clone();
        thread::spawn(move || {
            loop {
                let heard = space.listen_bell(&queue, Bell::Supervisor).unwrap();
                space.begin_look(&queue).unwrap();
                let seen = records.each_ref().map(|r| r.load(Ordering::Acquire) != FREE);
                if seen == [true, true] {
                    return;
                }
                if space.end_look(&queue, LATE).unwrap() == LATE {
                    space.sleep_bell(&queue, Bell::Supervisor, heard, LONG).unwrap();
                }
            }
        })
    };
    let asks = |tasks: &Tasks, record: usize, by: u64| {
        tasks.commit(record);
        tasks.space.look_by(&tasks.queue, by).unwrap();
    };
    let other = {
        let tasks = tasks.clone();
        thread::spawn(move || asks(&tasks, 1, 7))
    };
    asks(&tasks, 0, 5);
    other.join().unwrap();
    supervisor.join().unwrap();
}

fn slips(slip: Slip, bound: usize, model: fn(Slip)) {
    let name = format!("{slip:?}");
    let found = catch_unwind(AssertUnwindSafe(|| holds(&name, bound, move || model(slip))));
    assert!(found.is_err(), "{slip:?} was not found");
    println!("{slip:?}: found");
}

#[test]
fn no_worker_sleeps_while_a_task_waits() {
    holds("two tasks for two workers", bound(2, 3), || two_workers(Slip::Nothing));
    holds("two submitters, one worker", bound(2, 3), || two_submitters(Slip::Nothing));
    slips(Slip::NoRingAgain, 3, two_workers);
    slips(Slip::ClearedLate, 2, two_submitters);
    slips(Slip::NotSetAgain, 3, two_workers);
    slips(Slip::RungFirst, 2, two_submitters);
    slips(Slip::HeardLate, 2, two_submitters);
    slips(Slip::NotPassedOn, 2, two_workers);
    finds(Fault::HintSkipped, 2, || two_submitters(Slip::Nothing));
    finds(Fault::NoSecondWake, 3, || two_submitters(Slip::Nothing));
    finds(Fault::SearcherStays, 2, || two_workers(Slip::Nothing));
}

#[test]
fn the_supervisor_sees_what_he_was_asked_to_look_at() {
    holds("two ask for a look", bound(2, 3), looks);
    finds(Fault::LookOverwritten, 2, looks);
    finds(Fault::NoLookFence, 2, looks);
}
