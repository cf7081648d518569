//! Reading a file whole, and replacing it whole: temporary file, fsync, rename, fsync of the folder.
//!
//! **The rename** is an exchange of the new version and the old one where the file system can do it. So what was replaced
//! is still in hand afterwards: it becomes the backup, and if it is not the version that was read, somebody changed the
//! file in the last microseconds, and his change is merged instead of lost.
//!
//! **Crash**: until the rename the file is the old one, from then on the new one, each whole; after the folder's fsync
//! that holds of a loss of power too. Killed in between, a temporary file is left, which the next who saves removes.
//!
//! **What is kept**: mode, owner and group (as far as we may set them); extended attributes are not. A symbolic link
//! stays: what it leads to is replaced. A file with several names would be torn apart, and is written as a new one with
//! this name alone; the other names keep the old text. Who may not write a file may not replace it either.
//!
//! **Sources**: renameat2(2), fsync(2), fchown(2).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use commonhold_os::OsError;
use commonhold_os::lock::folder_of;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, renameat2};
use nix::unistd::{AccessFlags, faccessat, geteuid};

use crate::error::FileError;

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
}

impl Loaded {
    /// Whether it was changed in the last second and ends in the middle, or is empty.
    pub(crate) fn is_torn(&self) -> bool {
        let text = self.text.trim_ascii();
        let begins = text.is_empty() || text.starts_with(b"{") || text.starts_with(b"[");
        let ends = text.ends_with(b"}") || text.ends_with(b"]");
        begins && !ends && self.stamp.is_some_and(|stamp| stamp.is_fresh())
    }
}

impl Stamp {
    fn is_fresh(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        now.cast_signed().abs_diff(self.modified.0) <= 1
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
    pub(crate) fn is_renamed(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..*self } == *other
    }

    /// The version that is there now.
    pub(crate) fn now(path: &Path) -> Result<Option<Self>, OsError> {
        match std::fs::metadata(path) {
            Ok(meta) => Ok(Some(Self::of(&meta))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(OsError::new("look at", path, e)),
        }
    }
}

/// Where a path leads: symbolic links are followed, also one whose target is not there yet.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    // Whoever changes the working directory meanwhile changes nothing here.
    let mut at = std::path::absolute(path).map_err(|e| OsError::new("follow", path, e))?;
    let mut links = 0;
    loop {
        match std::fs::read_link(&at) {
            // As many as the kernel follows.
            Ok(_) if links == 40 => {
                let what = "a loop of symbolic links";
                return Err(FileError::Kind { path: path.to_owned(), what });
            }
            Ok(to) => at = folder_of(&at).join(to),
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => break,
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(OsError::new("follow", path, e).into()),
        }
        links += 1;
    }
    if at.file_name().is_none() {
        return Err(FileError::Kind { path: path.to_owned(), what: "a folder" });
    }
    Ok(at)
}

/// Reads the file whole.
pub(crate) fn load(path: &Path, limit: u64) -> Result<Loaded, FileError> {
    let mut options = OpenOptions::new();
    // A pipe with this name must not make us wait for its writer.
    let opened = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let folder = std::fs::metadata(folder_of(path));
            folder.map_err(|e| OsError::new("open the folder of", path, e))?;
            return Ok(Loaded { text: Vec::new(), stamp: None });
        }
        Err(e) => return Err(OsError::new("read", path, e).into()),
    };
    let error = |e| OsError::new("read", path, e);
    let meta = file.metadata().map_err(error)?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "not a regular file" };
        return Err(FileError::Kind { path: path.to_owned(), what });
    }
    let too_large = |bytes| FileError::TooLarge { path: path.to_owned(), bytes, limit };
    if meta.size() > limit {
        return Err(too_large(meta.size()));
    }
    let mut text = Vec::with_capacity(usize::try_from(meta.size()).unwrap_or(0));
    Read::by_ref(&mut file).take(meta.size()).read_to_end(&mut text).map_err(error)?;
    // Written in place while it was read: another version than this one.
    Ok(Loaded { text, stamp: Some(Stamp::of(&meta)) })
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
    temporary: PathBuf,
    path: PathBuf,
    placed: bool,
}

