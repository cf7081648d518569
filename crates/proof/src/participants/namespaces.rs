//! Participants of another pid namespace: nobody can tell from outside whether they live, so only their locks count.
//!
//! Once with a `/proc` of the namespace's own, once with the outer one, where the namespace's numbers belong to others.

use commonhold_core::catalogue::History;
use commonhold_core::{Handle, Space};
use commonhold_os::process::Liveness;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::child::{Child, Post};
use crate::linear::stage::Stage;
use crate::participants::deaths::pause;
use crate::participants::reuse::LAST_PID;
use crate::participants::{commit, namespaces_permitted, owned};
use crate::{Failure, Outcome, Plan};

/// Words of the post: how far each side is, and who the inner processes are.
const INNER: usize = 0;
const OUTER: usize = 1;
const SECOND: usize = 2;
/// A process outside with the number of the second one inside; said when that one is there, and when this one is gone.
const NAMESAKE: usize = 3;
const BORN: usize = 4;
const BURIED: usize = 5;

/// The part.
pub(super) fn namespaces(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    if !namespaces_permitted(&mut outcome, "pid namespaces")? {
        return Ok(outcome);
    }
    let rounds = plan.of(20, 200);
    for round in 0..rounds {
        let own_proc = round % 2 == 0;
        let stage = Stage::sized(plan.folder.join("namespaces"), History::Latest, 3, 8)?;
        if let Err(e) = both_sides(&stage, own_proc) {
            outcome.violation(format!("namespaces, round {round}, own /proc {own_proc}: {e}"));
            break;
        }
        std::fs::remove_file(stage.path())?;
    }
    outcome.faults = rounds * 3;
    outcome.figures = format!("{rounds} pid namespaces, half of them without their own /proc");
    Ok(outcome)
}

fn both_sides(stage: &Stage, own_proc: bool) -> Result<(), Failure> {
    let post = Post::new()?;
    let space = stage.attach()?;
    let handle = Handle::open(&space)?;
    commit(stage, &handle)?;
    commit(stage, &handle)?;
    let mut namesake = Child::start(|| pause())?;
    post.tell(NAMESAKE, namesake.pid().as_raw() as u64);
    let mut supervisor = Child::start_apart(own_proc, || inside(stage, post))?;
    post.hear(BORN, 1)?;
    namesake.kill()?;
    post.tell(BURIED, 1);
    post.hear(INNER, 1)?;
    // Two inside, who say that nobody is dead; neither does anybody here.
    demand_living(&space, 3, Liveness::Unknown, &[handle.entry_index()])?;
    let swept = space.reap(true)?;
    if swept.participants + swept.cells > 0 {
        return Err(format!("those inside were swept from outside: {swept:?}").into());
    }
    commit(stage, &handle)?;
    // One dies here, and is swept from inside.
    let outer_victim = Child::start(|| {
        let handle = Handle::open(&stage.attach()?)?;
        commit(stage, &handle)?;
        commit(stage, &handle)?;
        post.tell(OUTER, 1);
        pause()
    })?;
    post.hear(OUTER, 1)?;
    drop(outer_victim);
    post.tell(OUTER, 2);
    post.hear(INNER, 2)?;
    // Those inside die, and are swept from here, by their locks alone.
    let inner = pid_of_child(supervisor.pid())?;
    kill(inner, Signal::SIGKILL)?;
    supervisor.wait()?;
    let swept = space.reap(false)?;
    if swept.participants != 2 || owned(&space)? != 1 {
        return Err(format!("the dead of another namespace were not swept: {swept:?}").into());
    }
    commit(stage, &handle)?;
    Ok(())
}

/// The namespace's first process, and a second one.
fn inside(stage: &Stage, post: Post) -> Result<(), Failure> {
    let space = stage.attach()?;
    let handle = Handle::open(&space)?;
    commit(stage, &handle)?;
    commit(stage, &handle)?;
    // Where `/proc` is the outer one, it shows another process under the second one's number, and then none.
    let number = post.read(NAMESAKE);
    std::fs::write(LAST_PID, (number - 1).to_string())?;
    let second = Child::start(|| {
        let handle = Handle::open(&stage.attach()?)?;
        commit(stage, &handle)?;
        commit(stage, &handle)?;
        post.tell(SECOND, u64::from(handle.entry_index()) + 1);
        post.hear(INNER, 2)?; // by then somebody tried to sweep it
        commit(stage, &handle)?;
        pause()
    })?;
    post.hear(SECOND, 1)?;
    if u64::try_from(second.pid().as_raw())? != number {
        return Err(format!("the second one has the number {}, not {number}", second.pid()).into());
    }
    post.tell(BORN, 1);
    post.hear(BURIED, 1)?;
    let entry = post.read(SECOND) as u16 - 1;
    demand_living(&space, 3, Liveness::Unknown, &[handle.entry_index(), entry])?;
    let swept = space.reap(true)?;
    if swept.participants + swept.cells > 0 {
        return Err(format!("somebody living was swept from inside: {swept:?}").into());
    }
    commit(stage, &handle)?;
    post.tell(INNER, 1);
    post.hear(OUTER, 2)?;
    let swept = space.reap(false)?;
    if swept.participants != 1 {
        return Err(format!("the dead one outside was not swept: {swept:?}").into());
    }
    commit(stage, &handle)?;
    post.tell(INNER, 2);
    pause()
}

/// There are `count` participants: `ours` alive, the others as `others` says.
fn demand_living(
    space: &Space,
    count: usize,
    others: Liveness,
    ours: &[u16],
) -> Result<(), Failure> {
    let there = space.participants();
    let due = |entry| if ours.contains(&entry) { Liveness::Alive } else { others };
    if there.len() != count || there.iter().any(|p| p.liveness != due(p.entry)) {
        return Err(format!("{ours:?} are alive here: {there:?}").into());
    }
    Ok(())
}

/// The only child of a process.
pub(super) fn pid_of_child(parent: Pid) -> Result<Pid, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let first = text.split_whitespace().next().ok_or("the supervisor has no child")?;
    Ok(Pid::from_raw(first.parse()?))
}
