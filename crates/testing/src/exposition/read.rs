//! A strict reader: what a lenient one forgives is an error here.

use std::collections::{BTreeMap, BTreeSet};

/// The samples of one name, with what stands before them.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it is.
    pub help: String,
    /// Its samples, in their order.
    pub samples: Vec<Sample>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The family's name; for histograms with its ending.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

/// Reads the text: each family once, its help and type first, its samples together, none twice.
///
/// # Errors
/// The first line that is not so, and why.
pub fn read(text: &str) -> Result<Vec<Family>, String> {
    if !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    let mut families: Vec<Family> = Vec::new();
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let wrong = |why: &str| format!("{why}: {line}");
        let help = line.strip_prefix("# HELP ").ok_or_else(|| wrong("HELP is due"))?;
        let (name, help) = help.split_once(' ').ok_or_else(|| wrong("HELP without a text"))?;
        let kind = lines.next().and_then(|l| l.strip_prefix("# TYPE ")?.strip_prefix(name));
        let kind = kind.and_then(|k| k.strip_prefix(' ')).ok_or_else(|| wrong("no TYPE behind"))?;
        let endings: &[&str] = match kind {
            "counter" | "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => return Err(wrong(&format!("the type is `{kind}`"))),
        };
        let mut samples = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let sample = read_sample(line)?;
            if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(format!("it stands there twice: {line}"));
            }
            let ending = sample.name.strip_prefix(name);
            if !ending.is_some_and(|ending| endings.contains(&ending)) {
                return Err(format!("no {kind} `{name}` has such a sample: {line}"));
            }
            samples.push(sample);
        }
        if samples.is_empty() {
            return Err(wrong("no samples"));
        }
        if !names.insert(name) {
            return Err(wrong("the second family of this name"));
        }
        let (name, kind, help) = (name.to_owned(), kind.to_owned(), unescape(help, false)?);
        families.push(Family { name, kind, help, samples });
    }
    Ok(families)
}

fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `\\`, `\n` and, in labels, `\"`; nothing else may stand behind a backslash.
fn unescape(text: &str, quotes: bool) -> Result<String, String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('\\') => '\\',
                Some('"') if quotes => '"',
                other => return Err(format!("{other:?} behind a backslash: {text}")),
            },
            c => c,
        });
    }
    Ok(plain)
}

/// `name{label="value",…} number`
fn read_sample(line: &str) -> Result<Sample, String> {
    let wrong = |why: &str| format!("{why}: {line}");
    let (series, number) = line.rsplit_once(' ').ok_or_else(|| wrong("no number"))?;
    let (name, mut rest) = match series.split_once('{') {
        Some((name, labels)) => {
            (name, labels.strip_suffix('}').ok_or_else(|| wrong("no brace at the end"))?)
        }
        None => (series, ""),
    };
    if !is_name(name) {
        return Err(wrong("not a metric's name"));
    }
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, behind) = rest.split_once("=\"").ok_or_else(|| wrong("not a label"))?;
        // The first quote that no backslash hides.
        let mut hidden = false;
        let end = behind.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !hidden;
            hidden = *c == '\\' && !hidden;
            ends
        });
        let (value, behind) = end
            .and_then(|(end, _)| Some((behind.get(..end)?, behind.get(end + 1..)?)))
            .ok_or_else(|| wrong("a label's value without an end"))?;
        if !is_name(label) || label.starts_with("__") {
            return Err(wrong("not a label's name"));
        }
        if labels.insert(label.to_owned(), unescape(value, true)?).is_some() {
            return Err(wrong("a label twice"));
        }
        rest = match behind.strip_prefix(',') {
            Some(next) if !next.is_empty() => next,
            None if behind.is_empty() => behind,
            _ => return Err(wrong("labels that do not go on")),
        };
    }
    let value = match number {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        // Rust reads more than Prometheus does.
        number if number.contains(|c: char| c.is_ascii_alphabetic() && c != 'e') => {
            return Err(wrong("not a number"));
        }
        number => number.parse().map_err(|_| wrong("not a number"))?,
    };
    Ok(Sample { name: name.to_owned(), labels, value })
}
