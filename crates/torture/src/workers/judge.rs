//! The judge of the pool's torture: what is left when all tasks have ended and all workers are gone.

use commonhold::Runtime;
use commonhold::metrics::{Sample, SampleValue};
use commonhold::workers::{PAGES, TASKS, WORKERS, look};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::killer::Killed;
use super::report::{Times, WorkersReport};
use super::submit::Ends;
use crate::{Options, TortureError, judge};

const TABLES: [&str; 3] = [TASKS, PAGES, WORKERS];
/// The guard that a supervisor holds.
const GUARD: &str = "workers";

/// Judges a run that is drained and swept and used by nobody else.
pub(super) fn judge(
    options: &Options,
    runtime: &Runtime,
    ends: &Ends,
    killed: &Killed,
) -> Result<WorkersReport, TortureError> {
    let space = runtime.space();
    let view = look(space)?.unwrap_or_default();
    let guard = space.guards()?.into_iter().find(|g| g.name == GUARD);
    let stored = judge::stored(runtime, &TABLES)?;
    let samples = runtime.samples()?;
    Ok(WorkersReport {
        system: "workers",
        processes: options.processes,
        tasks: options.updates,
        done: ends.done,
        failed: ends.failed,
        wrong_results: ends.wrong,
        wrong_ends: ends.others.clone(),
        ends_lost: ends.lost,
        ends_twice: ends.twice,
        ids_given_twice: ends.ids_twice,
        pushed_back: ends.pushed_back,
        kills_asked: options.kill,
        kills: killed.kills,
        kills_with_task: killed.redispatch.len() as u64,
        redispatch_ns: times(&killed.redispatch),
        death_ns: times(&killed.death),
        workers_started: killed.started,
        workers_seen: killed.seen,
        workers_alive: killed.alive,
        children_left: has_children(),
        tasks_left: view.tasks.len() as u64,
        workers_left: view.workers.len() as u64,
        pages_left: 0,
        guard_free: guard.is_some_and(|g| g.holder.is_none()),
        metrics_wrong: wrong_metrics(&samples, ends, killed),
        participants_dead: judge::dead(runtime),
        cells_leaked: space.intents_in_use()? + judge::leaked(runtime, &TABLES)?,
        store: space.segment().header().store_url.clone(),
        store_rows: stored.rows,
        store_lag: commonhold::admin::unstored(space)?,
        store_differs: stored.differ,
        store_sound: stored.sound,
        elapsed_ms: 0,
        total_ms: 0,
        tasks_per_s: 0,
        ok: false,
    })
}

/// Whether this process still has a child, dead or alive.
fn has_children() -> bool {
    waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) != Err(Errno::ECHILD)
}

fn times(nanos: &[u64]) -> Times {
    let mut nanos = nanos.to_vec();
    nanos.sort_unstable();
    let at = |share: f64| {
        let rank = (nanos.len() as f64 * share).ceil() as usize;
        nanos.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    };
    let max = nanos.last().copied().unwrap_or(0);
    Times { p50: at(0.5), p95: at(0.95), p99: at(0.99), max }
}

/// Deaths and failures as the pool counted them.
fn wrong_metrics(samples: &[Sample], ends: &Ends, killed: &Killed) -> Vec<String> {
    let counted = |name: &str| -> u64 {
        let of = samples.iter().filter(|s| s.name == name);
        let value = |s: &Sample| if let SampleValue::Counter(n) = s.value { n } else { 0 };
        of.map(value).sum()
    };
    let due = [
        ("commonhold_worker_deaths_total", u64::from(killed.kills)),
        ("commonhold_task_errors_total", ends.failed + ends.others.len() as u64),
    ];
    let off = due.into_iter().filter(|(name, due)| counted(name) != *due);
    off.map(|(name, due)| format!("{name} is {}, not {due}", counted(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let nanos: Vec<u64> = (1..=200).rev().collect();
        let found = times(&nanos);
        assert_eq!((found.p50, found.p95, found.p99, found.max), (100, 190, 198, 200));
        assert_eq!(times(&[]).p99, 0);
        assert_eq!(times(&[7]).p50, 7);
    }
}
