//! Resonance networks ticked in workers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::Duration;

use commonhold::Runtime;
use commonhold::systems::resonance::{
    Clusters, NewNode, ResonanceNetworks, Snapshot, TICK, with_resonance,
};
use commonhold::workers::{Capacity, Every, Pool, PoolOptions, Scheduler, Source, Task, Tick};
use commonhold_tests::stage;
use commonhold_tests::stage::{LIMIT, Stage};

const CAPACITY: Capacity = Capacity { tasks: 64, pages: 64, workers: 8 };

fn open(stage: &Stage) -> (Runtime, ResonanceNetworks) {
    let runtime = Runtime::open(with_resonance(stage.with_queue(&CAPACITY))).unwrap();
    let networks = ResonanceNetworks::open(&runtime).unwrap();
    (runtime, networks)
}

/// So many nodes, each joined to the next one of its group.
fn network(networks: &ResonanceNetworks, nodes: usize, group: usize) -> Vec<u64> {
    let new = |n: usize| NewNode {
        frequency: 1.0 + 0.25 * n as f64,
        amplitude: 1.0 + n as f64,
        phase: 0.7 * n as f64,
    };
    let ids: Vec<u64> = (0..nodes).map(|n| networks.create_node(new(n)).unwrap()).collect();
    for joined in ids.chunks(group) {
        for pair in joined.windows(2) {
            networks.connect(pair[0], pair[1], 1.5).unwrap();
        }
    }
    ids
}

fn tick(pool: &Pool, node: &str, state: &[u8], step: Duration) -> Vec<u8> {
    let arguments = Tick { node, step, state }.encode();
    pool.submit(Task::new(TICK, &arguments)).unwrap().wait(LIMIT).unwrap()
}

#[test]
fn a_tick_in_a_worker_is_the_tick_of_physics() {
    let stage = stage!();
    let (runtime, networks) = open(&stage);
    let ids = network(&networks, 5, 5);
    networks.create_node(NewNode::default()).unwrap();
    let pool = stage.pool(&runtime, PoolOptions::new().workers(1..=1));
    let mut clusters = Clusters::open(&runtime).unwrap();
    let mut want = networks.snapshot().unwrap();
    want.tick(0.25).unwrap();
    let found = clusters.load().unwrap();
    assert_eq!(found.len(), 2, "five nodes in a row, and one by itself");
    for (name, loaded) in &found {
        assert_eq!(clusters.reload(name).unwrap().as_ref(), Some(loaded));
        let next = tick(&pool, name, &loaded.state, Duration::from_millis(250));
        assert!(clusters.commit(name, loaded, &next).unwrap());
        assert!(!clusters.commit(name, loaded, &next).unwrap(), "it was committed already");
    }
    assert_eq!(networks.snapshot().unwrap(), want);

    // Whatever changes a cluster meanwhile: what was computed for it before is not committed.
    let (a, b) = (ids[0], ids[1]);
    let changes: [(&str, &dyn Fn()); 5] = [
        ("a node", &|| assert!(networks.resonate(a, 0.1).is_ok())),
        ("a field", &|| assert!(networks.connect(a, b, 2.0).is_ok())),
        ("one field more", &|| assert!(networks.connect(a, ids[2], 1.0).is_ok())),
        ("one field less", &|| assert!(networks.disconnect(ids[3], ids[4]).is_ok())),
        ("its first node gone", &|| assert!(networks.remove_node(a).is_ok())),
    ];
    for (what, change) in changes {
        let (name, loaded) = clusters.load().unwrap().swap_remove(0);
        let next = tick(&pool, &name, &loaded.state, Duration::from_millis(1));
        change();
        let before = networks.snapshot().unwrap();
        assert!(!clusters.commit(&name, &loaded, &next).unwrap(), "{what}");
        assert_eq!(networks.snapshot().unwrap(), before, "{what}");
    }
    pool.stop(LIMIT).unwrap();
}

#[test]
fn a_scheduler_ticks_clusters_wholly_while_others_change_them() {
    let stage = stage!();
    let (runtime, networks) = open(&stage);
    let ids = network(&networks, 12, 3);
    let pool = stage.pool(&runtime, PoolOptions::new().workers(2..=2));
    let scheduler = Scheduler::start(&pool).unwrap();
    let every = Every::new("networks", Duration::from_millis(10), TICK);
    scheduler.add(every, Clusters::open(&runtime).unwrap()).unwrap();
    let energy = |s: &Snapshot| -> f64 { ids.iter().map(|id| s.nodes[id].energy()).sum() };
    let begin = energy(&networks.snapshot().unwrap());
    let groups = |s: &Snapshot| -> Vec<Vec<i64>> {
        let ticks: Vec<i64> = ids.iter().map(|id| s.nodes[id].ticks).collect();
        ticks.chunks(3).map(<[i64]>::to_vec).collect()
    };
    let mut resonated = 0;
    loop {
        // Energy goes from node to node, and the strength of a field counts how often.
        networks.resonate(ids[0], 0.01).unwrap();
        resonated += 1;
        networks.connect(ids[0], ids[1], f64::from(resonated)).unwrap();
        let seen = networks.snapshot().unwrap();
        let groups = groups(&seen);
        assert!(
            groups.iter().all(|g| g.iter().all(|t| *t == g[0])),
            "a part was ticked: {groups:?}"
        );
        assert!((energy(&seen) - begin).abs() < 1e-9, "energy was lost");
        if groups[1..].iter().all(|g| g[0] >= 10) && resonated > 20 {
            break;
        }
    }
    scheduler.stop(LIMIT).unwrap();
    let seen = networks.snapshot().unwrap();
    let strengths: BTreeMap<(u64, u64), f64> =
        seen.fields.iter().map(|f| ((f.node_a, f.node_b), f.strength)).collect();
    assert_eq!(strengths[&(ids[0], ids[1])], f64::from(resonated));
    assert!(groups(&seen)[0][0] > 0, "also the cluster that others changed was ticked");
    pool.stop(LIMIT).unwrap();
}
