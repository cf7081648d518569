//! Opening: attach to the segment that is there, or make it, loaded from its store, and publish it whole.
//!
//! Creators hold the lock of a file beside the segment, so that one of them claims the store, loads and
//! publishes while the others wait and then attach. Everything attaches only to a loaded segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use commonhold_core::catalogue::{Catalogue, CatalogueError};
use commonhold_core::row::Row;
use commonhold_core::schema::Schema;
use commonhold_core::space::geometry_of;
use commonhold_core::{Error, Handle, Space};
use commonhold_os::lock::LockFile;
use commonhold_os::mapping::Published;
use commonhold_os::{OsError, process, random};
use commonhold_segment::{NewSegment, Segment, SegmentError, new_uuid};
use commonhold_store::{MarkKind, Node, SegmentIdentity, Store, StoreError, device_of};

use crate::config::{Config, ConfigError};
use crate::place;

/// So often an opener looks again when the segment is removed or made under its eyes.
const TRIES: u32 = 1000;

/// Why a segment cannot be opened, made or removed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The segment.
    #[error(transparent)]
    Core(#[from] Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such segment.
    #[error("no segment {}; create it first", path.display())]
    Missing {
        /// Its file.
        path: PathBuf,
    },
    /// There is no such segment, and nothing says what tables it should have.
    #[error("no segment {} and no tables in its store {store}; create a table first", path.display())]
    NoTables {
        /// Its file.
        path: PathBuf,
        /// The store that was looked at.
        store: String,
    },
    /// The segment belongs to another store.
    #[error("segment {} belongs to store {found}, not to {asked}; name that one, or another --segment", path.display())]
    OtherStore {
        /// Its file.
        path: PathBuf,
        /// The store it belongs to.
        found: String,
        /// The store that was named.
        asked: String,
    },
    /// The store belongs to another segment, which is there or may be.
    #[error(
        "store {store} belongs to {owner} (epoch {epoch}), {why}; use that segment, destroy it first, or fence it off with `commonhold take-over`"
    )]
    StoreInUse {
        /// The store.
        store: String,
        /// The segment in words: its uuid, its file, its host.
        owner: String,
        /// The epoch of its claim.
        epoch: u64,
        /// Why it is not taken for gone.
        why: String,
    },
    /// Segment or store has the table with other fields.
    #[error(
        "{place} has table `{table}` with {found}, not with {asked}; use those fields, or another name for the table"
    )]
    OtherSchema {
        /// The segment or the store.
        place: String,
        /// The table.
        table: String,
        /// Its fields.
        found: String,
        /// The fields asked for.
        asked: String,
    },
    /// Somebody uses the segment.
    #[error("segment {} is in use{who}; stop them first", path.display())]
    InUse {
        /// Its file.
        path: PathBuf,
        /// By whom, when known.
        who: String,
    },
    /// There is no store to make the segment anew from.
    #[error("segment {} has no store that it could be made anew from; destroy it, and create it with all its tables", path.display())]
    NoStore {
        /// Its file.
        path: PathBuf,
    },
    /// A change of several records is decided and not wholly made.
    #[error("segment {}: a change under guard `{guard}` is not wholly made; take the guard once, which finishes it, or use --force to leave half of it in the store", path.display())]
    Unfinished {
        /// Its file.
        path: PathBuf,
        /// The guard.
        guard: String,
    },
    /// A store that was to be copied lacks commits of its segment.
    #[error("segment {} holds {versions} versions or counters that store {store} has not; run `commonhold drain` on it first", path.display())]
    SourceBehind {
        /// Its file.
        path: PathBuf,
        /// The store.
        store: String,
        /// How many.
        versions: u64,
    },
    /// What is in memory is not in the store.
    #[error("segment {} holds {versions} versions or counters that the store has not{why}; drain it first, or use --force to lose them", path.display())]
    NotStored {
        /// Its file.
        path: PathBuf,
        /// How many.
        versions: u64,
        /// What the store said.
        why: String,
    },
}

impl From<SegmentError> for OpenError {
    fn from(error: SegmentError) -> Self {
        Self::Core(error.into())
    }
}

impl From<OsError> for OpenError {
    fn from(error: OsError) -> Self {
        Self::Core(error.into())
    }
}

impl From<CatalogueError> for OpenError {
    fn from(error: CatalogueError) -> Self {
        Self::Config(error.into())
    }
}

fn is_missing(error: &SegmentError) -> bool {
    matches!(error, SegmentError::Os(e) if e.is_not_found())
}

