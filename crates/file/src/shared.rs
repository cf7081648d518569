//! The shared file: reading it, and changing it as one atomic step.
//!
//! **Update**: take the lock; load; let the updater change the value; write the new text beside the file and sync it;
//! look whether the file is still the version that was loaded; rename; give the lock up; sync the folder. Who changes
//! the file without the lock in between is met at the look: the two changes are merged ([`Merge`]), on the version that
//! he made, and it is written and looked at again. What he changes between that look and the rename is in what the rename
//! gives back, and merged too (save.rs).
//!
//! **Crash**: the file is the old or the new one, whole (save.rs); the lock is free (lock.rs).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use commonhold_os::lock::folder_of;
use commonhold_os::random::{hex, uuid};
use serde_json::Value;

use crate::document::{Document, Invalid};
use crate::error::{FileError, LockError, UpdateError};
use crate::lock::{FileLock, Waited, remove_old};
use crate::merge::Merge;
use crate::save::{Draft, Loaded, Placed, Stamp, load, may_write, resolve, sync_folder};
use crate::wait::Patience;

/// The most bytes of a file, unless another limit is set.
const BYTES_MAX: u64 = 64 << 20;
/// So often the change of a program without the lock is merged before we give up.
const MERGES_MAX: u32 = 16;

/// A file that is just being written is read again so often, at such a distance.
const TORN_MAX: u32 = 10;
const TORN: Duration = Duration::from_millis(10);
/// Between the name of a file and what tells its drafts without a lock apart.
const DRAFT: &str = ".alone-";

/// A JSON or JSONC file that many processes change.
#[derive(Debug, Clone)]
pub struct SharedFile {
    path: PathBuf,
    patience: Patience,
    bytes_max: u64,
    merge: Merge,
    backup: bool,
    /// Whether the drafts of the dead were looked for.
    swept: OnceLock<()>,
}

/// What an update did.
#[derive(Debug, Clone, PartialEq)]
pub struct Updated<R> {
    /// What the updater returned.
    pub result: R,
    /// Whether anything was written: an updater that changes nothing leaves the file alone.
    pub written: bool,
    /// How long the lock was waited for.
    pub waited: Waited,
    /// How often the change of a program without the lock was merged.
    pub merges: u32,
}

