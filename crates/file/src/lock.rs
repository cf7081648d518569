//! The lock beside a file: one owner at a time, lost by death at once, never by time.
//!
//! **Taking it**: where this kernel alone has the file system, a new lock file is *blank* (and has a mode that tells it
//! from an empty one of another program): whoever has the kernel's lock on
//! it (an open-file-description lock, which goes with its owner) while it is blank and has its name may fill it in with
//! himself, and has it. That is who made it, or, if he was killed before, the next who comes. Elsewhere, where the
//! kernel's locks may mean nothing, an unnamed file is locked and filled in first, and only then linked to its name,
//! which fails when the name is there. On a file system without unnamed files it is a temporary file first.
//!
//! **Judging it**: a lock file is *held* while the kernel says that it is locked, or that its owner's process is there;
//! it is *stale* when the owner is dead: another process has his number (start time and pidfd inode say so), his machine
//! was started anew, or the kernel lock is free in a place where that proves his death. What cannot be told is held.
//! One that is filled in is never blank again, so who was slow to fill in his own sees that somebody else did.
//!
//! **Taking over a stale one**: only who holds its *token*, a lock of the same kind whose name contains the nonce of the
//! stale one, looks once more whether the lock file still has that nonce, and gives his token the name of the lock: in
//! one step the stale one is gone and he has the lock. The dead owner does not do it, and nobody else may; so nobody
//! removes the next owner's lock, however late he comes. A token whose holder died is taken over in the same way.
//!
//! **Crash**: whoever is killed anywhere leaves an unnamed file, which goes with him, a temporary file that nobody
//! reads, or a stale lock or token. Who takes a lock over sweeps: while he holds it, all tokens are of locks that were
//! before, and all temporary files of owners who are dead.
//!
//! **Sources**: open(2) `O_TMPFILE`, link(2), fcntl(2) "Open file description locks", pidfd_open(2).

mod beside;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use commonhold_os::OsError;
use commonhold_os::lock::{LockFile, Mode, Probe, folder_of};
use commonhold_os::process::Pidfd;
use commonhold_os::random::{hex, uuid};

use nix::errno::Errno;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC,
    TMPFS_MAGIC, XFS_SUPER_MAGIC,
};

use beside::{UNPUBLISHED, hidden, sweep_unpublished, temporary, token};

pub(crate) use beside::remove_old;

use crate::error::LockError;
use crate::owner::{Owner, Standing};
use crate::save::acl;
use crate::wait::{Backoff, Patience};

/// What says that a file system has no unnamed files.
const NO_UNNAMED_FILES: [Errno; 3] = [Errno::EOPNOTSUPP, Errno::EISDIR, Errno::EINVAL];
/// Others may read who holds it.
const LOCK_MODE: u32 = 0o644;
/// A new one has the sticky bit as well, which means nothing on a file: a blank one with it is ours.
const NEW_MODE: u32 = 0o1644;
const STICKY: u32 = 0o1000;
/// The most bytes of a lock file that are read.
const LOCK_BYTES_MAX: u64 = 4096;

/// A lock that this process holds; dropped, it is given back.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    owner: Owner,
    kernel: LockFile,
    waited: Waited,
}

/// How a lock was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waited {
    /// How often it was tried again.
    pub retries: u32,
    /// For how long.
    pub time: Duration,
    /// How many stale locks this process removed on the way.
    pub stale: u32,
}

/// A lock file as it was seen.
enum Seen {
    /// It went meanwhile.
    Gone,
    /// Somebody has it; who, and what to wait for.
    Held { who: String, pidfd: Option<Pidfd> },
    /// Its owner is dead.
    Stale { nonce: String, who: String },
    /// Nobody has filled it in yet.
    Blank,
}

/// What was found in place of a lock.
enum Found {
    /// The lock is ours.
    Lock(Box<FileLock>),
    /// It went meanwhile.
    Gone,
    /// Somebody has it, or its token.
    Held { lock: PathBuf, who: String, pidfd: Option<Pidfd> },
}

