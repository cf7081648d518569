//! The systems over HTTP: customers, resonance nodes, cascades.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod served;

use std::collections::BTreeSet;
use std::sync::Mutex;

use commonhold::prelude::*;
use commonhold_server::AppOptions;
use serde_json::json;
use served::Served;

const CUSTOMER: &str = "/v1/tables/customers/records/c-42";
const CAP: &str = "/v1/customers/cap-and-access";
const NODES: &str = "/v1/resonance/nodes";

#[test]
fn cap_and_access_change_together_when_the_query_holds() {
    let served = Served::new();
    let ask = |body: &str| served.send("POST", CAP, body);
    let updated = |body: &str| {
        let answer = ask(body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let (yes, no) = (json!({"updated": true}), json!({"updated": false}));
    assert_eq!(
        updated(r#"{"query":{"customer":"c-42"},"update":{"cap":5}}"#),
        no,
        "nobody is there"
    );
    let fields = r#"{"fields":{"cap":10,"used":0,"access_level":"basic"}}"#;
    assert_eq!(served.send("PUT", CUSTOMER, fields).status, 201);
    assert_eq!(updated(r#"{"query":{"customer":"c-42"},"update":{"cap":{"add":5}}}"#), yes);
    assert_eq!(updated(r#"{"query":{"customer":"c-42","cap":10},"update":{"cap":1}}"#), no);
    let both = r#"{"query":{"customer":"c-42","cap":15,"access_level":"basic"},"update":{"cap":{"set":20},"access_level":"gold"}}"#;
    assert_eq!(updated(both), yes);
    assert_eq!(updated(both), no);
    let now = served.get(CUSTOMER).json();
    assert_eq!(now["fields"], json!({"cap": 20, "used": 0, "access_level": "gold"}));

    ask(r#"{"query":{"customer":"c-42"},"update":{"cap":{"add":9223372036854775807}}}"#)
        .problem(409, Some("/update/cap"));
    ask(r#"{"query":{"customer":"c-42"},"update":{}}"#).problem(422, Some("/update"));
    ask(r#"{"query":{},"update":{"cap":1}}"#).problem(422, Some("/query"));
    ask(r#"{"query":["c-42"],"update":{"cap":1}}"#).problem(422, Some("/query"));
    ask(r#"{"query":{"customer":"c","capp":1},"update":{"cap":1}}"#)
        .problem(422, Some("/query/capp"));
    ask(r#"{"query":{"customer":"c"},"update":{"cap":"1"}}"#).problem(422, Some("/update/cap"));
    ask(r#"{"query":{"customer":"c"},"update":{"cap":1.5}}"#).problem(422, Some("/update/cap"));
    ask(r#"{"query":{"customer":"c"},"update":{"access_level":"seventeen letters"}}"#)
        .problem(422, Some("/update/access_level"));
    ask(r#"{"query":{"customer":""},"update":{"cap":1}}"#).problem(422, Some("/query/customer"));
}

#[test]
fn nodes_get_ids_that_no_other_has() {
    let served = Served::new();
    let ids = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for client in 0..16 {
            let (served, ids) = (&served, &ids);
            scope.spawn(move || {
                for _ in 0..10 {
                    let made = served.send("POST", NODES, &format!("{{\"frequency\":{client}.5}}"));
                    assert_eq!(made.status, 201, "{}", made.text);
                    let node = made.json();
                    let id = node["id"].as_u64().unwrap();
                    assert_eq!(made.header("location"), format!("{NODES}/{id}"));
                    assert_eq!(served.get(&format!("{NODES}/{id}")).json(), node);
                    assert!(ids.lock().unwrap().insert(id), "{id} came twice");
                }
            });
        }
    });
    assert_eq!(ids.into_inner().unwrap().len(), 160);
    let whole = served.send("POST", NODES, r#"{"frequency":440,"amplitude":0.5,"phase":7}"#).json();
    assert_eq!(
        (&whole["frequency"], &whole["amplitude"], &whole["ticks"]),
        (&json!(440.0), &json!(0.5), &json!(0))
    );
    assert!((whole["phase"].as_f64().unwrap() - (7.0 - std::f64::consts::TAU)).abs() < 1e-12);

    let ask = |body: &str| served.send("POST", NODES, body);
    ask(r#"{"frequency":-1}"#).problem(422, Some("/frequency"));
    ask(r#"{"frequency":1,"amplitude":1e300}"#).problem(422, Some("/amplitude"));
    ask(r#"{"frequency":"a"}"#).problem(422, Some("/frequency"));
    ask(r#"{"frequency":1e999}"#).problem(400, None);
    ask("{}").problem(422, Some(""));
    served.get("/v1/resonance/nodes/999999").problem(404, None);
    served.get("/v1/resonance/nodes/x").problem(400, Some("id"));
    served.get("/v1/resonance/nodes/-1").problem(400, Some("id"));
}

#[test]
fn a_segment_without_the_tables_of_a_system_says_so() {
    let config = Config::ephemeral().table(TableConfig::new("counters", &["n:i64"]));
    let served = Served::of(config, AppOptions::default());
    let posts = [
        (CAP, r#"{"query":{"customer":"c"},"update":{"cap":1}}"#, "customers"),
        (NODES, r#"{"frequency":1}"#, "resonance_nodes"),
        ("/v1/resonance/cascade", "{}", "tasks"),
    ];
    for (path, body, table) in posts {
        let detail = served.send("POST", path, body).problem(404, None);
        assert!(detail.contains(&format!("no table `{table}`")), "{detail}");
    }
    let metrics = served.get("/metrics").text;
    assert!(metrics.contains("\nresonance_mutex_contention_total 0\n"), "{metrics}");
}