impl Draft {
    /// Writes `text` as what `path` is to become, under the name `temporary`, with mode and owner of the version `seen`.
    pub(crate) fn write(
        path: &Path,
        temporary: &Path,
        text: &[u8],
        seen: Option<&Stamp>,
    ) -> Result<Self, OsError> {
        let mut options = OpenOptions::new();
        let flags = OFlag::O_NOFOLLOW.bits();
        let options = options.write(true).create_new(true).custom_flags(flags);
        // Nobody reads a secret file's new version before it has the old one's mode.
        let mode = if seen.is_some() { 0o600 } else { 0o666 };
        let opened = options.mode(mode).open(temporary);
        let mut file = opened.map_err(|e| OsError::new("write beside", path, e))?;
        let draft = Self { temporary: temporary.to_owned(), path: path.to_owned(), placed: false };
        let written = (|| {
            file.write_all(text)?;
            if let Some(seen) = seen {
                keep(&file, seen)?;
            }
            file.sync_all()
        })();
        written.map_err(|e| OsError::new("write", &draft.temporary, e))?;
        Ok(draft)
    }

    /// Gives it the name: this is the moment of the change. What it replaced becomes `backup`; it goes if there is none.
    /// The folder is not synced.
    pub(crate) fn place(
        mut self,
        seen: Option<&Stamp>,
        backup: Option<&Path>,
    ) -> Result<Placed, OsError> {
        let Some(seen) = seen else {
            return self.place_new();
        };
        if let Err(errno) = exchange(&self.temporary, &self.path) {
            if !NO_EXCHANGE.contains(&errno) {
                return Err(OsError::from(("replace", self.path.as_path(), errno)));
            }
            return self.place_over(backup);
        }
        self.placed = true;
        let kept = backup.filter(|backup| std::fs::rename(&self.temporary, backup).is_ok());
        let replaced = Stamp::now(kept.unwrap_or(&self.temporary))?;
        let placed = match replaced {
            Some(replaced) if !replaced.is_renamed(seen) => {
                let by = kept.unwrap_or(&self.temporary);
                let text = std::fs::read(by).map_err(|e| OsError::new("read", by, e))?;
                Placed::Over(Loaded { text, stamp: None })
            }
            _ => Placed::Well,
        };
        if kept.is_none() {
            // Who removes our lock as stale would do it, too.
            let _ = std::fs::remove_file(&self.temporary);
        }
        Ok(placed)
    }

    /// Gives it a name that nobody has.
    fn place_new(mut self) -> Result<Placed, OsError> {
        let exclusive = RenameFlags::RENAME_NOREPLACE;
        match renameat2(AT_FDCWD, &self.temporary, AT_FDCWD, &self.path, exclusive) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Ok(Placed::Taken),
            Err(errno) if NO_EXCHANGE.contains(&errno) => {
                let renamed = std::fs::rename(&self.temporary, &self.path);
                renamed.map_err(|e| OsError::new("name", &self.path, e))?;
            }
            Err(errno) => return Err(OsError::from(("name", self.path.as_path(), errno))),
        }
        self.placed = true;
        Ok(Placed::Well)
    }

    /// Replaces the file on a file system that cannot exchange.
    fn place_over(mut self, backup: Option<&Path>) -> Result<Placed, OsError> {
        if let Some(backup) = backup {
            // The backup is a second name of the version that is replaced next.
            let _ = std::fs::remove_file(backup);
            let _ = std::fs::hard_link(&self.path, backup);
        }
        let renamed = std::fs::rename(&self.temporary, &self.path);
        renamed.map_err(|e| OsError::new("replace", &self.path, e))?;
        self.placed = true;
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
    /// It replaced another version, which somebody made at the last moment: this one.
    Over(Loaded),
}

/// What says that a file system cannot exchange two files, or that one of them is not there.
const NO_EXCHANGE: [Errno; 5] =
    [Errno::EINVAL, Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EXDEV, Errno::ENOENT];

fn exchange(one: &Path, other: &Path) -> Result<(), Errno> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Mode and owner as they were. Who may not give a file away keeps it, with no more rights for others than before.
fn keep(file: &File, old: &Stamp) -> io::Result<()> {
    let new = file.metadata()?;
    let mut mode = old.mode & 0o7777;
    if (new.uid(), new.gid()) != old.owner {
        let (user, group) = (Some(old.owner.0), Some(old.owner.1));
        let given = std::os::unix::fs::fchown(file, user, group)
            .or_else(|_| std::os::unix::fs::fchown(file, None, group));
        if given.is_err() {
            // The group is another one: what it might do everybody may.
            mode &= 0o777;
            mode &= !0o070 | ((mode & 0o007) << 3);
        }
    }
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// After this a loss of power does not bring the old version back.
pub(crate) fn sync_folder(path: &Path) -> Result<(), OsError> {
    let folder = folder_of(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    match synced {
        // Some file systems have no such call, and need none.
        Err(e) if e.raw_os_error() == Some(nix::libc::EINVAL) => Ok(()),
        done => done.map_err(|e| OsError::new("sync the folder of", path, e)),
    }
}
