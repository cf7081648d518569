//! The report of a shared file's torture: what `torture --system files --json` prints.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use commonhold_file::SharedFile;
use serde::Serialize;

use super::watch::Seen;
use super::{COMMENT, Way};
use crate::TortureError;

/// What one way showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WayReport {
    /// `plain`, `lock-file` or `shared-file`.
    pub way: &'static str,
    /// Updates that were acknowledged.
    pub acknowledged: u64,
    /// Those of them that are not in the file.
    pub lost: u64,
    /// Concepts that nobody wrote an acknowledgement for: their writers were killed in between.
    pub unacknowledged: u64,
    /// Processes killed.
    pub kills: u32,
    /// Processes that failed by themselves.
    pub failures: u32,
    /// Versions that the watcher read.
    pub versions_read: u64,
    /// Those of them that were empty, cut, not valid or not there.
    pub versions_invalid: u64,
    /// The file is valid at the end, and its comment is there.
    pub whole: bool,
    /// What is left beside the file and its backup.
    pub left: Vec<String>,
    /// From the start of the first process to the end of the last.
    pub elapsed_ms: u64,
    /// Acknowledged updates a second.
    pub updates_per_s: u64,
}

impl WayReport {
    pub(super) fn judge(
        way: Way,
        folder: &Path,
        path: &Path,
        seen: &Seen,
        (kills, failures): (u32, u32),
        elapsed: Duration,
    ) -> Result<Self, TortureError> {
        let error = |e| TortureError::system("read what the processes noted", e);
        let (mut noted, mut left) = (HashSet::new(), Vec::new());
        for entry in std::fs::read_dir(folder).map_err(error)? {
            let name = entry.map_err(error)?.file_name().to_string_lossy().into_owned();
            if name.starts_with("noted-") {
                let text = std::fs::read_to_string(folder.join(&name)).map_err(error)?;
                noted.extend(text.lines().map(str::to_owned));
            } else if name != "human.jsonc" && name != "human.jsonc.bak" {
                left.push(name);
            }
        }
        let value = SharedFile::new(path).read().ok().flatten();
        let concepts =
            value.as_ref().and_then(|all| all.get("concepts")).and_then(|c| c.as_object());
        let there: HashSet<&str> =
            concepts.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let lost = noted.iter().filter(|name| !there.contains(name.as_str())).count() as u64;
        let acknowledged = noted.len() as u64;
        let comment = way != Way::Shared
            || std::fs::read_to_string(path).is_ok_and(|text| text.contains(COMMENT));
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Ok(Self {
            way: way.name(),
            acknowledged,
            lost,
            unacknowledged: (there.len() as u64 + lost).saturating_sub(acknowledged),
            kills,
            failures,
            versions_read: seen.read,
            versions_invalid: seen.invalid,
            whole: value.is_some() && comment,
            left,
            elapsed_ms,
            updates_per_s: acknowledged * 1000 / elapsed_ms.max(1),
        })
    }

    /// Whether nothing was lost, broken or left.
    pub(super) fn holds(&self) -> bool {
        self.lost == 0
            && self.versions_invalid == 0
            && self.failures == 0
            && self.whole
            && self.left.is_empty()
    }
}

/// What one run showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilesReport {
    /// `files`.
    pub system: &'static str,
    /// Processes at once.
    pub processes: u32,
    /// Updates of each.
    pub updates: u64,
    /// The three ways.
    pub ways: Vec<WayReport>,
    /// The shared file lost, broke and left nothing. What the other ways do does not count.
    pub ok: bool,
}

impl fmt::Display for FilesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |holds: bool| if holds { "yes" } else { "NO" }.to_owned();
        type Cell = fn(&WayReport) -> String;
        let lines: [(&str, Cell); 10] = [
            ("updates acknowledged", |way| way.acknowledged.to_string()),
            ("lost", |way| way.lost.to_string()),
            ("written, not noted", |way| way.unacknowledged.to_string()),
            ("kills", |way| way.kills.to_string()),
            ("processes failed", |way| way.failures.to_string()),
            ("versions read", |way| way.versions_read.to_string()),
            ("not valid", |way| way.versions_invalid.to_string()),
            ("left beside it", |way| way.left.len().to_string()),
            ("ms", |way| way.elapsed_ms.to_string()),
            ("updates/s", |way| way.updates_per_s.to_string()),
        ];
        let row = |f: &mut fmt::Formatter<'_>, name: &str, cells: Vec<String>| {
            write!(f, "{name:<22}")?;
            cells.iter().try_for_each(|cell| write!(f, " {cell:>12}"))?;
            writeln!(f)
        };
        row(f, "", self.ways.iter().map(|way| way.way.to_owned()).collect())?;
        for (name, cell) in lines {
            row(f, name, self.ways.iter().map(cell).collect())?;
        }
        row(f, "whole at the end", self.ways.iter().map(|way| yes(way.whole)).collect())?;
        row(f, "all holds", self.ways.iter().map(|way| yes(way.holds())).collect())
    }
}
