//! `file`, as a user meets it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{Running, World, next_line};
use nix::sys::signal::Signal;
use serde_json::json;

const SETTINGS: &str =
    "{\n  // how wide\n  \"editor\": { \"tabs\": 4 },\n  \"tasks\": [\"a\", \"b\"],\n}\n";

fn world() -> World {
    let world = World::new();
    std::fs::write(world.path("s.jsonc"), SETTINGS).unwrap();
    world
}

fn text(world: &World) -> String {
    std::fs::read_to_string(world.path("s.jsonc")).unwrap()
}

#[test]
fn an_edit_is_one_step_and_keeps_the_form() {
    let world = world();
    let edit = [
        "--set",
        "editor.tabs=2",
        "--set",
        "tasks[+]=\"c\"",
        "--add",
        "n=1",
        "--delete",
        "tasks[0]",
    ];
    let told = world.ok(&[&["file", "edit", "s.jsonc"], &edit[..]].concat());
    assert_eq!(told, "s.jsonc: changed\n");
    let after = text(&world);
    assert!(after.starts_with("{\n  // how wide\n  \"editor\": { \"tabs\": 2 },\n"), "{after}");
    let shown = world.json(&["file", "show", "s.jsonc"]);
    assert_eq!(shown["value"], json!({"editor": {"tabs": 2}, "tasks": ["b", "c"], "n": 1}));
    assert_eq!(world.ok(&["file", "show", "s.jsonc", "tasks[-1]"]), "\"c\"\n");
    // What is that way already is not written.
    let again = world.json(&["file", "edit", "s.jsonc", "--set", "editor.tabs=2"]);
    assert_eq!((&again["written"], &again["path"]), (&json!(false), &json!("s.jsonc")));
    assert_eq!(text(&world), after);
    let more = world.json(&["file", "edit", "s.jsonc", "--add", "n=-1.5", "--require", "n=1"]);
    assert_eq!(
        (&more["written"], &more["merges"], more["waited_ms"].is_number()),
        (&json!(true), &json!(0), true)
    );
    assert_eq!(world.ok(&["file", "show", "s.jsonc", "n"]), "-0.5\n");
}

