//! Sigils under many processes: none is lost or corrupt, equals stay linked, and no sweep removes what was just touched,
//! whoever is killed when.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use commonhold::core::hash::fnv1a_64;
use commonhold::metrics::SampleValue;
use commonhold::systems::sigils::{
    self, SIGILS, STATES, SigilCapacity, SigilId, SigilIdentity, SigilOptions,
};
use commonhold::{Config, Runtime};
use commonhold_tests::judge::{audit, database};
use commonhold_tests::roles::{LOST, fading, is_canonical, payload};
use commonhold_tests::stage::{LIMIT, eventually};
use commonhold_tests::{Process, Random, Stage, stage};

/// What was acknowledged: the payload's number by the sigil's id.
type Acknowledged = BTreeMap<String, u64>;

const ENCODED: &str = "commonhold_sigils_encoded_total";
const RECALLS: &str = "commonhold_sigil_recalls_total";

/// A sigil in the store: payload and twin.
type Stored = BTreeMap<String, (String, String)>;

fn open(stage: &Stage, sigils: u32) -> Runtime {
    let capacity = SigilCapacity { sigils, payload_bytes: 400, ..SigilCapacity::default() };
    let config = Config::named(&stage.segment()).store(&stage.store()).participants(128);
    Runtime::open(sigils::configure(config, &capacity)).unwrap()
}

fn memory(runtime: &Runtime) -> SigilIdentity {
    SigilIdentity::open(runtime, SigilOptions::new()).unwrap()
}

/// Encoders in processes of their own.
struct Crew<'a> {
    stage: &'a Stage,
    processes: Vec<Process>,
    files: Vec<String>,
}

impl<'a> Crew<'a> {
    /// So many processes of so many threads, of which each encodes `count` payloads when it is told.
    fn new(stage: &'a Stage, processes: u64, threads: u64, count: u64, distinct: u64) -> Self {
        let mut crew = Self { stage, processes: Vec::new(), files: Vec::new() };
        for number in 0..processes {
            crew.add("fast", [number * threads * count, count, threads, distinct]);
        }
        crew
    }

    /// One more, from the number `first` on.
    fn add(&mut self, pace: &str, [first, count, threads, distinct]: [u64; 4]) {
        let file = self.stage.path(&format!("encoded-{}", self.processes.len()));
        let file = file.display().to_string();
        let numbers = [first, count, threads, distinct].map(|n| n.to_string());
        let [first, count, of, distinct] = [0, 1, 2, 3].map(|at| numbers[at].as_str());
        let args = [file.as_str(), pace, first, count, of, distinct];
        let mut process = self.stage.role("encode", &args);
        process.hear("ready");
        self.processes.push(process);
        self.files.extend((0..threads).map(|thread| format!("{file}-{thread}")));
    }

    fn go(&mut self) {
        self.processes.iter_mut().for_each(|process| process.tell("go"));
    }

    fn done(&mut self) {
        self.processes.iter_mut().for_each(|process| drop(process.hear("done")));
    }

    /// What was acknowledged; no id is there twice.
    fn acknowledged(&self) -> Acknowledged {
        let mut all = Acknowledged::new();
        for file in &self.files {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            // A killed one may have written a part of its last line.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines() {
                let (n, id) = line.split_once(' ').unwrap();
                let before = all.insert(id.to_owned(), n.parse().unwrap());
                assert_eq!(before, None, "{id} was given out twice");
            }
        }
        all
    }
}

/// What the store has, each row checked by itself.
fn stored(stage: &Stage) -> Stored {
    let database = database(stage);
    let mut select = database.prepare("SELECT key, payload, twin FROM sigils").unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)));
    let all: Stored = select.query_map([], row).unwrap().map(Result::unwrap).collect();
    for (key, (payload, _)) in &all {
        let id: SigilId = key.parse().unwrap();
        assert_eq!(fnv1a_64(payload.as_bytes()), id.state, "{key}: {payload}");
        assert!(is_canonical(payload), "{key}: {payload}");
    }
    all
}

/// Everything that was acknowledged is in the store with its own payload, and memory says the same as the store.
fn none_missing_none_corrupt(
    stage: &Stage,
    runtime: &Runtime,
    acknowledged: &Acknowledged,
) -> Stored {
    runtime.drain(LIMIT).unwrap();
    let stored = stored(stage);
    for (id, n) in acknowledged {
        let found = stored.get(id).unwrap_or_else(|| panic!("{id} is missing"));
        assert_eq!(found.0, payload(*n), "{id}");
    }
    let mut seen = Stored::new();
    let visit = |s: sigils::Sigil| {
        let twin = s.twin.map(|twin| twin.to_string()).unwrap_or_default();
        seen.insert(s.id.to_string(), (s.payload, twin));
    };
    memory(runtime).scan(visit).unwrap();
    assert_eq!(seen, stored, "memory and store");
    stored
}

