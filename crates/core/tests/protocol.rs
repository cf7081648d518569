//! The protocols on a segment in the heap: one thread step by step, then several against each other.
#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::schema::Schema;
use commonhold_core::value::Value;
use commonhold_core::{Error, Handle, Inserted, Space};

fn space_of(history: History, slots: u32, cells: u32) -> Arc<Space> {
    let schema = Schema::new(vec!["n:i64".parse().unwrap()]).unwrap();
    let table = TableSpec { history, slots, cells, ..TableSpec::new("t", schema) };
    let catalogue = Catalogue::new(16, 4, vec![table]).unwrap();
    Space::in_heap(&catalogue).unwrap()
}

fn add(handle: &Handle, key: &str, n: i64) -> Option<u64> {
    let record = handle.locate(0, key).unwrap()?;
    let step = |now: &[u8], next: &mut Vec<u8>| {
        let value = i64::from_le_bytes(now.try_into().unwrap()) + n;
        next.extend_from_slice(&value.to_le_bytes());
        Ok::<(), Error>(())
    };
    handle.update_at(0, record, step).unwrap().map(|c| c.version)
}

fn insert(handle: &Handle, key: &str, n: i64) -> bool {
    matches!(handle.insert(0, key, &n.to_le_bytes()).unwrap(), Inserted::Committed(_))
}

fn delete(handle: &Handle, key: &str) -> bool {
    let Some(record) = handle.locate(0, key).unwrap() else { return false };
    handle.delete_at(0, record, |_| Ok::<(), Error>(())).unwrap().is_some()
}

fn value(space: &Space, key: &str) -> Option<i64> {
    let seen = space.peek(0, key).unwrap()?;
    assert_eq!(seen.hash, state_hash(record_prefix("t", key), seen.version, &seen.payload));
    Some(i64::from_le_bytes(seen.payload.try_into().unwrap()))
}

/// A steward without a store: the rows it took, in order.
fn drain(steward: &Handle, rows: &mut Vec<commonhold_core::row::Row>) {
    loop {
        let mut drained = steward.collect(0, 1000).unwrap();
        if drained.is_empty() {
            return;
        }
        steward.complete(&drained).unwrap();
        rows.append(&mut drained.rows);
    }
}

#[test]
fn one_record_from_insert_to_delete_in_both_histories() {
    for history in [History::Full, History::Latest] {
        let space = space_of(history, 4, 0);
        let (handle, steward) = (Handle::open(&space).unwrap(), Handle::open(&space).unwrap());
        let mut rows = Vec::new();
        assert_eq!(add(&handle, "a", 1), None);
        assert!(insert(&handle, "a", 10));
        assert!(!insert(&handle, "a", 11), "it is there");
        assert_eq!(add(&handle, "a", 5), Some(2));
        assert_eq!(add(&handle, "a", 5), Some(3));
        assert_eq!(value(&space, "a"), Some(20));
        drain(&steward, &mut rows);
        assert_eq!(add(&handle, "a", 1), Some(4));
        assert!(delete(&handle, "a"));
        assert!(!delete(&handle, "a"));
        assert_eq!(value(&space, "a"), None);
        assert!(insert(&handle, "a", 1), "a deleted key may come again before the store knows");
        assert!(space.peek(0, "a").unwrap().unwrap().version > 5, "versions never fall");
        drain(&steward, &mut rows);
        let versions: Vec<_> = rows.iter().map(|r| (r.version, r.deleted)).collect();
        let (full, latest) = ([1, 2, 3, 4], [3]);
        let mut want: Vec<_> = match history {
            History::Full => full.iter().map(|v| (*v, false)).collect(),
            History::Latest => latest.iter().map(|v| (*v, false)).collect(),
        };
        want.extend([(5, true), (6, false)]);
        assert_eq!(versions, want, "{history}");
        let sequences: Vec<_> = rows.iter().map(|r| r.sequence).collect();
        if history == History::Full {
            assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);
        }
        drop(handle);
        // Two heads (the live record's and the one left in the freed slot), nothing else.
        assert_eq!(space.unreferenced_cells(0).unwrap(), 0);
        assert_eq!(space.figures(0).unwrap().slots.free, 3);
    }
}

