//! Folders that refuse: full, read-only, closed to the user. The file stays what it is, nothing is left beside it, the
//! error says why, and with the cause gone the next update is made.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use commonhold_file::Patience;
use nix::unistd::{Gid, Uid, getuid, setresgid, setresuid};

use super::{OLD, PATIENCE, add, left, next, path, text};
use crate::child::Child;
use crate::store::place;
use crate::{Failure, Outcome, Plan};

/// Somebody who owns nothing here.
const NOBODY: u32 = 65_534;

/// Makes this part; this process has a mount namespace of its own.
pub(super) fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    full(plan, &mut outcome)?;
    read_only(plan, &mut outcome)?;
    closed(plan, &mut outcome)?;
    outcome.figures = "full, read-only and closed folders: refused, nothing lost".to_owned();
    Ok(outcome)
}

/// An update that must be refused for this reason.
fn refused(path: &Path, why: &[&str], outcome: &mut Outcome) {
    outcome.faults += 1;
    match add(path, Patience::new().limit(PATIENCE)) {
        Err(e) if why.iter().any(|why| e.to_string().contains(why)) => {}
        done => outcome.violation(format!("refused without one of {why:?}: {done:?}")),
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    outcome.demand(there == text(1), || format!("refused, but the file is {there:?}"));
    let left = left(path);
    outcome.demand(left.is_empty(), || format!("refused, but {left:?} is left"));
}

fn works_again(path: &Path, outcome: &mut Outcome) {
    next(path, 1)
        .into_iter()
        .for_each(|wrong| outcome.violation(format!("with the cause gone: {wrong}")));
}

fn full(plan: &Plan, outcome: &mut Outcome) -> Result<(), Failure> {
    let folder = plan.folder.join("full");
    place::small(&folder, 256)?;
    let path = path(&folder);
    std::fs::write(&path, OLD)?;
    // With no room at all, and with room for a lock but not for the file.
    for room in [0, 4096] {
        let filler = folder.join("filler");
        let mut file = std::fs::File::create(&filler)?;
        while file.write_all(&[7; 1024]).is_ok() {}
        let bytes = file.metadata()?.len();
        file.set_len(bytes.saturating_sub(room) / 4096 * 4096)?;
        refused(&path, &["No space left"], outcome);
        std::fs::remove_file(&filler)?;
    }
    works_again(&path, outcome);
    place::gone(&folder)
}

fn read_only(plan: &Plan, outcome: &mut Outcome) -> Result<(), Failure> {
    let folder = plan.folder.join("readonly");
    place::small(&folder, 256)?;
    let path = path(&folder);
    std::fs::write(&path, OLD)?;
    place::read_only(&folder, true)?;
    refused(&path, &["Read-only file system"], outcome);
    place::read_only(&folder, false)?;
    works_again(&path, outcome);
    place::gone(&folder)
}

/// A folder, and then a file, that another user may not write.
fn closed(plan: &Plan, outcome: &mut Outcome) -> Result<(), Failure> {
    let folder = plan.folder.join("closed");
    std::fs::create_dir_all(&folder)?;
    let path = path(&folder);
    std::fs::write(&path, OLD)?;
    for (mode, file_mode) in [(0o555, 0o644), (0o777, 0o444)] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(file_mode))?;
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode))?;
        std::fs::set_permissions(&plan.folder, PermissionsExt::from_mode(0o755))?;
        let mut part = Child::start(|| {
            if getuid().is_root() {
                let (nobody, nogroup) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
                nix::unistd::setgroups(&[])?;
                setresgid(nogroup, nogroup, nogroup)?;
                setresuid(nobody, nobody, nobody)?;
            }
            let mut part = Outcome::default();
            refused(&path, &["Permission denied"], &mut part);
            part.violations.into_iter().next().map_or(Ok(()), |wrong| Err(wrong.into()))
        })?;
        let ended = part.wait()?;
        outcome.faults += 1;
        outcome.demand(ended == Some(0), || {
            format!("closed folder {mode:o}, file {file_mode:o}: see above")
        });
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755))?;
    works_again(&path, outcome);
    Ok(())
}
