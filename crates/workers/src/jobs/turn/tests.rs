//! Steps of a record under clocks that are set at will.

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;

/// Both clocks, as a test moves them.
#[derive(Debug, Clone, Copy)]
struct Time(Moment);

impl Time {
    /// At a whole day.
    fn new() -> Self {
        Self(Moment { wall: 20_000 * 24 * HOUR, monotonic: 77_000_000_000, epoch: 3 })
    }

    /// Time passes.
    fn pass(&mut self, micros: i64) -> Moment {
        self.0.monotonic += micros.cast_unsigned() * 1000;
        self.set(micros)
    }

    /// Somebody sets the clock on the wall.
    fn set(&mut self, by: i64) -> Moment {
        self.0.wall += by;
        self.0
    }
}

fn by(pid: u64) -> Claimer {
    Claimer { participant: pid, process: Process { pid, ..Process::default() } }
}

fn cron(expression: &str) -> Schedule {
    Schedule::cron("j", expression).unwrap()
}

fn every(millis: u64) -> Schedule {
    Schedule::every("j", Duration::from_millis(millis)).unwrap()
}

/// A job with a world of its own.
struct Scene {
    job: StoredJob,
    schedule: Schedule,
    time: Time,
}

impl Scene {
    fn new(schedule: Schedule) -> Self {
        let time = Time::new();
        Self { job: StoredJob::new(&schedule, &time.0), schedule, time }
    }

    fn claim(&mut self) -> bool {
        let seen = self.job.clone();
        self.job.claim(&seen, &self.schedule, &self.time.0, &by(1))
    }

    fn end(&mut self, outcome: JobOutcome) {
        let number = self.job.runs;
        assert!(self.job.end(number, &self.schedule, &self.time.0, outcome, Text::default()));
    }

    /// A look, as the thread of a process has one; whether the job ran.
    fn look(&mut self) -> bool {
        self.job.settle(&self.schedule, &self.time.0);
        let ran = self.claim();
        if ran {
            self.end(JobOutcome::Ok);
        }
        ran
    }

    /// The wall clock until the job is due, in seconds.
    fn due_in(&self) -> i64 {
        (self.job.due_at.0 - self.time.0.wall) / SECOND
    }
}

#[test]
fn a_tick_is_claimed_once() {
    for schedule in [cron("*/10 * * * * *"), every(10_000)] {
        let mut scene = Scene::new(schedule);
        scene.time.pass(9_999_999);
        assert!(!scene.claim(), "not yet");
        let now = scene.time.pass(1);
        let seen = scene.job.clone();
        assert!(scene.job.claim(&seen, &scene.schedule, &now, &by(1)));
        assert!(!scene.job.claim(&seen, &scene.schedule, &now, &by(2)), "it runs");
        scene.end(JobOutcome::Ok);
        // Its clock stood still since it looked: it was stopped, say.
        assert!(!scene.job.claim(&seen, &scene.schedule, &now, &by(2)), "it has run");
        assert!(!scene.claim());
        scene.time.pass(10 * SECOND);
        let late = scene.time.0;
        assert!(!scene.job.claim(&seen, &scene.schedule, &late, &by(2)), "it saw another tick");
        assert!(scene.claim());
        assert_eq!((scene.job.runs, scene.job.pid, scene.job.failures), (2, 1, 0));
    }
}

#[test]
fn what_was_missed_is_run_once() {
    for schedule in [cron("*/10 * * * * *"), every(10_000)] {
        let mut scene = Scene::new(schedule);
        scene.time.pass(95 * SECOND);
        assert!(scene.look());
        assert!(!scene.look());
        assert_eq!(scene.due_in(), 5);
        // A wall clock that goes on an hour is a miss for who goes by it.
        scene.time.set(HOUR);
        assert_eq!(scene.look(), scene.job.period == 0);
        assert!(!scene.look());
        scene.time.pass(5 * SECOND);
        assert!(scene.look());
    }
}

