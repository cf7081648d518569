//! Why a store refuses or fails: one line each, saying what, where and what to do.

/// Why a store refuses or fails. The `path` of a database on a server is its url without password and parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Not the url of a store.
    #[error(
        "`{url}` is not a store: {why}; use sqlite:PATH, postgres://USER@HOST/DATABASE or none"
    )]
    Url {
        /// What was given.
        url: String,
        /// Why not.
        why: String,
    },
    /// The file is not there and must not be made.
    #[error("{0}: no such file; check the path of the store")]
    Missing(String),
    /// The file cannot be opened or made.
    #[error("{path}: cannot open the database: {why}; check the directory and its permissions")]
    CannotOpen {
        /// The file.
        path: String,
        /// The reason.
        why: String,
    },
    /// The file or its directory may not be written.
    #[error("{0}: the database is read-only; check the permissions of the file and its directory")]
    ReadOnly(String),
    /// No space is left.
    #[error("{0}: no space is left for the database; free some")]
    Full(String),
    /// Another program holds the database.
    #[error("{0}: the database is locked by another program; close its transaction and try again")]
    Busy(String),
    /// The file is something else.
    #[error("{0}: not a sqlite database; choose another path")]
    NotADatabase(String),
    /// A database that no segment ever used.
    #[error("{0}: not a commonhold store, it has no table commonhold_meta; check the url")]
    NotAStore(String),
    /// A later program made the store.
    #[error(
        "{path}: the store has format {format}, and this program knows {known} at most; use a later version of commonhold"
    )]
    Newer {
        /// The database.
        path: String,
        /// Its format.
        format: u64,
        /// The latest that is known.
        known: u64,
    },
    /// The database file is damaged, or what stands in its meta table makes no sense.
    #[error("{path}: the database is damaged: {why}; restore it from a backup")]
    Corrupt {
        /// The file.
        path: String,
        /// What was found.
        why: String,
    },
    /// The database was removed or replaced while it was in use.
    #[error("{0}: the database was removed or replaced while in use; put it back or restart")]
    Replaced(String),
    /// A row does not hold what was stored.
    #[error(
        "{path}: table {table}, key {key:?}, version {version}: {why}; run `commonhold verify`"
    )]
    Row {
        /// The file.
        path: String,
        /// The table.
        table: String,
        /// The row's key.
        key: String,
        /// The row's version.
        version: u64,
        /// What is wrong.
        why: String,
    },
    /// A row that was to be written is no row of its table.
    #[error("table {table}, key {key:?}, version {version}: cannot be stored: {why}")]
    BadRow {
        /// The table.
        table: String,
        /// The row's key.
        key: String,
        /// The row's version.
        version: u64,
        /// What is wrong.
        why: String,
    },
    /// A version is there already, with another state.
    #[error(
        "{path}: table {table}, key {key:?}: version {version} is stored with another state; run `commonhold verify`"
    )]
    Conflict {
        /// The file.
        path: String,
        /// The table.
        table: String,
        /// The row's key.
        key: String,
        /// The row's version.
        version: u64,
    },
    /// A table has other columns than the schema.
    #[error(
        "{path}: table {table}: {why}; change the schema back, rename the table, or use another store"
    )]
    SchemaDiffers {
        /// The file.
        path: String,
        /// The table.
        table: String,
        /// Which column, and how.
        why: String,
    },
    /// The store belongs to another segment or epoch.
    #[error(
        "{path}: the store belongs to {owner} (epoch {owner_epoch}), not to segment {segment} (epoch {epoch}), which can store nothing any more; use the one that owns it, or destroy this one with --force and create it anew"
    )]
    Fenced {
        /// The file.
        path: String,
        /// The owner, in words: its uuid, where it is, and on which host; or nobody.
        owner: String,
        /// The owner's epoch.
        owner_epoch: u64,
        /// The uuid of the segment that was refused.
        segment: String,
        /// Its epoch.
        epoch: u64,
    },
    /// An older state of the store was put in place of the one that the segment wrote.
    #[error(
        "{path}: the store is older than what this segment stored (its last batch is {stored}, the segment saw {seen}): a backup was restored or a lagging replica promoted; bring the newer state back, or run `commonhold take-over` and create the segment anew from this one"
    )]
    RolledBack {
        /// The file.
        path: String,
        /// The number of the store's last batch.
        stored: u64,
        /// The highest number that the segment saw.
        seen: u64,
    },
    /// Another segment with the same uuid and epoch wrote the last batch.
    #[error(
        "{0}: the last batch is not of this segment: a copy of it, or a snapshot of its machine, stores here too; stop all but one, then run `commonhold take-over` and create the segment anew"
    )]
    Doubled(String),
    /// The owner changed between the look at it and the claim.
    #[error("{0}: another segment claimed the store in this very moment; use that one")]
    ClaimedMeanwhile(String),
    /// The store belongs to nobody yet.
    #[error("{0}: no segment has claimed the store; create the segment anew")]
    Unclaimed(String),
    /// A call that needs a claim or a join before it.
    #[error("{0}: neither claimed nor joined; this is a defect of the caller")]
    NotAttached(String),
    /// A position beyond the catalogue.
    #[error(
        "{path}: no table at position {position} of the catalogue; this is a defect of the caller"
    )]
    NoTable {
        /// The file.
        path: String,
        /// The position.
        position: usize,
    },
    /// The store was claimed more often than writer ids can tell.
    #[error("{0}: claimed 1048575 times, the most there can be; export the rows to a new store")]
    EpochsSpent(String),
    /// Something is stored where a copy was to go.
    #[error("{path}: cannot import: {why}; choose an empty store")]
    NotEmpty {
        /// The target.
        path: String,
        /// What is there.
        why: String,
    },
    /// An import of another store was not finished.
    #[error(
        "{path}: the import from {source_url} is not finished; run that again, or remove the store"
    )]
    Incomplete {
        /// The target.
        path: String,
        /// Where its rows come from.
        source_url: String,
    },
    /// A copy does not hold what its source holds.
    #[error("{path}: not a copy of its source: {why}; run `commonhold verify` on both")]
    NotCopied {
        /// The target.
        path: String,
        /// What differs.
        why: String,
    },
    /// The receiver of loaded rows refused one.
    #[error("{0}")]
    Refused(String),
    /// No server answers.
    #[error("{path}: the server cannot be reached: {why}; check host and port, and that it runs")]
    Unreachable {
        /// The database.
        path: String,
        /// The reason.
        why: String,
    },
    /// The connection broke, and with it what was under way.
    #[error(
        "{path}: the connection to the server is lost: {why}; try again, as a steward does by himself"
    )]
    Lost {
        /// The database.
        path: String,
        /// The reason.
        why: String,
    },
    /// The server, or the way to it, is too slow.
    #[error("{path}: no answer in time: {why}; look at the load and the locks of the server")]
    Slow {
        /// The database.
        path: String,
        /// What was waited for.
        why: String,
    },
    /// The server takes no more connections.
    #[error("{path}: the server has no connection left: {why}; raise its limit or close some")]
    Crowded {
        /// The database.
        path: String,
        /// The server's message.
        why: String,
    },
    /// The server takes nothing: it is a replica, or set to read only.
    #[error("{path}: the server is read-only: {why}; name the primary")]
    Replica {
        /// The database.
        path: String,
        /// What it is.
        why: String,
    },
    /// The server does not let the user in.
    #[error("{path}: the server refuses the login: {why}; check user and password")]
    Login {
        /// The database.
        path: String,
        /// The reason.
        why: String,
    },
    /// The connection is not encrypted as the url demands.
    #[error("{path}: no trusted connection: {why}; check sslmode, sslrootcert and the certificate")]
    Tls {
        /// The database.
        path: String,
        /// The reason.
        why: String,
    },
    /// The server has no such database.
    #[error("{0}: the server has no such database; create it, or check the url")]
    NoDatabase(String),
    /// The database cannot hold every character.
    #[error("{path}: the database has the encoding {encoding}; create one with encoding UTF8")]
    Encoding {
        /// The database.
        path: String,
        /// Its encoding.
        encoding: String,
    },
    /// The server is older than the oldest that is supported.
    #[error("{path}: the server is PostgreSQL {version}, too old; use version 12 or later")]
    TooOld {
        /// The database.
        path: String,
        /// Its version.
        version: String,
    },
    /// The user may not do what is needed.
    #[error("{path}: the server refuses: {why}; grant it to the user, or name another")]
    Denied {
        /// The database.
        path: String,
        /// The server's message.
        why: String,
    },
    /// What the database says about the content or the columns of a table.
    #[error("{path}: {why}; see the message of the database")]
    Rejected {
        /// The database.
        path: String,
        /// The database's message.
        why: String,
    },
    /// The same, of one table of a batch. The others would be taken.
    #[error("{path}: table {table} does not take its rows: {why}; mend the table")]
    TableRejected {
        /// The database.
        path: String,
        /// The table.
        table: String,
        /// The database's message.
        why: String,
    },
    /// Anything else that the database says.
    #[error("{path}: {why}; see the message of the database")]
    Database {
        /// The file.
        path: String,
        /// The database's message.
        why: String,
    },
}

