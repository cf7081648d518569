//! The check `flips`: wrong words in a segment, before it is attached to and under those who use it. Every operation
//! ends with an error or an answer, within a limit and without a panic; records that a single wrong word does not touch
//! read right, can be changed and go to the store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a panic is a violation

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering as Order};
use std::time::Duration;

use commonhold_segment::Segment;
use commonhold_segment::sync::{Fault, Ordering};

use super::map::{Map, Wrong};
use super::ops::{STEPS, Visit};
use super::scene::Scene;
use super::worker::{Progress, Series};
use super::{Random, heal};
use crate::{Bite, Check, Failure, Outcome, Plan};

/// See the module.
pub(crate) const CHECK: Check = Check {
    name: "flips",
    about: "wrong words anywhere in a segment: an error or a correct answer, in time; all else works on",
    run,
    bites: &[
        Bite::Fault(Fault::NoChainLimit),
        Bite::Fault(Fault::NoLengthCheck),
        Bite::Fault(Fault::NoMovedLimit),
        Bite::Fault(Fault::DamageBlocks),
    ],
    limit_s: 300,
};

/// An injection that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(3);

/// When the wrong words come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One, before the attach.
    Single,
    /// Some in header and catalogue, which then get a checksum that fits.
    Sealed,
    /// One, between two operations.
    Live,
    /// Some, before the attach.
    Few,
    /// Many, one after the other, while operations run.
    Storm,
}

/// One injection.
struct Injection {
    mode: Mode,
    wrong: Vec<Wrong>,
    random: Random,
}

impl Injection {
    fn of(seed: u64, number: u64, scene: &Scene, map: &Map) -> Self {
        let mut random = Random::of(seed, number);
        let (mode, count) = match number % 16 {
            0..9 => (Mode::Single, 1),
            9..12 => (Mode::Live, 1),
            12 => (Mode::Sealed, 1 + random.below(3)),
            13 | 14 => (Mode::Few, 2 + random.below(12)),
            _ => (Mode::Storm, 200),
        };
        let fits =
            |w: &Wrong| mode != Mode::Sealed || matches!(w.region.name, "header" | "catalogue");
        let mut wrong = Vec::new();
        while wrong.len() < count {
            wrong.extend(Some(map.wrong(&mut random, &scene.base)).filter(fits));
        }
        Self { mode, wrong, random }
    }

    fn about(&self) -> String {
        let shown: Vec<String> = self.wrong.iter().take(3).map(ToString::to_string).collect();
        format!("{:?}, {} words: {}", self.mode, self.wrong.len(), shown.join(", "))
    }
}

/// What one worker has of its own.
struct Bench {
    segment: Segment,
    path: std::path::PathBuf,
    database: std::path::PathBuf,
}

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let scene = Scene::new(&plan.folder)?;
    let map = Map::of(&Segment::attach(&scene.segment(), false)?);
    let benches = [0, 1].map(|worker| {
        let path = plan.folder.join(format!("work-{worker}"));
        std::fs::copy(scene.segment(), &path).unwrap();
        let segment = Segment::attach(&path, true).unwrap();
        Bench { segment, path, database: plan.folder.join(format!("work-{worker}.db")) }
    });
    let make = |number: u64, worker: u64, progress: &Progress| {
        let injection = Injection::of(plan.seed, number, &scene, &map);
        inject(&benches[worker as usize], &scene, &map, progress, injection, number)
    };
    let about = |number: u64| {
        let injection = Injection::of(plan.seed, number, &scene, &map);
        format!("{}; seed {} --only {number}", injection.about(), plan.seed)
    };
    let count = plan.of(20_000, 1_000_000);
    let numbers = plan.only.map_or(0..count, |n| n..n + 1);
    let (workers, steps) = (benches.len() as u64, STEPS);
    let (name, folder) = ("flips", plan.folder.as_path());
    let series =
        Series { name, folder, numbers, workers, limit: LIMIT, steps, make: &make, about: &about };
    let mut outcome = series.run()?;
    if plan.only.is_none() && !outcome.is_hopeless() {
        outcome.add(heal::run(plan, &scene, &map)?);
    }
    Ok(outcome)
}

/// Makes `work` while the words are set.
fn storm(
    wrong: &[Wrong],
    set: &(impl Fn(&Wrong) + Sync),
    work: impl FnOnce() -> Vec<String>,
) -> Vec<String> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut left = wrong.iter();
            while !over.load(Order::Relaxed) {
                left.next().map_or_else(std::thread::yield_now, set);
                (0..2000).for_each(|_| std::hint::spin_loop());
            }
        });
        // Whose panic is noted by the hook.
        let made = catch_unwind(AssertUnwindSafe(work));
        over.store(true, Order::Relaxed);
        made.unwrap_or_default()
    })
}

fn inject(
    bench: &Bench,
    scene: &Scene,
    map: &Map,
    progress: &Progress,
    injection: Injection,
    number: u64,
) -> Vec<String> {
    let Injection { mode, wrong, random } = injection;
    let words = bench.segment.words();
    let set = |w: &Wrong| words[w.at].store(w.new, Ordering::SeqCst);
    let mut image = scene.base.clone();
    if !matches!(mode, Mode::Live | Mode::Storm) {
        wrong.iter().for_each(|w| image[w.at] = w.new);
    }
    if mode == Mode::Sealed {
        map.seal(&mut image);
    }
    words.iter().zip(&image).for_each(|(to, from)| to.store(*from, Ordering::SeqCst));
    let database = number.is_multiple_of(8).then_some(bench.database.as_path());
    let mut visit = Visit { scene, progress, path: &bench.path, database, random };
    let turn_of_flip = visit.random.below(20);
    match mode {
        Mode::Single => visit.make(Some(&map.touched(scene, &wrong[0])), &|_| {}),
        Mode::Live => visit.make(None, &|turn| {
            if turn == turn_of_flip {
                set(&wrong[0]);
            }
        }),
        Mode::Storm => storm(&wrong, &set, || visit.make(None, &|_| {})),
        Mode::Sealed | Mode::Few => visit.make(None, &|_| {}),
    }
}
