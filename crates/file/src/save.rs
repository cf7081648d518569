//! Reading a file whole, and replacing it whole: temporary file, fsync, rename, fsync of the folder.
//!
//! **The rename** is an exchange of the new version and the old one where the file system can do it: the new version gets
//! the name of the backup, and then the two change their names. So what was replaced is the backup in the same step, and
//! if it is not the version that was read, somebody changed the file in the last microseconds, and his change is merged
//! instead of lost.
//!
//! **Crash**: until the exchange the file is the old one, from then on the new one, each whole; after the folder's fsync
//! that holds of a loss of power too. Killed before, a temporary file is left, which the next who takes the lock over
//! removes; killed between the two renames, the backup is the version that nobody was told of.
//!
//! **What is kept**: mode, owner, group and access control list, as far as we may set them; other extended attributes
//! are not. A symbolic link stays: what it leads to is replaced. A file with several names would be torn apart, and is
//! written as a new one with this name alone; the other names keep the old text. Who may not write a file may not
//! replace it either.
//!
//! **Sources**: renameat2(2), fsync(2), fchown(2), acl(5); Linux 6.13 "multigrain timestamps".

pub(crate) mod clock;
mod rights;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use commonhold_os::OsError;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, renameat2};
use nix::unistd::{AccessFlags, faccessat, geteuid};

use crate::error::FileError;

pub(crate) use rights::{Rights, acl};

/// Which version of a file was read: a change by anybody gives another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    mode: u32,
    owner: (u32, u32),
}

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) text: Vec<u8>,
    /// None: there is no such file yet.
    pub(crate) stamp: Option<Stamp>,
    /// Who may do what with it.
    pub(crate) rights: Option<Rights>,
    /// Whether it may be changed in place without its stamp showing it: the clock of its file system has not ticked since.
    pub(crate) racy: bool,
}

impl Loaded {
    fn none() -> Self {
        Self { text: Vec::new(), stamp: None, rights: None, racy: false }
    }

    /// Whether it was changed in the last two seconds.
    pub(crate) fn is_fresh(&self) -> bool {
        self.stamp.is_some_and(|stamp| stamp.age() < Duration::from_secs(2))
    }
}

impl Stamp {
    /// Since its last change; nothing if that is to come.
    fn age(&self) -> Duration {
        let (seconds, nanos) = self.modified.max(self.changed);
        let changed = u64::try_from(seconds).ok().and_then(|seconds| {
            UNIX_EPOCH.checked_add(Duration::new(seconds, u32::try_from(nanos).unwrap_or(0)))
        });
        changed.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
    }

    fn of(meta: &std::fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
        }
    }

    /// Whether it is the same version under another name: a rename changes the time of the last change.
    fn is_renamed(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..*self } == *other
    }

    /// The version that is there now.
    fn now(path: &Path) -> Result<Option<Self>, OsError> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(Self::of(&meta))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(OsError::new("look at", path, e)),
        }
    }
}

/// The version that a new one is to replace.
#[derive(Debug)]
pub(crate) struct Seen {
    stamp: Option<Stamp>,
    /// What it holds, where its stamp may not show a change.
    text: Option<Vec<u8>>,
}

impl Seen {
    pub(crate) fn new(stamp: Option<Stamp>, racy: bool, text: &[u8]) -> Self {
        Self { stamp, text: racy.then(|| text.to_owned()) }
    }

    /// Whether it is still there.
    pub(crate) fn is_there(&self, path: &Path) -> Result<bool, OsError> {
        Ok(Stamp::now(path)? == self.stamp && self.holds(path))
    }

    /// Whether `path` is it, under another name.
    fn is_at(&self, path: &Path) -> Result<bool, OsError> {
        let renamed = match (Stamp::now(path)?, &self.stamp) {
            (Some(there), Some(seen)) => there.is_renamed(seen),
            _ => false,
        };
        Ok(renamed && self.holds(path))
    }

    fn holds(&self, path: &Path) -> bool {
        self.text.as_ref().is_none_or(|text| std::fs::read(path).is_ok_and(|there| there == *text))
    }
}

