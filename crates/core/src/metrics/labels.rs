//! Names and labels of metrics, after the rules of Prometheus, and how labels are written into a descriptor.

use crate::directory::NameKind;
use crate::error::Error;

/// Endings that the text of a histogram takes for itself.
const TAKEN: [&str; 3] = ["_bucket", "_sum", "_count"];

fn bad(kind: impl ToString, name: &str, why: impl Into<String>) -> Error {
    let name = name.chars().take(40).collect();
    Error::BadName { kind: kind.to_string(), name, why: why.into() }
}

/// A letter or an underscore, then letters, digits and underscores, all ASCII. (Prometheus lets a metric's name have
/// colons too, and reserves them for what its own rules compute.)
fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Checks a metric's name.
///
/// # Errors
/// [`Error::BadName`].
pub(super) fn check_name(kind: NameKind, name: &str) -> Result<(), Error> {
    if !is_name(name) {
        let why = "a metric's name has ASCII letters, digits and `_`, and begins with no digit";
        return Err(bad(kind, name, why));
    }
    if let Some(taken) = TAKEN.iter().find(|taken| name.ends_with(**taken)) {
        return Err(bad(kind, name, format!("names that end in `{taken}` belong to histograms")));
    }
    match (kind, name.ends_with("_total")) {
        (NameKind::MetricCounter, false) => {
            Err(bad(kind, name, "a counter's name ends in `_total`"))
        }
        (NameKind::Gauge | NameKind::Histogram, true) => {
            Err(bad(kind, name, "only a counter's name ends in `_total`"))
        }
        _ if super::look::is_built_in(name) => {
            Err(bad(kind, name, "every segment has a metric of this name already"))
        }
        _ => Ok(()),
    }
}

/// Checks what a guard's metrics are to begin with.
///
/// # Errors
/// [`Error::BadName`].
pub(crate) fn check_prefix(guard: &str, prefix: &str) -> Result<(), Error> {
    if is_name(prefix) {
        return Ok(());
    }
    let shown: String = prefix.chars().take(40).collect();
    let rule = "ASCII letters, digits and `_`, and begins with no digit";
    Err(bad(NameKind::Guard, guard, format!("`{shown}` begins no metric's name: that has {rule}")))
}

/// Labels as they stand in the descriptor and in the text format, in the order of their names.
///
/// # Errors
/// [`Error::BadName`].
pub(super) fn text(
    kind: NameKind,
    metric: &str,
    labels: &[(String, String)],
) -> Result<String, Error> {
    let mut sorted: Vec<&(String, String)> = labels.iter().collect();
    sorted.sort();
    let mut parts = Vec::new();
    let mut last = None;
    for (name, value) in sorted {
        let shown = || name.chars().take(40).collect::<String>();
        if !is_name(name) || name.starts_with("__") || name == "le" {
            return Err(bad(kind, metric, format!("it cannot have a label `{}`", shown())));
        }
        if last.replace(name) == Some(name) {
            return Err(bad(kind, metric, format!("it has the label `{}` twice", shown())));
        }
        parts.push(format!("{name}=\"{}\"", escape(value)));
    }
    Ok(parts.join(","))
}

/// A label's value between quotes.
pub(super) fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What [`text`] wrote; `None` when it wrote something else.
pub(super) fn parse(text: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    _ => return None,
                }),
                (_, c) => value.push(c),
            }
        };
        if !is_name(name) {
            return None;
        }
        labels.push((name.to_owned(), value));
        rest = after.get(end + 1..)?;
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').filter(|rest| !rest.is_empty())?;
        }
    }
    Some(labels)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn labels_are_read_as_they_were_written() {
        let kind = NameKind::Gauge;
        for labels in [
            vec![],
            vec![pair("a", "")],
            vec![pair("a", "x,b=\"y\""), pair("b", "\\n\n\"\\"), pair("c_1", "ä ö")],
        ] {
            assert_eq!(parse(&text(kind, "m", &labels).unwrap()), Some(labels));
        }
        let (ab, ba) = ([pair("a", "1"), pair("b", "2")], [pair("b", "2"), pair("a", "1")]);
        assert_eq!(text(kind, "m", &ab).unwrap(), text(kind, "m", &ba).unwrap());
        for wrong in
            ["a", "a=", "a=\"", "a=\"x\",", "a=\"x\"b=\"y\"", "1=\"x\"", "a=\"\\x\"", "=\"\""]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_prometheus_would_refuse_is_refused() {
        let refused = |kind, name: &str| check_name(kind, name).unwrap_err().to_string();
        for name in ["", "1a", "a-b", "a b", "ä_total", "a:b"] {
            assert!(refused(NameKind::Gauge, name).contains("ASCII letters"), "{name}");
        }
        assert!(refused(NameKind::MetricCounter, "a").contains("ends in `_total`"));
        assert!(refused(NameKind::Gauge, "a_total").contains("only a counter's"));
        assert!(refused(NameKind::Histogram, "a_sum").contains("belong to histograms"));
        assert!(refused(NameKind::MetricCounter, "commonhold_commits_total").contains("already"));
        for name in ["1", "a-b", "__a", "le", ""] {
            assert!(text(NameKind::Gauge, "m", &[pair(name, "x")]).is_err(), "{name}");
        }
        let twice = text(NameKind::Gauge, "m", &[pair("a", "x"), pair("a", "y")]).unwrap_err();
        assert!(twice.to_string().contains("twice"), "{twice}");
        assert!(check_prefix("g", "resonance_mutex").is_ok());
        assert!(check_prefix("g", "a b").is_err());
    }
}