#[test]
fn a_key_that_comes_again_is_stored_in_the_order_of_its_versions() {
    for history in [History::Full, History::Latest] {
        let space = space_of(history, 200, 0);
        let (handle, steward) = (Handle::open(&space).unwrap(), Handle::open(&space).unwrap());
        for i in 0..200 {
            assert!(insert(&handle, &format!("k{i}"), i));
        }
        drain(&steward, &mut Vec::new());
        // Room in the first slots, for keys from the last ones.
        (0..20).for_each(|i| assert!(delete(&handle, &format!("k{i}"))));
        drain(&steward, &mut Vec::new());
        for limit in [1, 3, 1000] {
            let mut last: BTreeMap<String, u64> = BTreeMap::new();
            for key in ["k197", "k198", "k199"] {
                add(&handle, key, 1).unwrap();
                assert!(delete(&handle, key) && insert(&handle, key, 0));
                assert!(delete(&handle, key) && insert(&handle, key, 0));
            }
            loop {
                let mut drained = steward.collect(0, limit).unwrap();
                if drained.is_empty() {
                    break;
                }
                for row in std::mem::take(&mut drained.rows) {
                    let before = last.insert(row.key.clone(), row.version).unwrap_or(0);
                    assert!(row.version > before, "{history}: {} after {before}", row.version);
                }
                steward.complete(&drained).unwrap();
            }
            assert_eq!(last.len(), 3);
        }
        assert_eq!(space.figures(0).unwrap().slots.published, 180);
    }
}

#[test]
fn every_record_has_its_turn() {
    for history in [History::Full, History::Latest] {
        let space = space_of(history, 200, 0);
        let (handle, steward) = (Handle::open(&space).unwrap(), Handle::open(&space).unwrap());
        let keys: Vec<String> = (0..200).map(|i| format!("k{i}")).collect();
        keys.iter().for_each(|key| assert!(insert(&handle, key, 0)));
        for limit in [1, 7, 64, 1000] {
            let (mut rounds, mut seen) = (0, std::collections::BTreeSet::new());
            // All are changed again before each round.
            while seen.len() < keys.len() {
                keys.iter().for_each(|key| assert!(add(&handle, key, 1).is_some()));
                let drained = steward.collect(0, limit).unwrap();
                assert_eq!(drained.cut, limit < 200);
                seen.extend(drained.rows.iter().map(|row| row.key.clone()));
                steward.complete(&drained).unwrap();
                rounds += 1;
                assert!(rounds <= 200_usize.div_ceil(limit), "{limit}: {} seen", seen.len());
                if history == History::Full {
                    // Their rows would not fit until it is their turn.
                    drain(&steward, &mut Vec::new());
                }
            }
        }
    }
}

#[test]
fn a_batch_is_limited_in_bytes() {
    const BYTES: usize = 60_000;
    let schema = Schema::new(vec![format!("b:bytes({BYTES})").parse().unwrap()]).unwrap();
    let table =
        TableSpec { history: History::Latest, slots: 400, ..TableSpec::new("t", schema.clone()) };
    let space = Space::in_heap(&Catalogue::new(16, 4, vec![table]).unwrap()).unwrap();
    let (handle, steward) = (Handle::open(&space).unwrap(), Handle::open(&space).unwrap());
    let mut payload = Vec::new();
    schema.encode(&[Value::Bytes(vec![1; BYTES])], &mut payload).unwrap();
    for i in 0..400 {
        let made = handle.insert(0, &format!("k{i}"), &payload).unwrap();
        assert!(matches!(made, Inserted::Committed(_)));
    }
    let mut batches = Vec::new();
    loop {
        let drained = steward.collect(0, 10_000).unwrap();
        batches.push((drained.rows.len(), drained.cut));
        steward.complete(&drained).unwrap();
        if !drained.cut {
            break;
        }
    }
    let first = (16 << 20) / BYTES + 1;
    assert_eq!(batches, [(first, true), (400 - first, false)]);
}

#[test]
fn a_stale_handle_changes_nothing() {
    let space = space_of(History::Latest, 1, 0);
    let (handle, steward) = (Handle::open(&space).unwrap(), Handle::open(&space).unwrap());
    assert!(insert(&handle, "a", 1));
    let stale = handle.locate(0, "a").unwrap().unwrap();
    assert!(delete(&handle, "a"));
    drain(&steward, &mut Vec::new());
    assert!(insert(&handle, "b", 2), "the only slot is used again");
    let update = |_: &[u8], next: &mut Vec<u8>| {
        next.extend_from_slice(&99_i64.to_le_bytes());
        Ok::<(), Error>(())
    };
    assert!(handle.update_at(0, stale, update).unwrap().is_none());
    assert!(handle.delete_at(0, stale, |_| Ok::<(), Error>(())).unwrap().is_none());
    assert_eq!(value(&space, "b"), Some(2));
}