/// Reads the file whole.
pub(crate) fn load(path: &Path, limit: u64) -> Result<Loaded, FileError> {
    let mut options = OpenOptions::new();
    // A pipe with this name must not make us wait for its writer, nor a link lead us elsewhere.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let mut file = match options.read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Loaded::none()),
        Err(e) => return Err(OsError::new("read", path, e).into()),
    };
    let error = |e| OsError::new("read", path, e);
    let meta = file.metadata().map_err(error)?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "not a regular file" };
        return Err(FileError::Kind { path: path.to_owned(), what });
    }
    let bytes = meta.size();
    if bytes > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), bytes, limit });
    }
    let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    Read::by_ref(&mut file).take(bytes).read_to_end(&mut text).map_err(error)?;
    // Written in place while it was read: another version than this one.
    let stamp = Stamp::of(&meta);
    let racy = clock::is_racy(&file, stamp.age());
    let rights = Some(Rights::of(&file, &meta));
    Ok(Loaded { text, stamp: Some(stamp), rights, racy })
}

/// Whether we may write the file: who may not shall not replace it either, though its folder would let him.
pub(crate) fn may_write(path: &Path, seen: Option<&Stamp>) -> Result<(), OsError> {
    // His own file's owner needs no look at groups and lists.
    let user = geteuid().as_raw();
    if seen.is_none_or(|seen| seen.owner.0 == user && seen.mode & 0o200 != 0) {
        return Ok(());
    }
    match faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(OsError::from(("write", path, errno))),
    }
}

/// A new version of a file, written and synced beside it, without its name.
#[derive(Debug)]
pub(crate) struct Draft {
    at: PathBuf,
    path: PathBuf,
    file: File,
    placed: bool,
}

impl Draft {
    /// Writes `text` as what `path` is to become, under the name `temporary`. `given`: the user and group that new files
    /// have here, if they get no list.
    pub(crate) fn write(
        path: &Path,
        temporary: &Path,
        text: &[u8],
        rights: Option<&Rights>,
        given: Option<(u32, u32)>,
    ) -> Result<Self, OsError> {
        let mut options = OpenOptions::new();
        let flags = OFlag::O_NOFOLLOW.bits();
        let options = options.write(true).create_new(true).custom_flags(flags);
        // Nobody reads a secret file's new version before it has the old one's mode.
        let at_once = rights.and_then(|rights| rights.at_once(given));
        let mode = at_once.unwrap_or(if rights.is_some() { 0o600 } else { 0o666 });
        let opened = options.mode(mode).open(temporary);
        let file = opened.map_err(|e| OsError::new("write beside", path, e))?;
        let (at, path) = (temporary.to_owned(), path.to_owned());
        let mut draft = Self { at, path, file, placed: false };
        let written = draft.file.write_all(text).and_then(|()| {
            match (rights, at_once) {
                (Some(rights), Some(_)) => rights.complete(&draft.file)?,
                (Some(rights), None) => rights.give(&draft.file)?,
                (None, _) => {}
            }
            draft.file.sync_all()
        });
        written.map_err(|e| OsError::new("write", &draft.at, e))?;
        Ok(draft)
    }

