//! Maps in files: many personas, none; what others do to the file meanwhile.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Duration;

use commonhold_file::{FileError, LockError, Patience, SharedFile};
use serde_json::json;

use crate::concepts::{
    ConceptError, ConceptMap, HumanMap, Learned, MAX_RETRIES, MapError, SystemMap,
};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("human.jsonc");
    (folder, path)
}

/// What is in the folder, but for the backup.
fn left(folder: &tempfile::TempDir) -> Vec<String> {
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "human.jsonc.bak").collect()
}

#[test]
fn personas_learn_at_once_and_nothing_is_lost() {
    let (folder, path) = folder();
    std::fs::write(&path, "// what we know\n{\n  \"concepts\": [],\n  \"kept\": 1.50\n}\n")
        .unwrap();
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for persona in 0..8 {
            let (path, start) = (&path, &start);
            scope.spawn(move || {
                let map = HumanMap::open(path).persona(format!("p{persona}"));
                start.wait();
                for n in 0..10 {
                    map.learn(&Learned::new(format!("own {persona} {n}")).level(0.5)).unwrap();
                    map.learn(&Learned::new("common").field(format!("p{persona} {n}"), n)).unwrap();
                }
            });
        }
    });
    let map = HumanMap::open(&path).read().unwrap();
    assert_eq!((map.len(), map.get("common").unwrap().rest.len()), (81, 80));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("// what we know\n{") && text.ends_with("\"kept\": 1.50\n}\n"),
        "{text}"
    );
    assert_eq!(left(&folder), ["human.jsonc"]);
}

#[test]
fn what_a_program_without_the_lock_learned_is_merged() {
    let (_folder, path) = folder();
    let map = HumanMap::open(&path).persona("us");
    map.learn(&Learned::new("n").level(0.2)).unwrap();
    let mut first = true;
    let done = map.update_human_concept_map(
        |concepts| {
            if std::mem::take(&mut first) {
                // Theirs has a comment as well.
                let theirs = "{ /* theirs */ \"concepts\": [{\"name\": \"m\", \"level\": 0.7}] }";
                std::fs::write(&path, theirs).unwrap();
            }
            concepts.learn(&Learned::new("k").level(0.9))
        },
        MAX_RETRIES,
    );
    let done = done.unwrap();
    assert_eq!((done.merges, done.written, done.result.level), (1, true, Some(0.9)));
    let names = map.read().unwrap().concepts().into_iter().map(|c| c.name);
    assert_eq!(names.collect::<Vec<_>>(), ["m", "n", "k"]);
    assert!(std::fs::read_to_string(&path).unwrap().contains("/* theirs */"));
}

#[test]
fn comments_and_unknown_fields_survive_learning() {
    let (_folder, path) = folder();
    let before = "{\n  \"concepts\": [\n    // the first\n    {\n      \"name\": \"n\", // why\n      \"level\": 0.50,\n      \"mine\": [1, 2], // odd\n    },\n  ],\n}\n";
    std::fs::write(&path, before).unwrap();
    let told = HumanMap::open(&path).learn(&Learned::new("n").description("d")).unwrap();
    assert_eq!((told.result.level, told.result.rest["mine"].clone()), (Some(0.5), json!([1, 2])));
    let after = std::fs::read_to_string(&path).unwrap();
    for kept in ["// the first\n", "// why\n", "\"level\": 0.50,", "\"mine\": [1, 2], // odd\n"] {
        assert!(after.contains(kept), "{after}");
    }
    // What teaches nothing new is not written.
    let map = HumanMap::open(&path);
    let done = map.update_human_concept_map(|_| Ok::<_, Infallible>(7), 0).unwrap();
    assert_eq!((done.result, done.written), (7, false));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
}

#[test]
fn a_lock_that_is_not_to_be_had_is_an_error() {
    let (_folder, path) = folder();
    let held = SharedFile::new(&path).lock().unwrap();
    let map = HumanMap::open(&path).patience(Patience::new().limit(Duration::from_millis(1)));
    let mut calls = 0;
    let updater = |_: &mut ConceptMap| {
        calls += 1;
        Ok::<_, Infallible>(())
    };
    let error = map.update_human_concept_map(updater, 2).unwrap_err();
    let is_held = matches!(error, MapError::File(FileError::Lock(LockError::Held { .. })));
    assert!(is_held && calls == 0, "{error}");
    drop(held);
    assert!(map.learn(&Learned::new("n")).unwrap().written);
}

#[test]
fn what_passes_is_tried_again_so_often() {
    let (folder, path) = folder();
    let map = HumanMap::open(&path);
    for (losses, retries, succeeds) in [(2, 2, true), (3, 2, false), (1, 0, false)] {
        let mut calls = 0;
        let updater = |map: &mut ConceptMap| {
            calls += 1;
            if calls <= losses {
                // Somebody removes the lock by hand.
                std::fs::remove_file(folder.path().join("human.jsonc.lock")).unwrap();
            }
            map.learn(&Learned::new(format!("n{losses}")))
        };
        let done = map.update_human_concept_map(updater, retries);
        assert_eq!(calls, (retries + 1).min(losses + 1));
        match done {
            Ok(done) => assert!(succeeds && done.written),
            Err(MapError::File(FileError::Lock(LockError::Lost { .. }))) => assert!(!succeeds),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(map.read().unwrap().len(), 1, "what was refused was not learned");
}

#[test]
fn what_is_refused_or_no_map_leaves_the_file() {
    let (_folder, path) = folder();
    let map = HumanMap::open(&path);
    let refused = map.learn(&Learned::new("n").level(2.0)).unwrap_err();
    assert!(matches!(refused, MapError::Refused(ConceptError::Range { .. })), "{refused}");
    assert!(!path.exists());
    for text in ["[]", "{\"concepts\": {}}"] {
        std::fs::write(&path, text).unwrap();
        let error = map.learn(&Learned::new("n")).unwrap_err();
        assert!(error.to_string().ends_with("; it was left as it is"), "{error}");
        assert!(matches!(map.read().unwrap_err(), MapError::Shape { .. }));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    std::fs::write(&path, "{\"concepts\": [").unwrap();
    let error = map.learn(&Learned::new("n")).unwrap_err();
    assert!(error.to_string().contains("human.jsonc:1:15: "), "{error}");
}

#[test]
fn a_system_map_takes_no_lock() {
    let (folder, path) = folder();
    let mut map = SystemMap::open(&path, "system");
    assert!(map.read().unwrap().is_empty());
    let held = SharedFile::new(&path).lock().unwrap();
    assert_eq!(map.learn(&Learned::new("n").level(0.5)).unwrap().result.level, Some(0.5));
    let done = map.update_system_concept_map(|map| map.learn(&Learned::new("m"))).unwrap();
    assert_eq!(done.result.learned_by.as_deref(), Some("system"));
    assert_eq!(map.read().unwrap().len(), 2);
    drop(held);
    assert_eq!(left(&folder), ["human.jsonc"]);
    let refused = map.update_system_concept_map(|_| Err::<(), _>("no")).unwrap_err();
    assert_eq!(refused.to_string(), "no");
}
