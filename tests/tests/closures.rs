//! What closures may do: panic, refuse, and use the table themselves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use commonhold::{Error, Table, UpdateError};
use commonhold_tests::stage::LIMIT;
use commonhold_tests::{FULL, Item, LATEST, judge, stage};

/// Panics without a message.
fn fall() -> ! {
    std::panic::resume_unwind(Box::new(()))
}

fn falls(work: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

#[test]
fn a_panic_or_refusal_changes_nothing() {
    let stage = stage!();
    let runtime = stage.open();
    for name in [FULL, LATEST] {
        let table: Table<Item> = runtime.table(name).unwrap();
        let record = table.insert("key", &Item::default()).unwrap().record();
        for round in 1..=200 {
            let before = judge::memory(&runtime, name);
            let sequence = table.handle().sequence(usize::from(name == LATEST));
            assert!(falls(|| drop(table.update("key", |_| -> () { fall() }))));
            assert!(falls(|| drop(table.update_at(record, |item| -> () {
                item.n = 77;
                fall()
            }))));
            let make = || -> Item { fall() };
            assert!(falls(|| drop(table.update_or_insert("no key", make, |_| ()))));
            let ready = |_: &Item| -> bool { fall() };
            assert!(falls(|| drop(table.wait_for("key", ready, LIMIT))));
            assert!(falls(|| drop(table.update_when("key", ready, |_| (), LIMIT))));
            let refuse = |item: &mut Item| {
                item.n = 78;
                Err(item.owner)
            };
            assert!(matches!(table.update("key", refuse), Err(UpdateError::Refused(0))));
            let missing = table.update_or_insert("no key", Item::default, refuse);
            assert!(matches!(missing, Err(UpdateError::Refused(0))));
            let late = table.update_when("key", |item| item.n < 0, |_| (), Duration::ZERO);
            assert!(matches!(late, Err(UpdateError::Failed(Error::Timeout { .. }))));
            assert_eq!(judge::memory(&runtime, name), before);
            assert_eq!(table.handle().sequence(usize::from(name == LATEST)), sequence);
            let commit = table.update("key", |item| item.n += 1).unwrap();
            assert_eq!((commit.version(), commit.sequence()), (round + 1, sequence + 1));
        }
        assert_eq!(table.get("key").unwrap().unwrap().n, 200);
    }
    judge::settle(&stage, &runtime);
}

#[test]
fn a_closure_may_use_the_same_handle() {
    let stage = stage!();
    let runtime = stage.open();
    let handle = runtime.handle().unwrap();
    let other = runtime.handle().unwrap();
    for (position, name) in [FULL, LATEST].into_iter().enumerate() {
        let table: Table<Item, _> = Table::new(&handle, name).unwrap();
        let rival: Table<Item, _> = Table::new(&other, name).unwrap();
        for key in ["outer", "inner"] {
            table.insert(key, &Item::default()).unwrap();
        }
        for round in 1..=200_i64 {
            let mut tries = 0;
            let commit = table.update("outer", |item| {
                tries += 1;
                table.update("inner", |item| item.n += 1).unwrap();
                let passing = format!("passing {tries}");
                table.insert(&passing, &Item::default()).unwrap();
                table.delete(&passing).unwrap();
                if tries == 1 {
                    // Somebody is first: the closure runs once more, on what he made.
                    rival.update("outer", |item| item.owner += 1).unwrap();
                }
                assert_eq!(table.get("outer").unwrap().unwrap().owner, round);
                item.n += 1;
            });
            let commit = commit.unwrap();
            assert_eq!((tries, commit.version()), (2, 2 * round as u64 + 1));
            assert_eq!(commit.sequence(), 2 + 7 * round as u64);
            assert_eq!(handle.sequence(position), commit.sequence());
        }
        assert_eq!(table.get("outer").unwrap().unwrap(), Item { owner: 200, n: 200 });
        assert_eq!(table.get("inner").unwrap().unwrap().n, 400);
    }
    drop((handle, other));
    judge::settle(&stage, &runtime);
}
