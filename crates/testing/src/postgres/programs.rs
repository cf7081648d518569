//! Where PostgreSQL's programs are, and as whom its server runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where packages put the programs of the server, a folder for each version.
const FOLDERS: [&str; 3] = ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt"];

/// One of PostgreSQL's programs, to be run.
pub(super) fn command(name: &str) -> Result<Command, String> {
    let path = find(name).ok_or_else(|| {
        format!(
            "no `{name}` of PostgreSQL; install it, for instance by: apt-get install postgresql"
        )
    })?;
    let mut command = Command::new(path);
    command.env("LC_ALL", "C.UTF-8");
    Ok(command)
}

/// Looks where packages put it, the highest version first, then in `PATH`.
fn find(name: &str) -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let version = entry.file_name().to_string_lossy().parse().unwrap_or(0);
            versions.push((version, entry.path().join("bin").join(name)));
        }
    }
    versions.sort_unstable();
    let packaged = versions.into_iter().rev().map(|(_, path)| path);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<_> = std::env::split_paths(&path).map(|folder| folder.join(name)).collect();
    packaged.chain(in_path).find(|path| path.is_file())
}

/// As whom a server runs, when that is not the user of this process: PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// None for the user of this process.
    pub(super) fn choose() -> Result<Option<Self>, String> {
        let me = fs::metadata("/proc/self").map_err(|e| format!("/proc/self: {e}"))?.uid();
        if me != 0 {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
        let named = |name: &str| users.lines().find_map(|line| Self::parse(line, name));
        let user = named("postgres").or_else(|| named("nobody"));
        user.map(Some).ok_or_else(|| "neither a user postgres nor nobody; add one".to_owned())
    }

    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut parts = line.split(':');
        if parts.next()? != name {
            return None;
        }
        let (uid, gid) = (parts.nth(1)?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { uid, gid })
    }

    /// Gives a file or folder to him.
    pub(super) fn own(self, path: &Path) -> Result<(), String> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Lets `command` run as him.
    pub(super) fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name() {
        let line = "postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        let user = User::parse(line, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert!(User::parse(line, "post").is_none());
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = command("no-such-program").unwrap_err();
        assert!(error.contains("no-such-program") && error.contains("apt-get install"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}
