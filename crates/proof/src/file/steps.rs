//! One process updates the file, and is killed before each of its system calls, or the call fails; in a second round
//! there is the lock of a dead one to be removed first.

use std::path::Path;
use std::time::Duration;

use commonhold_file::{Patience, SharedFile};

use super::{OLD, PATIENCE, add, next, path, text, whole};
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
}

impl Watcher for Fault {
    fn before(&mut self, _: &syscalls::Child, call: &Call) -> Action {
        self.calls += 1;
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

/// Makes this part.
pub(super) fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let (mut kills, mut failures, mut worst, mut number) = (0, 0, Duration::ZERO, 0);
    for stale in [false, true] {
        for at in 1..CALLS_MAX {
            let mut reached = false;
            for (which, action) in (0..).zip(ACTIONS) {
                number += 1;
                // The fast part kills at each call, and lets one of four fail in one way.
                let fails = at.wrapping_add(plan.seed).is_multiple_of(4) && at / 4 % 4 + 1 == which;
                let sampled = plan.long || action == Action::Kill || fails;
                if !sampled || plan.only.is_some_and(|only| only != number) {
                    reached |= plan.only.is_some_and(|only| only > number);
                    continue;
                }
                let fault = Fault { at, action, calls: 0, happened: false };
                let place = format!("{action:?} at call {at}, stale lock {stale}; --only {number}");
                let (done, took) = one(plan, stale, fault, &place, &mut outcome)?;
                reached |= done.calls >= at;
                worst = worst.max(took);
                outcome.faults += u64::from(done.happened);
                let count = if action == Action::Kill { &mut kills } else { &mut failures };
                *count += u64::from(done.happened);
            }
            if !reached || outcome.is_hopeless() {
                break;
            }
        }
    }
    let worst = worst.as_secs_f64() * 1e3;
    outcome.figures = format!(
        "{kills} kills, {failures} failed calls, next update within {worst:.1} ms (target 50)"
    );
    Ok(outcome)
}

/// One child that suffers the fault, and the update after it.
fn one(
    plan: &Plan,
    stale: bool,
    mut fault: Fault,
    place: &str,
    outcome: &mut Outcome,
) -> Result<(Fault, Duration), Failure> {
    let folder = plan.folder.join("step");
    std::fs::create_dir_all(&folder)?;
    let path = path(&folder);
    std::fs::write(&path, OLD)?;
    if stale {
        abandon(&path)?;
    }
    let post = child::Post::new()?;
    let mut child = syscalls::Child::start(|| {
        post.tell(0, 1 + u64::from(life(plan, &path)));
        true
    })?;
    let end = child.run(&mut fault)?;
    drop(child);
    let acknowledged = post.read(0) == 2;
    outcome.demand(end != End::Badly, || format!("it died: {place}"));
    let now = whole(&path, [1, 2]);
    outcome.demand(now.is_some(), || {
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        format!("neither the old nor the new version: {there:?}: {place}")
    });
    outcome.demand(!acknowledged || now == Some(2), || {
        format!("acknowledged, but not there: {place}")
    });
    let mut took = Duration::ZERO;
    if let Some(now) = now {
        let (wrong, time) = next(&path, now);
        took = time;
        wrong.into_iter().for_each(|wrong| outcome.violation(format!("{wrong}: {place}")));
    }
    std::fs::remove_dir_all(&folder)?;
    Ok((fault, took))
}

/// What the child does: one update.
fn life(plan: &Plan, path: &Path) -> bool {
    if plan.sabotaged("in-place") {
        return std::fs::write(path, text(2)).is_ok();
    }
    let done = add(path, Patience::new().limit(PATIENCE)).is_ok();
    done || plan.sabotaged("unsynced-result")
}

/// Leaves the lock of a process that was killed.
pub(super) fn abandon(path: &Path) -> Result<(), Failure> {
    let post = child::Post::new()?;
    let mut holder = child::Child::start(|| {
        let lock = SharedFile::new(path).lock()?;
        post.tell(0, 1);
        post.hear(1, 1)?;
        drop(lock);
        Ok(())
    })?;
    post.hear(0, 1)?;
    holder.kill()?;
    Ok(())
}
