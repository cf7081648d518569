//! Faults of the store: locked, read-only, full, failing, its steward killed at any moment and at each of its steps.
//!
//! Each part ends with no more faults: everything is stored within five seconds, rows equal commits, the audit finds
//! nothing, and what was reported durable is there.

mod crew;
pub(crate) mod judge;
mod killed;
mod place;
pub(crate) mod random;
mod refusals;
mod steps;
pub(crate) mod work;

use commonhold_segment::sync::Fault;

use crate::{Bite, Check, Failure, Outcome, Plan};

/// The check.
pub(crate) const CHECK: Check = Check {
    name: "store",
    about: "the store locked, full, read-only, failing at each call, its steward killed anywhere: rows equal commits",
    run,
    bites: &[Bite::Fault(Fault::CompleteFirst), Bite::Fault(Fault::FailureIsStored)],
    limit_s: 180,
};

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = steps::run(plan)?;
    if plan.only.is_some() {
        return Ok(outcome);
    }
    outcome.add(killed::run(plan)?);
    outcome.add(refusals::busy(plan)?);
    if place::apart() {
        outcome.add(refusals::full(plan)?);
        outcome.add(refusals::read_only(plan)?);
        outcome.figures.push_str("; locked, full, read-only: stored afterwards");
    } else {
        outcome
            .figures
            .push_str("; locked: stored afterwards; full and read-only not made: no mounts");
    }
    Ok(outcome)
}
