//! The [`Store`] trait: what the steward and the builder of a segment need of a database.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use commonhold_core::catalogue::Catalogue;
use commonhold_core::row::{Row, WriterId};

use crate::audit::Audit;
use crate::chain::hex;
use crate::error::StoreError;
use crate::foreign::{Accepted, Appended, Conflict, Known};
use crate::node::Node;
use crate::null::NullStore;
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::transfer::Transfer;
use crate::url::Url;

/// The segment that claims a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIdentity {
    /// The segment's uuid, made at its creation.
    pub uuid: [u8; 16],
    /// Where the segment is, for people.
    pub path: String,
    /// The boot in which it was made; a segment in memory does not outlive it.
    pub boot_id: String,
    /// The machine that it is on.
    pub node: Node,
    /// The device of the folder that it is in: who sees another one under that path sees another folder. 0: not known.
    pub device: u64,
}

impl SegmentIdentity {
    /// The segment `uuid` of this machine, at `path`, made in the boot `boot_id`.
    #[must_use]
    pub fn here(uuid: [u8; 16], path: &Path, boot_id: String) -> Self {
        let (node, device) = (Node::this(), device_of(path));
        Self { uuid, path: path.display().to_string(), boot_id, node, device }
    }
}

/// The device of the folder that `path` is in; 0 when there is no such folder.
#[must_use]
pub fn device_of(path: &Path) -> u64 {
    path.parent().and_then(|folder| folder.metadata().ok()).map_or(0, |folder| folder.dev())
}

/// What a claim gives: it stands in the segment from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The store's epoch, one more than before; part of every writer id.
    pub epoch: u64,
    /// The store's identity.
    pub store_id: [u8; 16],
    /// The number of the store's last batch: the first that the segment has seen.
    pub batch: u64,
}

/// What a take-over did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// Who owned the store, and is refused from now on.
    pub fenced: Option<Owner>,
    /// The store's epoch now.
    pub epoch: u64,
    /// The number of the store's last batch.
    pub batch: u64,
}

/// The segment that a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The segment's uuid.
    pub uuid: [u8; 16],
    /// Where the segment is, or was.
    pub path: String,
    /// The boot in which it was made.
    pub boot_id: String,
    /// The machine that it is on; none in stores that were claimed before this was kept.
    pub node: Option<Node>,
    /// The device of the folder that it is in; 0: not known.
    pub device: u64,
    /// The epoch of its claim.
    pub epoch: u64,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "segment {} at {}", hex(&self.uuid), self.path)?;
        self.node.as_ref().map_or(Ok(()), |node| write!(f, " on host {}", node.host))
    }
}

/// What one transaction writes.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The tables that have something to write.
    pub tables: Vec<TableBatch>,
    /// Marks of id allocators and counters; alone they are a batch too.
    pub marks: Vec<Mark>,
    /// The highest number of a batch that the segment has seen: a store that has a lower one was rolled back.
    pub seen: u64,
    /// What tells it from a batch of a copy of the segment.
    pub stamps: Stamps,
}

/// Random numbers of batches. A copy of a segment, made by copying its file or by a snapshot of its machine, has its uuid
/// and its epoch; what one of the two has stored since, the other knows nothing of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamps {
    /// That of the last batch that the segment knows to be stored; 0: of none.
    pub stored: u64,
    /// That of the batch under way, the same until it is known to be stored. 0: it has none, and nothing is compared.
    pub sent: u64,
}

impl Stamps {
    /// Fails unless the store, whose last batch has the stamp `last`, got it from the segment.
    ///
    /// # Errors
    /// [`StoreError::Doubled`].
    pub fn check(&self, store: &str, last: u64) -> Result<(), StoreError> {
        if [self.stored, self.sent].contains(&last) {
            return Ok(());
        }
        Err(StoreError::Doubled(store.to_owned()))
    }
}

/// What a [`Mark`] belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MarkKind {
    /// A named counter; its mark is its value, set to whatever is written.
    Counter,
    /// An id allocator; every id up to its mark may have been given out, so the mark is only ever raised.
    Ids,
}

/// One number that is kept in the store by name, beside the tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// What it belongs to. A counter and an id allocator of one name have a mark each.
    pub kind: MarkKind,
    /// The name of that.
    pub name: String,
    /// The number; of an id allocator never negative.
    pub value: i64,
}

