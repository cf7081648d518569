//! Byte-range locks that belong to an open file description (OFD locks): the kernel frees them when the
//! description's last descriptor is closed, at the latest at the death of its process.
//!
//! A POSIX record lock would vanish when the process closes *any* descriptor of the file; an OFD lock does
//! not. Each [`LockFile`] is its own description, so two of one process exclude each other.

use std::fs::{File, OpenOptions};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, fcntl};
use nix::unistd::linkat;

use crate::{OsError, fork};

/// How a byte is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Many may hold it.
    Shared,
    /// One may hold it.
    Exclusive,
}

/// An open file description of its own, for locks.
#[derive(Debug)]
pub struct LockFile {
    file: ManuallyDrop<File>,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// As it was when the file was opened.
    mode: u32,
    owner: (u32, u32),
    generation: u64,
    /// Whether its name was removed.
    removed: bool,
}

impl LockFile {
    /// Another open file description of `file`, which is or will be named `path`.
    ///
    /// # Errors
    /// [`OsError`] when no descriptor is left or `/proc` is not mounted.
    pub fn reopen(file: &File, path: &Path) -> Result<Self, OsError> {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(libc::O_CLOEXEC);
        Self::open_with(Path::new(&link), path, options)
    }

    /// A description of a new file without a name, in the folder of `path`, to be given that name by
    /// [`LockFile::publish`]; until then nobody else can open it, and it goes when this is dropped.
    ///
    /// # Errors
    /// [`OsError`] when the folder does not let it, or the file system has no unnamed files (`EOPNOTSUPP`, `EISDIR`).
    pub fn unpublished(path: &Path, mode: u32) -> Result<Self, OsError> {
        let mut options = OpenOptions::new();
        let flags = libc::O_TMPFILE | libc::O_CLOEXEC;
        let options = options.read(true).write(true).mode(mode).custom_flags(flags);
        Self::open_with(folder_of(path), path, options)
    }

    /// The same as a file `at` that has another name first.
    ///
    /// # Errors
    /// [`OsError`] when `at` is there already, or the folder does not let it.
    pub fn unpublished_at(at: &Path, path: &Path, mode: u32) -> Result<Self, OsError> {
        let mut options = OpenOptions::new();
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let options =
            options.read(true).write(true).create_new(true).mode(mode).custom_flags(flags);
        Self::open_with(at, path, options)
    }

    /// A description of a new file `path`, which was not there; blank, and seen by everybody.
    ///
    /// # Errors
    /// [`OsError`] when `path` is there already (`EEXIST`), or the folder does not let it.
    pub fn create_new(path: &Path, mode: u32) -> Result<Self, OsError> {
        Self::unpublished_at(path, path, mode)
    }

    /// A description of a file that is there.
    ///
    /// # Errors
    /// [`OsError`] when it is not, or may not be written.
    pub fn open(path: &Path) -> Result<Self, OsError> {
        let mut options = OpenOptions::new();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        Self::open_with(path, path, options.read(true).write(true).custom_flags(flags))
    }

    /// Gives an unpublished file its name; false when the name is somebody's already.
    ///
    /// # Errors
    /// [`OsError`] when the folder does not let it.
    pub fn publish(&self) -> Result<bool, OsError> {
        link(&self.file, &self.path)
    }

    /// Gives it the name `to` in place of its own; who has that name loses it, in the same step.
    ///
    /// # Errors
    /// [`OsError`] when the folder does not let it, or its own name is gone.
    pub fn rename(&mut self, to: &Path) -> Result<(), OsError> {
        std::fs::rename(&self.path, to).map_err(|e| OsError::new("replace", to, e))?;
        self.path = to.to_owned();
        Ok(())
    }

    /// Removes its name. From then on its locks keep nobody out: who looks for it finds another file, or none.
    ///
    /// # Errors
    /// [`OsError`] when the folder does not let it.
    pub fn remove(&mut self) -> Result<(), OsError> {
        std::fs::remove_file(&self.path).map_err(|e| OsError::new("remove", &self.path, e))?;
        self.removed = true;
        Ok(())
    }

    /// Sets the mode to `mode`, whatever the umask took from it.
    ///
    /// # Errors
    /// [`OsError`] when the file system does not let it.
    pub fn set_mode(&self, mode: u32) -> Result<(), OsError> {
        if self.mode & 0o7777 == mode {
            return Ok(());
        }
        let set = self.file.set_permissions(std::fs::Permissions::from_mode(mode));
        set.map_err(|e| OsError::new("change the mode of", &self.path, e))
    }

    /// Its user and group, as they were when it was opened.
    #[must_use]
    pub fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// The file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether it is of this process, not of the one that this one was forked from.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    /// Opens `path`, made as an empty file of mode 0600 when it is not there.
    ///
    /// # Errors
    /// [`OsError`] when it cannot be opened or made.
    pub fn open_or_create(path: &Path) -> Result<Self, OsError> {
        let mut options = OpenOptions::new();
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let options = options.read(true).write(true).create(true).truncate(false);
        Self::open_with(path, path, options.mode(0o600).custom_flags(flags))
    }

