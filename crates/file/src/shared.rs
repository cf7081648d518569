//! The shared file: reading it, and changing it as one atomic step.
//!
//! **Update**: take the lock; load; let the updater change the value; write the new text beside the file and sync it;
//! look whether the file is still the version that was loaded; rename; give the lock up; sync the folder. Who changes the
//! file without the lock in between is met at the look: the two changes are merged ([`Merge`]), on the version that he
//! made, and it is written and looked at again. What he changes between that look and the rename is in what the rename
//! gives back, and merged too (save.rs): his version was made of the one that we saw, and his next one of ours.
//!
//! **Crash**: the file is the old or the new one, whole (save.rs); the lock is free (lock.rs).
//!
//! **Errors**: nothing was written, but for [`FileError::Unmerged`], which says where everything is.

use std::os::unix::ffi::OsStrExt;
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
use crate::place::{Place, beside};
use crate::save::{Draft, Loaded, Placed, Rights, Seen, load, may_write, remove};
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
        Self { path, patience, bytes_max: BYTES_MAX, merge, swept }
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
        self.parsed(&Place::find(&self.path)?, |_, _, value| Ok(value))
    }

    /// Takes the lock and does nothing with the file.
    ///
    /// # Errors
    /// [`FileError::Lock`].
    pub fn lock(&self) -> Result<FileLock, FileError> {
        self.lock_file().map(|(_, lock)| lock)
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
        let (place, lock) = self.lock_file()?;
        let waited = lock.waited();
        if waited.retries > 0 || waited.stale > 0 {
            let (file, retries, stale) = (place.path.display(), waited.retries, waited.stale);
            tracing::debug!(%file, retries, stale, waited = ?waited.time, "lock taken");
        }
        self.change(&place, Some(lock), updater)
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
        let place = Place::find(&self.path)?;
        self.swept.get_or_init(|| sweep_drafts(&place.path));
        self.change(&place, None, updater)
    }

    /// Where the file is, and its lock.
    fn lock_file(&self) -> Result<(Place, FileLock), FileError> {
        loop {
            let place = Place::find(&self.path)?;
            let lock = FileLock::take(&place.lock, &self.patience)?;
            // While we waited a link may have been turned elsewhere.
            let waited = lock.waited().retries > 0 || lock.waited().stale > 0;
            if !waited || Place::find(&self.path)?.path == place.path {
                return Ok((place, lock));
            }
        }
    }

    fn change<R, E>(
        &self,
        place: &Place,
        lock: Option<FileLock>,
        updater: impl FnOnce(&mut Value) -> Result<R, E>,
    ) -> Result<Updated<R>, UpdateError<E>> {
        let waited = lock.as_ref().map(FileLock::waited).unwrap_or_default();
        self.parsed(place, |loaded, document, value| {
            may_write(&place.path, loaded.stamp.as_ref()).map_err(FileError::from)?;
            let mut value = value.unwrap_or(Value::Null);
            let result = updater(&mut value).map_err(UpdateError::Refused)?;
            let text = document.changed(&value).map_err(|why| edit_error(&place.path, why))?;
            let Some(text) = text else {
                return Ok(Updated { result, written: false, waited, merges: 0 });
            };
            let rounds = Rounds {
                file: self,
                place,
                lock,
                first: document,
                base: None,
                seen: Seen::new(loaded.stamp, loaded.racy, &loaded.text),
                rights: loaded.rights.clone(),
                value,
                text,
                unmerged: None,
                rounds: 0,
            };
            Ok(Updated { result, written: true, waited, merges: rounds.write()? })
        })
    }

    /// Reads the file and goes on with what is in it. One that some program without the lock seems to be writing just
    /// now, for it was changed lately and ends in the middle, is read again some times.
    fn parsed<T, E: From<FileError>>(
        &self,
        place: &Place,
        go_on: impl FnOnce(&Loaded, &Document<'_>, Option<Value>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut left = TORN_MAX;
        loop {
            let loaded = load(&place.path, self.bytes_max)?;
            let document = Document::parse(&loaded.text);
            let parsed = document.and_then(|document| Ok((document.value()?, document)));
            let empty = loaded.stamp.is_some() && loaded.text.trim_ascii().is_empty();
            let torn = empty || matches!(&parsed, Err(invalid) if invalid.ends_early);
            if torn && left > 0 && loaded.is_fresh() {
                left -= 1;
                seam::while_torn();
                std::thread::sleep(TORN);
                continue;
            }
            let names = || (place.path.clone(), place.backup.clone());
            if empty && std::fs::metadata(&place.backup).is_ok_and(|backup| backup.len() > 0) {
                let (path, backup) = names();
                return Err(FileError::Emptied { path, backup }.into());
            }
            return match parsed {
                Ok((value, document)) => go_on(&loaded, &document, value),
                Err(Invalid { line, column, why, .. }) => {
                    let (path, backup) = names();
                    let backup = Some(backup).filter(|backup| backup.exists());
                    Err(FileError::Invalid { path, line, column, why, backup }.into())
                }
            };
        }
    }
}

