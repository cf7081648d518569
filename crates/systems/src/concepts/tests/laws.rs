//! The laws of merging, for any maps: what they say afterwards is read from the merged documents.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{ConceptMap, Learned, NOW, map, meaning, three_way_of};
use crate::concepts::merge_concepts;

fn any_of(values: Vec<Value>) -> proptest::sample::Select<Value> {
    proptest::sample::select(values)
}

fn levels() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0u32..=1000).prop_map(|n| json!(f64::from(n) / 1000.0)),
        1 => (0.0..=1.0f64).prop_map(|level| json!(level)),
        1 => any_of(vec![
            json!(0), json!(-0.0), json!(1), json!(1.5), json!(-1), json!("high"), json!(null),
        ]),
    ]
}

/// Few enough that many are equal.
fn times() -> impl Strategy<Value = Value> {
    any_of(vec![
        json!("2025-04-01T00:00:00Z"),
        json!("2025-04-01T01:00:00+01:00"),
        json!("2025-05-01T00:00:00.123456Z"),
        json!("2024-06-01T00:00:00Z"),
        json!("1999-01-01T00:00:00Z"),
        json!("2999-01-01T00:00:00Z"),
        json!(1_743_465_600_000_i64),
        json!("yesterday"),
        json!(-1),
    ])
}

/// What merging may have to read: its own, a later version's, somebody's own field.
fn memory(salt: &'static str) -> impl Strategy<Value = Value> {
    let level = any_of(vec![
        json!(["2025-04-01T00:00:00Z", 0.5, 1.0, "maria"]),
        json!(["2024-06-01T00:00:00Z", 0.25, 0.5, "otto"]),
        json!(["2024-06-01T00:00:00Z", 0.25, 0.5, "otto", "later"]),
        json!(["x", -0.0]),
        json!({"later": salt}),
    ]);
    let (at, by) = (times(), any_of(vec![json!("maria"), json!(1)]));
    let field = (at, by).prop_map(|(at, by)| json!({"description": [at, by]}));
    let own = any_of(vec![json!(true), json!({}), json!({"by": salt}), json!({"levels": 1})]);
    let key = any_of(vec![json!(1), json!(-0.0), json!({"b": 1, "a": salt})]);
    prop_oneof![
        4 => (of(vec(level, 0..4)), of(field), of(key)).prop_map(|(levels, fields, later)| {
            let parts = [("levels", levels.map(Value::from)), ("fields", fields), ("later", later)];
            let parts = parts.into_iter();
            parts.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
        }),
        1 => own,
    ]
}

fn concept() -> impl Strategy<Value = Value> {
    let names = any_of(vec![json!("a"), json!("b"), json!("c")]);
    let people = any_of(vec![json!("maria"), json!("otto"), json!(""), json!(42), json!(null)]);
    let texts = any_of(vec![
        json!("x"),
        json!(null),
        json!({"deep": [1]}),
        json!({"deep": [-0.0]}),
        json!({"a": 1, "b": 2}),
        json!({"b": 2, "a": 1}),
        json!({"a": 2}),
        json!(0),
        json!(0.0),
        json!(-0.0),
    ]);
    let remembered = (of(memory("merged")), of(memory("merged_")));
    let texts = (of(texts.clone()), of(texts));
    let parts = (names, of(levels()), of(levels()), of(times()), of(people), texts, remembered);
    parts.prop_map(|(name, level, confidence, updated_at, learned_by, texts, remembered)| {
        let (description, other) = texts;
        let mut concept = Map::new();
        concept.insert("name".to_owned(), name);
        let fields = [
            ("level", level),
            ("confidence", confidence),
            ("updated_at", updated_at),
            ("learned_by", learned_by),
            ("description", description),
            ("other", other),
            ("merged", remembered.0),
            ("merged_", remembered.1),
        ];
        for (name, value) in fields {
            concept.extend(value.map(|value| (name.to_owned(), value)));
        }
        Value::Object(concept)
    })
}

fn elements() -> impl Strategy<Value = Value> {
    prop_oneof![
        9 => concept(),
        1 => any_of(vec![json!(1), json!({"name": ""}), json!({"level": 0.5}), json!(null)]),
    ]
}

fn maps() -> impl Strategy<Value = ConceptMap> {
    // Merged ones too: with what merging remembers in them.
    let lists = vec(vec(elements(), 0..5), 1..4);
    lists.prop_map(|lists| {
        let maps = lists.into_iter().map(|list| map(json!(list)));
        maps.reduce(|ours, theirs| merge_concepts(&ours, &theirs)).unwrap()
    })
}

