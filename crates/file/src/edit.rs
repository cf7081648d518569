//! Changing a text so that its value is another one, and nothing else in it: where the parsed text and the new value
//! differ becomes replacements of byte ranges.
//!
//! **What moves**: a value that is another one is replaced where it stands. What is new in an object or array stands
//! behind what was its last, on a line of its own if that one does. What is taken away goes with its comma, the comment
//! behind it on the same line, and the line if nothing else is on it; comments on lines of their own stay. Arrays are
//! compared from both ends; in between, element by element.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use crate::parse::{Kind, Node, Tree};

mod style;

use style::{Style, is_own_line, line_indent, line_start, same_line};

type Map = serde_json::Map<String, Value>;

/// Puts `text` in place of the bytes from `from` to `to`.
#[derive(Debug)]
struct Edit {
    from: usize,
    to: usize,
    text: String,
}

/// The text whose value is `new`, from a parsed one; none when that is its value already.
pub(crate) fn changed(text: &str, tree: &Tree<'_>, new: &Value) -> Option<String> {
    let mut editor = Editor { text, tree, style: Style::of(text, tree), edits: Vec::new() };
    match tree.root() {
        Some(root) => editor.change(root, new),
        None if new.is_null() => {}
        None => {
            let end = text.trim_end().len();
            let before = if end == 0 { "" } else { editor.style.newline };
            let value = editor.style.render(new, "", false);
            let text = format!("{before}{value}{}", editor.style.newline);
            editor.edits.push(Edit { from: end, to: editor.text.len(), text });
        }
    }
    (!editor.edits.is_empty()).then(|| editor.apply())
}

/// Whether `node` has the value `value`.
fn is(tree: &Tree<'_>, node: &Node, value: &Value) -> bool {
    match (node.kind, value) {
        (Kind::Array { .. }, Value::Array(values)) => {
            let elements = tree.children(node);
            elements.len() == values.len()
                && elements.iter().zip(values).all(|(node, value)| is(tree, node, value))
        }
        (Kind::Object { .. }, Value::Object(values)) => {
            if in_step(tree, node, values) {
                let mut pairs = tree.members(node).zip(values.values());
                return pairs.all(|([_, node], value)| is(tree, node, value));
            }
            let last = last_of_name(tree, node);
            last.len() == values.len()
                && last.iter().all(|(name, node)| {
                    values.get(&**name).is_some_and(|value| is(tree, node, value))
                })
        }
        _ => tree.is_leaf(node, value),
    }
}

/// Whether an object has the names of a map, once each and in its order.
fn in_step(tree: &Tree<'_>, object: &Node, values: &Map) -> bool {
    let members = tree.members(object);
    members.len() == values.len()
        && members.zip(values.keys()).all(|([name, _], key)| tree.name(name) == *key)
}

/// The value of each name that counts: of several with one name the last.
fn last_of_name<'a, 't>(tree: &'a Tree<'t>, object: &Node) -> HashMap<Cow<'t, str>, &'a Node> {
    tree.members(object).map(|[name, value]| (tree.name(name), value)).collect()
}

struct Editor<'t> {
    text: &'t str,
    tree: &'t Tree<'t>,
    style: Style<'t>,
    edits: Vec<Edit>,
}

/// The members of an object or array: where each stands, and what becomes of it.
struct Members {
    /// Where the brackets' inside begins and ends.
    inside: (usize, usize),
    spans: Vec<(usize, usize)>,
    gone: Vec<bool>,
    /// Name (none in an array) and value.
    added: Vec<(Option<String>, Value)>,
}

