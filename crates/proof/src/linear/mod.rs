//! Linearizability: what real processes were answered, with kills and stops among them, has an order that explains it.
//!
//! Two to six processes work on one to three keys of a small segment while a keeper drains and sweeps. Each notes every
//! call before it makes it and every answer behind it, with the machine's monotonic clock (`board.rs`); some are killed
//! and replaced, some are stopped for a while, the keeper too. Then each key's history must be linearizable
//! (`search.rs`) as a key that is absent or has a value and a version (`spec.rs`). Every copy that a process saw must be
//! whole: its words fit together, it is of the key that was asked for, and its hash is right.
//!
//! A batch of histories ends in the midst of one, with everybody killed at once; then the heal phase judges the segment
//! (`heal.rs`).

mod batch;
mod board;
mod heal;
mod search;
mod spec;
pub(crate) mod stage;
mod worker;

use commonhold_segment::sync::Fault;

use crate::{Bite, Check, Failure, Outcome, Plan};

/// Histories of a batch.
const HISTORIES: u64 = 40;

/// The check.
pub(crate) const CHECK: Check = Check {
    name: "linear",
    about: "histories of 2-6 processes on 1-3 keys, killed and stopped at random, are linearizable",
    run,
    // Not `NoSecondLook`: its window is two loads wide, and 36,000 histories did not hit it; freezing does.
    bites: &[
        Bite::Fault(Fault::NoGenerationCheck),
        Bite::Fault(Fault::NoBump),
        Bite::Fault(Fault::NoSlotGeneration),
        Bite::Fault(Fault::StaleBucket),
        Bite::Fault(Fault::NoFloor),
        Bite::Fault(Fault::SweepLiving),
        Bite::Sabotage("blind-write"),
        Bite::Sabotage("stale-read"),
    ],
    limit_s: 180,
};

/// Sums over all batches.
#[derive(Debug, Default)]
struct Figures {
    histories: u64,
    calls: u64,
    overlapping: u64,
    lost: u64,
    kills: u64,
    stops: u64,
}

fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let batches = plan.of(200, 4000);
    let mut outcome = Outcome::default();
    let mut figures = Figures::default();
    for number in 0..batches {
        if plan.only.is_some_and(|only| only / HISTORIES != number) {
            continue;
        }
        batch::run(plan, number, &mut figures, &mut outcome)?;
        if !outcome.violations.is_empty() {
            break; // what comes after a broken state says nothing new
        }
    }
    let Figures { histories, calls, overlapping, lost, kills, stops } = figures;
    outcome.faults = kills + stops;
    outcome.figures = format!(
        "{histories} histories, {calls} calls ({overlapping} overlap another one on their key), \
         {kills} kills ({lost} calls never returned), {stops} stops"
    );
    Ok(outcome)
}
