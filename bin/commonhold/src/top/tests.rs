//! What `top` shows of made-up looks, on terminals of several sizes.

use std::time::Duration;

use commonhold::workers::{
    PoolFigures, PoolView, Priority, TaskId, TaskState, TaskView, WorkerState, WorkerView,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use crate::looks::{
    Counter, Guard, Ids, Looks, Participant, Participants, PhasesJson, Steward, Table,
};

use crate::metrics::{HistogramJson, MetricJson, ValueJson};

use super::draw::{Scroll, draw};
use super::eye::Sample;
use super::view::{Story, View};

const SECOND: u64 = 1_000_000_000;

fn table(name: &str, records: u32, unstored_versions: u64) -> Table {
    let phases = |published| PhasesJson {
        total: 1000,
        free: 1000 - published,
        owned: 0,
        published,
        retired: 0,
    };
    Table {
        name: name.to_owned(),
        history: "latest".to_owned(),
        records,
        slots: phases(records),
        cells: phases(records),
        index_cells: phases(0),
        unstored_records: 0,
        unstored_versions,
        version_floor: 0,
        conflicts: 0,
        stopped: false,
    }
}

fn guard(name: &str, holder_pid: Option<u32>, waiters: u32, number: u64) -> Guard {
    Guard {
        name: name.to_owned(),
        holder_entry: holder_pid.map(|_| 0),
        holder_pid,
        number,
        hold_limit_ms: None,
        waiters,
        contentions: number / 2,
        waited_ns: number * 1_000_000,
    }
}

fn metric(name: &str, kind: &'static str, value: ValueJson) -> MetricJson {
    let labels =
        if kind == "histogram" { vec![("kind".to_owned(), "cascade".to_owned())] } else { vec![] };
    let labels = labels.into_iter().collect();
    MetricJson { name: name.to_owned(), kind, unit: "", help: String::new(), labels, value }
}

fn took(count: u64) -> HistogramJson {
    HistogramJson { count, sum: 5.0, p50: Some(1.048_576), p99: None, buckets: Vec::new() }
}

/// A look `seconds` after the segment was made, with so many commits so far.
fn sample(seconds: u64, commits: u64) -> Sample {
    let who = |entry, pid, state, commits| Participant { entry, pid, state, commits };
    let list = vec![
        who(0, 4711, "alive", commits / 2),
        who(1, 4711, "alive", commits / 4),
        who(2, 99, "dead", 7),
        who(3, 12, "alive", commits / 4),
    ];
    let steward =
        Steward { state: "asleep", entry: Some(0), pid: Some(4711), terms: 2, last_error: None };
    let looks = Looks {
        segment: "/dev/shm/commonhold/shop".to_owned(),
        uuid: "u".to_owned(),
        created_at: 0,
        total_bytes: 5 << 20,
        store: "sqlite:/var/lib/shop.db".to_owned(),
        store_epoch: 1,
        store_refused: false,
        lanes: 8,
        participants: Participants { limit: 64, alive: 3, dead: 1, unknown: 0, list },
        steward,
        tables: vec![table("customers", 400, 12), table("clients", 1000, 0)],
        guards: vec![guard("resonance", Some(4711), 3, commits), guard("jobs", None, 0, 7)],
        counters: Vec::new(),
        ids: Vec::new(),
        metrics: vec![
            metric("sigil_gc_sweep_total", "counter", ValueJson::Count { value: commits / 10 }),
            metric("resonance_worker_pool_size", "gauge", ValueJson::Number { value: 7.5 }),
            metric("task_duration_ms", "histogram", ValueJson::Histogram(took(commits))),
        ],
        unstored_versions: 12,
        commits,
        lost_exchanges: commits / 100,
        room_waits: 0,
    };
    let (at_nanos, wall_micros) = (seconds * SECOND, (seconds * 1_000_000).cast_signed());
    Sample { at_nanos, wall_micros, looks, marks: vec![Vec::new(), Vec::new()], pool: Ok(None) }
}

/// Two looks two seconds apart, with 3000 commits between them.
fn story() -> Story {
    let mut story = Story::new(sample(3600, 1000));
    story.tell(Ok(sample(3602, 4000)));
    story
}

/// The picture on a terminal of this size.
fn picture(view: &View, scroll: &mut Scroll, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, scroll)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn the_picture_of_a_usual_terminal() {
    let want = [
        "segment /dev/shm/commonhold/shop  5.0 MiB  up 1 h 0 min",
        "store sqlite:/var/lib/shop.db",
        "steward asleep  process 4711  2 terms  not stored 12",
        "commits 1500/s  (4000 in all)  lost exchanges 15/s  room waits 0/s",
        "participants 3 alive  1 dead  of 64",
        "",
        "table      history  records  slots  cells  free  not stored  commits/s",
        "customers  latest       400   1000   1000   600          12          0",
        "clients    latest      1000   1000   1000     0           0          0",
        "",
        "guard      holder  number  waiters  taken/s  contentions/s   waited",
        "resonance    4711    4000        3     1500            750  4000 ms",
        "jobs            -       7        0        0              0     7 ms",
        "",
        "metric                          value  per s  p50 ≤  p99 ≤",
        "sigil_gc_sweep_total              400    150",
        "resonance_worker_pool_size        7.5",
        "task_duration_ms{kind=cascade}   4000   1500  1.049",
        "",
        "process  state  entries  commits/s",
        "4711     alive        2       1125",
        "12       alive        1        375",
        "99       dead         1          0",
        " q quit  ↑↓ scroll  Tab next part",
    ];
    assert_eq!(picture(&story().view(), &mut Scroll::default(), 80, 24), want);
}

#[test]
fn a_small_terminal_scrolls() {
    let bare = |mut sample: Sample| {
        sample.looks.guards.clear();
        sample.looks.metrics.clear();
        sample
    };
    let mut story = Story::new(bare(sample(3600, 1000)));
    story.tell(Ok(bare(sample(3602, 4000))));
    let view = story.view();
    let mut scroll = Scroll::default();
    let first = picture(&view, &mut scroll, 40, 10);
    let want = [
        "segment /dev/shm/commonhold/shop",
        "5.0 MiB  up 1 h 0 min",
        "store sqlite:/var/lib/shop.db",
        "steward asleep  process 4711  2 terms",
        "not stored 12",
        "commits 1500/s  (4000 in all)",
        "lost exchanges 15/s  room waits 0/s",
        "participants 3 alive  1 dead  of 64",
        "",
        " q quit  ↑↓ scroll  Tab next  1-9 of 17",
    ];
    assert_eq!(first, want);
    scroll.press(KeyCode::Tab);
    scroll.press(KeyCode::Right);
    let second = picture(&view, &mut scroll, 40, 10);
    // The end of it all: the last part cannot come further up. The tables are shifted, the head is not.
    let want = [
        "",
        "   history  records  slots  cells  free",
        "s  latest       400   1000   1000   600",
        "   latest      1000   1000   1000     0",
        "",
        " state  entries  commits/s",
        " alive        2       1125",
        " alive        1        375",
        " dead         1          0",
        " q quit  ↑↓ scroll  Tab next 9-17 of 17",
    ];
    assert_eq!(second, want);
    for code in [KeyCode::Down, KeyCode::PageDown, KeyCode::End] {
        scroll.press(code);
        assert_eq!(picture(&view, &mut scroll, 40, 10), second, "{code:?} at the end");
    }
    scroll.press(KeyCode::Home);
    assert_eq!(picture(&view, &mut scroll, 40, 10), first);
    scroll.press(KeyCode::Down);
    assert_eq!(picture(&view, &mut scroll, 40, 10)[..8], first[1..9]);
    scroll.press(KeyCode::BackTab);
    scroll.press(KeyCode::Up);
    assert_eq!(picture(&view, &mut scroll, 40, 10), first);
}

#[test]
fn no_size_is_too_small() {
    let view = story().view();
    for width in 0..12 {
        for height in 0..20 {
            let mut scroll = Scroll::default();
            for code in [KeyCode::End, KeyCode::Right, KeyCode::Tab, KeyCode::BackTab] {
                picture(&view, &mut scroll, width, height);
                scroll.press(code);
            }
            picture(&view, &mut scroll, 80, 24);
        }
    }
}

#[test]
fn a_first_look_has_no_rates() {
    let text = Story::new(sample(59, 1000)).view().text();
    assert!(text.contains("commits -/s  (1000 in all)  lost exchanges -/s"), "{text}");
    assert!(text.contains("up 59 s\n"), "{text}");
}

#[test]
fn it_is_told_that_the_segment_went_and_came_anew() {
    let mut story = story();
    story.tell(Err("no segment /dev/shm/x; create it first".to_owned()));
    let want = "no segment /dev/shm/x; create it first\nlooking for it again and again\n";
    assert_eq!(story.view().text(), want);
    let new = || {
        let mut new = sample(2, 10);
        new.looks.uuid = "another".to_owned();
        new
    };
    story.tell(Ok(new()));
    let text = story.view().text();
    assert!(text.starts_with("the segment was made anew\n"), "{text}");
    assert!(text.contains("commits -/s  (10 in all)"), "no rates across two segments: {text}");
    for _ in 0..10 {
        story.tell(Ok(new()));
    }
    assert!(!story.view().text().contains("made anew"));
}

#[test]
fn counters_and_ids_have_rates_of_their_own() {
    let look = |seconds, value, last| {
        let mut sample = sample(seconds, 0);
        sample.looks.counters = vec![Counter { name: "a b".to_owned(), value }];
        sample.looks.ids = vec![Ids { name: "nodes".to_owned(), last }];
        sample
    };
    let mut story = Story::new(look(1, 5, u64::MAX - 3));
    story.tell(Ok(look(3, -5, u64::MAX)));
    let text = story.view().text();
    let want = "\nname   kind                    value  per s
a b    counter                    -5   -5.0
nodes  ids      18446744073709551615    1.5\n";
    assert!(text.contains(want), "{text}");
}

#[test]
fn what_the_segment_says_cannot_move_the_cursor() {
    let mut odd = sample(1, 0);
    odd.looks.steward.last_error = Some("disk\u{1b}[2J\nfull".to_owned());
    let text = Story::new(odd).view().text();
    assert!(text.contains("last error: disk\\u{1b}[2J full\n"), "{text}");
}

#[test]
fn a_process_that_took_over_an_entry_starts_from_nothing() {
    let mut story = Story::new(sample(10, 1000));
    let mut next = sample(11, 1400);
    next.looks.participants.list[0].pid = 5;
    story.tell(Ok(next));
    let text = story.view().text();
    assert!(text.contains("4711     alive        1        100\n"), "{text}");
    assert!(text.contains("5        alive        1          0\n"), "{text}");
}

#[test]
fn a_queue_has_its_lines_and_its_workers() {
    let look = |seconds: u64, done| {
        let mut sample = sample(seconds, 0);
        let took = ValueJson::Histogram(took(done));
        sample.looks.metrics = vec![metric("resonance_worker_task_duration_ms", "histogram", took)];
        for (reason, value) in [("panic", done / 10), ("error", 1)] {
            let mut errors =
                metric("commonhold_task_errors_total", "counter", ValueJson::Count { value });
            errors.labels = [("reason".to_owned(), reason.to_owned())].into_iter().collect();
            sample.looks.metrics.push(errors);
        }
        sample.pool = Ok(Some(pool()));
        sample
    };
    let mut story = Story::new(look(10, 100));
    story.tell(Ok(look(12, 1100)));
    let lines = picture(&story.view(), &mut Scroll::default(), 80, 24);
    let want = [
        "workers 1 busy  0 idle  1 starting  supervisor 42  oldest task waits 2000 ms",
        "queue 1 waiting  1 running  30 not taken  of 32  tasks 500/s  (1100 in all)",
        "failed 50/s  (111 in all)",
    ];
    assert_eq!(lines[5..8], want);
    let want = [
        "worker  process  state     kind     for    task  attempt  last end",
        "0       4711     busy      cascade  35 ms  99    2",
        "1       -        starting  -        -      -     -        exited \\u{1b} with sta",
        "3       17       gone      -        -      -     -        was killed",
    ];
    assert_eq!(lines[13..17], want);
    let mut damaged = look(13, 1100);
    damaged.pool = Err("corrupt\nsegment".to_owned());
    story.tell(Ok(damaged));
    assert!(story.view().text().contains("\nqueue: corrupt segment\n"));
}

/// One worker that works, one that starts, and one that is dead.
fn pool() -> PoolView {
    let task = |id, state, age| TaskView {
        id: TaskId::from_number(id),
        kind: "cascade".to_owned(),
        state,
        priority: Priority::Normal,
        attempt: 2,
        worker: None,
        age: Duration::from_millis(age),
        ran: (state == TaskState::Running).then_some(Duration::from_millis(35)),
    };
    let (runs, waits) = (task(99, TaskState::Running, 40_000), task(7, TaskState::Pending, 2000));
    let worker = |number, pid, state, last_end: &str| WorkerView {
        number,
        pid,
        state,
        started_at: 0,
        turn: 1,
        task: Some(runs.clone()).filter(|_| number == 0),
        last_end: last_end.to_owned(),
    };
    let figures = PoolFigures {
        starting: 1,
        busy: 1,
        idle: 0,
        queued: 1,
        running: 1,
        ended: 30,
        room: 32,
        damaged: 0,
        worker_room: 4,
        supervisor: Some(42),
    };
    PoolView {
        figures,
        workers: vec![
            worker(0, 4711, WorkerState::Ready, ""),
            worker(1, 0, WorkerState::Starting, "exited \u{1b} with status 1"),
        ],
        gone: vec![worker(3, 17, WorkerState::Gone, "was killed")],
        tasks: vec![runs.clone(), waits],
    }
}
