//! Commit, read and sweep of one record, under loom.
#![cfg(feature = "loom")]
#![allow(clippy::unwrap_used, missing_docs)]

mod model;

use commonhold_core::catalogue::History;
use commonhold_core::participant::DeadSet;
use commonhold_core::sweep::sweep;
use loom::thread;
use model::*;

/// One writer commits twice, so that it writes into the cell that it displaced; a reader reads meanwhile.
fn recycled_cells() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (writer, reader) = (open(&space), open(&space));
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    let reader = thread::spawn(move || {
        let (version, value) = read(&reader, "a", record).unwrap();
        assert_eq!(version as i64, value + 1);
        reader
    });
    assert_eq!(add(&writer, record), Some(2));
    assert_eq!(add(&writer, record), Some(3));
    drop((writer, reader.join().unwrap()));
    assert_nothing_leaked(&space, 1);
}

/// Two writers of one record, the first `times`, the second once.
fn two_writers(times: u64) {
    let space = space_of(History::Latest, 1, 0, 2);
    let (first, second) = (open(&space), open(&space));
    assert!(insert(&first, "a", 0));
    let record = first.locate(0, "a").unwrap().unwrap();
    let second = thread::spawn(move || (add(&second, record).unwrap(), second));
    let mut versions: Vec<u64> = (0..times).map(|_| add(&first, record).unwrap()).collect();
    let (other, second) = second.join().unwrap();
    versions.push(other);
    versions.sort_unstable();
    assert_eq!(versions, (2..3 + times).collect::<Vec<_>>());
    assert_eq!(read(&first, "a", record), Some((2 + times, 1 + times as i64)));
    drop((first, second));
    assert_nothing_leaked(&space, 1);
}

/// Two writers and a reader of one record.
fn two_writers_and_a_reader() {
    let space = space_of(History::Latest, 1, 0, 3);
    let (first, second, reader) = (open(&space), open(&space), open(&space));
    assert!(insert(&first, "a", 0));
    let record = first.locate(0, "a").unwrap().unwrap();
    let second = thread::spawn(move || (add(&second, record), second));
    let reader = thread::spawn(move || {
        let (version, value) = read(&reader, "a", record).unwrap();
        assert_eq!(version as i64, value + 1);
        reader
    });
    let own = add(&first, record);
    let (second, reader) = (second.join().unwrap(), reader.join().unwrap());
    let mut versions = [own, second.0];
    versions.sort_unstable();
    assert_eq!(versions, [Some(2), Some(3)]);
    assert_eq!(read(&reader, "a", record), Some((3, 2)));
    drop((first, second, reader));
    assert_nothing_leaked(&space, 1);
}

/// A sweep beside a writer: nobody is dead, and only what nobody has is freed.
fn sweep_beside_a_writer() {
    let space = space_of(History::Latest, 1, 0, 2);
    let writer = open(&space);
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    let other = space.clone();
    let sweeper = thread::spawn(move || sweep(&other, &DeadSet::new()).unwrap());
    assert_eq!(add(&writer, record), Some(2));
    assert_eq!(add(&writer, record), Some(3));
    sweeper.join().unwrap();
    assert_eq!(read(&writer, "a", record), Some((3, 2)));
    drop(writer);
    assert_nothing_leaked(&space, 1);
}

/// Two claims of one cell would show: beside the sweep two writers, one cell to spare for each.
fn sweep_beside_two_writers() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (first, second) = (open(&space), open(&space));
    assert!(insert(&first, "a", 0));
    let record = first.locate(0, "a").unwrap().unwrap();
    let second = thread::spawn(move || {
        sweep(second.space(), &DeadSet::new()).unwrap();
        (add(&second, record), second)
    });
    let own = add(&first, record);
    let (other, second) = second.join().unwrap();
    assert_eq!(own.unwrap() + other.unwrap(), 5);
    assert_eq!(read(&first, "a", record), Some((3, 2)));
    drop((first, second));
    assert_nothing_leaked(&space, 1);
}

