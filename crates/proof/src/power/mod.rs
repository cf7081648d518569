//! Power loss: what may be lost is exactly what was not reported durable.
//!
//! A child commits and drains as the steward does, on real files; every change of the store's files, every sync and
//! every report of durability is noted in order (`record.rs`). In some scenarios a system call fails, a child is killed
//! and another takes over. Then the power goes after any of these events: the files are built as they may look on
//! disk (`disk.rs`), opened, checked whole, and searched for every version that was reported durable until then.
//!
//! To repeat one loss alone: `--seed SEED --only NUMBER`, the number from the violation.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // a check that dies is a violation

pub(crate) mod disk;
pub(crate) mod record;

use std::path::Path;

use crate::random::Random;
use crate::store::judge::{self, Said};
use crate::store::work::Work;
use crate::syscalls::{Action, Child};
use crate::{Bite, Check, Failure, Outcome, Plan};
use commonhold_segment::sync::Fault;
use disk::Disk;
use record::{Event, Recorder, Touch, Touched};

/// The check.
pub(crate) const CHECK: Check = Check {
    name: "power",
    about: "power lost after any file operation, also behind kills and failed syncs: what was reported durable is there",
    run,
    bites: &[
        Bite::Fault(Fault::CompleteFirst),
        Bite::Fault(Fault::FailureIsStored),
        Bite::Sabotage("synchronous-normal"),
        Bite::Sabotage("unsettled"),
    ],
    limit_s: 120,
};

/// What a scenario does to the children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    None,
    /// The first child is killed.
    Kill,
    /// One system call fails.
    Fail,
    /// Every sync and write fails for some time.
    FailLong,
    /// One fails, and the child is killed soon afterwards.
    FailAndKill,
}

const DISTURBANCES: [Disturbance; 6] = [
    Disturbance::Kill,
    Disturbance::Fail,
    Disturbance::FailLong,
    Disturbance::FailAndKill,
    Disturbance::None,
    Disturbance::Kill,
];
const ERRORS: [i32; 3] = [libc::EIO, libc::ENOSPC, libc::EDQUOT];

#[derive(Debug, Default)]
struct Sums {
    losses: u64,
    kept: u64,
    durable: u64,
    scenarios: u64,
}

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut sums = Sums::default();
    let (scenarios, losses) = (plan.of(60, 1000), plan.of(25, 50));
    // What shows in one scenario of a hundred must still be found.
    let scenarios = if plan.sabotage.is_some() { 1000 } else { scenarios };
    for number in 0..scenarios {
        if plan.only.is_some_and(|only| only != number) {
            continue;
        }
        scenario(plan, number, losses, &mut outcome, &mut sums)?;
        if outcome.is_hopeless() {
            break;
        }
    }
    let Sums { losses, kept, durable, scenarios } = sums;
    outcome.faults = losses;
    outcome.figures = format!(
        "{kept} of {durable} versions reported durable survived, over {losses} losses in {scenarios} scenarios"
    );
    Ok(outcome)
}

