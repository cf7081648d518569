//! Kill and freeze after every instruction of an operation.
//!
//! A forked child opens a handle, marks, does one operation on a small segment, marks again and leaves. Its way is
//! recorded by single steps; then, for each n from 0 to its length, the segment is put back, another child is brought to
//! where n instructions are behind it, and there it is *killed*, or *frozen* while others update, delete, make again,
//! sweep, drain and recycle its cells, and then let go on. What is left is judged (`judge.rs`).

mod guard;
mod judge;
mod long;
mod spec;
mod stopped;
mod subject;
mod world;

use crate::trace::{Path, Stop, Traced};
use crate::{Bite, Check, Failure, Outcome, Plan, fork, trace, watch};
use commonhold_segment::sync::Fault;
pub(crate) use guard::CHECK as GUARD;
use judge::Injection;
pub(crate) use long::CHECK as LONG;
use spec::Event;
pub(crate) use stopped::CHECK as STOPPED;
use subject::{SCRIPTS, SUBJECTS, Subject};
use world::World;

/// So many processes share the work.
const WORKERS: usize = 2;
/// An injection that takes longer hangs; on a machine that does nothing else it takes a thousandth.
const LIMIT_S: u32 = 60;
/// Of a thousand injections so many may miss their instruction, because the child's way was shorter this time.
const MISSED_PER_MILLE: u64 = 10;

/// Killed after every instruction.
pub(crate) const KILLED: Check = Check {
    name: "killed",
    about: "update, insert, delete, read: SIGKILL after every instruction; both histories",
    run: |plan| steps(plan, kill),
    bites: &[
        Bite::Fault(Fault::NoNote),
        Bite::Fault(Fault::NoHintRepair),
        Bite::Fault(Fault::NoBucketLook),
        Bite::Fault(Fault::NoChainWalk),
    ],
    limit_s: 600,
};

/// Frozen after every instruction.
pub(crate) const FROZEN: Check = Check {
    name: "frozen",
    about: "the same stopped after every instruction, while others recycle all that it holds; then it goes on",
    run: |plan| steps(plan, freeze),
    bites: &[
        Bite::Fault(Fault::NoSecondLook),
        Bite::Fault(Fault::NoGenerationCheck),
        Bite::Fault(Fault::NoBump),
        Bite::Fault(Fault::NoSlotGeneration),
        Bite::Fault(Fault::BlindPublish),
        Bite::Fault(Fault::StaleBucket),
        Bite::Fault(Fault::NoFloor),
    ],
    limit_s: 600,
};

type Inject = fn(&World, &Path, &Injection) -> Result<(), Failure>;

fn steps(plan: &Plan, inject: Inject) -> Result<Outcome, Failure> {
    fork::share(WORKERS, &fork::processors()?, |worker| {
        let folder = plan.folder.join(worker.to_string());
        std::fs::create_dir(&folder)?;
        let world = World::build(&folder, false)?;
        let mut outcome = Outcome::default();
        let mut instructions = 0;
        for (number, subject) in SUBJECTS.iter().enumerate() {
            let path = record(&world, subject)?;
            instructions += path.len();
            each(plan, worker, &world, &path, (number as u64, subject), inject, &mut outcome)?;
        }
        if worker == 0 {
            let operations = SUBJECTS.len();
            outcome.figures = format!("{operations} operations of {instructions} instructions");
        }
        Ok(outcome)
    })
}

