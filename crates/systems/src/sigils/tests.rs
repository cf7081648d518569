//! Tests of sigils in one process, whose time is told by the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use commonhold_runtime::core::hash::fnv1a_64;
use commonhold_runtime::metrics::SampleValue;
use commonhold_runtime::{Config, DynamicTable, Error, Runtime, TableConfig};
use commonhold_workers::jobs;
use proptest::prelude::*;

use super::*;

/// The longest wait for what must come.
const LIMIT: Duration = Duration::from_secs(30);
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;

/// A segment with room for so many sigils, and a clock.
struct Scene {
    runtime: Runtime,
    time: Arc<AtomicI64>,
}

impl Scene {
    fn new(sigils: u32) -> Self {
        let capacity = SigilCapacity { sigils, payload_bytes: 200, links: 2 };
        let config = Config::ephemeral().participants(16);
        let runtime = Runtime::open(configure(config, &capacity)).unwrap();
        Self { runtime, time: Arc::new(AtomicI64::new(1_700_000_000 * SECOND)) }
    }

    fn options(&self) -> SigilOptions {
        let time = Arc::clone(&self.time);
        let now = Now::told_by(move || time.load(Ordering::SeqCst));
        SigilOptions::new().room_wait(LIMIT).crystallize_after(3).now(now)
    }

    fn memory(&self) -> SigilIdentity {
        SigilIdentity::open(&self.runtime, self.options()).unwrap()
    }

    fn pass(&self, micros: i64) {
        self.time.fetch_add(micros, Ordering::SeqCst);
    }

    fn states(&self) -> usize {
        let states: DynamicTable = self.runtime.dynamic_table(STATES).unwrap();
        let mut count = 0;
        states
            .scan(|_, _| {
                count += 1;
                Ok::<(), Error>(())
            })
            .unwrap();
        count
    }

    fn metric(&self, name: &str, labels: &str) -> f64 {
        let samples = self.runtime.samples().unwrap();
        let sample =
            samples.iter().find(|s| s.name == name && format!("{:?}", s.labels).contains(labels));
        match &sample.unwrap_or_else(|| panic!("{name}{labels}")).value {
            SampleValue::Counter(n) => *n as f64,
            SampleValue::Gauge(v) => *v,
            SampleValue::Histogram(h) => h.count() as f64,
        }
    }
}

#[test]
fn what_is_encoded_comes_back() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let sigil = memory.encode_sigil_memory(" {\"b\": [1, 2.50], \"a\": null} ").unwrap();
    assert_eq!(sigil.payload, r#"{"a":null,"b":[1,2.5]}"#);
    assert_eq!(sigil.id.state, fnv1a_64(sigil.payload.as_bytes()));
    let value = serde_json::json!({"b": [1, 2.5], "a": null});
    let again = memory.encode_for_node(&value, 7).unwrap();
    assert_eq!((again.id.state, again.twin, again.node), (sigil.id.state, Some(sigil.id), Some(7)));
    assert_ne!(again.id, sigil.id);
    for made in [&sigil, &again] {
        let found = memory.get(made.id).unwrap();
        assert_eq!((&found.payload, found.twin, found.node), (&made.payload, made.twin, made.node));
        assert_eq!((found.strength, found.recalls, found.version), (1.0, 0, made.version));
    }
    let json: serde_json::Value = serde_json::to_value(&again).unwrap();
    assert_eq!(json["payload"], value);
    assert_eq!((&json["id"], &json["node"]), (&again.id.to_string().into(), &7.into()));
}

#[test]
fn a_recall_gives_strength_back_and_is_counted() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let id = memory.encode_sigil_memory("1").unwrap().id;
    scene.pass(HOUR);
    let before = memory.get(id).unwrap();
    assert_eq!((before.strength, before.recalls), (0.5, 0));
    let recalled = memory.recall(id).unwrap();
    assert_eq!((recalled.strength, recalled.recalls), (1.0, 1));
    assert_eq!(recalled.touched_at, recalled.created_at + HOUR);
    let after = memory.get(id).unwrap();
    assert_eq!((after.recalls, after.version), (1, recalled.version));
    scene.pass(2 * HOUR);
    assert_eq!(memory.get(id).unwrap().strength, 0.25);
}

