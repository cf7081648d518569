//! Named counters.

use std::borrow::Borrow;

use commonhold_core::directory::Descriptor;
use commonhold_core::{Error, Handle};

/// A signed number that everybody adds to, found by its name and kept in the store. `Send`, not `Sync`.
///
/// An addition is one atomic step: none is lost, whoever is killed. The store has the value of about a second ago, and
/// the present one after [`crate::Runtime::drain`] and whenever the last process leaves. A segment that is made anew
/// from its store goes on with the stored value.
///
/// `H` is the participant: its own ([`Handle`], from [`crate::Runtime::counter`]) or a shared one (`&Handle`).
pub struct Counter<H: Borrow<Handle> = Handle> {
    handle: H,
    found: Descriptor,
}

impl<H: Borrow<Handle>> std::fmt::Debug for Counter<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Counter({})", self.found.name)
    }
}

impl<H: Borrow<Handle>> Counter<H> {
    /// The counter `name`, made now with 0 if it is not there.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::NamesFull`].
    pub fn new(handle: H, name: &str) -> Result<Self, Error> {
        let found = handle.borrow().register_counter(name)?;
        Ok(Self { handle, found })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.found.name
    }

    /// Adds `add`, which may be negative; the value that this made.
    ///
    /// # Errors
    /// [`Error::CounterOverflow`] when the sum does not fit: nothing was added.
    ///
    /// # Examples
    /// ```
    /// # use commonhold_runtime::{Config, Runtime, TableConfig};
    /// # let config = Config::ephemeral().table(TableConfig::new("t", &["n:i64"]));
    /// let runtime = Runtime::open(config)?;
    /// let orders = runtime.counter("orders")?;
    /// assert_eq!(orders.add(3)?, 3);
    /// assert_eq!(orders.add(-1)?, 2);
    /// assert!(orders.add(i64::MAX).is_err());
    /// assert_eq!(orders.get()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn add(&self, add: i64) -> Result<i64, Error> {
        self.handle.borrow().add_counter(&self.found, add)
    }

    /// Its value.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the segment's file was cut short.
    pub fn get(&self) -> Result<i64, Error> {
        self.handle.borrow().space().counter_value(&self.found)
    }
}
