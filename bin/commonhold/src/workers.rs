//! `workers`: the worker processes of a segment and the queue before them, from outside.

use std::time::Duration;

use commonhold::admin;
use commonhold::core::Space;
use commonhold::workers::{
    PoolFigures, PoolView, Priority, TaskView, WorkerState, WorkerView, look,
};
use commonhold_os::clock::wall_micros;
use serde::Serialize;

use crate::connect::Globals;
use crate::failure::{Done, Failure, one_line};
use crate::output::{Format, Output, print_json, print_table, short_time, time_text};

/// List the worker processes and what they are at
///
/// Lists the worker processes of a segment: which task each has and for how long, how often its record was used
/// (turn), and how the process before ended; and how many tasks wait, run, and have an end that nobody took. Takes no entry and
/// writes nothing: it disturbs nobody.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold workers
  commonhold workers --json | jq '.workers[] | select(.task).task.kind'
  commonhold create --workers 8      (makes the queue; a program's Pool::start starts the workers)")]
pub(crate) struct Workers {
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct PoolJson {
    segment: String,
    /// The process that supervises; none: nobody does.
    supervisor_pid: Option<u32>,
    pool: WorkersJson,
    queue: QueueJson,
    workers: Vec<WorkerJson>,
}

#[derive(Debug, Serialize)]
struct WorkersJson {
    busy: u32,
    idle: u32,
    starting: u32,
    limit: u32,
}

#[derive(Debug, Serialize)]
struct QueueJson {
    queued: u32,
    running: u32,
    /// With an end that nobody took.
    ended: u32,
    /// Records, of workers too, that cannot be read.
    damaged: u32,
    limit: u32,
    /// For how long the task that waits longest has been there.
    oldest_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct WorkerJson {
    worker: u32,
    /// None while it starts.
    pid: Option<u32>,
    /// `busy`, `idle`, `starting` or `gone`.
    state: &'static str,
    /// In microseconds since 1970.
    started_at: i64,
    /// It grows with each process that the record has.
    turn: u64,
    task: Option<TaskJson>,
    /// How the last process that ended did.
    last_end: Option<String>,
}

#[derive(Debug, Serialize)]
struct TaskJson {
    id: u64,
    kind: String,
    attempt: u64,
    /// `high`, `normal` or `low`.
    priority: &'static str,
    /// Since its submission.
    age_ms: u64,
    /// Since its worker took it.
    running_ms: u64,
}

impl Workers {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let config = globals.config()?;
        let space = admin::look(&config)?;
        let segment = config.segment_path().display().to_string();
        let Some(view) = look(&space)? else { return Err(no_queue(&space, &segment)) };
        if self.format.json {
            return print_json(&PoolJson::new(segment, &view));
        }
        let mut out = Output::new();
        print(&mut out, &segment, &view)?;
        out.finish()
    }
}

fn no_queue(space: &Space, segment: &str) -> Failure {
    let how = match space.find_table(commonhold::workers::TASKS) {
        Ok(_) => "its table `tasks` is not a queue's; use another segment for workers",
        Err(_) => "add one: commonhold create --workers N",
    };
    Failure::failed(format!("segment {segment} has no queue of tasks; {how}"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Such as `busy`.
pub(crate) fn state_text(worker: &WorkerView) -> &'static str {
    match (worker.state, &worker.task) {
        (WorkerState::Gone, _) => "gone",
        (WorkerState::Starting, _) => "starting",
        (WorkerState::Ready, Some(_)) => "busy",
        (WorkerState::Ready, None) => "idle",
    }
}

fn priority_text(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    }
}

/// Workers that are there, and then those that are not any more.
fn all(view: &PoolView) -> impl Iterator<Item = &WorkerView> {
    view.workers.iter().chain(&view.gone)
}

impl PoolJson {
    fn new(segment: String, view: &PoolView) -> Self {
        let PoolFigures { busy, idle, starting, queued, running, .. } = view.figures;
        let PoolFigures { ended, damaged, .. } = view.figures;
        let (limit, tasks) = (view.figures.worker_room, view.figures.room);
        let oldest_ms = view.oldest_waiting().map(|task| millis(task.age));
        Self {
            segment,
            supervisor_pid: view.figures.supervisor,
            pool: WorkersJson { busy, idle, starting, limit },
            queue: QueueJson { queued, running, ended, damaged, limit: tasks, oldest_ms },
            workers: all(view).map(WorkerJson::from).collect(),
        }
    }
}

impl From<&WorkerView> for WorkerJson {
    fn from(worker: &WorkerView) -> Self {
        Self {
            worker: worker.number,
            pid: Some(worker.pid).filter(|pid| *pid != 0),
            state: state_text(worker),
            started_at: worker.started_at,
            turn: worker.turn,
            task: worker.task.as_ref().map(TaskJson::from),
            last_end: Some(worker.last_end.clone()).filter(|end| !end.is_empty()),
        }
    }
}

impl From<&TaskView> for TaskJson {
    fn from(task: &TaskView) -> Self {
        Self {
            id: task.id.get(),
            kind: task.kind.clone(),
            attempt: task.attempt,
            priority: priority_text(task.priority),
            age_ms: millis(task.age),
            running_ms: millis(task.ran.unwrap_or_default()),
        }
    }
}

fn print(out: &mut Output, segment: &str, view: &PoolView) -> Done {
    let figures = view.figures;
    let who = match figures.supervisor {
        Some(pid) => format!("process {pid} supervises the workers"),
        None => "nobody supervises workers; tasks wait for a program that calls Pool::start".into(),
    };
    out.line(format_args!("segment {segment}: {who}"))?;
    let PoolFigures { busy, idle, starting, worker_room, .. } = figures;
    out.line(format_args!(
        "workers {busy} busy, {idle} idle, {starting} starting; room for {worker_room}"
    ))?;
    let PoolFigures { queued, running, ended, room, .. } = figures;
    let oldest =
        view.oldest_waiting().map(|task| format!(" (the oldest {})", short_time(task.age)));
    out.line(format_args!(
        "tasks {queued} waiting{}, {running} running, {ended} ended and not taken; room for {room}",
        oldest.unwrap_or_default()
    ))?;
    if figures.damaged > 0 {
        out.line(format_args!("{} records are damaged and not shown", figures.damaged))?;
    }
    let heads = ["worker", "process", "state", "up", "turn", "task", "kind", "attempt", "for"];
    let heads = heads.iter().chain(&["last end"]).map(|head| (*head).to_owned());
    let mut rows = vec![heads.collect::<Vec<_>>()];
    rows.extend(all(view).map(row));
    if rows.len() > 1 {
        out.line("")?;
        print_table(out, &rows)?;
    }
    Ok(())
}

fn row(worker: &WorkerView) -> Vec<String> {
    let none = || "-".to_owned();
    let up = wall_micros().saturating_sub(worker.started_at).max(0).cast_unsigned();
    let is_gone = worker.state == WorkerState::Gone;
    let up = if is_gone { none() } else { time_text(up / 1_000_000) };
    let pid = if worker.pid == 0 { none() } else { worker.pid.to_string() };
    let mut row = vec![worker.number.to_string(), pid, state_text(worker).to_owned(), up];
    row.push(worker.turn.to_string());
    row.extend(match &worker.task {
        Some(task) => {
            let ran = short_time(task.ran.unwrap_or_default());
            [task.id.to_string(), one_line(&task.kind), task.attempt.to_string(), ran]
        }
        None => [none(), none(), none(), none()],
    });
    row.push(if worker.last_end.is_empty() { none() } else { one_line(&worker.last_end) });
    row
}
