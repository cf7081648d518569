//! One process updates the file, and is killed before each of its system calls, or the call fails; then comes the next
//! update. Once for each kind of update (scene.rs).
//!
//! **Time**: the next update is to be made within 50 ms. The machine may have other things to do, so a step whose next
//! update takes longer is made again: it is a violation when it takes longer three times.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::path;
use super::scene::{Scene, is_exchange, race};
use crate::syscalls::{self, Action, Call, End, Watcher};
use crate::{Failure, Outcome, Plan, child};

/// What a call suffers.
const ACTIONS: [Action; 5] = [
    Action::Kill,
    Action::Fail(libc::EIO),
    Action::Fail(libc::ENOSPC),
    Action::Fail(libc::EINTR),
    Action::Short,
];
/// After a death the next update is made within this.
const NEXT: Duration = Duration::from_millis(50);
/// So often a step is made whose next update takes longer.
const REPEATS: usize = 3;
/// More calls than this no update makes.
const CALLS_MAX: u64 = 2000;
/// Calls on memory, on threads and for the end: who has no memory is killed, which is another fault.
const NOT_FILES: [i64; 12] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_futex,
    libc::SYS_rt_sigprocmask,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
];

/// Does `action` at call number `at`.
struct Fault {
    at: u64,
    action: Action,
    calls: u64,
    happened: bool,
    /// The file over which somebody renames his version before the first exchange, and whether he did.
    race: Option<PathBuf>,
    raced: bool,
    /// His version is in the backup alone.
    only_in_backup: bool,
    /// Why he could not.
    broken: Option<Failure>,
}

impl Fault {
    fn new(at: u64, action: Action, race: Option<PathBuf>) -> Self {
        let (calls, happened, raced, only_in_backup, broken) = (0, false, false, false, None);
        Self { at, action, calls, happened, race, raced, only_in_backup, broken }
    }
}

impl Watcher for Fault {
    fn before(&mut self, child: &syscalls::Child, call: &Call) -> Action {
        self.calls += 1;
        if let Some(path) = self.race.take_if(|path| is_exchange(child, call, path)) {
            self.raced = true;
            self.broken = race(&path).err();
        }
        let suits = match self.action {
            Action::Kill => true,
            Action::Short => syscalls::is_write(call),
            _ => !NOT_FILES.contains(&call.number),
        };
        if self.calls == self.at && suits {
            self.happened = true;
            return self.action;
        }
        Action::Go
    }

    fn behind(&mut self, _: &syscalls::Child, _: &Call, _: i64) {}
}

/// What all steps showed.
#[derive(Default)]
struct Tally {
    kills: u64,
    failures: u64,
    races: u64,
    /// How often a change in between was in the backup alone afterwards.
    backups: u64,
    /// Of each next update.
    took: Vec<Duration>,
}

/// Makes this part.
pub(super) fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let (mut outcome, mut tally) = (Outcome::default(), Tally::default());
    for (round, scene) in (0..).zip(Scene::ALL) {
        let races = tally.races;
        for at in 1..CALLS_MAX {
            let mut reached = false;
            for (which, action) in (0..).zip(ACTIONS) {
                let number = (round * CALLS_MAX + at) * ACTIONS.len() as u64 + which;
                // The fast part kills at each call, and lets one of four fail in one way.
                let fails = at.wrapping_add(plan.seed).is_multiple_of(4) && at / 4 % 4 + 1 == which;
                let sampled = plan.long || action == Action::Kill || fails;
                if !sampled || plan.only.is_some_and(|only| only != number) {
                    reached |= plan.only.is_some();
                    continue;
                }
                let place = format!("{scene:?}: {action:?} at call {at}; --only {number}");
                reached |= step(plan, scene, (at, action), &place, &mut outcome, &mut tally)?;
            }
            if !reached || outcome.is_hopeless() {
                break;
            }
        }
        if scene == Scene::Merge && plan.only.is_none() && !outcome.is_hopeless() {
            outcome.demand(tally.races > races, || "nobody raced: no exchange was seen".to_owned());
        }
    }
    outcome.figures = tally.figures();
    Ok(outcome)
}

