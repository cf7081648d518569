//! Who a process is, and whether it is still there. Only the kernel's word counts, never a timeout.
//!
//! Each simple test alone is wrong: a pid is reused (its start time too, within one tick), and
//! `kill(pid, 0)` takes a zombie for alive. A pidfd's inode is unique for the machine's uptime (Linux 6.9),
//! and a pidfd becomes readable when its process has ended, zombie or not.
//!
//! **Sources**: pidfd_open(2), proc(5), DESIGN section 8.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::statfs::FsType;

use crate::OsError;

/// The file system of pidfds (`PID_FS_MAGIC`).
const PIDFS: FsType = FsType(0x5049_4446);

/// The identity of a process, in words that may stand in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity {
    /// The process id, in its own pid namespace.
    pub pid: u32,
    /// When it started: clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// The inode of its pidfd; unique per process since Linux 6.9, else the same for all.
    pub pidfd_inode: u64,
    /// The inode of its pid namespace.
    pub pid_namespace: u64,
}

/// Whether a process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs, or is stopped.
    Alive,
    /// It has ended.
    Dead,
    /// It cannot be told from here: another pid namespace, or too few descriptors.
    Unknown,
}

/// A process that can be waited for.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Identity {
    /// This process.
    ///
    /// # Errors
    /// [`OsError`] when `/proc` is not mounted.
    pub fn current() -> Result<Self, OsError> {
        let pid = std::process::id();
        let path = Path::new("/proc/self/stat");
        // Not by the number: `/proc` may show another pid namespace than this process's.
        let start_ticks = start_ticks("self").map_err(|e| OsError::new("read", path, e))?;
        let pidfd_inode = Pidfd::open(pid).map_or(0, |fd| fd.inode());
        Ok(Self { pid, start_ticks, pidfd_inode, pid_namespace: pid_namespace() })
    }

    /// Whether the process is still there, and if so a descriptor to wait for its end.
    #[must_use]
    pub fn find(&self) -> (Liveness, Option<Pidfd>) {
        if self.pid_namespace != pid_namespace() {
            return (Liveness::Unknown, None);
        }
        let pidfd = match Pidfd::open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return (Liveness::Dead, None),
            Err(_) => return (Liveness::Unknown, None),
        };
        if pidfd.has_unique_inode() {
            // It says all; what `/proc` shows costs as much again, twice.
            let is_it = pidfd.inode() == self.pidfd_inode && !pidfd.has_ended();
            return if is_it { (Liveness::Alive, Some(pidfd)) } else { (Liveness::Dead, None) };
        }
        let started = pidfd.start_ticks();
        let other = pidfd.inode() != self.pidfd_inode
            || started.as_ref().is_ok_and(|ticks| *ticks != self.start_ticks);
        match started {
            _ if other || pidfd.has_ended() => (Liveness::Dead, None),
            Ok(_) => (Liveness::Alive, Some(pidfd)),
            // `/proc` does not show it: another pid namespace's is mounted, or it hides other users' processes.
            Err(_) => (Liveness::Unknown, None),
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Pidfd {
    /// A descriptor of a child that was not waited for yet, so that its number is nobody else's.
    ///
    /// # Errors
    /// [`OsError`] when no descriptor is left.
    pub fn of_child(pid: u32) -> Result<Self, OsError> {
        Self::open(pid).map_err(|e| OsError::new("open a pidfd of", Path::new("a child"), e))
    }

    /// A descriptor of the process `pid`.
    fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: `pidfd_open(pid, flags)` takes numbers and returns a descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match i32::try_from(fd) {
            // SAFETY: a fresh descriptor that nobody else owns.
            Ok(fd) if fd >= 0 => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Kills its process: this one, whoever has its number by now. True: the signal is on its way; false: it has ended.
    ///
    /// # Errors
    /// [`io::Error`] when it may not be killed from here.
    pub fn kill(&self) -> io::Result<bool> {
        // SAFETY: `pidfd_send_signal(fd, sig, NULL, 0)` takes numbers and no pointer.
        let sent = unsafe {
            let no_info = std::ptr::null::<libc::siginfo_t>();
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                libc::SIGKILL,
                no_info,
                0,
            )
        };
        match io::Error::last_os_error() {
            _ if sent == 0 => Ok(true),
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            e => Err(e),
        }
    }

    fn inode(&self) -> u64 {
        nix::sys::stat::fstat(&self.0).map_or(0, |found| found.st_ino)
    }

    /// Whether inodes of pidfds are unique for the machine's uptime: they are of a file system of their own (Linux 6.9), and
    /// have 64 bits.
    fn has_unique_inode(&self) -> bool {
        static UNIQUE: OnceLock<bool> = OnceLock::new();
        let of_pidfs = || {
            let found = nix::sys::statfs::fstatfs(&self.0);
            found.is_ok_and(|found| found.filesystem_type() == PIDFS)
                && cfg!(target_pointer_width = "64")
        };
        *UNIQUE.get_or_init(of_pidfs)
    }

    /// When its process started, found by the number under which the mounted `/proc` shows it.
    fn start_ticks(&self) -> io::Result<u64> {
        let info = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        let info = std::fs::read_to_string(info)?;
        let shown = info.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
        // 0: not shown there; -1: it has ended.
        let pid = shown.and_then(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid != 0);
        let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        start_ticks(&pid.to_string())
    }

    /// Whether the process has ended. A descriptor says so for ever, whoever waited for the process.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// Wakes a thread of this process that waits in [`wait_for_end`].
#[derive(Debug)]
pub struct Bell(EventFd);

impl Bell {
    /// A new bell.
    ///
    /// # Errors
    /// [`OsError`] when no descriptor is left.
    pub fn new() -> Result<Self, OsError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let made = EventFd::from_value_and_flags(0, flags);
        made.map(Self)
            .map_err(|e| OsError::from(("make an eventfd for", Path::new("this process"), e)))
    }

    /// Rings: the waiter, now or next, returns.
    pub fn ring(&self) {
        // Fails only when it has been rung 2^64 times already.
        let _ = self.0.write(1);
    }
}

/// Waits until the process behind `pidfd` has ended, `bell` was rung or `timeout` has passed.
pub fn wait_for_end(pidfd: Option<&Pidfd>, bell: &Bell, timeout: Duration) {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    let mut fds = vec![PollFd::new(bell.0.as_fd(), PollFlags::POLLIN)];
    fds.extend(pidfd.map(|p| PollFd::new(p.0.as_fd(), PollFlags::POLLIN)));
    let _ = poll(&mut fds, timeout);
    let _ = bell.0.read();
}

fn start_ticks(process: &str) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything; fields are counted from behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = fields.split_whitespace().nth(19).and_then(|f| f.parse().ok());
    field.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start time in it"))
}

fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino())
}

/// The machine's boot: a random number that changes with every start of the kernel.
#[must_use]
pub fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn self_is_alive_and_a_reaped_or_zombie_child_is_dead() {
        let me = Identity::current().expect("proc is there");
        assert_eq!(me.find().0, Liveness::Alive);
        let unique = Pidfd::open(me.pid).expect("this process").has_unique_inode();
        let other = Identity { pidfd_inode: me.pidfd_inode + 1, ..me };
        assert_eq!(other.find().0, Liveness::Dead);
        let other = Identity { start_ticks: me.start_ticks + 1, ..me };
        assert_eq!(other.find().0, if unique { Liveness::Alive } else { Liveness::Dead });
        assert_eq!(Identity { pid_namespace: 1, ..me }.find().0, Liveness::Unknown);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let pidfd = Pidfd::open(child.id()).expect("a child");
        let start = pidfd.start_ticks().expect("a child");
        assert_eq!(start_ticks(&child.id().to_string()).expect("a child"), start);
        let it = Identity { pid: child.id(), start_ticks: start, pidfd_inode: pidfd.inode(), ..me };
        assert_eq!(it.find().0, Liveness::Alive);
        assert!(pidfd.kill().expect("killed"));
        wait_for_end(Some(&pidfd), &Bell::new().expect("a bell"), Duration::from_secs(60));
        assert_eq!(it.find().0, Liveness::Dead, "a zombie is dead");
        child.wait().expect("reaped");
        assert_eq!(it.find().0, Liveness::Dead);
        assert!(!pidfd.kill().expect("nobody to kill"), "its number may be another's by now");
    }
}
