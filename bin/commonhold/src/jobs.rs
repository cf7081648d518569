//! `jobs`: what the processes of a segment do again and again, from outside.

use std::time::Duration;

use commonhold::admin;
use commonhold::workers::jobs::{self, JobOutcome, JobView};
use commonhold_os::clock::wall_micros;
use serde::Serialize;

use crate::connect::{Globals, close, open};
use crate::failure::{Done, Failure, one_line};
use crate::output::{Output, print_json, print_line, print_table, short_time, time_text};

/// List the jobs of a segment, pause them, or ask for a run
///
/// Lists what the processes of a segment do again and again: when each job is due, when it ran last, for how long, how
/// that ended, and in which process. The list takes no entry and writes nothing. What is changed here holds for all
/// processes, also after they were started again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold jobs
  commonhold jobs --json | jq '.jobs[] | select(.last_outcome != \"ok\").message'
  commonhold jobs pause report
  commonhold jobs run report")]
pub(crate) struct Jobs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long, global = true)]
    json: bool,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Keep a job from running by itself, in all processes; a run that is under way goes on
    Pause {
        /// The job
        name: String,
    },
    /// Have a job run by itself again, from now on
    Resume {
        /// The job
        name: String,
    },
    /// Ask for a run now, also of a paused job; the next of its processes does it
    Run {
        /// The job
        name: String,
    },
}

#[derive(Debug, Serialize)]
struct JobsJson {
    segment: String,
    jobs: Vec<JobJson>,
}

/// Times are in microseconds since 1970.
#[derive(Debug, Serialize)]
struct JobJson {
    name: String,
    schedule: String,
    /// None for an interval.
    zone: Option<String>,
    /// `stopped`, `waiting` or `running`.
    state: &'static str,
    paused: bool,
    asked: bool,
    due_at: Option<i64>,
    runs: u64,
    failures: u64,
    last_started_at: Option<i64>,
    last_ended_at: Option<i64>,
    /// Of the run that is under way, or of the last one.
    duration_ms: Option<f64>,
    /// `ok`, `failed`, `panicked` or `interrupted`.
    last_outcome: Option<&'static str>,
    message: String,
    /// The process that runs it, or did last.
    pid: Option<u32>,
}

#[derive(Debug, Serialize)]
struct DoneJson<'a> {
    job: &'a str,
    /// What was done: `paused`, `resumed` or `asked`.
    done: &'static str,
}

impl Jobs {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let Some(action) = &self.action else { return self.list(globals) };
        let runtime = open(globals.config()?)?;
        let (name, done) = match action {
            Action::Pause { name } => (name, jobs::pause(&runtime, name).map(|()| "paused")),
            Action::Resume { name } => (name, jobs::resume(&runtime, name).map(|()| "resumed")),
            Action::Run { name } => (name, jobs::run_now(&runtime, name).map(|()| "asked")),
        };
        let done = done?;
        close(runtime)?;
        match done {
            _ if self.json => print_json(&DoneJson { job: name, done }),
            "asked" => print_line(format_args!("asked for a run of {name}")),
            _ => print_line(format_args!("{done} {name}")),
        }
    }

    fn list(&self, globals: &Globals) -> Done {
        let config = globals.config()?;
        let space = admin::look(&config)?;
        let segment = config.segment_path().display().to_string();
        let Some(views) = jobs::look(&space)? else {
            return Err(Failure::failed(format!(
                "segment {segment} has no table of jobs; `commonhold serve` makes one, as does a program's \
                 `workers::jobs::configure`"
            )));
        };
        if self.json {
            let jobs = views.into_iter().map(JobJson::from).collect();
            return print_json(&JobsJson { segment, jobs });
        }
        let mut out = Output::new();
        print(&mut out, &segment, &views)?;
        out.finish()
    }
}

impl From<JobView> for JobJson {
    fn from(job: JobView) -> Self {
        Self {
            state: job.state.text(),
            duration_ms: job.last_duration.map(|took| took.as_secs_f64() * 1000.0),
            last_outcome: job.last_outcome.map(JobOutcome::text),
            name: job.name,
            schedule: job.schedule,
            zone: job.zone,
            paused: job.paused,
            asked: job.asked,
            due_at: job.due_at,
            runs: job.runs,
            failures: job.failures,
            last_started_at: job.last_started_at,
            last_ended_at: job.last_ended_at,
            message: job.message,
            pid: job.pid,
        }
    }
}

fn print(out: &mut Output, segment: &str, views: &[JobView]) -> Done {
    let running = views.iter().filter(|job| job.state == jobs::JobState::Running).count();
    out.line(format_args!("segment {segment}: {} jobs, {running} running", views.len()))?;
    if views.is_empty() {
        return Ok(());
    }
    let heads = ["job", "schedule", "zone", "state", "runs", "failures", "last run", "took"];
    let heads = heads.iter().chain(&["process", "outcome", "next run", "message"]);
    let mut rows = vec![heads.map(|head| (*head).to_owned()).collect::<Vec<_>>()];
    let now = wall_micros();
    rows.extend(views.iter().map(|job| row(job, now)));
    out.line("")?;
    print_table(out, &rows)
}

fn row(job: &JobView, now: i64) -> Vec<String> {
    let none = || "-".to_owned();
    let text = |text: &str| if text.is_empty() { none() } else { one_line(text) };
    let ago = |at: i64| format!("{} ago", seconds_text(now.saturating_sub(at)));
    let next = match job.due_at {
        _ if job.asked => "now".to_owned(),
        None => none(),
        Some(at) if at <= now => "due".to_owned(),
        Some(at) => format!("in {}", seconds_text(at.saturating_sub(now))),
    };
    vec![
        one_line(&job.name),
        text(&job.schedule),
        text(job.zone.as_deref().unwrap_or_default()),
        job.state.text().to_owned(),
        job.runs.to_string(),
        job.failures.to_string(),
        job.last_started_at.map_or_else(none, ago),
        job.last_duration.map_or_else(none, short_time),
        job.pid.map_or_else(none, |pid| pid.to_string()),
        job.last_outcome.map_or_else(none, |outcome| outcome.text().to_owned()),
        next,
        text(&job.message),
    ]
}

/// Such as `12 s`, from microseconds.
fn seconds_text(micros: i64) -> String {
    let time = Duration::from_micros(micros.max(0).cast_unsigned());
    if time < Duration::from_secs(10) { short_time(time) } else { time_text(time.as_secs()) }
}
