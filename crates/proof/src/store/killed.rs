//! Processes commit, and whichever is the steward is killed at a random moment, again and again.

use std::time::{Duration, Instant};

use commonhold::Runtime;

use super::crew::Crew;
use super::judge;
use super::work::config;
use crate::random::Random;
use crate::{Failure, Outcome, Plan};

const PROCESSES: usize = 3;
/// After the last kill so many reports of durability must come within [`judge::HEALED`].
const REPORTS: usize = 20;
/// So soon there must be a steward again.
const STEWARD: Duration = Duration::from_secs(10);

/// Makes this part.
pub(crate) fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let folder = plan.folder.join("killed");
    std::fs::create_dir_all(folder.join("store"))?;
    let runtime = Runtime::open(config(&folder, false).without_steward())?;
    let mut random = Random::of(plan.seed, 99);
    let mut crew = Crew::new(&folder, plan.seed);
    for _ in 0..PROCESSES {
        crew.hire()?;
    }
    for number in 0..plan.of(100, 1000) {
        let Some(pid) = steward(&runtime) else {
            outcome.violation(format!("no steward in time after kill {number}"));
            return Ok(outcome);
        };
        let moment = Instant::now();
        let pause = Duration::from_micros(random.below(12_000));
        while moment.elapsed() < pause {
            std::hint::spin_loop();
        }
        if crew.kill(pid)? {
            outcome.faults += 1;
            crew.hire()?;
        }
    }
    let (before, start) = (crew.reports()?, Instant::now());
    while crew.reports()? < before + REPORTS && start.elapsed() < judge::HEALED {
        std::thread::yield_now();
    }
    let healed = crew.reports()? >= before + REPORTS;
    outcome.demand(healed, || "no progress after the last kill".to_owned());
    let bad = crew.dismiss(Duration::from_secs(20))?;
    outcome.demand(bad == 0, || format!("{bad} processes did not end well"));
    drop(runtime);
    match judge::settled(&folder, &crew.said()?) {
        Ok(kept) => {
            outcome.figures =
                format!("{} stewards killed under load, {kept} reports kept", outcome.faults);
        }
        Err(wrong) => outcome.violation(format!("killed stewards: {wrong}; --seed {}", plan.seed)),
    }
    Ok(outcome)
}

/// The process id of the steward, as soon as there is a living one.
fn steward(runtime: &Runtime) -> Option<u32> {
    let start = Instant::now();
    let space = runtime.space();
    while start.elapsed() < STEWARD {
        let identity = space.steward().and_then(|(entry, _)| space.identity_of(entry));
        let alive = |i: &commonhold_os::process::Identity| {
            i.find().0 == commonhold_os::process::Liveness::Alive
        };
        if let Some(identity) = identity.filter(alive) {
            return Some(identity.pid);
        }
        std::thread::yield_now();
    }
    None
}
