//! The human concept map over HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod served;

use std::path::Path;

use commonhold::file::SharedFile;
use commonhold_server::AppOptions;
use serde_json::json;
use served::{Served, config};

const HUMAN: &str = "/v1/concepts/human";

fn served(map: &Path) -> Served {
    let options = AppOptions {
        human_map: Some(map.to_owned()),
        room_wait: std::time::Duration::from_millis(200),
        ..AppOptions::default()
    };
    Served::of(config(), options)
}

#[test]
fn concepts_are_learned_by_many_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("human.jsonc");
    std::fs::write(&map, "// kept\n{\"concepts\": []}\n").unwrap();
    let options = AppOptions { human_map: Some(map.clone()), ..AppOptions::default() };
    let served = Served::of(config(), options);
    std::thread::scope(|scope| {
        for client in 0..8 {
            let served = &served;
            scope.spawn(move || {
                for n in 0..5 {
                    let body = json!({"name": format!("c{client} {n}"), "level": 0.5});
                    let answer = served.send("POST", HUMAN, &body.to_string());
                    assert_eq!(answer.status, 200, "{}", answer.text);
                }
            });
        }
    });
    let value = SharedFile::new(&map).read().unwrap().unwrap();
    assert_eq!(value["concepts"].as_array().unwrap().len(), 40);
    assert!(std::fs::read_to_string(&map).unwrap().starts_with("// kept\n"));
    let body =
        r#"{"name":"c0 0","level":1,"confidence":0.5,"description":"d","learned_by":"maria"}"#;
    let learned = served.send("POST", HUMAN, body).json();
    assert_eq!((&learned["description"], &learned["learned_by"]), (&json!("d"), &json!("maria")));
    assert!((learned["level"].as_f64().unwrap() - 2.0 / 3.0).abs() < 0.001, "{learned}");
}

#[test]
fn what_cannot_be_learned_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("human.jsonc");
    let daemon = served(&map);
    let ask = |body: &str| daemon.send("POST", HUMAN, body);
    ask(r#"{"name":"n","level":1.5}"#).problem(422, Some("/level"));
    ask(r#"{"name":"n","confidence":-1}"#).problem(422, Some("/confidence"));
    ask(r#"{"name":""}"#).problem(422, Some("/name"));
    ask(r#"{"level":1}"#).problem(422, Some(""));
    ask(r#"{"name":"n","levell":1}"#).problem(422, Some("/levell"));
    ask("{").problem(400, None);
    assert!(!map.exists());
    for text in ["[]", "{\"concepts\": ["] {
        std::fs::write(&map, text).unwrap();
        ask(r#"{"name":"n"}"#).problem(409, None);
        assert_eq!(std::fs::read_to_string(&map).unwrap(), text);
    }
    std::fs::write(&map, "{}").unwrap();
    let held = SharedFile::new(&map).lock().unwrap();
    let busy = ask(r#"{"name":"n"}"#);
    busy.problem(503, None);
    assert_eq!(busy.header("retry-after"), "1");
    drop(held);
    assert_eq!(ask(r#"{"name":"n"}"#).status, 200);
    let without = Served::new().send("POST", HUMAN, r#"{"name":"n"}"#);
    assert!(without.problem(404, None).contains("--human-map"));
}