/// A participant is killed before its `steps`th access while another one commits; then it is swept.
fn death(history: History, steps: u32) {
    let space = space_of(history, 1, 6, 2);
    let (victim, writer) = (open(&space), open(&space));
    assert!(insert(&writer, "a", 0));
    let record = writer.locate(0, "a").unwrap().unwrap();
    let reaper = thread::spawn(move || {
        let version = dies_after(steps, || add(&victim, record)).flatten();
        let space = victim.space_arc();
        let dead = victim.abandon();
        sweep(&space, &dead).unwrap();
        space.bury(&dead);
        version
    });
    let own = add(&writer, record).unwrap();
    let told = reaper.join().unwrap();
    let (version, value) = read(&writer, "a", record).unwrap();
    assert_eq!(version as i64, value + 1);
    assert!(version == 3 || (version == 2 && told.is_none() && own == 2));
    let rows = drain_all(&writer);
    if history == History::Full {
        let versions: Vec<_> = rows.iter().map(|r| r.version).collect();
        assert_eq!(versions, (1..=version).collect::<Vec<_>>());
    }
    sweep(&space, &DeadSet::new()).unwrap();
    drop(writer);
    assert_nothing_leaked(&space, 1);
    // All six cells but the record's can be claimed again, without a further sweep.
    let handles = [open(&space), open(&space)];
    for handle in &handles {
        handle.set_room_wait(std::time::Duration::ZERO);
    }
    if history == History::Full {
        (0..5).for_each(|_| assert!(add(&handles[0], record).is_some()));
    }
    drop(handles);
}

/// Two sweep for the same dead; one frees his entry, and a new participant claims it and commits.
fn entry_reused_while_swept() {
    let space = space_of(History::Latest, 1, 0, 2);
    let (victim, first) = (open(&space), open(&space));
    assert!(insert(&first, "a", 0));
    let record = first.locate(0, "a").unwrap().unwrap();
    let killed = dies_after(12, || add(&victim, record));
    assert!(killed.is_none());
    let dead = victim.abandon();
    let (other, same) = (space.clone(), dead.clone());
    let late = thread::spawn(move || sweep(&other, &same).unwrap());
    sweep(&space, &dead).unwrap();
    space.bury(&dead);
    let next = open(&space);
    assert_eq!(add(&next, record), Some(2));
    assert_eq!(add(&next, record), Some(3));
    late.join().unwrap();
    assert_eq!(read(&first, "a", record), Some((3, 2)));
    drop((first, next));
    assert_nothing_leaked(&space, 1);
}

#[test]
fn no_torn_read() {
    holds("recycled cells", 1, recycled_cells);
    use Fault::{NoBump, NoGenerationCheck, NoReadFence, NoSecondLook, NoWriteFence};
    for fault in [NoSecondLook, NoGenerationCheck, NoBump, NoReadFence, NoWriteFence] {
        finds(fault, 1, recycled_cells);
    }
}

#[test]
fn no_lost_update() {
    holds("two writers, once each", 3, || two_writers(1));
    holds("two writers, one of them twice", 1, || two_writers(2));
    holds("two writers and a reader", 1, two_writers_and_a_reader);
}

#[test]
fn the_sweep_leaves_the_living_alone() {
    holds("sweep beside a writer", 2, sweep_beside_a_writer);
    holds("sweep beside two writers", 2, sweep_beside_two_writers);
    finds(Fault::SweepLiving, 2, sweep_beside_a_writer);
    holds("entry reused while swept", 2, entry_reused_while_swept);
    finds(Fault::SweepReused, 2, entry_reused_while_swept);
}

#[test]
fn a_death_at_any_step_loses_nothing() {
    for history in [History::Latest, History::Full] {
        let name = format!("death of an update in {history} history");
        at_every_step(&name, 1, move |steps| death(history, steps));
    }
}
