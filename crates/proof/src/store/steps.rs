//! The steward killed before and behind each of its system calls on the store, and each of them failing.
//!
//! The first child makes segment and store, commits and drains in a few rounds; at call number N on the store's files
//! it is killed, or told an error, or its write falls short. What it then says to be durable is noted. A second child
//! takes over and must store everything.

use crate::power::record::{Event, Recorder, Touch, Touched};
use crate::store::judge::{self, Said};
use crate::store::work::Work;
use crate::syscalls::{Action, Child, End};
use crate::{Failure, Outcome, Plan};

/// What a call suffers.
const ACTIONS: [Action; 6] = [
    Action::Kill,
    Action::KillBehind,
    Action::Fail(libc::EIO),
    Action::Fail(libc::ENOSPC),
    Action::Fail(libc::EDQUOT),
    Action::Short,
];
/// The folders of repeats are numbered from here on.
const LIMIT: u64 = 100_000;

/// Makes this part.
pub(crate) fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let (mut kills, mut failures, mut reports) = (0, 0, 0);
    let mut number = 0;
    for step in 0..LIMIT {
        let mut reached = false;
        for (which, action) in ACTIONS.into_iter().enumerate() {
            number += 1;
            // The fast part kills before each step, which is behind the one before, and lets every second fail.
            let turn = step + plan.seed % 8;
            let fails = turn.is_multiple_of(2) && which as u64 == 2 + turn / 2 % 4;
            let sampled = which == 0 || fails;
            if !(plan.long || sampled) || plan.only.is_some_and(|only| only != number) {
                reached |= plan.only.is_some();
                continue;
            }
            let Some(touched) = one(plan, number, step, action, &mut outcome, &mut reports)? else {
                continue;
            };
            reached = true;
            if touched {
                outcome.faults += 1;
                match action {
                    Action::Kill | Action::KillBehind => kills += 1,
                    _ => failures += 1,
                }
            }
        }
        if !reached || outcome.is_hopeless() || plan.only.is_some_and(|only| number > only) {
            break;
        }
    }
    outcome.figures =
        format!("each step: {kills} kills, {failures} failed calls, {reports} reports kept");
    Ok(outcome)
}

/// One child that suffers `action` at call `step`, and one that takes over. Whether the call was one that it can
/// happen to; `None`: the child made no such call.
fn one(
    plan: &Plan,
    number: u64,
    step: u64,
    action: Action,
    outcome: &mut Outcome,
    reports: &mut u64,
) -> Result<Option<bool>, Failure> {
    let folder = plan.folder.join(format!("step{number}"));
    std::fs::create_dir_all(folder.join("store"))?;
    let (seed, strangers) = (plan.seed, 30);
    let work = Work {
        folder: folder.clone(),
        seed,
        rounds: 3,
        commits: 8,
        filler: 200,
        unsynced: false,
        strangers,
    };
    let mut happened = false;
    let mut what = String::new();
    let decide = |touched: &Touched<'_>| {
        if touched.number != step || !suits(action, touched.touch) {
            return Action::Go;
        }
        happened = true;
        what = format!("{:?} {}", touched.touch, touched.name);
        action
    };
    let mut recorder = Recorder::new(&work.store(), Box::new(decide));
    let mut child = Child::start(|| work.run())?;
    let end = child.run(&mut recorder)?;
    let reached = recorder.touches > step;
    let mut events = std::mem::take(&mut recorder.events);
    drop(recorder);
    if happened {
        let mut healer = Recorder::new(&work.store(), Box::new(|_| Action::Go));
        let next = Work { seed: seed + 1, rounds: 1, ..work };
        let healed = Child::start(|| next.run())?.run(&mut healer)?;
        events.append(&mut healer.events);
        let place = format!("{action:?} at call {step} ({what}); --seed {seed} --only {number}");
        outcome.demand(end != End::Badly, || format!("the child died: {place}"));
        outcome.demand(healed == End::Well, || format!("its successor died: {place}"));
        match judge::settled(&folder, &said(events)) {
            Ok(kept) => *reports += kept,
            Err(wrong) => outcome.violation(format!("{wrong}: {place}")),
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(reached.then_some(happened))
}

/// What is in the events about commits.
fn said(events: Vec<Event>) -> Said {
    let mut said = Said::default();
    for event in events {
        match event {
            Event::Commit(version) => drop(said.committed.insert(version)),
            Event::Durable(version) => said.next(&version),
            _ => {}
        }
    }
    said
}

/// Whether it can happen to such a call. A lock that fails with an error of the disk is no lock.
fn suits(action: Action, touch: Touch) -> bool {
    match action {
        Action::Short => touch == Touch::Write,
        Action::Fail(_) => !matches!(touch, Touch::Lock | Touch::Other),
        _ => true,
    }
}
