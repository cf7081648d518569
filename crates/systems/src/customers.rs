//! Customers: a cap that many processes spend from at once, and never overspend.
//!
//! The one invariant: nothing is spent while `used + n > cap`. It is decided inside the update, on the very
//! state that the commit replaces, so no two processes can both take the last unit. A cap may be lowered
//! below `used`; then nothing more is spent until it is raised.

use std::borrow::Borrow;

use commonhold_runtime::{
    Commit, Config, Error, Handle, Record, Runtime, Table, TableConfig, Text, UpdateError,
};

/// The table's name.
pub const TABLE: &str = "customers";

/// One customer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Record)]
#[record(crate = "commonhold_runtime::core")]
pub struct Customer {
    /// What may be spent in all.
    pub cap: i64,
    /// What was spent.
    pub used: i64,
    /// What the customer may do.
    pub access_level: Text<16>,
}

/// Which customer, and what must still hold of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// The customer's key.
    pub customer: String,
    /// The cap that it must have, if any.
    pub cap: Option<i64>,
    /// The access level that it must have, if any.
    pub access_level: Option<Text<16>>,
}

/// How a number changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// It becomes this.
    Set(i64),
    /// This is added.
    Add(i64),
}

/// What to change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// The cap.
    pub cap: Option<Number>,
    /// The access level.
    pub access_level: Option<Text<16>>,
}

/// Whether somebody matched the query and was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Updated {
    /// False when nobody matched; nothing was changed then.
    pub updated: bool,
}

/// Why nothing was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSpent {
    /// It would exceed the cap.
    #[error("{used} of {cap} used; {asked} more would exceed the cap")]
    OverCap {
        /// What was spent.
        used: i64,
        /// What may be spent in all.
        cap: i64,
        /// What was asked for.
        asked: i64,
    },
    /// Only positive amounts can be spent.
    #[error("{0} cannot be spent; give an amount above 0")]
    NotPositive(i64),
}

/// Why a customer could not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotUpdated {
    /// The query's fields do not hold.
    #[error("the customer does not match the query")]
    NoMatch,
    /// The new cap does not fit in 64 bits.
    #[error("{cap} + {add} is beyond 64 bits")]
    Overflow {
        /// The cap.
        cap: i64,
        /// What was to be added.
        add: i64,
    },
}

/// The customers of a segment.
#[derive(Debug)]
pub struct Customers<H: Borrow<Handle> = Handle> {
    table: Table<Customer, H>,
}

