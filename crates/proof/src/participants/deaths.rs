//! Deaths that look like life: zombies, children that hold what they inherited; and a segment that is removed under a
//! forked child.

use commonhold_core::catalogue::History;
use commonhold_core::space::LOCK_USAGE;
use commonhold_core::{Error, Handle, Space};
use commonhold_os::lock::{LockFile, Mode};
use commonhold_os::process::Liveness;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::child::{Child, Post};
use crate::linear::stage::Stage;
use crate::participants::{commit, owned};
use crate::{Failure, Outcome, Plan};

/// Waits for a signal that ends it.
pub(super) fn pause() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Killed participants that nobody waits for.
pub(super) fn zombies(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let stage = Stage::sized(plan.folder.join("zombies"), History::Latest, 3, 8)?;
    let space = stage.attach()?;
    let rounds = plan.of(50, 1000);
    let mut taken_for_alive = 0;
    for round in 1..=rounds {
        let post = Post::new()?;
        let child = Child::start(|| {
            let handle = Handle::open(&stage.attach()?)?;
            commit(&stage, &handle)?;
            commit(&stage, &handle)?;
            post.tell(0, 1);
            pause()
        })?;
        post.hear(0, 1)?;
        child.kill_unreaped()?;
        taken_for_alive += u64::from(kill(child.pid(), None).is_ok());
        let there = space.participants();
        let dead = there.iter().all(|p| p.liveness == Liveness::Dead) && there.len() == 1;
        outcome.demand(dead, || format!("zombies, round {round}: {there:?}"));
        let swept = space.reap(false)?;
        outcome.demand(swept.participants == 1 && owned(&space)? == 0, || {
            format!("zombies, round {round}: swept {swept:?}")
        });
    }
    outcome.faults = rounds;
    outcome.figures = format!("{rounds} zombies (kill(pid, 0) says alive: {taken_for_alive})");
    Ok(outcome)
}

/// A process without `pthread_atfork` handlers, which pauses; its id.
fn raw_clone() -> Result<i32, Failure> {
    // SAFETY: `clone` as fork makes it, without a new stack; the child calls only what is safe after a fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    match i32::try_from(pid)? {
        0 => pause(),
        pid if pid > 0 => Ok(pid),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// A child by `fork`, which never calls us and pauses; its id. It has closed its parent's locks when this returns.
fn plain_fork(post: Post) -> Result<i32, Failure> {
    // SAFETY: this process has one thread; the child only pauses.
    match unsafe { libc::fork() } {
        0 => {
            post.tell(2, 1);
            pause()
        }
        pid if pid > 0 => post.hear(2, 1).map(|()| pid),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// The parent dies, its child lives on and never calls us.
pub(super) fn forks(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let stage = Stage::sized(plan.folder.join("forks"), History::Latest, 3, 8)?;
    let space = stage.attach()?;
    let rounds = plan.of(50, 1000);
    for round in 1..=rounds {
        let raw = round % 2 == 0;
        let post = Post::new()?;
        let naughty = raw || plan.sabotaged("raw-fork");
        let mut parent = Child::start(|| {
            let handle = Handle::open(&stage.attach()?)?;
            commit(&stage, &handle)?;
            commit(&stage, &handle)?;
            let child = if naughty { raw_clone()? } else { plain_fork(post)? };
            post.tell(1, child as u64);
            pause()
        })?;
        post.hear(1, 1)?;
        let orphan = Pid::from_raw(post.read(1) as i32);
        parent.kill()?;
        let verdict = if raw { orphan_of_clone(&space) } else { orphan_of_fork(&space) };
        outcome.demand(kill(orphan, None).is_ok(), || "forks: the orphan is gone".to_owned());
        kill(orphan, Signal::SIGKILL)?;
        if let Err(e) = verdict {
            outcome.violation(format!("forks, round {round}, raw clone {raw}: {e}"));
        }
        await_swept(&space)?;
    }
    outcome.faults = rounds;
    outcome.figures = format!("{rounds} orphans, half of them by raw clone");
    Ok(outcome)
}

/// The child closed the parent's locks: the entry is free at once.
fn orphan_of_fork(space: &Space) -> Result<(), Failure> {
    let swept = space.reap(false)?;
    let there = space.participants().len();
    if swept.participants != 1 || there != 0 || owned(space)? != 0 {
        return Err(format!("swept {swept:?}, {there} entries are left").into());
    }
    Ok(())
}

/// The clone holds the parent's locks: what the dead had is freed at once, its entry with the clone's end.
fn orphan_of_clone(space: &Space) -> Result<(), Failure> {
    let early = space.reap(false)?;
    let swept = space.reap(true)?;
    let there = space.participants().len();
    let cells = owned(space)?;
    if early.participants + swept.participants != 0 || there != 1 || cells != 0 {
        return Err(format!("swept {early:?}, {swept:?}; {there} entries, {cells} cells").into());
    }
    Ok(())
}

/// Reaps until nobody is left: the kernel takes a moment to end an orphan, whose parent is not this process.
fn await_swept(space: &Space) -> Result<(), Failure> {
    let start = std::time::Instant::now();
    while !space.participants().is_empty() {
        space.reap(false)?;
        if start.elapsed().as_secs() > 5 {
            return Err("an entry is left when all have ended".into());
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    Ok(())
}

/// A forked child calls us first when its parent is dead and the segment was removed: it must not commit to what
/// nobody else will ever see.
pub(super) fn removed(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let rounds = plan.of(20, 200);
    for round in 0..rounds {
        let path = plan.folder.join("removed");
        let stage = Stage::sized(path.clone(), History::Latest, 3, 8)?;
        let post = Post::new()?;
        let inherits = round % 2 == 0;
        let mut parent = Child::start(|| {
            let space = stage.attach()?;
            let handle = Handle::open(&space)?;
            commit(&stage, &handle)?;
            // SAFETY: this process has one thread.
            if unsafe { libc::fork() } == 0 {
                post.tell(0, u64::from(std::process::id()));
                post.hear(1, 1)?;
                let done = if inherits {
                    commit(&stage, &handle).map_err(|e| e.to_string())
                } else {
                    let opened = Handle::open(&space).map(drop).map(|()| 0);
                    opened.map_err(|e| e.to_string())
                };
                let due = Error::Removed.to_string();
                post.tell(2, if done.is_err_and(|text| text.contains(&due)) { 1 } else { 2 });
                pause()
            }
            pause()
        })?;
        post.hear(0, 1)?;
        parent.kill()?;
        let lock = LockFile::open_or_create(&path)?;
        let alone = lock.try_lock(LOCK_USAGE, Mode::Exclusive)?;
        outcome.demand(alone, || "removed: a dead parent's hold is left".to_owned());
        if round % 4 < 2 {
            std::fs::remove_file(&path)?;
            drop(lock); // it is removed for good
            post.tell(1, 1);
            post.hear(2, 1)?;
        } else {
            post.tell(1, 1); // it is just being removed
            post.hear(2, 1)?;
            std::fs::remove_file(&path)?;
        }
        outcome.demand(post.read(2) == 1, || {
            format!("removed, round {round}: a child works on a segment that was removed")
        });
        kill(Pid::from_raw(post.read(0) as i32), Signal::SIGKILL)?;
    }
    outcome.faults = rounds;
    outcome.figures = format!("{rounds} segments removed under a forked child");
    Ok(outcome)
}