/// From the newest sigil of each state one comes to all that were acknowledged, by their twins.
fn equals_are_linked(stage: &Stage, stored: &Stored, acknowledged: &Acknowledged) {
    let database = database(stage);
    let mut select = database.prepare("SELECT last FROM sigil_states").unwrap();
    let newest = select.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
    let mut reached = BTreeSet::new();
    for mut id in newest {
        while let Some((_, twin)) = stored.get(&id) {
            let state = id.split('-').next().unwrap();
            assert!(twin.is_empty() || twin.starts_with(state), "{id}: its twin is {twin}");
            assert!(reached.insert(id), "the twins go round, or two have the same");
            id = twin.clone();
        }
    }
    let lost: Vec<_> = acknowledged.keys().filter(|id| !reached.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} are not linked: {lost:?}", lost.len(), acknowledged.len());
}

/// Nothing leaked, and the store is sound.
fn sound(runtime: &Runtime) {
    runtime.sweep().unwrap();
    runtime.drain(LIMIT).unwrap();
    runtime.sweep().unwrap();
    for table in [SIGILS, STATES] {
        let position = runtime.space().find_table(table).unwrap();
        eventually("cells leak", || runtime.space().unreferenced_cells(position).unwrap() == 0);
        let figures = runtime.space().figures(position).unwrap();
        let slots = runtime.catalogue().tables[position].slots;
        assert_eq!(figures.slots.free + figures.slots.published, slots, "{table}: {figures:?}");
    }
    audit(runtime);
}

fn counted(runtime: &Runtime, name: &str) -> u64 {
    let samples = runtime.samples().unwrap();
    samples
        .iter()
        .filter(|sample| sample.name == name)
        .map(|sample| match &sample.value {
            SampleValue::Counter(count) => *count,
            other => panic!("{other:?}"),
        })
        .sum()
}

/// Encodes in so many processes and threads; all of them are there, and right.
fn all_are_there(processes: u64, threads: u64, count: u64) {
    let stage = stage!();
    let all = processes * threads * count;
    let runtime = open(&stage, u32::try_from(all).unwrap());
    let mut crew = Crew::new(&stage, processes, threads, count, u64::MAX);
    let begin = Instant::now();
    crew.go();
    crew.done();
    let encoded = begin.elapsed();
    runtime.drain(LIMIT).unwrap();
    let drained = begin.elapsed();
    println!(
        "{all} encodes by {processes} processes of {threads} threads: {:.0} ms, in the store after {:.0} ms",
        encoded.as_secs_f64() * 1e3,
        drained.as_secs_f64() * 1e3
    );
    let acknowledged = crew.acknowledged();
    assert_eq!(acknowledged.len() as u64, all);
    let stored = none_missing_none_corrupt(&stage, &runtime, &acknowledged);
    assert_eq!(stored.len() as u64, all);
    assert_eq!(counted(&runtime, ENCODED), all);
    crew.processes.iter_mut().for_each(Process::end_well);
    sound(&runtime);
}

#[test]
fn fifty_at_once_are_fifty() {
    all_are_there(5, 10, 1);
}

#[test]
fn a_thousand_are_a_thousand() {
    all_are_there(10, 10, 10);
}

#[test]
fn a_hundred_thousand_are_a_hundred_thousand() {
    all_are_there(4, 5, 5000);
}

#[test]
fn equals_of_many_processes_are_one_chain() {
    let stage = stage!();
    let runtime = open(&stage, 2000);
    let mut crew = Crew::new(&stage, 4, 2, 250, 2);
    crew.go();
    crew.done();
    let acknowledged = crew.acknowledged();
    assert_eq!(acknowledged.len(), 2000);
    let stored = none_missing_none_corrupt(&stage, &runtime, &acknowledged);
    equals_are_linked(&stage, &stored, &acknowledged);
    let first = stored.values().filter(|(_, twin)| twin.is_empty()).count();
    assert_eq!((first, stored.len()), (2, 2000), "each but the first names the one before");
    crew.processes.iter_mut().for_each(Process::end_well);
    sound(&runtime);
}

#[test]
fn killed_encoders_lose_nothing_that_was_acknowledged() {
    const ENCODES: [u64; 4] = [0, 1000, 2, 3];
    let stage = stage!();
    let runtime = open(&stage, 50_000);
    let mut random = Random::from_environment();
    let mut crew = Crew::new(&stage, 0, 0, 0, 0);
    let mut alive = [0, 1];
    alive.iter().for_each(|_| crew.add("paced", ENCODES));
    crew.go();
    for round in 0..20 {
        let before = counted(&runtime, ENCODED);
        let more = random.below(200);
        eventually("more are encoded", || counted(&runtime, ENCODED) > before + more);
        crew.processes[alive[round % 2]].kill();
        alive[round % 2] = crew.processes.len();
        crew.add("paced", ENCODES);
        crew.processes.last_mut().unwrap().tell("go");
    }
    crew.processes.iter_mut().for_each(Process::kill);
    let acknowledged = crew.acknowledged();
    let stored = none_missing_none_corrupt(&stage, &runtime, &acknowledged);
    let files = crew.files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let cut = files.filter(|text| (1..1000).contains(&text.lines().count())).count();
    println!(
        "{cut} encoders cut short; {} acknowledged, {} there",
        acknowledged.len(),
        stored.len()
    );
    assert!(cut >= 10, "too few were killed at work");
    // Each thread of each killed process had one under way.
    assert!(stored.len() <= acknowledged.len() + crew.files.len());
    equals_are_linked(&stage, &stored, &acknowledged);
    sound(&runtime);
}

