//! A stream of commits to both tables, each acknowledged in a file after the call returned.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::Ordering;

use commonhold::Table;

use super::{Ended, attach, say, stop_when_told};
use crate::random::Random;
use crate::stage::{FULL, Item, LATEST, LIMIT};

/// After so many rounds the role says that it is going.
const GOING: u64 = 10;
/// The keys of the full table that all streams share.
pub(crate) const SHARED: u64 = 4;

/// Acknowledges `f` for a commit to the full table, `l` to the latest one, `d` for all so far being durable.
pub(super) fn stream(segment: &str, args: &[&str]) -> Ended {
    let [acks, own, candidate, seed] = args[..] else { return Err("stream: arguments".into()) };
    let mut acks = OpenOptions::new().append(true).create(true).open(acks)?;
    let mut random = Random::new(seed.parse()?);
    let runtime = attach(segment, candidate == "candidate")?;
    let handle = runtime.handle()?;
    let full: Table<Item, _> = Table::new(&handle, FULL)?;
    let latest: Table<Item, _> = Table::new(&handle, LATEST)?;
    let stop = stop_when_told();
    say(&format!("writer {}", handle.writer()));
    let mut rounds = 0;
    while !stop.load(Ordering::Acquire) {
        let key = format!("shared-{}", random.below(SHARED));
        let commit = full.update_or_insert(&key, Item::default, |item| item.n += 1)?;
        acks.write_all(b"f")?;
        latest.update_or_insert(own, Item::default, |item| item.n += 1)?;
        acks.write_all(b"l")?;
        if random.below(64) == 0 {
            commit.durable(LIMIT)?;
            acks.write_all(b"d")?;
        }
        rounds += 1;
        if rounds == GOING {
            say("going");
        }
    }
    say(&format!("done {rounds}"));
    Ok(())
}