/// Attaches to the segment, or makes it.
pub(crate) fn open(config: &Config) -> Result<Arc<Space>, OpenError> {
    if config.ephemeral {
        return create_ephemeral(config);
    }
    let path = config.segment_path();
    for _ in 0..TRIES {
        match Segment::attach(&path, true) {
            Ok(segment) => {
                // None or not current: it is just being removed; its name leads elsewhere or nowhere soon.
                if let Some(space) = Space::new(segment)?.filter(|s| s.is_current()) {
                    check(config, &path, &space)?;
                    return Ok(space);
                }
                std::thread::yield_now();
            }
            Err(e) if is_missing(&e) && config.attach_only => {
                return Err(OpenError::Missing { path });
            }
            Err(e) if is_missing(&e) => {
                let _lock = creation_lock(&path)?;
                if !path.exists()
                    && let Some(space) = create(config, &path)?
                {
                    return Ok(space);
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(OpenError::InUse {
        path,
        who: " by somebody who removes and makes it again and again".to_owned(),
    })
}

/// The lock that creators and removers of the segment at `path` hold.
pub(crate) fn creation_lock(path: &Path) -> Result<LockFile, OpenError> {
    loop {
        let lock = LockFile::open_or_create(&place::lock_path(path))?;
        lock.lock(0)?;
        // Who removed the segment removed the lock's file too, while he held it.
        if lock.is_current() {
            return Ok(lock);
        }
    }
}

/// Whether the segment is what the configuration asks for.
fn check(config: &Config, path: &Path, space: &Space) -> Result<(), OpenError> {
    if let Some(asked) = &config.store {
        let asked = commonhold_store::normalise(asked)?;
        let found = &space.segment().header().store_url;
        if asked != *found {
            let (path, found) = (path.to_owned(), found.clone());
            return Err(OpenError::OtherStore { path, found, asked });
        }
    }
    for wanted in &config.tables {
        let position = space.find_table(&wanted.name)?;
        let schema = wanted.schema()?;
        let found = space.catalogue().tables.get(position).map(|t| &t.schema);
        if let Some(found) = found {
            same_schema(&format!("segment {}", path.display()), &wanted.name, found, &schema)?;
        }
    }
    Ok(())
}

/// Refuses a table that is there with other fields than those asked for.
pub(crate) fn same_schema(
    place: &str,
    table: &str,
    found: &Schema,
    asked: &Schema,
) -> Result<(), OpenError> {
    if found == asked {
        return Ok(());
    }
    let list = |schema: &Schema| {
        let fields: Vec<String> = schema.fields().iter().map(ToString::to_string).collect();
        format!("({})", fields.join(", "))
    };
    let (found, asked) = (list(found), list(asked));
    Err(OpenError::OtherSchema { place: place.to_owned(), table: table.to_owned(), found, asked })
}

/// The catalogue of a new segment: what is asked for, over what the store has.
fn new_catalogue(
    config: &Config,
    path: &Path,
    store: &mut dyn Store,
) -> Result<Catalogue, OpenError> {
    let stored = store.catalogue()?;
    let catalogue = config.catalogue(stored.as_ref())?;
    for table in stored.iter().flat_map(|c| &c.tables) {
        // Types that share a column type (i64, u64, bool, timestamp) differ here and not in the database.
        if let Some((_, asked)) = catalogue.find(&table.name) {
            same_schema(
                &format!("store {}", store.url()),
                &table.name,
                &table.schema,
                &asked.schema,
            )?;
        }
    }
    if catalogue.tables.is_empty() && !config.no_tables {
        return Err(OpenError::NoTables { path: path.to_owned(), store: store.url() });
    }
    Ok(catalogue)
}

/// Makes the segment at `path`, loaded from its store; the caller holds the creation lock. `None` when
/// another was first all the same.
pub(crate) fn create(config: &Config, path: &Path) -> Result<Option<Arc<Space>>, OpenError> {
    let made = build(config, path, |new| Segment::create_named(path, new))?;
    let Some(space) = made else { return Ok(None) };
    match space.segment().publish()? {
        Published::Mine => Ok(Some(space)),
        Published::Theirs => Ok(None),
    }
}

/// Claims the store for a new segment, makes it with `make` and loads it.
fn build(
    config: &Config,
    path: &Path,
    make: impl FnOnce(&NewSegment<'_>) -> Result<Segment, SegmentError>,
) -> Result<Option<Arc<Space>>, OpenError> {
    let mut store = open_store(&config.store_url())?;
    // Before its owner: who claims it meanwhile raises it.
    let epoch = store.epoch()?;
    refuse_used_store(store.as_mut(), path)?;
    let catalogue = new_catalogue(config, path, store.as_mut())?;
    let uuid = new_uuid();
    let boot_id = random::hex(&process::boot_id());
    let identity = SegmentIdentity::here(uuid, path, boot_id);
    let claim = match store.claim_after(&identity, &catalogue, Some(epoch)) {
        Err(error @ StoreError::ClaimedMeanwhile(_)) => {
            refuse_used_store(store.as_mut(), path)?;
            return Err(error.into());
        }
        claim => claim?,
    };
    let (json, url) = (catalogue.to_json(), store.url());
    let new = NewSegment {
        geometry: geometry_of(&catalogue),
        catalogue: json.as_bytes(),
        store_id: claim.store_id,
        store_epoch: claim.epoch,
        store_url: &url,
        uuid,
    };
    let Some(space) = Space::new(make(&new)?)? else { return Ok(None) };
    load(&space, store.as_mut())?;
    space.note_batch(claim.batch)?;
    Ok(Some(space))
}

/// Opens a store, making the folder of a default one.
pub(crate) fn open_store(url: &str) -> Result<Box<dyn Store>, StoreError> {
    if let Some(path) = url.strip_prefix("sqlite:")
        && let Some(folder) = Path::new(path).parent()
        && folder.ends_with("commonhold")
    {
        // A failure shows when the store is opened, with the path and the reason.
        let _ = make_folder(folder);
    }
    commonhold_store::open(url)
}

/// Makes a folder whose name survives a power loss; the store sees to the names in it.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    let made: Vec<&Path> = folder.ancestors().take_while(|f| !f.exists()).collect();
    std::fs::create_dir_all(folder)?;
    made.iter().filter_map(|f| f.parent()).try_for_each(|f| std::fs::File::open(f)?.sync_all())
}

/// A store is followed only when the segment that owns it is known to be gone: one of this machine whose file, in the
/// very folder that it was made in, is not there any more, is another segment's, or was made in another boot.
fn refuse_used_store(store: &mut dyn Store, path: &Path) -> Result<(), OpenError> {
    let Some(owner) = store.owner()? else { return Ok(()) };
    let there = Path::new(&owner.path);
    let (this, device) = (Node::this(), device_of(there));
    let why = match &owner.node {
        Some(node) if node.id != this.id => {
            format!("which is another machine (node {}) than this one (node {})", node.id, this.id)
        }
        _ if owner.boot_id != random::hex(&process::boot_id()) => return Ok(()),
        _ if ![0, owner.device].contains(&device) && owner.device != 0 => {
            "whose folder cannot be seen from here".to_owned()
        }
        _ if there == path || !there.exists() => return Ok(()),
        _ => match Segment::attach(there, false) {
            Ok(segment) if segment.header().uuid == owner.uuid => "which is still there".to_owned(),
            _ => return Ok(()),
        },
    };
    let (store, epoch) = (store.url(), owner.epoch);
    Err(OpenError::StoreInUse { store, owner: owner.to_string(), epoch, why })
}

/// Fills a segment that nobody else sees yet.
fn load(space: &Arc<Space>, store: &mut dyn Store) -> Result<(), OpenError> {
    let loader = Handle::open(space)?;
    for position in 0..space.catalogue().tables.len() {
        let mut failed = None;
        let mut put = |row: Row| {
            loader.load_row(position, &row).map_err(|e| {
                let error = StoreError::BadRow {
                    table: position.to_string(),
                    key: row.key,
                    version: row.version,
                    why: e.to_string(),
                };
                failed = Some(e);
                error
            })
        };
        let floor = store.load(position, &mut put);
        if let Some(error) = failed {
            return Err(error.into());
        }
        loader.load_floor(position, floor?)?;
    }
    for mark in store.marks()? {
        match mark.kind {
            MarkKind::Ids => loader.load_ids(&mark.name, mark.value)?,
            MarkKind::Counter => loader.load_counter(&mark.name, mark.value)?,
        }
    }
    Ok(())
}

fn create_ephemeral(config: &Config) -> Result<Arc<Space>, OpenError> {
    crate::admin::sweep_ephemeral();
    let name = match &config.segment {
        Some(name) => name.clone(),
        None => format!("{}{}", crate::admin::EPHEMERAL_PREFIX, random::hex(&random::uuid())),
    };
    let path = Path::new(commonhold_os::mapping::SHM_FOLDER).join(&name);
    let space = build(config, &path, |new| Segment::create_ephemeral(&name, new))?;
    space.ok_or(OpenError::InUse { path, who: String::new() })
}
