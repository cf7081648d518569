//! The judge: compares what the workers acknowledged with what is in memory and in the database.

use std::collections::BTreeMap;

use commonhold::Runtime;
use commonhold::WriterId;
use commonhold::catalogue::History;
use commonhold::store::{Check, StoreError};

use crate::arena::{Arena, Violation};
use crate::coordinator::Ended;
use crate::histogram::{HISTOGRAM_WORDS, add, quantile};
use crate::report::{Latency, Report};
use crate::{Options, TortureError, key};

/// What the workers say of themselves.
pub(crate) struct Claims {
    acknowledged: Vec<u64>,
    writers: Vec<WriterId>,
    violations: u64,
    pub(crate) latency: Latency,
}

/// Reads the arena after all workers ended.
pub(crate) fn claims(arena: &Arena, options: &Options) -> Claims {
    use std::sync::atomic::Ordering::Acquire;
    let views = || (0..options.processes).map(|i| arena.worker(i));
    let mut sum = vec![0; HISTOGRAM_WORDS];
    views().for_each(|v| add(v.histogram, &mut sum));
    Claims {
        acknowledged: views().map(|v| v.acknowledged.load(Acquire)).collect(),
        writers: views().map(|v| WriterId::from_bits(v.writer.load(Acquire))).collect(),
        violations: views().fold(0, |all, v| all | v.violations.load(Acquire)),
        latency: Latency {
            p50: quantile(&sum, 0.5),
            p99: quantile(&sum, 0.99),
            p999: quantile(&sum, 0.999),
            max: views().map(|v| v.longest.load(Acquire)).max().unwrap_or(0),
        },
    }
}

/// A report with everything that does not depend on the mode; `took` says for each worker how many of its
/// updates took, where that is known.
pub(crate) fn report(
    options: &Options,
    claims: &Claims,
    ended: &Ended,
    final_value: i64,
    took: Option<&[u64]>,
) -> Report {
    let acknowledged: u64 = claims.acknowledged.iter().sum();
    let value = u64::try_from(final_value).unwrap_or(0);
    // A killed worker may have had one more update that took before it could be acknowledged.
    let (lost, duplicated) = match took {
        Some(took) => {
            let each = || claims.acknowledged.iter().zip(took).zip(&ended.killed);
            let lost = each().map(|((a, t), _)| a.saturating_sub(*t)).sum();
            let more = each().map(|((a, t), k)| t.saturating_sub(a + u64::from(*k))).sum();
            (lost, more)
        }
        None => (
            acknowledged.saturating_sub(value),
            value.saturating_sub(acknowledged + u64::from(ended.kills)),
        ),
    };
    let elapsed_ms = ended.elapsed_ms.max(1);
    Report {
        mode: options.mode.name(),
        history: None,
        processes: options.processes,
        updates_attempted: u64::from(options.processes) * options.updates,
        updates_acknowledged: acknowledged,
        final_value,
        lost,
        duplicated,
        versions_sequential: None,
        clocks_sequential: None,
        hashes_unique: None,
        hashes_match: None,
        writers_complete: None,
        lost_exchanges: None,
        kills: ended.kills,
        participants_dead: None,
        cells_leaked: None,
        store: "none".to_owned(),
        store_rows: None,
        store_lag: None,
        elapsed_ms: ended.elapsed_ms,
        total_ms: 0,
        commits_per_s: acknowledged * 1000 / elapsed_ms,
        latency_ns: claims.latency,
        ok: false,
    }
}

