//! Entries claimed and freed as fast as can be, by the living and after the dead: there is always one for who comes,
//! as long as fewer live than there are entries.

use std::time::{Duration, Instant};

use commonhold_core::Handle;
use commonhold_core::catalogue::History;
use commonhold_core::space::LOCK_ENTRIES;
use commonhold_os::lock::Mode;
use nix::sys::signal::Signal;

use crate::child::{Child, Post};
use crate::linear::stage::Stage;
use crate::participants::commit;
use crate::participants::deaths::pause;
use crate::random::Random;
use crate::{Failure, Outcome, Plan};

/// Processes that come and go, each with one entry at a time.
const COMERS: usize = 4;
/// Processes that reap all the while.
const REAPERS: usize = 2;
/// One entry less would do if nobody died.
const PARTICIPANTS: u32 = COMERS as u32;

/// Opens handles, commits, and closes them, until it is told to stop.
fn come_and_go(stage: &Stage, post: Post, at: usize) -> Result<(), Failure> {
    let space = stage.attach()?;
    let mut random = Random::of(at as u64, u64::from(std::process::id()));
    while post.read(0) == 0 {
        match Handle::open(&space) {
            Ok(handle) => {
                if random.once_in(2) {
                    commit(stage, &handle)?;
                }
            }
            Err(e) => {
                eprintln!("storm: {e}");
                post.tell(1, post.read(1) + 1);
            }
        }
        post.tell(8 + at, post.read(8 + at) + 1);
    }
    Ok(())
}

fn reap_on(stage: &Stage, post: Post) -> Result<(), Failure> {
    let space = stage.attach()?;
    while post.read(0) == 0 {
        space.reap(true)?;
    }
    Ok(())
}

/// Who comes while a reaper holds the lock of the only entry, free or a dead one's, waits until it is given back.
fn passing(plan: &Plan, outcome: &mut Outcome) -> Result<u64, Failure> {
    let stage = Stage::sized(plan.folder.join("passing"), History::Latest, 3, 1)?;
    let space = stage.attach()?;
    let lock = space.segment().lock_file()?.ok_or("no file to lock")?;
    let mut random = Random::of(plan.seed, 78);
    let rounds = plan.of(20, 200);
    for round in 0..rounds {
        let post = Post::new()?;
        let come = |stay: bool| {
            Child::start(|| {
                let handle = Handle::open(&stage.attach()?)?;
                commit(&stage, &handle)?;
                post.tell(0, 1);
                if stay { pause() } else { Ok(()) }
            })
        };
        if round % 2 == 1 {
            let mut dead = come(true)?;
            post.hear(0, 1)?;
            dead.kill()?;
        }
        let held = lock.try_lock(LOCK_ENTRIES, Mode::Exclusive)?;
        outcome.demand(held, || "passing: somebody holds the entry".to_owned());
        let mut comer = come(false)?;
        let time = Duration::from_micros(random.below(20_000));
        post.doze(time);
        lock.unlock(LOCK_ENTRIES);
        let end = comer.wait()?;
        outcome.demand(end == Some(0), || {
            format!("passing, round {round}: an entry that was just being freed was not waited for")
        });
    }
    Ok(rounds)
}

/// The part.
pub(super) fn storm(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let waited = passing(plan, &mut outcome)?;
    let stage = Stage::sized(plan.folder.join("storm"), History::Latest, 3, PARTICIPANTS)?;
    let post = Post::new()?;
    let mut random = Random::of(plan.seed, 77);
    let come = |at| Child::start(|| come_and_go(&stage, post, at));
    let mut comers = (0..COMERS).map(come).collect::<Result<Vec<_>, _>>()?;
    let reap = |_| Child::start(|| reap_on(&stage, post));
    let mut reapers = (0..REAPERS).map(reap).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let length = Duration::from_secs(plan.of(3, 60));
    let mut kills = 0;
    while start.elapsed() < length && post.read(1) == 0 {
        let at = random.below(COMERS as u64) as usize;
        if let Some(victim) = comers.get_mut(at) {
            // At once, or after it has come and gone a few times.
            let due = post.read(8 + at) + random.below(3);
            post.hear(8 + at, due)?;
            (0..random.below(20_000)).for_each(|_| std::hint::spin_loop());
            if victim.has_ended()? {
                return Err("a process has died by itself".into());
            }
            victim.signal(Signal::SIGKILL)?;
            victim.wait()?;
            kills += 1;
            *victim = come(at)?;
        }
    }
    post.tell(0, 1);
    let ends = comers.iter_mut().chain(&mut reapers).map(Child::wait);
    let ends = ends.collect::<Result<Vec<_>, _>>()?;
    outcome.demand(ends.iter().all(|e| *e == Some(0)), || format!("storm: ended with {ends:?}"));
    let refused = post.read(1);
    outcome.demand(refused == 0, || {
        format!("storm: {refused} times no entry was free, with at most {COMERS} of {PARTICIPANTS} in use")
    });
    let space = stage.attach()?;
    space.reap(true)?;
    let there = space.participants();
    outcome.demand(there.is_empty(), || format!("storm: entries are left: {there:?}"));
    let handles: Result<Vec<_>, _> = (0..PARTICIPANTS).map(|_| Handle::open(&space)).collect();
    outcome.demand(handles.is_ok(), || "storm: an entry is lost".to_owned());
    let claims: u64 = (0..COMERS).map(|at| post.read(8 + at)).sum();
    outcome.faults = kills + waited;
    outcome.figures = format!("{claims} claims of {PARTICIPANTS} entries with {kills} kills");
    Ok(outcome)
}
