//! The file as a user sees it.

use std::path::PathBuf;

use serde_json::json;

use crate::SharedFile;

fn with_text(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.jsonc");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn what_was_not_changed_keeps_its_form() {
    let (_folder, path) =
        with_text("{\n  // how often\n  \"n\": 1.50,   \"list\": [1, 2, /* two */ 3],\n}\n");
    let file = SharedFile::new(&path);
    let done = file.update(|value| {
        value["m"] = json!(true);
        value["list"][0] = json!("one");
        Ok::<_, std::convert::Infallible>(())
    });
    assert!(done.unwrap().written);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "{\n  // how often\n  \"n\": 1.50,   \"list\": [\"one\", 2, /* two */ 3],\n  \"m\": true,\n}\n"
    );
    let names: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let backup = std::fs::read_to_string(path.with_extension("jsonc.bak")).unwrap();
    assert!(backup.contains("\"list\": [1, 2, /* two */ 3],\n}"), "{backup}");
}
