//! Guards as a user has them: threads of one process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::mpsc;
use std::time::Duration;

use commonhold_runtime::core::directory::{NameKind, NewName};
use commonhold_runtime::{
    Changes, Config, Error, Guard, GuardOptions, Previous, Record, Runtime, Table, TableConfig,
};

#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(crate = "commonhold_runtime::core")]
struct Account {
    balance: i64,
}

const LONG: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    let table = TableConfig::of::<Account>("accounts");
    Runtime::open(Config::ephemeral().store("none").table(table)).unwrap()
}

/// Few records fit, and nobody waits for room.
fn runtime_with(slots: u32) -> Runtime {
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
fn a_change_is_made_wholly_or_not_at_all() {
    let runtime = runtime();
    let accounts = accounts(&runtime, &["a", "b"]);
    let guard = runtime.guard("transfers").unwrap();
    let transfer = |changes: &mut Changes<'_>| {
        changes.update(&accounts, "a", |a| a.balance -= 30)?;
        changes.update(&accounts, "b", |b| b.balance += 30)?;
        assert_eq!(changes.get(&accounts, "a")?.unwrap().balance, 70, "as it is planned");
        changes.update(&accounts, "a", |a| a.balance -= 1)?;
        changes.insert(&accounts, "c", &Account { balance: 1 })
    };
    guard.change(transfer).unwrap();
    assert_eq!((balance(&accounts, "a"), balance(&accounts, "b")), (69, 130));
    assert_eq!(balance(&accounts, "c"), 1);
    let refused = guard.change(|changes| {
        changes.update(&accounts, "a", |a| a.balance -= 30)?;
        changes.delete(&accounts, "c")?;
        Ok::<(), Error>(changes.update(&accounts, "nobody", |n| n.balance += 30)?)
    });
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    assert_eq!((balance(&accounts, "a"), balance(&accounts, "c")), (69, 1));
    let renewed = |changes: &mut Changes<'_>| {
        changes.delete(&accounts, "c")?;
        changes.delete(&accounts, "b")?;
        changes.put(&accounts, "b", &Account { balance: 5 })
    };
    guard.change(renewed).unwrap();
    assert_eq!((accounts.get("c").unwrap(), balance(&accounts, "b")), (None, 5));
    assert_eq!(runtime.space().intents_in_use().unwrap(), 0);
}

#[test]
fn what_a_guard_has_looked_at_is_changed_under_it_only() {
    let runtime = runtime();
    let accounts = accounts(&runtime, &["a", "free"]);
    let (one, two) = (runtime.guard("one").unwrap(), runtime.guard("two").unwrap());
    one.with(|held| held.get(&accounts, "a").unwrap()).unwrap();
    let want =
        "table `accounts`: the record is guarded by `one`; change it while you hold that guard";
    let refused = accounts.update("a", |a| a.balance += 1).unwrap_err();
    assert_eq!(refused.to_string(), want);
    assert_eq!(accounts.delete("a").unwrap_err().to_string(), want);
    let other = two.with(|held| held.get(&accounts, "a")).unwrap();
    assert_eq!(other.unwrap_err().to_string(), want);
    accounts.update("free", |a| a.balance += 1).unwrap();
    assert_eq!((balance(&accounts, "a"), balance(&accounts, "free")), (100, 101));
    // Deleted under the guard, it is nobody's.
    one.change(|changes| changes.delete(&accounts, "a")).unwrap();
    accounts.insert("a", &Account { balance: 7 }).unwrap();
    accounts.update("a", |a| a.balance += 1).unwrap();
    assert_eq!(balance(&accounts, "a"), 8);
}