impl FileLock {
    /// Takes the lock `path`.
    pub(crate) fn take(path: &Path, patience: &Patience) -> Result<Self, LockError> {
        let began = Instant::now();
        let mut backoff = Backoff::new(patience);
        let local = is_local(path)?;
        loop {
            // Most who have waited see that it is there, and make no file for nothing.
            let there = backoff.tries() > 0 && path.symlink_metadata().is_ok();
            let made = match there {
                true => None,
                false if local => Self::create(path)?,
                false => Self::publish(path)?,
            };
            let (found, stale) = match made {
                Some(lock) => (Found::Lock(Box::new(lock)), 0),
                None => match look(path, local)? {
                    Seen::Gone => continue,
                    Seen::Blank => (Self::fill_in(path)?, 0),
                    Seen::Held { who, pidfd } => {
                        (Found::Held { lock: path.to_owned(), who, pidfd }, 0)
                    }
                    Seen::Stale { nonce, who } => {
                        tracing::debug!(lock = %path.display(), owner = %who, "stale lock");
                        (Self::take_over(path, &nonce)?, 1)
                    }
                },
            };
            match found {
                Found::Lock(mut lock) => {
                    lock.waited = Waited { retries: backoff.tries(), time: began.elapsed(), stale };
                    if stale > 0 {
                        beside::sweep(&lock.path);
                    }
                    return Ok(*lock);
                }
                Found::Gone => {}
                Found::Held { lock, who, pidfd } => {
                    if !backoff.sleep(pidfd.as_ref()) {
                        let (tries, waited) = (backoff.tries(), began.elapsed());
                        return Err(LockError::Held { lock, who, tries, waited });
                    }
                }
            }
        }
    }

    /// Takes the lock file with this nonce over, whose owner is dead, by its token.
    fn take_over(path: &Path, nonce: &str) -> Result<Found, LockError> {
        let token = token(path, nonce);
        let mut lock = match Self::publish(&token)? {
            Some(lock) => lock,
            None => match look(&token, false)? {
                Seen::Gone | Seen::Blank => return Ok(Found::Gone),
                Seen::Held { who, pidfd } => return Ok(Found::Held { lock: token, who, pidfd }),
                Seen::Stale { nonce, .. } => match Self::take_over(&token, &nonce)? {
                    Found::Lock(lock) => *lock,
                    other => return Ok(other),
                },
            },
        };
        match look(path, false)? {
            Seen::Stale { nonce: now, .. } if now == nonce => {
                lock.kernel.rename(path)?;
                lock.path = path.to_owned();
                Ok(Found::Lock(Box::new(lock)))
            }
            // Somebody was faster.
            _ => Ok(Found::Gone),
        }
    }

    /// Makes a blank lock file and fills it in, unless one is there or somebody else is faster.
    fn create(path: &Path) -> Result<Option<Self>, LockError> {
        match LockFile::create_new(path, NEW_MODE) {
            Ok(file) => {
                file.set_mode(NEW_MODE)?;
                Self::claim(path, file)
            }
            Err(e) if e.is(Errno::EEXIST as i32) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Fills in the blank lock file of somebody who did not come to it.
    fn fill_in(path: &Path) -> Result<Found, LockError> {
        let claimed = match LockFile::open(path) {
            Ok(file) => Self::claim(path, file)?,
            Err(e) if e.is_not_found() => None,
            Err(e) if e.is(Errno::EACCES as i32) => {
                let who = "another user's process, who lets nobody write it".to_owned();
                return Ok(Found::Held { lock: path.to_owned(), who, pidfd: None });
            }
            Err(e) => return Err(e.into()),
        };
        Ok(claimed.map_or(Found::Gone, |lock| Found::Lock(Box::new(lock))))
    }

    /// Fills in the lock file, if it is blank and has its name, and nobody else is about to.
    fn claim(path: &Path, kernel: LockFile) -> Result<Option<Self>, LockError> {
        let error = |e| OsError::new("write", path, e);
        if !kernel.try_lock(0, Mode::Exclusive)? {
            return Ok(None);
        }
        let mut text = Vec::new();
        let meta = kernel.file().metadata().map_err(error)?;
        // An empty file with a name needs no closer look: whoever took the name from it is seen before anything is written.
        if meta.size() > 0 || meta.nlink() != 1 {
            kernel.file().take(LOCK_BYTES_MAX).read_to_end(&mut text).map_err(error)?;
            if !is_blank(&text) || !kernel.is_current() {
                return Ok(None);
            }
        }
        let owner = Owner::current(true)?;
        let line = owner.line();
        let mut written = kernel.file().write_all_at(&line, 0);
        if text.len() > line.len() {
            written = written.and_then(|()| kernel.file().set_len(line.len() as u64));
        }
        if let Err(e) = written {
            // It is ours alone, filled in or not.
            let _ = std::fs::remove_file(path);
            return Err(error(e).into());
        }
        Ok(Some(Self { path: path.to_owned(), owner, kernel, waited: Waited::default() }))
    }

    /// Makes the lock file of this process, unless one is there.
    fn publish(path: &Path) -> Result<Option<Self>, LockError> {
        let made = publish(path)?;
        let waited = Waited::default();
        Ok(made.map(|(owner, kernel)| Self { path: path.to_owned(), owner, kernel, waited }))
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A temporary file of what is written under this lock; who removes the lock as stale removes it too.
    pub(crate) fn temporary(&self, number: u32) -> PathBuf {
        temporary(&self.path, &format!("{}-{number}", self.owner.nonce))
    }

    /// The user and group that new files have beside it, if they get no access control list.
    pub(crate) fn given(&self) -> Option<(u32, u32)> {
        acl(self.kernel.file()).is_none().then(|| self.kernel.owner())
    }

    /// How it was come by.
    #[must_use]
    pub fn waited(&self) -> Waited {
        self.waited
    }

    /// Whether the lock file is still this one: somebody may have removed it by hand.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.kernel.is_ours() && self.kernel.is_current()
    }
}

/// What the kernel's lock belongs to: it is held until the last copy of this descriptor is closed, so a child that
/// inherits it has the lock for as long as it lives.
impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kernel.file().as_fd()
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // In a forked child the lock is the parent's.
        if self.is_held() && self.kernel.remove().is_err() {
            // We live on: nobody could tell that it is stale.
            self.owner.released = true;
            let _ = self.kernel.file().write_all_at(&self.owner.line(), 0);
        }
    }
}

