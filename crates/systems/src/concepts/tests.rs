//! Each edge of learning and merging; the laws are in a module of their own.

mod laws;
mod memory;
mod persons;

use serde_json::{Value, json};

use super::record::{Bound, State};
use super::{
    Concept, ConceptError, ConceptMap, HALF_LIFE, Learned, OBSERVATIONS_MAX, merge_concepts,
};

/// The clock of the tests: 2025-06-01.
const NOW: i64 = 1_748_736_000_000_000;
const T1: &str = "2025-04-01T00:00:00Z";
/// One half-life later.
const T2: &str = "2025-05-01T00:00:00Z";

fn map(concepts: Value) -> ConceptMap {
    ConceptMap::from_value(json!({ "concepts": concepts })).unwrap().now(NOW)
}

fn list(map: &ConceptMap) -> Vec<Value> {
    map.clone().into_list()
}

fn one(map: &ConceptMap) -> Concept {
    let concepts = map.concepts();
    assert_eq!(concepts.len(), 1, "{map:?}");
    concepts[0].clone()
}

/// What two single concepts make, whichever comes first.
fn both(a: Value, b: Value) -> Concept {
    let (a, b) = (map(json!([a])), map(json!([b])));
    let (ab, ba) = (one(&merge_concepts(&a, &b)), one(&merge_concepts(&b, &a)));
    assert_eq!(ab, ba);
    ab
}

#[test]
fn levels_are_averaged_by_recency_and_confidence() {
    // One half-life apart: the older one weighs half.
    let old = json!({"name": "n", "level": 0.9, "updated_at": T1, "learned_by": "a"});
    let new = json!({"name": "n", "level": 0.3, "updated_at": T2, "learned_by": "b"});
    let merged = both(old.clone(), new.clone());
    assert_eq!(merged.level, Some(0.5));
    assert_eq!((merged.learned_by.as_deref(), merged.updated_at.unwrap() < NOW), (Some("b"), true));
    // Confidence weighs as well: 0.5 · 0.5 · 0.9 + 1 · 0.3 over 1.25.
    let mut unsure = old;
    unsure["confidence"] = json!(0.5);
    assert_eq!(both(unsure.clone(), new.clone()).level, Some(0.42));
    // Without any confidence the latest has the word.
    let mut none = new;
    (unsure["confidence"], none["confidence"]) = (json!(0), json!(0.0));
    assert_eq!(both(unsure, none).level, Some(0.3));
    assert_eq!(HALF_LIFE.as_secs(), 30 * 24 * 3600);
}

#[test]
fn a_level_without_a_confidence_weighs_one() {
    let mut map = map(json!([]));
    let mut learn = |learned: Learned| map.learn(&learned.at(NOW - 100)).unwrap();
    learn(Learned::new("n").level(0.7).confidence(0.9).by("maria"));
    // Somebody is not sure at all; the next who learns is, for he says nothing of it.
    assert_eq!(learn(Learned::new("n").confidence(0.0)).level, Some(0.7));
    let learned = learn(Learned::new("n").level(0.1).by("otto"));
    assert_eq!((learned.level, learned.confidence), (Some(0.384211), Some(0.0)));
    let read = super::tests::map(json!(list(&map)));
    assert_eq!(one(&read).level, Some(0.384211), "{read:?}");
    assert_eq!(map.learn(&Learned::new("new").level(0.3)).unwrap().level, Some(0.3));
}

