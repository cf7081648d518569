//! What merging remembers, what later versions of it remember, and fields that only have its name.

use serde_json::{Value, json};

use super::{Learned, T1, T2, list, map, one};
use crate::concepts::{ConceptError, ConceptMap, merge_concepts};

/// Two levels, so that there is something to be remembered.
fn learn_twice(map: &mut ConceptMap) {
    for (by, level) in [("a", 0.2), ("b", 0.8)] {
        map.learn(&Learned::new("n").level(level).by(by)).unwrap();
    }
}

#[test]
fn somebodys_own_field_of_that_name_stays() {
    for own in [
        json!(true),
        json!(null),
        json!([]),
        json!({}),
        json!({"by": "maria"}),
        json!({"levels": 1, "fields": {}}),
        json!({"levels": [], "fields": []}),
        json!({"levels": ["easy", "hard"]}),
        json!({"fields": {"x": 1}}),
    ] {
        let mut map = map(json!([{"name": "n", "merged": own}]));
        learn_twice(&mut map);
        let n = &list(&map)[0];
        assert_eq!((&n["merged"], &one(&map).rest["merged"]), (&own, &own), "{n}");
        assert_eq!(n["merged_"]["levels"].as_array().unwrap().len(), 2, "{n}");
        // It is read again, and so is what is remembered beside it.
        let read = super::map(json!(list(&map)));
        assert_eq!((one(&read), one(&read).rest.len()), (one(&map), 1));
        // One more name that is taken.
        let mut both = merge_concepts(&read, &super::map(json!([{"name": "n", "merged_": 7}])));
        learn_twice(&mut both);
        let n = &list(&both)[0];
        assert_eq!((&n["merged"], &n["merged_"]), (&own, &json!(7)), "{n}");
        assert_eq!(n["merged__"]["levels"].as_array().unwrap().len(), 4, "{n}");
    }
}

#[test]
fn a_field_that_takes_the_name_moves_what_is_remembered() {
    let mut ours = map(json!([]));
    learn_twice(&mut ours);
    let before = one(&ours);
    let theirs = map(json!([{"name": "n", "merged": true}]));
    let merged = merge_concepts(&ours, &theirs);
    let n = &list(&merged)[0];
    assert_eq!((&n["merged"], one(&merged).level), (&json!(true), before.level), "{n}");
    assert!(n["merged_"].is_object(), "{n}");
    // Somebody removes his field: the next update takes the name again.
    let mut concepts = list(&merged);
    concepts[0].as_object_mut().unwrap().remove("merged");
    let mut map = map(json!(concepts));
    assert_eq!(one(&map).level, before.level);
    map.learn(&Learned::new("n").description("d")).unwrap();
    let n = &list(&map)[0];
    assert!(n["merged"].is_object() && n.get("merged_").is_none(), "{n}");
    for name in ["merged", "merged_", "merged__"] {
        let reserved = Learned::new("n").field(name, 1);
        assert_eq!(map.learn(&reserved), Err(ConceptError::Reserved(name.to_owned())));
    }
    assert!(map.learn(&Learned::new("n").field("merged_at", 1)).is_ok());
}

#[test]
fn what_a_later_version_remembers_stays() {
    let later = json!([T1, 0.9, 1.0, "a", "more"]);
    let merged = json!({"levels": [[T1, 0.2, 1.0, "a"], later], "rules": {"half_life": 7}});
    let mut map = map(json!([{"name": "n", "level": 0.2, "updated_at": T1, "merged": merged}]));
    assert_eq!((one(&map).level, one(&map).rest.len()), (Some(0.2), 0));
    learn_twice(&mut map);
    let merged = list(&map)[0]["merged"].clone();
    assert_eq!(merged["rules"], json!({"half_life": 7}));
    let levels = merged["levels"].as_array().unwrap();
    assert_eq!((levels.len(), &levels[3]), (4, &later), "it does not count: {merged}");
    // A level by hand, which has the last word on what is known here.
    let mut concepts = list(&map);
    concepts[0]["level"] = json!(0.6);
    let mut map = super::map(json!(concepts));
    assert_eq!(one(&map).level, Some(0.6));
    map.learn(&Learned::new("n").description("d")).unwrap();
    let n = &list(&map)[0];
    assert_eq!((&n["level"], &n["merged"]["levels"][1]), (&json!(0.6), &later), "{n}");
    // Both sides' stay, whichever comes first.
    let other = |value: Value| {
        let merged = json!({"levels": [], "rules": value, "more": [1]});
        super::map(json!([{"name": "n", "merged": merged}]))
    };
    for value in [json!(1), json!({"half_life": 8})] {
        let (ab, ba) =
            (merge_concepts(&map, &other(value.clone())), merge_concepts(&other(value), &map));
        let (ab, ba) = (list(&ab)[0]["merged"].clone(), list(&ba)[0]["merged"].clone());
        assert_eq!((&ab, &ab["more"]), (&ba, &json!([1])));
    }
}

#[test]
fn garbage_in_what_merging_remembers_is_not_believed() {
    let known = json!([T1, 0.4, 1, "a"]);
    for (merged, fields) in [
        (json!(1), 2),
        (json!({"levels": 1, "fields": []}), 2),
        (json!({"levels": [[T1, 0.5]], "fields": {"x": 1}}), 2),
        (json!({"levels": [["never", 0.5, 1, "a"]], "fields": {"x": ["never", "a"]}}), 2),
        (json!({"levels": [[T1, 0.5, 7, "a"], known], "fields": {}}), 1),
        (json!({"fields": {"x": ["2999-01-01T00:00:00Z", "a"]}}), 1),
        (json!({"levels": [], "fields": {"y": [T1, "a"]}}), 1),
    ] {
        let odd = json!({"name": "n", "level": 0.5, "x": 1, "updated_at": T2, "merged": merged});
        let read = one(&map(json!([odd.clone()])));
        assert_eq!((read.level, read.rest.len()), (Some(0.5), fields), "{odd}");
        let learned = map(json!([odd])).learn(&Learned::new("n").level(0.7)).unwrap();
        assert!((learned.level.unwrap() - 0.634).abs() < 0.001, "{learned:?}");
    }
}
