//! The one error of this crate: what was tried, on what, and the kernel's answer.

use std::io;
use std::path::{Path, PathBuf};

/// A system call that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
pub struct OsError {
    /// What was tried: a verb.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
}

impl OsError {
    /// An error of `action` on `path`.
    #[must_use]
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// The last system call's error (`errno`) as an error of `action` on `path`.
    #[must_use]
    pub fn last(action: &'static str, path: &Path) -> Self {
        Self::new(action, path, io::Error::last_os_error())
    }

    /// Whether the kernel said `errno`.
    #[must_use]
    pub fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }

    /// Whether the file is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl From<(&'static str, &Path, nix::errno::Errno)> for OsError {
    fn from((action, path, errno): (&'static str, &Path, nix::errno::Errno)) -> Self {
        Self::new(action, path, errno.into())
    }
}

/// What to do about the usual answers.
fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => "; free space there, or make the tables smaller",
        Some(libc::EACCES | libc::EPERM) => {
            "; it belongs to another user, or its folder is closed to you"
        }
        Some(libc::ELOOP) => "; it is a symbolic link, which is not followed",
        Some(libc::EBUSY) => "; if it is mounted by itself, share the folder that it is in",
        Some(libc::EMFILE | libc::ENFILE) => "; raise the limit of open files (ulimit -n)",
        Some(libc::EOPNOTSUPP) => {
            "; that file system has no unnamed files: use a folder on tmpfs, ext4, xfs or btrfs"
        }
        _ => "",
    }
}
