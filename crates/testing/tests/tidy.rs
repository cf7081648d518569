//! This repository keeps its own rules. The rules are pure functions in `commonhold_testing::tidy`, tested there
//! against planted breaches; here each is applied to the tree.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use commonhold_testing::tidy::files::{TextFile, text_files};
use commonhold_testing::tidy::{layers, source};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// Folders of `crates` in which `unsafe` may stand.
const UNSAFE_CRATES: [&str; 6] = ["os", "segment", "torture", "bench", "testing", "proof"];
/// Folders of `crates` that forbid it in so many words.
const FORBIDDING_CRATES: [&str; 9] =
    ["core", "file", "store", "runtime", "workers", "systems", "commonhold", "derive", "server"];
const DOCUMENTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "RELIABILITY.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn tree() -> &'static [TextFile] {
    static TREE: OnceLock<Vec<TextFile>> = OnceLock::new();
    TREE.get_or_init(|| text_files(&root()).unwrap())
}

/// Source of the crates that users link.
fn library_source(file: &TextFile) -> bool {
    file.is_crate_source()
        && file
            .crate_folder()
            .is_some_and(|folder| !["testing", "bench", "proof"].contains(&folder))
}

/// Fails with every breach of `rule` in the files that `applies` to, of which there must be some.
fn check<I>(applies: impl Fn(&TextFile) -> bool, rule: impl Fn(&TextFile) -> I)
where
    I: IntoIterator<Item = source::Breach>,
{
    let files: Vec<&TextFile> = tree().iter().filter(|file| applies(file)).collect();
    assert!(!files.is_empty(), "the rule applies to no file");
    let mut broken = Vec::new();
    for file in files {
        broken.extend(
            rule(file).into_iter().map(|(line, what)| format!("{}:{line}: {what}", file.path)),
        );
    }
    assert!(broken.is_empty(), "{} breaches:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn dependencies_run_downward() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packages = layers::packages(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    let known = packages
        .iter()
        .any(|p| p.name == "commonhold-segment" && p.needs.contains(&"commonhold-os".to_owned()));
    assert!(known, "the graph lacks what is surely in it: {packages:?}");
    let broken = layers::upward(&packages);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    check(TextFile::is_crate_source, |file| source::without_module_doc(&file.text));
}

#[test]
fn files_stay_readable_in_one_sitting() {
    check(library_source, |file| source::too_many_lines(&file.text, FILE_LINES_MAX));
}

#[test]
fn functions_stay_short() {
    check(library_source, |file| source::long_functions(&file.text, FUNCTION_LINES_MAX));
}

#[test]
fn crates_above_the_segment_forbid_unsafe() {
    let is_root = |file: &TextFile| {
        FORBIDDING_CRATES.iter().any(|folder| file.path == format!("crates/{folder}/src/lib.rs"))
    };
    assert_eq!(tree().iter().filter(|file| is_root(file)).count(), FORBIDDING_CRATES.len());
    check(is_root, |file| {
        let missing = !source::forbids_unsafe(&file.text);
        missing.then(|| (1, "no #![forbid(unsafe_code)]".to_owned()))
    });
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let elsewhere = |file: &TextFile| {
        let may = file.crate_folder().is_some_and(|folder| UNSAFE_CRATES.contains(&folder));
        file.is_rust() && !may && !file.path.starts_with("tests/")
    };
    check(elsewhere, |file| {
        let lines = source::unsafe_lines(&file.text);
        lines.into_iter().map(|line| (line, "unsafe outside the crates that may use it".to_owned()))
    });
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    check(TextFile::is_rust, |file| source::unsafe_without_reason(&file.text));
}

#[test]
fn the_core_takes_its_atomics_through_the_seam() {
    check(|file| file.path.starts_with("crates/core/src/"), |file| source::std_atomics(&file.text));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    check(|_| true, |file| source::machine_paths(&file.text));
}

#[test]
fn every_crate_keeps_the_lints_of_the_workspace() {
    // The fuzzers are a workspace of their own.
    let manifest =
        |file: &TextFile| file.path.ends_with("/Cargo.toml") && !file.path.starts_with("fuzz/");
    check(manifest, |file| {
        let kept = file.text.contains("[lints]\nworkspace = true\n");
        (!kept).then(|| (1, "no `[lints]` with `workspace = true`".to_owned()))
    });
}

#[test]
fn the_documents_are_there() {
    let missing: Vec<&str> = DOCUMENTS
        .into_iter()
        .filter(|name| {
            !tree().iter().any(|file| file.path == *name && !file.text.trim().is_empty())
        })
        .collect();
    assert_eq!(missing, [""; 0], "missing or empty at the root of the repository");
}