/// Makes the lock file of this process, unless one is there.
fn publish(path: &Path) -> Result<Option<(Owner, LockFile)>, LockError> {
    let (file, temporary) = unpublished(path)?;
    let made = (|| -> Result<_, OsError> {
        file.set_mode(LOCK_MODE)?;
        // On a file system without locks what is known of the owner's process has to do.
        let owner = Owner::current(file.try_lock(0, Mode::Exclusive).unwrap_or(false))?;
        let written = file.file().write_all(&owner.line());
        written.map_err(|e| OsError::new("write", path, e))?;
        match file.publish() {
            // Somebody swept it away: as if the lock had been somebody's.
            Err(e) if temporary.is_some() && e.is_not_found() => Ok(None),
            published => Ok(published?.then_some(owner)),
        }
    })();
    if let Some(temporary) = temporary {
        let _ = std::fs::remove_file(temporary);
    }
    Ok(made?.map(|owner| (owner, file)))
}

/// A file for the lock `path`, without its name; and the name that it has meanwhile, if it needs one.
fn unpublished(path: &Path) -> Result<(LockFile, Option<PathBuf>), LockError> {
    match LockFile::unpublished(path, LOCK_MODE) {
        Ok(file) => Ok((file, None)),
        Err(e) if NO_UNNAMED_FILES.iter().any(|errno| e.is(*errno as i32)) => {
            let nonce = uuid();
            if nonce.first().is_some_and(|byte| byte % 16 == 0) {
                sweep_unpublished(path);
            }
            let temporary = hidden(path, &hex(&nonce), UNPUBLISHED);
            Ok((LockFile::unpublished_at(&temporary, path, LOCK_MODE)?, Some(temporary)))
        }
        Err(e) => Err(e.into()),
    }
}

