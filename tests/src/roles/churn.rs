//! Deleting and making the same few keys again and again, and updating them through handles that go stale.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use commonhold::{Error, RecordRef, Table, UpdateError};

use super::{Ended, attach, say, stop_when_told};
use crate::random::Random;
use crate::stage::Item;

/// So many handles, stale ones among them, are held of each key.
const HELD: usize = 40;

/// The key of a number.
#[must_use]
pub(crate) fn key(number: u64) -> String {
    format!("key-{number}")
}

/// Makes, updates and deletes keys until it has deleted `count`: a line for each.
pub(super) fn churn(segment: &str, args: &[&str]) -> Ended {
    let [table, keys, count, seed] = args[..] else { return Err("churn: arguments".into()) };
    let (keys, count): (u64, u64) = (keys.parse()?, count.parse()?);
    let mut random = Random::new(seed.parse()?);
    let runtime = attach(segment, random.below(2) == 0)?;
    let table: Table<Item> = runtime.table(table)?;
    let mut deleted = 0;
    while deleted < count {
        let number = random.below(keys);
        let owner = number.cast_signed();
        let own = |item: &mut Item| {
            if item.owner != owner {
                return Err(format!("key {owner} holds {item:?}"));
            }
            item.n += 1;
            Ok(())
        };
        match random.below(4) {
            0 => match table.update(&key(number), own) {
                Ok(_) | Err(UpdateError::Failed(Error::NotFound { .. })) => {}
                Err(e) => return Err(e.into()),
            },
            1 => {
                table.update_or_insert(&key(number), || Item { owner, n: 0 }, own)?;
            }
            _ => {
                match table.insert(&key(number), &Item { owner, n: 0 }) {
                    Ok(_) | Err(Error::Exists { .. }) => {}
                    Err(e) => return Err(e.into()),
                }
                match table.delete(&key(number)) {
                    Ok(_) => {
                        deleted += 1;
                        say("deleted");
                    }
                    Err(Error::NotFound { .. }) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }
    say("done");
    Ok(())
}

/// Holds handles to records that come and go, and updates through all of them, until told to stop.
pub(super) fn hold(segment: &str, args: &[&str]) -> Ended {
    let [table, keys] = args[..] else { return Err("hold: arguments".into()) };
    let keys: u64 = keys.parse()?;
    let runtime = attach(segment, false)?;
    let table: Table<Item> = runtime.table(table)?;
    let mut held: Vec<VecDeque<RecordRef>> = (0..keys).map(|_| VecDeque::new()).collect();
    let (mut landed, mut stale) = (0_u64, 0_u64);
    let stop = stop_when_told();
    say("ready");
    while !stop.load(Ordering::Acquire) {
        for (number, held) in held.iter_mut().enumerate() {
            let found = table.find(&key(number as u64))?;
            if let Some(new) = found.filter(|new| held.back() != Some(new)) {
                held.push_back(new);
            }
            if held.len() > HELD {
                held.pop_front();
            }
            for record in held.iter().copied() {
                let read = table.get_at(record)?;
                if read.as_ref().is_some_and(|item| item.owner != number as i64) {
                    return Err(format!("a handle of key {number} reads {read:?}").into());
                }
                let done = table.update_at(record, |item| {
                    if item.owner != number as i64 {
                        return Err(format!("a handle of key {number} leads to {item:?}"));
                    }
                    item.n += 1;
                    Ok(())
                })?;
                *if done.is_some() { &mut landed } else { &mut stale } += 1;
            }
        }
    }
    say(&format!("held {landed} {stale}"));
    Ok(())
}
