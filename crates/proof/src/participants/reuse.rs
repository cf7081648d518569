//! A pid that is given again: the dead participant's number belongs to somebody who lives, at times with the very same
//! start time.
//!
//! In a pid namespace of its own `ns_last_pid` says which number comes next. In every second round a raw clone holds
//! the victim's locks, so that its identity is the only evidence of its death.

use commonhold_core::Handle;
use commonhold_core::catalogue::History;
use commonhold_os::process::{Identity, Liveness};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::child::{Child, Post};
use crate::linear::stage::Stage;
use crate::participants::deaths::pause;
use crate::participants::{commit, namespaces_permitted, owned};
use crate::{Failure, Outcome, Plan};

/// The pid given last in this process's pid namespace; writable.
pub(super) const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// Words of the post: a round's news, then sums.
const READY: usize = 0;
const CLONE: usize = 1;
const REUSED: usize = 10;
const KILL_ERRS: usize = 11;
const START_ERRS: usize = 12;
const WRONG: usize = 13;

/// The part.
pub(super) fn reuse(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    if !namespaces_permitted(&mut outcome, "reused pids")? {
        return Ok(outcome);
    }
    let stage = Stage::sized(plan.folder.join("reuse"), History::Latest, 3, 8)?;
    let rounds = plan.of(300, 3000);
    let post = Post::new()?;
    let mut inside = Child::start_apart(true, || {
        (0..rounds).try_for_each(|round| reuse_one(plan, &stage, post, round))
    })?;
    let end = inside.wait()?;
    outcome.demand(end == Some(0), || "reuse: it could not be made".to_owned());
    let [reused, by_kill, by_start, wrong] =
        [REUSED, KILL_ERRS, START_ERRS, WRONG].map(|i| post.read(i));
    outcome.demand(reused >= rounds / 2, || format!("reuse: only {reused} pids came again"));
    outcome.demand(wrong == 0, || {
        format!("reuse: {wrong} of {reused} dead ones whose pid came again were taken for alive, or not swept")
    });
    outcome.faults = reused;
    outcome.figures = format!(
        "{reused} pids reused (kill(pid, 0) errs in {by_kill}, (pid, start time) in {by_start})"
    );
    Ok(outcome)
}

fn count(post: Post, at: usize, holds: bool) {
    post.tell(at, post.read(at) + u64::from(holds));
}

/// One victim and who gets its number.
fn reuse_one(plan: &Plan, stage: &Stage, post: Post, round: u64) -> Result<(), Failure> {
    let space = stage.attach()?;
    let held = round % 2 == 1;
    post.tell(READY, 0);
    let mut victim = Child::start(|| {
        let handle = Handle::open(&stage.attach()?)?;
        commit(stage, &handle)?;
        commit(stage, &handle)?;
        if held {
            // SAFETY: `clone` as fork makes it; the child only pauses.
            let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
            if pid == 0 {
                pause()
            }
            post.tell(CLONE, pid as u64);
        }
        post.tell(READY, 1);
        pause()
    })?;
    post.hear(READY, 1)?;
    let there = space.participants();
    let it = there.first().ok_or("the victim has no entry")?.identity;
    victim.kill()?;
    std::fs::write(LAST_PID, (victim.pid().as_raw() - 1).to_string())?;
    let usurper = Child::start(|| pause())?;
    if usurper.pid() == victim.pid() {
        count(post, REUSED, true);
        let same_start = start_of(usurper.pid())? == it.start_ticks;
        count(post, KILL_ERRS, kill(victim.pid(), None).is_ok());
        count(post, START_ERRS, same_start);
        count(post, WRONG, !judged_dead(plan, &it, same_start));
    }
    let swept = space.reap(true)?;
    let clean = owned(&space)? == 0 && swept.participants == u32::from(!held);
    count(post, WRONG, !clean);
    if held {
        // This process is the namespace's first: orphans are its children.
        let clone = Pid::from_raw(post.read(CLONE) as i32);
        kill(clone, nix::sys::signal::Signal::SIGKILL)?;
        nix::sys::wait::waitpid(clone, None)?;
        count(post, WRONG, space.reap(false)?.participants != 1);
    }
    Ok(())
}

/// What the evidence says, or what a simpler one would.
fn judged_dead(plan: &Plan, it: &Identity, same_start: bool) -> bool {
    if plan.sabotaged("trust-kill") {
        kill(Pid::from_raw(it.pid.cast_signed()), None).is_err()
    } else if plan.sabotaged("trust-start") {
        !same_start
    } else {
        it.find().0 == Liveness::Dead
    }
}

/// When a process started, in clock ticks since boot.
fn start_of(pid: Pid) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(fields.split_whitespace().nth(19).ok_or("no start time")?.parse()?)
}
