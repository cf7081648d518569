//! The OpenAPI document says what the routes do: each path and method, and schemas that answers keep to.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod served;

use std::collections::BTreeSet;

use commonhold_server::{AppOptions, Kind, openapi, routes};
use serde_json::{Value, json};
use served::{Served, config};

const METHODS: [&str; 5] = ["get", "put", "patch", "post", "delete"];

fn each<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Object(map) => map.values().for_each(|v| each(v, visit)),
        Value::Array(all) => all.iter().for_each(|v| each(v, visit)),
        _ => {}
    }
}

/// The operations of the general paths, as `get /path`.
fn operations(document: &Value) -> BTreeSet<String> {
    let known = routes::paths();
    let mut all = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if known.contains(&path.as_str()) {
            all.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
        }
    }
    all
}

#[test]
fn every_route_is_in_the_document_and_the_other_way_round() {
    let served = Served::new();
    let document = served.get("/openapi.json").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let mut there = BTreeSet::new();
    for path in routes::paths() {
        let asked = path.replace("{table}", "counters").replace("{key}", "k").replace("{id}", "1");
        let answer = served.ask("BREW", &asked, &[], b"");
        answer.problem(405, None);
        for method in answer.header("allow").split(',').map(|m| m.trim().to_lowercase()) {
            // HEAD is GET without the body.
            if method != "head" {
                there.insert(format!("{method} {path}"));
            }
        }
    }
    assert_eq!(operations(&document), there);
    assert!(there.len() > 10, "{there:?}");
    for path in document["paths"].as_object().unwrap().keys() {
        let table = path.strip_prefix("/v1/tables/").and_then(|p| p.strip_suffix("/records/{key}"));
        let known = table.is_some_and(|t| served.app.runtime().catalogue().find(t).is_some());
        assert!(known || routes::paths().contains(&path.as_str()), "{path}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = Served::new().get("/openapi.json").json();
    let mut count = 0;
    each(&document, &mut |value| {
        if let Some(to) = value.get("$ref").and_then(Value::as_str) {
            let pointer =
                to.strip_prefix('#').unwrap_or_else(|| panic!("{to} leaves the document"));
            assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
            count += 1;
        }
    });
    assert!(count > 100, "{count}");
}

#[test]
fn every_operation_has_an_id_of_its_own_and_says_how_it_is_refused() {
    let document = Served::new().get("/openapi.json").json();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(METHODS.contains(&method.as_str()), "{method} {path}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} stands twice");
            assert!(
                operation["summary"].as_str().is_some_and(|s| !s.is_empty()),
                "{method} {path}"
            );
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
            for status in ["400", "406", "503"] {
                assert!(responses.contains_key(status), "{method} {path} {status}");
            }
            let body = operation.get("requestBody").is_some();
            assert_eq!(responses.contains_key("415"), body, "{method} {path}");
            for (status, response) in responses {
                if status.starts_with(['4', '5']) {
                    let to = response["$ref"].as_str().unwrap();
                    let kind = Kind::ALL.iter().find(|k| to.ends_with(&format!("/{}", k.name())));
                    assert_eq!(kind.unwrap().status().as_str(), status, "{method} {path}");
                }
            }
        }
    }
}

#[test]
fn a_token_is_asked_for_where_it_is_needed() {
    let catalogue = config().catalogue(None).unwrap();
    let needs_token = AppOptions { needs_token: true, ..AppOptions::default() };
    let open = openapi::document(&catalogue, &AppOptions::default());
    let closed = openapi::document(&catalogue, &needs_token);
    assert_eq!((open.get("security"), &closed["security"]), (None, &json!([{"bearer": []}])));
    let responses = |d: &Value, path: &str| d["paths"][path]["get"]["responses"].clone();
    assert!(responses(&closed, "/v1/tables").get("401").is_some());
    assert!(responses(&open, "/v1/tables").get("401").is_none());
    assert_eq!(closed["paths"]["/healthz"]["get"]["security"], json!([]));
    assert!(closed["components"]["securitySchemes"]["bearer"].is_object());
    let served = Served::of(config(), needs_token);
    assert_eq!(served.get("/openapi.json").json(), closed);
}

