//! A JSON or JSONC text, and changing it so that what was not changed keeps its form: comments, order, indentation,
//! line ends, numbers as they were written.
//!
//! The updater changes an ordinary [`Value`]; the difference to the value before is then made in the concrete syntax
//! tree (`jsonc-parser`), place by place. Of a name that stands twice in an object the last one counts, as in most
//! readers, and is the one that is changed; both go when it is removed.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};
use serde_json::Value;

/// What some editors put before a text in UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A text that was parsed.
#[derive(Debug)]
pub(crate) struct Document {
    root: CstRootNode,
    mark: bool,
}

/// Where a text is not valid, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) why: String,
}

/// JSON with comments and trailing commas, and nothing else that some parsers let through.
fn options() -> ParseOptions {
    ParseOptions {
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
    }
}

impl Document {
    /// Parses a text. An empty one, or one of comments alone, is a document without a value.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(text).map_err(|e| not_utf8(text, &e))?;
        let (mark, text) = match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let root = CstRootNode::parse(text, &options()).map_err(|e| Invalid {
            line: e.line_display(),
            column: e.column_display(),
            why: lower(&e.kind().to_string()),
        })?;
        Ok(Self { root, mark })
    }

    /// The value; none when there is no value in it.
    pub(crate) fn value(&self) -> Result<Option<Value>, Invalid> {
        if self.root.value().is_none() {
            return Ok(None);
        }
        let why = "a number in it is out of range, or a string is not one".to_owned();
        self.root.to_serde_value().map(Some).ok_or(Invalid { line: 1, column: 1, why })
    }

    /// Makes the text one of `new`, where `old` is its value now.
    pub(crate) fn change(&self, old: Option<&Value>, new: &Value) {
        match (self.root.value(), old) {
            (Some(node), Some(old)) => change(&node, old, new),
            _ => self.root.set_value(input(new)),
        }
    }

    /// The text.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mark = if self.mark { BYTE_ORDER_MARK } else { "" };
        format!("{mark}{}", self.root).into_bytes()
    }
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn not_utf8(text: &[u8], error: &std::str::Utf8Error) -> Invalid {
    let before = text.get(..error.valid_up_to()).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let column = String::from_utf8_lossy(last).chars().count() + 1;
    Invalid { line, column, why: "not UTF-8".to_owned() }
}

/// Changes what stands at `node`, whose value is `old`.
fn change(node: &CstNode, old: &Value, new: &Value) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            if let Some(object) = node.as_object() {
                return change_object(&object, old, new);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            if let Some(array) = node.as_array() {
                return change_array(&array, old, new);
            }
        }
        _ => {}
    }
    replace(node, new);
}

fn replace(node: &CstNode, new: &Value) {
    let new = input(new);
    let node = node.clone();
    // What can stand as a value; the others are never met.
    if let Some(object) = node.as_object() {
        object.replace_with(new);
    } else if let Some(array) = node.as_array() {
        array.replace_with(new);
    } else if let Some(string) = node.as_string_lit() {
        string.replace_with(new);
    } else if let Some(number) = node.as_number_lit() {
        number.replace_with(new);
    } else if let Some(boolean) = node.as_boolean_lit() {
        boolean.replace_with(new);
    } else if let Some(null) = node.as_null_keyword() {
        null.replace_with(new);
    }
}

type Map = serde_json::Map<String, Value>;

fn change_object(object: &CstObject, old: &Map, new: &Map) {
    let named = |name: &str| {
        let all = object.properties().into_iter();
        all.filter(|prop| prop.decoded_name().as_deref() == Some(name)).collect::<Vec<CstObjectProp>>()
    };
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        named(name).into_iter().for_each(CstObjectProp::remove);
    }
    for (name, new) in new {
        match (old.get(name), named(name).pop()) {
            (Some(old), Some(prop)) => {
                if let Some(value) = prop.value() {
                    change(&value, old, new);
                }
            }
            _ => {
                object.append(name, input(new));
            }
        }
    }
}

fn change_array(array: &CstArray, old: &[Value], new: &[Value]) {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (old.get(same..).unwrap_or_default(), new.get(same..).unwrap_or_default());
    let behind = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (
        old.get(..old.len() - behind).unwrap_or_default(),
        new.get(..new.len() - behind).unwrap_or_default(),
    );
    let nodes: Vec<CstNode> = array.elements().into_iter().skip(same).take(old.len()).collect();
    for ((node, old), new) in nodes.iter().zip(old).zip(new) {
        change(node, old, new);
    }
    for node in nodes.into_iter().skip(new.len()) {
        node.remove();
    }
    for (at, value) in new.iter().enumerate().skip(old.len()) {
        array.insert(same + at, input(value));
    }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(value) => CstInputValue::Number(value.to_string()),
        Value::String(value) => CstInputValue::String(value.clone()),
        Value::Array(values) => CstInputValue::Array(values.iter().map(input).collect()),
        Value::Object(values) => {
            let named = values.iter().map(|(name, value)| (name.clone(), input(value)));
            CstInputValue::Object(named.collect())
        }
    }
}
