//! Guards where something does not fit: no room, two plans at once, a section that goes on, two ways to register.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use commonhold_runtime::{Config, Error, GuardOptions, Record, Runtime, Table, TableConfig};

#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(crate = "commonhold_runtime::core")]
struct Account {
    balance: i64,
}

fn runtime(slots: u32) -> Runtime {
    let table = TableConfig::of::<Account>("accounts").slots(slots);
    let config = Config::ephemeral().store("none").table(table);
    Runtime::open(config.room_wait(Duration::ZERO)).unwrap()
}

fn accounts(runtime: &Runtime, keys: &[&str]) -> Table<Account> {
    let accounts = runtime.table("accounts").unwrap();
    for key in keys {
        accounts.insert(key, &Account { balance: 100 }).unwrap();
    }
    accounts
}

fn balance(table: &Table<Account>, key: &str) -> i64 {
    table.get(key).unwrap().unwrap().balance
}

#[test]
fn a_guard_is_of_use_after_a_change_that_found_no_room() {
    let runtime = runtime(4);
    let table = accounts(&runtime, &["a", "b", "c", "d"]);
    let guard = runtime.guard("g").unwrap();
    guard.with(|held| ["a", "b", "c", "d"].map(|k| held.get(&table, k).unwrap())).unwrap();
    let full = guard.change(|changes| {
        changes.update(&table, "a", |a| a.balance -= 1)?;
        changes.insert(&table, "e", &Account { balance: 1 })
    });
    assert!(full.is_err());
    assert_eq!(balance(&table, "a"), 100, "nothing was changed");
    guard.change(|changes| changes.delete(&table, "d")).unwrap();
    runtime.drain(Duration::from_secs(60)).unwrap(); // the slot is free when the deletion is stored
    guard.change(|changes| changes.insert(&table, "e", &Account { balance: 1 })).unwrap();
}

#[test]
fn a_guard_is_of_use_after_a_key_came_under_another_one() {
    let runtime = runtime(16);
    let table = accounts(&runtime, &["a"]);
    let (one, two) = (runtime.guard("one").unwrap(), runtime.guard("two").unwrap());
    let others: Table<Account> = runtime.table("accounts").unwrap();
    let made = one.with(|held| {
        let mut changes = held.changes();
        changes.update(&table, "a", |a| a.balance -= 1).unwrap();
        changes.insert(&table, "new", &Account { balance: 1 }).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(move || {
                two.change(|c| c.insert(&others, "new", &Account { balance: 2 })).unwrap();
            });
            other.join().unwrap();
        });
        changes.commit()
    });
    assert!(matches!(made.unwrap(), Err(Error::Guarded { .. })));
    assert_eq!((balance(&table, "a"), balance(&table, "new")), (100, 2), "nothing was changed");
    one.with(|_| ()).unwrap();
}

#[test]
fn of_two_plans_at_once_the_second_is_made_or_refused() {
    let runtime = runtime(16);
    let table = accounts(&runtime, &["a", "b", "c"]);
    let guard = runtime.guard("g").unwrap();
    let second = guard.with(|held| {
        let (mut one, mut two) = (held.changes(), held.changes());
        one.update(&table, "a", |a| a.balance -= 1).unwrap();
        one.update(&table, "b", |b| b.balance += 1).unwrap();
        two.update(&table, "b", |b| b.balance -= 10).unwrap();
        two.update(&table, "c", |c| c.balance += 10).unwrap();
        one.commit().unwrap();
        two.commit()
    });
    let sum: i64 = ["a", "b", "c"].map(|k| balance(&table, k)).iter().sum();
    assert_eq!(sum, 300, "{second:?}");
    let made = balance(&table, "c") == 110;
    assert_eq!(made, second.unwrap().is_ok());
}

#[test]
fn a_guard_has_one_word_however_it_was_registered_first() {
    let runtime = runtime(4);
    let space = runtime.space();
    let handle = runtime.handle().unwrap();
    use commonhold_runtime::core::directory::{NameKind, NewName};
    let new = |labels| NewName {
        kind: NameKind::Guard,
        name: "g",
        unit: "",
        labels,
        help: "",
        extra: 0,
        width: 2,
    };
    // Two who looked at the same time and found none.
    let one = handle.register_name(&new("metrics")).unwrap();
    let two = handle.register_name(&new("")).unwrap();
    assert_eq!(one.index, two.index);
    assert_eq!(space.names().unwrap().len(), 1);
}

#[test]
fn a_change_that_was_made_is_not_reported_as_refused() {
    let runtime = runtime(4);
    let table = accounts(&runtime, &["a", "b"]);
    let options = GuardOptions::new().hold_limit(Duration::from_millis(1));
    let slow = runtime.guard_with("g", &options).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut made = 0;
    std::thread::scope(|s| {
        let next = runtime.guard_with("g", &options).unwrap();
        let stop = &stop;
        s.spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = next.with(|_| ());
            }
        });
        for _ in 0..20000 {
            let result = slow.change(|changes| {
                changes.update(&table, "a", |a| a.balance -= 1)?;
                changes.update(&table, "b", |b| b.balance += 1)?;
                Ok::<(), Error>(())
            });
            match result {
                Ok(()) => made += 1,
                Err(Error::Fenced { .. }) => {}
                Err(e) => panic!("{e}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(balance(&table, "b") - 100, made);
}
