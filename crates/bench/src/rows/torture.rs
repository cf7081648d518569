//! Row 9: the torture as its users start it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::report::{Line, Report};
use crate::{Effort, Outcome};

/// The built command: beside this program, or where cargo puts it when nothing is said.
fn command() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("commonhold"));
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/commonhold");
    beside.into_iter().chain([usual]).find(|path| path.is_file())
}

/// Row 9.
pub(crate) fn whole(effort: Effort, report: &mut Report) -> Outcome {
    let what = "`torture` without options";
    let Some(command) = command() else {
        let why = "missing: `commonhold` is not built (cargo build --release -p commonhold-cli)";
        report.add(&Line::new(9, what, why));
        return Ok(());
    };
    if effort.quick {
        report.add(&Line::new(9, what, "left out by --quick"));
        return Ok(());
    }
    let start = Instant::now();
    let mut torture = Command::new(command);
    let done = torture.arg("torture").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let seconds = start.elapsed().as_secs_f64();
    let ours = if done.success() { format!("{seconds:.1} s") } else { format!("failed: {done}") };
    let line = Line::new(9, what, ours).ratio(if seconds <= 5.0 { "goal reached" } else { "" });
    report.add(&line.target("gate 20 s, goal 5 s", done.success() && seconds <= 20.0));
    Ok(())
}