impl Tally {
    fn figures(mut self) -> String {
        self.took.sort_unstable();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let slow = self.took.iter().filter(|took| **took > NEXT).count();
        let (median, worst) = (ms(self.took.get(self.took.len() / 2)), ms(self.took.last()));
        let Self { kills, failures, races, backups, .. } = self;
        format!(
            "{kills} kills, {failures} failed calls, {races} changes in between ({backups} in the \
             backup alone); next update: median {median:.1} ms, \
             worst {worst:.1} ms, {slow} of {} over 50 ms",
            self.took.len()
        )
    }
}

/// One step, again if its next update is slow; whether the child came to that call.
fn step(
    plan: &Plan,
    scene: Scene,
    (at, action): (u64, Action),
    place: &str,
    outcome: &mut Outcome,
    tally: &mut Tally,
) -> Result<bool, Failure> {
    let mut slow = Vec::new();
    let mut reached = false;
    while slow.len() < REPEATS {
        let folder = plan.folder.join("step");
        std::fs::create_dir_all(&folder)?;
        let path = path(&folder);
        let race = (scene == Scene::Merge).then(|| path.clone());
        let mut fault = Fault::new(at, action, race);
        let took = one(plan, scene, &path, &mut fault, place, outcome)?;
        std::fs::remove_dir_all(&folder)?;
        if let Some(broken) = fault.broken {
            return Err(broken);
        }
        reached |= fault.calls >= at;
        outcome.faults += u64::from(fault.happened);
        let count = if action == Action::Kill { &mut tally.kills } else { &mut tally.failures };
        *count += u64::from(fault.happened);
        tally.races += u64::from(fault.raced);
        tally.backups += u64::from(fault.only_in_backup);
        tally.took.extend(took);
        match took.filter(|took| *took > NEXT) {
            Some(took) => slow.push(took.as_millis()),
            None => return Ok(reached),
        }
    }
    outcome.violation(format!("the next update took {slow:?} ms each time: {place}"));
    Ok(reached)
}

/// One child that suffers the fault, and the update after it: how long that took, if there was one.
fn one(
    plan: &Plan,
    scene: Scene,
    path: &Path,
    fault: &mut Fault,
    place: &str,
    outcome: &mut Outcome,
) -> Result<Option<Duration>, Failure> {
    scene.plant(path)?;
    let post = child::Post::new()?;
    let mut child = syscalls::Child::start(|| {
        post.tell(0, 1 + u64::from(scene.live(plan, path)));
        true
    })?;
    let end = child.run(fault)?;
    drop(child);
    let (acknowledged, raced) = (post.read(0) == 2, fault.raced);
    outcome.demand(end != End::Badly, || format!("it died: {place}"));
    let now = match scene.read(path) {
        Ok(now) => now,
        Err(there) => {
            outcome.violation(format!("no whole version: {there:?}: {place}"));
            return Ok(None);
        }
    };
    let told = format!("acknowledged {acknowledged}, theirs in between {raced}");
    outcome.demand(scene.is_sound(now, acknowledged, raced), || {
        format!("{told}, but it is {now:?}: {place}")
    });
    fault.only_in_backup = !acknowledged && Scene::is_only_in_backup(path, now, raced);
    let raced = raced && !fault.only_in_backup;
    let start = Instant::now();
    let done = scene.update(path);
    if plan.sabotaged("slow") {
        std::thread::sleep(NEXT);
    }
    let took = start.elapsed();
    if let Err(e) = done {
        outcome.violation(format!("the next update: {e}: {place}"));
    }
    let next = scene.read(path);
    let sound =
        next.as_ref().is_ok_and(|next| scene.is_sound_next(now, *next, acknowledged, raced));
    outcome.demand(sound, || format!("{told}, {now:?}, but the next made it {next:?}: {place}"));
    let left = scene.left(path)?;
    outcome.demand(left.is_empty(), || format!("{left:?} is left: {place}"));
    Ok(Some(took))
}
