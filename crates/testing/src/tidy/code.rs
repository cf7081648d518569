//! Rust source reduced to its code: comments, strings and characters become spaces, lines and columns stay.

/// `text` with every comment, string and character literal blanked.
#[must_use]
pub fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_word = false;
    while let Some(first) = rest.chars().next() {
        let blank = blank_bytes(rest, in_word);
        let (token, after) =
            rest.split_at_checked(blank.unwrap_or(first.len_utf8())).unwrap_or((rest, ""));
        match blank {
            Some(_) => code.extend(token.chars().map(|c| if c == '\n' { c } else { ' ' })),
            None => code.push_str(token),
        }
        in_word = blank.is_none() && (first.is_alphanumeric() || first == '_');
        rest = after;
    }
    code
}

/// The length in bytes of the comment or literal that `rest` begins with, if it begins with one.
fn blank_bytes(rest: &str, in_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_bytes(rest));
    }
    if let Some(body) = rest.strip_prefix('"') {
        return Some(1 + quoted_bytes(body, '"'));
    }
    if rest.starts_with('\'') {
        return character_bytes(rest);
    }
    if in_word { None } else { raw_string_bytes(rest) }
}

/// Block comments nest.
fn block_comment_bytes(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The bytes of `body` up to and with the closing `quote`, over escapes.
fn quoted_bytes(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    body.len()
}

/// `'x'` and `'\n'` are literals, `'a` is a lifetime.
fn character_bytes(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let mut chars = body.chars();
    let literal = chars.next()? == '\\' || chars.next()? == '\'';
    literal.then(|| 1 + quoted_bytes(body, '\''))
}

/// `r"…"`, `br#"…"#` and the like.
fn raw_string_bytes(rest: &str) -> Option<usize> {
    let after = ["r", "br", "cr"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let body = after.trim_start_matches('#');
    let hashes = after.len() - body.len();
    let text = body.strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = text.find(&close).map_or(text.len(), |at| at + close.len());
    Some(rest.len() - text.len() + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What remains, without the spaces.
    fn kept(text: &str) -> String {
        let code = code_only(text);
        assert_eq!(code.chars().count(), text.chars().count());
        assert_eq!(code.matches('\n').count(), text.matches('\n').count());
        code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_go() {
        assert_eq!(kept("a // unsafe\nb /// x\n//! y\nc"), "a b c");
        assert_eq!(kept("a /* unsafe /* nested */ still */ b /**/ c"), "a b c");
        assert_eq!(kept("a /* never closed é"), "a");
        assert_eq!(kept("a / b"), "a / b");
    }

    #[test]
    fn strings_go() {
        assert_eq!(kept(r#"a("un\"safe", b"x\\", c"é") + "//" + d"#), "a( , b , c ) + + d");
        assert_eq!(kept("a r\"\\\" b r#\"x\"unsafe\"# c br##\"\"#\"## d"), "a b c d");
        assert_eq!(kept("var\" x \" y"), "var y");
        assert_eq!(kept("let r#type = 1; \"never closed"), "let r#type = 1;");
    }

    #[test]
    fn characters_go_and_lifetimes_stay() {
        assert_eq!(kept(r"a '\'' b '\u{e9}' c 'é' d '/' e"), "a b c d e");
        assert_eq!(
            kept("fn f<'a>(x: &'a str, y: &'static str) {}"),
            "fn f<'a>(x: &'a str, y: &'static str) {}"
        );
        assert_eq!(kept("['\"', '\\\\'] unsafe"), "[ , ] unsafe");
    }
}
