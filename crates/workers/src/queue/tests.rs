//! Two queues of one process step by step: interleavings that are rare between processes.

use commonhold_runtime::{Config, Runtime};

use super::ends::Taken;
use super::*;
use crate::records::{Capacity, configure};

const CAPACITY: Capacity = Capacity { tasks: 130, pages: 8, workers: 4 };
const PLENTY: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Runtime::open(configure(Config::ephemeral().participants(16), &CAPACITY)).expect("a segment")
}

fn queue(runtime: &Runtime) -> Queue {
    let shape = Shape::open(runtime).expect("its tables");
    let queue = Queue::new(runtime.handle().expect("a participant"), shape);
    queue.cursor.set(0);
    queue
}

fn submission(arguments: &[u8]) -> Submission<'_> {
    let (kind, priority) = ("k", Priority::Normal);
    Submission { kind, arguments, priority, attempts: 3, limit: PLENTY, bound: false }
}

fn submit(queue: &Queue, arguments: &[u8]) -> TaskId {
    match queue.submit(&submission(arguments)) {
        Ok(id) => id,
        Err(Refused::Failed(e)) => panic!("{e}"),
        Err(Refused::Tasks | Refused::Pages) => panic!("full"),
    }
}

/// Submits into the record `slot`, which is free.
fn submit_at(queue: &Queue, slot: u32) -> TaskId {
    queue.cursor.set(slot);
    let id = submit(queue, b"");
    assert_eq!(id.slot(), slot);
    id
}

fn result(taken: &Taken) -> Option<&[u8]> {
    match taken {
        Taken::End(end) => end.outcome.as_deref().ok(),
        _ => None,
    }
}

/// Makes a record's payload one that cannot be read, but for its first `kept` bytes.
fn damage<T: commonhold_runtime::Record + Default>(
    queue: &Queue,
    table: &Numbered<T>,
    slot: u32,
    kept: usize,
) {
    let made = table.exchange(&queue.handle, slot, Way::default(), |now, next| {
        next.extend_from_slice(now);
        next.iter_mut().skip(kept).for_each(|byte| *byte = 0xff);
        Ok(())
    });
    assert!(made.expect("a commit"));
    assert!(table.get(&queue.handle, slot).is_err(), "it can be read");
}

#[test]
fn who_sets_a_hint_again_rings_for_what_he_leaves() {
    let runtime = runtime();
    let [first, second, submitter] = [(); 3].map(|()| queue(&runtime));
    let (space, words, class) = (first.space(), &first.shape.queue, Priority::Normal.class());
    let group = 5;
    space.set_hint(words, class, group).expect("a hint");
    let (mut looks, mut heard, mut ids) = (0, None, Vec::new());
    // Records 5 and 69 are looked at, the hint is cleared, and they are looked at again.
    let claimed = first.find(words, class, first.shape.tasks.count(), &first.cursor, |slot| {
        looks += 1;
        if looks == 3 {
            // The second worker was rung for, and finds no hint.
            heard = Some(second.listen_ready()?);
            assert!(second.claim(1)?.is_none(), "there is a hint");
        }
        let claimed = first.claim_record(slot, Priority::Normal, 0)?;
        if looks == 2 {
            ids.extend([submit_at(&submitter, 5), submit_at(&submitter, 69)]);
        }
        Ok(claimed)
    });
    assert_eq!(claimed.expect("a look").map(|task| task.task_id()), ids.first().copied());
    let now = second.listen_ready().expect("the word");
    assert_ne!(Some(now), heard, "the second worker sleeps, and nobody wakes it");
    let other = second.claim(1).expect("a look").map(|task| task.task_id());
    assert_eq!(other, ids.last().copied());
}

