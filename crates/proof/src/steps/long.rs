//! The long operations: attach, detach, sweep, persist, hand-over of the steward, wait.
//!
//! They are too long for every instruction, so they are killed and frozen where something happens: one instruction
//! before and after each change of the segment, before and after each system call, and at random instructions.

use std::time::Duration;

use commonhold::{Config, Runtime};
use commonhold_runtime::steward::Term;
use commonhold_segment::sync::Fault;

use super::spec::{Event, Op, Seen};
use super::subject::{Others, named};
use super::world::World;
use super::{LIMIT_S, Missed, WORKERS, judge, mark, run_out};
use crate::random::Random;
use crate::trace::{Path, Stop, Traced};
use crate::{Bite, Check, Failure, Outcome, Plan, fork, watch};

/// Killed and frozen where something happens.
pub(crate) const CHECK: Check = Check {
    name: "long",
    about: "attach, detach, sweep, persist, hand-over, wait: SIGKILL and stop at each change, system call, at random",
    run,
    bites: &[
        Bite::Fault(Fault::EntryFreedFirst),
        Bite::Fault(Fault::EntrySweptLast),
        Bite::Fault(Fault::CompleteFirst),
        Bite::Fault(Fault::NoFlagAll),
    ],
    limit_s: 600,
};

/// The ids of an operation's injections begin at its number times this.
const IDS: u64 = 1_000_000_000;

/// About so many points of each operation are looked at in the fast part.
const SAMPLE: u64 = 60;

/// No longer way is gone step by step.
const STEPS_MAX: u64 = 100_000;

/// One long operation of the child.
struct Long {
    name: &'static str,
    /// It works on a database.
    stored: bool,
    /// Somebody was killed in the middle of an insert before.
    corpse: bool,
    /// It is too long for the fast part, in which `store` kills it at its system calls.
    slow: bool,
    /// What the child does; it marks twice.
    life: fn(&World) -> Result<(), Failure>,
}

const ALL: [Long; 6] = [
    Long { name: "attach", stored: false, corpse: false, slow: false, life: attach },
    Long { name: "detach", stored: false, corpse: false, slow: false, life: detach },
    Long { name: "sweep", stored: false, corpse: true, slow: false, life: sweep },
    Long { name: "wait", stored: false, corpse: false, slow: false, life: wait },
    Long { name: "persist", stored: true, corpse: false, slow: false, life: persist },
    Long { name: "hand-over", stored: true, corpse: true, slow: true, life: hand_over },
];

fn attach(world: &World) -> Result<(), Failure> {
    let path = world.space().segment().path().ok_or("a segment without a file")?.to_owned();
    mark();
    let config = Config::named(&path.display().to_string()).attach_only().without_steward();
    let runtime = Runtime::open(config)?;
    let handle = runtime.handle()?;
    world.tell(world.act(&handle, 0, "m", Op::Add)?);
    mark();
    Ok(())
}

fn detach(world: &World) -> Result<(), Failure> {
    let handle = world.handle()?;
    for table in [0, 1, 1] {
        world.act(&handle, table, "m", Op::Add)?;
    }
    mark();
    drop(handle);
    mark();
    Ok(())
}

fn sweep(world: &World) -> Result<(), Failure> {
    mark();
    world.space().reap(true)?;
    mark();
    Ok(())
}

