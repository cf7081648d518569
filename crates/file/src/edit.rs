//! Changing a text so that its value is another one, and nothing else in it: where the parsed text and the new value
//! differ becomes replacements of byte ranges.
//!
//! **What moves**: a value that is another one is replaced where it stands. What is new in an object or array stands
//! behind what was its last, on a line of its own if that one does. What is taken away goes with its comma, the comment
//! behind it on the same line, and the line if nothing else is on it; comments on lines of their own stay. Elements that an
//! array keeps in their order stay as they are written, wherever they move.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use crate::parse::{Kind, Node, Tree};

mod style;

use style::{Style, is_own_line, line_indent, line_start, same_line};

type Map = serde_json::Map<String, Value>;

/// So many pairs of elements of two arrays are compared at most.
const COMPARED_MAX: usize = 1 << 16;

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

/// The places of elements that are the same in both, in the same order in both: as many as there are, if the arrays are
/// not so long that finding them takes longer than writing the elements anew. Behind them both lengths.
fn common(tree: &Tree<'_>, elements: &[Node], new: &[Value]) -> Vec<(usize, usize)> {
    let same = |(node, value): &(&Node, &Value)| is(tree, node, value);
    let before = elements.iter().zip(new).take_while(same).count();
    let most = elements.len().min(new.len()) - before;
    let behind = elements.iter().rev().zip(new.iter().rev()).take_while(same);
    let behind = behind.take(most).count();
    let (rows, columns) = (elements.len() - behind - before, new.len() - behind - before);
    let mut pairs: Vec<_> = (0..before).map(|at| (at, at)).collect();
    if rows.saturating_mul(columns) <= COMPARED_MAX {
        let is_same = |row: usize, column: usize| {
            let pair = elements.get(before + row).zip(new.get(before + column));
            pair.is_some_and(|(node, value)| is(tree, node, value))
        };
        let found = longest_common(rows, columns, is_same);
        pairs.extend(found.into_iter().map(|(row, column)| (before + row, before + column)));
    }
    pairs.extend((0..behind).rev().map(|at| (elements.len() - 1 - at, new.len() - 1 - at)));
    pairs.push((elements.len(), new.len()));
    pairs
}

/// The longest common subsequence of two sequences, by the lengths of those of their ends.
fn longest_common(
    rows: usize,
    columns: usize,
    same: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    let width = columns + 1;
    let mut lengths = vec![0_u32; (rows + 1) * width];
    let length = |lengths: &[u32], row: usize, column: usize| {
        lengths.get(row * width + column).copied().unwrap_or(0)
    };
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            let longest = if same(row, column) {
                length(&lengths, row + 1, column + 1) + 1
            } else {
                length(&lengths, row + 1, column).max(length(&lengths, row, column + 1))
            };
            if let Some(place) = lengths.get_mut(row * width + column) {
                *place = longest;
            }
        }
    }
    let (mut row, mut column, mut pairs) = (0, 0, Vec::new());
    while row < rows && column < columns {
        let here = length(&lengths, row, column);
        if length(&lengths, row + 1, column) == here {
            row += 1;
        } else if length(&lengths, row, column + 1) == here {
            column += 1;
        } else {
            pairs.push((row, column));
            (row, column) = (row + 1, column + 1);
        }
    }
    pairs
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

    /// Elements that are in both, in the same order, stay as they are written; between two of them the others are
    /// changed one by one, and what is left of either side is taken away or put in.
    fn change_array(&mut self, array: &Node, new: &[Value]) {
        let elements = self.tree.children(array);
        let spans: Vec<_> = elements.iter().map(|node| (node.start(), node.end())).collect();
        let mut gone = vec![false; elements.len()];
        let mut last = (0, 0);
        let mut added = Vec::new();
        for next in common(self.tree, elements, new) {
            let (old, wanted) = (last.0..next.0, last.1..next.1);
            for (at, value) in old.clone().zip(wanted.clone()) {
                elements
                    .get(at)
                    .zip(new.get(value))
                    .into_iter()
                    .for_each(|(node, new)| self.change(node, new));
            }
            let kept = old.len().min(wanted.len());
            gone.iter_mut().take(old.end).skip(old.start + kept).for_each(|gone| *gone = true);
            let more = new.get(wanted.start + kept..wanted.end).unwrap_or_default();
            let more: Vec<_> = more.iter().map(|value| (None, value.clone())).collect();
            if next.0 < elements.len() && !more.is_empty() {
                self.insert(&spans, next.0, &more);
            } else {
                added.extend(more);
            }
            last = (next.0 + 1, next.1 + 1);
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
