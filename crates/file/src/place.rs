//! Where a shared file is: what its name leads to, its folder, and the names beside it.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use commonhold_os::OsError;
use commonhold_os::lock::folder_of;
use nix::unistd::geteuid;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use crate::error::FileError;

/// A shared file's place.
#[derive(Debug)]
pub(crate) struct Place {
    /// The file itself: no symbolic link leads there.
    pub(crate) path: PathBuf,
    /// Its lock.
    pub(crate) lock: PathBuf,
    /// The version before the last update.
    pub(crate) backup: PathBuf,
    /// Its folder, once it is open.
    folder: OnceCell<Folder>,
}

impl Place {
    /// The place that `path` leads to.
    pub(crate) fn find(path: &Path) -> Result<Self, FileError> {
        let (path, folder) = resolve(path)?;
        let (lock, backup) = (beside(&path, ".lock"), beside(&path, ".bak"));
        let folder = folder.map(OnceCell::from).unwrap_or_default();
        Ok(Self { path, lock, backup, folder })
    }

    /// Its folder, to be synced. Who may not read it is told so before anything is changed.
    pub(crate) fn folder(&self) -> Result<&Folder, OsError> {
        match self.folder.get() {
            Some(folder) => Ok(folder),
            None => {
                let folder = Folder::open(&self.path)?;
                Ok(self.folder.get_or_init(|| folder))
            }
        }
    }
}

/// A name beside the file.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::with_capacity(path.as_os_str().len() + ending.len());
    name.push(path);
    name.push(ending);
    name.into()
}

/// Where a path leads: symbolic links are followed, also one whose target is not there yet.
fn resolve(path: &Path) -> Result<(PathBuf, Option<Folder>), FileError> {
    let mut at = path.to_owned();
    let mut links = 0;
    loop {
        match std::fs::read_link(&at) {
            // As many as the kernel follows.
            Ok(_) if links == 40 => {
                let what = "a loop of symbolic links";
                return Err(FileError::Kind { path: path.to_owned(), what });
            }
            Ok(to) if may_follow(&at) => at = folder_of(&at).join(to),
            Ok(_) => {
                let what = "another user's symbolic link in a folder where everybody may make one";
                return Err(FileError::Kind { path: path.to_owned(), what });
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => break,
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(OsError::new("follow", path, e).into()),
        }
        links += 1;
    }
    let Some(name) = at.file_name() else {
        return Err(FileError::Kind { path: path.to_owned(), what: "a folder" });
    };
    // A link to the folder may be turned elsewhere meanwhile: all is done in one folder.
    if let Some(folder) = Folder::without_links(folder_of(&at)) {
        return Ok((folder_of(&at).join(name), Some(folder)));
    }
    let folder = folder_of(&at).canonicalize();
    Ok((folder.map_err(|e| OsError::new("open the folder of", &at, e))?.join(name), None))
}

/// Whether a symbolic link may be followed: by the rule of `fs.protected_symlinks`, which does not see who follows by hand.
fn may_follow(link: &Path) -> bool {
    let (Ok(link), Ok(folder)) = (link.symlink_metadata(), folder_of(link).metadata()) else {
        return true;
    };
    let open = folder.mode() & 0o1002 == 0o1002;
    !open || link.uid() == geteuid().as_raw() || link.uid() == folder.uid()
}

/// The folder of a file, to be synced after the file got its name.
#[derive(Debug)]
pub(crate) struct Folder(File);

impl Folder {
    /// Opens it, if this is its one name, with no symbolic link in it: one call instead of one for each part of the name.
    fn without_links(path: &Path) -> Option<Self> {
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(plain) {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        opened.ok().map(|folder| Self(folder.into()))
    }

    fn open(path: &Path) -> Result<Self, OsError> {
        let folder = File::open(folder_of(path));
        folder.map(Self).map_err(|e| OsError::new("open the folder of", path, e))
    }

    /// After this a loss of power does not bring the old version back.
    pub(crate) fn sync(&self, path: &Path) -> Result<(), OsError> {
        match self.0.sync_all() {
            // Some file systems have no such call, and need none.
            Err(e) if e.raw_os_error() == Some(nix::libc::EINVAL) => Ok(()),
            done => done.map_err(|e| OsError::new("sync the folder of", path, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_file_leads_to_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        let within = real.join("within");
        std::fs::create_dir(&within).unwrap();
        std::os::unix::fs::symlink(&within, real.join("link")).unwrap();
        std::os::unix::fs::symlink("within/file", real.join("other")).unwrap();
        let names =
            ["within/file", "link/file", "other", "within/../within/./file", "within//file/"];
        for name in names {
            let place = Place::find(&real.join(name)).unwrap();
            assert_eq!(place.path, within.join("file"), "{name}");
            assert_eq!(place.lock, within.join("file.lock"), "{name}");
            assert_eq!(place.folder.get().is_some(), !name.contains("link") && !name.contains('.'));
            place.folder().unwrap().sync(&place.path).unwrap();
        }
        let gone = Place::find(&real.join("nowhere/file")).unwrap_err().to_string();
        assert!(gone.contains("nowhere/file"), "{gone}");
    }
}
