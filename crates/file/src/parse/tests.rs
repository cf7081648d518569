//! The parser beside another one, which made the same choices: whatever bytes come, both take them or neither does,
//! and both see the same.

use jsonc_parser::ast::{ObjectProp, ObjectPropName, StringLit, Value as Node};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions};
use proptest::prelude::*;
use serde_json::Value;

use super::{Tree, plain};

fn ours(text: &str) -> Option<Option<Value>> {
    let tree = Tree::parse(text).ok()?;
    tree.root().map(|root| tree.value(root)).transpose().ok()
}

fn theirs(text: &str) -> Option<Option<Value>> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &options).ok()?;
    parsed.value.map(|node| value_of(&node, text)).transpose().ok()
}

fn value_of(node: &Node<'_>, text: &str) -> Result<Value, serde_json::Error> {
    Ok(match node {
        Node::NullKeyword(_) => Value::Null,
        Node::BooleanLit(literal) => Value::Bool(literal.value),
        Node::StringLit(literal) => Value::String(plain_string(literal, text)?),
        Node::NumberLit(literal) => Value::Number(literal.value.parse()?),
        Node::Array(array) => {
            array.elements.iter().map(|node| value_of(node, text)).collect::<Result<_, _>>()?
        }
        Node::Object(object) => {
            let members = object.properties.iter();
            let named = |member: &ObjectProp<'_>| {
                let name = match &member.name {
                    ObjectPropName::String(literal) => plain_string(literal, text)?,
                    ObjectPropName::Word(_) => unreachable!("not allowed"),
                };
                Ok((name, value_of(&member.value, text)?))
            };
            Value::Object(members.map(named).collect::<Result<_, serde_json::Error>>()?)
        }
    })
}

/// What a string says. The other parser takes line ends within it, and JSON does not.
fn plain_string(literal: &StringLit<'_>, text: &str) -> Result<String, serde_json::Error> {
    if text[literal.start()..literal.end()].bytes().any(|byte| byte < b' ') {
        serde_json::from_str::<String>("\"\n\"")?;
    }
    Ok(literal.value.to_string())
}

/// Pieces of texts, right and wrong. Left out: spaces that are none in JSON, which the other one takes.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\r\n",
        "\t",
        "// c\n",
        "/* c */",
        "/*",
        "//",
        "/",
        "null",
        "true",
        "false",
        "nul",
        "truex",
        "0",
        "-0",
        "1.5",
        "1e3",
        "01",
        "-",
        "1.",
        ".5",
        "+1",
        "1e999",
        "12345678901234567890",
        "\"\"",
        "\"a\"",
        "\"b\"",
        "\"\\n\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "\"\\x\"",
        "\"é\u{1f600}\"",
        "\"",
        "\\",
        "'a'",
        "a",
    ];
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

/// Texts that are mostly right: values in brackets, with commas and comments.
fn text() -> impl Strategy<Value = String> {
    let leaf = piece();
    leaf.prop_recursive(5, 60, 6, |inner| {
        let trivia = prop::sample::select(vec!["", "", " ", "\n", "/* , */", "// ]\n"]);
        let name = prop::sample::select(vec!["\"a\"", "\"b\"", "\"a\\n\"", "\"é\"", "a"]);
        let element =
            (inner.clone(), trivia.clone()).prop_map(|(value, gap)| format!("{gap}{value}{gap}"));
        let member = (name, inner, trivia)
            .prop_map(|(name, value, gap)| format!("{gap}{name}{gap}:{value}{gap}"));
        let comma = prop::sample::select(vec![",", ",", ",", ", ", ",,"]);
        prop_oneof![
            (prop::collection::vec(element, 0..5), comma.clone(), "[ ,]?")
                .prop_map(|(all, comma, last)| format!("[{}{last}]", all.join(comma))),
            (prop::collection::vec(member, 0..5), comma, "[ ,]?")
                .prop_map(|(all, comma, last)| format!("{{{}{last}}}", all.join(comma))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_see_the_same(text in text()) {
        prop_assert_eq!(ours(&text), theirs(&text), "{}", text);
    }

    #[test]
    fn both_see_the_same_in_pieces(pieces in prop::collection::vec(piece(), 0..8)) {
        let text = pieces.concat();
        prop_assert_eq!(ours(&text), theirs(&text), "{}", text);
    }

    #[test]
    fn what_is_passed_over_is_plain(bytes in prop::collection::vec(prop_oneof![Just(b'x'), any::<u8>()], 0..40)) {
        let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        prop_assert_eq!(plain(&bytes), bytes.iter().position(ends).unwrap_or(bytes.len()));
    }
}