/// Waits for what does not come, and sleeps once.
fn wait(world: &World) -> Result<(), Failure> {
    let handle = world.handle()?;
    mark();
    let never = |_: &commonhold_core::Snapshot| Ok(None::<()>);
    let waited = handle.wait_for(0, "m", Duration::from_millis(1), never);
    mark();
    match waited {
        Err(commonhold::Error::Timeout { .. }) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn persist(world: &World) -> Result<(), Failure> {
    let mut term = Term::begin(world.space())?;
    mark();
    term.round()?;
    mark();
    Ok(())
}

fn hand_over(world: &World) -> Result<(), Failure> {
    mark();
    let mut term = Term::begin(world.space())?;
    term.round()?;
    mark();
    Ok(())
}

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let processors = fork::processors()?;
    fork::keep_together(&processors, 0)?;
    let mut ways = Vec::new();
    for (number, long) in ALL.iter().enumerate() {
        let wanted = plan.only.is_none_or(|only| only / IDS == number as u64);
        if wanted && (!long.slow || plan.long || plan.planted) {
            ways.push((
                number as u64,
                long,
                in_world(plan, "first", long, |stage| stage.record())?,
            ));
        }
    }
    fork::share(WORKERS, &processors, |worker| {
        let mut outcome = Outcome::default();
        let mut figures = Vec::new();
        for (number, long, path) in &ways {
            figures.push(in_world(plan, &worker.to_string(), long, |stage| {
                stage.each(plan, worker, *number, path, &mut outcome)
            })?);
        }
        if worker == 0 {
            outcome.figures = figures.join(", ");
        }
        Ok(outcome)
    })
}

/// Does `work` in a world of its own.
fn in_world<T>(
    plan: &Plan,
    place: &str,
    long: &'static Long,
    work: impl FnOnce(&Stage<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let folder = plan.folder.join(format!("{place}-{}", long.name));
    std::fs::create_dir(&folder)?;
    let world = World::build(&folder, long.stored)?;
    let death = super::record(&world, named(DEATH)?)?;
    work(&Stage { world: &world, long, death: &death })
}

/// The insert in which a corpse died.
const DEATH: &str = "insert, latest";

/// One operation in its world.
struct Stage<'a> {
    world: &'a World,
    long: &'a Long,
    /// The way of the insert in which a corpse died.
    death: &'a Path,
}

impl Stage<'_> {
    /// The child at its first mark, in the first state.
    fn start(&self) -> Result<Traced, Failure> {
        self.world.restore();
        self.world.restore_database()?;
        if self.long.corpse {
            self.leave_corpse()?;
        }
        let mut child = Traced::start(|| {
            if (self.long.life)(self.world).is_err() {
                std::process::abort();
            }
        })?;
        child.first_mark()?;
        Ok(child)
    }

    /// Somebody dies in the middle of an insert, with a slot reserved.
    fn leave_corpse(&self) -> Result<(), Failure> {
        let mut child = named(DEATH)?.start(self.world)?;
        self.death.reach(&mut child, self.death.len() / 2, false)?;
        child.kill();
        Ok(())
    }

    /// The way of its child.
    fn record(&self) -> Result<Path, Failure> {
        let mut child = self.start()?;
        let mut last = self.world.words();
        let path = Path::record(&mut child, || self.world.changed(&mut last))?;
        match child.run()? {
            Stop::Ended(0) => Ok(path),
            other => Err(format!("{}: {other:?}", self.long.name).into()),
        }
    }

    fn each(
        &self,
        plan: &Plan,
        worker: usize,
        number: u64,
        path: &Path,
        outcome: &mut Outcome,
    ) -> Result<String, Failure> {
        let mut random = Random::of(plan.seed, number);
        let mut points = path.points((0..plan.of(20, 1000)).map(|_| random.next()));
        let all = points.len();
        if !plan.long {
            let share = SAMPLE * 1000 / all.max(1) as u64;
            points.retain(|n| *n == 0 || random.below(1000) < share);
        }
        let mut missed = 0;
        for (at, n) in points.iter().enumerate().filter(|(at, _)| at % WORKERS == worker) {
            for freeze in [false, true] {
                let id = number * IDS + n * 10 + u64::from(freeze);
                if plan.only.is_some_and(|only| only != id) || outcome.is_hopeless() {
                    continue;
                }
                let name = self.long.name;
                watch::begin(LIMIT_S, &format!("{name} at {n}; --only {id}"))?;
                match self.inject(path, *n, freeze, at as u64) {
                    Ok(()) => outcome.faults += 1,
                    Err(e) if e.is::<Missed>() => missed += 1,
                    Err(e) => {
                        let how = if freeze { "stopped" } else { "killed" };
                        let length = path.len();
                        outcome.violation(format!(
                            "{name} {how} at {n} of {length}: {e}; --only {id}"
                        ));
                    }
                }
            }
        }
        watch::end();
        let (name, length) = (self.long.name, path.len());
        outcome.demand(missed * 5 <= points.len(), || format!("{name}: {missed} points missed"));
        Ok(format!("{name} {} of {all} points of {length}", points.len()))
    }

    fn inject(&self, path: &Path, n: u64, freeze: bool, script: u64) -> Result<(), Failure> {
        let world = self.world;
        let mut child = self.start()?;
        // Where it sleeps for a change that never comes is the end of its way.
        if !path.reach(&mut child, n, false)? {
            // The place to run to may be one where the allocator went only when the way was recorded: step there.
            child = self.start()?;
            if path.len() > STEPS_MAX || !path.reach(&mut child, n, true)? {
                return Err(Box::new(Missed));
            }
        }
        let other = world.handle()?;
        let subject =
            named(if script.is_multiple_of(2) { "update, full" } else { "update, latest" })?;
        let before = world.key(subject.table, subject.key)?;
        let mut others = Others::new(world, &other, subject);
        others.corpse = self.long.corpse;
        if freeze {
            // Nobody else is steward while this one is stopped.
            others.play(if self.long.stored { 1 } else { script })?;
            run_out(child)?;
            others.look()?;
        } else {
            child.kill();
            others.look()?;
            others.go_on()?;
        }
        judge::fits(before, &others.events, Event { op: Op::Read, seen: Seen::Unknown }, false)?;
        let rows = others.rows;
        if self.long.stored {
            judge::settle_stored(world, other, None)
        } else {
            judge::settle(world, other, None, rows)
        }
    }
}