/// The rounds of one write: until our version has replaced one that everything in it was made of.
struct Rounds<'a> {
    file: &'a SharedFile,
    place: &'a Place,
    lock: Option<FileLock>,
    /// What was loaded.
    first: &'a Document<'a>,
    /// The value of the version `seen`; none: what was loaded.
    base: Option<Value>,
    /// The version that is to be replaced.
    seen: Seen,
    rights: Option<Rights>,
    /// The value of what is to be written, and its text.
    value: Value,
    text: Vec<u8>,
    /// Where a version is that ours has replaced without having been made of it.
    unmerged: Option<PathBuf>,
    /// How often it was written.
    rounds: u32,
}

/// What came of one round.
enum Round {
    Done,
    /// Somebody changed the file: this is there, and nothing of ours.
    Theirs,
    /// Ours is there, in place of this.
    Over {
        theirs: Vec<u8>,
        at: PathBuf,
        seen: Seen,
    },
}

impl Rounds<'_> {
    /// How often another change was merged.
    fn write(mut self) -> Result<u32, FileError> {
        for merges in 0..MERGES_MAX {
            match self.round() {
                Ok(true) => return Ok(merges),
                Ok(false) => {}
                Err(error) => return Err(self.told(error)),
            }
            tracing::debug!(file = %self.place.path.display(), "changed without the lock: merged");
        }
        let (path, lock) = (self.place.path.clone(), self.place.lock.clone());
        let error = FileError::Contended { path, lock, times: MERGES_MAX };
        Err(self.told(error))
    }

    /// An error of a round, when ours may be in the file already.
    fn told(&mut self, error: FileError) -> FileError {
        let Some(theirs) = self.unmerged.take() else { return error };
        let (path, why) = (self.place.path.clone(), error.to_string());
        FileError::Unmerged { path, theirs, why }
    }

    /// Writes once, and merges what came in between; whether nothing is left to be written.
    fn round(&mut self) -> Result<bool, FileError> {
        match self.place()? {
            Round::Done => Ok(true),
            Round::Theirs => self.merge_theirs(),
            Round::Over { theirs, at, seen } => {
                self.replace_unmerged(Some(at));
                let Ok(document) = Document::parse(&theirs) else {
                    // What was no document is the backup now, and the file is whole.
                    return self.finish().map(|()| true);
                };
                let value = document.value().ok().flatten();
                let (merged, text) = self.merged(&document, value.as_ref())?;
                let text = text.unwrap_or_else(|| theirs.clone());
                self.base = Some(std::mem::replace(&mut self.value, merged));
                (self.seen, self.text) = (seen, text);
                Ok(false)
            }
        }
    }

    /// Merges what is there with ours, which is not; whether it is all there.
    fn merge_theirs(&mut self) -> Result<bool, FileError> {
        let (file, place) = (self.file, self.place);
        file.parsed(place, |loaded, document, value| {
            let (merged, text) = self.merged(document, value.as_ref())?;
            let Some(text) = text else { return self.finish().map(|()| true) };
            self.base = Some(value.unwrap_or(Value::Null));
            self.seen = Seen::new(loaded.stamp, loaded.racy, &loaded.text);
            // What goes for a moment comes back with the rights that it had.
            self.rights = loaded.rights.clone().or(self.rights.take());
            (self.value, self.text) = (merged, text);
            Ok(false)
        })
    }

    /// What ours and theirs make of the version that both were made of; none: their text has that value.
    fn merged(
        &self,
        theirs: &Document<'_>,
        value: Option<&Value>,
    ) -> Result<(Value, Option<Vec<u8>>), FileError> {
        let first = || self.first.value().ok().flatten().unwrap_or(Value::Null);
        let base = self.base.clone().unwrap_or_else(first);
        let merged = self.file.merge.three_way(&base, &self.value, value);
        let text = theirs.changed(&merged).map_err(|why| edit_error(&self.place.path, why))?;
        Ok((merged, text))
    }

    /// Writes our version and gives it its name, if the version is there still that it is to replace.
    fn place(&mut self) -> Result<Round, FileError> {
        let place = self.place;
        let (bytes, limit) = (self.text.len() as u64, self.file.bytes_max);
        if bytes > limit {
            return Err(FileError::TooLarge { path: place.path.clone(), bytes, limit });
        }
        place.folder()?;
        // One of an earlier round may hold what is not merged yet.
        let number = self.rounds;
        self.rounds += 1;
        let temporary = |lock: &FileLock| lock.temporary(number);
        let temporary = self.lock.as_ref().map_or_else(|| draft_path(&place.path), temporary);
        let (rights, given) = (self.rights.as_ref(), self.lock.as_ref().and_then(FileLock::given));
        let draft = Draft::write(&place.path, &temporary, &self.text, rights, given)?;
        if let Some(lock) = self.lock.as_ref().filter(|lock| !lock.is_held()) {
            let lock = lock.path().to_owned();
            let who = "somebody who removed it while we had it".to_owned();
            return Err(LockError::Lost { lock, who }.into());
        }
        seam::before_the_look();
        if !self.seen.is_there(&place.path)? {
            return Ok(Round::Theirs);
        }
        seam::before_the_exchange();
        // What is not merged yet is in the backup alone.
        let kept = self.unmerged.is_some();
        match draft.place(&self.seen, &place.backup, kept)? {
            Placed::Well => self.finish().map(|()| Round::Done),
            Placed::Taken => Ok(Round::Theirs),
            Placed::Unsure { at, why } => {
                self.replace_unmerged(Some(at));
                Err(why.into())
            }
            Placed::Over { theirs, at, stamp, racy } => {
                Ok(Round::Over { theirs, at, seen: Seen::new(stamp, racy, &self.text) })
            }
        }
    }

    /// What was not merged before is in the version that was just placed.
    fn replace_unmerged(&mut self, at: Option<PathBuf>) {
        let merged = std::mem::replace(&mut self.unmerged, at);
        let merged = merged.filter(|merged| *merged != self.place.backup);
        if let Some(merged) = merged {
            // It could not get the backup's name.
            remove(&merged);
        }
    }

    /// Gives the lock up and syncs the folder. Who builds on our version syncs it with his own.
    fn finish(&mut self) -> Result<(), FileError> {
        self.replace_unmerged(None);
        self.lock = None;
        Ok(self.place.folder()?.sync(&self.place.path)?)
    }
}