/// One course of events, and power losses within it.
fn scenario(
    plan: &Plan,
    number: u64,
    losses: u64,
    outcome: &mut Outcome,
    sums: &mut Sums,
) -> Result<(), Failure> {
    let folder = plan.folder.join(format!("s{number}"));
    std::fs::create_dir_all(folder.join("store"))?;
    let kind = DISTURBANCES[number as usize % DISTURBANCES.len()];
    let events = history(plan, number, kind, &folder)?;
    sums.scenarios += 1;
    let mut random = Random::of(plan.seed, number << 8 | 7);
    let last = events.len() as u64;
    let mut disk = Disk::default();
    let mut said = Said::default();
    let points = points(&events, losses, &mut random);
    let image = folder.join("image");
    for (at, event) in events.iter().enumerate().map(|(at, event)| (at as u64 + 1, event)) {
        disk.step(event, &mut random);
        match event {
            Event::Commit(version) => drop(said.committed.insert(version.clone())),
            Event::Durable(version) => said.next(version),
            _ => {}
        }
        for _ in points.iter().filter(|point| **point == at) {
            sums.losses += 1;
            sums.durable += said.durable.len() as u64;
            disk.lose_power(&image, &mut random)?;
            match judged(&image, &said) {
                Ok(kept) => sums.kept += kept,
                Err(wrong) => {
                    let seed = plan.seed;
                    outcome.violation(format!(
                        "{wrong}: power lost after event {at} of {last} ({event:?}), disturbance {kind:?}; --seed {seed} --only {number}"
                    ));
                }
            }
            std::fs::remove_dir_all(&image)?;
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// After how many events the power goes: after any, and half of them where most was promised and least was written,
/// which is behind the last report of a round.
fn points(events: &[Event], losses: u64, random: &mut Random) -> Vec<u64> {
    let is_report = |at: usize| matches!(events.get(at), Some(Event::Durable(_)));
    let reports: Vec<u64> = (1..=events.len())
        .filter(|at| is_report(at - 1) && !is_report(*at))
        .map(|at| at as u64)
        .collect();
    let mut points: Vec<u64> = Vec::new();
    for at in 0..losses {
        let report = reports.get(random.below(reports.len() as u64) as usize);
        let any = random.below(events.len() as u64 + 1);
        points.push(report.copied().filter(|_| at % 2 == 0).unwrap_or(any));
    }
    points.push(events.len() as u64);
    points.sort_unstable();
    points
}

fn judged(image: &Path, said: &Said) -> Result<u64, String> {
    let database = image.join("db");
    judge::whole(&database)?;
    judge::kept(&database, said)
}

/// Runs the children; what they did and said.
fn history(
    plan: &Plan,
    number: u64,
    kind: Disturbance,
    folder: &Path,
) -> Result<Vec<Event>, Failure> {
    let mut random = Random::of(plan.seed, number << 8);
    let big = number % 10 == 9;
    let work = Work {
        folder: folder.to_owned(),
        seed: random.next(),
        rounds: if big { 120 } else { 2 + random.below(8) as u32 },
        commits: if big { 60 } else { 12 },
        filler: if big { 2000 } else { 300 },
        unsynced: plan.sabotaged("synchronous-normal"),
        strangers: if big { 1 } else { 12 },
    };
    let store = work.store();
    let unsettled = plan.sabotaged("unsettled");
    let at = random.below(if big { 2000 } else { 300 });
    let mut recorder = Recorder::new(&store, disturb(kind, at, unsettled, random.clone()));
    let mut child = Child::start(|| work.run())?;
    child.run(&mut recorder)?;
    let next = Work { seed: random.next(), rounds: 2, ..work };
    recorder.decide_anew(disturb(Disturbance::None, 0, unsettled, random));
    let mut child = Child::start(|| next.run())?;
    child.run(&mut recorder)?;
    Ok(recorder.events)
}

/// What happens to the system calls of a child from number `at` on.
fn disturb(
    kind: Disturbance,
    at: u64,
    unsettled: bool,
    mut random: Random,
) -> record::Decide<'static> {
    let error = ERRORS[random.below(3) as usize];
    let long = 1 + random.below(40);
    // The moments that matter most are those about a sync.
    let about_sync = random.chance(60);
    let mut failed = None;
    Box::new(move |touched: &Touched<'_>| {
        let Touched { number, touch, .. } = *touched;
        if unsettled && touched.settles && touch != Touch::Read {
            return Action::Pretend;
        }
        let chosen = !about_sync || touch == Touch::Sync;
        let due = number >= at && failed.is_none() && chosen;
        match kind {
            Disturbance::Kill if due && random.chance(60) => Action::Kill,
            Disturbance::Kill if due => Action::KillBehind,
            Disturbance::FailAndKill if failed.is_some_and(|at| number > at + long / 8) => {
                Action::Kill
            }
            Disturbance::Fail | Disturbance::FailAndKill if due && may_fail(touch) => {
                failed = Some(number);
                let short = touch == Touch::Write && random.chance(25);
                if short { Action::Short } else { Action::Fail(error) }
            }
            Disturbance::FailLong
                if number >= at && number < at + long && may_fail(touch) && chosen =>
            {
                Action::Fail(error)
            }
            _ => Action::Go,
        }
    })
}

fn may_fail(touch: Touch) -> bool {
    matches!(touch, Touch::Write | Touch::Sync | Touch::SyncFolder | Touch::Resize | Touch::Unlink)
}
