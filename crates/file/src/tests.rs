//! The file as a user sees it.

use std::convert::Infallible;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{FileError, LockError, Merge, Patience, Policy, SharedFile, UpdateError, Updated};

mod concurrent;
mod others;
mod rights;

struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let place = Self::empty();
        std::fs::write(&place.path, text).unwrap();
        place
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.jsonc");
        Self { folder, path }
    }

    fn file(&self) -> SharedFile {
        SharedFile::new(&self.path).patience(Patience::new().retries(3))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    fn backup(&self) -> String {
        std::fs::read_to_string(self.path.with_extension("jsonc.bak")).unwrap()
    }

    /// What is in the folder but the file.
    fn others(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != "settings.jsonc").collect();
        names.sort();
        names
    }
}

fn set(file: &SharedFile, name: &str, value: Value) -> Updated<()> {
    try_set(file, name, value).unwrap()
}

fn try_set(file: &SharedFile, name: &str, value: Value) -> Result<Updated<()>, FileError> {
    let done = file.update(|all| {
        all[name] = value;
        Ok::<_, Infallible>(())
    });
    done.map_err(file_error)
}

fn file_error(error: UpdateError<Infallible>) -> FileError {
    match error {
        UpdateError::File(error) => error,
        UpdateError::Refused(never) => match never {},
    }
}

#[test]
fn what_was_not_changed_keeps_its_form() {
    let place =
        Place::new("{\n  // how often\n  \"n\": 1.50,   \"list\": [1, 2, /* two */ 3],\n}\n");
    let done = place.file().update(|value| {
        value["m"] = json!(true);
        value["list"][0] = json!("one");
        Ok::<_, Infallible>(())
    });
    assert!(done.unwrap().written);
    let made = "{\n  // how often\n  \"n\": 1.50,   \"list\": [\"one\", 2, /* two */ 3],\n  \"m\": true,\n}\n";
    assert_eq!(place.text(), made);
    assert_eq!(place.others(), ["settings.jsonc.bak"]);
    assert!(place.backup().contains("[1, 2, /* two */ 3]"));
}

#[test]
fn a_file_that_is_not_there_is_made_once() {
    let place = Place::empty();
    assert_eq!(place.file().read().unwrap(), None);
    assert_eq!(place.others(), [""; 0]);
    set(&place.file(), "a", json!(1));
    assert_eq!(place.text(), "{\n  \"a\": 1\n}\n");
    assert_eq!(place.others(), [""; 0]);
}

#[test]
fn who_changes_nothing_writes_nothing_and_who_is_refused_neither() {
    let place = Place::new("{\"a\":1}");
    let before = std::fs::metadata(&place.path).unwrap();
    assert!(!set(&place.file(), "a", json!(1)).written);
    let refused = place.file().update(|all| {
        all["a"] = json!(2);
        Err::<(), _>("no")
    });
    assert!(matches!(refused, Err(UpdateError::Refused("no"))));
    let after = std::fs::metadata(&place.path).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    assert_eq!(place.others(), [""; 0]);
}

#[test]
fn a_backup_that_cannot_be_written_harms_nobody() {
    let place = Place::new("{}");
    std::fs::create_dir(place.path.with_extension("jsonc.bak")).unwrap();
    set(&place.file(), "a", json!(1));
    assert_eq!(place.others(), ["settings.jsonc.bak"]);
}

#[test]
fn what_is_not_valid_is_never_overwritten() {
    let place = Place::new("{\"a\": 1}");
    set(&place.file(), "a", json!(2));
    let broken = "{\n  \"a\": 2,,\n}";
    std::fs::write(&place.path, broken).unwrap();
    let text = try_set(&place.file(), "b", json!(1)).unwrap_err().to_string();
    let path = place.path.display();
    assert!(text.starts_with(&format!("{path}:2:10: ")), "{text}");
    assert!(text.ends_with(&format!("{path}.bak")), "{text}");
    assert!(place.file().read().is_err());
    assert_eq!(place.text(), broken);
    assert_eq!(place.backup(), "{\"a\": 1}");
}

