//! CSV after RFC 4180: a field is quoted only when it holds a comma, a quote or a line break.

/// One line, without its end.
pub(crate) fn line<'a>(fields: impl Iterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for (at, field) in fields.enumerate() {
        if at > 0 {
            line.push(',');
        }
        if field.contains([',', '"', '\n', '\r']) {
            line.push('"');
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(field);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_be_is_quoted() {
        assert_eq!(line(["a", "", "b c", "'"].into_iter()), "a,,b c,'");
        assert_eq!(line(["a,b", "c\"d", "e\nf"].into_iter()), "\"a,b\",\"c\"\"d\",\"e\nf\"");
    }
}
