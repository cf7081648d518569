//! The report of a shared file's torture: what `torture --system files --json` prints.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use commonhold_file::SharedFile;
use serde::Serialize;
use serde_json::{Map, Value};

use super::watch::Seen;
use super::worker::COUNTER;
use super::{COMMENT, KILL_EVERY, Way};
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
    /// Concepts that nobody wrote an acknowledgement for: their writers were killed in between, one for each kill at most.
    pub unacknowledged: u64,
    /// By how much the workers' own counts differ from their concepts: updates that were made twice, or in part.
    pub miscounted: u64,
    /// Processes killed.
    pub kills: u32,
    /// Processes that failed by themselves.
    pub failures: u32,
    /// Renames to the file's name that the watcher was told: one for each acknowledged update at least, where it is
    /// updated by renames.
    pub renames: u64,
    /// Versions that the watcher read, one after each change.
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
        let (there, miscounted) = count(concepts);
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
            miscounted,
            kills,
            failures,
            renames: seen.renames,
            versions_read: seen.read,
            versions_invalid: seen.invalid,
            whole: value.is_some() && comment,
            left,
            elapsed_ms,
            updates_per_s: acknowledged * 1000 / elapsed_ms.max(1),
        })
    }

    /// Whether all updates were made, each once, and nothing was lost, broken or left; `run` is what was to be done.
    pub(super) fn holds(&self, run: &FilesReport) -> bool {
        // Who ends before a second kill is due may have escaped the first.
        let is_killed = run.kill > 0 || self.elapsed_ms >= 2 * KILL_EVERY.as_millis() as u64;
        self.acknowledged == u64::from(run.processes) * run.updates
            && self.lost == 0
            && self.miscounted == 0
            && self.unacknowledged <= u64::from(self.kills)
            && (self.kills > 0 || !is_killed)
            && self.renames >= self.acknowledged
            && self.versions_read >= self.renames
            && self.versions_invalid == 0
            && self.failures == 0
            && self.whole
            && self.left.is_empty()
    }
}

/// The concepts that were added, and by how much the workers' own counts differ from them.
fn count(concepts: Option<&Map<String, Value>>) -> (HashSet<&str>, u64) {
    let (mut there, mut of_worker) = (HashSet::new(), HashMap::<&str, [u64; 2]>::new());
    for (name, concept) in concepts.into_iter().flatten() {
        if let Some(index) = name.strip_prefix(COUNTER) {
            let count = concept.get("count").and_then(Value::as_u64);
            of_worker.entry(index).or_default()[0] = count.unwrap_or(0);
        } else {
            there.insert(name.as_str());
            let index = name.split('-').next().unwrap_or_default();
            of_worker.entry(index).or_default()[1] += 1;
        }
    }
    let differences = of_worker.values().map(|[counted, added]| counted.abs_diff(*added));
    (there, differences.sum())
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
    /// The most kills of each way that were asked for; 0: as many as there is time for.
    pub kill: u32,
    /// The three ways.
    pub ways: Vec<WayReport>,
    /// The shared file's updates were all made, each once; it lost, broke and left nothing. What the other ways do does not count.
    pub ok: bool,
}

impl fmt::Display for FilesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |holds: bool| if holds { "yes" } else { "NO" }.to_owned();
        type Cell = fn(&WayReport) -> String;
        let lines: [(&str, Cell); 12] = [
            ("updates acknowledged", |way| way.acknowledged.to_string()),
            ("lost", |way| way.lost.to_string()),
            ("written, not noted", |way| way.unacknowledged.to_string()),
            ("made twice or in part", |way| way.miscounted.to_string()),
            ("kills", |way| way.kills.to_string()),
            ("processes failed", |way| way.failures.to_string()),
            ("renames seen", |way| way.renames.to_string()),
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
        row(f, "all holds", self.ways.iter().map(|way| yes(way.holds(self))).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn way() -> WayReport {
        WayReport {
            way: Way::Shared.name(),
            acknowledged: 40,
            lost: 0,
            unacknowledged: 1,
            miscounted: 0,
            kills: 1,
            failures: 0,
            renames: 41,
            versions_read: 42,
            versions_invalid: 0,
            whole: true,
            left: Vec::new(),
            elapsed_ms: 1000,
            updates_per_s: 40,
        }
    }

    #[test]
    fn what_does_not_hold_is_told() {
        let run = FilesReport {
            system: "files",
            processes: 4,
            updates: 10,
            kill: 0,
            ways: Vec::new(),
            ok: false,
        };
        assert!(way().holds(&run));
        type Plant = fn(&mut WayReport);
        let wrong: [(&str, Plant); 11] = [
            ("an update was not made", |way| way.acknowledged = 39),
            ("an update was made twice", |way| way.miscounted = 1),
            ("more is written than kills explain", |way| way.unacknowledged = 2),
            ("nobody was killed", |way| (way.kills, way.unacknowledged) = (0, 0)),
            ("the watcher saw too little", |way| way.renames = 39),
            ("the watcher read too little", |way| way.versions_read = 40),
            ("lost", |way| way.lost = 1),
            ("broken", |way| way.versions_invalid = 1),
            ("failed", |way| way.failures = 1),
            ("not whole", |way| way.whole = false),
            ("left", |way| way.left = vec!["human.jsonc.lock".to_owned()]),
        ];
        for (what, plant) in wrong {
            let mut way = way();
            plant(&mut way);
            assert!(!way.holds(&run), "{what}");
        }
        // Too short to be killed, unless kills were asked for.
        let mut short = way();
        (short.kills, short.unacknowledged, short.elapsed_ms) = (0, 0, 50);
        assert!(short.holds(&run) && !short.holds(&FilesReport { kill: 1, ..run }));
    }

    #[test]
    fn counts_are_compared_with_concepts() {
        let all = json!({
            "0-0-1": {}, "0-1-1": {}, "worker-0": {"count": 2},
            "1-0-2": {}, "worker-1": {"count": 2},
            "12-0-3": {}, "worker-3": {"count": 1},
        });
        let (there, miscounted) = count(all.as_object());
        assert_eq!((there.len(), miscounted), (4, 3));
    }
}