/// Judges the lock file `path`; `fills_in`: a blank one is to be filled in.
fn look(path: &Path, fills_in: bool) -> Result<Seen, LockError> {
    let mut options = OpenOptions::new();
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let opened = options.read(true).custom_flags(flags.bits()).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Seen::Gone),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            let who = "another user's process, who lets nobody read it".to_owned();
            return Ok(Seen::Held { who, pidfd: None });
        }
        Err(e) => return Err(OsError::new("read", path, e).into()),
    };
    let meta = file.metadata().map_err(|e| OsError::new("look at", path, e))?;
    if !meta.is_file() {
        return Err(LockError::Foreign { lock: path.to_owned() });
    }
    // Before it is read: who gives it up meanwhile removes it, and is gone at the next look.
    let locked = seam::probe(&file);
    let mut text = Vec::new();
    let read = Read::by_ref(&mut file).take(LOCK_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|e| OsError::new("read", path, e))?;
    let Some(owner) = Owner::parse(&text) else {
        let ours = is_blank(&text) && meta.mode() & STICKY != 0;
        return match fills_in && ours && locked == Probe::Free {
            true => Ok(Seen::Blank),
            false => judge_unreadable(&meta, locked, &text),
        };
    };
    let who = owner.to_string();
    let nonce = owner.nonce.clone();
    let free = locked == Probe::Free && owner.locked;
    let before = meta.ctime() < seam::boot_time();
    Ok(match (locked, owner.standing(free && is_local(path)?, before)) {
        (Probe::Free | Probe::Unsupported, Standing::Dead) => Seen::Stale { nonce, who },
        // Another container of this machine: its lock was this kernel's.
        (_, Standing::Unknown) if free && owner.is_of_this_boot() => Seen::Stale { nonce, who },
        (_, Standing::Alive(pidfd)) => Seen::Held { who, pidfd },
        _ => Seen::Held { who, pidfd: None },
    })
}

/// File systems that one kernel alone has mounted: there a lock that it calls free is held by nobody. (A virtual machine may
/// have a folder of them too; its locks stay in its own kernel, and its boot is another one.)
pub(crate) const LOCAL: [FsType; 6] = [
    EXT4_SUPER_MAGIC,
    XFS_SUPER_MAGIC,
    BTRFS_SUPER_MAGIC,
    F2FS_SUPER_MAGIC,
    TMPFS_MAGIC,
    OVERLAYFS_SUPER_MAGIC,
];

fn is_local(path: &Path) -> Result<bool, OsError> {
    let system = seam::file_system(folder_of(path));
    let system = system.map_err(|errno| OsError::from(("open the folder of", path, errno)))?;
    Ok(LOCAL.contains(&system))
}

/// Whether there is nothing in it but what a loss of power leaves.
fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte == 0)
}

/// A lock file without an owner: all that a loss of power leaves of one is an empty file, older than this boot. Anything
/// else is another program's.
fn judge_unreadable(
    meta: &std::fs::Metadata,
    locked: Probe,
    text: &[u8],
) -> Result<Seen, LockError> {
    if locked != Probe::Held && is_blank(text) && meta.ctime() < seam::boot_time() {
        let nonce = blank_nonce(meta);
        return Ok(Seen::Stale { nonce, who: "a process before the last start".to_owned() });
    }
    let who = "another program, which wrote no owner into it; remove it if none uses it".to_owned();
    Ok(Seen::Held { who, pidfd: None })
}

/// Tells one blank lock file from another.
fn blank_nonce(meta: &std::fs::Metadata) -> String {
    format!("{:x}{:x}{:x}", meta.dev(), meta.ino(), meta.ctime())
}

/// What the kernel says, and what tests put in its place: file systems without locks or with locks that lie, a boot.
mod seam {
    use std::fs::File;
    use std::path::Path;

    use commonhold_os::lock::Probe;
    use nix::errno::Errno;
    #[cfg(test)]
    use nix::sys::statfs::NFS_SUPER_MAGIC;
    use nix::sys::statfs::{FsType, statfs};

    #[cfg(test)]
    thread_local! {
        pub(super) static PROBE: std::cell::Cell<Option<Probe>> = const { std::cell::Cell::new(None) };
        pub(super) static BOOT: std::cell::Cell<Option<i64>> = const { std::cell::Cell::new(None) };
    }

    pub(super) fn probe(file: &File) -> Probe {
        #[cfg(test)]
        if let Some(planted) = PROBE.get() {
            return planted;
        }
        commonhold_os::lock::probe(file, 0)
    }

    pub(super) fn file_system(folder: &Path) -> Result<FsType, Errno> {
        #[cfg(test)]
        if PROBE.get().is_some() {
            return Ok(NFS_SUPER_MAGIC);
        }
        Ok(statfs(folder)?.filesystem_type())
    }

    /// When the machine was started, in seconds since 1970; 0 when that is not known.
    pub(super) fn boot_time() -> i64 {
        #[cfg(test)]
        if let Some(planted) = BOOT.get() {
            return planted;
        }
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
        line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
