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

const SIGILS: &str = "/v1/sigils";

#[test]
fn of_a_thousand_encodes_none_is_missing_and_none_corrupt() {
    let served = Served::new();
    let made = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..50 {
            let (served, made) = (&served, &made);
            scope.spawn(move || {
                for n in 0..20 {
                    let payload = json!({"client": client, "n": n % 10});
                    let body = json!({ "payload": payload }).to_string();
                    let answer = served.send("POST", SIGILS, &body);
                    assert_eq!(answer.status, 201, "{}", answer.text);
                    let id = answer.json()["id"].as_str().unwrap().to_owned();
                    assert_eq!(answer.header("location"), format!("{SIGILS}/{id}"));
                    made.lock().unwrap().push((id, payload, answer.json()["twin"].clone()));
                }
            });
        }
    });
    let made = made.into_inner().unwrap();
    let ids: BTreeSet<&String> = made.iter().map(|(id, ..)| id).collect();
    assert_eq!(ids.len(), 1000);
    assert_eq!(
        made.iter().filter(|(.., twin)| twin.is_string()).count(),
        500,
        "each payload came twice"
    );
    for (id, payload, twin) in &made {
        let sigil = served.get(&format!("{SIGILS}/{id}")).json();
        assert_eq!((&sigil["id"], &sigil["payload"], &sigil["twin"]), (&json!(id), payload, twin));
    }
}

#[test]
fn sigils_are_recalled_and_wrong_ones_refused() {
    let served = Served::new();
    let ask = |body: &str| served.send("POST", SIGILS, body);
    let made = ask(r#"{"payload":{"b":1,"a":[null,"ä"]},"node":7}"#).json();
    let path = format!("{SIGILS}/{}", made["id"].as_str().unwrap());
    let sigil = served.get(&path).json();
    assert_eq!((&sigil["payload"], &sigil["node"]), (&json!({"a":[null,"ä"],"b":1}), &json!(7)));
    assert_eq!((&sigil["recalls"], &sigil["twin"]), (&json!(0), &json!(null)));
    let recalled = served.send("POST", &format!("{path}/recall"), "{}");
    assert_eq!((recalled.status, &recalled.json()["recalls"]), (200, &json!(1)));
    assert_eq!(served.get(&path).json()["recalls"], 1);
    served.ask("POST", &format!("{path}/recall"), &[], b"").problem(415, Some("Content-Type"));

    for plain in ["null", "1.5", "\"text\"", "[]", "true"] {
        assert_eq!(ask(&format!("{{\"payload\":{plain}}}")).status, 201, "{plain}");
    }
    ask("{}").problem(422, Some(""));
    ask(r#"{"payload":1,"pay":2}"#).problem(422, Some("/pay"));
    ask(r#"{"payload":1,"node":0}"#).problem(422, Some("/node"));
    ask(r#"{"payload":1,"node":-1}"#).problem(422, Some("/node"));
    ask(r#"{"payload":1e999}"#).problem(422, Some("/payload"));
    ask(r#"{"payload":"\ud800"}"#).problem(422, Some("/payload"));
    let large = format!("{{\"payload\":\"{}\"}}", "x".repeat(1000));
    assert!(ask(&large).problem(422, Some("/payload")).contains("1002 bytes"));
    let deep = format!("{{\"payload\":{}{}}}", "[".repeat(200), "]".repeat(200));
    ask(&deep).problem(422, Some("/payload"));
    served.get("/v1/sigils/85944171f73967e8-ffff").problem(404, None);
    served.get("/v1/sigils/nonsense").problem(400, Some("id"));
    served.send("POST", "/v1/sigils/85944171f73967e8-ffff/recall", "{}").problem(404, None);
}

#[test]
fn a_segment_without_the_tables_of_a_system_says_so() {
    let config = Config::ephemeral().table(TableConfig::new("counters", &["n:i64"]));
    let served = Served::of(config, AppOptions::default());
    let posts = [
        (CAP, r#"{"query":{"customer":"c"},"update":{"cap":1}}"#, "customers"),
        (NODES, r#"{"frequency":1}"#, "resonance_nodes"),
        ("/v1/resonance/cascade", "{}", "tasks"),
        ("/v1/sigils", r#"{"payload":1}"#, "sigils"),
    ];
    for (path, body, table) in posts {
        let detail = served.send("POST", path, body).problem(404, None);
        assert!(detail.contains(&format!("no table `{table}`")), "{detail}");
    }
    let metrics = served.get("/metrics").text;
    assert!(metrics.contains("\nresonance_mutex_contention_total 0\n"), "{metrics}");
}
