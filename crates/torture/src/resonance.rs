//! The torture of resonance networks: processes create, connect, move and remove nodes at once, some are killed, and
//! afterwards everything that was acknowledged must be there, whole.
//!
//! - A worker writes down in its log (log.rs: memory that the runtime does not know) what it is about to do, and
//!   after the call returned what came of it. So the judge knows what must be, and of a killed worker's last
//!   operation that it is there or not.
//! - Each node's frequency is its **tag**: which worker made it, in which operation. So the judge can tell a node
//!   that was acknowledged under another id, twice or never.
//! - Every second node is a **keeper**: it is never removed and is connected to keepers only, so the keepers' energy
//!   is at every instant exactly what they were created with, however often they resonated.
//! - Workers look at the whole under the guard now and then: energy on its way, a tick that reached a part of
//!   the nodes, or a field without its nodes would be a change half done.

mod judge;
mod log;
mod metrics;
mod report;
mod worker;

use std::time::Instant;

use commonhold::systems::resonance::{NewNode, ResonanceNetworks, table_configs};
use commonhold::{Config, Runtime};

use crate::coordinator::{DRAIN, processes};
use crate::{Options, TortureError, signals};

pub(crate) use log::log_words;
pub use report::ResonanceReport;
pub(crate) use worker::work;

/// How far apart the frequencies of two tags are, in Hz. Small, so that ticks take few substeps.
const TAG_HZ: f64 = 1e-6;
/// The coordinator's own node: a keeper that is there from the start.
const ANCHOR: u64 = 0;

/// The tag of what worker `index` creates in its `number`-th operation.
fn tag(options: &Options, index: u32, number: u64) -> u64 {
    1 + u64::from(index) * options.updates + number
}

/// The node with this tag.
fn tagged(tag: u64) -> NewNode {
    let amplitude = if is_keeper(tag) { 1.0 + (tag % 5) as f64 } else { 1.0 };
    NewNode { frequency: 1.0 + tag as f64 * TAG_HZ, amplitude, phase: tag as f64 * 0.7 }
}

/// The tag in a node's frequency.
fn tag_of(frequency: f64) -> u64 {
    ((frequency - 1.0) / TAG_HZ).round() as u64
}

fn is_keeper(tag: u64) -> bool {
    tag.is_multiple_of(2)
}

/// The energy that a keeper was created with.
fn keeper_energy(tag: u64) -> f64 {
    let amplitude = tagged(tag).amplitude;
    if is_keeper(tag) { amplitude * amplitude / 2.0 } else { 0.0 }
}

/// The most nodes that a worker has at once.
fn alive_max(options: &Options) -> usize {
    (2000 / options.processes as usize).clamp(2, 8)
}

/// Runs the torture of resonance networks; `progress` is told what is being done.
///
/// # Errors
/// [`TortureError`] when it could not be run to its end. What it showed is in the report.
pub fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<ResonanceReport, TortureError> {
    options.check()?;
    signals::catch()?;
    let start = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("commonhold-torture-")
        .tempdir()
        .map_err(|e| TortureError::system("make a temporary folder", e))?;
    let default = format!("sqlite:{}", folder.path().join("torture.db").display());
    let runtime = Runtime::open(config(options, options.store.as_deref().unwrap_or(&default)))?;
    let path = runtime.path().map(|p| p.display().to_string()).unwrap_or_default();
    {
        let networks = ResonanceNetworks::open(&runtime)?;
        if !networks.snapshot()?.nodes.is_empty() {
            let text = "the store has nodes of an earlier torture; name an empty one";
            return Err(TortureError::Options(text.to_owned()));
        }
        networks.create_node(tagged(ANCHOR))?;
    }
    let (arena, ended) = processes(options, &path, progress)?;
    progress("sweeping what the dead left, draining, auditing");
    runtime.sweep()?;
    // Who takes the guard finishes what a killed holder had decided: that is to be stored too.
    drop(ResonanceNetworks::open(&runtime)?.snapshot()?);
    runtime.drain(DRAIN)?;
    runtime.sweep()?;
    let mut report = judge::judge(options, &runtime, &arena, &ended)?;
    report.total_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

fn config(options: &Options, store: &str) -> Config {
    // What is deleted keeps its slot until the store has it: twice the room.
    let nodes = 2 * (options.processes * alive_max(options) as u32 + 64);
    let config = Config::ephemeral().store(store).participants(options.processes + 16);
    let tables = table_configs().map(|table| match table.name() {
        commonhold::systems::resonance::PATTERNS => table.slots(4096),
        _ => table.slots(nodes),
    });
    tables.into_iter().fold(config.lanes(options.lanes).intents(4096), Config::table)
}
