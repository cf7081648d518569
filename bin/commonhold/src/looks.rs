//! What a segment looks like from outside: what `inspect` prints once and `top` again and again.

use std::time::Duration;

use commonhold::core::Space;
use commonhold::core::directory::{Descriptor, NameKind};
use commonhold::core::flag::Doorbell;
use commonhold::core::guard::GuardFigures;
use commonhold::core::inspect::{Phases, TableFigures};
use commonhold_os::process::Liveness;
use serde::Serialize;

use crate::failure::{Failure, one_line};
use crate::metrics::MetricJson;

/// What a segment looks like, at no single instant.
#[derive(Debug, Serialize)]
pub(crate) struct Looks {
    pub(crate) segment: String,
    pub(crate) uuid: String,
    pub(crate) created_at: i64,
    pub(crate) total_bytes: u64,
    pub(crate) store: String,
    pub(crate) store_epoch: u64,
    /// Whether the store belongs to another segment, or was rolled back: nothing is stored any more.
    pub(crate) store_refused: bool,
    pub(crate) lanes: u32,
    pub(crate) participants: Participants,
    pub(crate) steward: Steward,
    pub(crate) tables: Vec<Table>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) counters: Vec<Counter>,
    pub(crate) ids: Vec<Ids>,
    /// Those that programs registered.
    pub(crate) metrics: Vec<MetricJson>,
    pub(crate) unstored_versions: u64,
    pub(crate) commits: u64,
    pub(crate) lost_exchanges: u64,
    pub(crate) room_waits: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Participants {
    pub(crate) limit: u32,
    pub(crate) alive: usize,
    pub(crate) dead: usize,
    pub(crate) unknown: usize,
    pub(crate) list: Vec<Participant>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Participant {
    pub(crate) entry: u16,
    pub(crate) pid: u32,
    pub(crate) state: &'static str,
    /// Of all owners that the entry ever had.
    pub(crate) commits: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Steward {
    /// `none`, `awake`, `asleep`, `pacing` or `dead`.
    pub(crate) state: &'static str,
    pub(crate) entry: Option<u16>,
    pub(crate) pid: Option<u32>,
    pub(crate) terms: u64,
    pub(crate) last_error: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) history: String,
    pub(crate) records: u32,
    pub(crate) slots: PhasesJson,
    pub(crate) cells: PhasesJson,
    pub(crate) index_cells: PhasesJson,
    pub(crate) unstored_records: u64,
    pub(crate) unstored_versions: u64,
    pub(crate) version_floor: u64,
    /// Rows that somebody else changed in the database.
    pub(crate) conflicts: u64,
    /// Whether nothing of it is stored until somebody decides about them.
    pub(crate) stopped: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Guard {
    pub(crate) name: String,
    pub(crate) holder_entry: Option<u16>,
    pub(crate) holder_pid: Option<u32>,
    pub(crate) number: u64,
    pub(crate) hold_limit_ms: Option<u64>,
    pub(crate) waiters: u32,
    pub(crate) contentions: u64,
    pub(crate) waited_ns: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Counter {
    pub(crate) name: String,
    pub(crate) value: i64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Ids {
    pub(crate) name: String,
    /// The last one given out; 0: none yet.
    pub(crate) last: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct PhasesJson {
    pub(crate) total: u32,
    pub(crate) free: u32,
    pub(crate) owned: u32,
    pub(crate) published: u32,
    pub(crate) retired: u32,
}

impl From<Phases> for PhasesJson {
    fn from(phases: Phases) -> Self {
        let Phases { free, owned, published, retired } = phases;
        Self { total: free + owned + published + retired, free, owned, published, retired }
    }
}

impl Looks {
    /// Looks at `space`.
    pub(crate) fn at(space: &Space) -> Result<Self, Failure> {
        let header = space.segment().header();
        let mut tables = Vec::new();
        for (position, spec) in space.catalogue().tables.iter().enumerate() {
            let figures = space.figures(position)?;
            let TableFigures { unstored_records, unstored_versions, floor, .. } = figures;
            tables.push(Table {
                name: spec.name.clone(),
                history: spec.history.to_string(),
                records: figures.slots.published,
                slots: figures.slots.into(),
                cells: figures.cells.into(),
                index_cells: figures.index_cells.into(),
                unstored_records,
                unstored_versions: unstored_versions + u64::from(figures.slots.retired),
                version_floor: floor,
                conflicts: figures.conflicts,
                stopped: figures.stopped,
            });
        }
        let totals = space.totals();
        Ok(Self {
            segment: space.segment().path().map(|p| p.display().to_string()).unwrap_or_default(),
            uuid: header.uuid.iter().map(|b| format!("{b:02x}")).collect(),
            created_at: header.created_at,
            total_bytes: space.segment().layout().total as u64 * 8,
            store: header.store_url.clone(),
            store_epoch: header.store_epoch,
            store_refused: space.is_refused(),
            lanes: space.catalogue().lanes,
            participants: participants(space),
            steward: steward(space),
            unstored_versions: tables.iter().map(|t| t.unstored_versions).sum(),
            tables,
            guards: space.guards()?.into_iter().map(|guard| guard_json(space, guard)).collect(),
            counters: of_kind(space, NameKind::Counter, |counter| {
                let value = space.counter_value(&counter)?;
                Ok(Counter { name: counter.name, value })
            })?,
            ids: of_kind(space, NameKind::Ids, |ids| {
                let last = space.last_id(&ids)?;
                Ok(Ids { name: ids.name, last })
            })?,
            metrics: metrics(space)?,
            commits: totals.commits,
            lost_exchanges: totals.lost_exchanges,
            room_waits: totals.room_waits,
        })
    }
}

fn guard_json(space: &Space, guard: GuardFigures) -> Guard {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let holder = guard.holder.and_then(|entry| space.identity_of(entry));
    Guard {
        name: guard.name,
        holder_entry: guard.holder,
        holder_pid: holder.map(|identity| identity.pid),
        number: guard.number,
        hold_limit_ms: guard.hold_limit.map(|limit| nanos(limit) / 1_000_000),
        waiters: guard.waiters,
        contentions: guard.contentions,
        waited_ns: nanos(guard.waited),
    }
}

fn of_kind<T>(
    space: &Space,
    kind: NameKind,
    look: impl Fn(Descriptor) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    space.names()?.into_iter().filter(|name| name.kind == kind).map(look).collect()
}

/// Counters and allocators of ids: name, kind, value or last id.
pub(crate) fn counted(looks: &Looks) -> Vec<(String, &'static str, i128)> {
    let counters = looks.counters.iter().map(|c| (one_line(&c.name), "counter", c.value.into()));
    let ids = looks.ids.iter().map(|ids| (one_line(&ids.name), "ids", ids.last.into()));
    counters.chain(ids).collect()
}

fn metrics(space: &Space) -> Result<Vec<MetricJson>, Failure> {
    let samples = space.registered_metrics()?;
    Ok(samples.into_iter().map(MetricJson::from).collect())
}

fn state_text(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "alive",
        Liveness::Dead => "dead",
        Liveness::Unknown => "unknown",
    }
}

fn participants(space: &Space) -> Participants {
    let list: Vec<Participant> = space
        .participants()
        .iter()
        .map(|p| Participant {
            entry: p.entry,
            pid: p.identity.pid,
            state: state_text(p.liveness),
            commits: p.commits,
        })
        .collect();
    let count = |state: &str| list.iter().filter(|p| p.state == state).count();
    let (alive, dead, unknown) = (count("alive"), count("dead"), count("unknown"));
    Participants { limit: space.catalogue().participants, alive, dead, unknown, list }
}

fn steward(space: &Space) -> Steward {
    let last_error = space.steward_message();
    let Some((entry, terms)) = space.steward() else {
        return Steward { state: "none", entry: None, pid: None, terms: 0, last_error };
    };
    let state = match space.steward_state() {
        Doorbell::None => "none",
        Doorbell::Asleep => "asleep",
        Doorbell::Pacing => "pacing",
        Doorbell::Awake | Doorbell::Hurried => "awake",
    };
    if state == "none" {
        return Steward { state, entry: None, pid: None, terms, last_error };
    }
    let identity = space.identity_of(entry);
    let dead = identity.is_none_or(|i| i.find().0 == Liveness::Dead);
    let state = if dead { "dead" } else { state };
    Steward { state, entry: Some(entry), pid: identity.map(|i| i.pid), terms, last_error }
}