#[test]
fn equals_are_linked_to_the_one_before_that_is_there() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let [first, second, third] = [1, 2, 3].map(|_| {
        scene.pass(HOUR);
        memory.encode_sigil_memory("\"x\"").unwrap().id
    });
    assert_eq!(memory.twins(third).unwrap(), [second, first]);
    assert_eq!(scene.states(), 1);
    // Only the newest is kept alive by recalls; then the first alone.
    scene.pass(HOUR * 6 - HOUR - 1);
    assert_eq!(memory.process_memory_decay().unwrap().swept, 1);
    assert_eq!(memory.twins(third).unwrap(), [second]);
    memory.recall(second).unwrap();
    scene.pass(2 * HOUR);
    assert_eq!(memory.process_memory_decay().unwrap().swept, 1);
    assert!(matches!(memory.get(third), Err(SigilError::Unknown(id)) if id == third));
    // The newest went, so the one before is the newest.
    let fourth = memory.encode_sigil_memory("\"x\"").unwrap();
    assert_eq!(fourth.twin, Some(second));
    scene.pass(7 * HOUR);
    assert_eq!(memory.process_memory_decay().unwrap().swept, 2);
    assert_eq!(scene.states(), 0, "who is nobody's newest goes");
    assert_eq!(memory.encode_sigil_memory("\"x\"").unwrap().twin, None);
}

#[test]
fn below_the_threshold_it_is_swept_and_at_it_kept() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let id = memory.encode_sigil_memory("1").unwrap().id;
    scene.pass(6 * HOUR);
    assert_eq!(memory.get(id).unwrap().strength, 1.0 / 64.0);
    let done = memory.process_memory_decay().unwrap();
    assert_eq!((done.seen, done.swept, done.written), (1, 0, 1), "{done:?}");
    scene.pass(1);
    let done = memory.process_memory_decay().unwrap();
    assert_eq!((done.seen, done.swept, done.spared), (1, 1, 0), "{done:?}");
    assert!(memory.recall(id).is_err() && memory.get(id).is_err());
}

#[test]
fn what_is_recalled_often_is_permanent() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let [often, seldom, faded] = ["1", "2", "3"].map(|p| memory.encode_sigil_memory(p).unwrap().id);
    for _ in 0..3 {
        memory.recall(often).unwrap();
        memory.recall(faded).unwrap();
    }
    memory.recall(seldom).unwrap();
    memory.recall(seldom).unwrap();
    scene.pass(6 * HOUR + 1);
    memory.recall(often).unwrap();
    let done = memory.crystallize_memory_patterns().unwrap();
    assert_eq!(done, Crystallized { seen: 3, crystallized: 1 });
    assert_eq!(memory.crystallize_memory_patterns().unwrap().crystallized, 0, "once");
    scene.pass(1000 * HOUR);
    let done = memory.process_memory_decay().unwrap();
    assert_eq!((done.swept, done.permanent), (2, 1), "{done:?}");
    let kept = memory.recall(often).unwrap();
    assert!(kept.permanent && kept.strength == 1.0 && kept.recalls == 5, "{kept:?}");
    assert_eq!(scene.metric("commonhold_sigils", "permanent"), 1.0);
}

#[test]
fn what_is_touched_between_look_and_removal_stays() {
    let scene = Scene::new(10);
    let id = scene.memory().encode_sigil_memory("1").unwrap().id;
    scene.pass(7 * HOUR);
    // The sweep asks for the time when it has read a record: once when it looks at all, once when it is about to
    // remove this one. Then somebody recalls it.
    let (other, time, asked) = (scene.memory(), Arc::clone(&scene.time), AtomicU32::new(0));
    let now = Now::told_by(move || {
        if asked.fetch_add(1, Ordering::SeqCst) == 1 {
            other.recall(id).unwrap();
        }
        time.load(Ordering::SeqCst)
    });
    let sweeper = SigilIdentity::open(&scene.runtime, scene.options().now(now)).unwrap();
    let done = sweeper.process_memory_decay().unwrap();
    assert_eq!((done.swept, done.spared), (0, 1), "{done:?}");
    let kept = scene.memory().get(id).unwrap();
    assert_eq!((kept.recalls, kept.strength), (1, 1.0));
    assert_eq!(scene.memory().encode_sigil_memory("1").unwrap().twin, Some(id));
}

