//! What is done to a segment as a whole: adding tables, removing it, sweeping ephemeral ones left behind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use commonhold_core::catalogue::Catalogue;
use commonhold_core::space::LOCK_USAGE;
use commonhold_core::stop::{Decision, Stop};
use commonhold_core::wait::Deadline;
use commonhold_core::{Error, Space};
use commonhold_os::lock::{LockFile, Mode};
use commonhold_os::mapping::SHM_FOLDER;
use commonhold_os::process::{Identity, Liveness};
use commonhold_segment::Segment;
use commonhold_store::TakenOver;

use crate::config::Config;
use crate::open::{OpenError, create, creation_lock, same_schema};
use crate::place;
use crate::runtime::Runtime;

/// How the names of ephemeral segments begin.
pub const EPHEMERAL_PREFIX: &str = "commonhold-eph-";

/// So often it is looked whether the steward has done what was decided.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Maps a segment for reading, without an entry and without a lock: who looks disturbs nobody.
///
/// # Errors
/// [`OpenError`] when there is none or it is damaged.
pub fn look(config: &Config) -> Result<Arc<Space>, OpenError> {
    let path = config.segment_path();
    match Segment::attach_any_boot(&path, false) {
        Ok(segment) => {
            let in_use = OpenError::InUse { path, who: String::new() };
            Space::new(segment)?.ok_or(in_use)
        }
        Err(commonhold_segment::SegmentError::Os(e)) if e.is_not_found() => {
            Err(OpenError::Missing { path })
        }
        Err(e) => Err(e.into()),
    }
}

/// The catalogue of the segment, or else of its store; `None` when there is neither. Nothing is written.
///
/// # Errors
/// [`OpenError`] when the segment is damaged.
pub fn catalogue(config: &Config) -> Result<Option<Catalogue>, OpenError> {
    if config.is_ephemeral() {
        return Ok(None);
    }
    match look(config) {
        Ok(space) => Ok(Some(space.catalogue().clone())),
        Err(OpenError::Missing { .. }) => {
            // A store that is not there, or none yet: making the segment tells what else is wrong with it.
            let store = commonhold_store::open_read_only(&config.store_url());
            Ok(store.and_then(|mut store| store.catalogue()).unwrap_or_default())
        }
        Err(error) => Err(error),
    }
}

/// Makes the segment with the configuration's tables, or adds them to the one that is there: it is drained
/// and made anew from its store, which nobody may be using meanwhile. True when it was made anew.
///
/// # Errors
/// [`OpenError::InUse`] when somebody uses it; [`OpenError::OtherSchema`] when a table is there with other
/// fields; [`OpenError::NotStored`] when the store fails, [`OpenError::NoStore`] when there is none.
pub fn create_tables(config: &Config, limit: Duration) -> Result<bool, OpenError> {
    let path = config.segment_path();
    let _lock = creation_lock(&path)?;
    if !path.exists() {
        create(config, &path)?;
        return Ok(true);
    }
    let there = look(config)?;
    let asked = config.catalogue(Some(there.catalogue()))?;
    if asked == *there.catalogue() {
        return Ok(false);
    }
    for table in &asked.tables {
        if let Some((_, found)) = there.catalogue().find(&table.name) {
            let place = format!("segment {}", path.display());
            same_schema(&place, &table.name, &found.schema, &table.schema)?;
        }
    }
    let url = there.segment().header().store_url.clone();
    if url == "none" {
        return Err(OpenError::NoStore { path });
    }
    // What cannot be made anew is not removed.
    commonhold_store::open_existing(&url)?;
    let anew = config.clone().with_store(Some(&url));
    let sizes = Config { participants: Some(asked.participants), lanes: Some(asked.lanes), ..anew };
    drain_and_remove(config, &path, limit, false)?;
    create(&sizes, &path)?;
    Ok(true)
}

/// Removes the segment after draining it; with `force` also what is not stored, and segments of another boot.
///
/// # Errors
/// [`OpenError::Missing`]; [`OpenError::InUse`]; [`OpenError::NotStored`].
pub fn destroy(config: &Config, limit: Duration, force: bool) -> Result<(), OpenError> {
    refuse_foreign(config)?;
    let path = config.segment_path();
    let lock = creation_lock(&path)?;
    let removed = drain_and_remove(config, &path, limit, force);
    if removed.is_ok() || !path.exists() {
        let _ = std::fs::remove_file(place::lock_path(&path));
    }
    drop(lock);
    removed
}

/// What a take-over did, and what it leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The store.
    pub store: String,
    /// Who was fenced off, the store's epoch now, its last batch.
    pub taken: TakenOver,
    /// Versions and counters that the fenced segment has and the store has not; `None` when it cannot be seen from
    /// here.
    pub behind: Option<u64>,
}

/// Fences off the segment that owns the store `url`, wherever it is: it can store nothing any more, and the next
/// segment may be made from the store.
///
/// # Errors
/// [`OpenError::Store`] when there is no such store, or it cannot be written.
pub fn take_over(url: &str) -> Result<Takeover, OpenError> {
    // Nothing is made by a mistyped name.
    commonhold_store::open_read_only(url)?;
    let mut store = commonhold_store::open(url)?;
    let taken = store.take_over()?;
    let behind = taken.fenced.as_ref().and_then(|owner| {
        let segment = Segment::attach(Path::new(&owner.path), false).ok()?;
        let same = segment.header().uuid == owner.uuid;
        let space = if same { Space::new(segment).ok()? } else { None };
        unstored(space.as_deref()?).ok()
    });
    Ok(Takeover { store: store.url(), taken, behind })
}