#[test]
fn a_task_that_cannot_be_read_keeps_nobody_from_the_others() {
    let runtime = runtime();
    let [worker, submitter] = [(); 2].map(|()| queue(&runtime));
    let bad = submit_at(&submitter, 3);
    let good = submit_at(&submitter, 4);
    // Its state and its priority can be read: it waits, and comes first.
    damage(&submitter, &submitter.shape.tasks, bad.slot(), 16);
    worker.cursor.set(3);
    let claimed = worker.claim(0).expect("a look").map(|task| task.task_id());
    assert_eq!(claimed, Some(good));
    // One that says that it is free keeps nobody from submitting.
    damage(&submitter, &submitter.shape.tasks, 10, 16);
    submitter.cursor.set(10);
    assert_ne!(submit(&submitter, b"").slot(), 10);
}

#[test]
fn a_look_counts_what_cannot_be_read_and_shows_the_others() {
    let runtime = runtime();
    let submitter = queue(&runtime);
    let bad = submit_at(&submitter, 3);
    let good = submit_at(&submitter, 4);
    damage(&submitter, &submitter.shape.tasks, bad.slot(), 16);
    damage(&submitter, &submitter.shape.workers, 1, 8);
    let view = crate::look(submitter.space()).expect("a look").expect("a queue");
    assert_eq!(view.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), [good]);
    assert_eq!((view.figures.queued, view.figures.damaged), (1, 2));
}

#[test]
fn a_page_that_cannot_be_read_keeps_nobody_from_the_others() {
    let runtime = runtime();
    let [worker, submitter] = [(); 2].map(|()| queue(&runtime));
    damage(&submitter, &submitter.shape.pages, 0, 8);
    submitter.page_cursor.set(0);
    let arguments = vec![7; 20_000];
    let id = submit(&submitter, &arguments);
    let task = worker.claim(0).expect("a look").expect("a task");
    assert!(worker.arguments(&task).expect("pages").as_ref() == Some(&arguments));
    assert_eq!(worker.finish(&task, Ok(arguments.clone())).expect("an end"), None);
    submitter.sweep_pages().expect("a sweep");
    assert!(result(&submitter.take(id).expect("a look")) == Some(&arguments[..]));
}

#[test]
fn an_end_whose_pages_are_gone_is_told_and_leaves_no_record_behind() {
    let runtime = runtime();
    let [worker, submitter] = [(); 2].map(|()| queue(&runtime));
    let id = submit(&submitter, b"");
    let task = worker.claim(0).expect("a look").expect("a task");
    assert_eq!(worker.finish(&task, Ok(vec![7; 20_000])).expect("an end"), None);
    let done = submitter.task(id).expect("a look").expect("a task");
    submitter.free_pages(id, &done.result_pages).expect("freed");
    match submitter.take(id).expect("a look") {
        Taken::End(end) => assert!(end.outcome.is_err(), "{end:?}"),
        other => panic!("{other:?}"),
    }
    assert!(submitter.task(id).expect("a look").is_none(), "its record is not free");
}

#[test]
fn pages_of_another_attempt_are_not_the_results() {
    let runtime = runtime();
    let [worker, submitter] = [(); 2].map(|()| queue(&runtime));
    let id = submit(&submitter, b"");
    let first = worker.claim(0).expect("a look").expect("a task");
    // The first attempt wrote its result's pages, and died before its commit.
    let old = worker.write_pages(id, 1, &[1; 20_000]).expect("pages").expect("room");
    assert!(worker.requeue(&first, true).expect("a commit"));
    let second = worker.claim(0).expect("a look").expect("a task");
    assert_eq!(second.attempt, 2);
    let names = pages::names(&old);
    // In the store a page may be older than its task: it must not pass for the second attempt's.
    worker
        .shape
        .tasks
        .update(&worker.handle, id.slot(), |task| {
            task.state = TaskState::Done.code();
            (task.result_bytes, task.result_pages) = (20_000, names);
            true
        })
        .expect("a commit");
    let taken = submitter.take(id).expect("a look");
    assert!(result(&taken).is_none(), "the first attempt's pages as the second one's result");
}