fn learned() -> impl Strategy<Value = Learned> {
    let names = proptest::sample::select(vec!["a", "b", "d"]);
    (names, of(0.0..=1.0f64), of(0.0..=1.0f64), of("[xyz]"), -1_000_000..1_000_000i64).prop_map(
        |(name, level, confidence, description, off)| {
            let mut learned = Learned::new(name).at(NOW + off).by("maria");
            if let Some(level) = level {
                learned = learned.level(level);
            }
            if let Some(confidence) = confidence {
                learned = learned.confidence(confidence);
            }
            if let Some(description) = description {
                learned = learned.description(description);
            }
            learned
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_commutative(a in maps(), b in maps()) {
        prop_assert_eq!(meaning(&merge_concepts(&a, &b)), meaning(&merge_concepts(&b, &a)));
    }

    #[test]
    fn merging_is_associative(a in maps(), b in maps(), c in maps()) {
        let left = merge_concepts(&merge_concepts(&a, &b), &c);
        let right = merge_concepts(&a, &merge_concepts(&b, &c));
        prop_assert_eq!(meaning(&left), meaning(&right));
    }

    #[test]
    fn merging_is_idempotent(a in maps(), b in maps()) {
        let both = merge_concepts(&a, &b);
        prop_assert_eq!(meaning(&both), meaning(&merge_concepts(&both, &a)));
        let again = merge_concepts(&both, &both);
        prop_assert_eq!(meaning(&again), meaning(&both));
        // And once there is one of each name, to the letter.
        let settled = merge_concepts(&again, &again);
        prop_assert_eq!(settled.into_value().to_string(), again.into_value().to_string());
    }

    #[test]
    fn nothing_leaves(a in maps(), b in maps()) {
        let both = merge_concepts(&a, &b);
        for side in [&a, &b] {
            for concept in side.concepts() {
                let merged = both.get(&concept.name).unwrap();
                prop_assert!(merged.updated_at >= concept.updated_at);
                prop_assert!(merged.level.is_some() || concept.level.is_none());
                for field in concept.rest.keys() {
                    prop_assert!(merged.rest.contains_key(field));
                }
            }
        }
        // Of each name it has one level between those of both sides.
        for merged in both.concepts() {
            let sides = [a.get(&merged.name), b.get(&merged.name)];
            let levels: Vec<f64> = sides.into_iter().flatten().filter_map(|c| c.level).collect();
            let (least, most) = levels.iter().fold((1.0f64, 0.0f64), |(l, m), x| (l.min(*x), m.max(*x)));
            if let Some(level) = merged.level && levels.len() == 2 && !levels.is_empty() {
                prop_assert!((0.0..=1.0).contains(&level), "{} not of {}..{}", level, least, most);
            }
        }
    }

    #[test]
    fn a_change_of_one_side_is_his(base in maps(), learned in vec(learned(), 1..4)) {
        let mut changed = base.clone();
        for one in &learned {
            changed.learn(one).unwrap();
        }
        let (merged_ours, merged_theirs) =
            (three_way_of(&base, &base, &changed), three_way_of(&base, &changed, &base));
        prop_assert_eq!(meaning(&merged_ours).0, meaning(&changed).0);
        prop_assert_eq!(meaning(&merged_theirs).0, meaning(&changed).0);
    }

    #[test]
    fn what_was_learned_on_both_sides_is_there(
        base in maps(), ours in vec(learned(), 1..4), theirs in vec(learned(), 1..4),
    ) {
        let after = |learned: &[Learned]| {
            let mut map = base.clone();
            for one in learned {
                map.learn(one).unwrap();
            }
            map
        };
        let merged = three_way_of(&base, &after(&theirs), &after(&ours));
        for side in [after(&ours), after(&theirs)] {
            for concept in side.concepts() {
                let found = merged.get(&concept.name).unwrap();
                prop_assert!(found.updated_at >= concept.updated_at);
                prop_assert!(found.level.is_some() || concept.level.is_none());
                prop_assert!(found.description.is_some() || concept.description.is_none());
            }
        }
    }

    #[test]
    fn what_is_written_is_what_was_learned(map in maps(), learned in learned()) {
        let mut after = map.clone();
        let told = after.learn(&learned).unwrap();
        let document = after.into_value();
        let read = ConceptMap::from_value(document).unwrap().now(NOW);
        prop_assert_eq!(read.get(&told.name).unwrap(), told);
    }
}
