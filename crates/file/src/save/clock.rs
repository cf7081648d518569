//! Whether the times of a file show every change.
//!
//! Until Linux 6.13, and on file systems that have no finer times since, a file's time is that of the last tick of a coarse
//! clock: two changes of the same length within one tick leave the same stamp.

use std::fs::File;
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};

use crate::lock::LOCAL;

/// Two ticks of the slowest clock that Linux is built with (100 a second).
const TICKS: Duration = Duration::from_millis(20);
/// File systems whose times are of another machine or program may have whole seconds.
const FOREIGN: Duration = Duration::from_secs(2);
/// Where a time that somebody has looked at is followed by a finer one.
const FINE: [FsType; 4] = [BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC];

/// Whether this kernel has fine times at all.
static KERNEL: LazyLock<bool> = LazyLock::new(|| {
    let name = nix::sys::utsname::uname();
    let release = name.as_ref().ok().and_then(|name| name.release().to_str()).unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 13)
});

/// Whether a file whose last change is so old may be changed without its stamp showing it.
pub(super) fn is_racy(file: &File, age: Duration) -> bool {
    if age >= FOREIGN {
        return false;
    }
    let system = fstatfs(file).map(|system| system.filesystem_type());
    let fine = system.as_ref().is_ok_and(|system| FINE.contains(system)) && is_fine();
    let local = system.is_ok_and(|system| LOCAL.contains(&system));
    !fine && (!local || age < TICKS)
}

/// Whether this kernel has fine times where a file system has them.
pub(super) fn is_fine() -> bool {
    #[cfg(test)]
    if tests::COARSE.get() {
        return false;
    }
    *KERNEL
}

#[cfg(test)]
pub(crate) mod tests {
    thread_local! {
        /// Whether the clock is said to be coarse.
        pub(crate) static COARSE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
}