#[test]
fn guards_are_not_nested() {
    let runtime = runtime();
    let (one, two) = (runtime.guard("one").unwrap(), runtime.guard("two").unwrap());
    let other = Runtime::open(Config::ephemeral().store("none").without_tables()).unwrap();
    let elsewhere = other.guard("one").unwrap();
    let nested = || {
        let refused = two.with(|_| ()).unwrap_err().to_string();
        let want =
            "guard `two`: this thread holds guard `one`; leave it first: guards are not nested";
        assert_eq!(refused, want);
        assert!(matches!(one.try_with(|_| ()), Err(Error::Nested { .. })));
        let refused = elsewhere.with(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("holds guard `of another segment`"), "{refused}");
    };
    one.with(|_| nested()).unwrap();
    two.with(|held| assert_eq!(held.number(), 1, "it was never taken")).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = two.with(|_| panic!("in the section"));
    }));
    assert!(caught.is_err());
    let after = two.with(|held| (held.number(), held.previous())).unwrap();
    assert_eq!(after, (3, Previous::Released), "a panic leaves the guard");
}

#[test]
fn many_hold_it_one_at_a_time() {
    const THREADS: i64 = 8;
    const ROUNDS: i64 = 2000;
    let runtime = runtime();
    let table = accounts(&runtime, &["a", "b"]);
    let guard = runtime.guard("transfers").unwrap();
    let transfers = |thread: i64| {
        let guard = runtime.guard("transfers").unwrap();
        let accounts = runtime.table::<Account>("accounts").unwrap();
        for round in 0..ROUNDS {
            let (from, to) = if (thread + round) % 2 == 0 { ("a", "b") } else { ("b", "a") };
            let transfer = |changes: &mut Changes<'_>| {
                let mut of = |key| changes.get(&accounts, key).map(|a| a.unwrap().balance);
                assert_eq!(of("a")? + of("b")?, 200, "no holder sees a half-done change");
                changes.update(&accounts, from, |a| a.balance -= 1)?;
                Ok::<(), Error>(changes.update(&accounts, to, |a| a.balance += 1)?)
            };
            guard.change(transfer).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let transfers = &transfers;
            scope.spawn(move || transfers(thread));
        }
    });
    assert_eq!(guard.with(|held| held.number()).unwrap(), (THREADS * ROUNDS) as u64 + 1);
    assert_eq!(balance(&table, "a") + balance(&table, "b"), 200);
    assert_eq!(runtime.space().intents_in_use().unwrap(), 0);
}

/// Holds the guard in a thread of its own until the sender is dropped.
fn hold(guard: Guard) -> (mpsc::Sender<()>, std::thread::JoinHandle<Result<(), Error>>) {
    let (let_go, wait) = mpsc::channel::<()>();
    let (holds, held) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        guard.with(|_| {
            holds.send(()).unwrap();
            let _ = wait.recv();
        })
    });
    held.recv().unwrap();
    (let_go, thread)
}

#[test]
fn who_only_tries_or_waits_for_a_while_is_told() {
    let runtime = runtime();
    let guard = runtime.guard("g").unwrap();
    let (let_go, thread) = hold(runtime.guard("g").unwrap());
    assert!(guard.try_with(|_| ()).unwrap().is_none());
    let late = guard.with_within(Duration::from_millis(20), |_| ()).unwrap_err().to_string();
    let pid = std::process::id();
    assert!(late.contains("guard `g`") && late.contains(&format!("process {pid}")), "{late}");
    drop(let_go);
    thread.join().unwrap().unwrap();
    guard.with_within(LONG, |_| ()).unwrap();
    assert!(guard.try_with(|_| ()).unwrap().is_some());
}

