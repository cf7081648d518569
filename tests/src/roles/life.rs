//! Coming, standing for the steward's role, and going.

use std::time::Duration;

use commonhold::{Config, Error, Runtime, Table, TableConfig, UpdateError};

use super::{Ended, attach as attach_to, say, told};
use crate::random::Random;
use crate::stage::{FULL, Item, LATEST, LIMIT};

/// Attaches, works a little, leaves, again and again until it is killed; or stays for that once it has worked.
pub(super) fn attach(segment: &str, args: &[&str]) -> Ended {
    let [seed] = args[..] else { return Err("attach: arguments".into()) };
    let mut random = Random::new(seed.parse()?);
    let mut first = true;
    loop {
        let runtime = attach_to(segment, false)?;
        let mut tables = Vec::new();
        for name in [FULL, LATEST] {
            let table: Table<Item> = runtime.table(name)?;
            let number = random.below(24);
            let key = format!("key-{number}");
            let item = Item { owner: number.cast_signed(), n: 0 };
            match table.insert(&key, &item) {
                Ok(_) | Err(Error::Exists { .. }) => {}
                Err(e) => return Err(e.into()),
            }
            match table.update(&key, |item| item.n += 1) {
                Ok(_) | Err(UpdateError::Failed(Error::NotFound { .. })) => {}
                Err(e) => return Err(e.into()),
            }
            if random.below(2) == 0 {
                match table.delete(&key) {
                    Ok(_) | Err(Error::NotFound { .. }) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            tables.push(table);
        }
        if std::mem::take(&mut first) {
            say("going");
            while random.below(4) > 0 {
                nix::unistd::pause();
            }
        }
    }
}

/// Stands for the steward's role. Told `durable`, commits and waits until that is stored; at the end leaves.
pub(super) fn candidate(segment: &str) -> Ended {
    let runtime = attach_to(segment, true)?;
    let table: Table<Item> = runtime.table(FULL)?;
    let key = format!("candidate-{}", std::process::id());
    say("ready");
    while let Some(line) = told() {
        let mut commit = table.update_or_insert(&key, Item::default, |item| item.n += 1)?;
        for _ in 0..50 {
            commit = table.update(&key, |item| item.n += 1)?;
        }
        if line == "durable" {
            commit.durable(LIMIT)?;
        }
        say(&line);
    }
    drop(table);
    drop(runtime);
    say("left");
    Ok(())
}

/// Told `go`, makes the segment, or attaches when another was first: its uuid and its store's epoch.
pub(super) fn create(segment: &str, args: &[&str]) -> Ended {
    let [store] = args[..] else { return Err("create: arguments".into()) };
    let config = Config::named(segment).store(store);
    let config = config.participants(32).table(TableConfig::of::<Item>(FULL).slots(64).cells(500));
    say("ready");
    told();
    let runtime = Runtime::open(config)?;
    let header = runtime.space().segment().header();
    let table: Table<Item> = runtime.table(FULL)?;
    table.update_or_insert("all", Item::default, |item| item.n += 1)?;
    let uuid = u128::from_le_bytes(header.uuid);
    say(&format!("segment {uuid:032x} {}", header.store_epoch));
    told();
    Ok(())
}

/// Sweeps once: how many participants it took for dead.
pub(super) fn sweep(segment: &str) -> Ended {
    let config = Config::named(segment).attach_only().without_steward();
    let runtime = Runtime::open(config.room_wait(Duration::ZERO))?;
    say(&format!("dead {}", runtime.sweep()?.participants));
    Ok(())
}