#[test]
fn a_clock_beyond_the_calendar_is_the_first_or_last_time_of_it() {
    for (now, first, text) in [
        (-1, 0, "1970-01-01T00:00:00Z"),
        (i64::MIN, 0, "1970-01-01T00:00:00Z"),
        (i64::MAX, 253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
    ] {
        let mut map = ConceptMap::new().now(now);
        map.learn(&Learned::new("n").level(0.5)).unwrap();
        map.learn(&Learned::new("m").level(0.5).at(i64::MAX)).unwrap();
        let learned = map.learn(&Learned::new("n").level(0.5).by("a")).unwrap();
        let again = if now < 0 { 1 } else { first };
        assert_eq!(learned.updated_at, Some(again), "{map:?}");
        let read = ConceptMap::from_value(map.clone().into_value()).unwrap().now(now);
        assert_eq!(read.concepts(), map.concepts());
        if again == first {
            assert_eq!(learned.updated_at_text().as_deref(), Some(text));
        }
    }
}

#[test]
fn equal_times_are_one_average_and_the_fields_of_one() {
    let a =
        json!({"name": "n", "level": 0.2, "updated_at": T1, "learned_by": "a", "description": "z"});
    let b =
        json!({"name": "n", "level": 0.8, "updated_at": T1, "learned_by": "b", "description": "y"});
    let merged = both(a.clone(), b);
    assert_eq!((merged.level, merged.description.as_deref()), (Some(0.5), Some("y")), "b is later");
    // Of one persona: the text decides.
    let c =
        json!({"name": "n", "level": 0.8, "updated_at": T1, "learned_by": "a", "description": "y"});
    let merged = both(a.clone(), c);
    assert_eq!((merged.level, merged.description.as_deref()), (Some(0.5), Some("z")));
    // The same observation twice is one.
    let same = merge_concepts(&map(json!([a])), &map(json!([a])));
    assert_eq!(list(&same), [a]);
}

#[test]
fn missing_fields_come_from_the_other_and_count_as_oldest() {
    let bare = json!({"name": "n"});
    let full =
        json!({"name": "n", "level": 0.4, "confidence": 0.5, "updated_at": T1, "tags": ["x"]});
    let merged = both(bare.clone(), full.clone());
    assert_eq!((merged.level, merged.confidence), (Some(0.4), Some(0.5)));
    assert_eq!(merged.rest["tags"], json!(["x"]));
    assert_eq!(one(&merge_concepts(&map(json!([bare])), &map(json!([bare])))).level, None);
    // Undated ones: a plain average among themselves, nothing beside a dated one.
    let undated = |level: f64| json!({"name": "n", "level": level});
    assert_eq!(both(undated(0.2), undated(0.4)).level, Some(0.3));
    assert_eq!(both(undated(0.9), full).level, Some(0.4));
    // A later update that lacks a field does not take it away, and an earlier one does not change it.
    let late = json!({"name": "n", "updated_at": T2, "learned_by": "b"});
    let early = json!({"name": "n", "updated_at": T1, "learned_by": "a", "x": 1});
    let earlier = json!({"name": "n", "x": 2});
    let maps = [late, early, earlier].map(|concept| map(json!([concept])));
    for order in [[0, 1, 2], [0, 2, 1], [1, 2, 0], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
        let [a, b, c] = order.map(|at| &maps[at]);
        let merged = one(&merge_concepts(&merge_concepts(a, b), c));
        assert_eq!(
            (&merged.rest["x"], merged.learned_by.as_deref()),
            (&json!(1), Some("b")),
            "{order:?}"
        );
    }
}

#[test]
fn a_time_ahead_of_the_clock_does_not_rule_for_ever() {
    let ahead =
        json!({"name": "n", "level": 1.0, "updated_at": "2999-01-01T00:00:00Z", "learned_by": "a"});
    let now = json!({"name": "n", "level": 0.0, "updated_at": T2, "learned_by": "b"});
    let merged = both(ahead.clone(), now);
    assert!(merged.level.unwrap() < 0.68, "{merged:?}");
    let mut map = map(json!([ahead]));
    let learned = map.learn(&Learned::new("n").level(0.0).by("c").description("later")).unwrap();
    assert!(learned.updated_at.unwrap() <= NOW + 6 * 60 * 1_000_000, "{learned:?}");
    assert_eq!((learned.level, learned.learned_by.as_deref()), (Some(0.5), Some("c")));
    // A clock that is behind: who has seen an update is later than it.
    let again = map.learn(&Learned::new("n").at(NOW / 2).by("d")).unwrap();
    assert_eq!(again.updated_at, learned.updated_at.map(|at| at + 1));
    assert_eq!((again.learned_by.as_deref(), again.level), (Some("d"), Some(0.5)));
}

#[test]
fn what_is_no_level_does_not_count_and_stays() {
    for odd in [json!(7), json!(-0.1), json!(1.000001), json!("high"), json!(null), json!([])] {
        let a = json!({"name": "n", "level": odd, "updated_at": T2});
        assert_eq!(
            list(&merge_concepts(&map(json!([a])), &map(json!([a])))),
            std::slice::from_ref(&a)
        );
        let none = one(&map(json!([a.clone()])));
        assert_eq!((none.level, none.rest.len()), (None, 0));
        let b = json!({"name": "n", "level": 0.25, "updated_at": T1});
        assert_eq!(both(a, b).level, Some(0.25), "{odd}");
    }
    let mut map = ConceptMap::new();
    for wrong in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
        for learned in [Learned::new("n").level(wrong), Learned::new("n").confidence(wrong)] {
            let error = map.learn(&learned).unwrap_err();
            assert!(matches!(error, ConceptError::Range { .. }), "{error}");
        }
    }
    assert_eq!(map.clone().into_value(), Value::Null, "nothing was learned");
    assert_eq!(map.learn(&Learned::new("n").level(-0.0)).unwrap().level.map(f64::to_bits), Some(0));
}

