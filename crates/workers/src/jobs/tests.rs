//! Jobs in one process, with clocks that a test sets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

use commonhold_runtime::core::metrics::SampleValue;
use commonhold_runtime::{Config, TableConfig};

use super::clock::Moment;
use super::*;

const LIMIT: Duration = Duration::from_secs(30);
const HOUR: i64 = 3_600_000_000;

/// The machine's clocks, and what a test adds to them.
#[derive(Default)]
struct TestClock {
    wall: AtomicI64,
    monotonic: AtomicU64,
}

impl Clock for TestClock {
    fn now(&self, epoch: u64) -> Moment {
        let mut now = SystemClock.now(epoch);
        now.wall += self.wall.load(Ordering::SeqCst);
        now.monotonic += self.monotonic.load(Ordering::SeqCst);
        now
    }
}

fn open() -> Runtime {
    Runtime::open(configure(Config::ephemeral()).participants(64)).unwrap()
}

/// Yields until `holds`.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        std::thread::yield_now();
    }
}

fn view(runtime: &Runtime, name: &str) -> JobView {
    let views = look(runtime.space()).unwrap().unwrap();
    views.into_iter().find(|job| job.name == name).unwrap()
}

/// Waits until so many runs of a job have ended.
#[track_caller]
fn wait_for(runtime: &Runtime, name: &str, runs: u64) -> JobView {
    until("it runs", || {
        let job = view(runtime, name);
        job.runs >= runs && job.state != JobState::Running
    });
    view(runtime, name)
}

fn hourly(name: &str) -> JobPlan {
    Job::every(name, Duration::from_secs(3600)).unwrap()
}

fn runs_of(runtime: &Runtime, name: &str, outcome: &str) -> u64 {
    let wanted = [("job", name), ("outcome", outcome)].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let samples = runtime.samples().unwrap();
    let found = samples.iter().find(|sample| {
        sample.name == "commonhold_job_runs_total" && sample.labels.as_slice() == wanted
    });
    match found.unwrap().value {
        SampleValue::Counter(value) => value,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_that_fails_or_panics_says_why_and_runs_again() {
    let runtime = open();
    let turn = AtomicU64::new(0);
    let job = hourly("moody").run(move |context| match turn.fetch_add(1, Ordering::SeqCst) {
        0 => panic!("out of\nluck"),
        1 => Err("no answer".to_owned()),
        _ => Ok(format!("run {} of {}", context.number(), context.name())),
    });
    let jobs = Jobs::start(&runtime, vec![job]).unwrap();
    let ends = [
        (JobOutcome::Panicked, "out of luck", 1),
        (JobOutcome::Failed, "no answer", 2),
        (JobOutcome::Ok, "run 3 of moody", 2),
    ];
    for ((outcome, message, failures), run) in ends.into_iter().zip(1..) {
        jobs.run_now("moody").unwrap();
        let seen = wait_for(&runtime, "moody", run);
        assert_eq!((seen.last_outcome, seen.failures), (Some(outcome), failures), "{seen:?}");
        assert_eq!(seen.message, message);
        assert!(seen.pid == Some(std::process::id()) && seen.last_duration.is_some());
    }
    jobs.stop(LIMIT).unwrap();
    assert_eq!(
        ["ok", "failed", "panicked", "interrupted"].map(|o| runs_of(&runtime, "moody", o)),
        [1, 1, 1, 0]
    );
}

#[test]
fn what_was_missed_while_nobody_was_there_is_run_once() {
    let runtime = open();
    let counts = Arc::new(AtomicU64::new(0));
    let probe = || {
        let counts = Arc::clone(&counts);
        let count = move |_: &JobContext<'_>| {
            counts.fetch_add(1, Ordering::SeqCst);
            Ok(String::new())
        };
        Job::every("beat", Duration::from_millis(5)).unwrap().run(count)
    };
    let daily = || Job::cron("daily", "@daily").unwrap().run(|_| Ok(String::new()));
    let start = || {
        let jobs = vec![hourly("hourly").run(|_| Ok(String::new())), daily(), probe()];
        Jobs::start(&runtime, jobs).unwrap()
    };
    start().stop(LIMIT).unwrap();
    let table = runtime.table::<StoredJob>(JOBS).unwrap();
    for name in ["hourly", "daily"] {
        assert_eq!(view(&runtime, name).runs, 0);
        let step = |job: &mut StoredJob| {
            job.due_at.0 -= 100 * HOUR;
            job.due = job.due.saturating_sub(100 * 3600 * 1_000_000_000);
        };
        table.update(name, step).unwrap();
    }
    let jobs = start();
    let [hourly, daily] = ["hourly", "daily"].map(|name| wait_for(&runtime, name, 1));
    // Others are looked at again and again meanwhile.
    let beats = counts.load(Ordering::SeqCst);
    until("it goes on", || counts.load(Ordering::SeqCst) > beats + 20);
    jobs.stop(LIMIT).unwrap();
    let now = commonhold_os::clock::wall_micros();
    for (job, within) in [(hourly, HOUR), (daily, 24 * HOUR)] {
        assert_eq!(view(&runtime, &job.name).runs, 1, "{job:?}");
        let left = job.due_at.unwrap() - now;
        assert!(0 < left && left <= within, "{left} {job:?}");
    }
}

#[test]
fn a_clock_that_is_set_is_noticed() {
    let runtime = open();
    let clock = Arc::new(TestClock::default());
    let at = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&at);
    let daily = Job::cron("daily", "@daily").unwrap().run(move |context| {
        noted.lock().unwrap().push(context.due_at());
        Ok(String::new())
    });
    let minutes = Job::cron("minutes", "0 * * * * *").unwrap().run(|_| Ok(String::new()));
    let jobs = Jobs::start_by(&runtime, vec![daily, minutes], clock.clone()).unwrap();
    let due = view(&runtime, "daily").due_at.unwrap();
    // Forwards over three days' ticks: one run, and the next one is ahead.
    clock.wall.fetch_add(72 * HOUR, Ordering::SeqCst);
    let seen = wait_for(&runtime, "daily", 1);
    assert_eq!(seen.due_at.unwrap() - due, 72 * HOUR);
    let before = wait_for(&runtime, "minutes", 1);
    // Back by half an hour: what is due each minute has it due within the minute.
    clock.wall.fetch_sub(HOUR / 2, Ordering::SeqCst);
    until("it is noticed", || {
        view(&runtime, "minutes").due_at.unwrap() < before.due_at.unwrap() - HOUR / 3
    });
    // Back to where it was: the daily job is due as before its jump.
    clock.wall.fetch_sub(72 * HOUR, Ordering::SeqCst);
    until("it is noticed", || view(&runtime, "daily").due_at.unwrap() <= due);
    jobs.stop(LIMIT).unwrap();
    assert_eq!(*at.lock().unwrap(), [due], "it ran once in all");
    assert_eq!(view(&runtime, "daily").runs, 1);
}

