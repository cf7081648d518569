//! Faults of the store: locked, read-only, full, failing, its steward killed at any moment and at each of its steps.
//!
//! Each part ends with no more faults: everything is stored soon, rows equal commits, the audit finds
//! nothing, and what was reported durable is there.

mod crew;
pub(crate) mod judge;
mod killed;
pub(crate) mod place;
mod refusals;
mod steps;
pub(crate) mod work;

use commonhold_segment::sync::Fault;

use crate::check::WITHOUT_NAMESPACES;
use crate::{Bite, Check, Failure, Outcome, Plan};

/// The check.
pub(crate) const CHECK: Check = Check {
    name: "store",
    about: "the store locked, full, read-only, failing at each call, its steward killed anywhere: rows equal commits",
    run,
    bites: &[Bite::Fault(Fault::CompleteFirst), Bite::Fault(Fault::FailureIsStored)],
    limit_s: 300,
};

type Part = fn(&Plan) -> Result<Outcome, Failure>;

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = steps::run(plan)?;
    if plan.only.is_some() {
        return Ok(outcome);
    }
    let mut parts: Vec<(&str, Part)> = vec![("", killed::run), ("locked", refusals::busy)];
    if place::apart() {
        parts.extend([("full", refusals::full as _), ("read-only", refusals::read_only as _)]);
    } else if std::env::var_os(WITHOUT_NAMESPACES).is_some() {
        outcome.figures.push_str("full and read-only left out; ");
    } else {
        let why = "full, read-only: no mount namespace can be made here; see";
        outcome.violation(format!("{why} {WITHOUT_NAMESPACES}"));
    }
    for (name, part) in parts {
        if !outcome.violations.is_empty() {
            break; // it says enough, and what follows may take long when nothing holds
        }
        outcome.add(part(plan)?);
        if !name.is_empty() {
            outcome.figures.push_str(&format!("; {name}: all stored afterwards"));
        }
    }
    Ok(outcome)
}