#[test]
fn mark_and_line_ends_and_mode_stay() {
    let place = Place::new("\u{feff}{\r\n    \"a\": 1\r\n}\r\n");
    std::fs::set_permissions(&place.path, PermissionsExt::from_mode(0o640)).unwrap();
    set(&place.file(), "b", json!([]));
    assert_eq!(place.text(), "\u{feff}{\r\n    \"a\": 1,\r\n    \"b\": []\r\n}\r\n");
    assert_eq!(std::fs::metadata(&place.path).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn a_symbolic_link_stays_and_what_it_leads_to_is_changed() {
    let place = Place::new("{}");
    let elsewhere = tempfile::tempdir().unwrap();
    let (first, second) = (elsewhere.path().join("first"), elsewhere.path().join("second"));
    std::os::unix::fs::symlink(&place.path, &first).unwrap();
    std::os::unix::fs::symlink("first", &second).unwrap();
    set(&SharedFile::new(&second), "a", json!(1));
    assert!(second.is_symlink() && first.is_symlink());
    assert!(place.text().contains("\"a\""));
    // The lock is beside the file, so that all who name it differently meet.
    let lock = SharedFile::new(&second).lock().unwrap();
    assert_eq!(lock.path(), place.path.canonicalize().unwrap().with_extension("jsonc.lock"));
    let third = elsewhere.path().join("third");
    std::os::unix::fs::symlink("not-there-yet", &third).unwrap();
    set(&SharedFile::new(&third), "a", json!(1));
    assert!(third.is_symlink() && elsewhere.path().join("not-there-yet").is_file());
}

#[test]
fn a_loop_of_links_a_folder_a_pipe_and_no_folder_are_refused() {
    let place = Place::empty();
    let refused = |path: &Path, why: &str| {
        let text = try_set(&SharedFile::new(path), "a", json!(1)).unwrap_err().to_string();
        assert!(text.contains(why) && !text.contains('\n'), "{text}");
        let text = SharedFile::new(path).read().unwrap_err().to_string();
        assert!(text.contains(why), "{text}");
    };
    std::os::unix::fs::symlink("settings.jsonc", &place.path).unwrap();
    refused(&place.path, "loop of symbolic links");
    std::fs::remove_file(&place.path).unwrap();
    std::fs::create_dir(&place.path).unwrap();
    refused(&place.path, "a folder");
    std::fs::remove_dir(&place.path).unwrap();
    nix::unistd::mkfifo(&place.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&place.path, "not a regular file");
    refused(Path::new("/dev/null"), "not a regular file");
    refused(&place.folder.path().join("nowhere").join("x.json"), "open the folder of");
    refused(Path::new("/"), "a folder");
    assert_eq!(place.others(), [""; 0]);
}

#[test]
fn of_a_file_with_two_names_the_other_keeps_the_old_text() {
    let place = Place::new("{}");
    let other = place.folder.path().join("other");
    std::fs::hard_link(&place.path, &other).unwrap();
    set(&place.file(), "a", json!(1));
    assert_eq!(std::fs::read_to_string(other).unwrap(), "{}");
    assert!(place.text().contains("\"a\""));
}

#[test]
fn a_large_file_is_changed_or_refused_with_its_size() {
    const BYTES: usize = 100 << 20;
    let part = "x".repeat(1 << 20);
    let mut text = String::from("{\n  // large\n  \"parts\": [\n");
    while text.len() < BYTES {
        text.push_str(&format!("    \"{part}\",\n"));
    }
    text.push_str("  ],\n  \"n\": 1\n}\n");
    let place = Place::new(&text);
    let refused = try_set(&place.file(), "n", json!(2)).unwrap_err();
    assert!(matches!(refused, FileError::TooLarge { bytes, .. } if bytes == text.len() as u64));
    set(&place.file().bytes_max(1 << 30), "n", json!(2));
    assert!(place.text() == text.replace("\"n\": 1", "\"n\": 2"));
}

#[test]
fn a_lock_that_is_held_is_an_error_that_names_the_holder() {
    let place = Place::new("{}");
    let lock = place.file().lock().unwrap();
    let error = try_set(&place.file(), "a", json!(1)).unwrap_err();
    assert!(matches!(error, FileError::Lock(LockError::Held { tries: 3, .. })), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(place.file().read().unwrap(), Some(json!({})), "reading needs no lock");
    drop(lock);
    set(&place.file(), "a", json!(1));
}

#[test]
fn a_lock_that_was_removed_by_hand_stops_the_update() {
    let place = Place::new("{}");
    let done = place.file().update(|all| {
        all["a"] = json!(1);
        std::fs::remove_file(place.path.with_extension("jsonc.lock")).map_err(|e| e.to_string())
    });
    assert!(matches!(done, Err(UpdateError::File(FileError::Lock(LockError::Lost { .. })))));
    assert_eq!(place.text(), "{}");
    assert_eq!(place.others(), [""; 0]);
}

/// Changes the file under the updater's hands, as a program without the lock would.
fn meanwhile(place: &Place, merge: Merge, other: impl Fn()) -> Updated<()> {
    let done = place.file().merge(merge).update(|all| {
        all["ours"] = json!(1);
        all["both"] = json!("ours");
        other();
        Ok::<_, Infallible>(())
    });
    done.unwrap()
}

#[test]
fn the_change_of_a_program_without_the_lock_is_merged() {
    let theirs = "{\n  // theirs\n  \"kept\": 0, \"theirs\": 2, \"both\": \"theirs\"\n}\n";
    for in_place in [true, false] {
        for (merge, both) in
            [(Merge::new(), "ours"), (Merge::new().at("both", Policy::Theirs), "theirs")]
        {
            let place = Place::new("{\"kept\": 0, \"gone\": 1, \"both\": \"\"}");
            let done = meanwhile(&place, merge, || {
                let temporary = place.folder.path().join("theirs");
                let to = if in_place { &place.path } else { &temporary };
                std::fs::write(to, theirs).unwrap();
                if !in_place {
                    std::fs::rename(&temporary, &place.path).unwrap();
                }
            });
            assert_eq!(done.merges, 1);
            let all = json!({"kept": 0, "theirs": 2, "both": both, "ours": 1});
            assert_eq!(place.file().read().unwrap(), Some(all));
            assert!(place.text().contains("// theirs"));
            assert_eq!(place.others(), ["settings.jsonc.bak"]);
        }
    }
}

#[test]
fn who_makes_or_removes_the_file_meanwhile_is_merged_too() {
    let place = Place::empty();
    let done =
        meanwhile(&place, Merge::new(), || std::fs::write(&place.path, "{\"theirs\":2}").unwrap());
    assert_eq!(done.merges, 1);
    assert_eq!(place.text(), "{\"theirs\":2,\"ours\":1,\"both\":\"ours\"}");
    meanwhile(&place, Merge::new(), || std::fs::remove_file(&place.path).unwrap());
}
