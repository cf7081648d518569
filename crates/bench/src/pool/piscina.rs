//! Piscina, the worker pool of Node. **Its workers are threads**, not processes: a worker that is killed or runs out of
//! memory takes the program with it. `peers/piscina` is put into the target folder and its package installed there; where
//! Node or npm is missing, the peer is left out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Outcome;
use crate::pool::task::Tasks;
use crate::pool::{Load, Run};

const FILES: [&str; 3] = ["package.json", "run.mjs", "task.mjs"];

/// What the script prints.
#[derive(Debug, Deserialize)]
struct Figures {
    tasks_per_s: f64,
    /// From submission to start, in nanoseconds.
    waits: Vec<u64>,
    /// Seconds of processor time since Node was started.
    cpu_s: f64,
}

/// Where it is installed.
#[derive(Debug)]
pub(crate) struct Piscina {
    folder: PathBuf,
}

impl Piscina {
    /// Installs it unless it is there.
    pub(crate) fn install() -> Outcome<Self> {
        let exe = std::env::current_exe()?;
        let folder = exe.parent().ok_or("no target folder")?.join("bench-peers/piscina");
        std::fs::create_dir_all(&folder)?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/piscina");
        let installed = folder.join("node_modules/piscina/package.json").is_file();
        let same = std::fs::read(source.join("package.json")).ok()
            == std::fs::read(folder.join("package.json")).ok();
        for file in FILES {
            std::fs::copy(source.join(file), folder.join(file))?;
        }
        let node = Command::new("node").arg("--version").stdout(Stdio::null()).status();
        if !node.is_ok_and(|status| status.success()) {
            return Err("no node".into());
        }
        if !(installed && same) {
            let mut npm = Command::new("npm");
            npm.args(["install", "--omit=optional", "--no-package-lock", "--ignore-scripts"]);
            npm.args(["--no-audit", "--no-fund", "--silent"]).current_dir(&folder);
            let done = npm.stdin(Stdio::null()).stdout(Stdio::null()).status();
            if !done.map_err(|e| format!("npm: {e}"))?.success() {
                return Err("npm could not install it".into());
            }
        }
        Ok(Self { folder })
    }

    /// Has it do the same as the other pools; also the seconds of processor time that Node used.
    pub(crate) fn drive(&self, threads: usize, tasks: &Tasks, load: Load) -> Outcome<(Run, f64)> {
        let mut node = Command::new("node");
        node.args(["run.mjs", &threads.to_string(), tasks.kind.name()]);
        node.args([load.count, load.window, load.rest.as_millis() as usize].map(|n| n.to_string()));
        node.current_dir(&self.folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.spawn()?;
        let mut input = child.stdin.take().ok_or("no pipe to node")?;
        input.write_all(&tasks.bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("piscina: {}", output.status).into());
        }
        let figures: Figures = serde_json::from_slice(&output.stdout)?;
        Ok((Run::new(figures.tasks_per_s, figures.waits), figures.cpu_s))
    }
}
