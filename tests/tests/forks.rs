//! Forks without exec.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use commonhold::WriterId;
use commonhold_tests::{FULL, LATEST, judge, stage};

fn child_is_a_participant(way: &str) {
    let stage = stage!();
    let runtime = stage.open();
    let mut role = stage.role("fork", &[way]);
    let mut said: Vec<(String, WriterId, u64)> = Vec::new();
    for line in role.rest().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        said.push((words[0].to_owned(), words[1].parse().unwrap(), words[2].parse().unwrap()));
    }
    role.end_well();
    said.sort();
    let names: Vec<&str> = said.iter().map(|s| s.0.as_str()).collect();
    assert_eq!(names, ["child", "parent"]);
    assert_ne!(said[0].1, said[1].1, "two participants");
    judge::settle(&stage, &runtime);
    let writers = judge::writers(&stage);
    for (name, writer, commits) in &said {
        assert_eq!(writers.get(writer), Some(commits), "{name}");
    }
    let commits: u64 = said.iter().map(|s| s.2).sum();
    let (_, n, version, _) = judge::memory(&runtime, FULL).remove("forked").unwrap();
    // The first commit inserted, all others added one.
    assert_eq!((n as u64, version), (commits - 1, commits));
}

#[test]
fn a_child_that_uses_its_parents_table_commits_as_itself() {
    child_is_a_participant("table");
}

#[test]
fn a_child_forked_inside_a_closure_commits_as_itself() {
    child_is_a_participant("closure");
}

#[test]
fn a_child_opens_tables_of_its_own_from_the_inherited_runtime() {
    child_is_a_participant("anew");
}

#[test]
fn a_killed_parent_is_reaped_while_its_child_lives() {
    for _ in 0..10 {
        let stage = stage!();
        let runtime = stage.open();
        let mut role = stage.role("orphan", &[]);
        let entry: u16 = role.hear("forked").parse().unwrap();
        let parent = role.id();
        let there = |pid| runtime.space().participants().iter().any(|p| p.identity.pid == pid);
        assert!(there(parent));
        // The child keeps what it inherited open until it is told to go on.
        role.kill();
        let swept = runtime.sweep().unwrap();
        assert!(!there(parent), "entry {entry} is left: {swept:?}");
        let owned = runtime.space().figures(1).unwrap().cells.owned;
        assert_eq!(owned, 0, "the dead one's spare cell was freed");
        role.tell("go on");
        assert_eq!(role.hear("done"), "");
        judge::settle(&stage, &runtime);
        let (_, n, version, _) = judge::memory(&runtime, LATEST).remove("forked").unwrap();
        assert_eq!((n, version), (204, 205));
    }
}