#[test]
fn what_comes_due_while_it_runs_is_left_out_unless_its_process_died() {
    for schedule in [cron("*/10 * * * * *"), every(10_000)] {
        for (outcome, again) in [(JobOutcome::Failed, false), (JobOutcome::Interrupted, true)] {
            let mut scene = Scene::new(schedule.clone());
            scene.time.pass(10 * SECOND);
            assert!(scene.claim());
            scene.time.pass(25 * SECOND);
            assert!(!scene.claim(), "no two at once");
            scene.end(outcome);
            assert_eq!(scene.look(), again);
            assert_eq!(scene.due_in(), 5);
            let failed = scene.job.failures;
            assert_eq!(failed, 1);
            assert_eq!(scene.job.last_duration == 0, again, "nobody knows when it died");
        }
    }
}

#[test]
fn an_interrupted_tick_is_not_run_again() {
    for schedule in [cron("*/10 * * * * *"), every(10_000)] {
        let mut scene = Scene::new(schedule);
        scene.time.pass(11 * SECOND);
        assert!(scene.claim());
        scene.end(JobOutcome::Interrupted);
        assert!(!scene.look());
        assert_eq!(scene.due_in(), 9);
    }
}

#[test]
fn a_run_is_ended_once_and_by_its_number() {
    let mut scene = Scene::new(every(1000));
    scene.time.pass(SECOND);
    assert!(scene.claim());
    let (now, schedule) = (scene.time.0, scene.schedule.clone());
    let mut end = |number| scene.job.end(number, &schedule, &now, JobOutcome::Ok, Text::default());
    assert!(!end(0) && !end(2) && end(1) && !end(1));
}

#[test]
fn a_clock_set_back_up_to_an_hour_runs_nothing_daily_twice() {
    let mut scene = Scene::new(cron("0 30 3 * * *"));
    scene.time.pass(3 * HOUR + HOUR / 2);
    assert!(scene.look());
    scene.time.set(-HOUR);
    assert!(!scene.look());
    scene.time.pass(HOUR);
    assert!(!scene.look(), "it had its time");
    scene.time.set(-HOUR - 1);
    scene.look();
    assert_eq!(scene.due_in(), 3600, "further back its time comes again");
}

#[test]
fn a_clock_set_back_silences_nothing_frequent() {
    let mut scene = Scene::new(cron("*/10 * * * * *"));
    scene.time.pass(10 * SECOND);
    assert!(scene.look());
    for back in [2 * SECOND, HOUR / 2, HOUR, 100 * HOUR] {
        scene.time.set(-back);
        scene.look();
        assert!(scene.due_in() <= 11, "{}", scene.due_in());
        scene.time.pass(11 * SECOND);
        assert!(scene.look());
    }
}

#[test]
fn an_interval_does_not_mind_the_wall_clock() {
    let mut scene = Scene::new(every(10_000));
    for set in [-HOUR, HOUR, -1000 * HOUR, 5000 * HOUR] {
        scene.time.set(set);
        scene.time.pass(10 * SECOND - 1);
        assert!(!scene.look());
        scene.time.pass(1);
        assert!(scene.look());
    }
}

#[test]
fn an_interval_goes_on_in_another_making_of_the_segment() {
    // (by the wall clock it was down for, and how long it is due after)
    for (down, left) in [(4 * SECOND, 6), (10 * SECOND, 0), (HOUR, 0), (-HOUR, 10)] {
        let mut scene = Scene::new(every(10_000));
        scene.time.set(down);
        (scene.time.0.epoch, scene.time.0.monotonic) = (4, if down == HOUR { 5 } else { 1 << 60 });
        assert!(!scene.claim(), "nanoseconds of another boot");
        let now = scene.time.0;
        assert!(scene.job.settle(&scene.schedule, &now));
        assert_eq!(scene.due_in(), left);
        scene.time.pass(left * SECOND);
        assert!(scene.look());
        assert!(!scene.look());
    }
}

#[test]
fn a_paused_job_runs_when_asked_for_and_misses_nothing() {
    for schedule in [cron("*/10 * * * * *"), every(10_000)] {
        let mut scene = Scene::new(schedule);
        scene.job.pause();
        scene.time.pass(35 * SECOND);
        assert!(!scene.look());
        scene.job.asked = true;
        assert!(scene.look());
        assert!(!scene.look(), "asked for once");
        assert!(scene.job.is(JobState::Stopped));
        let (now, schedule) = (scene.time.0, scene.schedule.clone());
        scene.job.resume(&schedule, &now);
        assert!(!scene.look(), "a pause is no miss");
        assert!((5..=10).contains(&scene.due_in()));
        // Paused while it runs: it stops behind this run.
        scene.time.pass(10 * SECOND);
        assert!(scene.claim());
        scene.job.pause();
        assert!(scene.job.is(JobState::Running));
        scene.end(JobOutcome::Ok);
        assert!(scene.job.is(JobState::Stopped));
        scene.job.resume(&schedule, &now);
        assert!(scene.job.is(JobState::Waiting));
    }
}