#[test]
fn times_and_names_that_are_none_stay_until_there_are_some() {
    let odd = json!({"name": "n", "updated_at": "yesterday", "learned_by": 42, "level": 0.5});
    let merged = merge_concepts(&map(json!([odd])), &map(json!([{"name": "n", "x": 1}])));
    assert_eq!(list(&merged)[0]["updated_at"], "yesterday");
    let dated = map(json!([{"name": "n", "updated_at": 1_743_465_600_000_i64, "level": 0.1}]));
    let merged = merge_concepts(&merged, &dated);
    assert_eq!(one(&merged).level, Some(0.1));
    assert_eq!(list(&merged)[0]["updated_at"], T1);
    assert_eq!(one(&merged).learned_by, None, "the latest update has no name");
    assert_eq!(
        list(&merged)[0]["merged"]["levels"][1],
        json!(["1970-01-01T00:00:00Z", 0.5, 1.0, "42"])
    );
}

#[test]
fn copies_of_one_name_become_one_when_it_is_touched() {
    let twice = json!([
        {"name": "n", "level": 0.2, "updated_at": T1, "x": 1},
        {"name": "m", "level": 0.7},
        {"name": "n", "level": 0.8, "updated_at": T1, "y": 2},
        {"name": "m", "level": 0.7, "z": 3},
    ]);
    let mut map = map(twice);
    assert_eq!(map.get("n").unwrap().level, Some(0.5));
    assert_eq!((map.len(), map.concepts().len()), (4, 2));
    map.learn(&Learned::new("n").description("both")).unwrap();
    let after = list(&map);
    let names: Vec<&str> = after.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["n", "m", "m"]);
    assert_eq!(
        (&after[0]["x"], &after[0]["y"], &after[0]["level"]),
        (&json!(1), &json!(2), &json!(0.5))
    );
    assert_eq!(after[1], json!({"name": "m", "level": 0.7}), "the others are as they were");
    map.merge(&super::tests::map(json!([{"name": "m", "q": 4}])));
    assert_eq!(list(&map).len(), 2);
    assert_eq!(map.get("m").unwrap().rest.len(), 2);
}

#[test]
fn what_is_no_concept_stays() {
    let odd = json!([1, "a", null, {"level": 0.5}, {"name": ""}, {"name": 7}, [{"name": "x"}]]);
    let mut map = map(odd.clone());
    assert_eq!((map.len(), map.concepts().len(), map.get("")), (7, 0, None));
    map.learn(&Learned::new("n")).unwrap();
    assert_eq!(list(&map)[..7], odd.as_array().unwrap()[..]);
    assert_eq!(map.learn(&Learned::new("")), Err(ConceptError::NoName));
    let mut other = super::tests::map(json!([{"level": 0.5}, 2]));
    other.merge(&map);
    assert_eq!(list(&other).len(), 9, "the one that both have is there once");
    let reserved = Learned::new("n").field("merged", 1);
    assert_eq!(map.learn(&reserved), Err(ConceptError::Reserved("merged".to_owned())));
}

#[test]
fn documents_of_another_form_are_refused() {
    let why = |document: Value| ConceptMap::from_value(document).unwrap_err().to_string();
    assert_eq!(why(json!([])), "it is a list, not an object with a list `concepts`");
    assert_eq!(why(json!("x")), "it is a text, not an object with a list `concepts`");
    for (concepts, what) in
        [(json!({}), "an object"), (json!(1), "a number"), (json!(null), "null")]
    {
        let why = why(json!({ "concepts": concepts }));
        assert!(why.starts_with(&format!("`concepts` is {what}, not a list")), "{why}");
    }
    let round = |document: Value| ConceptMap::from_value(document).unwrap().into_value();
    for document in
        [json!(null), json!({}), json!({"a": 1}), json!({"a": 1, "concepts": [], "b": 2})]
    {
        assert_eq!(round(document.clone()).to_string(), document.to_string());
    }
    let mut map = ConceptMap::from_value(json!({"version": 3})).unwrap();
    map.learn(&Learned::new("n").at(NOW)).unwrap();
    let text = r#"{"version":3,"concepts":[{"name":"n","updated_at":"2025-06-01T00:00:00Z"}]}"#;
    assert_eq!(map.into_value().to_string(), text);
}

#[test]
fn other_fields_of_the_document_stay_and_are_added() {
    let mut ours = ConceptMap::from_value(json!({"version": 1, "concepts": []})).unwrap();
    ours.merge(&ConceptMap::from_value(json!({"version": 2, "title": "t"})).unwrap());
    assert_eq!(ours.into_value(), json!({"version": 1, "concepts": [], "title": "t"}));
}

