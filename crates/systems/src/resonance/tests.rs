//! Networks within one process. Processes and kills are in the torture.

use std::collections::HashSet;
use std::f64::consts::TAU;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use commonhold_runtime::metrics::SampleValue;
use commonhold_runtime::{Config, Error, Guard, GuardOptions, Runtime};

use super::*;
use crate::resonance::physics::PhysicsError;

fn runtime() -> Runtime {
    Runtime::open(with_resonance(Config::ephemeral())).unwrap()
}

fn new(frequency: f64, amplitude: f64, phase: f64) -> NewNode {
    NewNode { frequency, amplitude, phase }
}

/// Three nodes in a row: a – b – c.
fn row(networks: &ResonanceNetworks) -> [u64; 3] {
    let ids = [new(2.0, 1.0, 0.0), new(2.0, 0.5, 1.0), new(2.1, 2.0, 3.0)];
    let [a, b, c] = ids.map(|n| networks.create_node(n).unwrap());
    assert_eq!(networks.connect(a, b, 1.5).unwrap(), None);
    assert_eq!(networks.connect(c, b, 0.5).unwrap(), None);
    [a, b, c]
}

#[test]
fn a_node_is_what_was_asked_for() {
    let runtime = runtime();
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    let id = networks.create_node(new(440.0, 2.0, -1.0)).unwrap();
    let node = networks.node(id).unwrap();
    let want =
        Node { frequency: 440.0, amplitude: 2.0, phase: TAU - 1.0, coherence: 1.0, ticks: 0 };
    assert_eq!((node, node.energy()), (want, 2.0));
    let other = networks.create_node(NewNode::default()).unwrap();
    assert!(other > id);
    assert!(matches!(networks.node(other + 1), Err(NetworkError::UnknownNode(_))));
}

#[test]
fn fields_join_two_nodes_and_go_with_them() {
    let runtime = runtime();
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    let [a, b, c] = row(&networks);
    assert_eq!(
        networks.connect(b, a, 2.5).unwrap(),
        Some(1.5),
        "the same field from the other side"
    );
    let field = |node_a, node_b, strength| Field { node_a, node_b, strength };
    assert_eq!(networks.node_and_fields(b).unwrap().1, [field(a, b, 2.5), field(b, c, 0.5)]);
    assert_eq!(networks.node_and_fields(c).unwrap().1, [field(b, c, 0.5)]);
    assert_eq!(networks.disconnect(a, b).unwrap(), 2.5);
    assert!(matches!(networks.disconnect(b, a), Err(NetworkError::NotConnected { .. })));
    networks.connect(a, b, 1.0).unwrap();
    assert_eq!(networks.remove_node(b).unwrap(), 2);
    let left = networks.snapshot().unwrap();
    assert_eq!((left.nodes.keys().copied().collect(), left.fields.len()), (vec![a, c], 0));
    assert!(matches!(networks.remove_node(b), Err(NetworkError::UnknownNode(id)) if id == b));
    assert!(networks.create_node(NewNode::default()).unwrap() > c, "an id never comes back");
}

#[test]
fn a_tick_is_the_tick_of_physics() {
    let runtime = runtime();
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    row(&networks);
    let before = networks.snapshot().unwrap();
    let mut want = before.network().unwrap();
    want.tick(0.25).unwrap();
    let ticked = networks.system_tick(0.25).unwrap();
    assert_eq!((ticked.nodes, ticked.fields, ticked.order), (3, 2, want.order()));
    let after = networks.snapshot().unwrap();
    assert_eq!(after.network().unwrap(), want);
    let coherences: Vec<f64> = after.nodes.values().map(|n| n.coherence).collect();
    assert_eq!(coherences, want.coherences());
    assert!(after.nodes.values().all(|n| n.ticks == 1));
    assert_eq!(after.fields, before.fields);
    let summary = after.summary().unwrap();
    assert_eq!((summary.energy, summary.order), (before.network().unwrap().energy(), want.order()));
}