    /// Gives it the name: this is the moment of the change. What it replaced becomes `backup`; with `kept` what is there
    /// stays until it is replaced by something that nobody else has. The folder is not synced.
    pub(crate) fn place(
        mut self,
        seen: &Seen,
        backup: &Path,
        kept: bool,
    ) -> Result<Placed, OsError> {
        if seen.stamp.is_none() {
            return self.place_new();
        }
        // Where there can be no backup there is none.
        if !kept && std::fs::rename(&self.at, backup).is_ok() {
            backup.clone_into(&mut self.at);
        }
        match exchange(&self.at, &self.path) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return self.place_new(),
            Err(errno) if NO_EXCHANGE.contains(&errno) => return self.place_over(backup),
            Err(errno) => return Err(OsError::from(("replace", self.path.as_path(), errno))),
        }
        self.placed = true;
        match self.replaced(seen, backup, kept) {
            Ok(None) => {}
            Ok(Some(over)) => return Ok(over),
            Err(why) => return Ok(Placed::Unsure { at: self.at.clone(), why }),
        }
        if self.at != backup {
            remove(&self.at);
        }
        Ok(Placed::Well)
    }

    /// What the exchange gave back, if it is not the version `seen`.
    fn replaced(
        &mut self,
        seen: &Seen,
        backup: &Path,
        kept: bool,
    ) -> Result<Option<Placed>, OsError> {
        // What fails for a reason that passes is tried again: too much hangs on it.
        if seen.is_at(&self.at).or_else(|_| seen.is_at(&self.at))? {
            return Ok(None);
        }
        if kept && std::fs::rename(&self.at, backup).is_ok() {
            backup.clone_into(&mut self.at);
        }
        let theirs = std::fs::read(&self.at).map_err(|e| OsError::new("read", &self.at, e))?;
        let ours = self.file.metadata().map_err(|e| OsError::new("look at", &self.path, e))?;
        let (stamp, racy) = (Some(Stamp::of(&ours)), clock::is_racy(&self.file, Duration::ZERO));
        Ok(Some(Placed::Over { theirs, at: self.at.clone(), stamp, racy }))
    }

    /// Gives it a name that nobody has.
    fn place_new(mut self) -> Result<Placed, OsError> {
        let exclusive = RenameFlags::RENAME_NOREPLACE;
        match renameat2(AT_FDCWD, &self.at, AT_FDCWD, &self.path, exclusive) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Ok(Placed::Taken),
            Err(errno) if NO_EXCHANGE.contains(&errno) => {
                let renamed = std::fs::rename(&self.at, &self.path);
                renamed.map_err(|e| OsError::new("name", &self.path, e))?;
            }
            Err(errno) => return Err(OsError::from(("name", self.path.as_path(), errno))),
        }
        self.placed = true;
        Ok(Placed::Well)
    }

    /// Replaces the file on a file system that cannot exchange.
    fn place_over(mut self, backup: &Path) -> Result<Placed, OsError> {
        let mut old = self.path.as_os_str().to_owned();
        old.push(".old");
        // A second name of the version that is replaced next.
        let _ = std::fs::remove_file(&old);
        let kept = std::fs::hard_link(&self.path, &old);
        let renamed = std::fs::rename(&self.at, &self.path);
        renamed.map_err(|e| OsError::new("replace", &self.path, e))?;
        self.placed = true;
        if kept.is_ok() {
            let _ = std::fs::rename(&old, backup);
        }
        Ok(Placed::Well)
    }
}

/// What happened when a draft was placed.
#[derive(Debug)]
pub(crate) enum Placed {
    /// It replaced the version that was read.
    Well,
    /// Somebody made the file at the last moment; nothing was done.
    Taken,
    /// It replaced another version, which somebody made at the last moment: this text, which is at `at` now; what is
    /// there in its place is ours.
    Over { theirs: Vec<u8>, at: PathBuf, stamp: Option<Stamp>, racy: bool },
    /// Ours is in its place. Whether what is at `at` now is the version that was read could not be found out.
    Unsure { at: PathBuf, why: OsError },
}

/// What says that a file system cannot exchange two files.
const NO_EXCHANGE: [Errno; 4] = [Errno::EINVAL, Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EXDEV];

fn exchange(one: &Path, other: &Path) -> Result<(), Errno> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            remove(&self.at);
        }
    }
}

/// Removes a temporary file. What fails for a reason that passes is tried again: nobody else would do it while there is no
/// dead owner to be followed.
pub(crate) fn remove(path: &Path) {
    let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_file(path));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_clock_is_coarse_the_text_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "theirs").unwrap();
        let stamp = Stamp::now(&path).unwrap();
        // The same stamp, of another text: as after a change within one tick.
        for (racy, text, there) in
            [(true, "before", false), (true, "theirs", true), (false, "before", true)]
        {
            let seen = Seen::new(stamp, racy, text.as_bytes());
            assert_eq!((seen.is_there(&path).unwrap(), seen.is_at(&path).unwrap()), (there, there));
        }
        clock::tests::COARSE.set(true);
        assert!(load(&path, 100).unwrap().racy);
        let file = File::open(&path).unwrap();
        assert!(!clock::is_racy(&file, Duration::from_secs(3)));
    }
}
