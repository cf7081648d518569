//! Guards: holders that are killed and stand still after every instruction, and holders that are killed at random
//! while somebody waits.
//!
//! A forked child takes a guard, makes a change of several records and leaves; or it takes a guard whose holder died
//! with a change half made, finishes that, and leaves. It is *killed* after n instructions, and the next holder must find
//! all of the change or nothing; or it *stands* there while others want the guard: without a hold limit it keeps the
//! guard, with one it is fenced off, and then goes on.

mod scene;
mod timed;

use commonhold::Handle;
use commonhold_core::guard::{Grant, Patience, Previous};
use commonhold_core::row::Row;
use commonhold_segment::sync::Fault;

use super::spec::Op;
use super::world::TABLES;
use super::{LIMIT_S, Missed, WORKERS, judge, run_out};
use crate::random::Random;
use crate::trace::{Path, Stop, Traced};
use crate::{Bite, Check, Failure, Outcome, Plan, fork, watch};
use scene::{
    CROWDED, Came, FREE, Guarded, LIMITED, Next, ROOM, Said, Scene, Values, WITHIN, add, found,
    renew,
};

pub(super) use scene::delete;

/// Killed and standing after every instruction, and killed at random with a waiter.
pub(crate) const CHECK: Check = Check {
    name: "guard",
    about: "holders of a guard: SIGKILL and stop at every instruction of acquire, change, finish, release; 500 timed kills",
    run,
    bites: &[
        Bite::Fault(Fault::NoGuardSweep),
        Bite::Fault(Fault::NoRollForward),
        Bite::Fault(Fault::NoIntent),
        Bite::Fault(Fault::NoIntentBump),
        Bite::Fault(Fault::GuardSecondHolder),
    ],
    limit_s: 600,
};

/// What happens to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Stands,
}

/// One life of a holder.
struct Subject {
    name: &'static str,
    guarded: Guarded,
    next: Option<Next>,
    corpse: Option<Corpse>,
    fate: Fate,
}

/// A holder before, who was killed.
#[derive(Clone, Copy)]
struct Corpse {
    /// The change in the middle of which it died.
    next: Next,
    /// It was swept, and its entry is somebody else's by now.
    swept: bool,
}

const LEFT: Option<Corpse> = Some(Corpse { next: add, swept: false });
const SWEPT: Option<Corpse> = Some(Corpse { next: add, swept: true });
const RENEWED: Option<Corpse> = Some(Corpse { next: renew, swept: true });

const NO_ROOM: Option<Corpse> = Some(Corpse { next: found, swept: true });

const SUBJECTS: [Subject; 11] = [
    subject("change", FREE, Some(add), None, Fate::Killed),
    subject("change, insert, delete", FREE, Some(renew), None, Fate::Killed),
    subject("finish a change", FREE, None, LEFT, Fate::Killed),
    subject("finish a change of one who was swept", FREE, None, SWEPT, Fate::Killed),
    subject("finish a change, insert, delete", FREE, None, RENEWED, Fate::Killed),
    subject("no room", CROWDED, Some(found), None, Fate::Killed),
    subject("stand", FREE, Some(add), None, Fate::Stands),
    subject("fenced", LIMITED, Some(add), None, Fate::Stands),
    subject("fenced without room", CROWDED, Some(found), None, Fate::Stands),
    subject("fenced while it finishes without room", CROWDED, None, NO_ROOM, Fate::Stands),
    subject("fenced while it finishes", LIMITED, Some(add), SWEPT, Fate::Stands),
];

const fn subject(
    name: &'static str,
    guarded: Guarded,
    next: Option<Next>,
    corpse: Option<Corpse>,
    fate: Fate,
) -> Subject {
    Subject { name, guarded, next, corpse, fate }
}