#[test]
fn tables_have_schemas_of_their_own() {
    let document = Served::new().get("/openapi.json").json();
    let schemas = &document["components"]["schemas"];
    let fields = &schemas["all.fields"];
    assert_eq!(fields["additionalProperties"], false);
    assert_eq!(fields["required"].as_array().unwrap().len(), 8);
    assert_eq!(fields["properties"]["u"]["maximum"], i64::MAX);
    assert_eq!(fields["properties"]["t"]["maxLength"], 8);
    let add = schemas["all.patch"]["properties"]["add"]["properties"].as_object().unwrap();
    let names: BTreeSet<&str> = add.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["at", "f", "n", "u"]), "numbers and times");
    let path = &document["paths"]["/v1/tables/all/records/{key}"];
    let body = &path["put"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["$ref"], "#/components/schemas/all.put");
    assert_eq!(
        schemas["all.put"]["properties"]["fields"]["$ref"],
        "#/components/schemas/all.fields"
    );
    let system = document["paths"]["/v1/tables/resonance_nodes/records/{key}"].as_object().unwrap();
    assert_eq!(system.keys().collect::<Vec<_>>(), ["get"], "only read");
}

/// Checks that `value` has the members that `schema` names, and no others.
#[track_caller]
fn check_members(document: &Value, schema: &str, value: &Value) {
    let mut parts = vec![&document["components"]["schemas"][schema]];
    let (mut known, mut required) = (BTreeSet::new(), BTreeSet::new());
    while let Some(part) = parts.pop() {
        assert!(part.is_object(), "{schema}");
        if let Some(to) = part.get("$ref").and_then(Value::as_str) {
            parts.push(document.pointer(&to[1..]).unwrap());
        }
        parts.extend(part.get("allOf").and_then(Value::as_array).into_iter().flatten());
        known.extend(part["properties"].as_object().into_iter().flatten().map(|(k, _)| k.clone()));
        let names = part["required"].as_array().into_iter().flatten();
        required.extend(names.map(|n| n.as_str().unwrap().to_owned()));
    }
    let there: BTreeSet<String> = value.as_object().unwrap().keys().cloned().collect();
    assert!(there.is_subset(&known), "{schema}: {there:?} has more than {known:?}");
    assert!(required.is_subset(&there), "{schema}: {there:?} has not all of {required:?}");
    assert!(!required.is_empty(), "{schema}");
}

#[test]
fn answers_keep_to_their_schemas() {
    let served = Served::new();
    let document = served.get("/openapi.json").json();
    let path = "/v1/tables/counters/records/k";
    let check = |schema: &str, value: &Value| check_members(&document, schema, value);
    let made = served.send("PUT", path, r#"{"fields":{"n":1}}"#).json();
    check("Written", &made);
    check("counters.written", &made);
    check("counters.fields", &made["fields"]);
    check("counters.record", &served.get(path).json());
    check("Written", &served.ask("DELETE", path, &[], b"").json());
    check("Problem", &served.get(path).json());
    check("Problem", &served.send("PUT", path, "{}").json());
    check("Page", &served.get("/v1/tables/counters/records").json());
    let tables = served.get("/v1/tables").json();
    check("Tables", &tables);
    check("Table", &tables["tables"][0]);
    check("TableField", &tables["tables"][0]["fields"][0]);
    check("Health", &served.get("/healthz").json());
    check(
        "ResonanceNode",
        &served.send("POST", "/v1/resonance/nodes", r#"{"frequency":1}"#).json(),
    );
    let sigil = served.send("POST", "/v1/sigils", r#"{"payload":1}"#).json();
    check("EncodedSigil", &sigil);
    check("Sigil", &served.get(&format!("/v1/sigils/{}", sigil["id"].as_str().unwrap())).json());
    let body = r#"{"query":{"customer":"c"},"update":{"cap":1}}"#;
    check("Updated", &served.send("POST", "/v1/customers/cap-and-access", body).json());
}

#[test]
fn the_analysis_is_as_its_schema_says() {
    use commonhold::systems::cascade::{CascadeArgs, Options, Signal, analyze_resonance};
    let wave = |hz: f64| {
        (0..512).map(|n| (std::f64::consts::TAU * hz * f64::from(n) / 8000.0).sin()).collect()
    };
    let signal = Signal::new(8000.0, vec![wave(440.0), wave(660.0)]).unwrap();
    let args = CascadeArgs::new(signal, Options::default()).unwrap();
    let analysis = serde_json::to_value(analyze_resonance(&args).unwrap()).unwrap();
    let document = openapi::document(&config().catalogue(None).unwrap(), &AppOptions::default());
    check_members(&document, "CascadeAnalysis", &analysis);
    check_members(&document, "CascadeNode", &analysis["nodes"][1]);
    check_members(&document, "CascadePair", &analysis["coherence"][0]);
    check_members(&document, "Harmonic", &analysis["harmonics"][0]);
    let windows = document["components"]["schemas"]["Window"]["enum"].as_array().unwrap();
    assert!(windows.contains(&analysis["window"]), "{windows:?}");
}