#[test]
fn a_recall_beside_a_crystallization_is_counted() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let id = memory.encode_sigil_memory("1").unwrap().id;
    (0..3).for_each(|_| drop(memory.recall(id).unwrap()));
    let (other, time, asked) = (scene.memory(), Arc::clone(&scene.time), AtomicU32::new(0));
    let now = Now::told_by(move || {
        if asked.fetch_add(1, Ordering::SeqCst) == 1 {
            other.recall(id).unwrap();
        }
        time.load(Ordering::SeqCst)
    });
    let other = SigilIdentity::open(&scene.runtime, scene.options().now(now)).unwrap();
    assert_eq!(other.crystallize_memory_patterns().unwrap().crystallized, 1);
    let kept = memory.get(id).unwrap();
    assert!(kept.permanent && kept.recalls == 4, "{kept:?}");
}

#[test]
fn strengths_are_written_when_an_eighth_is_gone() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let id = memory.encode_sigil_memory("1").unwrap().id;
    let version = memory.get(id).unwrap().version;
    scene.pass(HOUR / 8);
    assert_eq!(memory.process_memory_decay().unwrap().written, 0);
    scene.pass(HOUR / 8);
    assert_eq!(memory.process_memory_decay().unwrap().written, 1);
    let written = memory.get(id).unwrap();
    assert_eq!(written.version, version + 1);
    assert!((written.strength - 0.5_f64.powf(0.25)).abs() < 1e-12, "{}", written.strength);
    assert_eq!(memory.process_memory_decay().unwrap().written, 0);
}

#[test]
fn a_clock_that_is_set_back_takes_nothing_away_and_stops_nothing() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let id = memory.encode_sigil_memory("1").unwrap().id;
    scene.pass(-1000 * HOUR);
    assert_eq!(memory.get(id).unwrap().strength, 1.0);
    assert_eq!(memory.process_memory_decay().unwrap().written, 1);
    scene.pass(HOUR);
    assert_eq!(memory.get(id).unwrap().strength, 0.5, "it goes on from the new time");
}

#[test]
fn links_go_one_way_and_only_to_what_is_there() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let [a, b, c, d] = ["1", "2", "3", "4"].map(|p| memory.encode_sigil_memory(p).unwrap().id);
    assert_eq!(memory.link(a, b, 0.5).unwrap(), None);
    assert_eq!(memory.link(a, c, 1e-300).unwrap(), None);
    assert_eq!(memory.link(a, b, 0.25).unwrap(), Some(0.5));
    let mut want = [Link { to: b, strength: 0.25 }, Link { to: c, strength: 1e-300 }];
    want.sort_by_key(|link| link.to);
    assert_eq!(memory.links(a).unwrap(), want);
    assert_eq!(memory.links(b).unwrap(), []);
    let full = memory.link(a, d, 0.1).unwrap_err();
    assert!(matches!(full, SigilError::LinksFull { links: 2, .. }), "{full}");
    assert_eq!(memory.link(a, c, 0.0).unwrap(), Some(1e-300));
    assert_eq!(memory.link(a, d, 0.1).unwrap(), None);
    for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(memory.link(a, b, wrong), Err(SigilError::LinkStrength(_))), "{wrong}");
    }
    assert!(matches!(memory.link(a, a, 0.1), Err(SigilError::SelfLink(_))));
    let nobody = SigilId { state: 1, number: 1 };
    assert!(matches!(memory.link(a, nobody, 0.1), Err(SigilError::Unknown(id)) if id == nobody));
    assert!(matches!(memory.link(nobody, a, 0.1), Err(SigilError::Unknown(id)) if id == nobody));
    // What was swept makes room.
    scene.pass(5 * HOUR);
    [a, c, d].iter().for_each(|id| drop(memory.recall(*id).unwrap()));
    scene.pass(2 * HOUR);
    assert_eq!(memory.process_memory_decay().unwrap().swept, 1);
    assert_eq!(memory.links(a).unwrap(), [Link { to: d, strength: 0.1 }]);
    assert_eq!(memory.link(a, c, 0.3).unwrap(), None);
    assert_eq!(memory.links(a).unwrap().len(), 2);
    assert_eq!(memory.get(a).unwrap().payload, "1");
}

