//! A JSON or JSONC text and its value.
//!
//! What a [`Value`] cannot hold is not valid, and is told with its place; nothing is read as something else.

use serde_json::Value;

use crate::edit;
use crate::parse::{DEPTH_MAX, Fault, Tree};

/// What some editors put before a text in UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A text that was parsed.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    /// Without a mark before it.
    text: &'a str,
    mark: bool,
    tree: Tree<'a>,
}

/// Where a text is not valid, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) why: String,
    /// Whether the text may only lack its end.
    pub(crate) ends_early: bool,
}

impl<'a> Document<'a> {
    /// Parses a text. An empty one, or one of comments alone, is a document without a value.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(text).map_err(|e| {
            let (line, column) = place(text.get(..e.valid_up_to()).unwrap_or_default());
            let ends_early = e.error_len().is_none();
            Invalid { line, column, why: "not UTF-8".to_owned(), ends_early }
        })?;
        let (mark, text) = match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let tree = Tree::parse(text).map_err(|fault| invalid(text, &fault))?;
        Ok(Self { text, mark, tree })
    }

    /// The value; none when there is no value in it.
    pub(crate) fn value(&self) -> Result<Option<Value>, Invalid> {
        let value = self.tree.root().map(|root| self.tree.value(root)).transpose();
        value.map_err(|fault| invalid(self.text, &fault))
    }

    /// The text with `new` as its value; none when it has that value already. What was not changed keeps its form:
    /// comments, order, indentation, line ends, numbers as they were written.
    pub(crate) fn changed(&self, new: &Value) -> Result<Option<Vec<u8>>, String> {
        if is_deeper(new, DEPTH_MAX) {
            return Err(format!("the new value is nested deeper than {DEPTH_MAX} levels"));
        }
        let text = edit::changed(self.text, &self.tree, new);
        let marked = |text| if self.mark { format!("{BYTE_ORDER_MARK}{text}") } else { text };
        Ok(text.map(|text| marked(text).into_bytes()))
    }
}

/// Whether there are more than so many arrays and objects within each other.
fn is_deeper(value: &Value, levels: usize) -> bool {
    if !value.is_array() && !value.is_object() {
        return false;
    }
    let Some(left) = levels.checked_sub(1) else { return true };
    match value {
        Value::Array(values) => values.iter().any(|value| is_deeper(value, left)),
        Value::Object(values) => values.values().any(|value| is_deeper(value, left)),
        _ => false,
    }
}

fn invalid(text: &str, fault: &Fault) -> Invalid {
    let (line, column) = place(text.as_bytes().get(..fault.at).unwrap_or_default());
    Invalid { line, column, why: fault.why.to_string(), ends_early: fault.ends_early }
}

/// Line and column behind `before`, both from 1.
fn place(before: &[u8]) -> (usize, usize) {
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    (line, String::from_utf8_lossy(last).chars().count() + 1)
}