impl StoreError {
    /// The table whose rows the store does not take, and the key if it is one row; it would take the rest.
    #[must_use]
    pub fn table(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Conflict { table, key, .. } | Self::BadRow { table, key, .. } => {
                Some((table, Some(key)))
            }
            Self::TableRejected { table, .. } => Some((table, None)),
            _ => None,
        }
    }

    /// The error of writing the rows of `table`.
    pub(crate) fn of_table(self, table: &str) -> Self {
        let table = table.to_owned();
        match self {
            Self::Rejected { path, why } | Self::Denied { path, why } => {
                Self::TableRejected { path, table, why }
            }
            error => error,
        }
    }

    /// Whether the store refuses this segment until somebody gives it back: no retry helps.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let refused = matches!(self, Self::Fenced { .. } | Self::RolledBack { .. });
        refused || matches!(self, Self::Doubled(_) | Self::Unclaimed(_))
    }

    /// Whether the same call may succeed later without anybody changing the store's content: the
    /// database is locked, full, unwritable or unreachable. The others need a person.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Full(_)
                | Self::Busy(_)
                | Self::ReadOnly(_)
                | Self::Missing(_)
                | Self::CannotOpen { .. }
                | Self::Unreachable { .. }
                | Self::Lost { .. }
                | Self::Slow { .. }
                | Self::Crowded { .. }
                | Self::Replica { .. }
                | Self::Rejected { .. }
                | Self::TableRejected { .. }
                | Self::Database { .. }
        )
    }
}
