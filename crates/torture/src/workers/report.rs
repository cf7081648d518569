//! The report of the pool's torture: what `torture --system workers --json` prints.

use std::fmt;

use serde::Serialize;

/// How long something took, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Times {
    /// Half took at most so long.
    pub p50: u64,
    /// 95 % took at most so long.
    pub p95: u64,
    /// 99 % took at most so long.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// What one run showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkersReport {
    /// `workers`.
    pub system: &'static str,
    /// Workers at once.
    pub processes: u32,
    /// Tasks.
    pub tasks: u64,
    /// Tasks that ended with a result.
    pub done: u64,
    /// Tasks that failed because their worker was killed in each of their attempts.
    pub failed: u64,
    /// Results that are not what the arguments make.
    pub wrong_results: u64,
    /// Ends that no task here can have.
    pub wrong_ends: Vec<String>,
    /// Tasks whose end nobody got.
    pub ends_lost: u64,
    /// Tasks whose end was delivered twice.
    pub ends_twice: u64,
    /// Ids that two tasks got.
    pub ids_given_twice: u64,
    /// Submissions that found the queue full, and came later.
    pub pushed_back: u64,
    /// Kills that were asked for.
    pub kills_asked: u32,
    /// Kills of living workers.
    pub kills: u32,
    /// Those of them that took a task from its worker.
    pub kills_with_task: u64,
    /// From `kill(2)` until such a task waits again or has failed.
    pub redispatch_ns: Times,
    /// From `kill(2)` until the kernel says that the worker is dead: the part of it that is not the pool's.
    pub death_ns: Times,
    /// Worker processes that there were.
    pub workers_started: u64,
    /// Those of them whose identity is known.
    pub workers_seen: u64,
    /// Those of them that are alive at the end.
    pub workers_alive: u64,
    /// The supervisor's process has a child left, dead or alive.
    pub children_left: bool,
    /// Records of tasks that are not free at the end.
    pub tasks_left: u64,
    /// Records of workers that are not free at the end.
    pub workers_left: u64,
    /// Pages that are not free at the end.
    pub pages_left: u32,
    /// Nobody holds the supervisor's guard at the end.
    pub guard_free: bool,
    /// Metrics that are not what happened.
    pub metrics_wrong: Vec<String>,
    /// Entries of dead participants that are left after the last sweep.
    pub participants_dead: u32,
    /// Cells that are neither free nor in use after the last sweep.
    pub cells_leaked: u32,
    /// The store.
    pub store: String,
    /// Rows of the three tables.
    pub store_rows: u64,
    /// Versions that the store has not, after the last drain.
    pub store_lag: u64,
    /// Records whose row is another or is not there, and rows without a record.
    pub store_differs: u64,
    /// The audit of the store's rows alone found nothing.
    pub store_sound: bool,
    /// From the first submission until the last end.
    pub elapsed_ms: u64,
    /// With starting the workers, draining and all checks.
    pub total_ms: u64,
    /// Tasks a second of `elapsed_ms`.
    pub tasks_per_s: u64,
    /// Every check holds. How long a re-dispatch took is none of them.
    pub ok: bool,
}

impl WorkersReport {
    pub(super) fn holds(&self) -> bool {
        let none = [
            self.wrong_results,
            self.ends_lost,
            self.ends_twice,
            self.ids_given_twice,
            self.workers_alive,
            self.tasks_left,
            self.workers_left,
            self.pages_left.into(),
            self.participants_dead.into(),
            self.cells_leaked.into(),
            self.store_lag,
            self.store_differs,
        ];
        let equal = [
            (self.done + self.failed, self.tasks),
            (self.kills.into(), self.kills_asked.into()),
            (self.workers_seen, self.workers_started),
        ];
        let all = [self.guard_free, self.store_sound, !self.children_left];
        self.metrics_wrong.is_empty()
            && self.wrong_ends.is_empty()
            && none.iter().all(|n| *n == 0)
            && equal.iter().all(|(found, due): &(u64, u64)| found == due)
            && all.iter().all(|holds| *holds)
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let yes = |holds: bool| if holds { "yes" } else { "NO" }.to_owned();
        let ms = |nanos: u64| format!("{:.2}", nanos as f64 / 1e6);
        let (r, d) = (self.redispatch_ns, self.death_ns);
        vec![
            ("system", self.system.to_owned()),
            ("workers", self.processes.to_string()),
            ("tasks", self.tasks.to_string()),
            ("done", self.done.to_string()),
            ("failed, worker killed", self.failed.to_string()),
            ("wrong results", self.wrong_results.to_string()),
            ("wrong ends", self.wrong_ends.len().to_string()),
            ("ends lost", self.ends_lost.to_string()),
            ("ends delivered twice", self.ends_twice.to_string()),
            ("ids given twice", self.ids_given_twice.to_string()),
            ("pushed back", self.pushed_back.to_string()),
            ("kills", format!("{} of {}", self.kills, self.kills_asked)),
            ("kills with a task", self.kills_with_task.to_string()),
            ("re-dispatch ms p50", ms(r.p50)),
            ("re-dispatch ms p95", ms(r.p95)),
            ("re-dispatch ms p99", ms(r.p99)),
            ("re-dispatch ms max", ms(r.max)),
            ("of it death ms p50", ms(d.p50)),
            ("of it death ms p99", ms(d.p99)),
            ("workers started", self.workers_started.to_string()),
            ("workers seen", self.workers_seen.to_string()),
            ("workers alive", self.workers_alive.to_string()),
            ("no child left", yes(!self.children_left)),
            ("tasks left", self.tasks_left.to_string()),
            ("workers' records left", self.workers_left.to_string()),
            ("pages left", self.pages_left.to_string()),
            ("guard free", yes(self.guard_free)),
            ("metrics wrong", self.metrics_wrong.len().to_string()),
            ("dead participants left", self.participants_dead.to_string()),
            ("cells leaked", self.cells_leaked.to_string()),
            ("rows in the store", self.store_rows.to_string()),
            ("behind in the store", self.store_lag.to_string()),
            ("rows unlike memory", self.store_differs.to_string()),
            ("store sound", yes(self.store_sound)),
            ("tasks in ms", self.elapsed_ms.to_string()),
            ("everything in ms", self.total_ms.to_string()),
            ("tasks/s", self.tasks_per_s.to_string()),
            ("all holds", yes(self.ok)),
        ]
    }
}

impl fmt::Display for WorkersReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|(name, value)| writeln!(f, "{name:<22} {value:>12}"))?;
        let wrong = self.wrong_ends.iter().chain(&self.metrics_wrong).take(10);
        wrong.into_iter().try_for_each(|what| writeln!(f, "{what}"))
    }
}