/// How others come to a killed child's guard.
const SCRIPTS: u64 = 3;
/// About so many points of each subject in the fast part, beside those where something happens.
const SAMPLE: u64 = 40;

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut all = fork::share(WORKERS, &fork::processors()?, |worker| {
        let folder = plan.folder.join(worker.to_string());
        std::fs::create_dir(&folder)?;
        let scene = Scene::build(&folder)?;
        let mut outcome = Outcome::default();
        let mut instructions = 0;
        for (number, subject) in SUBJECTS.iter().enumerate() {
            let stage = Stage::new(&scene, subject)?;
            instructions += stage.path.len();
            stage.each(plan, worker, number as u64, &mut outcome)?;
        }
        if worker == 0 {
            let count = SUBJECTS.len();
            outcome.figures = format!("{count} lives of {instructions} instructions");
        }
        Ok(outcome)
    })?;
    if plan.only.is_none() && !all.is_hopeless() {
        all.add(timed::run(plan)?);
    }
    Ok(all)
}

/// One subject on its scene.
struct Stage<'a> {
    scene: &'a Scene,
    subject: &'a Subject,
    /// The way of the corpse, and where it dies: behind the decision, with its change half made.
    death: Option<(Path, u64)>,
    path: Path,
    /// The values in the first state.
    before: Values,
}

impl<'a> Stage<'a> {
    fn new(scene: &'a Scene, subject: &'a Subject) -> Result<Self, Failure> {
        scene.restore();
        let before = subject.guarded.peek(&scene.world)?;
        let mut stage = Self { scene, subject, death: None, path: Path::default(), before };
        if let Some(Corpse { next, .. }) = subject.corpse {
            let (path, half) = stage.record(Some(next), &next(&stage.before))?;
            // Where there is no room, before that is found.
            let part = if subject.guarded == CROWDED { 8 } else { 2 };
            let middle = half.get(half.len() / part).ok_or("a change is never half made")?;
            stage.death = Some((path, *middle));
        }
        scene.restore();
        stage.path = stage.record(subject.next, &Vec::new())?.0;
        Ok(stage)
    }

    /// The way of a child, and after which instructions the values are neither those of before nor `due`.
    fn record(&self, next: Option<Next>, due: &Values) -> Result<(Path, Vec<u64>), Failure> {
        let (scene, guarded) = (self.scene, &self.subject.guarded);
        self.leave_corpse()?;
        let _other = scene.world.handle()?;
        let mut child = scene.start(guarded, next)?;
        let mut last = scene.world.words();
        let (mut n, mut is_half, mut half) = (0, false, Vec::new());
        let path = Path::record(&mut child, || {
            let changed = scene.world.changed(&mut last);
            if changed && self.subject.corpse.is_some() {
                let found = guarded.peek(&scene.world);
                is_half = found.is_ok_and(|found| found != self.before && found != *due);
            }
            n += 1;
            half.extend(is_half.then_some(n));
            changed
        })?;
        match child.run()? {
            Stop::Ended(0) => Ok((path, half)),
            other => Err(format!("{}: {other:?}", self.subject.name).into()),
        }
    }

    /// From the first state: somebody dies in the middle of a change, if this life comes after a death.
    fn leave_corpse(&self) -> Result<(), Failure> {
        let (Some((path, half)), Some(corpse)) = (&self.death, self.subject.corpse) else {
            return Ok(());
        };
        for stepwise in [false, true] {
            self.scene.restore();
            // Its life was recorded, and is lived, beside another one's handle.
            let other = self.scene.world.handle()?;
            let mut child = self.scene.start(&self.subject.guarded, Some(corpse.next))?;
            let reached = path.reach(&mut child, *half, stepwise)?;
            child.kill();
            drop(other);
            self.scene.forget();
            let found = self.subject.guarded.peek(&self.scene.world)?;
            if !reached || found == self.before || found == (corpse.next)(&self.before) {
                continue;
            }
            if corpse.swept {
                self.scene.world.space().reap(true)?;
            }
            return Ok(());
        }
        Err(Box::new(Missed))
    }