#[test]
fn a_run_that_was_asked_for_is_beside_the_schedule() {
    let mut scene = Scene::new(every(10_000));
    scene.time.pass(4 * SECOND);
    scene.job.asked = true;
    assert!(scene.claim());
    scene.job.asked = true;
    assert!(!scene.claim(), "no two at once");
    scene.end(JobOutcome::Ok);
    assert!(scene.look(), "asked for while it ran: once more");
    assert_eq!(scene.due_in(), 6);
}

#[test]
fn another_schedule_begins_anew_and_the_same_one_does_not() {
    let mut scene = Scene::new(cron("0 0 3 * * *"));
    let (now, schedule) = (scene.time.pass(HOUR), scene.schedule.clone());
    assert!(!scene.job.reschedule(&schedule, &now));
    assert!(scene.job.reschedule(&cron("0 0 2 * * *"), &now));
    assert_eq!(scene.due_in(), 3600);
    assert!(scene.job.reschedule(&every(5000), &now));
    assert_eq!((scene.due_in(), scene.job.zone.as_str()), (5, ""));
}

/// What happens between two looks: so much time passes, and the clock is set by so much.
fn steps(pass: i64, back: i64) -> impl Strategy<Value = Vec<(i64, i64)>> {
    let set = prop_oneof![4 => Just(0), 1 => -back..0, 1 => 0..3 * HOUR];
    prop::collection::vec((1..pass, set), 1000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A daily job, a thousand steps, the clock never more than an hour behind where it has been: each day's time that
    /// it passes runs once, none twice, and none is left out.
    #[test]
    fn daily_ticks_are_run_once(steps in steps(HOUR / 2, HOUR)) {
        let mut scene = Scene::new(cron("0 0 3 * * *"));
        let mut furthest = scene.time.0.wall;
        let first = scene.schedule.after(furthest).unwrap();
        let mut expected = first;
        for (pass, set) in steps {
            scene.time.pass(pass);
            furthest = furthest.max(scene.time.0.wall);
            scene.time.set(set.max(furthest - HOUR - scene.time.0.wall));
            furthest = furthest.max(scene.time.0.wall);
            let was_due = scene.job.due_at.0;
            let ran = scene.look();
            prop_assert_eq!(ran, scene.time.0.wall >= expected);
            if ran {
                prop_assert_eq!(was_due, expected);
                expected = scene.schedule.after(scene.time.0.wall).unwrap();
            }
        }
    }

    /// A job of each 10 seconds, a thousand steps, the clock set at will: never two runs in one look, and never silent
    /// for longer than its period since the clock was set or since it ran.
    #[test]
    fn frequent_ticks_go_on(steps in steps(2 * SECOND, 5 * HOUR)) {
        let mut scene = Scene::new(cron("*/10 * * * * *"));
        let mut since = scene.time.0.monotonic;
        for (pass, set) in steps {
            scene.time.pass(pass);
            scene.time.set(set);
            let now = scene.time.0.monotonic;
            if scene.look() {
                since = now;
                prop_assert!(!scene.look());
            }
            // Less than a second is no jump; and looks are up to two seconds apart.
            let silent = i64::try_from(now - since).unwrap() / 1000;
            prop_assert!(silent <= 13 * SECOND, "{} s", silent / SECOND);
            if set != 0 {
                since = now;
            }
        }
    }

    /// An interval, the clock set at will: each tick once, on the grid of its first one.
    #[test]
    fn intervals_keep_their_grid(steps in steps(25 * SECOND, 5 * HOUR)) {
        let mut scene = Scene::new(every(10_000));
        let begin = scene.time.0.monotonic;
        let mut ran = 0;
        for (pass, set) in steps {
            scene.time.pass(pass);
            scene.time.set(set);
            let tick = (scene.time.0.monotonic - begin) / 10_000_000_000;
            prop_assert_eq!(scene.look(), tick > ran);
            ran = tick;
        }
    }
}
