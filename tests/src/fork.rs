//! Fork without exec.

use nix::unistd::{ForkResult, Pid};

/// Forks: the child's process id in the parent, `None` in the child.
///
/// # Errors
/// The kernel's.
pub fn fork() -> nix::Result<Option<Pid>> {
    // SAFETY: glibc makes its own locks (the allocator's, standard output's) usable in the child. No other thread of
    // a role holds a lock of Rust's while this is called: a candidate's thread sleeps or works on its own.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}