impl Editor<'_> {
    /// Changes what stands at `node`, if that is not `new`.
    fn change(&mut self, node: &Node, new: &Value) {
        match (node.kind, new) {
            (Kind::Object { .. }, Value::Object(new)) => self.change_object(node, new),
            (Kind::Array { .. }, Value::Array(new)) => self.change_array(node, new),
            _ if self.tree.is_leaf(node, new) => {}
            _ => {
                let (from, to) = (node.start(), node.end());
                let inline = self.style.compact || self.is_inline(Some(&(from, to)));
                let text = self.style.render(new, line_indent(self.text, from), inline);
                self.edits.push(Edit { from, to, text });
            }
        }
    }

    fn change_object(&mut self, object: &Node, new: &Map) {
        let tree = self.tree;
        if in_step(tree, object, new) {
            let pairs = tree.members(object).zip(new.values());
            return pairs.for_each(|([_, node], new)| self.change(node, new));
        }
        let last = last_of_name(tree, object);
        let members = tree.members(object);
        let members: Vec<_> = members.map(|[n, value]| (tree.name(n), n.start(), value)).collect();
        for (name, _, value) in &members {
            let counts = last.get(name).is_some_and(|last| last.start() == value.start());
            if let (true, Some(new)) = (counts, new.get(&**name)) {
                self.change(value, new);
            }
        }
        let added = new.iter().filter(|(name, _)| !last.contains_key(name.as_str()));
        self.change_members(Members {
            inside: (object.start() + 1, object.end() - 1),
            spans: members.iter().map(|(_, start, value)| (*start, value.end())).collect(),
            gone: members.iter().map(|(name, ..)| !new.contains_key(&**name)).collect(),
            added: added.map(|(name, value)| (Some(name.clone()), value.clone())).collect(),
        });
    }

    fn change_array(&mut self, array: &Node, new: &[Value]) {
        let tree = self.tree;
        let elements = tree.children(array);
        if elements.len() == new.len() {
            let pairs = elements.iter().zip(new);
            return pairs.for_each(|(node, new)| self.change(node, new));
        }
        let same = |(node, new): &(&Node, &Value)| is(tree, node, new);
        let before = elements.iter().zip(new).take_while(same).count();
        let most = elements.len().min(new.len()) - before;
        let behind = elements.iter().rev().zip(new.iter().rev()).take_while(same);
        let behind = behind.take(most).count();
        let (kept, wanted) = (elements.len() - behind, new.len() - behind);
        for (node, new) in elements.iter().zip(new).take(kept.min(wanted)).skip(before) {
            self.change(node, new);
        }
        let spans: Vec<_> = elements.iter().map(|node| (node.start(), node.end())).collect();
        let gone = (0..spans.len()).map(|at| at >= wanted && at < kept).collect();
        let added: Vec<_> = new.iter().take(wanted).skip(kept).map(|v| (None, v.clone())).collect();
        if behind > 0 && !added.is_empty() {
            return self.insert(&spans, kept, &added);
        }
        let inside = (array.start() + 1, array.end() - 1);
        self.change_members(Members { inside, spans, gone, added });
    }

    /// Inserts elements before the one at `before`.
    fn insert(
        &mut self,
        spans: &[(usize, usize)],
        before: usize,
        added: &[(Option<String>, Value)],
    ) {
        let Some((from, _)) = spans.get(before).copied() else { return };
        let own_line = is_own_line(self.text, from);
        let indent = line_indent(self.text, from);
        let inline = self.is_inline(spans.get(before));
        let mut text = String::new();
        for member in added {
            text.push_str(&self.style.member(member, indent, inline || !own_line));
            text.push(',');
            text.push_str(&if own_line {
                format!("{}{indent}", self.style.newline)
            } else {
                " ".to_owned()
            });
        }
        self.edits.push(Edit { from, to: from, text });
    }

    /// Whether what stands there, if it is an object or array with something in it, stands on one line.
    fn is_inline(&self, span: Option<&(usize, usize)>) -> bool {
        let text = span.and_then(|(from, to)| self.text.get(*from..*to)).unwrap_or_default();
        let bracketed = text.ends_with(['}', ']']) && text.len() > 2;
        bracketed && !text.contains('\n')
    }

    /// Takes members away and puts new ones behind the last one that stays.
    fn change_members(&mut self, members: Members) {
        let Members { inside, spans, gone, added } = members;
        if added.is_empty() && !gone.contains(&true) {
            return;
        }
        let commas: Vec<Option<usize>> = spans
            .iter()
            .enumerate()
            .map(|(at, (_, end))| {
                let until = spans.get(at + 1).map_or(inside.1, |(start, _)| *start);
                style::comma(self.text, *end, until)
            })
            .collect();
        let trailing = commas.last().copied().flatten().is_some();
        let last = gone.iter().rposition(|gone| !gone);
        let Some(last) = last else { return self.replace_all(inside, &spans, &commas, &added) };
        for (at, span) in spans.iter().enumerate() {
            if gone.get(at) == Some(&true) {
                self.remove(*span, commas.get(at).copied().flatten(), at > last);
            }
        }
        let comma = commas.get(last).copied().flatten();
        let Some((start, end)) = spans.get(last).copied() else { return };
        if added.is_empty() {
            if let (Some(comma), false) = (comma, trailing) {
                self.edits.push(Edit { from: comma, to: comma + 1, text: String::new() });
            }
            return;
        }
        let until = spans.get(last + 1).map_or(inside.1, |(start, _)| *start);
        let (behind, has_line_comment) =
            same_line(self.text, comma.map_or(end, |comma| comma + 1), until);
        let own_line = |span: &(usize, usize)| is_own_line(self.text, span.0);
        let on_lines = has_line_comment || spans.iter().any(own_line);
        let indent = line_indent(self.text, start);
        let inline = !on_lines || self.is_inline(spans.get(last));
        let rendered: Vec<String> =
            added.iter().map(|member| self.style.member(member, indent, inline)).collect();
        let gap = if on_lines {
            format!("{}{indent}", self.style.newline)
        } else {
            self.style.gap.to_owned()
        };
        let mut text = String::new();
        match comma {
            None if on_lines => self.edits.push(Edit { from: end, to: end, text: ",".to_owned() }),
            None => text.push(','),
            Some(_) => {}
        }
        text.push_str(&gap);
        text.push_str(&rendered.join(&format!(",{gap}")));
        text.push_str(if trailing { "," } else { "" });
        self.edits.push(Edit { from: behind, to: behind, text });
    }

    /// Nothing stays of the members: the new ones take the first one's place, or that behind the comments.
    fn replace_all(
        &mut self,
        inside: (usize, usize),
        spans: &[(usize, usize)],
        commas: &[Option<usize>],
        added: &[(Option<String>, Value)],
    ) {
        let Some((first, rest)) = spans.split_first() else { return self.fill(inside, added) };
        let (own_line, indent) = (is_own_line(self.text, first.0), line_indent(self.text, first.0));
        let trailing = commas.last().copied().flatten().is_some();
        let first_comma = commas.first().copied().flatten();
        for (at, span) in rest.iter().enumerate() {
            self.remove(*span, commas.get(at + 1).copied().flatten(), true);
        }
        if added.is_empty() {
            return self.remove(*first, first_comma, true);
        }
        let gap = if own_line {
            format!("{}{indent}", self.style.newline)
        } else {
            self.style.gap.to_owned()
        };
        let rendered: Vec<String> =
            added.iter().map(|member| self.style.member(member, indent, !own_line)).collect();
        let text = rendered.join(&format!(",{gap}"));
        self.edits.push(Edit { from: first.0, to: first.1, text });
        if let (Some(comma), false) = (first_comma, trailing) {
            self.edits.push(Edit { from: comma, to: comma + 1, text: String::new() });
        }
    }

    /// Puts members into an object or array that has none.
    fn fill(&mut self, inside: (usize, usize), added: &[(Option<String>, Value)]) {
        if added.is_empty() {
            return;
        }
        let content = self.text.get(inside.0..inside.1).unwrap_or_default();
        let kept = content.trim_end();
        let outer = style::line_indent(self.text, inside.0);
        let compact = self.style.compact && kept.is_empty();
        let indent = format!("{outer}{}", self.style.unit);
        let rendered: Vec<String> =
            added.iter().map(|member| self.style.member(member, &indent, compact)).collect();
        let newline = self.style.newline;
        let text = if compact {
            rendered.join(&format!(",{}", self.style.gap))
        } else {
            format!(
                "{newline}{indent}{}{newline}{outer}",
                rendered.join(&format!(",{newline}{indent}"))
            )
        };
        self.edits.push(Edit { from: inside.0 + kept.len(), to: inside.1, text });
    }

    /// Takes a member away; `is_last`: nothing that was there stays behind it.
    fn remove(&mut self, (start, end): (usize, usize), comma: Option<usize>, is_last: bool) {
        let behind = comma.map_or(end, |comma| comma + 1);
        let rest = self.text.get(behind..).unwrap_or_default();
        if is_own_line(self.text, start) {
            let until = self.text.len();
            let (mut to, _) = same_line(self.text, behind, until);
            to += style::spaces(self.text.get(to..).unwrap_or_default());
            let newline = style::newline_length(self.text.get(to..).unwrap_or_default());
            if newline > 0 {
                let from = line_start(self.text, start);
                self.edits.push(Edit { from, to: to + newline, text: String::new() });
                return;
            }
        }
        let (mut from, mut to) = (start, behind);
        if is_last {
            let before = self.text.get(..start).unwrap_or_default();
            from = before.trim_end_matches([' ', '\t']).len();
        } else {
            to += style::spaces(rest);
        }
        self.edits.push(Edit { from, to, text: String::new() });
    }

    /// The text with all edits made. Those of one place are made in the order in which they came; what was taken away
    /// by one is not given back by the next.
    fn apply(mut self) -> String {
        self.edits.sort_by_key(|edit| (edit.from, edit.to));
        let mut made = String::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for edit in &self.edits {
            if edit.from > at {
                made.push_str(self.text.get(at..edit.from).unwrap_or_default());
            }
            made.push_str(&edit.text);
            at = at.max(edit.to);
        }
        made.push_str(self.text.get(at..).unwrap_or_default());
        made
    }
}

#[cfg(test)]
mod tests;
