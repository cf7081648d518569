//! Random documents with comments in all places, and random changes of them.

use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use crate::document::Document;

/// Values that a text can hold without loss.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| Value::Number(Number::from(n))),
        (-1000..1000_i32).prop_map(|n| json!(f64::from(n) / 8.0)),
        name().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((name(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-e]{1,2}",
        Just("// no comment".to_owned()),
        Just("\"{[,\n\\é\u{1f600}".to_owned())
    ]
}

/// A supply of choices.
struct Choices(Vec<u8>, usize);

impl Choices {
    fn below(&mut self, limit: usize) -> usize {
        self.1 += 1;
        usize::from(self.0[self.1 % self.0.len()]) % limit.max(1)
    }

    fn trivia(&mut self, newline: &str) -> String {
        let kinds =
            ["", "", " ", "  ", "/* , ] } */", "/* a\n b */", "// , ] }\"", "\n", "\n\t", "// a\r"];
        let mut text = String::new();
        for _ in 0..self.below(4) {
            let kind = kinds[self.below(kinds.len())];
            text.push_str(&kind.replace('\n', newline));
            if kind.starts_with("//") && !kind.ends_with('\r') {
                text.push_str(newline);
            }
        }
        text
    }
}

fn write(value: &Value, choices: &mut Choices, newline: &str, text: &mut String) {
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    let members: Vec<(Option<&String>, &Value)> = match value {
        Value::Array(values) => values.iter().map(|value| (None, value)).collect(),
        Value::Object(values) => values.iter().map(|(name, value)| (Some(name), value)).collect(),
        _ => return text.push_str(&value.to_string()),
    };
    text.push(open);
    text.push_str(&choices.trivia(newline));
    for (at, (name, value)) in members.iter().enumerate() {
        if let Some(name) = name {
            text.push_str(&json!(name).to_string());
            text.push_str(&choices.trivia(newline));
            text.push(':');
            text.push_str(&choices.trivia(newline));
        }
        write(value, choices, newline, text);
        text.push_str(&choices.trivia(newline));
        if at + 1 < members.len() || choices.below(3) == 0 {
            text.push(',');
        }
        text.push_str(&choices.trivia(newline));
    }
    text.push(close);
}

fn document() -> impl Strategy<Value = (Value, String, Vec<u8>)> {
    let bytes = prop::collection::vec(any::<u8>(), 16..64);
    (value(), bytes, any::<bool>()).prop_map(|(value, bytes, crlf)| {
        let newline = if crlf { "\r\n" } else { "\n" };
        let mut choices = Choices(bytes.clone(), 0);
        let mut text = choices.trivia(newline);
        write(&value, &mut choices, newline, &mut text);
        text.push_str(&choices.trivia(newline));
        (value, text, bytes)
    })
}

/// Changes `value` at random places; `put` is what is put in.
fn mutate(value: &mut Value, choices: &mut Choices, put: &Value) {
    let what = choices.below(6);
    match value {
        Value::Object(members) if !members.is_empty() => {
            let name = members.keys().nth(choices.below(members.len())).unwrap().clone();
            match what {
                0 => drop(members.shift_remove(&name)),
                1 => drop(members.insert(format!("new {name}"), put.clone())),
                2 => members.clear(),
                _ => mutate(&mut members[&name], choices, put),
            }
            if choices.below(3) == 0 {
                members.insert("also".to_owned(), put.clone());
            }
        }
        Value::Array(values) if !values.is_empty() => {
            let at = choices.below(values.len());
            match what {
                0 => drop(values.remove(at)),
                1 => values.insert(at, put.clone()),
                2 => values.push(put.clone()),
                3 => values.truncate(at),
                _ => mutate(&mut values[at], choices, put),
            }
        }
        value => *value = put.clone(),
    }
}

fn changed(text: &str, new: &Value) -> String {
    let document = Document::parse(text.as_bytes()).unwrap();
    String::from_utf8(document.changed(new).unwrap().unwrap_or_else(|| text.into())).unwrap()
}

fn value_of(text: &str) -> Value {
    let document = Document::parse(text.as_bytes());
    document.unwrap_or_else(|e| panic!("{e:?} in\n{text}")).value().unwrap().unwrap()
}

