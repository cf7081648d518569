//! Several who make the same segment at once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use commonhold::admin;
use commonhold_tests::stage::LIMIT;
use commonhold_tests::{Process, judge, stage};

fn create_at_once(creators: usize, rounds: u64) {
    let stage = stage!();
    for round in 1..=rounds {
        let start = |_| {
            let mut process = stage.role("create", &[&stage.store()]);
            process.hear("ready");
            process
        };
        let mut all: Vec<Process> = (0..creators).map(start).collect();
        all.iter_mut().for_each(|creator| creator.tell("go"));
        let mut said: Vec<String> = all.iter_mut().map(|c| c.hear("segment")).collect();
        said.dedup();
        assert_eq!(said.len(), 1, "one segment: {said:?}");
        let epoch: u64 = said[0].split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(epoch, round, "each segment is one epoch of the store");
        all.iter_mut().for_each(Process::end_well);
        admin::destroy(&stage.there(), LIMIT, false).unwrap();
        let sum = judge::number(&stage, "SELECT n FROM \"full\" WHERE key = 'all'") as u64;
        assert_eq!(sum, round * creators as u64);
    }
    let mut store = commonhold::store::open_read_only(&stage.store()).unwrap();
    assert!(store.audit().unwrap().ok());
}

#[test]
fn of_two_creators_one_makes_it() {
    create_at_once(2, 10);
}

#[test]
fn of_eight_creators_one_makes_it() {
    create_at_once(8, 5);
}
