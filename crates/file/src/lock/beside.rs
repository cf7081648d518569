//! The names beside a lock file, and what is left there by the dead.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold_os::lock::folder_of;

/// Between the name of a lock and the nonce of the stale one that may be removed.
const TOKEN: &str = ".stale-";
/// What the name of a new version ends with that is being written.
const TEMPORARY: &str = ".tmp";
/// What the name of a lock file ends with that is not published yet, where it has to have a name.
pub(super) const UNPUBLISHED: &str = ".new";

/// Removes what the dead left: tokens of locks that were before this one, and temporary files of their owners.
pub(super) fn sweep(path: &Path) {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let (tokens, temporaries) = ([name, TOKEN.as_bytes()].concat(), hidden_prefix(path));
    for entry in std::fs::read_dir(folder_of(path)).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.as_bytes();
        let temporary = found.starts_with(&temporaries) && found.ends_with(TEMPORARY.as_bytes());
        if found.starts_with(&tokens) || temporary {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    sweep_unpublished(path);
}

/// Removes what was left by those who died before they had the lock. Who only slept for so long finds his file gone, and
/// makes another one.
pub(super) fn sweep_unpublished(lock: &Path) {
    let prefix = hidden_prefix(lock);
    let ours = |name: &[u8]| name.starts_with(&prefix) && name.ends_with(UNPUBLISHED.as_bytes());
    remove_old(folder_of(lock), ours);
}

/// Removes the files of a folder with such a name that are older than a minute.
pub(crate) fn remove_old(folder: &Path, is_ours: impl Fn(&[u8]) -> bool) {
    const OLD: Duration = Duration::from_secs(60);
    let old = |meta: std::fs::Metadata| meta.modified().ok()?.elapsed().ok();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let ours = is_ours(entry.file_name().as_bytes());
        if ours && entry.metadata().ok().and_then(old).is_some_and(|age| age > OLD) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The temporary file of the owner with this nonce.
pub(super) fn temporary(lock: &Path, nonce: &str) -> PathBuf {
    hidden(lock, nonce, TEMPORARY)
}

pub(super) fn hidden(lock: &Path, nonce: &str, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(lock.file_name().unwrap_or_default());
    name.push(format!(".{nonce}{ending}"));
    lock.with_file_name(name)
}

fn hidden_prefix(lock: &Path) -> Vec<u8> {
    [b".", lock.file_name().unwrap_or_default().as_bytes(), b"."].concat()
}

/// The token of the stale lock file `path`, which may be a token itself.
pub(super) fn token(path: &Path, nonce: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_bytes();
    // One level of names, however often who takes over dies: a nonce is nobody else's.
    let at = name.windows(TOKEN.len()).position(|part| part == TOKEN.as_bytes());
    let lock = name.get(..at.unwrap_or(name.len())).unwrap_or_default();
    path.with_file_name(OsStr::from_bytes(&[lock, TOKEN.as_bytes(), nonce.as_bytes()].concat()))
}
