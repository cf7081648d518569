//! Typed tables: what a conditional deletion promises.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use commonhold_runtime::core::catalogue::History;
use commonhold_runtime::{Config, Error, Record, Runtime, Table, TableConfig};

#[derive(Debug, Clone, Default, PartialEq, Eq, Record)]
#[record(crate = "commonhold_runtime::core")]
struct Lamp {
    lit: bool,
    switched: i64,
}

const DARK: Lamp = Lamp { lit: false, switched: 0 };

fn runtime() -> Runtime {
    let table = TableConfig::of::<Lamp>("lamps").slots(16).history(History::Latest);
    Runtime::open(Config::ephemeral().participants(8).table(table)).unwrap()
}

#[test]
fn only_what_is_doomed_is_deleted() {
    let runtime = runtime();
    let lamps: Table<Lamp> = runtime.table("lamps").unwrap();
    lamps.insert("a", &DARK).unwrap();
    assert!(lamps.delete_if("a", |lamp| lamp.lit).unwrap().is_none());
    assert_eq!(lamps.get("a").unwrap(), Some(DARK));
    let version = lamps.delete_if("a", |lamp| !lamp.lit).unwrap().unwrap().version();
    assert_eq!((version, lamps.get("a").unwrap()), (2, None));
    let gone = lamps.delete_if("a", |_| true).unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
}

#[test]
fn it_is_decided_on_the_version_that_goes() {
    let runtime = runtime();
    let (lamps, other): (Table<Lamp>, Table<Lamp>) =
        (runtime.table("lamps").unwrap(), runtime.table("lamps").unwrap());
    lamps.insert("a", &DARK).unwrap();
    let looks = Cell::new(0);
    let kept = lamps.delete_if("a", |lamp| {
        // Between this look and the exchange somebody switches it on.
        if looks.replace(looks.get() + 1) == 0 {
            other.update("a", |lamp: &mut Lamp| lamp.lit = true).unwrap();
        }
        !lamp.lit
    });
    assert!(kept.unwrap().is_none() && looks.get() == 2, "{} looks", looks.get());
    assert_eq!(lamps.get("a").unwrap(), Some(Lamp { lit: true, switched: 0 }));
}

#[test]
fn who_switches_and_who_deletes_are_never_both_right() {
    let runtime = runtime();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let lamps: Table<Lamp> = runtime.table("lamps").unwrap();
            let mut swept = 0_u64;
            while !done.load(Ordering::Acquire) {
                swept += u64::from(matches!(lamps.delete_if("a", |lamp| !lamp.lit), Ok(Some(_))));
            }
            swept
        });
        let lamps: Table<Lamp> = runtime.table("lamps").unwrap();
        let mut lit = 0;
        for round in 0..3000 {
            lamps.upsert("a", &Lamp { lit: false, switched: round }).unwrap();
            let on = lamps.update("a", |lamp: &mut Lamp| lamp.lit = true);
            let now = lamps.get("a").unwrap();
            // Who switched it on finds it; who did not, had it swept.
            assert_eq!(on.is_ok(), now.is_some_and(|lamp| lamp.lit), "round {round}");
            lit += u64::from(on.is_ok());
        }
        done.store(true, Ordering::Release);
        let swept = sweeper.join().unwrap();
        println!("{lit} lamps were lit in time, {swept} swept");
        assert_eq!(lit + swept, 3000);
    });
}