fn edit_error(path: &Path, why: String) -> FileError {
    FileError::Edit { path: path.to_owned(), why }
}

/// A new version that is written without a lock.
fn draft_path(path: &Path) -> PathBuf {
    beside(path, &format!("{DRAFT}{}.tmp", hex(&uuid())))
}

/// Removes the drafts of those who were killed.
fn sweep_drafts(path: &Path) {
    let prefix = beside(path, DRAFT);
    let prefix = prefix.file_name().unwrap_or_default().as_bytes();
    remove_old(folder_of(path), |name| name.starts_with(prefix) && name.ends_with(b".tmp"));
}

/// Where tests let another program change the file.
mod seam {
    #[cfg(test)]
    type Other = std::cell::RefCell<Option<Box<dyn FnMut()>>>;

    #[cfg(test)]
    thread_local! {
        pub(super) static EXCHANGE: Other = const { std::cell::RefCell::new(None) };
        pub(super) static LOOK: Other = const { std::cell::RefCell::new(None) };
        pub(super) static TORN: Other = const { std::cell::RefCell::new(None) };
    }

    pub(super) fn before_the_exchange() {
        #[cfg(test)]
        EXCHANGE.with_borrow_mut(|other| other.iter_mut().for_each(|other| other()));
    }

    pub(super) fn before_the_look() {
        #[cfg(test)]
        LOOK.with_borrow_mut(|other| other.iter_mut().for_each(|other| other()));
    }

    pub(super) fn while_torn() {
        #[cfg(test)]
        TORN.with_borrow_mut(|other| other.iter_mut().for_each(|other| other()));
    }
}

/// What another program does, each time that this thread comes to a place, until the value is dropped.
#[cfg(test)]
pub(crate) struct Meanwhile;

#[cfg(test)]
impl Meanwhile {
    /// Right before each exchange.
    pub(crate) fn new(other: impl FnMut() + 'static) -> Self {
        seam::EXCHANGE.set(Some(Box::new(other)));
        Self
    }

    /// Right before each look whether the file is still what was read.
    pub(crate) fn looked(other: impl FnMut() + 'static) -> Self {
        seam::LOOK.set(Some(Box::new(other)));
        Self
    }

    /// Each time that a file is found half written.
    pub(crate) fn torn(other: impl FnMut() + 'static) -> Self {
        seam::TORN.set(Some(Box::new(other)));
        Self
    }
}

#[cfg(test)]
impl Drop for Meanwhile {
    fn drop(&mut self) {
        seam::EXCHANGE.set(None);
        seam::LOOK.set(None);
        seam::TORN.set(None);
    }
}