/// What one transaction writes to one table.
#[derive(Debug, Clone, Default)]
pub struct TableBatch {
    /// The table's position in the catalogue.
    pub table: usize,
    /// The rows; those of one key in ascending order of version. With full history every version of a key
    /// from the last stored one on, with latest history the last version suffices.
    pub rows: Vec<Row>,
    /// The table's version floor; it is only ever raised.
    pub floor: u64,
    /// For each of `rows`, what the segment last stored of its key; that of the key's first row is compared with what
    /// the database holds. Rows beyond its end are [`Known::Anything`].
    pub known: Vec<Known>,
    /// What somebody else left in the database and may be replaced: noted and decided before.
    pub accepted: Vec<Accepted>,
}

/// How many rows a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowCount {
    /// Rows of `T`: the keys that exist.
    pub current: u64,
    /// Rows of `T_history`: the versions; 0 with latest history.
    pub history: u64,
}

/// One row of `T_history`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The version.
    pub row: Row,
    /// Where it stands in the chain: 1, 2, 3 …
    pub position: u64,
    /// Its link, in hexadecimal digits.
    pub link: String,
}

/// A database that holds the rows of a segment.
///
/// Every method that writes does so in one transaction. After an error nothing of it is written, or, when the
/// outcome of the commit itself is unknown, all of it or nothing; [`append`](Store::append) is idempotent, so the
/// same batch is simply sent again.
pub trait Store: Transfer + Send {
    /// The normalised url, for instance `sqlite:/absolute/path`.
    fn url(&self) -> String;

    /// The store's identity, made when its tables were first created.
    fn store_id(&self) -> [u8; 16];

    /// The segment that the store belongs to, if any claimed it yet.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn owner(&mut self) -> Result<Option<Owner>, StoreError>;

    /// The catalogue of the last claim.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read, or holds something that is no catalogue.
    fn catalogue(&mut self) -> Result<Option<Catalogue>, StoreError>;

    /// The epoch of the last claim or take-over; 0 before the first.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn epoch(&mut self) -> Result<u64, StoreError>;

    /// Makes `segment` the owner, whoever was it before, raises the epoch by one, and creates the tables of
    /// `catalogue` that are not there. Tables in the store that are not in the catalogue are left alone.
    ///
    /// A table that was stored with latest history and now has full history starts its history with a copy of
    /// each row, which keeps its sequence 0.
    ///
    /// With `seen` only while the epoch is that one: who looked at the owner before has looked at this one.
    ///
    /// # Errors
    /// [`StoreError::ClaimedMeanwhile`] when it is not;
    /// [`StoreError::SchemaDiffers`] when a table is there with other columns, or had full history and now has
    /// not; [`StoreError::EpochsSpent`]; any error of the database.
    fn claim_after(
        &mut self,
        segment: &SegmentIdentity,
        catalogue: &Catalogue,
        seen: Option<u64>,
    ) -> Result<Claim, StoreError>;

    /// [`claim_after`](Store::claim_after) without a look at the owner.
    ///
    /// # Errors
    /// The same.
    fn claim(
        &mut self,
        segment: &SegmentIdentity,
        catalogue: &Catalogue,
    ) -> Result<Claim, StoreError> {
        self.claim_after(segment, catalogue, None)
    }

    /// Fences off whoever owns the store: raises the epoch by one and leaves the store without an owner, for the
    /// next claim. Nothing else is changed.
    ///
    /// # Errors
    /// [`StoreError::EpochsSpent`]; any error of the database.
    fn take_over(&mut self) -> Result<TakenOver, StoreError>;

    /// Attaches a steward of a segment that has claimed the store: checks owner and epoch and remembers them
    /// and the catalogue for [`append`](Store::append). `seen` is the highest number of a batch that the segment has
    /// seen.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the store belongs to another segment or epoch, or was taken over;
    /// [`StoreError::Unclaimed`] when nobody ever claimed it; [`StoreError::RolledBack`] when its last batch is before
    /// `seen`; any error of the database.
    fn join(
        &mut self,
        segment_uuid: [u8; 16],
        epoch: u64,
        seen: u64,
        catalogue: &Catalogue,
    ) -> Result<(), StoreError>;