#[test]
fn contention_and_waiting_are_counted_as_they_were() {
    let runtime = runtime();
    let figures = || runtime.space().guards().unwrap().remove(0);
    let guard = runtime.guard("g").unwrap();
    for _ in 0..5 {
        guard.with(|held| assert_eq!(held.waited(), Duration::ZERO)).unwrap();
    }
    assert_eq!((figures().number, figures().contentions), (5, 0));
    let mut waited = Duration::ZERO;
    for round in 1..=3 {
        let (let_go, thread) = hold(runtime.guard("g").unwrap());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let guard = runtime.guard("g").unwrap();
                guard.with(|held| held.waited()).unwrap()
            });
            while figures().waiters == 0 {
                std::thread::yield_now();
            }
            assert!(figures().holder.is_some());
            drop(let_go);
            waited += waiter.join().unwrap();
        });
        thread.join().unwrap().unwrap();
        assert_eq!((figures().contentions, figures().waiters), (round, 0));
        assert_eq!(figures().waited, waited, "each waiter's own count, to the nanosecond");
    }
    assert!(waited > Duration::ZERO && figures().holder.is_none());
}

#[test]
fn who_holds_a_limited_guard_for_too_long_is_fenced_off() {
    let runtime = runtime();
    let table = accounts(&runtime, &["a", "b"]);
    let limited = |ms| {
        let options = GuardOptions::new().hold_limit(Duration::from_millis(ms));
        runtime.guard_with("limited", &options)
    };
    let (slow, next) = (limited(10).unwrap(), limited(10).unwrap());
    let accounts = runtime.table::<Account>("accounts").unwrap();
    let others = runtime.table::<Account>("accounts").unwrap();
    let result = slow.with(|held| {
        assert_eq!(held.number(), 1);
        let mut changes = held.changes();
        changes.update(&accounts, "a", |a| a.balance -= 50).unwrap();
        changes.update(&accounts, "b", |b| b.balance += 50).unwrap();
        let taken = std::thread::scope(|scope| {
            let other = scope.spawn(move || {
                let taken = next.with(|held| (held.number(), held.previous())).unwrap();
                next.change(|changes| {
                    Ok::<(), Error>(changes.update(&others, "a", |a| a.balance += 1)?)
                })
                .unwrap();
                taken
            });
            other.join().unwrap()
        });
        assert_eq!(taken, (2, Previous::Fenced));
        let refused = changes.commit().unwrap_err().to_string();
        assert!(refused.contains("guard `limited`: you held it as number 1"), "{refused}");
        assert!(matches!(held.get(&accounts, "a"), Err(Error::Fenced { .. })));
    });
    assert!(matches!(result, Err(Error::Fenced { number: 1, .. })), "{result:?}");
    assert_eq!((balance(&table, "a"), balance(&table, "b")), (101, 100));
    assert!(matches!(limited(11), Err(Error::OtherKind { .. })));
}

#[test]
fn a_change_that_does_not_fit_is_refused_before_anything_is_done() {
    let table = TableConfig::of::<Account>("accounts").slots(4096);
    let config = Config::ephemeral().store("none").intents(1).table(table);
    let runtime = Runtime::open(config.room_wait(Duration::ZERO)).unwrap();
    let accounts = runtime.table::<Account>("accounts").unwrap();
    let guard = runtime.guard("g").unwrap();
    let all = |count: usize| {
        guard.change(|changes| {
            (0..count).try_for_each(|i| {
                changes.put(&accounts, &format!("key {i}"), &Account { balance: 1 })
            })
        })
    };
    let refused = all(1000).unwrap_err().to_string();
    assert!(refused.contains("guard `g`: the change takes 11 pages and 1 are free"), "{refused}");
    assert!(refused.contains("raise `intents`") && accounts.is_empty().unwrap());
    all(80).unwrap();
    assert_eq!(accounts.len().unwrap(), 80);
    assert_eq!(runtime.space().intents_in_use().unwrap(), 0);
}

#[test]
fn a_guard_is_of_use_after_a_change_that_found_no_room() {
    let runtime = runtime_with(4);
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
    let runtime = runtime_with(16);
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
    let runtime = runtime_with(16);
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
    let runtime = runtime_with(4);
    let space = runtime.space();
    let handle = runtime.handle().unwrap();
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
    let runtime = runtime_with(4);
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
