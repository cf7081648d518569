//! What programs without the lock do to a file while it is changed.

use std::cell::Cell;
use std::rc::Rc;

use crate::shared::Meanwhile;

use super::*;

/// Adds 1 to `ours`; what it gave.
fn count(file: &SharedFile) -> Result<Updated<()>, FileError> {
    let done = file.update(|all| {
        all["ours"] = json!(all["ours"].as_u64().unwrap_or(0) + 1);
        Ok::<_, Infallible>(())
    });
    done.map_err(file_error)
}

/// Another program that adds a name of its own to what it reads, in a new file with the old one's name.
fn renames(path: &Path, number: u64) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut all: Value = serde_json::from_str(&text).unwrap();
    all[format!("theirs {number}")] = json!(number);
    let temporary = path.with_extension("theirs");
    std::fs::write(&temporary, all.to_string()).unwrap();
    std::fs::rename(&temporary, path).unwrap();
}

/// So many changes of another program, each right before an exchange; how many were made.
fn races(place: &Place, most: u64) -> (Meanwhile, Rc<Cell<u64>>) {
    let (path, made) = (place.path.clone(), Rc::new(Cell::new(0)));
    let counter = Rc::clone(&made);
    let other = move || {
        if counter.get() < most {
            counter.set(counter.get() + 1);
            renames(&path, counter.get());
        }
    };
    (Meanwhile::new(other), made)
}

#[test]
fn each_change_of_the_last_moment_is_merged_once() {
    for most in [1, 2, 3, 10, 15] {
        let place = Place::new("{\"ours\": 0}");
        let (_meanwhile, made) = races(&place, most);
        let done = count(&place.file()).unwrap();
        assert_eq!((u64::from(done.merges), made.get()), (most, most));
        let all = place.file().read().unwrap().unwrap();
        assert_eq!(all["ours"], json!(1), "{most}: {all}");
        assert!((1..=most).all(|n| all[format!("theirs {n}")] == json!(n)), "{most}: {all}");
        assert_eq!(place.others(), ["settings.jsonc.bak"]);
    }
}

#[test]
fn each_version_is_merged_against_the_one_that_it_was_made_of() {
    let place = Place::new("{\"ours\": 0}");
    let (path, mut times) = (place.path.clone(), 0);
    let _meanwhile = Meanwhile::new(move || {
        times += 1;
        if times <= 2 {
            let ours = serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
            let ours = ours["ours"].as_u64().unwrap() + 10;
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, json!({"ours": ours}).to_string()).unwrap();
        }
    });
    assert_eq!(count(&place.file()).unwrap().merges, 2);
    // His first was made of the same version as ours, and ours counts; his second was made of ours.
    assert_eq!(place.file().read().unwrap(), Some(json!({"ours": 11})));
}

#[test]
fn who_never_lets_us_is_told_where_everything_is() {
    let place = Place::new("{\"ours\": 0}");
    let (_meanwhile, _) = races(&place, u64::MAX);
    let error = count(&place.file()).unwrap_err();
    let FileError::Unmerged { theirs, .. } = &error else { panic!("{error}") };
    // Ours is in the file, once; their last change is where the error says, and all others are in the file.
    let all = place.file().read().unwrap().unwrap();
    assert_eq!(all["ours"], json!(1));
    assert!((1..16).all(|n| all[format!("theirs {n}")] == json!(n)), "{all}");
    let theirs: Value = serde_json::from_slice(&std::fs::read(theirs).unwrap()).unwrap();
    assert_eq!(theirs["theirs 16"], json!(16));
}

#[test]
fn what_was_in_the_place_of_ours_is_where_the_error_says() {
    let place = Place::new("{\"ours\": 0}");
    let (path, mut times) = (place.path.clone(), 0);
    let _meanwhile = Meanwhile::new(move || {
        times += 1;
        if times == 1 {
            return renames(&path, 1);
        }
        // In the next round there is nothing that could be merged.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
    });
    let error = count(&place.file()).unwrap_err();
    let FileError::Unmerged { theirs, .. } = &error else { panic!("{error}") };
    // What was merged is in the file, and what was in its place is where the error says.
    assert!(theirs.is_dir(), "{error}");
    assert_eq!(place.file().read().unwrap(), Some(json!({"ours": 1, "theirs 1": 1})));
}

#[test]
fn a_change_of_the_last_moment_is_merged_where_there_can_be_no_backup() {
    let place = Place::new("{\"ours\": 0}");
    std::fs::create_dir(place.path.with_extension("jsonc.bak")).unwrap();
    let (_meanwhile, _) = races(&place, 2);
    assert_eq!(count(&place.file()).unwrap().merges, 2);
    let all = json!({"ours": 1, "theirs 1": 1, "theirs 2": 2});
    assert_eq!(place.file().read().unwrap(), Some(all));
    assert_eq!(place.others(), ["settings.jsonc.bak"]);
}

