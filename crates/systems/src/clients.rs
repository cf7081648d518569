//! Clients: what each client of a web server asked for, counted by many processes at once, never over a cap.
//!
//! The one invariant: nobody's `requests` or `bytes` ever exceed a cap. It is decided inside the update, on the
//! very state that the commit replaces. A request over a cap counts in `denied` and in nothing else, so every
//! request is exactly one commit, denied or not.

use std::borrow::Borrow;

use commonhold_runtime::{
    Commit, Config, Error, Handle, Record, Runtime, Table, TableConfig, UpdateError,
};

/// The table's name.
pub const TABLE: &str = "clients";

/// One client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Record)]
#[record(crate = "commonhold_runtime::core")]
pub struct Client {
    /// Requests that were served.
    pub requests: i64,
    /// Bytes that were sent for them.
    pub bytes: i64,
    /// Requests that would have exceeded a cap.
    pub denied: i64,
}

/// What one client may have; what is not capped ends where 64 bits do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The most requests.
    pub requests: i64,
    /// The most bytes.
    pub bytes: i64,
}

/// The clients of a segment.
#[derive(Debug)]
pub struct Clients<H: Borrow<Handle> = Handle> {
    table: Table<Client, H>,
}

impl Default for Caps {
    fn default() -> Self {
        Self { requests: i64::MAX, bytes: i64::MAX }
    }
}

impl Client {
    /// Counts a request of `size` bytes, as denied if it would exceed a cap.
    ///
    /// # Examples
    /// ```
    /// # use commonhold_systems::clients::{Caps, Client};
    /// let caps = Caps { requests: 1, ..Caps::default() };
    /// let mut client = Client::default();
    /// client.count(200, &caps);
    /// client.count(300, &caps);
    /// assert_eq!(client, Client { requests: 1, bytes: 200, denied: 1 });
    /// ```
    pub fn count(&mut self, size: i64, caps: &Caps) {
        let requests = self.requests.checked_add(1).filter(|n| *n <= caps.requests);
        let bytes = self.bytes.checked_add(size).filter(|n| *n <= caps.bytes);
        match (requests, bytes) {
            (Some(requests), Some(bytes)) => (self.requests, self.bytes) = (requests, bytes),
            _ => self.denied = self.denied.saturating_add(1),
        }
    }
}

impl Clients {
    /// The clients of the segment that `runtime` opened, which must have the table
    /// ([`with_clients`] adds it to a configuration).
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Participants`].
    pub fn open(runtime: &Runtime) -> Result<Self, Error> {
        Ok(Self { table: runtime.table(TABLE)? })
    }
}

/// The clients' table, for a configuration: every version is stored, so that each request is a row.
#[must_use]
pub fn table_config() -> TableConfig {
    TableConfig::of::<Client>(TABLE)
}

/// Adds the clients' table to a configuration.
#[must_use]
pub fn with_clients(config: Config) -> Config {
    config.table(table_config())
}

impl<H: Borrow<Handle>> Clients<H> {
    /// The clients' table, for everything else.
    #[must_use]
    pub fn table(&self) -> &Table<Client, H> {
        &self.table
    }

    /// Counts a request of `client`, in one commit; a client not seen before is inserted.
    ///
    /// # Errors
    /// [`Error::BadKey`]; [`Error::Full`].
    pub fn count(&self, client: &str, size: i64, caps: &Caps) -> Result<Commit<'_>, Error> {
        let count = |state: &mut Client| state.count(size, caps);
        match self.table.update_or_insert(client, Client::default, count) {
            Ok(commit) => Ok(commit),
            Err(UpdateError::Failed(error)) => Err(error),
            Err(UpdateError::Refused(never)) => match never {},
        }
    }

    /// Sums over all clients, and how many there are.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn sum(&self) -> Result<(u64, Client), Error> {
        let (mut clients, mut sum) = (0, Client::default());
        self.table.scan(|_, client| {
            clients += 1;
            sum.requests = sum.requests.saturating_add(client.requests);
            sum.bytes = sum.bytes.saturating_add(client.bytes);
            sum.denied = sum.denied.saturating_add(client.denied);
        })?;
        Ok((clients, sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_over_a_cap_counts_as_denied_and_in_nothing_else() {
        let cases = [
            (Caps::default(), [5, 5], Client { requests: 2, bytes: 10, denied: 0 }),
            (Caps { requests: 1, bytes: 9 }, [5, 0], Client { requests: 1, bytes: 5, denied: 1 }),
            (Caps { requests: 9, bytes: 9 }, [5, 5], Client { requests: 1, bytes: 5, denied: 1 }),
            (Caps { requests: 9, bytes: 4 }, [5, 4], Client { requests: 1, bytes: 4, denied: 1 }),
            (Caps { requests: 0, bytes: 0 }, [0, 0], Client { requests: 0, bytes: 0, denied: 2 }),
            (Caps::default(), [i64::MAX, 1], Client { requests: 1, bytes: i64::MAX, denied: 1 }),
        ];
        for (caps, sizes, want) in cases {
            let mut client = Client::default();
            sizes.into_iter().for_each(|size| client.count(size, &caps));
            assert_eq!(client, want, "{caps:?} {sizes:?}");
        }
    }

    #[test]
    fn many_counters_make_one_commit_a_request_and_keep_the_cap() {
        let runtime = Runtime::open(with_clients(Config::ephemeral())).unwrap();
        let caps = Caps { requests: 700, bytes: i64::MAX };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let clients = Clients::open(&runtime).unwrap();
                    for n in 0..500_u64 {
                        let client = if n % 2 == 0 { "::1" } else { "10.0.0.1" };
                        let commit = clients.count(client, 3, &caps).unwrap();
                        assert_eq!(commit.sequence(), n + 1, "one commit a request");
                    }
                });
            }
        });
        let clients = Clients::open(&runtime).unwrap();
        let (count, sum) = clients.sum().unwrap();
        assert_eq!((count, sum), (2, Client { requests: 1400, bytes: 4200, denied: 600 }));
    }
}
