//! Owners who are stopped or have forked: a stopped one keeps his lock and goes on later, a forked child neither has it
//! nor gives it back, and does not keep it from others when the owner is dead.

use std::convert::Infallible;

use commonhold_file::{FileError, LockError, Patience, SharedFile};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, fork};
use serde_json::json;

use super::{OLD, add, next, number, path};
use crate::child::{Child, Post};
use crate::{Failure, Outcome, Plan};

/// Makes this part.
pub(super) fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = stopped(plan)?;
    outcome.add(forked(plan)?);
    Ok(outcome)
}

fn is_held(done: &Result<(), FileError>) -> bool {
    matches!(done, Err(FileError::Lock(LockError::Held { .. })))
}

fn stopped(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let folder = plan.folder.join("stopped");
    std::fs::create_dir_all(&folder)?;
    let path = path(&folder);
    std::fs::write(&path, OLD)?;
    let mut owner = Child::start(|| {
        SharedFile::new(&path).update(|all| {
            let _ = raise(Signal::SIGSTOP);
            all["n"] = json!(10);
            Ok::<_, Infallible>(())
        })?;
        Ok(())
    })?;
    waitpid(owner.pid(), Some(WaitPidFlag::WUNTRACED))?;
    if plan.sabotaged("robbed") {
        std::fs::remove_file(path.with_file_name("human.jsonc.lock"))?;
    }
    let tried = add(&path, Patience::new().retries(10));
    outcome.demand(is_held(&tried), || format!("a stopped owner was robbed: {tried:?}"));
    owner.signal(Signal::SIGCONT)?;
    let ended = owner.wait()?;
    outcome.demand(ended == Some(0), || format!("a stopped owner could not go on: {ended:?}"));
    let n = number(&path);
    outcome.demand(n == Some(10), || format!("a stopped owner's change is not there: {n:?}"));
    outcome.faults += 1;
    outcome.figures = "a stopped owner kept his lock".to_owned();
    Ok(outcome)
}

fn forked(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let folder = plan.folder.join("forked");
    std::fs::create_dir_all(&folder)?;
    let path = path(&folder);
    std::fs::write(&path, OLD)?;
    let post = Post::new()?;
    let mut owner = Child::start(|| {
        let lock = SharedFile::new(&path).lock()?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => {
                post.hear(1, 1)?;
                let held = lock.is_held();
                post.tell(0, 1 + u64::from(held));
                post.hear(3, 1)?;
                drop(lock);
            }
            ForkResult::Child => {
                let has = lock.is_held();
                drop(lock);
                post.tell(1, 1 + u64::from(has));
                // It lives longer than its parent.
                let _ = post.hear(2, 1);
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) };
            }
        }
        Ok(())
    })?;
    post.hear(0, 1)?;
    outcome.demand(post.read(1) == 1, || "a forked child has its parent's lock".to_owned());
    outcome.demand(post.read(0) == 2, || "a forked child gave its parent's lock back".to_owned());
    let tried = add(&path, Patience::new().retries(5));
    outcome.demand(is_held(&tried), || format!("an owner who forked was robbed: {tried:?}"));
    owner.kill()?;
    next(&path, 1)
        .into_iter()
        .for_each(|wrong| outcome.violation(format!("an owner who forked was killed: {wrong}")));
    post.tell(2, 1);
    outcome.faults += 1;
    outcome.figures = "forked children neither have nor keep a lock".to_owned();
    Ok(outcome)
}