#[test]
fn a_resonance_moves_energy_between_neighbours_only() {
    let runtime = runtime();
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    let [a, b, c] = row(&networks);
    let before = networks.snapshot().unwrap();
    let resonated = networks.resonate(a, 0.3).unwrap();
    let after = networks.snapshot().unwrap();
    let energy = |s: &Snapshot| s.network().unwrap().energy();
    assert!((energy(&after) - energy(&before)).abs() < 1e-12);
    assert_eq!((resonated.neighbours, resonated.before), (1, 0.5));
    assert_eq!(resonated.after, after.nodes[&a].energy());
    assert!((resonated.after - resonated.before).abs() > 1e-3, "something went over");
    assert_ne!(after.nodes[&b], before.nodes[&b]);
    assert_eq!(after.nodes[&c], before.nodes[&c]);
    let mut want = before.network().unwrap();
    networks.resonate(b, 0.2).unwrap();
    want.resonate(0, 0.3).unwrap();
    want.resonate(1, 0.2).unwrap();
    assert_eq!(networks.snapshot().unwrap().network().unwrap(), want);
}

#[test]
fn patterns_are_replaced_and_lose_removed_nodes() {
    let runtime = runtime();
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    let ids = [110.0, 220.0, 440.0, 660.0].map(|f| networks.create_node(new(f, 1.0, 0.0)).unwrap());
    let [a, b, c, d] = ids;
    let shown = |found: Vec<HarmonicPattern>| -> Vec<(String, Vec<u64>)> {
        found.into_iter().map(|p| (p.ratio, p.members)).collect()
    };
    let pattern = |ratio: &str, members: &[u64]| (ratio.to_owned(), members.to_vec());
    let want = vec![
        pattern("3:2", &[c, d]),
        pattern("2:1", &[a, b, c]),
        pattern("3:1", &[b, d]),
        pattern("4:1", &[a, c]),
        pattern("6:1", &[a, d]),
    ];
    assert_eq!(shown(networks.detect_patterns(0.01).unwrap()), want);
    let sorted = |mut all: Vec<(String, Vec<u64>)>| {
        all.sort();
        all
    };
    assert_eq!(shown(networks.snapshot().unwrap().patterns), sorted(want.clone()));
    assert_eq!(shown(networks.detect_patterns(0.01).unwrap()), want, "the same again");
    networks.remove_node(a).unwrap();
    let less = vec![pattern("2:1", &[b, c]), pattern("3:1", &[b, d]), pattern("3:2", &[c, d])];
    assert_eq!(shown(networks.snapshot().unwrap().patterns), less);
    networks.remove_node(d).unwrap();
    networks.detect_patterns(0.01).unwrap();
    assert_eq!(shown(networks.snapshot().unwrap().patterns), [pattern("2:1", &[b, c])]);
    assert_eq!(networks.snapshot().unwrap().patterns.len(), 1);
}

#[test]
fn what_is_wrong_changes_nothing() {
    let runtime = runtime();
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    let [a, b, _] = row(&networks);
    networks.detect_patterns(0.01).unwrap();
    let state = || networks.snapshot().unwrap();
    let (nan, inf, nobody) = (f64::NAN, f64::INFINITY, 999_999_999);
    let before = state();
    let physics = |done: Result<(), NetworkError>| {
        assert!(matches!(done, Err(NetworkError::Physics(_))), "{done:?}");
    };
    for wrong in [
        new(nan, 1.0, 0.0),
        new(inf, 1.0, 0.0),
        new(-1.0, 1.0, 0.0),
        new(1.0, -1.0, 0.0),
        new(1.0, 1.0, inf),
    ] {
        physics(networks.create_node(wrong).map(drop));
    }
    for strength in [nan, inf, -inf] {
        physics(networks.connect(a, b, strength).map(drop));
    }
    for dt in [nan, inf, 0.0, -1.0] {
        physics(networks.system_tick(dt).map(drop));
        physics(networks.resonate(a, dt).map(drop));
    }
    physics(networks.detect_patterns(nan).map(drop));
    let unknown = |done: Result<(), NetworkError>| {
        assert!(matches!(done, Err(NetworkError::UnknownNode(id)) if id == nobody), "{done:?}");
    };
    unknown(networks.connect(a, nobody, 1.0).map(drop));
    unknown(networks.connect(nobody, a, 1.0).map(drop));
    unknown(networks.remove_node(nobody).map(drop));
    unknown(networks.resonate(nobody, 1.0).map(drop));
    unknown(networks.node_and_fields(nobody).map(drop));
    assert!(
        matches!(networks.connect(a, a, 1.0), Err(NetworkError::SelfConnection(id)) if id == a)
    );
    assert!(matches!(networks.disconnect(a, nobody), Err(NetworkError::NotConnected { .. })));
    assert_eq!(state(), before);
}

