//! Laws of merging, and its edge cases.

use proptest::prelude::*;
use std::time::Duration;

use serde_json::json;

use super::*;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (0..4_i32).prop_map(Value::from),
        any::<bool>().prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-d]", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Objects, as files have them at their root.
fn object() -> impl Strategy<Value = Value> {
    prop::collection::vec(("[a-d]", value()), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn merge() -> impl Strategy<Value = Merge> {
    let policy = prop_oneof![Just(Policy::Ours), Just(Policy::Theirs), Just(Policy::Additive)];
    prop::collection::vec(("([a-d*](\\.[a-d*])?)?", policy), 0..3).prop_map(|rules| {
        rules.into_iter().fold(Merge::new(), |merge, (path, policy)| merge.at(&path, policy))
    })
}

/// Whether everything that `part` has is in `whole`: names and elements.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| holds(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => part.iter().all(|part| whole.contains(part)),
        _ => true,
    }
}

/// Whether the same names lead to the same kinds of values.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.iter().all(|(name, one)| other.get(name).is_none_or(|other| alike(one, other)))
        }
        (Value::Object(_), _) | (_, Value::Object(_)) => false,
        (Value::Array(_), other) | (other, Value::Array(_)) => other.is_array(),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_both_made_the_same_is_that(merge in merge(), base in object(), both in object()) {
        prop_assert_eq!(merge.three_way(&base, &both, Some(&both)), both);
    }

    #[test]
    fn what_one_side_alone_changed_is_his(base in object(), one in object()) {
        let merge = Merge::new();
        prop_assert_eq!(&merge.three_way(&base, &one, Some(&base)), &one);
        prop_assert_eq!(&merge.three_way(&base, &base, Some(&one)), &one);
    }

    #[test]
    fn what_only_grows_loses_nothing(base in object(), ours in object(), theirs in object()) {
        prop_assume!(alike(&ours, &theirs));
        let merged = Merge::new().at("", Policy::Additive).three_way(&base, &ours, Some(&theirs));
        prop_assert!(holds(&merged, &ours) && holds(&merged, &theirs), "{merged}");
        let again = Merge::new().at("", Policy::Additive).three_way(&base, &ours, Some(&merged));
        prop_assert!(holds(&again, &merged) && holds(&merged, &again), "{again}");
    }

    #[test]
    fn ours_and_theirs_are_each_others_mirror(base in object(), ours in object(), theirs in object()) {
        let by_ours = Merge::new().three_way(&base, &ours, Some(&theirs));
        let by_theirs = Merge::new().at("", Policy::Theirs).three_way(&base, &theirs, Some(&ours));
        prop_assert_eq!(by_ours, by_theirs);
    }

    #[test]
    fn changes_of_different_names_need_no_policy(merge in merge(), base in object(), a in value(), b in value()) {
        let with = |name: &str, value: &Value, of: &Value| {
            let mut all = of.clone();
            all[name] = value.clone();
            all
        };
        let (ours, theirs) = (with("x", &a, &base), with("y", &b, &base));
        let merged = merge.three_way(&base, &ours, Some(&theirs));
        prop_assert_eq!(merged, with("x", &a, &theirs));
    }
}

#[test]
fn the_longest_path_counts_and_a_star_is_any_name() {
    let merge = Merge::new()
        .at("", Policy::Theirs)
        .at("people.*.name", Policy::Ours)
        .at("people", Policy::Additive);
    let base = json!({"people": {"a": {"name": "", "tags": [1]}}, "n": 0});
    let ours = json!({"people": {"a": {"name": "ours", "tags": [2]}}, "n": 1});
    let theirs = json!({"people": {"a": {"name": "theirs", "tags": [3]}, "b": {}}, "n": 2});
    let merged = json!({"people": {"a": {"name": "ours", "tags": [3, 2]}, "b": {}}, "n": 2});
    assert_eq!(merge.three_way(&base, &ours, Some(&theirs)), merged);
}

#[test]
fn what_one_removed_and_the_other_changed_goes_by_the_policy() {
    let (base, without, changed) = (json!({"a": 1}), json!({}), json!({"a": 2}));
    let merged = |policy: Policy, ours: &Value, theirs: &Value| {
        Merge::new().at("a", policy).three_way(&base, ours, Some(theirs))
    };
    assert_eq!(merged(Policy::Ours, &without, &changed), without);
    assert_eq!(merged(Policy::Ours, &changed, &without), changed);
    assert_eq!(merged(Policy::Theirs, &without, &changed), changed);
    assert_eq!(merged(Policy::Additive, &without, &changed), changed);
    assert_eq!(merged(Policy::Additive, &changed, &without), changed);
}

#[test]
fn a_file_that_went_is_ours_again() {
    let (base, ours) = (json!({"a": 1}), json!({"a": 2}));
    assert_eq!(Merge::new().three_way(&base, &ours, None), ours);
}

#[test]
fn a_function_is_asked_where_the_sides_differ() {
    let sum = |base: Option<&Value>, theirs: Option<&Value>, ours: Option<&Value>| {
        let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
        Some(Value::from(number(theirs) + number(ours) - number(base)))
    };
    let merge = Merge::new().at("n", Policy::Custom(Arc::new(sum)));
    let merged = merge.three_way(&json!({"n": 10}), &json!({"n": 12}), Some(&json!({"n": 15})));
    assert_eq!(merged, json!({"n": 17}));
}

#[test]
fn numbers_are_averaged_by_how_recent_their_sides_are() {
    let merge = Merge::new().at("*", Policy::by_recency("at", Duration::from_secs(100)));
    let met = |theirs: Value, ours: Value| {
        merge.three_way(&json!({}), &json!({"a": ours}), Some(&json!({"a": theirs})))["a"].clone()
    };
    let theirs = json!({"level": 0.2, "name": "theirs", "at": 1000, "kept": 1});
    // Equally old: the middle, and what cannot be averaged is ours.
    let made = met(theirs.clone(), json!({"level": 0.6, "name": "ours", "at": 1000}));
    assert_eq!(made, json!({"level": 0.4, "name": "ours", "at": 1000, "kept": 1}));
    // A half-life later: twice the weight. A half-life earlier: half of theirs, and theirs is the name.
    let made = met(theirs.clone(), json!({"level": 0.5, "name": "ours", "at": 1100}));
    assert_eq!(made, json!({"level": 0.4, "name": "ours", "at": 1100, "kept": 1}));
    let made = met(theirs.clone(), json!({"level": 0.5, "name": "ours", "at": 900}));
    assert!((made["level"].as_f64().unwrap() - 0.3).abs() < 1e-12, "{made}");
    assert_eq!((&made["name"], &made["at"]), (&json!("theirs"), &json!(1000)));
    // Who has no time is as old as can be.
    let made = met(theirs, json!({"level": 0.9, "new": true}));
    assert_eq!(made, json!({"level": 0.2, "name": "theirs", "at": 1000, "kept": 1, "new": true}));
    let made = met(json!({"level": 0.0}), json!({"level": 1.0}));
    assert_eq!(made, json!({"level": 0.5}));
}