#[test]
fn every_step_is_made_once_however_many_try_it() {
    let runtime = runtime();
    let [a, b, submitter] = [(); 3].map(|()| queue(&runtime));
    let id = submit(&submitter, b"x");
    let task = a.claim(0).expect("a look").expect("a task");
    assert!(b.claim(1).expect("a look").is_none());
    // The supervisor takes the worker for dead, wrongly or not: the first step decides.
    assert!(b.requeue(&task, true).expect("a commit"));
    assert!(!b.requeue(&task, true).expect("no commit"));
    assert_eq!(a.finish(&task, Ok(b"late".to_vec())).expect("no commit"), None);
    let again = b.claim(1).expect("a look").expect("a task");
    assert_eq!((again.task_id(), again.attempt), (id, 2));
    assert_eq!(b.finish(&again, Ok(b"good".to_vec())).expect("an end"), None);
    assert_eq!(a.finish(&task, Ok(b"later".to_vec())).expect("no commit"), None);
    assert_eq!(result(&submitter.take(id).expect("a look")), Some(&b"good"[..]));
    assert!(matches!(a.take(id), Ok(Taken::Gone)), "taken twice");
    // Who holds the old id does nothing to the record's next task.
    let next = submit_at(&submitter, id.slot());
    assert_ne!(next, id);
    assert!(!a.cancel(id).expect("a look"));
    a.detach(id).expect("a look");
    assert!(!a.release(id, |_| true).expect("a look"));
    assert!(!a.fail_if(id, |_| true, &crate::Reason::Cancelled).expect("a look"));
    let task = submitter.task(next).expect("a look").expect("a task");
    assert!(!task.cancelled && !task.detached && task.is(TaskState::Pending), "{task:?}");
}

#[test]
fn nothing_is_left_of_a_submission_that_found_no_room() {
    let runtime = runtime();
    let submitter = queue(&runtime);
    // Eight pages are all that there is.
    let some = submit(&submitter, &[1; 5 * 16 * 1024]);
    let refused = submitter.submit(&submission(&[2; 4 * 16 * 1024]));
    assert!(matches!(refused, Err(Refused::Pages)));
    assert_eq!(submitter.pages_in_use().expect("a look"), 5);
    assert!(submitter.release(some, |_| true).expect("a commit"));
    assert_eq!(submitter.pages_in_use().expect("a look"), 0);
    let all: Vec<TaskId> = (0..CAPACITY.tasks).map(|_| submit(&submitter, b"")).collect();
    assert!(matches!(submitter.submit(&submission(b"")), Err(Refused::Tasks)));
    for id in all {
        assert!(submitter.release(id, |_| true).expect("a commit"));
    }
    submit(&submitter, b"");
}

#[test]
fn pages_of_who_died_between_two_commits_are_swept_and_no_others() {
    let runtime = runtime();
    let [worker, submitter] = [(); 2].map(|()| queue(&runtime));
    let id = submit(&submitter, &[1; 20_000]);
    let task = worker.claim(0).expect("a look").expect("a task");
    worker.write_pages(id, 1, &[2; 20_000]).expect("pages").expect("room");
    worker.sweep_pages().expect("a sweep");
    assert_eq!(worker.pages_in_use().expect("a look"), 4, "the worker is just writing them");
    assert!(worker.requeue(&task, true).expect("a commit"));
    worker.sweep_pages().expect("a sweep");
    assert_eq!(worker.pages_in_use().expect("a look"), 2, "the arguments'");
    let task = worker.claim(0).expect("a look").expect("a task");
    assert!(worker.arguments(&task).expect("pages") == Some(vec![1; 20_000]));
    // The worker dies behind the commit that ended the task: the arguments' pages are nobody's.
    let pages = task.argument_pages;
    worker
        .shape
        .tasks
        .update(&worker.handle, id.slot(), |task| {
            task.state = TaskState::Done.code();
            task.argument_pages = Bytes::default();
            true
        })
        .expect("a commit");
    assert!(!pages.as_bytes().is_empty());
    worker.sweep_pages().expect("a sweep");
    assert_eq!(worker.pages_in_use().expect("a look"), 0);
}
