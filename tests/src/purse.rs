//! Three records that are changed together under one guard: what a holder must find, and what shows a half-made change.

use std::time::Duration;

use commonhold::{Error, Guard, GuardOptions, Handle, Held, Table};

use crate::stage::{FULL, Item, LATEST};

/// The guard of the three records.
pub const GUARD: &str = "transfers";
/// What `from` and `to` have together.
const SUM: i64 = 200;
/// Makes a record whole: its owner is its number times this.
const FACTOR: i64 = 7919;

/// The guard and the three records, through one participant: each change moves one from `from` to `to`, which is in the
/// other table, and counts itself in `count`.
#[derive(Debug)]
pub struct Purse<'a> {
    /// The guard.
    pub guard: Guard<&'a Handle>,
    full: Table<Item, &'a Handle>,
    latest: Table<Item, &'a Handle>,
}

fn item(n: i64) -> Item {
    Item { owner: n * FACTOR, n }
}

fn add(item: &mut Item, n: i64) {
    item.n += n;
    item.owner = item.n * FACTOR;
}

impl<'a> Purse<'a> {
    /// The guard, with a hold limit or without, and the records.
    ///
    /// # Errors
    /// As the guard and the tables.
    pub fn new(handle: &'a Handle, limit: Option<Duration>) -> Result<Self, Error> {
        let options = GuardOptions::new();
        let options = limit.map_or(options.clone(), |limit| options.hold_limit(limit));
        let guard = Guard::new(handle, GUARD, &options)?;
        Ok(Self { guard, full: Table::new(handle, FULL)?, latest: Table::new(handle, LATEST)? })
    }

    /// Makes the records.
    pub fn fill(&self) {
        self.full.insert("from", &item(SUM / 2)).unwrap();
        self.latest.insert("to", &item(SUM / 2)).unwrap();
        self.full.insert("count", &item(0)).unwrap();
    }

    /// What a holder sees; how many changes were made. A half-made change or a torn record is an error.
    ///
    /// # Errors
    /// As [`Held::get`], and what is wrong.
    pub fn check(&self, held: &Held<'_>) -> Result<i64, Error> {
        let of = |found: Option<Item>| found.map_or(i64::MIN, |item| whole(&item));
        let from = of(held.get(&self.full, "from")?);
        let to = of(held.get(&self.latest, "to")?);
        let count = of(held.get(&self.full, "count")?);
        assert!(fit(from, to, count), "a holder sees {from}, {to}, {count}");
        Ok(count)
    }

    /// One change; the holder looks before it.
    ///
    /// # Errors
    /// As [`Held::get`] and `Changes::commit`.
    pub fn transfer(&self, held: &Held<'_>) -> Result<(), Error> {
        self.check(held)?;
        let mut changes = held.changes();
        changes.update(&self.full, "from", |item| add(item, -1))?;
        changes.update(&self.latest, "to", |item| add(item, 1))?;
        changes.update(&self.full, "count", |item| add(item, 1))?;
        changes.commit()
    }

    /// The three numbers as who has no guard reads them, one after the other; each record is whole.
    #[must_use]
    pub fn read(&self) -> [i64; 3] {
        let get = |table: &Table<Item, _>, key| whole(&table.get(key).unwrap().unwrap());
        [get(&self.full, "from"), get(&self.latest, "to"), get(&self.full, "count")]
    }

    /// While nobody works: how many changes were made, or none when one was half made.
    #[must_use]
    pub fn made(&self) -> Option<i64> {
        let [from, to, count] = self.read();
        fit(from, to, count).then_some(count)
    }
}

fn whole(item: &Item) -> i64 {
    assert_eq!(item.owner, item.n * FACTOR, "a torn record");
    item.n
}

fn fit(from: i64, to: i64, count: i64) -> bool {
    from.wrapping_add(to) == SUM && to.wrapping_sub(SUM / 2) == count
}
