//! What can go wrong with a shared file.

use std::path::PathBuf;
use std::time::Duration;

use commonhold_os::OsError;

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody has it, and patience is at its end.
    #[error(
        "{} is held by {who}: {tries} tries in {} ms; wait longer, or end what holds it", lock.display(), waited.as_millis()
    )]
    Held {
        /// The lock file.
        lock: PathBuf,
        /// Who.
        who: String,
        /// How often it was tried again.
        tries: u32,
        /// How long.
        waited: Duration,
    },
    /// It was removed while we had it. Nothing was written.
    #[error("{} was lost to {who}; nothing was written", lock.display())]
    Lost {
        /// The lock file.
        lock: PathBuf,
        /// To whom.
        who: String,
    },
    /// What is there is no lock file.
    #[error("{} is in the way: it is not a file; move it away", lock.display())]
    Foreign {
        /// The lock file's name.
        lock: PathBuf,
    },
    /// The system.
    #[error(transparent)]
    System(#[from] OsError),
}

/// Why a shared file was not read or changed. Nothing was lost, and but for [`FileError::Unmerged`] the file is what it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The system.
    #[error(transparent)]
    System(#[from] OsError),
    /// The file is not valid.
    #[error(
        "{}:{line}:{column}: {why}; it was left as it is{}",
        path.display(),
        backup.as_ref().map(|b| format!(", and the version before the last update is {}", b.display())).unwrap_or_default()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        why: String,
        /// The version before the last update, if there is one.
        backup: Option<PathBuf>,
    },
    /// The file is not one that can be replaced.
    #[error("{} cannot be shared: it is {what}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file is empty and was not: somebody is writing it, or lost it.
    #[error(
        "{} is empty, and the version before the last update is {}: put that in its place, or remove both to begin anew", path.display(), backup.display()
    )]
    Emptied {
        /// The file.
        path: PathBuf,
        /// The version before the last update.
        backup: PathBuf,
    },
    /// Our change is in the file. It replaced the change that a program without the lock made in the same moment, and the
    /// two could not be merged.
    #[error(
        "{} was changed, but a change that a program without the lock made in the same moment is not in it, but in {} ({why}): merge it by hand", path.display(), theirs.display()
    )]
    Unmerged {
        /// The file, with our change.
        path: PathBuf,
        /// The other version.
        theirs: PathBuf,
        /// Why they were not merged.
        why: String,
    },
    /// The file is, or would become, larger than may be read.
    #[error("{} has or would have {bytes} bytes; at most {limit} may be read; nothing was written", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// Others change the file without the lock, each time before it could be replaced.
    #[error(
        "{} was changed {times} times by a program that does not take {}; nothing was written", path.display(), lock.display()
    )]
    Contended {
        /// The file.
        path: PathBuf,
        /// The lock that should be taken.
        lock: PathBuf,
        /// How often.
        times: u32,
    },
    /// The change cannot be made in the file as it is.
    #[error("{}: {why}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// Why an update was not made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// The updater said no; nothing was written.
    #[error("{0}")]
    Refused(E),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
}