    /// Hands every current row of a table to `sink`, in the order of the keys, each checked against its
    /// schema and its hash; gives the table's version floor.
    ///
    /// # Errors
    /// [`StoreError::Row`] naming a row that does not hold what was stored; the error of `sink`; any error
    /// of the database.
    fn load(
        &mut self,
        table: usize,
        sink: &mut dyn FnMut(Row) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError>;

    /// The stamp of the last batch; 0: none since the last claim.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn stamp(&mut self) -> Result<u64, StoreError>;

    /// Writes a batch in one transaction, in which owner and epoch are checked, and raises the store's batch number.
    /// Rows that are there already are recognised and not written again.
    ///
    /// Before a table's rows are written, the current row of each of their keys is compared with what the segment
    /// last stored (`known`). A row is as expected when its hash is that of its columns and its version is the known
    /// one, or a later one up to that of the batch by a writer of this epoch (an earlier try, whose outcome was unknown);
    /// none is there when the segment stored none, or when the batch has a deletion of the key. Anything else is a
    /// foreign change: unless it is among `accepted`, nothing of that table is written (its floor neither), both states
    /// are noted in `commonhold_conflicts`, once, and it is in the answer. The other tables and the marks are written.
    /// What is accepted is replaced, whatever its version.
    ///
    /// # Errors
    /// [`StoreError::Fenced`]; [`StoreError::RolledBack`]; [`StoreError::Doubled`]; [`StoreError::Conflict`] when a version is there with
    /// another state; any error of the database. See the trait for what is then written.
    fn append(&mut self, batch: &Batch) -> Result<Appended, StoreError>;

    /// The foreign changes that were noted, in the order of their numbers.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn conflicts(&mut self) -> Result<Vec<Conflict>, StoreError>;

    /// The marks of every id allocator and counter, in the order of kind and name.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read, or a mark is no number.
    fn marks(&mut self) -> Result<Vec<Mark>, StoreError>;

    /// The highest sequence of `writer` in the history of a table; 0 when it has none. It looks at every row.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn highest_sequence(&mut self, table: usize, writer: WriterId) -> Result<u64, StoreError>;

    /// The highest sequence of every writer in the history of a table, in one look at every row.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn highest_sequences(&mut self, table: usize) -> Result<BTreeMap<WriterId, u64>, StoreError>;

    /// Hands every stored version of `key` to `sink`, in ascending order, each checked against its schema and
    /// its hash; nothing with latest history.
    ///
    /// # Errors
    /// As for [`load`](Store::load).
    fn history(
        &mut self,
        table: usize,
        key: &str,
        sink: &mut dyn FnMut(HistoryRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// How many rows a table has.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn row_count(&mut self, table: usize) -> Result<RowCount, StoreError>;

    /// Audits every table of the stored catalogue from its rows alone, in one snapshot.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read; what is wrong with the rows is in the [`Audit`].
    fn audit(&mut self) -> Result<Audit, StoreError>;
}

/// Opens the store at `url`, making it if it is not there: `sqlite:PATH` (with `?synchronous=full`, the default, or
/// `?synchronous=normal`), `postgres://USER@HOST/DATABASE` (`docs/postgres.md` gives its parameters) or `none`.
///
/// # Errors
/// [`StoreError`] when `url` is none, or the database cannot be opened or is not one.
pub fn open(url: &str) -> Result<Box<dyn Store>, StoreError> {
    Ok(match Url::parse(url)? {
        Url::Sqlite(target) => Box::new(SqliteStore::open(target)?),
        Url::Postgres(target) => Box::new(PostgresStore::open(*target)?),
        Url::None => Box::new(NullStore::default()),
    })
}

/// Opens the store at `url` as [`open`] does, if it is there; nothing is created. So does who has used it before: what is
/// made in place of a store that was moved away is in its way when it comes back.
///
/// # Errors
/// As for [`open`]; [`StoreError::Missing`] or [`StoreError::NotAStore`] when it is not there.
pub fn open_existing(url: &str) -> Result<Box<dyn Store>, StoreError> {
    Ok(match Url::parse(url)? {
        Url::Sqlite(target) => Box::new(SqliteStore::open_existing(target)?),
        Url::Postgres(target) => Box::new(PostgresStore::open_existing(*target)?),
        Url::None => Box::new(NullStore::default()),
    })
}

/// Opens the store at `url` for reading; nothing is created or changed.
///
/// # Errors
/// [`StoreError`] when `url` is none, or the database is not there, cannot be read, or is not a store.
pub fn open_read_only(url: &str) -> Result<Box<dyn Store>, StoreError> {
    Ok(match Url::parse(url)? {
        Url::Sqlite(target) => Box::new(SqliteStore::open_read_only(target)?),
        Url::Postgres(target) => Box::new(PostgresStore::open_read_only(*target)?),
        Url::None => Box::new(NullStore::default()),
    })
}
