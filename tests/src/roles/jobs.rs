//! Processes that run jobs with others, and some that show that jobs leave nothing.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use commonhold::systems::sigils::{SigilIdentity, SigilOptions};
use commonhold::workers::jobs::{Job, JobContext, Jobs, look};
use commonhold::{Runtime, Table};
use commonhold_testing::process::threads;
use nix::sys::wait::{WaitStatus, waitpid};

use super::{Ended, attach, say, told};
use crate::door::visit;
use crate::fork::fork;
use crate::stage::{Item, LATEST, LIMIT, eventually};

/// Runs jobs until it is told something. Each is `NAME|SCHEDULE|WORK`: a schedule is a cron expression or milliseconds,
/// work is `log`, `alone`, `enter`, or the path of a door.
pub(super) fn run(segment: &str, args: &[&str]) -> Ended {
    let runtime = attach(segment, false)?;
    let jobs = args.iter().map(|spec| job(&runtime, spec)).collect::<Result<Vec<_>, _>>()?;
    let jobs = Jobs::start(&runtime, jobs)?;
    say("runs");
    told();
    if let Some(trouble) = jobs.trouble() {
        return Err(trouble.into());
    }
    Ok(jobs.stop(LIMIT)?)
}

/// The same, with the jobs of sigils beside them.
pub(super) fn with_sigils(segment: &str, args: &[&str]) -> Ended {
    let runtime = attach(segment, false)?;
    let mut jobs = SigilIdentity::open(&runtime, SigilOptions::new())?.jobs()?;
    for spec in args {
        jobs.push(job(&runtime, spec)?);
    }
    let jobs = Jobs::start(&runtime, jobs)?;
    say("runs");
    told();
    Ok(jobs.stop(LIMIT)?)
}

fn job(runtime: &Runtime, spec: &str) -> Result<Job, Box<dyn Error>> {
    let parts: Vec<&str> = spec.split('|').collect();
    let [name, schedule, work] = parts[..] else { return Err("a job: arguments".into()) };
    let plan = match schedule.parse() {
        Ok(millis) => Job::every(name, Duration::from_millis(millis))?,
        Err(_) => Job::cron(name, schedule)?,
    };
    let table = Mutex::new(runtime.table::<Item>(LATEST)?);
    let log = move |context: &JobContext<'_>| log(&table.lock().unwrap(), context);
    Ok(match work {
        "log" => plan.run(log),
        "alone" => {
            let table = Mutex::new(runtime.table::<Item>(LATEST)?);
            plan.run(move |context| {
                enter(&table.lock().unwrap(), context.name(), true)?;
                let said = log(context)?;
                enter(&table.lock().unwrap(), context.name(), false)?;
                Ok(said)
            })
        }
        "enter" => {
            let table = Mutex::new(runtime.table::<Item>(LATEST)?);
            plan.run(move |context| {
                enter(&table.lock().unwrap(), context.name(), true)?;
                enter(&table.lock().unwrap(), context.name(), false)?;
                Ok(String::new())
            })
        }
        door => {
            let door = PathBuf::from(door);
            plan.run(move |context| {
                visit(&door, context.number()).map_err(|e| e.to_string())?;
                Ok("went on".to_owned())
            })
        }
    })
}

/// Notes the tick; there must be no note of it.
fn log(table: &Table<Item>, context: &JobContext<'_>) -> Result<String, String> {
    let key = format!("{}-{}", context.name(), context.due_at());
    let n = i64::try_from(context.number()).map_err(|e| e.to_string())?;
    let item = Item { owner: std::process::id().into(), n };
    table.insert(&key, &item).map_err(|e| e.to_string())?;
    Ok(key)
}

/// Is inside, or not any more; nobody else may be.
fn enter(table: &Table<Item>, name: &str, enters: bool) -> Result<(), String> {
    let change = |item: &mut Item| {
        item.n += if enters { 1 } else { -1 };
        if (0..=1).contains(&item.n) { Ok(()) } else { Err("two at once") }
    };
    let done = table.update_or_insert(&format!("in-{name}"), Item::default, change);
    done.map(drop).map_err(|e| e.to_string())
}

/// Starts and stops jobs again and again, each time after some runs; then what threads and descriptors there are more
/// than in the beginning.
pub(super) fn again(segment: &str, args: &[&str]) -> Ended {
    let [rounds] = args[..] else { return Err("jobs-again: arguments".into()) };
    let runtime = attach(segment, false)?;
    let count = |folder: &str| std::fs::read_dir(folder).map(Iterator::count);
    let entries = || runtime.space().participants().len();
    let before = (threads()?, count("/proc/self/fd")?, entries());
    for _ in 0..rounds.parse::<u32>()? {
        let runs = || -> Result<u64, Box<dyn Error>> {
            let views = look(runtime.space())?.unwrap_or_default();
            Ok(views.iter().map(|job| job.runs).sum())
        };
        let from = runs()?;
        let job = |name| Job::every(name, Duration::from_millis(1));
        let work = |_: &JobContext<'_>| Ok(String::new());
        let jobs = Jobs::start(&runtime, vec![job("a")?.run(work), job("b")?.run(work)])?;
        let deadline = Instant::now() + LIMIT;
        while runs()? < from + 5 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        jobs.stop(LIMIT)?;
    }
    let (descriptors, entries) = (count("/proc/self/fd")?, entries());
    let threads = threads()?;
    let (of, were, took) = before;
    say(&format!(
        "threads {threads} of {of}, descriptors {descriptors} of {were}, participants {entries} of {took}"
    ));
    Ok(())
}

/// Forks while jobs run, and within one.
pub(super) fn forks(segment: &str) -> Ended {
    let runtime = attach(segment, false)?;
    let within = Job::every("within", Duration::from_secs(3600))?.run(|_| {
        let child = fork().map_err(|e| e.to_string())?;
        // The child comes back from here too.
        let Some(child) = child else { return Ok("the child".to_owned()) };
        let ended = waitpid(child, None).map_err(|e| e.to_string())?;
        match ended {
            WaitStatus::Exited(_, 0) => Ok("the parent".to_owned()),
            other => Err(format!("the child ended with {other:?}")),
        }
    });
    let mut jobs = Some(Jobs::start(&runtime, vec![within])?);
    if let Some(child) = fork()? {
        let ended = waitpid(child, None)?;
        if !matches!(ended, WaitStatus::Exited(_, 0)) {
            return Err(format!("the child ended with {ended:?}").into());
        }
    } else {
        // What it inherited is its parent's; it may ask for a run, as anybody.
        let mine = jobs.take().ok_or("no jobs")?;
        let asked = mine.run_now("within").is_ok() && mine.stop(LIMIT).is_ok();
        std::process::exit(i32::from(!asked));
    }
    let seen = || look(runtime.space()).ok().flatten().and_then(|mut jobs| jobs.pop());
    eventually("the run ends", || seen().is_some_and(|job| job.last_outcome.is_some()));
    let job = seen().ok_or("no job")?;
    jobs.take().ok_or("no jobs")?.stop(LIMIT)?;
    say(&format!("runs {}, failures {}, {}", job.runs, job.failures, job.message));
    Ok(())
}
