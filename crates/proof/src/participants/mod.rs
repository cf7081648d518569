//! Participants: who is dead, who is not, and what becomes of an entry.
//!
//! Evidence of death comes from the kernel only. Each part makes a situation in which a simpler test errs, counts how
//! often it would have, and demands that ours does not: `reuse.rs` (a pid that is given again), `namespaces.rs`
//! (another pid namespace), `deaths.rs` (zombies, forks, a segment removed under a forked child), `storm.rs` (entries
//! claimed and freed as fast as can be), `leaving.rs` (the steward's role, and the last one out).
//!
//! What needs rights that this machine does not give (a pid namespace) is a violation, unless
//! `COMMONHOLD_PROVE_WITHOUT_NAMESPACES` is set: then the figures say what was left out.

mod deaths;
mod leaving;
mod namespaces;
mod reuse;
mod storm;

use commonhold_core::{Error, Handle, Inserted, Snapshot, Space};
use commonhold_segment::sync::Fault;

use crate::check::WITHOUT_NAMESPACES;
use crate::child::Child;
use crate::linear::stage::{Stage, TABLE, key};
use crate::{Bite, Check, Failure, Outcome, Plan};

/// The check.
pub(crate) const CHECK: Check = Check {
    name: "participants",
    about: "reused pids, pid namespaces, zombies, forks, raw clones, last ones out: evidence of death is right",
    run,
    bites: &[
        Bite::Fault(Fault::UnknownIsDead),
        Bite::Fault(Fault::NoClaimWait),
        Bite::Fault(Fault::NoUsage),
        Bite::Fault(Fault::SweepLiving),
        Bite::Sabotage("trust-kill"),
        Bite::Sabotage("trust-start"),
        Bite::Sabotage("raw-fork"),
    ],
    limit_s: 120,
};

type Part = fn(&Plan) -> Result<Outcome, Failure>;

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let parts: [(&str, Part); 7] = [
        ("zombies", deaths::zombies),
        ("forks", deaths::forks),
        ("removed", deaths::removed),
        ("storm", storm::storm),
        ("reuse", reuse::reuse),
        ("namespaces", namespaces::namespaces),
        ("leaving", leaving::leaving),
    ];
    let mut outcome = Outcome::default();
    for (number, (name, part)) in (0..).zip(parts) {
        if plan.only.is_some_and(|only| only != number) {
            continue;
        }
        match part(plan) {
            Ok(found) => outcome.add(found),
            Err(e) => {
                outcome.violation(format!("{name}: {e}; seed {}, --only {number}", plan.seed))
            }
        }
    }
    Ok(outcome)
}

/// Whether pid namespaces can be had, or are said to be dispensable.
fn namespaces_permitted(outcome: &mut Outcome, what: &str) -> Result<bool, Failure> {
    let mut probe = Child::start_apart(true, || Ok(()))?;
    if probe.wait()? == Some(0) {
        return Ok(true);
    }
    if std::env::var_os(WITHOUT_NAMESPACES).is_none() {
        outcome.violation(format!(
            "{what}: no pid namespace can be made here; see {WITHOUT_NAMESPACES}"
        ));
    }
    outcome.figures = format!("{what} LEFT OUT: no pid namespaces");
    Ok(false)
}

/// A participant's deed: the first key's next version; it leaves a spare cell with its owner.
fn commit(stage: &Stage, handle: &Handle) -> Result<u64, Failure> {
    let mut payload = Vec::new();
    stage.encode(0, 1, &mut payload);
    if let Inserted::Committed(done) = handle.insert(TABLE, key(0), &payload)? {
        return Ok(done.version);
    }
    let record = handle.locate(TABLE, key(0))?.ok_or("the key is lost")?;
    let change = |seen: &Snapshot, next: &mut Vec<u8>| {
        let value = stage.decode(0, seen)?;
        stage.encode(0, value + 1, next);
        Ok::<(), String>(())
    };
    Ok(handle.update_seen(TABLE, record, change)?.ok_or("the key is gone")?.version)
}

/// How many cells have an owner.
fn owned(space: &Space) -> Result<u32, Error> {
    Ok(space.figures(TABLE)?.cells.owned)
}
