//! The names beside a lock file, and what is left there by the dead.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold_os::lock::folder_of;
use rustix::fs::Dir;

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
    let left = |found: &[u8]| {
        let temporary = found.starts_with(&temporaries) && found.ends_with(TEMPORARY.as_bytes());
        temporary || found.starts_with(&tokens)
    };
    for found in names(folder_of(path)) {
        if left(found.as_bytes()) {
            let _ = std::fs::remove_file(path.with_file_name(found));
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
    let age = |path: &Path| path.symlink_metadata().ok()?.modified().ok()?.elapsed().ok();
    for name in names(folder).into_iter().filter(|name| is_ours(name.as_bytes())) {
        let path = folder.join(name);
        if age(&path).is_some_and(|age| age > OLD) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What is in a folder, as far as it can be read. (The standard library's reader panics when closing the folder fails.)
fn names(folder: &Path) -> Vec<OsString> {
    let opened = std::fs::File::open(folder).ok().and_then(|folder| Dir::read_from(folder).ok());
    let entries = opened.into_iter().flatten().map_while(Result::ok);
    entries.map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec())).collect()
}

/// The temporary file of the owner with this nonce.
pub(super) fn temporary(lock: &Path, nonce: &str) -> PathBuf {
    hidden(lock, nonce, TEMPORARY)
}

pub(super) fn hidden(lock: &Path, nonce: &str, ending: &str) -> PathBuf {
    let own = lock.file_name().unwrap_or_default();
    let mut name = OsString::with_capacity(own.len() + nonce.len() + ending.len() + 2);
    name.push(".");
    name.push(own);
    name.push(".");
    name.push(nonce);
    name.push(ending);
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
