//! The word that workers sleep on, under loom: a lost wake-up shows as a deadlock.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, missing_docs)]

mod model;

use std::sync::Arc;
use std::time::Duration;

use commonhold_core::catalogue::Catalogue;
use commonhold_core::directory::Descriptor;
use commonhold_core::{Handle, Space};
use commonhold_segment::NamedGeometry;
use commonhold_segment::sync::planted;
use loom::thread;
use model::*;

const LONG: Duration = Duration::from_secs(3600);
/// The class of hints; in a model each group has room for one task, which is there when the hint is.
const CLASS: usize = 0;
const GROUPS: u32 = 2;

fn space_of_a_queue(participants: u32) -> Arc<Space> {
    let named = NamedGeometry { names: 1, share_words: 0, intents: 0 };
    let catalogue = Catalogue::new(participants, 1, Vec::new()).unwrap().with_named(named).unwrap();
    Space::in_heap(&catalogue).unwrap()
}

fn submit(space: &Space, queue: &Descriptor, group: u32) {
    space.set_hint(queue, CLASS, group).unwrap();
    space.ring_ready(queue).unwrap();
}

fn claim(space: &Space, queue: &Descriptor) -> bool {
    (0..GROUPS).any(|group| space.clear_hint(queue, CLASS, group).unwrap())
}

/// Waits for a task as a worker does (workers/queue.rs, `await_task`), and ends after it.
fn work(space: &Space, queue: &Descriptor) {
    loop {
        let heard = space.listen_ready(queue).unwrap();
        if claim(space, queue) {
            return;
        }
        let mut claimed = space.search_ready(queue, heard, 1).unwrap() && claim(space, queue);
        if !claimed {
            let heard = space.announce_ready(queue).unwrap();
            claimed = claim(space, queue);
            if !claimed {
                space.sleep_ready(queue, heard, LONG).unwrap();
                claimed = claim(space, queue);
            }
        }
        if space.hints(queue, CLASS).unwrap() != 0 && !planted(Fault::NoPassOn) {
            space.ring_ready(queue).unwrap();
        }
        if claimed {
            return;
        }
    }
}

/// Two submit a task each, and two workers do one each: with one of them asleep, both, or none.
fn two_tasks(spawn_submitter: bool) {
    let space = space_of_a_queue(1);
    let handle: Handle = open(&space);
    let queue = handle.register_queue("q").unwrap();
    let with = |job: fn(&Space, &Descriptor)| {
        let (space, queue) = (Arc::clone(&space), queue.clone());
        thread::spawn(move || job(&space, &queue))
    };
    let first = with(work);
    let submit_both =
        |space: &Space, queue: &Descriptor| (0..GROUPS).for_each(|g| submit(space, queue, g));
    if spawn_submitter {
        let submitter = with(|space, queue| (0..GROUPS).for_each(|g| submit(space, queue, g)));
        work(&space, &queue);
        submitter.join().unwrap();
    } else {
        let second = with(work);
        submit_both(&space, &queue);
        second.join().unwrap();
    }
    first.join().unwrap();
    assert_eq!(space.hints(&queue, CLASS).unwrap(), 0);
}

/// Two submitters, one worker each.
fn two_submitters() {
    let space = space_of_a_queue(1);
    let handle: Handle = open(&space);
    let queue = handle.register_queue("q").unwrap();
    let (its_space, its_queue) = (Arc::clone(&space), queue.clone());
    let worker = thread::spawn(move || {
        work(&its_space, &its_queue);
        work(&its_space, &its_queue);
    });
    let (its_space, its_queue) = (Arc::clone(&space), queue.clone());
    let other = thread::spawn(move || submit(&its_space, &its_queue, 1));
    submit(&space, &queue, 0);
    other.join().unwrap();
    worker.join().unwrap();
}

#[test]
fn no_worker_sleeps_while_a_task_waits() {
    holds("two tasks, two workers", bound(2, 3), || two_tasks(false));
    holds("two tasks, two workers, the submitter apart", bound(2, 3), || two_tasks(true));
    holds("two submitters, one worker", bound(3, 4), two_submitters);
    finds(Fault::SearcherStays, 2, || two_tasks(false));
    finds(Fault::NoSecondWake, 3, two_submitters);
    finds(Fault::NoPassOn, 2, || two_tasks(false));
}