/// Paths to all single values.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, v)| leaves(v, &format!("{path}/{at}"), found));
        }
        Value::Object(values) => values.iter().for_each(|(name, v)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            leaves(v, &format!("{path}/{name}"), found);
        }),
        _ => found.push(path.to_owned()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_changed_text_has_the_new_value((old, text, bytes) in document(), put in value(), times in 1..4) {
        prop_assert_eq!(&value_of(&text), &old);
        let mut new = old.clone();
        let mut choices = Choices(bytes, 7);
        (0..times).for_each(|_| mutate(&mut new, &mut choices, &put));
        let made = changed(&text, &new);
        prop_assert_eq!(value_of(&made), new, "{}\n---\n{}", text, made);
        let back = changed(&made, &old);
        prop_assert_eq!(value_of(&back), old, "{}\n---\n{}", made, back);
    }

    #[test]
    fn the_same_value_in_another_order_changes_nothing((old, text, _) in document()) {
        let document = Document::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(document.changed(&old), Ok(None));
        prop_assert_eq!(document.changed(&reversed(&old)), Ok(None));
    }

    #[test]
    fn one_value_changes_its_own_bytes_alone((old, text, bytes) in document()) {
        let mut paths = Vec::new();
        leaves(&old, "", &mut paths);
        let mut choices = Choices(bytes, 3);
        if paths.is_empty() {
            return Ok(());
        }
        let path = &paths[choices.below(paths.len())];
        let mut new = old.clone();
        *new.pointer_mut(path).unwrap() = json!("put in here");
        let made = changed(&text, &new);
        let (before, behind) = made.split_once("\"put in here\"").unwrap();
        prop_assert!(text.starts_with(before) && text.ends_with(behind), "{}\n---\n{}", text, made);
        let was = &text[before.len()..text.len() - behind.len()];
        prop_assert_eq!(&value_of(was), old.pointer(path).unwrap());
    }

    #[test]
    fn what_is_added_leaves_every_byte_in_its_order((old, text, bytes) in document(), put in value()) {
        let mut new = old.clone();
        let mut choices = Choices(bytes, 5);
        match &mut new {
            Value::Object(members) => drop(members.insert("added here".to_owned(), put)),
            Value::Array(values) => values.insert(choices.below(values.len() + 1), put),
            _ => {}
        }
        let made = changed(&text, &new);
        // Spaces before the closing bracket of what was empty may go.
        let mut left = made.bytes();
        let mut wanted = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
        prop_assert!(wanted.all(|byte| left.any(|other| other == byte)), "{}\n---\n{}", text, made);
    }
}

/// The names of all objects in the opposite order.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(reversed).collect(),
        Value::Object(values) => {
            let members = values.iter().rev().map(|(name, value)| (name.clone(), reversed(value)));
            Value::Object(members.collect())
        }
        other => other.clone(),
    }
}

/// What becomes of `text` when `change` changes its value.
fn after(text: &str, change: impl FnOnce(&mut Value)) -> String {
    let old = value_of(text);
    let mut new = old.clone();
    change(&mut new);
    let made = changed(text, &new);
    assert_eq!(value_of(&made), new, "{made}");
    made
}

#[test]
fn what_is_new_looks_like_its_neighbours() {
    let add = |value: &mut Value| value["new"] = json!({"x": [1], "y": {}});
    for (text, made) in [
        ("{}", "{\n  \"new\": {\n    \"x\": [\n      1\n    ],\n    \"y\": {}\n  }\n}"),
        ("{\"a\":1}", "{\"a\":1,\"new\":{\"x\":[1],\"y\":{}}}"),
        ("{ \"a\": 1 }\n", "{ \"a\": 1, \"new\": {\"x\": [1], \"y\": {}} }\n"),
        (
            "{\r\n\t\"a\": 1, // one\r\n\t// end\r\n}\r\n",
            "{\r\n\t\"a\": 1, // one\r\n\t\"new\": {\r\n\t\t\"x\": [\r\n\t\t\t1\r\n\t\t],\r\n\t\t\"y\": {}\r\n\t},\r\n\t// end\r\n}\r\n",
        ),
        (
            "{\n    \"a\": {\"b\": 2} // inline\n}",
            "{\n    \"a\": {\"b\": 2}, // inline\n    \"new\": {\"x\": [1], \"y\": {}}\n}",
        ),
        (
            "{ // nothing yet\n}",
            "{ // nothing yet\n  \"new\": {\n    \"x\": [\n      1\n    ],\n    \"y\": {}\n  }\n}",
        ),
    ] {
        assert_eq!(after(text, add), made);
    }
}

#[test]
fn what_is_taken_away_goes_with_its_line_and_comma() {
    let remove = |name: &'static str| {
        move |value: &mut Value| drop(value.as_object_mut().unwrap().shift_remove(name))
    };
    let text = "{\n  // of a\n  \"a\": 1, // one\n  /* of b */\n  \"b\": 2\n}\n";
    assert_eq!(after(text, remove("a")), "{\n  // of a\n  /* of b */\n  \"b\": 2\n}\n");
    assert_eq!(after(text, remove("b")), "{\n  // of a\n  \"a\": 1 // one\n  /* of b */\n}\n");
    assert_eq!(after("[1, 2, 3]", |v| *v = json!([1, 3])), "[1, 3]");
    assert_eq!(after("[1, 2, 3]", |v| *v = json!([1])), "[1]");
    assert_eq!(after("[1, 2, 3,]", |v| *v = json!([2])), "[2,]");
    assert_eq!(after("{\"a\":1,\"b\":2}", |v| *v = json!({"c": 3})), "{\"c\":3}");
}