    fn open_with(at: &Path, path: &Path, options: &OpenOptions) -> Result<Self, OsError> {
        let file = options.open(at).map_err(|e| OsError::new("open", path, e))?;
        let meta = file.metadata().map_err(|e| OsError::new("look at", path, e))?;
        let identity = (meta.dev(), meta.ino());
        fork::register(file.as_raw_fd());
        let generation = fork::generation();
        let (file, path) = (ManuallyDrop::new(file), path.to_owned());
        let (mode, owner) = (meta.mode(), (meta.uid(), meta.gid()));
        Ok(Self { file, path, identity, mode, owner, generation, removed: false })
    }

    /// Tries to lock the byte at `offset`; false when another description holds it.
    ///
    /// # Errors
    /// [`OsError`] when the file system has no locks, say.
    pub fn try_lock(&self, offset: u64, mode: Mode) -> Result<bool, OsError> {
        let kind = match mode {
            Mode::Shared => libc::F_RDLCK,
            Mode::Exclusive => libc::F_WRLCK,
        };
        match self.set(offset, 1, kind, false) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(OsError::from(("lock", self.path.as_path(), errno))),
        }
    }

    /// Locks the byte at `offset`, waiting as long as it takes.
    ///
    /// # Errors
    /// [`OsError`] when the file system has no locks, say.
    pub fn lock(&self, offset: u64) -> Result<(), OsError> {
        loop {
            match self.set(offset, 1, libc::F_WRLCK, true) {
                Err(Errno::EINTR) => {}
                done => return done.map_err(|e| OsError::from(("lock", self.path.as_path(), e))),
            }
        }
    }

    /// Gives the byte at `offset` back.
    pub fn unlock(&self, offset: u64) {
        // Unlocking a byte of an open file does not fail.
        let _ = self.set(offset, 1, libc::F_UNLCK, false);
    }

    /// Whether the file's name still leads to this file.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let there = std::fs::symlink_metadata(&self.path).map(|m| (m.dev(), m.ino()));
        there.is_ok_and(|there| there == self.identity)
    }

    /// Sets the lock of `length` bytes; 0: all from `offset` on.
    fn set(&self, offset: u64, length: i64, kind: i32, wait: bool) -> Result<(), Errno> {
        // SAFETY: `flock` is plain numbers; all-zero is valid.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = libc::off_t::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        lock.l_len = length;
        let file: &File = &self.file;
        let arg = if wait { FcntlArg::F_OFD_SETLKW(&lock) } else { FcntlArg::F_OFD_SETLK(&lock) };
        fcntl(file, arg).map(drop)
    }
}

/// Whether a lock is held on a byte of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Another description holds it.
    Held,
    /// Nobody does.
    Free,
    /// The file system has no such locks.
    Unsupported,
}

/// Whether another open file description holds a lock on the byte at `offset` of `file`, which may be open for reading
/// only.
#[must_use]
pub fn probe(file: &File, offset: u64) -> Probe {
    // SAFETY: `flock` is plain numbers; all-zero is valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = libc::off_t::try_from(offset).unwrap_or(libc::off_t::MAX);
    lock.l_len = 1;
    match fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)) {
        Ok(_) if lock.l_type == libc::F_UNLCK as libc::c_short => Probe::Free,
        Ok(_) => Probe::Held,
        Err(_) => Probe::Unsupported,
    }
}

/// The folder of a file.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Gives an open file the name `path`; false when the name is somebody's already.
pub(crate) fn link(file: &File, path: &Path) -> Result<bool, OsError> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    match linkat(AT_FDCWD, from.as_str(), AT_FDCWD, path, flags) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(OsError::from(("publish", path, errno))),
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // In a forked child the descriptor was closed already, and its number may be somebody else's.
        if fork::generation() == self.generation {
            // A child that another thread is just spawning holds a copy until its `exec`; closing alone would
            // leave the locks to it until then.
            if !self.removed {
                let _ = self.set(0, 0, libc::F_UNLCK, false);
            }
            fork::unregister(self.file.as_raw_fd());
            // SAFETY: dropped once, here; `file` is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_descriptions_of_one_process_exclude_each_other() {
        let path = std::env::temp_dir().join(format!("commonhold-lock-{}", std::process::id()));
        let first = LockFile::open_or_create(&path).expect("made");
        let second = LockFile::open_or_create(&path).expect("opened");
        assert!(first.try_lock(9, Mode::Exclusive).expect("locks work"));
        assert!(!second.try_lock(9, Mode::Exclusive).expect("locks work"));
        assert!(!second.try_lock(9, Mode::Shared).expect("locks work"));
        assert!(second.try_lock(10, Mode::Exclusive).expect("another byte"));
        drop(File::open(&path).expect("opened")); // a POSIX lock would vanish here
        assert!(!second.try_lock(9, Mode::Exclusive).expect("still held"));
        drop(first);
        assert!(second.try_lock(9, Mode::Exclusive).expect("freed by the close"));
        assert!(second.is_current());
        std::fs::remove_file(&path).expect("removed");
        assert!(!second.is_current());
    }
}