#[test]
fn a_tick_that_is_too_much_names_the_time_that_can_be_had() {
    let runtime = runtime();
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    let [a, b, _] = row(&networks);
    networks.connect(a, b, 1e12).unwrap();
    let before = networks.snapshot().unwrap();
    let refused = networks.system_tick(1.0).unwrap_err();
    let NetworkError::Physics(PhysicsError::TooFast { dt_s_max, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!(networks.snapshot().unwrap(), before);
    networks.system_tick(dt_s_max / 1000.0).unwrap();
}

#[test]
fn of_128_concurrent_creations_each_has_an_id_of_its_own() {
    let runtime = runtime();
    let start = std::sync::Barrier::new(128);
    let ids: Vec<u64> = std::thread::scope(|scope| {
        let create = |n: u32| {
            let (runtime, start) = (&runtime, &start);
            scope.spawn(move || {
                let networks = ResonanceNetworks::open(runtime).unwrap();
                start.wait();
                networks.create_node(new(f64::from(n), 1.0, 0.0)).map(|id| (n, id)).unwrap()
            })
        };
        let threads: Vec<_> = (0..128).map(create).collect();
        let networks = ResonanceNetworks::open(&runtime).unwrap();
        let made = threads.into_iter().map(|t| t.join().unwrap());
        made.inspect(|(n, id)| assert_eq!(networks.node(*id).unwrap().frequency, f64::from(*n)))
            .map(|(_, id)| id)
            .collect()
    });
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 128);
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    let there: HashSet<u64> = networks.snapshot().unwrap().nodes.into_keys().collect();
    assert_eq!(there, ids.into_iter().collect());
}

#[test]
fn who_holds_the_guard_sees_no_half_done_change() {
    let runtime = runtime();
    let ids = row(&ResonanceNetworks::open(&runtime).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..3_usize {
            let (runtime, done) = (&runtime, &done);
            scope.spawn(move || {
                let networks = ResonanceNetworks::open(runtime).unwrap();
                for round in 0..100 {
                    match worker {
                        0 => assert!(networks.system_tick(0.01).unwrap().nodes >= 3),
                        1 => {
                            assert!(networks.resonate(ids[round % 3], 0.1).unwrap().neighbours > 0)
                        }
                        _ => {
                            let pair = [0; 2].map(|_| networks.create_node(NewNode::default()));
                            let [a, b] = pair.map(Result::unwrap);
                            networks.connect(a, b, 1.0).unwrap();
                            networks.remove_node(a).unwrap();
                            networks.remove_node(b).unwrap();
                        }
                    }
                }
                done.store(true, SeqCst);
            });
        }
        let networks = ResonanceNetworks::open(&runtime).unwrap();
        let energy = |s: &Snapshot| -> f64 { ids.iter().map(|id| s.nodes[id].energy()).sum() };
        let all = energy(&networks.snapshot().unwrap());
        let mut looks = 0;
        while looks < 50 || !done.load(SeqCst) {
            let seen = networks.snapshot().unwrap();
            let ticks: HashSet<i64> = ids.iter().map(|id| seen.nodes[id].ticks).collect();
            assert_eq!(ticks.len(), 1, "a tick reached a part of the nodes");
            assert!(
                (energy(&seen) - all).abs() < 1e-9,
                "energy left one node and reached no other"
            );
            seen.network().expect("a field without its nodes");
            looks += 1;
        }
    });
}