impl Customers {
    /// The customers of the segment that `runtime` opened, which must have the table
    /// ([`with_customers`] adds it to a configuration).
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Participants`].
    pub fn open(runtime: &Runtime) -> Result<Self, Error> {
        Ok(Self { table: runtime.table(TABLE)? })
    }
}

/// Adds the customers' table to a configuration.
#[must_use]
pub fn with_customers(config: Config) -> Config {
    config.table(TableConfig::of::<Customer>(TABLE))
}

impl<H: Borrow<Handle>> Customers<H> {
    /// The customers of a segment, through `handle`.
    ///
    /// # Errors
    /// [`Error::UnknownTable`]; [`Error::Schema`] when somebody else's table has the name.
    pub fn new(handle: H) -> Result<Self, Error> {
        Ok(Self { table: Table::new(handle, TABLE)? })
    }

    /// The customers' table, for everything else.
    #[must_use]
    pub fn table(&self) -> &Table<Customer, H> {
        &self.table
    }

    /// Changes cap and access level of the customer that `query` names, if its fields still hold, as one
    /// atomic step.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] when the sum does not fit; [`UpdateError::Failed`] when the runtime cannot.
    pub fn update_customer_cap_and_access(
        &self,
        query: &Query,
        update: &Update,
    ) -> Result<Updated, UpdateError<NotUpdated>> {
        let change = |customer: &mut Customer| {
            let cap_holds = query.cap.is_none_or(|cap| cap == customer.cap);
            let level_holds = query.access_level.is_none_or(|level| level == customer.access_level);
            if !cap_holds || !level_holds {
                return Err(NotUpdated::NoMatch);
            }
            customer.cap = match update.cap {
                None => customer.cap,
                Some(Number::Set(cap)) => cap,
                Some(Number::Add(add)) => customer
                    .cap
                    .checked_add(add)
                    .ok_or(NotUpdated::Overflow { cap: customer.cap, add })?,
            };
            customer.access_level = update.access_level.unwrap_or(customer.access_level);
            Ok(())
        };
        match self.table.update(&query.customer, change) {
            Ok(_) => Ok(Updated { updated: true }),
            Err(
                UpdateError::Refused(NotUpdated::NoMatch)
                | UpdateError::Failed(Error::NotFound { .. }),
            ) => Ok(Updated { updated: false }),
            Err(e) => Err(e),
        }
    }

    /// Spends `amount`, if it does not exceed the cap.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with [`NotSpent`]; [`Error::NotFound`] when there is no such customer.
    pub fn spend(&self, customer: &str, amount: i64) -> Result<Commit<'_>, UpdateError<NotSpent>> {
        self.table.update(customer, |c: &mut Customer| {
            if amount <= 0 {
                return Err(NotSpent::NotPositive(amount));
            }
            match c.used.checked_add(amount).filter(|used| *used <= c.cap) {
                Some(used) => {
                    c.used = used;
                    Ok(())
                }
                None => Err(NotSpent::OverCap { used: c.used, cap: c.cap, asked: amount }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> Runtime {
        Runtime::open(with_customers(Config::ephemeral())).unwrap()
    }

    fn customer(cap: i64, used: i64) -> Customer {
        Customer { cap, used, access_level: Text::new("basic").unwrap() }
    }

    #[test]
    fn only_who_matches_is_updated() {
        let runtime = runtime();
        let customers = Customers::open(&runtime).unwrap();
        customers.table().insert("c", &customer(10, 0)).unwrap();
        let query = |cap, level: Option<&str>| Query {
            customer: "c".to_owned(),
            cap,
            access_level: level.map(|l| Text::new(l).unwrap()),
        };
        let add = Update { cap: Some(Number::Add(5)), access_level: None };
        let update = |q: &Query, u: &Update| customers.update_customer_cap_and_access(q, u);
        assert!(update(&query(None, None), &add).unwrap().updated);
        assert!(!update(&query(Some(10), None), &add).unwrap().updated, "the cap is 15 by now");
        assert!(update(&query(Some(15), Some("basic")), &add).unwrap().updated);
        assert!(!update(&query(None, Some("gold")), &add).unwrap().updated);
        let nobody = Query { customer: "d".to_owned(), ..Query::default() };
        assert!(!update(&nobody, &add).unwrap().updated);
        let gold = Text::new("gold").unwrap();
        let set = Update { cap: Some(Number::Set(i64::MAX)), access_level: Some(gold) };
        assert!(update(&query(None, None), &set).unwrap().updated);
        assert!(update(&query(None, None), &add).is_err(), "the sum does not fit");
        let now = customers.table().get("c").unwrap().unwrap();
        assert_eq!((now.cap, now.access_level), (i64::MAX, gold));
    }

    #[test]
    fn many_spenders_never_exceed_the_cap() {
        let runtime = runtime();
        let customers = Customers::open(&runtime).unwrap();
        customers.table().insert("c", &customer(1000, 0)).unwrap();
        let spent: i64 = std::thread::scope(|scope| {
            let spenders: Vec<_> = (0..4)
                .map(|i| {
                    let runtime = &runtime;
                    scope.spawn(move || {
                        let customers = Customers::open(runtime).unwrap();
                        (0..1000).filter(|_| customers.spend("c", i % 3 + 1).is_ok()).count() as i64
                            * (i % 3 + 1)
                    })
                })
                .collect();
            spenders.into_iter().map(|s| s.join().unwrap()).sum()
        });
        let now = customers.table().get("c").unwrap().unwrap();
        assert_eq!(now.used, spent, "what was acknowledged was spent");
        assert_eq!(now.used, 1000, "to the last unit, and not one more");
    }

    #[test]
    fn below_a_lowered_cap_nothing_is_spent() {
        let runtime = runtime();
        let customers = Customers::open(&runtime).unwrap();
        customers.table().insert("c", &customer(10, 8)).unwrap();
        let query = Query { customer: "c".to_owned(), ..Query::default() };
        let lower = Update { cap: Some(Number::Set(5)), access_level: None };
        assert!(customers.update_customer_cap_and_access(&query, &lower).unwrap().updated);
        let refused = customers.spend("c", 1).unwrap_err();
        let over = NotSpent::OverCap { used: 8, cap: 5, asked: 1 };
        assert!(matches!(refused, UpdateError::Refused(e) if e == over));
        assert!(customers.spend("c", 0).is_err() && customers.spend("c", -3).is_err());
        assert_eq!(customers.table().get("c").unwrap().unwrap(), customer(5, 8));
    }
}