#[test]
fn a_full_memory_says_so_and_has_room_after_a_sweep() {
    let scene = Scene::new(4);
    let memory = scene.memory();
    let ids: Vec<SigilId> =
        (0..4).map(|n| memory.encode_sigil_memory(&n.to_string()).unwrap().id).collect();
    let hasty = memory.waiting(Duration::ZERO);
    let full = hasty.encode_sigil_memory("4").unwrap_err();
    assert!(full.is_busy() && full.to_string().contains("all 4 slots"), "{full}");
    assert_eq!(scene.states(), 4, "nothing is left of what found no room");
    scene.pass(4 * HOUR);
    memory.recall(ids[0]).unwrap();
    scene.pass(4 * HOUR);
    assert_eq!(memory.process_memory_decay().unwrap().swept, 3);
    (5..8).for_each(|n| drop(memory.encode_sigil_memory(&n.to_string()).unwrap()));
    assert!(hasty.encode_sigil_memory("8").is_err());
    assert_eq!(memory.get(ids[0]).unwrap().recalls, 1);
}

#[test]
fn records_of_states_that_the_killed_left_go() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let id = memory.encode_sigil_memory("1").unwrap().id;
    // As a sweep leaves it that is killed behind its deletion.
    let sigils: DynamicTable = scene.runtime.dynamic_table(SIGILS).unwrap();
    sigils.delete(&id.to_string(), None).unwrap();
    assert_eq!(scene.states(), 1);
    let equal = memory.encode_sigil_memory("1").unwrap();
    assert_eq!((equal.twin, scene.states()), (None, 1));
    sigils.delete(&equal.id.to_string(), None).unwrap();
    assert_eq!(memory.process_memory_decay().unwrap().seen, 0);
    assert_eq!(scene.states(), 0);
}

#[test]
fn what_cannot_be_is_refused() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let large = format!("\"{}\"", "x".repeat(199));
    let refused = memory.encode_sigil_memory(&large).unwrap_err().to_string();
    assert!(refused.contains("201 bytes") && refused.contains("holds 200"), "{refused}");
    assert!(memory.encode_sigil_memory(&large.replacen('x', "", 1)).is_ok());
    assert!(matches!(memory.encode_sigil_memory("{"), Err(SigilError::NotJson(_))));
    let text = memory.get(SigilId { state: 0xab, number: 0xcd }).unwrap_err().to_string();
    assert!(text.starts_with("no sigil 00000000000000ab-cd;"), "{text}");
    assert!(matches!(
        memory.recall("00000000000000ab-cd".parse().unwrap()),
        Err(SigilError::Unknown(_))
    ));
    for (options, word) in [
        (SigilOptions::new().half_life(Duration::ZERO), "half-life"),
        (SigilOptions::new().threshold(f64::NAN), "threshold"),
        (SigilOptions::new().threshold(1.5), "threshold"),
        (SigilOptions::new().crystallize_after(0), "recalls"),
    ] {
        let refused = SigilIdentity::open(&scene.runtime, options).unwrap_err().to_string();
        assert!(refused.contains(word), "{refused}");
    }
    let open = |config: Config| {
        let runtime = Runtime::open(config).unwrap();
        SigilIdentity::open(&runtime, SigilOptions::new()).unwrap_err().to_string()
    };
    let small = || Config::ephemeral().participants(4);
    let none = open(small().table(TableConfig::new("t", &["n:i64"])));
    assert!(none.contains("no table `sigils`"), "{none}");
    let tables = |name: &str, fields: &[&str]| {
        let capacity = SigilCapacity { sigils: 4, ..SigilCapacity::default() };
        configure(small(), &capacity).table(TableConfig::new(name, fields))
    };
    let other = open(tables(SIGILS, &["n:i64"]));
    assert!(other.contains("`sigils` is not one of sigils"), "{other}");
    let other = open(tables(STATES, &["last:text(32)"]));
    assert!(other.contains("`sigil_states` is not one of sigils"), "{other}");
}

