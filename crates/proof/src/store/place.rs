//! A small file system of our own for the store, in a mount namespace that nobody else sees.

use std::path::Path;

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};

use crate::Failure;

/// Gives this process, which has one thread, a mount namespace of its own; false when the kernel does not allow it.
pub(crate) fn apart() -> bool {
    let (uid, gid) = (getuid(), getgid());
    let own = if uid.is_root() {
        unshare(CloneFlags::CLONE_NEWNS)
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
    };
    if own.is_err() {
        return false;
    }
    if !uid.is_root() {
        let maps = [("uid_map", uid.as_raw()), ("gid_map", gid.as_raw())];
        let _ = std::fs::write("/proc/self/setgroups", "deny");
        for (file, id) in maps {
            if std::fs::write(format!("/proc/self/{file}"), format!("{id} {id} 1")).is_err() {
                return false;
            }
        }
    }
    // What is mounted here is not to be seen elsewhere.
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).is_ok()
}

/// Mounts a file system of so many KiB at `folder`.
pub(crate) fn small(folder: &Path, kib: u32) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    let size = format!("size={kib}k,mode=700");
    let fresh = MsFlags::empty();
    Ok(mount(Some("tmpfs"), folder, Some("tmpfs"), fresh, Some(size.as_str()))?)
}

/// Gives the file system so many KiB.
pub(crate) fn resize(folder: &Path, kib: u32) -> Result<(), Failure> {
    let (none, size) = (None::<&str>, format!("size={kib}k"));
    Ok(mount(none, folder, none, MsFlags::MS_REMOUNT, Some(size.as_str()))?)
}

/// Makes the file system read-only, or writable.
pub(crate) fn read_only(folder: &Path, read_only: bool) -> Result<(), Failure> {
    let none = None::<&str>;
    let mut flags = MsFlags::MS_REMOUNT;
    flags.set(MsFlags::MS_RDONLY, read_only);
    Ok(mount(none, folder, none, flags, none)?)
}

/// Takes it away.
pub(crate) fn gone(folder: &Path) -> Result<(), Failure> {
    Ok(umount(folder)?)
}
