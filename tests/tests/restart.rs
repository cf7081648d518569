//! A segment made anew from its store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use commonhold::clock::{ClockOrder, compare};
use commonhold::{Clock, Runtime, Table, admin};
use commonhold_tests::stage::LIMIT;
use commonhold_tests::{FULL, Item, LATEST, judge, stage};

type Last = BTreeMap<(&'static str, String), (u64, Clock)>;

/// Updates every key of both tables: each goes on where it stood.
fn go_on(runtime: &Runtime, last: &mut Last) {
    let handle = runtime.handle().unwrap();
    for name in [FULL, LATEST] {
        let table: Table<Item, _> = Table::new(&handle, name).unwrap();
        for key in (0..20).map(|i| format!("key-{i}")) {
            let commit = table.update_or_insert(&key, Item::default, |item| item.n += 1).unwrap();
            let now = (commit.version(), *commit.clock());
            if let Some((version, clock)) = last.insert((name, key.clone()), now) {
                assert_eq!(commit.version(), version + 1, "{name} {key}");
                let order = compare(clock.lanes(), commit.clock().lanes());
                assert_eq!(order, ClockOrder::Before, "{name} {key}: {clock:?}, {commit:?}");
            }
        }
    }
}

#[test]
fn a_segment_made_anew_goes_on_where_it_stood() {
    let stage = stage!();
    let mut last = Last::new();
    let mut gone = 0;
    for epoch in [1, 3, 5, 7] {
        let runtime = stage.open();
        assert_eq!(runtime.space().segment().header().store_epoch, epoch);
        (0..=epoch).for_each(|_| go_on(&runtime, &mut last));
        let table: Table<Item> = runtime.table(FULL).unwrap();
        let again = table.insert("comes and goes", &Item::default()).unwrap().version();
        assert!(again > gone, "{again} after {gone}");
        gone = table.delete("comes and goes").unwrap().version();
        drop(table);
        runtime.drain(LIMIT).unwrap();
        let before = [FULL, LATEST].map(|table| judge::memory(&runtime, table));
        drop(runtime);
        admin::destroy(&stage.there(), LIMIT, false).unwrap();
        assert!(!stage.path("segment").exists());
        let runtime = stage.open();
        assert_eq!([FULL, LATEST].map(|table| judge::memory(&runtime, table)), before);
        judge::settle(&stage, &runtime);
        drop(runtime);
        // This time without a drain: nothing was committed since.
        admin::destroy(&stage.there(), Duration::ZERO, true).unwrap();
        let owner = commonhold::store::open(&stage.store()).unwrap().owner().unwrap().unwrap();
        assert_eq!(owner.epoch, epoch + 1);
    }
    judge::versions_rise(&stage);
}
