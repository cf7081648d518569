//! A JSON or JSONC text and its value.
//!
//! Comments and trailing commas are allowed, and nothing else that some parsers let through. Of a name that stands twice
//! in an object the last one counts, as in most readers. What a [`Value`] cannot hold is not valid, and is told with
//! its place; nothing is read as something else.

use jsonc_parser::ast::Value as Node;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Number, Value};

use crate::edit;

/// What some editors put before a text in UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// Values within values, as deep as the parser goes: an object counts twice.
const DEPTH_MAX: usize = 500;

/// A text that was parsed.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    /// Without a mark before it.
    text: &'a str,
    mark: bool,
    root: Option<Node<'a>>,
}

/// Where a text is not valid, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) why: String,
}

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

impl<'a> Document<'a> {
    /// Parses a text. An empty one, or one of comments alone, is a document without a value.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(text).map_err(|e| not_utf8(text, &e))?;
        let (mark, text) = match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let parsed = parse_to_ast(text, &CollectOptions::default(), &options());
        let parsed = parsed.map_err(|e| Invalid {
            line: e.line_display(),
            column: e.column_display(),
            why: lower(&e.kind().to_string()),
        })?;
        Ok(Self { text, mark, root: parsed.value })
    }

    /// The value; none when there is no value in it.
    pub(crate) fn value(&self) -> Result<Option<Value>, Invalid> {
        self.root.as_ref().map(|root| self.value_of(root)).transpose()
    }

    fn value_of(&self, node: &Node<'_>) -> Result<Value, Invalid> {
        Ok(match node {
            Node::NullKeyword(_) => Value::Null,
            Node::BooleanLit(literal) => Value::Bool(literal.value),
            Node::StringLit(literal) => Value::String(literal.value.to_string()),
            Node::NumberLit(literal) => {
                let number = literal.value.parse::<Number>();
                Value::Number(
                    number.map_err(|_| self.not_a_number(literal.start(), literal.value))?,
                )
            }
            Node::Array(array) => {
                let values = array.elements.iter().map(|node| self.value_of(node));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
            Node::Object(object) => {
                let mut values = Map::with_capacity(object.properties.len());
                for property in &object.properties {
                    let value = self.value_of(&property.value)?;
                    values.insert(property.name.as_str().to_owned(), value);
                }
                Value::Object(values)
            }
        })
    }

    fn not_a_number(&self, at: usize, number: &str) -> Invalid {
        let before = self.text.get(..at).unwrap_or_default();
        let (line, column) = place(before.as_bytes());
        Invalid {
            line,
            column,
            why: format!("the number {number} is out of range or badly written"),
        }
    }

    /// The text with `new` as its value, where `old` is the value now. What was not changed keeps its form: comments,
    /// order, indentation, line ends, numbers as they were written.
    pub(crate) fn changed(&self, old: Option<&Value>, new: &Value) -> Result<Vec<u8>, String> {
        if is_deeper(new, DEPTH_MAX) {
            let objects = DEPTH_MAX / 2;
            return Err(format!(
                "the new value is nested deeper than {objects} objects or {DEPTH_MAX} arrays"
            ));
        }
        let text = edit::changed(self.text, self.root.as_ref(), old, new);
        let mark = if self.mark { BYTE_ORDER_MARK } else { "" };
        Ok([mark.as_bytes(), text.as_bytes()].concat())
    }
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(left) = levels.checked_sub(1 + usize::from(value.is_object())) else { return true };
    match value {
        Value::Array(values) => values.iter().any(|value| is_deeper(value, left)),
        Value::Object(values) => values.values().any(|value| is_deeper(value, left)),
        _ => false,
    }
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Line and column behind `before`, both from 1.
fn place(before: &[u8]) -> (usize, usize) {
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    (line, String::from_utf8_lossy(last).chars().count() + 1)
}

fn not_utf8(text: &[u8], error: &std::str::Utf8Error) -> Invalid {
    let (line, column) = place(text.get(..error.valid_up_to()).unwrap_or_default());
    Invalid { line, column, why: "not UTF-8".to_owned() }
}