#[test]
fn a_level_that_was_written_by_hand_has_the_last_word() {
    let mut map = map(json!([]));
    for (by, level) in [("a", 0.2), ("b", 0.8)] {
        map.learn(&Learned::new("n").level(level).by(by)).unwrap();
    }
    let before = one(&map).level.unwrap();
    assert!((0.49..0.51).contains(&before));
    let mut edited = list(&map);
    assert_eq!(edited[0]["merged"]["levels"].as_array().unwrap().len(), 2);
    edited[0]["level"] = json!(0.9);
    let map = super::tests::map(json!(edited));
    assert_eq!(one(&map).level, Some(0.9));
    // An edit of something else leaves the observations.
    let mut map = merge_concepts(&map, &super::tests::map(json!([{"name": "n", "x": 1}])));
    let learned = map.learn(&Learned::new("n").level(0.7).by("c")).unwrap();
    assert!((learned.level.unwrap() - 0.8).abs() < 1e-5, "{learned:?}");
}

#[test]
fn the_latest_observations_are_kept() {
    let mut map = map(json!([]));
    for at in 0..100 {
        let level = if at < 50 { 0.0 } else { 1.0 };
        map.learn(&Learned::new("n").level(level).at(NOW - 100 + at)).unwrap();
    }
    let levels = list(&map)[0]["merged"]["levels"].as_array().unwrap().clone();
    assert_eq!((levels.len(), one(&map).level), (OBSERVATIONS_MAX, Some(1.0)));
}

#[test]
fn a_huge_map_is_merged() {
    let concepts = |from: usize| -> Value {
        let one = |n| json!({"name": format!("concept {n}"), "level": 0.5, "updated_at": T1});
        (from..from + 20_000).map(one).collect()
    };
    let mut ours = map(concepts(0));
    let done = ours.merge(&map(concepts(10_000)));
    assert_eq!((done.added, done.changed, ours.len()), (10_000, 0, 30_000));
}

#[test]
fn a_three_way_merge_keeps_what_only_one_changed() {
    let base = json!([{"name": "n", "level": 0.2, "description": "old", "updated_at": T1, "x": 1}]);
    let mut ours = map(base.clone());
    ours.learn(&Learned::new("n").level(0.6).by("us")).unwrap();
    ours.learn(&Learned::new("ours")).unwrap();
    // Theirs: a description by hand, no time; one field gone; one concept more.
    let theirs = json!([
        {"name": "theirs"},
        {"name": "n", "level": 0.2, "description": "new", "updated_at": T1},
    ]);
    let merged = super::file::three_way(Some(&base), Some(&theirs), Some(&json!(list(&ours))));
    let merged = map(merged.unwrap());
    let names: Vec<String> = merged.concepts().into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["theirs", "n", "ours"]);
    let n = merged.get("n").unwrap();
    assert_eq!((n.description.as_deref(), n.learned_by.as_deref()), (Some("new"), Some("us")));
    assert_eq!((n.level, &n.rest["x"]), (one_of(&ours, "n").level, &json!(1)));
    // Who removes the list, or makes something else of it, does not remove what we have.
    let list = json!(list(&ours));
    let merge = |theirs: Option<&Value>| super::file::three_way(Some(&base), theirs, Some(&list));
    assert_eq!((merge(None), merge(Some(&json!(1)))), (Some(list.clone()), Some(list.clone())));
    assert_eq!(super::file::three_way(None, Some(&list), None), Some(list.clone()));
}

fn one_of(map: &ConceptMap, name: &str) -> Concept {
    map.get(name).unwrap()
}

/// What both make of `base`, on theirs.
fn three_way_of(base: &ConceptMap, theirs: &ConceptMap, ours: &ConceptMap) -> ConceptMap {
    let mut both = theirs.clone();
    both.merge_since(ours, base);
    both
}

/// What a map says, without the order and form of it; as texts, for 0 and −0 are equal.
fn meaning(map: &ConceptMap) -> (std::collections::BTreeMap<String, String>, Vec<String>) {
    let (mut states, mut others) = (std::collections::BTreeMap::<String, State>::new(), Vec::new());
    for element in list(map) {
        let name = element.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let (Some(name), Some(concept)) = (name, element.as_object()) else {
            others.push(element.to_string());
            continue;
        };
        let state = State::read(concept, Bound { now: NOW, latest: NOW + 300_000_000 });
        let state = states.remove(name).unwrap_or_default().join(state);
        states.insert(name.to_owned(), state);
    }
    others.sort();
    others.dedup();
    let said = states.into_iter().map(|(name, state)| {
        let mut concept = serde_json::Map::new();
        state.write(&mut concept);
        let mut concept = Value::Object(concept);
        concept.sort_all_objects();
        (name, concept.to_string())
    });
    (said.collect(), others)
}