/// Sweepers and those who look after sigils, of which some are killed; until so many were recalled, or one was lost. What
/// was lost, as they said it.
fn tended(
    stage: &Stage,
    runtime: &Runtime,
    sweeper: &str,
    recalls: u64,
    kills: u32,
) -> Vec<String> {
    let lost = runtime.counter(LOST).unwrap();
    let role = |role: &str, args: &[&str]| {
        let mut process = stage.role(role, args);
        process.hear("ready");
        process
    };
    let fade = || role("fade", &[sweeper]);
    let tend = |first: u32| role("tend", &[&(first * 1000).to_string(), "100"]);
    let mut sweepers: Vec<Process> = (0..2).map(|_| fade()).collect();
    let mut tenders: Vec<Process> = (0..3).map(tend).collect();
    let mut said = Vec::new();
    let mut random = Random::from_environment();
    let done = |until: u64| counted(runtime, RECALLS) >= until || lost.get().unwrap() > 0;
    for kill in 0..kills {
        let until = counted(runtime, RECALLS) + random.below(recalls / u64::from(kills));
        eventually("sigils are recalled", || done(until));
        let at = random.below(2) as usize;
        if kill % 4 == 3 {
            tenders[at].kill();
            said.push(tenders[at].rest());
            tenders[at] = tend(3 + kill);
        } else {
            sweepers[at].kill();
            sweepers[at] = fade();
        }
    }
    eventually("enough sigils are recalled", || done(recalls));
    for process in tenders.iter_mut().chain(&mut sweepers) {
        process.tell("stop");
        said.push(process.rest());
        process.end_well();
    }
    let (lost, other): (Vec<_>, Vec<_>) =
        said.iter().flat_map(|text| text.lines()).partition(|line| line.starts_with("lost"));
    println!("{other:?}");
    lost.into_iter().map(str::to_owned).collect()
}

#[test]
fn no_sweep_removes_what_was_just_touched() {
    let stage = stage!();
    let runtime = open(&stage, 4000);
    drop(memory(&runtime));
    let lost = tended(&stage, &runtime, "sound", 10_000, 12);
    assert!(lost.is_empty(), "{lost:#?}");
    let names = [RECALLS, "commonhold_sigils_swept_total", "sigil_gc_sweep_total"];
    let [recalls, swept, sweeps] = names.map(|name| counted(&runtime, name));
    println!("{recalls} recalls at the threshold, {swept} swept by {sweeps} sweeps");
    assert!(swept > 100 && sweeps > 100, "the race was not one");
    none_missing_none_corrupt(&stage, &runtime, &Acknowledged::new());
    // Everything fades, and nothing is left behind.
    let memory = SigilIdentity::open(&runtime, fading()).unwrap();
    eventually("all fade", || {
        let done = memory.process_memory_decay().unwrap();
        done.seen == done.swept
    });
    let states = runtime.space().find_table(STATES).unwrap();
    assert_eq!(runtime.space().figures(states).unwrap().slots.published, 0);
    sound(&runtime);
}

#[test]
fn a_sweep_that_does_not_look_again_is_caught() {
    let stage = stage!();
    let runtime = open(&stage, 4000);
    drop(memory(&runtime));
    let lost = tended(&stage, &runtime, "naive", u64::MAX, 0);
    println!("{} losses, such as {:?}", lost.len(), lost.first());
    assert!(!lost.is_empty(), "the check does not see a sweep that removes what was just touched");
}

#[test]
fn no_recall_is_lost_beside_crystallization() {
    let stage = stage!();
    let runtime = open(&stage, 100);
    let memory = memory(&runtime);
    let id = memory.encode_sigil_memory("1").unwrap().id;
    let mut others: Vec<Process> = (0..2).map(|_| stage.role("crystallize", &[])).collect();
    let text = id.to_string();
    let mut recallers: Vec<Process> =
        (0..4).map(|_| stage.role("recall", &[&text, "2000"])).collect();
    others.iter_mut().chain(&mut recallers).for_each(|process| drop(process.hear("ready")));
    recallers.iter_mut().for_each(|process| process.tell("go"));
    recallers.iter_mut().for_each(|process| drop(process.hear("done")));
    eventually("it becomes permanent", || memory.get(id).unwrap().permanent);
    others.iter_mut().for_each(Process::end_well);
    assert_eq!(memory.get(id).unwrap().recalls, 8000);
    assert_eq!(counted(&runtime, "commonhold_sigils_crystallized_total"), 1);
    recallers.iter_mut().for_each(Process::end_well);
    sound(&runtime);
}