#[test]
fn what_is_changed_before_each_look_is_given_up_and_nothing_written() {
    let place = Place::new("{\"n\": 0}");
    let (path, mut times) = (place.path.clone(), 0);
    let _meanwhile = Meanwhile::looked(move || {
        times += 1;
        renames(&path, times);
    });
    let error = count(&place.file()).unwrap_err();
    assert!(matches!(error, FileError::Contended { times: 16, .. }), "{error}");
    let all = place.file().read().unwrap().unwrap();
    assert_eq!((all.get("ours"), &all["theirs 16"]), (None, &json!(16)));
    assert_eq!(place.others(), [""; 0]);
}

#[test]
fn garbage_of_the_last_moment_is_the_backup() {
    let place = Place::new("{\"ours\": 0}");
    let (path, mut times) = (place.path.clone(), 0);
    let _meanwhile = Meanwhile::new(move || {
        times += 1;
        if times == 1 {
            std::fs::write(&path, "{half of").unwrap();
        }
    });
    for alone in [false, true] {
        let done = if alone { alone_count(&place.file()) } else { count(&place.file()) };
        assert!(done.unwrap().written);
    }
    assert_eq!(place.file().read().unwrap(), Some(json!({"ours": 2})));
}

fn alone_count(file: &SharedFile) -> Result<Updated<()>, FileError> {
    let done = file.update_alone(|all| {
        all["ours"] = json!(all["ours"].as_u64().unwrap_or(0) + 1);
        Ok::<_, Infallible>(())
    });
    done.map_err(file_error)
}

#[test]
fn a_file_that_goes_at_the_last_moment_is_made_again_with_its_rights() {
    let place = Place::new("{\"ours\": 0}");
    std::fs::set_permissions(&place.path, PermissionsExt::from_mode(0o600)).unwrap();
    let path = place.path.clone();
    let meanwhile = Meanwhile::new(move || std::fs::remove_file(&path).unwrap());
    count(&place.file()).unwrap();
    alone_count(&place.file()).unwrap();
    drop(meanwhile);
    place
        .file()
        .update(|all| {
            all["ours"] = json!(3);
            std::fs::remove_file(&place.path)
        })
        .unwrap();
    assert_eq!(place.file().read().unwrap(), Some(json!({"ours": 3})));
    assert_eq!(std::fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_is_being_written_is_waited_for_however_it_begins() {
    for (half, rest) in [
        ("// ours\n{\"a\": [1, 2,", " 3]}"),
        ("\u{feff}{\"a\": [1, 2, 3", "]}"),
        ("{\"a\": [1, 2, 3]", "} // done"),
        ("", "{\"a\": [1, 2, 3]}"),
        ("{\"a\": [1, 2, 3], \"b\": nul", "l}"),
    ] {
        let place = Place::new(half);
        let (path, mut waits) = (place.path.clone(), 0);
        let _meanwhile = Meanwhile::torn(move || {
            waits += 1;
            if waits == 2 {
                let file = std::fs::OpenOptions::new().append(true).open(&path);
                std::io::Write::write_all(&mut file.unwrap(), rest.as_bytes()).unwrap();
            }
        });
        set(&place.file(), "ours", json!(1));
        assert_eq!(place.file().read().unwrap().unwrap()["a"], json!([1, 2, 3]));
    }
    // One that stays so is not valid, and says where it ends.
    let place = Place::new("// ours\n{\"a\": [1, 2,");
    let text = try_set(&place.file(), "ours", json!(1)).unwrap_err().to_string();
    assert!(text.contains(":2:13: "), "{text}");
}

#[test]
fn an_empty_file_with_a_backup_was_not_empty() {
    let place = Place::new("{}");
    set(&place.file(), "a", json!(1));
    std::fs::write(&place.path, " \n").unwrap();
    let error = try_set(&place.file(), "b", json!(1)).unwrap_err();
    assert!(matches!(error, FileError::Emptied { .. }), "{error}");
    assert_eq!((place.text().as_str(), place.backup().as_str()), (" \n", "{}"));
    std::fs::remove_file(place.path.with_extension("jsonc.bak")).unwrap();
    set(&place.file(), "b", json!(1));
    assert_eq!(place.file().read().unwrap(), Some(json!({"b": 1})));
}

#[test]
fn a_link_that_is_turned_while_the_lock_is_waited_for_is_followed_again() {
    let place = Place::new("{}");
    let [one, link] = ["one", "link"].map(|name| place.folder.path().join(name));
    std::fs::write(&one, "{}").unwrap();
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let lock = SharedFile::new(&one).lock().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| set(&SharedFile::new(&link), "a", json!(1)));
        let turned = place.folder.path().join("turned");
        std::os::unix::fs::symlink(&place.path, &turned).unwrap();
        std::fs::rename(&turned, &link).unwrap();
        drop(lock);
        waiting.join().unwrap();
    });
    // Whichever was first, the lock or the link: what the link leads to when the lock was taken.
    let texts = [std::fs::read_to_string(&one).unwrap(), place.text()];
    assert_eq!(texts.iter().filter(|text| text.contains("\"a\"")).count(), 1, "{texts:?}");
}
