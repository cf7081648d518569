//! Records over HTTP: each line of the contract, each refusal, and the races that ETags and requirements are for.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod served;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commonhold_server::AppOptions;
use serde_json::json;
use served::{Served, config};

const VISITS: &str = "/v1/tables/counters/records/visits";

#[test]
fn a_record_lives_through_all_four_methods() {
    let served = Served::new();
    served.get(VISITS).problem(404, None);
    let made = served.send("PUT", VISITS, r#"{"fields":{"n":1}}"#);
    assert_eq!((made.status, made.header("etag"), made.header("location")), (201, "\"1\"", VISITS));
    let made = made.json();
    assert_eq!(
        (&made["key"], &made["fields"], &made["version"]),
        (&json!("visits"), &json!({"n":1}), &json!(1))
    );
    assert_eq!((&made["deleted"], &made["durable"]), (&json!(false), &json!(false)));

    let seen = served.get(VISITS);
    assert_eq!((seen.status, seen.header("etag")), (200, "\"1\""));
    assert_eq!(seen.header("content-type"), "application/json");
    for same in ["key", "fields", "version", "hash", "clock", "writer", "sequence"] {
        assert_eq!(seen.json()[same], made[same], "{same}");
    }
    let replaced = served.send("PUT", VISITS, r#"{"fields":{"n":5}}"#);
    assert_eq!((replaced.status, replaced.header("etag")), (200, "\"2\""));
    let added = served.send("PATCH", VISITS, r#"{"set":{},"add":{"n":2},"require":["n>=5"]}"#);
    assert_eq!((added.status, &added.json()["fields"]["n"]), (200, &json!(7)));
    let refused = served.send("PATCH", VISITS, r#"{"add":{"n":1},"require":["n>0","n<7"]}"#);
    assert!(refused.problem(409, Some("/require/1")).contains("`n` is 7, which is not < 7"));
    let deleted = served.ask("DELETE", VISITS, &[], b"");
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
    served.get(VISITS).problem(404, None);
    served.ask("DELETE", VISITS, &[], b"").problem(404, None);
    let again = served.send("PUT", VISITS, r#"{"fields":{"n":1}}"#);
    assert_eq!((again.status, again.json()["version"].as_u64() > Some(3)), (201, true));
}

#[test]
fn conditions_are_heeded() {
    let served = Served::new();
    let put = |header, value, n: i64| {
        let body = format!("{{\"fields\":{{\"n\":{n}}}}}");
        served.send_if("PUT", VISITS, &[(header, value)], &body)
    };
    put("if-match", "\"1\"", 1).problem(412, Some("If-Match"));
    put("if-match", "*", 1).problem(412, Some("If-Match"));
    assert_eq!(put("if-none-match", "*", 1).status, 201);
    put("if-none-match", "*", 2).problem(412, Some("If-None-Match"));
    assert_eq!(put("if-match", "\"1\"", 2).status, 200);
    let stale = put("if-match", "\"1\"", 3);
    assert!(stale.problem(412, Some("If-Match")).contains("has version 2"));
    assert_eq!(stale.header("etag"), "\"2\"", "so the client knows what there is");
    assert_eq!(put("if-match", "\"1\", \"2\"", 3).status, 200);
    assert_eq!(put("if-match", "*", 4).status, 200);
    put("if-match", "W/\"4\"", 5).problem(412, Some("If-Match"));
    put("if-none-match", "\"4\"", 5).problem(412, Some("If-None-Match"));
    assert_eq!(put("if-none-match", "\"3\"", 5).status, 200);
    put("if-match", "5", 6).problem(400, Some("if-match"));
    for tag in ["\"0\"", "\"1\""] {
        let other = "/v1/tables/counters/records/nobody";
        let (body, patch) = (r#"{"fields":{"n":1}}"#, r#"{"create":true}"#);
        served.send_if("PUT", other, &[("if-match", tag)], body).problem(412, Some("If-Match"));
        served.send_if("PATCH", other, &[("if-match", tag)], patch).problem(412, Some("If-Match"));
    }

    let read = |header, value| served.ask("GET", VISITS, &[(header, value)], b"");
    let same = read("if-none-match", "\"5\"");
    assert_eq!((same.status, same.text.as_str(), same.header("etag")), (304, "", "\"5\""));
    assert_eq!(read("if-none-match", "\"4\"").status, 200);
    read("if-match", "\"4\"").problem(412, Some("If-Match"));

    let patch =
        |value| served.send_if("PATCH", VISITS, &[("if-match", value)], r#"{"add":{"n":1}}"#);
    patch("\"4\"").problem(412, Some("If-Match"));
    assert_eq!(patch("\"5\"").status, 200);
    let delete = |value| served.ask("DELETE", VISITS, &[("if-match", value)], b"");
    delete("\"5\"").problem(412, Some("If-Match"));
    assert_eq!(delete("\"6\"").status, 200);
    delete("\"6\"").problem(412, Some("If-Match"));
    delete("*").problem(412, Some("If-Match"));
}

#[test]
fn a_missing_record_is_patched_only_when_told_so() {
    let served = Served::new();
    let patch = |body| served.send("PATCH", VISITS, body);
    patch(r#"{"add":{"n":1}}"#).problem(404, None);
    patch(r#"{"create":true,"add":{"n":1},"require":["n>0"]}"#).problem(409, Some("/require/0"));
    let made =
        patch(r#"{"create":true,"add":{"n":1},"require":[{"field":"n","is":"=","value":0}]}"#);
    assert_eq!((made.status, made.header("location")), (201, VISITS));
    assert_eq!(patch(r#"{"create":true,"add":{"n":1}}"#).json()["fields"]["n"], 2);
    let strict = [("if-match", "*")];
    let other = "/v1/tables/counters/records/other";
    served.send_if("PATCH", other, &strict, r#"{"create":true}"#).problem(412, Some("If-Match"));
}

#[test]
fn values_of_every_type_come_back() {
    let served = Served::new();
    let path = "/v1/tables/all/records/k";
    let fields = json!({
        "n": i64::MIN, "u": i64::MAX, "f": -1.5e300, "b": true, "t": "ä\"\n", "raw": "00ff",
        "j": {"a": [1, null]}, "at": 1_700_000_000_000_000_i64,
    });
    let put = served.send("PUT", path, &json!({ "fields": fields }).to_string());
    assert_eq!((put.status, &put.json()["fields"]), (201, &fields));
    assert_eq!(served.get(path).json()["fields"], fields);
    let zero = served.send("PATCH", path, r#"{"set":{"f":-0.0,"j":null}}"#).json();
    assert_eq!(zero["fields"]["f"].to_string(), "0.0");
    assert_eq!(
        zero["fields"],
        served.get(path).json()["fields"],
        "what was answered is what is there"
    );
    let require = r#"{"require":[{"field":"t","is":"=","value":"ä\"\n"}],"set":{"t":" a "}}"#;
    assert_eq!(served.send("PATCH", path, require).status, 200);
    let sum = served.send("PATCH", path, r#"{"add":{"n":-1}}"#);
    assert!(sum.problem(409, Some("/add/n")).contains("does not fit"));
    served.send("PATCH", path, r#"{"add":{"u":1}}"#).problem(409, None);
    served.send("PATCH", path, r#"{"add":{"f":-1.7e308}}"#);
    served.send("PATCH", path, r#"{"add":{"f":-1.7e308}}"#).problem(409, None);
    let less = served.send("PATCH", path, r#"{"add":{"u":-7,"at":-1}}"#).json();
    assert_eq!(less["fields"]["u"], i64::MAX - 7);
}

#[test]
fn keys_are_what_percent_signs_say() {
    let served = Served::new();
    for (path, key) in [("a%2Fb", "a/b"), ("%C3%A4", "ä"), ("a%20b%3Fc%25", "a b?c%"), ("..", "..")]
    {
        if path == ".." {
            continue; // A client resolves it away before it asks.
        }
        let path = format!("/v1/tables/counters/records/{path}");
        let made = served.send("PUT", &path, r#"{"fields":{"n":1}}"#);
        assert_eq!((made.status, &made.json()["key"]), (201, &json!(key)));
        assert_eq!(made.header("location"), path);
        assert_eq!(served.get(&path).status, 200);
    }
    served.get("/v1/tables/counters/records/%FF").problem(400, Some("key"));
    served.get("/v1/tables/counters/records/a%00b").problem(400, Some("key"));
    let long = format!("/v1/tables/counters/records/{}", "k".repeat(49));
    served.get(&long).problem(400, Some("key"));
    served.send("PUT", &long, r#"{"fields":{"n":1}}"#).problem(400, Some("key"));
    served.get("/v1/tables/counters/records/").problem(404, None);
    served.get("/v1/tables/none/records/k").problem(404, None);
}

#[test]
fn bad_bodies_are_named_with_their_place() {
    let served = Served::new();
    let all = "/v1/tables/all/records/k";
    let cases: [(&str, &str, u16, Option<&str>, &str); 19] = [
        ("PUT", "{", 400, None, "line 1 column 1"),
        ("PUT", "", 400, None, "empty"),
        ("PUT", "[{}]", 422, Some(""), "the body"),
        ("PUT", r#"{"fields":{"n":1}}"#, 422, Some("/fields/u"), "missing"),
        ("PUT", r#"{"fields":{"x":1}}"#, 422, Some("/fields/x"), "no field `x` (it has: n:i64"),
        ("PUT", r#"{"n":1}"#, 422, Some("/n"), "expected `fields`"),
        ("PUT", "{}", 422, Some(""), "missing field `fields`"),
        ("PATCH", r#"{"set":{"n":9223372036854775808}}"#, 422, Some("/set/n"), "beyond 64 bits"),
        ("PATCH", r#"{"set":{"n":"1"}}"#, 422, Some("/set/n"), "found a string"),
        ("PATCH", r#"{"set":{"f":NaN}}"#, 400, None, "not valid JSON"),
        ("PATCH", r#"{"set":{"f":1e400}}"#, 422, Some("/set/f"), "beyond"),
        ("PATCH", r#"{"set":{"t":"123456789"}}"#, 422, Some("/set/t"), "9 bytes do not fit in 8"),
        ("PATCH", r#"{"set":{"t":"\u0000"}}"#, 422, Some("/set/t"), "NUL"),
        ("PATCH", r#"{"set":{"n":1,"n":2}}"#, 422, Some("/set"), "duplicate"),
        ("PATCH", r#"{"sett":{}}"#, 422, Some("/sett"), "unknown field"),
        ("PATCH", r#"{"add":{"t":1}}"#, 422, Some("/add/t"), "nothing can be added"),
        ("PATCH", r#"{"require":["n>=1","n~1"]}"#, 422, Some("/require/1"), "not a requirement"),
        (
            "PATCH",
            r#"{"require":[{"field":"n","is":"~","value":1}]}"#,
            422,
            Some("/require/0/is"),
            "unknown variant",
        ),
        (
            "PATCH",
            r#"{"require":[{"field":"b","is":"=","value":1}]}"#,
            422,
            Some("/require/0/value"),
            "true or false",
        ),
    ];
    for (method, body, status, place, words) in cases {
        // Without a body ureq sends none; a blank is as good.
        let sent = if body.is_empty() { " " } else { body };
        let answer = served.send(method, all, sent);
        let detail = answer.problem(status, place);
        assert!(detail.contains(words), "{method} {body}: {detail}");
    }
    let bytes = b"{\"fields\":{\"t\":\"\xff\"}}";
    let json = [("content-type", "application/json")];
    let detail = served.ask("PUT", all, &json, bytes).problem(400, None);
    assert!(detail.contains("UTF-8 at byte 16"), "{detail}");
    let latin = [("content-type", "application/x-www-form-urlencoded")];
    served.ask("PUT", all, &latin, b"n=1").problem(415, Some("Content-Type"));
    served.ask("PUT", all, &[], b"{}").problem(415, Some("Content-Type"));
    let packed = [json[0], ("content-encoding", "gzip")];
    served.ask("PUT", all, &packed, b"{}").problem(415, Some("Content-Encoding"));
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_has_come() {
    let options = AppOptions { body_bytes: 16, ..AppOptions::default() };
    let served = Served::of(config(), options);
    // What was announced, and what was not: neither ends, and both are answered.
    for rest in [
        "Content-Length: 17\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n11\r\n{\"fields\":{\"n\":1}\r\n",
    ] {
        let mut stream = std::net::TcpStream::connect(served.address).unwrap();
        let head =
            format!("PUT {VISITS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{rest}");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(std::str::from_utf8(&answer), Ok("HTTP/1.1 413"));
    }
}

#[test]
fn other_routes_methods_and_parameters_are_refused() {
    let served = Served::new();
    served.get("/v2").problem(404, None);
    served.get("/").problem(404, None);
    served.send("POST", "/v1/concepts/alien", "{}").problem(404, None);
    let post = served.send("POST", VISITS, "{}");
    post.problem(405, None);
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE"] {
        assert!(post.header("allow").contains(method), "{}", post.header("allow"));
    }
    served.send("DELETE", "/healthz", "{}").problem(405, None);
    served.get(&format!("{VISITS}?x=1")).problem(400, Some("query"));
    served.send("PUT", &format!("{VISITS}?durabel=true"), "{}").problem(400, Some("query"));
    served.send("PUT", &format!("{VISITS}?durable=1"), "{}").problem(400, Some("query"));
    let long = format!("{VISITS}?durable=true&timeout=61");
    served.send("PUT", &long, r#"{"fields":{"n":1}}"#).problem(400, Some("timeout"));
    served.ask("GET", VISITS, &[("accept", "text/html")], b"").problem(406, Some("Accept"));
    let system = "/v1/tables/resonance_nodes/records/000000000001";
    let put = served.send("PUT", system, r#"{"fields":{}}"#);
    put.problem(405, None);
    assert_eq!(put.header("allow"), "GET, HEAD");
}

#[test]
fn health_and_metrics() {
    let served = Served::new();
    assert_eq!(served.get("/healthz").json(), json!({"status": "ok"}));
    served.get("/readyz").problem(503, None);
    served.app.set_ready(true);
    assert_eq!(served.get("/readyz").json(), json!({"status": "ready"}));
    assert_eq!(served.send("PUT", VISITS, r#"{"fields":{"n":1}}"#).status, 201);
    let metrics = served.get("/metrics");
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text.contains("\ncommonhold_commits_total"), "{}", metrics.text);
    assert!(metrics.text.contains("\nresonance_mutex_contention_total 0\n"), "{}", metrics.text);
    assert!(metrics.text.contains("\nresonance_mutex_wait_time_ms 0\n"), "{}", metrics.text);
    let head = served.ask("HEAD", VISITS, &[], b"");
    assert_eq!((head.status, head.text.as_str(), head.header("etag")), (200, "", "\"1\""));
}

#[test]
fn a_full_table_is_waited_for_and_then_said_to_be_full() {
    let options = AppOptions { room_wait: Duration::from_millis(50), ..AppOptions::default() };
    let served = Served::of(config(), options);
    let put =
        |key| served.send("PUT", &format!("/v1/tables/few/records/{key}"), r#"{"fields":{"n":1}}"#);
    assert_eq!((put("a").status, put("b").status), (201, 201));
    let full = put("c");
    assert!(full.problem(503, None).contains("table `few` is full: all 2 slots"));
    assert_eq!(full.header("retry-after"), "1");
    assert_eq!(served.ask("DELETE", "/v1/tables/few/records/a", &[], b"").status, 200);
    // A deleted record's place is free when the store knows that it was deleted.
    served.app.runtime().drain(Duration::from_secs(60)).unwrap();
    assert_eq!(put("c").status, 201, "there is room again");
}

#[test]
fn who_looks_does_not_wait_behind_those_that_wait() {
    let room_wait = Duration::from_millis(50);
    let options = AppOptions { room_wait, waiting: 1, ..AppOptions::default() };
    let served = Served::of(config(), options);
    let (began, begins) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let desk = std::sync::Arc::clone(served.app.desk());
    let waits = std::thread::spawn(move || {
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let work = move || {
            began.send(()).unwrap();
            Ok(released.recv().is_err())
        };
        threads.block_on(desk.blocking(work)).unwrap()
    });
    begins.recv().unwrap();
    served
        .send("PUT", &format!("{VISITS}?durable=true"), r#"{"fields":{"n":1}}"#)
        .problem(503, None);
    for path in ["/metrics", "/v1/tables/counters/records"] {
        assert_eq!(served.get(path).status, 200, "{path}");
    }
    drop(release);
    assert!(waits.join().unwrap());
}

#[test]
fn durable_writes_are_in_the_store_when_they_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("s.db").display());
    let served = Served::of(config().store(&url), AppOptions::default());
    let path = format!("{VISITS}?durable=true&timeout=30");
    let made = served.send("PUT", &path, r#"{"fields":{"n":3}}"#);
    assert_eq!((made.status, &made.json()["durable"]), (201, &json!(true)));
    let space = served.app.runtime().space();
    let table = space.find_table("counters").unwrap();
    let rows = served.app.runtime().store().unwrap().row_count(table).unwrap();
    assert_eq!((rows.current, rows.history), (1, 1));
}

#[test]
fn pages_go_through_all_records() {
    let served = Served::new();
    for n in 0..25 {
        let key = format!("{}-{n:02}", if n % 5 == 0 { "five" } else { "other" });
        let path = format!("/v1/tables/counters/records/{key}");
        assert_eq!(served.send("PUT", &path, &format!("{{\"fields\":{{\"n\":{n}}}}}")).status, 201);
    }
    let (mut keys, mut after) = (Vec::new(), String::new());
    loop {
        let page = served.get(&format!("/v1/tables/counters/records?limit=10{after}")).json();
        let records = page["records"].as_array().unwrap();
        assert!(records.len() <= 10);
        keys.extend(records.iter().map(|r| r["key"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!((keys.len(), keys.is_sorted()), (25, true));
    keys.dedup();
    assert_eq!(keys.len(), 25);
    let fives = served.get("/v1/tables/counters/records?prefix=five").json();
    assert_eq!((fives["records"].as_array().unwrap().len(), &fives["next"]), (5, &json!(null)));
    served.get("/v1/tables/counters/records?limit=0").problem(400, Some("limit"));
    served.get("/v1/tables/counters/records?limit=-1").problem(400, Some("query"));
    served.get("/v1/tables/none/records").problem(404, None);
    let tables = served.get("/v1/tables").json();
    let names: Vec<&str> =
        tables["tables"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"counters") && names.contains(&"customers"), "{names:?}");
}

#[test]
fn of_64_clients_that_add_at_once_none_is_lost() {
    let served = Served::new();
    assert_eq!(served.send("PUT", VISITS, r#"{"fields":{"n":0}}"#).status, 201);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let body = r#"{"add":{"n":1},"require":["n<300"]}"#;
                    assert_eq!(served.send("PATCH", VISITS, body).status, 200);
                }
            });
        }
    });
    let now = served.get(VISITS).json();
    assert_eq!((&now["fields"]["n"], &now["version"]), (&json!(256), &json!(257)));
}

#[test]
fn a_limit_in_a_requirement_is_never_passed() {
    let served = Served::new();
    assert_eq!(served.send("PUT", VISITS, r#"{"fields":{"n":0}}"#).status, 201);
    let (done, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let body = r#"{"add":{"n":1},"require":["n<100"]}"#;
                    match served.send("PATCH", VISITS, body).status {
                        200 => done.fetch_add(1, Ordering::Relaxed),
                        409 => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}"),
                    };
                }
            });
        }
    });
    assert_eq!((done.into_inner(), refused.into_inner()), (100, 60));
    assert_eq!(served.get(VISITS).json()["fields"]["n"], 100);
}

/// Each of `clients` reads, and when all have read, writes one more than it read; with `If-Match`, again until it
/// was not beaten. How many updates were acknowledged, and the sum.
fn read_and_write_back(clients: usize, if_match: bool) -> (u64, u64) {
    let served = Served::new();
    assert_eq!(served.send("PUT", VISITS, r#"{"fields":{"n":0}}"#).status, 201);
    let all_have_read = std::sync::Barrier::new(clients);
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut first = true;
                loop {
                    let seen = served.get(VISITS);
                    if std::mem::take(&mut first) {
                        all_have_read.wait();
                    }
                    let next = seen.json()["fields"]["n"].as_i64().unwrap() + 1;
                    let body = format!("{{\"fields\":{{\"n\":{next}}}}}");
                    let tag = [("if-match", seen.header("etag"))];
                    let headers = if if_match { &tag[..] } else { &[] };
                    match served.send_if("PUT", VISITS, headers, &body).status {
                        200 => break acknowledged.fetch_add(1, Ordering::Relaxed),
                        412 => {}
                        other => panic!("{other}"),
                    };
                }
            });
        }
    });
    (acknowledged.into_inner(), served.get(VISITS).json()["fields"]["n"].as_u64().unwrap())
}

#[test]
fn who_writes_back_what_he_read_loses_updates_without_if_match_and_none_with_it() {
    let (acknowledged, sum) = read_and_write_back(16, false);
    assert_eq!(acknowledged, 16);
    assert_eq!(sum, 1, "all read 0 and wrote 1: the fault that If-Match is for");
    assert_eq!(read_and_write_back(16, true), (16, 16));
}
