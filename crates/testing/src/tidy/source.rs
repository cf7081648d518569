//! Rules about the text of source files. Line numbers count from 1.

use super::code::code_only;

/// Lines that a comment above an `unsafe` may stand away from it.
const SAFETY_LINES: usize = 6;

/// Paths that exist on one machine only. In two pieces, so that this file does not break its own rule.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// A place that breaks a rule: the line, and what is wrong there.
pub type Breach = (usize, String);

/// The file does not say in `//!`, in its first line, what it is.
#[must_use]
pub fn without_module_doc(text: &str) -> Option<Breach> {
    let opens = text.lines().next().is_some_and(|line| line.starts_with("//!"));
    (!opens)
        .then(|| (1, "the first line does not begin with //! and say what the file is".to_owned()))
}

/// The file has more than `limit` lines.
#[must_use]
pub fn too_many_lines(text: &str, limit: usize) -> Option<Breach> {
    let count = text.lines().count();
    (count > limit).then(|| (count, format!("{count} lines; at most {limit}")))
}

/// Functions of more than `limit` lines, found by their indentation: the tree is formatted by rustfmt, so the
/// line that closes a function is a brace as far in as its first line.
#[must_use]
pub fn long_functions(text: &str, limit: usize) -> Vec<Breach> {
    let code = code_only(text);
    let lines: Vec<&str> = code.lines().map(str::trim_end).collect();
    let mut breaches = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((indent, name)) = function_head(line) else { continue };
        let body = lines.get(at..).unwrap_or_default();
        let end = body.iter().position(|line| closes_function(line, indent));
        // Another function before the end: this was a declaration, ended by a `where` clause.
        let next = body
            .iter()
            .skip(1)
            .position(|line| function_head(line).is_some_and(|(i, _)| i == indent));
        let end = end.filter(|end| next.is_none_or(|next| next + 1 >= *end));
        if let Some(count) = end.map(|end| end + 1).filter(|count| *count > limit) {
            breaches.push((at + 1, format!("fn {name} has {count} lines; at most {limit}")));
        }
    }
    breaches
}

/// The indentation and name of the function that `line` begins.
fn function_head(line: &str) -> Option<(usize, &str)> {
    let mut rest = line.trim_start();
    let indent = line.len() - rest.len();
    let starts = ["pub", "const", "async", "unsafe", "safe", "extern", "default", "fn"];
    starts.iter().find(|word| first_word(rest) == **word)?;
    while first_word(rest) != "fn" {
        let word = first_word(rest);
        let after = rest.strip_prefix(word)?;
        // `pub(in …)`, and the blanked "C" of `extern "C"`.
        let after = match after.strip_prefix('(') {
            Some(scope) => scope.split_once(')')?.1,
            None => after,
        };
        rest = after.trim_start();
        if word.is_empty() {
            return None;
        }
    }
    let name = first_word(rest.strip_prefix("fn")?.trim_start());
    (!name.is_empty()).then_some((indent, name))
}

/// Whether the function that began `indent` columns in ends with `line`: by its brace, in one line, or, being a
/// declaration without a body, by a semicolon.
fn closes_function(line: &str, indent: usize) -> bool {
    let rest = line.trim_start();
    let here = line.len() - rest.len();
    here == indent
        && (rest == "}"
            || (rest.ends_with(['}', ';'])
                && (rest.starts_with(')') || function_head(line).is_some())))
}

/// The lines whose code has the word `unsafe`.
#[must_use]
pub fn unsafe_lines(text: &str) -> Vec<usize> {
    code_only(text)
        .lines()
        .enumerate()
        .filter(|(_, line)| after_unsafe(line).next().is_some())
        .map(|(at, _)| at + 1)
        .collect()
}

/// Every `unsafe` that opens a block, an implementation, a function or an attribute without saying near it why
/// it is sound: a comment with SAFETY at most six lines above, or a `# Safety` in the comment that ends right
/// above. A type such as `unsafe fn()` promises nothing and needs none.
#[must_use]
pub fn unsafe_without_reason(text: &str) -> Vec<Breach> {
    let lines: Vec<&str> = text.lines().collect();
    let code = code_only(text);
    let mut breaches = Vec::new();
    for (at, line) in code.lines().enumerate() {
        if after_unsafe(line).any(needs_reason) && !has_reason(&lines, at) {
            breaches.push((at + 1, "unsafe without a SAFETY comment near it".to_owned()));
        }
    }
    breaches
}

/// What follows each `unsafe` of a line of code.
fn after_unsafe(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("unsafe").filter_map(|(at, word)| {
        let (before, after) = (line.get(..at)?, line.get(at + word.len()..)?);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        whole.then(|| after.trim_start())
    })
}

fn needs_reason(after: &str) -> bool {
    let after = after.strip_prefix("extern").unwrap_or(after).trim_start();
    after.strip_prefix("fn").is_none_or(|name| !name.trim_start().starts_with('('))
}

fn has_reason(lines: &[&str], at: usize) -> bool {
    let above = lines.get(..at).unwrap_or_default();
    let near = lines.get(at.saturating_sub(SAFETY_LINES)..=at).unwrap_or_default();
    let mut attached = above.iter().rev().map(|line| line.trim_start());
    near.iter()
        .any(|line| line.split_once("//").is_some_and(|(_, comment)| comment.contains("SAFETY")))
        || attached
            .by_ref()
            .take_while(|line| line.starts_with("//") || line.starts_with("#["))
            .any(|line| {
                line.starts_with("//") && (line.contains("# Safety") || line.contains("SAFETY"))
            })
}

/// Uses of the standard library's atomics by a path or in a `use`, however it is grouped.
#[must_use]
pub fn std_atomics(text: &str) -> Vec<Breach> {
    let code = code_only(text);
    let mut breaches = Vec::new();
    let mut line = 1;
    for statement in code.split_inclusive(';') {
        let compact: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        let compact = compact.replace(":: ", "::").replace(" ::", "::").replace("{ ", "{");
        let path =
            ["std::sync::atomic", "core::sync::atomic"].iter().any(|path| compact.contains(path));
        let import = ["use std::", "use ::std::", "use core::", "use ::core::"]
            .iter()
            .filter_map(|import| compact.split_once(import))
            .any(|(_, names)| names.split(|c| !is_word(c)).any(|word| word == "atomic"));
        let start = line
            + statement.chars().take_while(|c| c.is_whitespace()).filter(|c| *c == '\n').count();
        line += statement.matches('\n').count();
        if path || import {
            let message =
                "the atomics of the standard library; use those of commonhold_segment::sync";
            breaches
                .push((start, format!("the statement from here to line {line} uses {message}")));
        }
    }
    breaches
}

/// Whether the crate's root file forbids unsafe code.
#[must_use]
pub fn forbids_unsafe(text: &str) -> bool {
    code_only(text).lines().any(|line| line.trim_end() == "#![forbid(unsafe_code)]")
}

/// Lines that name a path of the machine on which they were written.
#[must_use]
pub fn machine_paths(text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for path in MACHINE_PATHS {
            // `~/x`, `./x`, `frame/x` and `${HOME}/x` are not absolute.
            let absolute =
                |before: &str| !before.ends_with(|c: char| is_word(c) || "~.-}*".contains(c));
            if line.match_indices(path).any(|(at, _)| line.get(..at).is_some_and(absolute)) {
                breaches.push((at + 1, format!("{path} is a path of one machine")));
            }
        }
    }
    breaches
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn first_word(text: &str) -> &str {
    text.split(|c| !is_word(c)).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