#[test]
fn waits_for_the_guard_are_counted_as_they_were() {
    let runtime = runtime();
    let [a, b, _] = row(&ResonanceNetworks::open(&runtime).unwrap());
    let handle = runtime.handle().unwrap();
    let guard = Guard::new(&handle, GUARD, &GuardOptions::new()).unwrap();
    let metric = |name: &str| {
        let found = runtime.samples().unwrap().into_iter().find(|s| s.name == name);
        match found.unwrap().value {
            SampleValue::Counter(value) => value as f64,
            SampleValue::Gauge(value) => value,
            SampleValue::Histogram(_) => panic!("{name} is a histogram"),
        }
    };
    let waiters = || runtime.space().guards().unwrap()[0].waiters;
    let (mut at_least, mut at_most) = (Duration::ZERO, Duration::ZERO);
    for round in 1..=3 {
        let held = std::thread::scope(|scope| {
            guard.with(|_| {
                let (began, runtime) = (Instant::now(), &runtime);
                scope.spawn(move || {
                    ResonanceNetworks::open(runtime).unwrap().connect(a, b, 1.0).unwrap();
                });
                while waiters() == 0 {
                    std::thread::yield_now();
                }
                let slept = Instant::now();
                while slept.elapsed() < Duration::from_millis(5) {
                    std::thread::yield_now();
                }
                at_least += slept.elapsed();
                began
            })
        });
        at_most += held.unwrap().elapsed();
        assert_eq!(metric("resonance_mutex_contention_total"), f64::from(round));
        let waited = metric("resonance_mutex_wait_time_ms") / 1000.0;
        let bounds = at_least.as_secs_f64()..=at_most.as_secs_f64();
        assert!(bounds.contains(&waited), "waited {waited} s, not within {bounds:?}");
    }
}

#[test]
fn who_waits_for_the_guard_too_long_is_told_and_changes_nothing() {
    let runtime = runtime();
    let [a, b, _] = row(&ResonanceNetworks::open(&runtime).unwrap());
    let handle = runtime.handle().unwrap();
    let guard = Guard::new(&handle, GUARD, &GuardOptions::new()).unwrap();
    let refused = guard.with(|_| {
        let runtime = &runtime;
        let try_it = move || {
            let networks = ResonanceNetworks::open(runtime).unwrap();
            networks.with_guard_wait(Duration::from_millis(1)).connect(a, b, 9.0).unwrap_err()
        };
        std::thread::scope(|scope| scope.spawn(try_it).join().unwrap())
    });
    let refused = refused.unwrap();
    assert!(matches!(refused, NetworkError::Runtime(Error::Timeout { .. })), "{refused}");
    assert!(refused.to_string().contains("guard `resonance`"), "{refused}");
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    assert_eq!(networks.connect(a, b, 1.0).unwrap(), Some(1.5), "as it was");
}

#[test]
fn a_tick_that_fits_no_intent_names_the_number_to_raise() {
    let runtime = Runtime::open(with_resonance(Config::ephemeral()).intents(1)).unwrap();
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    for _ in 0..30 {
        networks.create_node(NewNode::default()).unwrap();
    }
    networks.system_tick(0.01).unwrap();
    for _ in 0..30 {
        networks.create_node(NewNode::default()).unwrap();
    }
    let before = networks.snapshot().unwrap();
    let refused = networks.system_tick(0.01).unwrap_err();
    assert!(matches!(refused, NetworkError::Runtime(Error::IntentFull { .. })), "{refused}");
    assert!(refused.to_string().contains("raise `intents`"), "{refused}");
    assert_eq!(networks.snapshot().unwrap(), before);
}
