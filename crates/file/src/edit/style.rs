//! How a text is written: line ends, indentation, spaces. What is added to it is written like it.

use serde_json::Value;

use crate::parse::{Kind, Tree};

/// How a text is written.
#[derive(Debug)]
pub(super) struct Style<'t> {
    pub(super) newline: &'static str,
    /// One level of indentation.
    pub(super) unit: &'t str,
    /// All on one line.
    pub(super) compact: bool,
    /// Between members on one line, and behind a colon.
    pub(super) gap: &'static str,
}

impl<'t> Style<'t> {
    /// The style of `text`.
    pub(super) fn of(text: &'t str, tree: &Tree<'_>) -> Self {
        let first_line = text.split('\n').next().filter(|line| line.len() < text.len());
        let newline =
            if first_line.is_some_and(|line| line.ends_with('\r')) { "\r\n" } else { "\n" };
        let style = Self { newline, unit: "  ", compact: false, gap: " " };
        let Some(root) = tree.root() else { return style };
        let (first, tight) = match (root.kind, tree.children(root)) {
            (Kind::Object { .. }, [name, value, ..]) => {
                (name.start(), value.start() == name.end() + 1)
            }
            (Kind::Array { .. }, [one, rest @ ..]) => {
                (one.start(), rest.first().is_some_and(|next| next.start() == one.end() + 1))
            }
            _ => return style,
        };
        let whole = text.get(root.start()..root.end()).unwrap_or_default();
        let unit = if is_own_line(text, first) {
            let (inner, outer) = (line_indent(text, first), line_indent(text, root.start()));
            inner.strip_prefix(outer).unwrap_or(inner)
        } else {
            style.unit
        };
        Self { unit, compact: !whole.contains('\n'), gap: if tight { "" } else { " " }, ..style }
    }

    /// A value that begins on a line with this indentation.
    pub(super) fn render(&self, value: &Value, indent: &str, inline: bool) -> String {
        let mut text = String::new();
        self.write(&mut text, value, indent, inline);
        text
    }

    /// A member of an object, with its name, or of an array.
    pub(super) fn member(
        &self,
        (name, value): &(Option<String>, Value),
        indent: &str,
        inline: bool,
    ) -> String {
        let mut text = String::new();
        if let Some(name) = name {
            self.write_name(&mut text, name);
        }
        self.write(&mut text, value, indent, inline);
        text
    }

    fn write_name(&self, text: &mut String, name: &str) {
        text.push_str(&Value::from(name).to_string());
        text.push(':');
        text.push_str(self.gap);
    }

    fn write(&self, text: &mut String, value: &Value, indent: &str, inline: bool) {
        match value {
            Value::Array(values) if !values.is_empty() => {
                let members = values.iter().map(|value| (None, value));
                self.write_members(text, ('[', ']'), members, indent, inline);
            }
            Value::Object(values) if !values.is_empty() => {
                let members = values.iter().map(|(name, value)| (Some(name.as_str()), value));
                self.write_members(text, ('{', '}'), members, indent, inline);
            }
            _ => text.push_str(&value.to_string()),
        }
    }

    fn write_members<'a>(
        &self,
        text: &mut String,
        (open, close): (char, char),
        members: impl Iterator<Item = (Option<&'a str>, &'a Value)>,
        indent: &str,
        inline: bool,
    ) {
        let inner = format!("{indent}{}", self.unit);
        text.push(open);
        for (at, (name, value)) in members.enumerate() {
            if at > 0 {
                text.push(',');
            }
            match inline {
                false => text.extend([self.newline, inner.as_str()]),
                true if at > 0 => text.push_str(self.gap),
                true => {}
            }
            if let Some(name) = name {
                self.write_name(text, name);
            }
            self.write(text, value, &inner, inline);
        }
        if !inline {
            text.extend([self.newline, indent]);
        }
        text.push(close);
    }
}

/// Where the line of `at` begins.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.rfind('\n').map_or(0, |newline| newline + 1)
}

/// The spaces that the line of `at` begins with.
pub(super) fn line_indent(text: &str, at: usize) -> &str {
    let line = text.get(line_start(text, at)..at).unwrap_or_default();
    line.get(..spaces(line)).unwrap_or_default()
}

/// Whether nothing but spaces stands before `at` on its line, and a line before it.
pub(super) fn is_own_line(text: &str, at: usize) -> bool {
    let start = line_start(text, at);
    start > 0 && start + line_indent(text, at).len() == at
}

/// How many spaces and tabs a text begins with.
pub(super) fn spaces(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

/// How long the line end is that a text begins with; 0: none.
pub(super) fn newline_length(text: &str) -> usize {
    if text.starts_with("\r\n") { 2 } else { usize::from(text.starts_with('\n')) }
}

/// How long the comment is that a text begins with, without the line end, and whether it goes to the end of its line.
fn comment(text: &str) -> Option<(usize, bool)> {
    if text.starts_with("//") {
        return Some((text.find(['\n', '\r']).unwrap_or(text.len()), true));
    }
    let inside = text.strip_prefix("/*")?;
    Some((inside.find("*/")? + 4, false))
}

/// The comma between `from` and `until`, where else only space and comments are.
pub(super) fn comma(text: &str, from: usize, until: usize) -> Option<usize> {
    let mut at = from;
    while at < until {
        let rest = text.get(at..until)?;
        if rest.starts_with(',') {
            return Some(at);
        }
        at += match comment(rest) {
            Some((length, _)) => length,
            None => rest.chars().next()?.len_utf8(),
        };
    }
    None
}

/// The end of the comments that stand behind `from` on its line, and whether the last one goes to the end of the line.
pub(super) fn same_line(text: &str, from: usize, until: usize) -> (usize, bool) {
    let mut end = from;
    loop {
        let rest = text.get(end..until).unwrap_or_default();
        let gap = spaces(rest);
        let rest = rest.get(gap..).unwrap_or_default();
        match comment(rest) {
            Some((length, true)) => return (end + gap + length, true),
            Some((length, false)) if !rest.get(..length).is_some_and(|c| c.contains('\n')) => {
                end += gap + length;
            }
            _ => return (end, false),
        }
    }
}
