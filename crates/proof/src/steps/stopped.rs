//! Stopped, not dead: SIGSTOP of a writer after every instruction of an update.
//!
//! Others go on as fast as without it, nothing is taken from it, and after SIGCONT it ends as it should.

use std::time::{Duration, Instant};

use commonhold_segment::sync::Fault;

use super::spec::{Event, Op, Seen};
use super::subject::{Others, Subject, named};
use super::world::World;
use super::{LIMIT_S, Missed, judge, record};
use crate::{Bite, Check, Failure, Outcome, Plan, fork, watch};

/// Stopped after every instruction.
pub(crate) const CHECK: Check = Check {
    name: "stopped",
    about: "SIGSTOP of a writer after every instruction of an update: others' throughput, and its end after SIGCONT",
    run,
    bites: &[Bite::Fault(Fault::SweepLiving)],
    limit_s: 600,
};

/// So many updates of others while one is stopped.
const ROUNDS: u32 = 200;

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    fork::keep_together(&fork::processors()?, 0)?;
    let world = World::build(&plan.folder, false)?;
    let mut outcome = Outcome::default();
    let (mut alone, mut beside, mut worst) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    // In latest history: in full history the others would soon wait for the store.
    for (number, name) in ["update, latest", "update again, latest"].iter().enumerate() {
        let subject = named(name)?;
        let path = record(&world, subject)?;
        for n in 0..=path.len() {
            let id = number as u64 * 10_000_000 + n;
            if plan.only.is_some_and(|only| only != id) || outcome.is_hopeless() {
                continue;
            }
            let what = format!("{} stopped at {n} of {}; --only {id}", subject.name, path.len());
            watch::begin(LIMIT_S, &what)?;
            alone += undisturbed(&world, subject)?;
            match stop(&world, &path, subject, n) {
                Ok(took) => {
                    outcome.faults += 1;
                    beside += took;
                    worst = worst.max(took);
                }
                Err(e) if e.is::<Missed>() => {}
                Err(e) => outcome.violation(format!("{what}: {e}")),
            }
        }
    }
    watch::end();
    let ratio = alone.as_secs_f64() / beside.as_secs_f64().max(1e-9);
    outcome.figures = format!(
        "others' throughput {ratio:.2} of what it is alone; {ROUNDS} updates took at worst {worst:.1?}"
    );
    Ok(outcome)
}

/// How long the others take when nobody is stopped: a child was there, so that memory and caches are as with one.
fn undisturbed(world: &World, subject: &Subject) -> Result<Duration, Failure> {
    world.restore();
    let other = world.handle()?;
    subject.start(world)?.kill();
    rounds(&mut Others::new(world, &other, subject))
}

fn rounds(others: &mut Others<'_>) -> Result<Duration, Failure> {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        others.act(Op::Add)?;
    }
    Ok(start.elapsed())
}

/// Stops the child after `n` instructions; how long the others took for their updates.
fn stop(
    world: &World,
    path: &crate::trace::Path,
    subject: &'static Subject,
    n: u64,
) -> Result<Duration, Failure> {
    world.restore();
    let other = world.handle()?;
    let mut child = subject.start(world)?;
    let before = world.key(subject.table, subject.key)?;
    if !path.reach(&mut child, n, false)? {
        return Err(Box::new(Missed));
    }
    let first = world.told()? != Seen::Unknown;
    let stopped = child.leave_stopped()?;
    let mut others = Others::new(world, &other, subject);
    others.sweep()?;
    let took = rounds(&mut others)?;
    others.sweep()?;
    let code = stopped.go_on()?;
    if code != 0 {
        return Err(format!("it ended with {code}").into());
    }
    let own = Event { op: subject.op, seen: world.told()? };
    others.crowd()?;
    others.look()?;
    judge::fits(before, &others.events, own, first)?;
    judge::told(own)?;
    let rows = others.rows;
    judge::settle(world, other, Some(0), rows)?;
    Ok(took)
}
