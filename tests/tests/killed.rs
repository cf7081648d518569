//! Processes that are killed: all at once, or two thousand one after the other.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use commonhold::{Runtime, WriterId};
use commonhold_tests::{FULL, LATEST, Process, Random, Stage, judge, stage};
use nix::sys::signal::Signal;

const WORKERS: usize = 8;
const ROUNDS: usize = 10;

struct Stream {
    process: Process,
    writer: WriterId,
    acks: PathBuf,
    own: String,
}

fn start(stage: &Stage, index: usize, random: &mut Random) -> Stream {
    let (own, acks) = (format!("own-{index}"), stage.path(&format!("acks-{index}")));
    let stands = if index.is_multiple_of(2) { "candidate" } else { "worker" };
    let args = [acks.to_str().unwrap(), &own, stands, &random.next().to_string()];
    let mut process = stage.role("stream", &args);
    let writer = process.hear("writer").parse().unwrap();
    Stream { process, writer, acks, own }
}

fn all_at_once(random: &mut Random) {
    let stage = stage!();
    drop(stage.open());
    let mut steward = stage.role("candidate", &[]);
    steward.hear("ready");
    steward.tell("durable");
    steward.hear("durable");
    let mut streams: Vec<Stream> = (0..WORKERS).map(|i| start(&stage, i, random)).collect();
    streams.iter_mut().for_each(|s| drop(s.process.hear("going")));
    random.dawdle(Duration::from_millis(60));
    let all = || streams.iter().map(|s| &s.process).chain([&steward]);
    all().for_each(|p| p.signal(Signal::SIGKILL));
    streams.iter_mut().for_each(|s| s.process.kill());
    steward.kill();
    let acks = |stream: &Stream| std::fs::read_to_string(&stream.acks).unwrap();
    // What was reported durable is in the store before anybody attaches.
    let stored = judge::writers(&stage);
    for stream in &streams {
        let acks = acks(stream);
        let durable = acks.rfind('d').map_or(0, |at| acks[..at].matches('f').count() as u64);
        let found = stored.get(&stream.writer).copied().unwrap_or(0);
        assert!(found >= durable, "{}: {durable} durable, {found} stored", stream.writer);
    }
    let runtime = Runtime::open(stage.there()).unwrap();
    judge::settle(&stage, &runtime);
    let stored = judge::writers(&stage);
    let latest = judge::memory(&runtime, LATEST);
    for stream in &streams {
        let acks = acks(stream);
        let acknowledged = |kind: char| acks.matches(kind).count() as u64;
        let full = stored.get(&stream.writer).copied().unwrap_or(0);
        let own = latest.get(&stream.own).map_or(0, |seen| seen.1.cast_unsigned());
        for (found, due) in [(full, acknowledged('f')), (own, acknowledged('l'))] {
            assert!(found == due || found == due + 1, "{}: {due}, {found}", stream.writer);
        }
    }
    let shared = |(key, seen): &(String, judge::Seen)| key.starts_with("shared").then_some(seen.1);
    let sum: i64 = judge::memory(&runtime, FULL).into_iter().filter_map(|r| shared(&r)).sum();
    let commits: u64 = streams.iter().filter_map(|s| stored.get(&s.writer)).sum();
    assert_eq!(sum as u64, commits, "each commit added one");
}

#[test]
fn nothing_acknowledged_is_lost_when_all_die_at_once() {
    let mut random = Random::from_environment();
    (0..ROUNDS).for_each(|_| all_at_once(&mut random));
}

#[test]
fn two_thousand_attach_and_are_killed() {
    const BATCHES: usize = 40;
    const EACH: usize = 50;
    const PARTICIPANTS: u32 = 120;
    let (stage, mut random) = (stage!(), Random::from_environment());
    let runtime = Runtime::open(stage.sized(PARTICIPANTS, 64, 500)).unwrap();
    for _ in 0..BATCHES {
        let start = |_| stage.role("attach", &[&random.next().to_string()]);
        let mut batch: Vec<Process> = (0..EACH).map(start).collect();
        // A fifth of them surely work; the others die wherever they are.
        for process in batch.iter_mut().step_by(5) {
            process.hear("going");
        }
        while !batch.is_empty() {
            let at = random.below(batch.len() as u64) as usize;
            batch.swap_remove(at).kill();
        }
        runtime.sweep().unwrap();
        let there = runtime.space().participants();
        let me = std::process::id();
        assert!(there.iter().all(|p| p.identity.pid == me), "left behind: {there:?}");
    }
    judge::settle(&stage, &runtime);
    let mut handles = Vec::new();
    while let Ok(handle) = runtime.handle() {
        handles.push(handle);
    }
    assert_eq!(handles.len() as u32, PARTICIPANTS - 1, "all entries but the steward's are free");
}