#[test]
fn an_interval_goes_by_the_monotonic_clock() {
    let runtime = open();
    let clock = Arc::new(TestClock::default());
    let job = hourly("hourly").run(|_| Ok(String::new()));
    let jobs = Jobs::start_by(&runtime, vec![job], clock.clone()).unwrap();
    clock.wall.fetch_add(1000 * HOUR, Ordering::SeqCst);
    // Something that makes the thread look.
    jobs.pause("hourly").unwrap();
    jobs.run_now("hourly").unwrap();
    wait_for(&runtime, "hourly", 1);
    assert_eq!(view(&runtime, "hourly").state, JobState::Stopped);
    jobs.resume("hourly").unwrap();
    clock.monotonic.fetch_add(3600 * 1_000_000_000, Ordering::SeqCst);
    wait_for(&runtime, "hourly", 2);
    jobs.stop(LIMIT).unwrap();
    assert_eq!(view(&runtime, "hourly").runs, 2);
}

#[test]
fn a_run_that_does_not_end_is_said_and_ends_its_record_itself() {
    let runtime = open();
    let (enough, stopping) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (its_enough, its_stopping) = (Arc::clone(&enough), Arc::clone(&stopping));
    let job = hourly("long").run(move |context| {
        while !its_enough.load(Ordering::SeqCst) {
            its_stopping.store(context.is_stopping(), Ordering::SeqCst);
            std::thread::yield_now();
        }
        Ok("done".to_owned())
    });
    let jobs = Jobs::start(&runtime, vec![job]).unwrap();
    jobs.run_now("long").unwrap();
    until("it runs", || view(&runtime, "long").state == JobState::Running);
    let error = jobs.stop(Duration::from_millis(10)).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(&error, JobsError::StillRunning { names, .. } if names == &["long"]),
        "{text}"
    );
    assert!(text.starts_with("waited 10 ms for long to end"), "{text}");
    until("it is told", || stopping.load(Ordering::SeqCst));
    assert_eq!(view(&runtime, "long").state, JobState::Running);
    enough.store(true, Ordering::SeqCst);
    assert_eq!(wait_for(&runtime, "long", 1).message, "done");
}