    fn each(
        &self,
        plan: &Plan,
        worker: usize,
        number: u64,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let mut random = Random::of(plan.seed, number);
        let length = self.path.len();
        let happens = self.path.points((0..SAMPLE).map(|_| random.next()));
        let (mut missed, mut done) = (0, 0);
        for n in (0..=length).filter(|n| plan.long || happens.contains(n)) {
            for script in 0..plan.of(1, SCRIPTS) {
                let script = (n + script + plan.seed) % SCRIPTS;
                let id = (number * 10_000_000 + n) * 10 + script;
                let mine = n % WORKERS as u64 == worker as u64;
                if plan.only.map_or(!mine, |only| only != id) || outcome.is_hopeless() {
                    continue;
                }
                let name = self.subject.name;
                watch::begin(LIMIT_S, &format!("{name} at {n}; --only {id}"))?;
                let judged = match self.inject(n, script, false) {
                    Err(e) if e.is::<Missed>() => self.inject(n, script, true),
                    other => other,
                };
                match judged {
                    Ok(()) => done += 1,
                    Err(e) if e.is::<Missed>() => missed += 1,
                    Err(e) => {
                        outcome.violation(format!("{name} at {n} of {length}: {e}; --only {id}"));
                    }
                }
            }
        }
        watch::end();
        outcome.faults += done;
        outcome.demand(missed * 100 <= done.max(100), || {
            format!("{}: {missed} of {done} instructions were not met", self.subject.name)
        });
        Ok(())
    }

    fn inject(&self, n: u64, script: u64, stepwise: bool) -> Result<(), Failure> {
        let (scene, subject) = (self.scene, self.subject);
        scene.restore();
        self.leave_corpse()?;
        let other = scene.world.handle()?;
        let mut child = scene.start(&subject.guarded, subject.next)?;
        if !self.path.reach(&mut child, n, stepwise)? {
            return Err(Box::new(Missed));
        }
        let before = &self.before;
        let crowded = subject.guarded == CROWDED;
        let corpse = subject.corpse.filter(|_| !crowded);
        let decided = corpse.map_or(before.clone(), |corpse| (corpse.next)(before));
        let rows = match subject.fate {
            Fate::Killed => {
                child.kill();
                self.next_after_death(&other, script, decided)?;
                Default::default()
            }
            Fate::Stands => {
                let rows = self.make_room(&other, script)?;
                self.others_meanwhile(&other, child, script, decided)?;
                rows
            }
        };
        judge::find_dead(&scene.world, None)?;
        let left = scene.world.space().intents_in_use()?;
        if left > 0 {
            return Err(format!("{left} pages of intents are leaked").into());
        }
        judge::settle(&scene.world, other, Some(0), rows)
    }

    /// The next holder gets the guard, is told, and finds a change wholly or not at all.
    fn next_after_death(
        &self,
        other: &Handle,
        script: u64,
        decided: Values,
    ) -> Result<(), Failure> {
        let (scene, guarded, before) = (self.scene, &self.subject.guarded, &self.before);
        let space = scene.world.space();
        let mut crowd = Vec::new();
        if script == 1 {
            // The dead one's entry belongs to somebody else when the guard is taken.
            space.reap(true)?;
            while let Ok(handle) = scene.world.handle() {
                crowd.push(handle);
            }
        }
        let made = self.subject.next.map(|next| next(&decided));
        if script == 2 {
            // Nobody wants the guard: the steward.
            space.reap(true)?;
            other.finish_left_intents()?;
            let found = guarded.peek(&scene.world)?;
            if found != decided && Some(&found) != made.as_ref() {
                return Err(format!("the steward leaves {found:?} of {before:?}").into());
            }
        }
        let judged = guarded.with(other, WITHIN, |grant| {
            let found = guarded.look(other, grant)?;
            self.judge(grant.previous, &found, &decided, made.as_ref())?;
            guarded.change(other, grant, add)?;
            let now = guarded.look(other, grant)?;
            if now != add(&found) {
                return Err(format!("a change of {found:?} makes {now:?}").into());
            }
            Ok(())
        })?;
        judged.ok_or_else(|| "the guard was not taken".into())
    }

