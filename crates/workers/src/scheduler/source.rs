//! Where nodes come from, and where their next states go.

use commonhold_runtime::core::schema::Encoder;
use commonhold_runtime::{Error, Record, Runtime, Table, UpdateError};

use super::tick::record;

/// Why a source could not do what it was asked for.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A node's state, with what tells whether it changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Another number whenever the state is another one.
    pub version: u64,
    /// What the tick gets.
    pub state: Vec<u8>,
}

/// The nodes of an entry. The scheduler's thread alone uses it; it holds no guard meanwhile.
pub trait Source: Send {
    /// All nodes that are to be ticked now, by name, with their states.
    ///
    /// # Errors
    /// Any; then no node of the entry is ticked this time.
    fn load(&mut self) -> Result<Vec<(String, Loaded)>, SourceError>;

    /// One node; `None` when it is gone.
    ///
    /// # Errors
    /// Any; then this tick of the node fails.
    fn reload(&mut self, node: &str) -> Result<Option<Loaded>, SourceError>;

    /// Commits `next` as the node's state, as one step, unless the node is no longer as it was `loaded`; whether it did.
    ///
    /// # Errors
    /// Any, when nothing was committed; then this tick of the node fails.
    fn commit(&mut self, node: &str, loaded: &Loaded, next: &[u8]) -> Result<bool, SourceError>;
}

/// All records of a table as nodes. The state is the record in its canonical encoding ([`crate::Kind::tick_of`] reads
/// and writes it), the version is the record's.
pub struct TableSource<T: Record> {
    table: Table<T>,
    position: usize,
}

impl<T: Record> std::fmt::Debug for TableSource<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableSource({})", self.table.name())
    }
}

/// Why a next state was not committed.
enum Stop {
    Changed,
    Failed(SourceError),
}

impl<T: Record> TableSource<T> {
    /// The table `name`, through a participant of its own.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Schema`], [`Error::Participants`].
    pub fn new(runtime: &Runtime, name: &str) -> Result<Self, Error> {
        let table = runtime.table::<T>(name)?;
        let position = runtime.space().find_table(name)?;
        Ok(Self { table, position })
    }
}

impl<T: Record> Source for TableSource<T> {
    fn load(&mut self) -> Result<Vec<(String, Loaded)>, SourceError> {
        let mut nodes = Vec::new();
        self.table.handle().space().scan(self.position, |key, seen| {
            let loaded = Loaded { version: seen.version, state: seen.payload.clone() };
            nodes.push((key.to_owned(), loaded));
            Ok::<(), Error>(())
        })?;
        Ok(nodes)
    }

    fn reload(&mut self, node: &str) -> Result<Option<Loaded>, SourceError> {
        let Some(at) = self.table.find(node)? else { return Ok(None) };
        let loaded = self.table.handle().read_at(self.position, at, |seen| Loaded {
            version: seen.version,
            state: seen.payload.clone(),
        });
        Ok(loaded?)
    }

    fn commit(&mut self, node: &str, loaded: &Loaded, next: &[u8]) -> Result<bool, SourceError> {
        // What came back must be such a record, and one that may be stored.
        let next: T = record(next)?;
        let Some(at) = self.table.find(node)? else { return Ok(false) };
        let committed = self.table.handle().update_seen(self.position, at, |seen, payload| {
            if seen.version != loaded.version {
                return Err(Stop::Changed);
            }
            next.encode(&mut Encoder::new(payload)).map_err(|e| Stop::Failed(e.into()))
        });
        match committed {
            Ok(committed) => Ok(committed.is_some()),
            Err(UpdateError::Refused(Stop::Changed)) => Ok(false),
            Err(UpdateError::Refused(Stop::Failed(e))) => Err(e),
            Err(UpdateError::Failed(e)) => Err(e.into()),
        }
    }
}