/// Tells the steward what to do about the table `name`, whose rows somebody else changed in the database, and waits
/// until the store has taken everything of it. False when the table was not stopped.
///
/// # Errors
/// [`Error::NotStorable`] when it is stopped again, with the reason; [`Error::Timeout`]; [`Error::UnknownTable`].
pub fn resolve(
    runtime: &Runtime,
    name: &str,
    decision: Decision,
    limit: Duration,
) -> Result<bool, Error> {
    let space = runtime.space();
    let table = space.find_table(name)?;
    let deadline = Deadline::after(limit);
    // When somebody else has decided just now, it is waited for that.
    if !space.decide(table, decision)? && space.stop_of(table)? == Stop::Goes {
        return Ok(false);
    }
    let what = || format!("the rows of table `{name}`");
    loop {
        match space.stop_of(table)? {
            Stop::Goes => return Ok(true),
            stop if stop == Stop::Stopped || space.is_refused() => {
                return Err(Error::NotStorable { what: what(), why: space.why_not_stored() });
            }
            _ if deadline.left().is_none() => {
                let why = space.why_not_stored();
                let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                let what = format!("the steward to decide about {}", what());
                return Err(Error::Timeout { what, waited_ms, why });
            }
            _ => {
                space.hurry_steward()?;
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
}

/// The caller holds the creation lock.
fn drain_and_remove(
    config: &Config,
    path: &Path,
    limit: Duration,
    force: bool,
) -> Result<(), OpenError> {
    if !force {
        let attach = config.clone().attach_only();
        let runtime = Runtime::open(Config { tables: Vec::new(), ..attach })?;
        let drained = runtime.drain(limit);
        let why = drained.err().map(|e| format!(" ({e})")).unwrap_or_default();
        let space = Arc::clone(runtime.space());
        drop(runtime);
        if let Some(guard) = space.unfinished_guards()?.into_iter().next() {
            return Err(OpenError::Unfinished { path: path.to_owned(), guard });
        }
        let versions = unstored(&space)?;
        if versions > 0 {
            return Err(OpenError::NotStored { path: path.to_owned(), versions, why });
        }
    } else if !path.exists() {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    let lock = LockFile::open_or_create(path)?;
    if !lock.try_lock(LOCK_USAGE, Mode::Exclusive)? {
        let who = look(config).map(|space| users(&space)).unwrap_or_default();
        return Err(OpenError::InUse { path: path.to_owned(), who });
    }
    // Nobody can attach any more. What was committed between the drain and the lock is looked at here.
    if !force {
        let versions = unstored(&*look(config)?)?;
        if versions > 0 {
            let why = "; somebody committed just now".to_owned();
            return Err(OpenError::NotStored { path: path.to_owned(), versions, why });
        }
    }
    std::fs::remove_file(path).map_err(|e| commonhold_os::OsError::new("remove", path, e).into())
}

/// What is no segment is not touched, whatever is forced: a damaged segment is one, another file is not.
fn refuse_foreign(config: &Config) -> Result<(), OpenError> {
    use commonhold_segment::{HeaderError, SegmentError};
    match look(config) {
        Err(
            e @ (OpenError::Missing { .. }
            | OpenError::Core(Error::Segment(
                SegmentError::Os(_) | SegmentError::Header { error: HeaderError::Foreign, .. },
            ))),
        ) => Err(e),
        _ => Ok(()),
    }
}

/// Versions and counters that the store has not.
///
/// # Errors
/// [`OpenError`] when the segment is damaged.
pub fn unstored(space: &Space) -> Result<u64, OpenError> {
    let mut versions = space.unstored_counters()?;
    for position in 0..space.catalogue().tables.len() {
        let figures = space.figures(position)?;
        versions += figures.unstored_versions + u64::from(figures.slots.retired);
    }
    Ok(versions)
}

fn users(space: &Space) -> String {
    let mut pids: Vec<u32> = space
        .participants()
        .iter()
        .filter(|p| p.liveness != Liveness::Dead)
        .map(|p| p.identity.pid)
        .collect();
    pids.sort_unstable();
    pids.dedup();
    let shown: Vec<String> = pids.iter().take(5).map(u32::to_string).collect();
    let more = if pids.len() > shown.len() { ", …" } else { "" };
    if shown.is_empty() { String::new() } else { format!(" by process {}{more}", shown.join(", ")) }
}

/// Removes ephemeral segments whose creator is dead and that nobody uses. Failures are left for the next.
pub fn sweep_ephemeral() {
    let Ok(folder) = std::fs::read_dir(SHM_FOLDER) else { return };
    for file in folder.flatten() {
        let name = file.file_name();
        if name.to_str().is_some_and(|n| n.starts_with(EPHEMERAL_PREFIX)) {
            let _ = sweep_one(&file.path());
        }
    }
}

fn sweep_one(path: &Path) -> Result<(), OpenError> {
    let segment = Segment::attach_any_boot(path, false)?;
    let [pid, start_ticks, pidfd_inode, pid_namespace] = segment.header().creator;
    let pid = u32::try_from(pid).unwrap_or(0);
    let creator = Identity { pid, start_ticks, pidfd_inode, pid_namespace };
    if creator.find().0 != Liveness::Dead {
        return Ok(());
    }
    let lock = LockFile::open_or_create(path)?;
    if lock.try_lock(LOCK_USAGE, Mode::Exclusive)? && lock.is_current() {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}
