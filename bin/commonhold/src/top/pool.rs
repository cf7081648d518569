//! What `top` shows of a queue and its workers: only where a segment has one.

use commonhold::workers::{PoolFigures, PoolView, WorkerState, WorkerView};

use super::eye::Sample;
use super::view::{Piece, Section, Since, Tone, rate_text};
use crate::failure::one_line;
use crate::metrics::ValueJson;
use crate::output::short_time;
use crate::workers::state_text;

/// What the metric `name` has counted, over all its labels.
fn counted(sample: &Sample, name: &str) -> u64 {
    let same = sample.looks.metrics.iter().filter(|metric| metric.name == name);
    same.map(|metric| match &metric.value {
        ValueJson::Histogram(histogram) => histogram.count,
        ValueJson::Count { value } => *value,
        ValueJson::Number { .. } => 0,
    })
    .sum()
}

/// The paragraphs of the head.
pub(super) fn head(since: &Since<'_>) -> Vec<Vec<Piece>> {
    match &since.now.pool {
        Ok(Some(view)) => vec![workers(view), tasks(since, view)],
        Ok(None) => Vec::new(),
        Err(why) => vec![vec![Piece::new(Tone::Bad, format!("queue: {}", one_line(why)))]],
    }
}

fn workers(view: &PoolView) -> Vec<Piece> {
    let PoolFigures { busy, idle, starting, .. } = view.figures;
    let supervisor = match view.figures.supervisor {
        Some(pid) => Piece::plain(format!("supervisor {pid}")),
        None => Piece::new(Tone::Warn, "no supervisor"),
    };
    let mut pieces = vec![
        Piece::plain(format!("workers {busy} busy")),
        Piece::plain(format!("{idle} idle")),
        Piece::plain(format!("{starting} starting")),
        supervisor,
    ];
    if view.figures.damaged > 0 {
        pieces.push(Piece::new(Tone::Bad, format!("{} damaged records", view.figures.damaged)));
    }
    if let Some(task) = view.oldest_waiting() {
        pieces.push(Piece::plain(format!("oldest task waits {}", short_time(task.age))));
    }
    pieces
}

fn tasks(since: &Since<'_>, view: &PoolView) -> Vec<Piece> {
    let PoolFigures { queued, running, ended, room, .. } = view.figures;
    let (ran, failed) = ("resonance_worker_task_duration_ms", "commonhold_task_errors_total");
    let rate = |name: &'static str| since.rate(move |sample| counted(sample, name));
    let in_all = |name| Piece::new(Tone::Dim, format!("({} in all)", counted(since.now, name)));
    let full = queued + running + ended >= room;
    let fails = rate(failed);
    let tone = if fails > Some(0.0) { Tone::Warn } else { Tone::Plain };
    vec![
        Piece::plain(format!("queue {queued} waiting")),
        Piece::plain(format!("{running} running")),
        Piece::plain(format!("{ended} not taken")),
        Piece::new(if full { Tone::Bad } else { Tone::Dim }, format!("of {room}")),
        Piece::plain(format!("tasks {}/s", rate_text(rate(ran)))),
        in_all(ran),
        Piece::new(tone, format!("failed {}/s", rate_text(fails))),
        in_all(failed),
    ]
}

/// The workers that are there, and those whose process was not replaced.
pub(super) fn section(since: &Since<'_>) -> Section {
    let heads = vec!["worker", "process", "state", "kind", "for", "task", "attempt", "last end"];
    let view = since.now.pool.as_ref().ok().and_then(Option::as_ref);
    let all = view.into_iter().flat_map(|view| view.workers.iter().chain(&view.gone));
    let rows: Vec<_> = all.map(row).collect();
    Section { text_columns: heads.len(), heads, rows }
}

fn row(worker: &WorkerView) -> Vec<Piece> {
    let tone = match worker.state {
        WorkerState::Gone => Tone::Dim,
        WorkerState::Starting => Tone::Warn,
        WorkerState::Ready => Tone::Plain,
    };
    let pid = if worker.pid == 0 { "-".to_owned() } else { worker.pid.to_string() };
    let mut row = vec![
        Piece::new(Tone::Strong, worker.number.to_string()),
        Piece::plain(pid),
        Piece::new(tone, state_text(worker)),
    ];
    row.extend(match &worker.task {
        Some(task) => {
            let ran = short_time(task.ran.unwrap_or_default());
            [one_line(&task.kind), ran, task.id.to_string(), task.attempt.to_string()]
                .map(Piece::plain)
        }
        None => ["-"; 4].map(Piece::plain),
    });
    row.push(Piece::plain(one_line(&worker.last_end)));
    row
}