/// Every injection of one subject that is this worker's.
fn each(
    plan: &Plan,
    worker: usize,
    world: &World,
    path: &Path,
    (number, subject): (u64, &'static Subject),
    inject: Inject,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let (mut missed, mut done) = (0, 0);
    for n in 0..=path.len() {
        // In the long part each of the scripts, else one after the other.
        let scripts = plan.of(1, SCRIPTS);
        for round in 0..scripts {
            let script = (n + round + plan.seed) % SCRIPTS;
            let id = (number * 10_000_000 + n) * 10 + script;
            let mine = n % WORKERS as u64 == worker as u64;
            if plan.only.map_or(!mine, |only| only != id) || outcome.is_hopeless() {
                continue;
            }
            watch::begin(LIMIT_S, &format!("{} at {n}; --only {id}", subject.name))?;
            let mut injection = Injection { subject, n, script, stepwise: false };
            let mut judged = inject(world, path, &injection);
            if judged.as_ref().is_err_and(|e| e.is::<Missed>()) {
                injection.stepwise = true;
                judged = inject(world, path, &injection);
            }
            match judged {
                Ok(()) => done += 1,
                Err(e) if e.is::<Missed>() => missed += 1,
                Err(e) => {
                    let (name, length) = (subject.name, path.len());
                    outcome.violation(format!("{name} at {n} of {length}: {e}; --only {id}"));
                }
            }
        }
    }
    watch::end();
    outcome.faults += done;
    outcome.demand(missed * 1000 <= done.max(1000) * MISSED_PER_MILLE, || {
        format!("{}: {missed} of {done} instructions were not met", subject.name)
    });
    Ok(())
}

/// The child came to its end before the instruction.
#[derive(Debug)]
struct Missed;

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the instruction was not met")
    }
}

impl std::error::Error for Missed {}

/// The way of the subject's child.
fn record(world: &World, subject: &Subject) -> Result<Path, Failure> {
    world.restore();
    let _other = world.handle()?;
    let mut child = subject.start(world)?;
    let mut last = world.words();
    let path = Path::record(&mut child, || world.changed(&mut last))?;
    match child.run()? {
        Stop::Ended(0) => Ok(path),
        other => Err(format!("{}: {other:?}", subject.name).into()),
    }
}

/// Kills the child after `n` instructions, and judges.
fn kill(world: &World, path: &Path, injection: &Injection) -> Result<(), Failure> {
    world.restore();
    let subject = injection.subject;
    let other = world.handle()?;
    let mut child = subject.start(world)?;
    let before = world.key(subject.table, subject.key)?;
    if !path.reach(&mut child, injection.n, injection.stepwise)? {
        return Err(Box::new(Missed));
    }
    child.kill();
    let own = Event { op: subject.op, seen: world.told()? };
    let first = own.seen != spec::Seen::Unknown;
    let mut others = subject::Others::new(world, &other, subject);
    // A third of the time nobody goes on with the record before the sweep, a third nobody with a handle looks at it: what
    // the dead left undone is then for the sweep.
    match injection.script % 3 {
        0 => {
            others.look()?;
            others.go_on()?;
        }
        1 => others.look()?,
        _ => others.peek()?,
    }
    judge::find_dead(world, Some(1))?;
    others.fill()?;
    others.look()?;
    judge::fits(before, &others.events, own, first)?;
    let rows = others.rows;
    judge::settle(world, other, Some(0), rows)
}

/// Stops the child after `n` instructions, lets others work, lets it go on, and judges.
fn freeze(world: &World, path: &Path, injection: &Injection) -> Result<(), Failure> {
    world.restore();
    let subject = injection.subject;
    let other = world.handle()?;
    let mut child = subject.start(world)?;
    let before = world.key(subject.table, subject.key)?;
    if !path.reach(&mut child, injection.n, injection.stepwise)? {
        return Err(Box::new(Missed));
    }
    let first = world.told()? != spec::Seen::Unknown;
    let mut others = subject::Others::new(world, &other, subject);
    others.play(injection.script)?;
    run_out(child)?;
    others.crowd()?;
    let own = Event { op: subject.op, seen: world.told()? };
    others.look()?;
    // What was seen after it had returned comes after it.
    judge::fits(before, &others.events, own, first)?;
    judge::told(own)?;
    let rows = others.rows;
    judge::settle(world, other, Some(0), rows)
}

/// Lets the child go on to its mark, and leave.
fn run_out(mut child: Traced) -> Result<(), Failure> {
    match (child.run()?, child.run()?) {
        (Stop::Mark, Stop::Ended(0)) => Ok(()),
        other => Err(format!("when it went on it ended with {other:?}").into()),
    }
}

/// In the child: the mark between which its operation stands.
fn mark() {
    trace::mark();
}
