//! Faults of a shared file's users: killed and failing at each system call of an update (scene.rs has the kinds of them);
//! a thousand at one stale lock, and at one that nobody has filled in; stopped and forked owners; a full, a read-only, a
//! closed folder.
//!
//! After each fault the file is the old or the new version, whole; what was acknowledged is the new one; the next update
//! goes on at once and leaves nothing but the file and its backup.

mod contenders;
mod owners;
mod refusals;
mod scene;
mod steps;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold_file::{FileError, Patience, SharedFile, UpdateError};
use serde_json::{Value, json};

use crate::check::WITHOUT_NAMESPACES;
use crate::store::place;
use crate::{Bite, Check, Failure, Outcome, Plan};

/// The check.
pub(crate) const CHECK: Check = Check {
    name: "file",
    about: "users of a shared file killed at each system call, 1000 at a stale lock, full disk: one whole version, no two owners",
    run,
    bites: &[
        Bite::Sabotage("in-place"),
        Bite::Sabotage("unsynced-result"),
        Bite::Sabotage("theirs-lost"),
        Bite::Sabotage("made-twice"),
        Bite::Sabotage("slow"),
        Bite::Sabotage("two-owners"),
        Bite::Sabotage("robbed"),
    ],
    limit_s: 300,
};

/// So long nobody waits here.
const PATIENCE: Duration = Duration::from_secs(30);
/// The file before the update. The comment must stay.
const OLD: &str = "{\n  // how many there were\n  \"n\": 1,\n  \"rest\": [1, 2, 3]\n}\n";

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = steps::run(plan)?;
    if plan.only.is_some() {
        return Ok(outcome);
    }
    outcome.add(contenders::run(plan)?);
    outcome.add(owners::run(plan)?);
    if place::apart() {
        outcome.add(refusals::run(plan)?);
    } else if std::env::var_os(WITHOUT_NAMESPACES).is_some() {
        outcome.figures.push_str("; full and read-only left out");
    } else {
        outcome.violation(format!(
            "full, read-only: no mount namespace can be made here; see {WITHOUT_NAMESPACES}"
        ));
    }
    Ok(outcome)
}

/// The file of a part, in a folder of its own.
fn path(folder: &Path) -> PathBuf {
    folder.join("human.jsonc")
}

fn text(n: u64) -> String {
    OLD.replace("\"n\": 1", &format!("\"n\": {n}"))
}

/// Adds one to the number in the file.
fn add(path: &Path, patience: Patience) -> Result<(), FileError> {
    done(SharedFile::new(path).patience(patience).update(one_more))
}

/// The same, without the lock.
fn add_alone(path: &Path) -> Result<(), FileError> {
    done(SharedFile::new(path).update_alone(one_more))
}

fn one_more(all: &mut Value) -> Result<(), Infallible> {
    all["n"] = json!(all["n"].as_u64().unwrap_or(0) + 1);
    Ok(())
}

fn done<R>(done: Result<R, UpdateError<Infallible>>) -> Result<(), FileError> {
    match done {
        Ok(_) => Ok(()),
        Err(UpdateError::File(e)) => Err(e),
        Err(UpdateError::Refused(never)) => match never {},
    }
}

/// The next update after a death: what is wrong.
fn next(path: &Path, now: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Err(e) = add(path, Patience::new().limit(PATIENCE)) {
        wrong.push(format!("the next update: {e}"));
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    if there != text(now + 1) {
        wrong.push(format!("the next update made {there:?} of {now}"));
    }
    wrong.extend(left(path).into_iter().map(|name| format!("{name} is left")));
    wrong
}

/// What is left beside the file and its backup.
fn left(path: &Path) -> Vec<String> {
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let names = entries.into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| !matches!(name.as_str(), "human.jsonc" | "human.jsonc.bak" | "filler"))
        .collect()
}

/// The number in the file, whoever wrote it.
fn number(path: &Path) -> Option<u64> {
    SharedFile::new(path).read().ok()??.get("n").and_then(Value::as_u64)
}
