//! Waiting for what other processes do.

use commonhold::Table;

use super::{Ended, attach, say};
use crate::stage::{Item, LIMIT};

/// Waits until `key` is there with `n` or more.
pub(super) fn wait(segment: &str, args: &[&str]) -> Ended {
    let [table, key, n] = args[..] else { return Err("wait: arguments".into()) };
    let n: i64 = n.parse()?;
    let runtime = attach(segment, false)?;
    let table: Table<Item> = runtime.table(table)?;
    say("waiting");
    let item = table.wait_for(key, |item| item.n >= n, LIMIT)?;
    say(&format!("woken {}", item.n));
    Ok(())
}

/// Answers every odd number in `ball` by the next even one.
pub(super) fn pong(segment: &str, args: &[&str]) -> Ended {
    let [table, rounds] = args[..] else { return Err("pong: arguments".into()) };
    let runtime = attach(segment, false)?;
    let table: Table<Item> = runtime.table(table)?;
    say("ready");
    for round in 0..rounds.parse::<i64>()? {
        table.wait_for("ball", |item| item.n == 2 * round + 1, LIMIT)?;
        table.update("ball", |item| item.n += 1)?;
    }
    say("done");
    Ok(())
}

/// Takes one from `stock`, whenever there is one, so many times.
pub(super) fn consume(segment: &str, args: &[&str]) -> Ended {
    let [table, count] = args[..] else { return Err("consume: arguments".into()) };
    let runtime = attach(segment, false)?;
    let table: Table<Item> = runtime.table(table)?;
    say("ready");
    for _ in 0..count.parse::<u64>()? {
        let take = |item: &mut Item| {
            if item.n < 1 {
                return Err("taken though there is none");
            }
            item.n -= 1;
            Ok(())
        };
        table.update_when("stock", |item| item.n > 0, take, LIMIT)?;
    }
    say("done");
    Ok(())
}