#[test]
fn of_a_name_that_stands_twice_the_last_one_counts() {
    let text = "{\"a\": 1, \"b\": 0, \"a\": 2}";
    assert_eq!(value_of(text)["a"], 2);
    assert_eq!(after(text, |v| v["a"] = json!(3)), "{\"a\": 1, \"b\": 0, \"a\": 3}");
    assert_eq!(after(text, |v| drop(v.as_object_mut().unwrap().shift_remove("a"))), "{\"b\": 0}");
}

#[test]
fn numbers_stay_as_they_were_written() {
    let text = "[1.50, 1e3, 123456789012345678901234567890, -0, 4]";
    assert_eq!(
        after(text, |v| v[4] = json!(5)),
        "[1.50, 1e3, 123456789012345678901234567890, -0, 5]"
    );
}

#[test]
fn a_text_without_a_value_gets_one_behind_its_comments() {
    let put = |text: &str| {
        let document = Document::parse(text.as_bytes()).unwrap();
        assert_eq!(document.value(), Ok(None));
        String::from_utf8(document.changed(&json!({"a": 1})).unwrap().unwrap()).unwrap()
    };
    assert_eq!(put(""), "{\n  \"a\": 1\n}\n");
    assert_eq!(put(" \n"), "{\n  \"a\": 1\n}\n");
    assert_eq!(put("// mine\n"), "// mine\n{\n  \"a\": 1\n}\n");
    assert_eq!(put("\u{feff}"), "\u{feff}{\n  \"a\": 1\n}\n");
}

#[test]
fn what_is_not_valid_is_told_with_its_place() {
    let place = |text: &[u8]| {
        let value = Document::parse(text).and_then(|document| document.value());
        let e = value.unwrap_err();
        (e.line, e.column, e.why)
    };
    let is = |text: &str, line, column, why: &str| {
        let (l, c, w) = place(text.as_bytes());
        assert!((l, c) == (line, column) && w.contains(why), "{text}: {l}:{c}: {w}");
    };
    is("{\n  \"a\": 1e999\n}", 2, 8, "out of range");
    is("{\"é\": 1,\n \"b\" 2}", 2, 6, "colon");
    is("[1] [2]", 1, 5, "more than one");
    is("{'a': 1}", 1, 2, "single-quoted");
    is("[NaN]", 1, 2, "");
    is("[0x10]", 1, 3, "comma");
    is("[\"a\nb\"]", 1, 4, "control character");
    is("[\"\\ud800\"]", 1, 9, "hex escape");
    assert_eq!(place(b"{\n \"a\xff\": 1}"), (2, 4, "not UTF-8".to_owned()));
    is(&"[".repeat(100_000), 1, 128, "deeper than 127 levels");
    is(&format!("{}1{}", "{\"a\":".repeat(600), "}".repeat(600)), 1, 636, "deeper than 127");
}

#[test]
fn what_nobody_could_read_again_is_not_written() {
    let arrays = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let objects = |levels| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
    let document = Document::parse(b"{\"a\": 1}").unwrap();
    for most in [arrays(127), objects(127)] {
        let text = document.changed(&most).unwrap().unwrap();
        assert_eq!(value_of(std::str::from_utf8(&text).unwrap()), most);
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), most);
    }
    for more in [arrays(128), objects(128)] {
        assert!(document.changed(&more).unwrap_err().contains("deeper than 127 levels"));
    }
}

#[test]
fn what_an_array_keeps_stays_as_it_is_written_wherever_it_moves() {
    let text =
        "[\n  1.50, // of anna\n  123456789012345678901234567890, // of bert\n  1e3, // of cleo\n]";
    let made = after(text, |list| {
        list.as_array_mut().unwrap().remove(0);
        list.as_array_mut().unwrap().push(json!("dora"));
    });
    assert_eq!(
        made,
        "[\n  123456789012345678901234567890, // of bert\n  1e3, // of cleo\n  \"dora\",\n]"
    );
    let made = after(text, |list| list.as_array_mut().unwrap().insert(1, json!("new")));
    assert_eq!(made, text.replace("\n  123", "\n  \"new\",\n  123"));
    let swapped = after("[1.0, 2.00, 3.000]", |list| list.as_array_mut().unwrap().swap(0, 2));
    assert!(swapped.contains("3.000") || swapped.contains("1.0,"), "{swapped}");
}

#[test]
fn comments_end_with_their_line_whatever_ends_the_line() {
    let text = "{\r \"list\": [\r 1 // one\r , 2 // two\r , 3\r ]\r}\r";
    let made = after(text, |all| drop(all["list"].as_array_mut().unwrap().remove(0)));
    assert_eq!(value_of(&made), json!({"list": [2, 3]}));
}