    /// What the next holder is told, and finds.
    fn judge(
        &self,
        previous: Previous,
        found: &Values,
        decided: &Values,
        made: Option<&Values>,
    ) -> Result<(), Failure> {
        let (came, said) = (self.scene.came(), self.scene.said());
        // Of a limited guard it may be seen first that it was held for too long.
        let limit = self.subject.guarded.name == LIMITED.name && previous == Previous::Fenced;
        let told = previous == Previous::Died || limit;
        if (came == Came::Inside && !told) || (came == Came::Left && told) {
            return Err(format!("it came to {came:?}, and {previous:?} is told").into());
        }
        let whole = match (made, said) {
            (Some(made), Said::Made) => found == made,
            (_, Said::NoRoom) => found == decided,
            (made, _) => found == decided || Some(found) == made,
        };
        if whole {
            return Ok(());
        }
        let before = &self.before;
        Err(format!("a holder finds {found:?} of {before:?}; it said {said:?}").into())
    }

    /// Meanwhile there may come room for what did not fit: what was drained then.
    fn make_room(&self, other: &Handle, script: u64) -> Result<[Vec<Row>; TABLES.len()], Failure> {
        if self.subject.guarded != CROWDED || script != 2 {
            return Ok(Default::default());
        }
        let world = &self.scene.world;
        world.act(other, ROOM.0, ROOM.1, Op::Delete)?;
        Ok(world.drain(other)?)
    }

    /// Others want the guard while the child stands, and then it goes on.
    fn others_meanwhile(
        &self,
        other: &Handle,
        child: Traced,
        script: u64,
        decided: Values,
    ) -> Result<(), Failure> {
        let (scene, guarded) = (self.scene, &self.subject.guarded);
        let (came, limited) = (scene.came(), guarded.name == LIMITED.name);
        let inside = came == Came::Inside;
        let mut due = decided;
        for round in 0..2 {
            let patience = if limited { WITHIN } else { Patience::Try };
            let taken = guarded.with(other, patience, |grant| {
                if inside && (!limited || (round == 0 && grant.previous != Previous::Fenced)) {
                    return Err(format!("another is inside, told {:?}", grant.previous).into());
                }
                // Who only looks keeps the one who was fenced off from committing, too.
                match script {
                    0 => guarded.look(other, grant).map(drop)?,
                    _ => guarded.change(other, grant, add)?,
                }
                Ok(())
            });
            let taken = match taken {
                // The guard waits for room, as long as the one who was fenced off is there.
                Err(e) if self.subject.guarded == CROWDED && is_unfinished(&e) => None,
                other => other?,
            };
            if taken.is_some() {
                due = if script == 0 { due } else { add(&due) };
            } else if came == Came::Left {
                return Err("it has left, and the guard is not free".into());
            }
        }
        run_out(child)?;
        let corpse = self.subject.corpse.filter(|_| self.subject.guarded == CROWDED);
        let mut either = corpse.map(|corpse| (corpse.next)(&due));
        if let Some(next) = self.subject.next {
            match scene.said() {
                Said::Made => due = next(&due),
                Said::Open if limited => either = Some(next(&due)),
                Said::Fenced if limited => {}
                Said::NoRoom if self.subject.guarded == CROWDED => {}
                other => return Err(format!("when it went on its change was {other:?}").into()),
            }
        }
        let look = |grant: &Grant| Ok(guarded.look(other, grant)?);
        let found = guarded.with(other, WITHIN, look)?.unwrap_or_default();
        if found != due && Some(&found) != either.as_ref() {
            let made = scene.said();
            return Err(format!("{found:?} is there, not {due:?}; it said {made:?}").into());
        }
        Ok(())
    }
}

fn is_unfinished(error: &Failure) -> bool {
    matches!(error.downcast_ref(), Some(commonhold::Error::Unfinished { .. }))
}
