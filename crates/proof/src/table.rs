//! The table that a person reads.

use std::time::Duration;

use crate::{Check, Outcome};

/// Names the checks.
pub(crate) fn list(checks: &[Check]) {
    for check in checks {
        println!("{:<14} {}", check.name, check.about);
        let bites: Vec<String> = check.bites.iter().map(|b| b.name()).collect();
        println!("{:<14}   must find: {}", "", bites.join(", "));
    }
}

/// The first line.
pub(crate) fn head() {
    println!("{:<28} {:>10} {:>10} {:>8}  figures", "check", "faults", "violations", "seconds");
}

/// A check's line, and what it found wrong.
pub(crate) fn row(name: &str, outcome: &Outcome, took: Duration) {
    let Outcome { faults, violations, figures } = outcome;
    let (count, seconds) = (violations.len(), took.as_secs_f64());
    println!("{name:<28} {faults:>10} {count:>10} {seconds:>8.1}  {figures}");
    violations.iter().for_each(|v| println!("    {v}"));
}

/// A line of `--bite`: how soon a fault was found.
pub(crate) fn bite(check: &str, what: &str, outcome: &Outcome, took: Duration) {
    let name = format!("{check} / {what}");
    let seconds = took.as_secs_f64();
    match outcome.violations.first() {
        Some(first) => println!("{name:<44} found   {seconds:>8.1}  {first}"),
        None => println!("{name:<44} MISSED  {seconds:>8.1}  {} faults injected", outcome.faults),
    }
}
