//! The report of the resonance torture: what `torture --system resonance --json` prints.

use std::fmt;

use serde::Serialize;

use crate::report::Latency;

/// What one run showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResonanceReport {
    /// `resonance`.
    pub system: &'static str,
    /// Processes.
    pub processes: u32,
    /// Operations that the processes were to make.
    pub updates_attempted: u64,
    /// Operations whose call returned, the refused included.
    pub updates_acknowledged: u64,
    /// Operations refused because somebody had removed the node.
    pub refused: u64,
    /// Creations acknowledged.
    pub nodes_created: u64,
    /// Removals acknowledged.
    pub nodes_removed: u64,
    /// Nodes at the end.
    pub nodes: u64,
    /// Fields at the end.
    pub fields: u64,
    /// Patterns at the end.
    pub patterns: u64,
    /// Ticks that took, as the oldest node counted them.
    pub ticks: u64,
    /// Ids that two creations got.
    pub ids_given_twice: u64,
    /// Nodes acknowledged, not removed, and not there.
    pub nodes_missing: u64,
    /// Nodes that nobody made, that were removed, or that are not what was made.
    pub nodes_too_many: u64,
    /// Fields without their nodes, that nobody made, or that are lost.
    pub fields_wrong: u64,
    /// The nodes that are never removed have the energy that they were created with.
    pub energy_conserved: bool,
    /// As many ticks took as were acknowledged; of the killed perhaps one each more.
    pub ticks_exact: bool,
    /// Workers that saw a part of a change while they held the guard.
    pub half_done_seen: u32,
    /// Nobody holds the guard at the end.
    pub guard_free: bool,
    /// How often somebody had to wait for the guard.
    pub guard_contentions: u64,
    /// How long all waited for it together, in milliseconds.
    pub guard_wait_ms: u64,
    /// How often somebody got the guard from a holder that was killed in it, and finished what that one had decided.
    pub guard_taken_over: u64,
    /// Metrics that are not what happened (of the killed perhaps one each more).
    pub metrics_wrong: Vec<String>,
    /// Processes killed with at least one operation acknowledged and one left.
    pub kills: u32,
    /// Entries of dead participants that are left after the last sweep.
    pub participants_dead: u32,
    /// Cells and pages of intents that are neither free nor in use after the last sweep.
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
    /// From the opening of the start line until the last process ended.
    pub elapsed_ms: u64,
    /// With starting the processes, draining and all checks.
    pub total_ms: u64,
    /// Operations a second of `elapsed_ms`.
    pub updates_per_s: u64,
    /// How long operations took.
    pub latency_ns: Latency,
    /// Every check holds.
    pub ok: bool,
}

impl ResonanceReport {
    pub(super) fn holds(&self) -> bool {
        let none = [
            self.ids_given_twice,
            self.nodes_missing,
            self.nodes_too_many,
            self.fields_wrong,
            self.half_done_seen.into(),
            self.participants_dead.into(),
            self.cells_leaked.into(),
            self.store_lag,
            self.store_differs,
        ];
        let all = [self.energy_conserved, self.ticks_exact, self.guard_free, self.store_sound];
        self.metrics_wrong.is_empty()
            && none.iter().all(|n| *n == 0)
            && all.iter().all(|holds| *holds)
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let yes = |holds: bool| if holds { "yes" } else { "NO" }.to_owned();
        let micros = |nanos: u64| format!("{:.1}", nanos as f64 / 1000.0);
        let l = self.latency_ns;
        vec![
            ("system", self.system.to_owned()),
            ("processes", self.processes.to_string()),
            ("updates attempted", self.updates_attempted.to_string()),
            ("updates acknowledged", self.updates_acknowledged.to_string()),
            ("refused", self.refused.to_string()),
            ("nodes created", self.nodes_created.to_string()),
            ("nodes removed", self.nodes_removed.to_string()),
            ("nodes", self.nodes.to_string()),
            ("fields", self.fields.to_string()),
            ("patterns", self.patterns.to_string()),
            ("ticks", self.ticks.to_string()),
            ("ids given twice", self.ids_given_twice.to_string()),
            ("nodes missing", self.nodes_missing.to_string()),
            ("nodes too many", self.nodes_too_many.to_string()),
            ("fields wrong", self.fields_wrong.to_string()),
            ("energy conserved", yes(self.energy_conserved)),
            ("ticks exact", yes(self.ticks_exact)),
            ("half-done changes seen", self.half_done_seen.to_string()),
            ("guard free", yes(self.guard_free)),
            ("waits for the guard", self.guard_contentions.to_string()),
            ("waited in ms", self.guard_wait_ms.to_string()),
            ("taken over from dead", self.guard_taken_over.to_string()),
            ("metrics wrong", self.metrics_wrong.len().to_string()),
            ("kills", self.kills.to_string()),
            ("dead participants left", self.participants_dead.to_string()),
            ("cells leaked", self.cells_leaked.to_string()),
            ("rows in the store", self.store_rows.to_string()),
            ("behind in the store", self.store_lag.to_string()),
            ("rows unlike memory", self.store_differs.to_string()),
            ("store sound", yes(self.store_sound)),
            ("updates in ms", self.elapsed_ms.to_string()),
            ("everything in ms", self.total_ms.to_string()),
            ("updates/s", self.updates_per_s.to_string()),
            ("µs p50", micros(l.p50)),
            ("µs p99", micros(l.p99)),
            ("µs max", micros(l.max)),
            ("all holds", yes(self.ok)),
        ]
    }
}

impl fmt::Display for ResonanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|(name, value)| writeln!(f, "{name:<22} {value:>12}"))
    }
}