#[test]
fn metrics_are_there_from_the_start_and_move() {
    let scene = Scene::new(10);
    let memory = scene.memory();
    let names = [
        "sigil_gc_sweep_total",
        "commonhold_sigil_sweep_duration_seconds",
        "commonhold_sigils_encoded_total",
        "commonhold_sigil_recalls_total",
        "commonhold_sigils_crystallized_total",
        "commonhold_sigils_swept_total",
    ];
    assert_eq!(names.map(|name| scene.metric(name, "")), [0.0; 6]);
    assert_eq!(scene.metric("commonhold_sigils", "fading"), 0.0);
    let ids = ["1", "2", "3"].map(|p| memory.encode_sigil_memory(p).unwrap().id);
    (0..4).for_each(|_| drop(memory.recall(ids[0]).unwrap()));
    memory.crystallize_memory_patterns().unwrap();
    memory.process_memory_decay().unwrap();
    assert_eq!(scene.metric("commonhold_sigils", "fading"), 2.0);
    scene.pass(7 * HOUR);
    memory.process_memory_decay().unwrap();
    assert_eq!(names.map(|name| scene.metric(name, "")), [2.0, 2.0, 3.0, 4.0, 1.0, 2.0]);
    let gauges = ["fading", "permanent"].map(|kind| scene.metric("commonhold_sigils", kind));
    assert_eq!(gauges, [0.0, 1.0]);
}

#[test]
fn jobs_are_started_and_stopped() {
    let capacity = SigilCapacity { sigils: 10, ..SigilCapacity::default() };
    let config = configure(Config::ephemeral().participants(16), &capacity);
    let runtime = Runtime::open(jobs::configure(config)).unwrap();
    let memory = SigilIdentity::open(&runtime, SigilOptions::new()).unwrap();
    memory.stop(LIMIT).unwrap();
    memory.start(&runtime).unwrap();
    memory.clone().start(&runtime).unwrap();
    for name in [CRYSTALLIZE, DECAY] {
        jobs::run_now(&runtime, name).unwrap();
    }
    let ran = || {
        let jobs = jobs::look(runtime.space()).unwrap().unwrap();
        let texts: Vec<String> = jobs.iter().map(|job| job.message.clone()).collect();
        (jobs.len() == 2 && jobs.iter().all(|job| job.runs > 0)).then_some(texts)
    };
    let until = Instant::now() + LIMIT;
    let texts = loop {
        match ran() {
            Some(texts) if !texts.iter().any(String::is_empty) => break texts,
            _ => assert!(Instant::now() < until, "the jobs do not run"),
        }
        std::thread::yield_now();
    };
    assert_eq!(texts, ["0 of 0 became permanent", "0 of 0 were swept"]);
    memory.waiting(LIMIT).stop(LIMIT).unwrap();
    memory.start(&runtime).unwrap();
    drop(memory);
    let none = Runtime::open(configure(Config::ephemeral().participants(8), &capacity)).unwrap();
    let refused = SigilIdentity::open(&none, SigilOptions::new()).unwrap().start(&none);
    assert!(refused.unwrap_err().to_string().contains("no table `jobs`"));
}

/// What may happen to a sigil.
#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(i64),
    Sweep,
    Recall,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However often strengths are written down meanwhile, they are what the formula says since the last touch.
    #[test]
    fn strength_follows_its_formula(
        half_life_ms in 1_u64..100_000_000,
        steps in prop::collection::vec(
            prop_oneof![
                4 => (0..2_000_000_000_i64).prop_map(Step::Pass),
                4 => Just(Step::Sweep),
                1 => Just(Step::Recall),
            ],
            1..40,
        ),
    ) {
        let scene = Scene::new(4);
        let half_life = Duration::from_millis(half_life_ms);
        let options = scene.options().half_life(half_life).threshold(0.0);
        let memory = SigilIdentity::open(&scene.runtime, options).unwrap();
        let id = memory.encode_sigil_memory("1").unwrap().id;
        let mut since = 0;
        for step in steps {
            match step {
                Step::Pass(micros) => {
                    scene.pass(micros);
                    since += micros;
                }
                Step::Sweep => prop_assert_eq!(memory.process_memory_decay().unwrap().swept, 0),
                Step::Recall => {
                    memory.recall(id).unwrap();
                    since = 0;
                }
            }
            let want = 0.5_f64.powf(since as f64 / 1e6 / half_life.as_secs_f64());
            let found = memory.get(id).unwrap().strength;
            prop_assert!((found - want).abs() <= want * 1e-9 + 1e-300, "{found} for {want}");
        }
    }

    #[test]
    fn decay_is_a_half_each_half_life(strength in 0.0..1.0_f64, half_life in 1e-3..1e9_f64, n in 0..40) {
        let left = decayed(strength, half_life * f64::from(n), half_life);
        prop_assert!((left - strength * 0.5_f64.powi(n)).abs() < 1e-15 * strength.max(1e-300) + 1e-18);
        prop_assert_eq!(decayed(strength, -half_life, half_life), strength);
    }
}