/// Judges a run of the runtime, which is drained and swept and used by nobody else.
pub(crate) fn judge_runtime(
    options: &Options,
    runtime: &Runtime,
    claims: &Claims,
    ended: &Ended,
) -> Result<Report, TortureError> {
    let space = runtime.space();
    let (mut value, mut versions) = (0, 0);
    for number in 0..options.keys {
        let Some(seen) = space.peek(0, &key(number.into()))? else { continue };
        let first = seen.payload.first_chunk::<8>().copied().unwrap_or_default();
        value += i64::from_le_bytes(first);
        versions += seen.version - 1;
    }
    let mut store = runtime.store()?;
    let audit = store.audit()?;
    let rows = store.row_count(0)?;
    let full = options.history == History::Full;
    let took = if full { Some(rows_of_writers(store.as_mut(), claims)?) } else { None };
    let mut report = report(options, claims, ended, value, took.as_deref());
    let none = |v: Violation| claims.violations & v as u64 == 0;
    let first_versions = u64::from(options.keys);
    report.history = Some(options.history.to_string());
    report.versions_sequential = Some(
        none(Violation::Version)
            && u64::try_from(value).is_ok_and(|v| v == versions)
            && audit.holds(Check::Versions)
            && audit.holds(Check::Positions)
            && (!full || rows.history == versions + first_versions),
    );
    report.clocks_sequential = Some(none(Violation::Clock) && audit.holds(Check::Clocks));
    report.hashes_unique = full.then(|| audit.holds(Check::Unique));
    report.hashes_match = Some(audit.holds(Check::Hashes) && none(Violation::Hash));
    let all_there = |took: &[u64]| took.iter().zip(&claims.acknowledged).all(|(t, a)| t >= a);
    report.writers_complete = Some(
        none(Violation::Sequence)
            && audit.holds(Check::Writers)
            && took.as_deref().is_none_or(all_there),
    );
    report.lost_exchanges = Some(space.totals().lost_exchanges);
    report.participants_dead = Some(dead(runtime));
    report.cells_leaked = Some(space.unreferenced_cells(0)?);
    report.store = space.segment().header().store_url.clone();
    report.store_rows = Some(if full { rows.history } else { rows.current });
    report.store_lag = Some(commonhold::admin::unstored(space)?);
    report.ok = report.holds() && audit.ok();
    Ok(report)
}

/// Entries of dead participants.
pub(crate) fn dead(runtime: &Runtime) -> u32 {
    use commonhold_os::process::Liveness;
    let all = runtime.space().participants();
    all.iter().filter(|p| p.liveness == Liveness::Dead).count() as u32
}

/// Cells of these tables that are neither free nor in use.
pub(crate) fn leaked(runtime: &Runtime, tables: &[&str]) -> Result<u32, TortureError> {
    let space = runtime.space();
    let each = |table: &&str| space.unreferenced_cells(space.find_table(table)?);
    Ok(tables.iter().map(each).sum::<Result<u32, _>>()?)
}

/// What a look at the store found.
pub(crate) struct Stored {
    pub(crate) rows: u64,
    /// Records whose row is another or is not there, and rows without a record.
    pub(crate) differ: u64,
    /// The audit of the rows alone found nothing.
    pub(crate) sound: bool,
}

/// Compares every row of these tables with its record in memory.
pub(crate) fn stored(runtime: &Runtime, tables: &[&str]) -> Result<Stored, TortureError> {
    let space = runtime.space();
    let mut store = runtime.store()?;
    let mut found = Stored { rows: 0, differ: 0, sound: false };
    for table in tables {
        let position = space.find_table(table)?;
        let mut memory = BTreeMap::new();
        space.scan(position, |key, seen| {
            memory.insert(key.to_owned(), (seen.version, seen.hash, seen.payload.clone()));
            Ok::<(), commonhold::Error>(())
        })?;
        store.load(position, &mut |row| {
            found.rows += 1;
            let state = (row.version, row.hash, row.payload);
            found.differ += u64::from(memory.remove(&row.key) != Some(state));
            Ok::<(), StoreError>(())
        })?;
        found.differ += memory.len() as u64;
    }
    found.sound = store.audit()?.ok();
    Ok(found)
}

/// For each worker: the highest sequence of its writer in the store.
fn rows_of_writers(
    store: &mut dyn commonhold::store::Store,
    claims: &Claims,
) -> Result<Vec<u64>, TortureError> {
    let all = store.highest_sequences(0)?;
    let of = |writer: &WriterId| all.get(writer).copied().unwrap_or(0);
    Ok(claims.writers.iter().map(of).collect())
}