#[test]
fn a_run_under_way_is_waited_for() {
    let runtime = open();
    let job = hourly("polite").run(|context| {
        while !context.is_stopping() {
            std::thread::yield_now();
        }
        Ok("told".to_owned())
    });
    let jobs = Jobs::start(&runtime, vec![job]).unwrap();
    jobs.run_now("polite").unwrap();
    until("it runs", || view(&runtime, "polite").state == JobState::Running);
    jobs.stop(LIMIT).unwrap();
    let seen = view(&runtime, "polite");
    assert_eq!((seen.state, seen.message.as_str()), (JobState::Waiting, "told"));
}

#[test]
fn a_deleted_record_is_made_again() {
    let runtime = open();
    let job = hourly("back").run(|_| Ok(String::new()));
    let jobs = Jobs::start(&runtime, vec![job]).unwrap();
    runtime.table::<StoredJob>(JOBS).unwrap().delete("back").unwrap();
    until("it is there", || !jobs.list().unwrap().is_empty());
    assert_eq!(jobs.trouble(), None);
    jobs.stop(LIMIT).unwrap();
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    let work = |_: &JobContext<'_>| Ok(String::new());
    for (name, why) in [
        ("", "it is empty"),
        ("a b", "another character"),
        ("ä", "another"),
        (&"x".repeat(49), "too long"),
    ] {
        let error = Job::cron(name, "@daily").unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("job name `{name}`: ")) && error.contains(why),
            "{error}"
        );
        assert!(Job::every(name, LIMIT).is_err());
    }
    let runtime = open();
    let twice = vec![hourly("twice").run(work), hourly("twice").run(work)];
    let error = Jobs::start(&runtime, twice).unwrap_err();
    assert_eq!(error.to_string(), "job `twice` is there twice; give each job a name of its own");
    let error = pause(&runtime, "nobody").unwrap_err().to_string();
    assert_eq!(error, "there is no job `nobody`; there are: none");
    let jobs = Jobs::start(&runtime, vec![hourly("one").run(work)]).unwrap();
    for name in ["nobody", "", "no\nbody"] {
        for error in [jobs.pause(name), jobs.resume(name), jobs.run_now(name)] {
            let error = error.unwrap_err().to_string();
            assert!(error.ends_with("there are: `one`") && !error.contains('\n'), "{error}");
        }
    }
    let other = Config::ephemeral().table(TableConfig::new(JOBS, &["n:i64"]));
    let other = Runtime::open(other).unwrap();
    assert!(matches!(Jobs::start(&other, Vec::new()), Err(JobsError::OtherTable)));
    assert_eq!(look(other.space()).unwrap(), None);
    let none = Runtime::open(Config::ephemeral().table(TableConfig::new("t", &["n:i64"]))).unwrap();
    assert!(matches!(Jobs::start(&none, Vec::new()), Err(JobsError::NoTable)));
    assert!(matches!(run_now(&none, "one"), Err(JobsError::NoTable)));
    let small = Config::ephemeral().table(table_config(1)).room_wait(Duration::ZERO);
    let small = Runtime::open(small).unwrap();
    let two = vec![hourly("one").run(work), hourly("two").run(work)];
    let error = Jobs::start(&small, two).unwrap_err().to_string();
    assert!(error.contains("table `jobs` is full"), "{error}");
}

#[test]
fn a_segment_without_room_for_metrics_runs_jobs_too() {
    let config = configure(Config::ephemeral()).names(2).share_words(8);
    let runtime = Runtime::open(config).unwrap();
    let jobs = Jobs::start(&runtime, vec![hourly("one").run(|_| Ok(String::new()))]).unwrap();
    jobs.run_now("one").unwrap();
    assert_eq!(wait_for(&runtime, "one", 1).last_outcome, Some(JobOutcome::Ok));
    jobs.stop(LIMIT).unwrap();
}
