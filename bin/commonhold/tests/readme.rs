//! What the README says of PostgreSQL, done as it stands there: every command succeeds, and prints the lines that stand
//! behind it as comments.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{World, ran};
use commonhold_testing::postgres::Database;

/// What the README calls its store.
const STORE: &str = "postgres://app@db.example/shop";

/// The commands of a block, each with the lines that it prints.
fn commands(block: &str) -> Vec<(&str, Vec<&str>)> {
    let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("# ") {
            Some(answer) => commands.last_mut().unwrap().1.push(answer),
            None => commands.push((line, Vec::new())),
        }
    }
    commands
}

/// A shell in `world` that has the programs of this repository.
fn shell(world: &World, command: &str, store: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_commonhold")).parent().unwrap();
    let mut path = vec![PathBuf::from(program)];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(world.path(""));
    shell.env("PATH", std::env::join_paths(path).unwrap());
    shell.env("COMMONHOLD_SEGMENT", world.segment()).env("COMMONHOLD_STORE", store);
    shell
}

#[test]
fn the_queries_of_the_readme_give_the_stated_answers() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(repository.join("README.md")).unwrap();
    let mut blocks = readme.split("```sh\n").skip(1).map(|b| b.split("```").next().unwrap());
    let block = blocks.find(|block| block.contains("\npsql ")).unwrap();
    let (world, database) = (World::new(), Database::new());
    let scripts = repository.join("scripts").canonicalize().unwrap();
    std::os::unix::fs::symlink(scripts, world.path("scripts")).unwrap();
    let url = database.url();
    let shown = commonhold::store::normalise(&url).unwrap();
    let mut answered = 0;
    for (command, answer) in commands(block) {
        let ran = ran(shell(&world, command, &url));
        assert!(ran.code == Some(0) && ran.stderr.is_empty(), "{command}: {ran:?}");
        if !answer.is_empty() {
            let printed = ran.stdout.replace(&shown, STORE);
            assert_eq!(printed.lines().collect::<Vec<_>>(), answer, "{command}");
            answered += 1;
        }
    }
    assert!(answered >= 5, "{answered} answers are stated");
}
