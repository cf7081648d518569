//! The kinds of updates that are killed at each step: what is there before, what is done, and what may be there afterwards.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use commonhold_file::{Patience, SharedFile};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::{Value, json};

use super::{OLD, PATIENCE, add, add_alone, left, text};
use crate::syscalls::{self, Call};
use crate::{Failure, Plan, child};

/// What is done, and beside what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// An update.
    Update,
    /// One that removes the lock of a dead process first.
    Stale,
    /// One that finds a lock file that its maker did not come to fill in.
    Blank,
    /// The first one, which makes the file.
    First,
    /// One without the lock, of a file that belongs to one process.
    Alone,
    /// One over which somebody without the lock renames his version at the last moment.
    Merge,
}

/// What is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// The number; 0 when there is no file.
    pub(super) n: u64,
    /// Whether the change without the lock is there.
    pub(super) theirs: bool,
}

impl Scene {
    pub(super) const ALL: [Self; 6] =
        [Self::Update, Self::Stale, Self::Blank, Self::First, Self::Alone, Self::Merge];

    /// The number before.
    pub(super) fn start(self) -> u64 {
        u64::from(self != Self::First)
    }

    /// Makes what is there before.
    pub(super) fn plant(self, path: &Path) -> Result<(), Failure> {
        if self != Self::First {
            std::fs::write(path, OLD)?;
        }
        match self {
            Self::Stale => abandon(path),
            Self::Blank => plant_blank(path),
            _ => Ok(()),
        }
    }

    /// What the child does: one update; whether it was acknowledged.
    pub(super) fn live(self, plan: &Plan, path: &Path) -> bool {
        if plan.sabotaged("in-place") {
            return std::fs::write(path, text(2)).is_ok();
        }
        if self == Self::Merge && plan.sabotaged("theirs-lost") {
            // A name that does not count as left, so that what is found is the loss.
            let draft = path.with_file_name("filler");
            let exchange = RenameFlags::RENAME_EXCHANGE;
            return std::fs::write(&draft, text(2)).is_ok()
                && renameat2(AT_FDCWD, &draft, AT_FDCWD, path, exchange).is_ok()
                && std::fs::remove_file(&draft).is_ok();
        }
        let done = self.update(path).is_ok();
        if plan.sabotaged("made-twice") {
            // As who tries again after an error.
            return done || self.update(path).is_ok();
        }
        done || plan.sabotaged("unsynced-result")
    }

    /// One update of this kind.
    pub(super) fn update(self, path: &Path) -> Result<(), commonhold_file::FileError> {
        match self {
            Self::Alone => add_alone(path),
            _ => add(path, Patience::new().limit(PATIENCE)),
        }
    }

    /// What is in the file; the text, if it is no whole version.
    pub(super) fn read(self, path: &Path) -> Result<Version, String> {
        let there = match std::fs::read_to_string(path) {
            Ok(there) => there,
            Err(e) if self == Self::First && e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Version { n: 0, theirs: false });
            }
            Err(e) => return Err(e.to_string()),
        };
        let value: Option<Value> = serde_json::from_str(&there).ok();
        for (n, theirs) in (1..=4).flat_map(|n| [(n, false), (n, true)]) {
            let is = match self {
                Self::First => value == Some(json!({"n": n})),
                _ => there == if theirs { text_with_theirs(n) } else { text(n) },
            };
            if is {
                return Ok(Version { n, theirs });
            }
        }
        Err(there)
    }

    /// Whether the file may be so when the child has ended; `raced`: theirs came in between.
    pub(super) fn is_sound(self, now: Version, acknowledged: bool, raced: bool) -> bool {
        let made = now.n == self.start() + 1;
        if acknowledged {
            return made && now.theirs == raced;
        }
        // Who is killed before he has merged leaves that to the next.
        (made || now.n == self.start()) && (raced || !now.theirs)
    }

    /// Whether the file may be so after the next update.
    pub(super) fn is_sound_next(
        self,
        before: Version,
        next: Version,
        acknowledged: bool,
        raced: bool,
    ) -> bool {
        let n = match (self, acknowledged) {
            // What nobody was told of may be there or not.
            (Self::Merge, false) => (self.start() + 1..=self.start() + 2).contains(&next.n),
            (_, true) => next.n == self.start() + 2,
            (_, false) => next.n == before.n + 1,
        };
        n && next.theirs == raced
    }

    /// Whether theirs is in the backup alone, by itself or merged: who replaced it was killed before the merged version was
    /// in the file. There it stays until the next update.
    pub(super) fn is_only_in_backup(path: &Path, now: Version, raced: bool) -> bool {
        let backup = std::fs::read_to_string(path.with_extension("jsonc.bak"));
        let theirs = backup.is_ok_and(|backup| (1..=2).any(|n| backup == text_with_theirs(n)));
        raced && !now.theirs && theirs
    }

    /// What is left beside the file after the next update, and should not be.
    pub(super) fn left(self, path: &Path) -> Result<Vec<String>, Failure> {
        let names = left(path);
        if self != Self::Alone || names.is_empty() {
            return Ok(names);
        }
        // Without a lock nobody knows whether its writer is dead, until it is old.
        let old = SystemTime::now() - Duration::from_secs(3600);
        for name in names {
            std::fs::File::open(path.with_file_name(name))?.set_modified(old)?;
        }
        add_alone(path)?;
        Ok(left(path))
    }
}

/// Whether this call gives a new version its name in exchange for the old one.
pub(super) fn is_exchange(child: &syscalls::Child, call: &Call, path: &Path) -> bool {
    let [_, _, _, to, flags, _] = call.args;
    call.number == libc::SYS_renameat2
        && flags == u64::from(libc::RENAME_EXCHANGE)
        && Path::new(&child.text(to)).file_name() == path.file_name()
}

/// What somebody without the lock does: he adds a name of his to what is there, and renames his version over it.
pub(super) fn race(path: &Path) -> Result<(), Failure> {
    let theirs = path.with_extension("theirs");
    std::fs::write(&theirs, text_with_theirs(1))?;
    Ok(std::fs::rename(theirs, path)?)
}

fn text_with_theirs(n: u64) -> String {
    text(n).replace("[1, 2, 3]", "[1, 2, 3],\n  \"theirs\": true")
}

/// Leaves a lock file of ours that nobody has filled in: the sticky bit says whose it is.
pub(super) fn plant_blank(path: &Path) -> Result<(), Failure> {
    let lock = path.with_file_name("human.jsonc.lock");
    std::fs::write(&lock, "")?;
    std::fs::set_permissions(&lock, PermissionsExt::from_mode(0o1644))?;
    Ok(())
}

/// Leaves the lock of a process that was killed.
pub(super) fn abandon(path: &Path) -> Result<(), Failure> {
    let post = child::Post::new()?;
    let mut holder = child::Child::start(|| {
        let lock = SharedFile::new(path).lock()?;
        post.tell(0, 1);
        post.hear(1, 1)?;
        drop(lock);
        Ok(())
    })?;
    post.hear(0, 1)?;
    holder.kill()?;
    Ok(())
}