#[test]
fn what_is_deleted_is_what_was_meant() {
    let world = World::new();
    let edit = |list: &str, places: &[&str]| {
        std::fs::write(world.path("l.json"), format!("{{\"l\": {list}}}")).unwrap();
        let mut arguments = vec!["file", "edit", "l.json"];
        places.iter().for_each(|place| arguments.extend(["--delete", place]));
        world.ok(&arguments);
        world.json(&["file", "show", "l.json", "l"])["value"].clone()
    };
    let abc = r#"["a", "b", "c"]"#;
    assert_eq!(edit(abc, &["l[1]", "l[-3]"]), json!(["c"]));
    assert_eq!(edit(abc, &["l[-3]", "l[1]"]), json!(["c"]));
    assert_eq!(edit(abc, &["l[0]", "l[-1]"]), json!(["b"]));
    assert_eq!(edit(abc, &["l[1]", "l[-2]"]), json!(["a", "c"]), "one element, named twice");
    assert_eq!(edit("[[1, 2], [3, 4]]", &["l[0][0]", "l[-1][-1]", "l[-2][1]"]), json!([[], [3]]));
    assert_eq!(edit(r#"[{"a": 1}, 2]"#, &["l[-2]", "l[0].a"]), json!([2]));
    let before = std::fs::read_to_string(world.path("l.json")).unwrap();
    let beyond = ["file", "edit", "l.json", "--delete", "l[0]", "--delete", "l[-2]"];
    world.fails(&beyond, 1, "there is no `l[-2]` to delete");
    assert_eq!(std::fs::read_to_string(world.path("l.json")).unwrap(), before);
}

#[test]
fn a_file_that_is_not_there_is_made() {
    let world = World::new();
    world.ok(&["file", "edit", "new.json", "--set", "a.\"b.c\"[+]=1"]);
    let made = std::fs::read_to_string(world.path("new.json")).unwrap();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made, json!({"a": {"b.c": [1]}}));
    world.ok(&["file", "edit", "list.json", "--set", "[+]=1", "--add", "[0]=2"]);
    assert_eq!(world.json(&["file", "show", "list.json"])["value"], json!([3]));
    world.fails(&["file", "edit", "none.json", "--delete", "a"], 1, "there is no `a` to delete");
    assert!(!world.path("none.json").exists());
}

#[test]
fn what_is_wrong_is_said_in_one_line_and_changes_nothing() {
    let world = world();
    std::fs::write(world.path("bad.json"), "{\n  \"a\": 1,\n  \"b\" 2\n}\n").unwrap();
    std::fs::write(world.path("empty.json"), "").unwrap();
    let table: [(&[&str], i32, &str); 17] = [
        (&["edit", "s.jsonc"], 2, "nothing to do: give --set, --add or --delete"),
        (
            &["edit", "s.jsonc", "--set", "a=hello"],
            2,
            "`hello` is not JSON; a text is written in quotes: 'a=\"hello\"'",
        ),
        (&["edit", "s.jsonc", "--set", "a"], 2, "`a` has no value; write a=JSON"),
        (&["edit", "s.jsonc", "--set", "a..b=1"], 2, "a name is missing"),
        (&["edit", "s.jsonc", "--add", "a=x"], 2, "`x` is not a number"),
        (
            &["edit", "s.jsonc", "--set", "a=12345678901234567890123"],
            2,
            "12345678901234567890123 would be rounded to 1.2345678901234568e22; write it as a text",
        ),
        (
            &["edit", "s.jsonc", "--set", "x=1", "--set", "editor.tabs.x=1"],
            1,
            "s.jsonc: `editor.tabs` is 4, not an object",
        ),
        (
            &["edit", "s.jsonc", "--set", "x=1", "--set", "tasks[2]=1"],
            1,
            "there is no `tasks[2]`: the list has 2 elements",
        ),
        (
            &["edit", "s.jsonc", "--set", "x=1", "--add", "tasks=1"],
            1,
            "`tasks` is a list, not a number",
        ),
        (&["edit", "s.jsonc", "--set", "x=1", "--delete", "y"], 1, "there is no `y` to delete"),
        (
            &["edit", "s.jsonc", "--set", "x=1", "--require", "editor.tabs=5"],
            1,
            "`editor.tabs` is 4, not 5",
        ),
        (&["edit", "bad.json", "--set", "a=2"], 1, "bad.json:3:"),
        (&["show", "none.json"], 1, "there is no none.json"),
        (&["show", "empty.json"], 1, "empty.json: it is empty"),
        (&["show", "s.jsonc", "editor.x"], 1, "s.jsonc: there is no `editor.x`"),
        (&["lock", "s.jsonc", "--json", "--", "true"], 2, "leave out --json"),
        (&["lock", "s.jsonc"], 2, "required"),
    ];
    for (arguments, code, why) in table {
        world.fails(&[&["file"], arguments].concat(), code, why);
        assert_eq!(text(&world), SETTINGS, "{arguments:?}");
    }
}

/// A command under the lock of `s.jsonc` that is at work.
fn locked(world: &World, script: &str) -> Running {
    let script = format!("echo $$; {script}");
    let mut run = world.start(&["file", "lock", "s.jsonc", "--", "sh", "-c", &script]);
    next_line(&mut run.stdout).parse::<u32>().unwrap();
    run
}

fn edit_is_refused(world: &World) {
    let edit = ["file", "edit", "s.jsonc", "--set", "x=1", "--timeout", "20ms"];
    world.fails(&edit, 1, "s.jsonc.lock is held by process");
}

#[test]
fn a_command_runs_under_the_lock() {
    let world = world();
    let run = world.run(&["file", "lock", "s.jsonc", "--", "sh", "-c", "ls s.jsonc.lock; exit 7"]);
    assert_eq!(
        (run.code, run.stdout.as_str(), run.stderr.as_str()),
        (Some(7), "s.jsonc.lock\n", "")
    );
    assert!(!world.path("s.jsonc.lock").exists());
    // It runs until a line comes to its fifo.
    nix::unistd::mkfifo(&world.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = locked(&world, "read line < go");
    edit_is_refused(&world);
    assert_eq!(text(&world), SETTINGS);
    std::fs::write(world.path("go"), "go\n").unwrap();
    assert_eq!(run.end().code, Some(0));
    world.ok(&["file", "edit", "s.jsonc", "--set", "x=1", "--timeout", "20ms"]);
    let missing = world.run(&["file", "lock", "s.jsonc", "--", "./no-such-command"]);
    assert_eq!(missing.code, Some(127));
    assert!(
        missing.stderr.starts_with("commonhold: cannot run ./no-such-command: "),
        "{missing:?}"
    );
    assert!(!world.path("s.jsonc.lock").exists());
}

#[test]
fn signals_are_passed_on() {
    let world = world();
    let script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let mut run = locked(&world, script);
    assert_eq!(next_line(&mut run.stdout), "ready");
    run.signal(Signal::SIGTERM);
    let ended = run.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(9), "got it\n"));
    // A command that a signal ends: as a shell tells it.
    let killed = world.run(&["file", "lock", "s.jsonc", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(killed.code, Some(137));
}

#[test]
fn the_lock_outlives_a_killed_wrapper_as_long_as_the_command() {
    let world = world();
    nix::unistd::mkfifo(&world.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = locked(&world, "read line < go; echo done");
    run.signal(Signal::SIGKILL);
    // The command still has it.
    edit_is_refused(&world);
    std::fs::write(world.path("go"), "go\n").unwrap();
    // Its end is that of its stdout.
    let ended = run.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (None, "done\n"));
    world.ok(&["file", "edit", "s.jsonc", "--set", "x=1"]);
    assert!(!world.path("s.jsonc.lock").exists());
}