impl SharedFile {
    /// The file `path`, which need not be there yet: then the first update makes it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (patience, merge) = (Patience::default(), Merge::default());
        let (path, swept) = (path.into(), OnceLock::new());
        Self { path, patience, bytes_max: BYTES_MAX, merge, backup: true, swept }
    }

    /// How long the lock is waited for.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The most bytes that are read; 64 MiB if never set.
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// How changes of programs that take no lock are merged with ours.
    #[must_use]
    pub fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    /// Whether the version before the last update is kept as `PATH.bak`; it is if never set.
    #[must_use]
    pub fn backup(mut self, backup: bool) -> Self {
        self.backup = backup;
        self
    }

    /// The file's name as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value that is there now, without the lock: a whole version always. None: no file, or no value in it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(&self) -> Result<Option<Value>, FileError> {
        let path = resolve(&self.path)?;
        let (_, value) = self.parse(&path, &self.load(&path)?)?;
        Ok(value)
    }

    /// Takes the lock and does nothing with the file.
    ///
    /// # Errors
    /// [`FileError::Lock`].
    pub fn lock(&self) -> Result<FileLock, FileError> {
        Ok(FileLock::take(&lock_path(&resolve(&self.path)?), &self.patience)?)
    }

    /// Changes the file as one atomic step. `updater` sees the value that is there ([`Value::Null`] when there is none
    /// yet) and changes it; it runs once, and what it refuses leaves the file as it is.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with the updater's error; [`UpdateError::File`].
    pub fn update<R, E>(
        &self,
        updater: impl FnOnce(&mut Value) -> Result<R, E>,
    ) -> Result<Updated<R>, UpdateError<E>> {
        let path = resolve(&self.path)?;
        let lock = FileLock::take(&lock_path(&path), &self.patience).map_err(FileError::from)?;
        let waited = lock.waited();
        if waited.retries > 0 || waited.stale > 0 {
            let (file, retries, stale) = (path.display(), waited.retries, waited.stale);
            tracing::debug!(%file, retries, stale, waited = ?waited.time, "lock taken");
        }
        self.change(&path, Some(lock), updater)
    }

    /// Changes a file that belongs to this process: as [`SharedFile::update`], without the lock. The file is the old or
    /// the new one, whole; a change that somebody makes in between all the same is merged as there, but of two updates
    /// at once one may be lost. Killed in the middle, it leaves a temporary file, which the first such update of a later
    /// [`SharedFile`] removes when it is a minute old.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with the updater's error; [`UpdateError::File`].
    pub fn update_alone<R, E>(
        &self,
        updater: impl FnOnce(&mut Value) -> Result<R, E>,
    ) -> Result<Updated<R>, UpdateError<E>> {
        let path = resolve(&self.path)?;
        self.swept.get_or_init(|| sweep_drafts(&path));
        self.change(&path, None, updater)
    }

    fn change<R, E>(
        &self,
        path: &Path,
        lock: Option<FileLock>,
        updater: impl FnOnce(&mut Value) -> Result<R, E>,
    ) -> Result<Updated<R>, UpdateError<E>> {
        let waited = lock.as_ref().map(FileLock::waited).unwrap_or_default();
        let loaded = self.load(path)?;
        may_write(path, loaded.stamp.as_ref()).map_err(FileError::from)?;
        let (document, value) = self.parse(path, &loaded)?;
        let mut value = value.unwrap_or(Value::Null);
        let result = updater(&mut value).map_err(UpdateError::Refused)?;
        let Some(text) = document.changed(&value).map_err(|why| edit_error(path, why))? else {
            return Ok(Updated { result, written: false, waited, merges: 0 });
        };
        let ours = Ours { base: &document, value };
        let merges = self.write(path, lock, text, loaded.stamp, &ours)?;
        Ok(Updated { result, written: true, waited, merges })
    }

    /// Writes the document over the version `seen`; how often another change was merged into it first.
    fn write(
        &self,
        path: &Path,
        lock: Option<FileLock>,
        mut text: Vec<u8>,
        mut seen: Option<Stamp>,
        ours: &Ours<'_>,
    ) -> Result<u32, FileError> {
        let backup = self.backup.then(|| backup_path(path));
        for merges in 0..MERGES_MAX {
            let temporary = lock.as_ref().map_or_else(|| draft_path(path), FileLock::temporary);
            let draft = Draft::write(path, &temporary, &text, seen.as_ref())?;
            if let Some(lock) = lock.as_ref().filter(|lock| !lock.is_held()) {
                let lock = lock.path().to_owned();
                let who = "somebody who removed it while we had it".to_owned();
                return Err(LockError::Lost { lock, who }.into());
            }
            let (loaded, over) = if Stamp::now(path)? == seen {
                match draft.place(seen.as_ref(), backup.as_deref())? {
                    Placed::Well => {
                        // Who builds on our version syncs it with his own.
                        drop(lock);
                        sync_folder(path)?;
                        return Ok(merges);
                    }
                    Placed::Taken => (self.load(path)?, false),
                    // What is there now is ours.
                    Placed::Over(theirs) => (Loaded { stamp: Stamp::now(path)?, ..theirs }, true),
                }
            } else {
                drop(draft);
                (self.load(path)?, false)
            };
            tracing::debug!(file = %path.display(), "changed without the lock: merging");
            let (theirs, value) = match self.parse(path, &loaded) {
                // What was no document is the backup now, and the file is whole.
                Err(_) if over => {
                    sync_folder(path)?;
                    return Ok(merges);
                }
                parsed => parsed?,
            };
            let base = ours.base.value().ok().flatten().unwrap_or(Value::Null);
            let merged = self.merge.three_way(&base, &ours.value, value.as_ref());
            // Over: what is there is our version, and the merged one is made from theirs.
            let made = theirs.changed(&merged).map_err(|why| edit_error(path, why))?;
            match made {
                Some(made) => text = made,
                None if over => text.clone_from(&loaded.text),
                None => return Ok(merges + 1),
            }
            seen = loaded.stamp;
        }
        let lock = lock_path(path);
        Err(FileError::Contended { path: path.to_owned(), lock, times: MERGES_MAX })
    }

    /// Reads the file. One that some program without the lock seems to be writing just now, for it was changed in the
    /// last second and ends in the middle, is read again some times.
    fn load(&self, path: &Path) -> Result<Loaded, FileError> {
        let mut loaded = load(path, self.bytes_max)?;
        for _ in 0..TORN_MAX {
            if !loaded.is_torn() {
                break;
            }
            std::thread::sleep(TORN);
            loaded = load(path, self.bytes_max)?;
        }
        Ok(loaded)
    }

    fn parse<'a>(
        &self,
        path: &Path,
        loaded: &'a Loaded,
    ) -> Result<(Document<'a>, Option<Value>), FileError> {
        let invalid = |e: Invalid| {
            let Invalid { line, column, why } = e;
            let backup = Some(backup_path(path)).filter(|backup| backup.exists());
            FileError::Invalid { path: path.to_owned(), line, column, why, backup }
        };
        let document = Document::parse(&loaded.text).map_err(invalid)?;
        let value = document.value().map_err(invalid)?;
        Ok((document, value))
    }
}

/// What the updater made of what.
struct Ours<'a> {
    base: &'a Document<'a>,
    value: Value,
}

fn edit_error(path: &Path, why: String) -> FileError {
    FileError::Edit { path: path.to_owned(), why }
}

fn lock_path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

/// The version before the last update.
fn backup_path(path: &Path) -> PathBuf {
    beside(path, ".bak")
}

/// A new version that is written without a lock.
fn draft_path(path: &Path) -> PathBuf {
    beside(path, &format!("{DRAFT}{}.tmp", hex(&uuid())))
}

/// Removes the drafts of those who were killed.
fn sweep_drafts(path: &Path) {
    let prefix = beside(path, DRAFT);
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy();
    remove_old(folder_of(path), |name| name.starts_with(&*prefix) && name.ends_with(".tmp"));
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}