#[test]
fn a_table_of_n_slots_takes_any_n_keys() {
    let space = space_of(History::Latest, 300, 0);
    let (handle, steward) = (Handle::open(&space).unwrap(), Handle::open(&space).unwrap());
    handle.set_room_wait(Duration::ZERO);
    // Keys that all belong to one bucket.
    let buckets = 128_u64;
    let bucket = |key: &str| {
        let hash = commonhold_core::hash::fnv1a_64(key.as_bytes());
        (hash ^ hash >> 32) & (buckets - 1)
    };
    let mut keys: Vec<String> =
        (0..).map(|i| format!("k{i}")).filter(|k| bucket(k) == 5).take(300).collect();
    for round in 0..2 {
        for (i, key) in keys.iter().enumerate() {
            assert!(insert(&handle, key, i as i64), "round {round}, key {i}");
        }
        let full = handle.insert(0, "one more", &[0; 8]).unwrap_err();
        assert!(full.to_string().contains("all 300 slots are in use"), "{full}");
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(value(&space, key), Some(i as i64));
            assert!(delete(&handle, key));
        }
        drain(&steward, &mut Vec::new());
        keys.reverse();
    }
    let figures = space.figures(0).unwrap();
    assert_eq!((figures.slots.free, figures.index_cells.published), (300, 0));
}

#[test]
fn threads_lose_nothing_and_the_journal_has_every_version() {
    const THREADS: i64 = 4;
    const EACH: i64 = 2000;
    for history in [History::Full, History::Latest] {
        let space = space_of(history, 8, if history == History::Full { 500 } else { 0 });
        let keys = ["a", "b"];
        let first = Handle::open(&space).unwrap();
        keys.iter().for_each(|k| assert!(insert(&first, k, 0)));
        let stop = std::sync::atomic::AtomicBool::new(false);
        let rows = std::thread::scope(|scope| {
            let steward = scope.spawn(|| {
                let steward = Handle::open(&space).unwrap();
                let mut rows = Vec::new();
                space.serve(true).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Acquire) {
                    drain(&steward, &mut rows);
                }
                drain(&steward, &mut rows);
                rows
            });
            let writers: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        let handle = Handle::open(&space).unwrap();
                        for i in 0..EACH {
                            add(&handle, keys[i as usize % 2], 1).unwrap();
                        }
                    })
                })
                .collect();
            writers.into_iter().for_each(|w| w.join().unwrap());
            stop.store(true, std::sync::atomic::Ordering::Release);
            steward.join().unwrap()
        });
        assert_eq!(value(&space, "a").unwrap() + value(&space, "b").unwrap(), THREADS * EACH);
        let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
        for row in &rows {
            let last = versions.entry(&row.key).or_default();
            if history == History::Full {
                assert_eq!(row.version, *last + 1, "{}", row.key);
            }
            assert!(row.version > *last);
            *last = row.version;
        }
        assert!(versions.values().all(|v| *v == 1 + (THREADS * EACH) as u64 / 2), "{versions:?}");
        drop(first);
        assert_eq!(space.unreferenced_cells(0).unwrap(), 0, "{history}");
    }
}

#[test]
fn threads_insert_and_delete_the_same_keys() {
    let space = space_of(History::Latest, 4, 0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let balance = std::thread::scope(|scope| {
        let steward = scope.spawn(|| {
            let steward = Handle::open(&space).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Acquire) {
                drain(&steward, &mut Vec::new());
            }
            drain(&steward, &mut Vec::new());
        });
        let workers: Vec<_> = (0..4)
            .map(|t: usize| {
                let space = &space;
                scope.spawn(move || {
                    let handle = Handle::open(space).unwrap();
                    let mut balance = 0;
                    for i in 0..3000 {
                        let key = ["a", "b", "c"][(i + t) % 3];
                        balance += i64::from(insert(&handle, key, 1));
                        add(&handle, key, 1);
                        balance -= i64::from(delete(&handle, key));
                    }
                    balance
                })
            })
            .collect();
        let balance: i64 = workers.into_iter().map(|w| w.join().unwrap()).sum();
        stop.store(true, std::sync::atomic::Ordering::Release);
        steward.join().unwrap();
        balance
    });
    let live = ["a", "b", "c"].iter().filter(|k| value(&space, k).is_some()).count();
    assert_eq!(live as i64, balance, "every insert is there or was deleted once");
    let figures = space.figures(0).unwrap();
    assert_eq!(figures.slots.published as usize, live, "{figures:?}");
    assert_eq!(figures.slots.free as usize, 4 - live, "{figures:?}");
    assert_eq!(figures.index_cells.owned, 0, "{figures:?}");
}
