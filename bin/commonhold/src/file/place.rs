//! A place in a document: `a.b`, `"x.y".z`, `list[0]`, `list[-1]`, `list[+]`; and `place=JSON`.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Number, Value};

/// A step down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Name(String),
    /// Counted from the first element.
    At(usize),
    /// Counted from the last one, which is 1.
    Last(usize),
    /// A new element at the end.
    New,
}

/// The way from the root to a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(Vec<Step>);

/// `place=JSON`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assigned {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

const HELP: &str = "write names with dots between, \"quoted\" where a name has other characters, [0] or [+] for elements";

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match parse(text)? {
            (place, "") => Ok(place),
            (_, rest) => Err(format!("`{rest}` is no part of a path; {HELP}")),
        }
    }
}

impl FromStr for Assigned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, json) = split(text)?;
        let value = serde_json::from_str(json).map_err(|_| {
            let quoted = Value::from(json).to_string();
            format!("`{json}` is not JSON; a text is written in quotes: '{place}={quoted}'")
        })?;
        exact(json)?;
        Ok(Self { place, value })
    }
}

/// `place=N`.
pub(crate) fn added(text: &str) -> Result<Assigned, String> {
    let (place, number) = split(text)?;
    match serde_json::from_str(number) {
        Ok(value @ Value::Number(_)) => {
            exact(number)?;
            Ok(Assigned { place, value })
        }
        _ => Err(format!("`{number}` is not a number; write {place}=1")),
    }
}

/// Refuses whole numbers that would become others: a value holds 64 bits, or the 17 digits of a double.
fn exact(json: &str) -> Result<(), String> {
    let mut rest = json;
    while let Some(at) = rest.find(|c: char| c == '"' || c.is_ascii_digit()) {
        let negative = rest.get(..at).is_some_and(|before| before.ends_with('-'));
        rest = rest.get(at..).unwrap_or_default();
        if rest.starts_with('"') {
            rest = quoted(rest)?.1;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_digit() && !".eE+-".contains(c));
        let (number, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind;
        let fits = match number.parse::<u64>() {
            Ok(number) => !negative || number <= i64::MIN.unsigned_abs(),
            Err(_) => false,
        };
        if number.bytes().all(|b| b.is_ascii_digit()) && !fits {
            let double: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
            let shown = format!("{double:e}");
            let (digits, power) = shown.split_once('e').unwrap_or((&shown, ""));
            let same = digits.replace('.', "") == number.trim_end_matches('0')
                && power.parse() == Ok(number.len() - 1);
            if !same {
                let why = "would be rounded to";
                return Err(format!("{number} {why} {shown}; write it as a text, in quotes"));
            }
        }
    }
    Ok(())
}

fn split(text: &str) -> Result<(Place, &str), String> {
    let (place, rest) = parse(text)?;
    match rest.strip_prefix('=') {
        Some(value) => Ok((place, value)),
        None if rest.is_empty() => Err(format!("`{place}` has no value; write {place}=JSON")),
        None => Err(format!("`{rest}` is no part of a path; {HELP}")),
    }
}

/// Reads the place that `text` begins with; what is behind it.
fn parse(text: &str) -> Result<(Place, &str), String> {
    let (mut steps, mut rest) = (Vec::new(), text);
    loop {
        if let Some(inner) = rest.strip_prefix('[') {
            let (number, behind) = inner.split_once(']').ok_or("a `[` without `]`")?;
            steps.push(element(number)?);
            rest = behind;
        } else {
            // A name: the first one, or behind a dot.
            let (name, behind) = if rest.starts_with('"') { quoted(rest)? } else { plain(rest)? };
            steps.push(Step::Name(name));
            rest = behind;
        }
        match rest.strip_prefix('.') {
            Some(behind) if !behind.starts_with('[') => rest = behind,
            _ if rest.starts_with('[') => {}
            _ => return Ok((Place(steps), rest)),
        }
    }
}

fn element(number: &str) -> Result<Step, String> {
    let why =
        || format!("`[{number}]` is no element; write [0], [-1] for the last or [+] for a new one");
    match number.strip_prefix('-') {
        _ if number == "+" => Ok(Step::New),
        Some(last) => match last.parse() {
            Ok(last) if last > 0 => Ok(Step::Last(last)),
            _ => Err(why()),
        },
        None if number.bytes().all(|b| b.is_ascii_digit()) => {
            number.parse().map(Step::At).map_err(|_| why())
        }
        None => Err(why()),
    }
}

fn plain(text: &str) -> Result<(String, &str), String> {
    let end = text.find(['.', '[', '=', '"', ']']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        Err(format!("a name is missing; {HELP}"))
    } else {
        Ok((name.to_owned(), rest))
    }
}

/// A name as a JSON string.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match strings.next() {
        Some(Ok(name)) => Ok((name, text.get(strings.byte_offset()..).unwrap_or_default())),
        _ => Err(format!("{text} begins with no JSON string; {HELP}")),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) => {
                    let dot = if at > 0 { "." } else { "" };
                    let plain = !name.is_empty() && !name.contains(['.', '[', '=', '"', ']']);
                    if plain {
                        write!(f, "{dot}{name}")?;
                    } else {
                        write!(f, "{dot}{}", Value::from(name.as_str()))?;
                    }
                }
                Step::At(at) => write!(f, "[{at}]")?,
                Step::Last(at) => write!(f, "[-{at}]")?,
                Step::New => f.write_str("[+]")?,
            }
        }
        Ok(())
    }
}

impl Step {
    /// The index in a list of `len`.
    fn index(&self, len: usize) -> Option<usize> {
        match self {
            Self::At(at) => Some(*at),
            Self::Last(at) => len.checked_sub(*at),
            Self::Name(_) | Self::New => None,
        }
        .filter(|at| *at < len)
    }
}

impl Place {
    /// The value there.
    pub(crate) fn find<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(document, |value, step| match step {
            Step::Name(name) => value.as_object()?.get(name),
            _ => value.as_array().and_then(|list| list.get(step.index(list.len())?)),
        })
    }

    fn up_to(&self, at: usize) -> Self {
        Self(self.0.get(..at).unwrap_or_default().to_vec())
    }

    /// The value there, null when it was just made; objects on the way are made, and a list for `[+]`.
    pub(crate) fn make<'a>(&self, document: &'a mut Value) -> Result<&'a mut Value, String> {
        let mut value = document;
        for (at, step) in self.0.iter().enumerate() {
            if value.is_null() {
                match step {
                    Step::Name(_) => *value = Value::Object(Map::new()),
                    Step::New => *value = Value::Array(Vec::new()),
                    Step::At(_) | Step::Last(_) => {}
                }
            }
            let wrong = |value: &Value, wanted: &str| match at {
                0 => format!("it is {}, not {wanted}", super::brief(value)),
                _ => format!("`{}` is {}, not {wanted}", self.up_to(at), super::brief(value)),
            };
            value = match (step, value) {
                (Step::Name(name), Value::Object(object)) => {
                    object.entry(name.as_str()).or_insert(Value::Null)
                }
                (Step::Name(_), other) => return Err(wrong(other, "an object")),
                (Step::New, Value::Array(list)) => {
                    list.push(Value::Null);
                    list.last_mut().ok_or("an empty list")?
                }
                (step, Value::Array(list)) => {
                    let (len, index) = (list.len(), step.index(list.len()));
                    let there = index.and_then(|index| list.get_mut(index));
                    there.ok_or_else(|| {
                        format!("there is no `{}`: the list has {len} elements", self.up_to(at + 1))
                    })?
                }
                (_, other) => return Err(wrong(other, "a list")),
            };
        }
        Ok(value)
    }

    /// The same place by the numbers of elements from the first on; none if it is not there.
    pub(crate) fn counted(&self, document: &Value) -> Option<Self> {
        let (mut value, mut steps) = (document, Vec::new());
        for step in &self.0 {
            let (next, step) = match (step, value) {
                (Step::Name(name), Value::Object(object)) => (object.get(name)?, step.clone()),
                (step, Value::Array(list)) => {
                    let at = step.index(list.len())?;
                    (list.get(at)?, Step::At(at))
                }
                _ => return None,
            };
            value = next;
            steps.push(step);
        }
        Some(Self(steps))
    }

    /// Removes it.
    pub(crate) fn delete(&self, document: &mut Value) -> Result<(), String> {
        let missing = || format!("there is no `{self}` to delete");
        let Some((last, above)) = self.0.split_last() else { return Err(missing()) };
        let above = Self(above.to_vec());
        if above.find(document).is_none() || self.find(document).is_none() {
            return Err(missing());
        }
        match (last, above.make(document)?) {
            (Step::Name(name), Value::Object(object)) => {
                // `remove` would change the order of the others.
                object.retain(|other, _| other != name);
                Ok(())
            }
            (step, Value::Array(list)) => {
                let index = step.index(list.len()).ok_or_else(missing)?;
                list.remove(index);
                Ok(())
            }
            _ => Err(missing()),
        }
    }
}

/// Adds a number to what is at `place`.
pub(crate) fn add(place: &Place, document: &mut Value, more: &Value) -> Result<(), String> {
    let there = place.make(document)?;
    let sum = match &*there {
        Value::Null => Some(more.clone()),
        Value::Number(number) => more.as_number().and_then(|more| sum(number, more)),
        other => return Err(format!("`{place}` is {}, not a number", super::brief(other))),
    };
    let sum = sum.ok_or_else(|| format!("`{place}` + {more} is out of range"))?;
    *there = sum;
    Ok(())
}

/// Whole numbers stay whole.
fn sum(a: &Number, b: &Number) -> Option<Value> {
    let whole = |n: &Number| n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        let sum = a.checked_add(b)?;
        let signed = i64::try_from(sum).ok().map(Value::from);
        return signed.or_else(|| u64::try_from(sum).ok().map(Value::from));
    }
    Number::from_f64(a.as_f64()? + b.as_f64()?).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for text in [
            "a",
            "a.b",
            "a[0].b",
            "a[-1]",
            "a[+]",
            "[0][1].x",
            "\"x.y\".z",
            "a.\"b c=\"[2]",
            "ä b.c-d",
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(place.to_string(), text);
        }
        for wrong in [
            "", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-0]", "a[1", "a]", "\"a", "a\"b\"",
            "a=1", "a.[0]", "a[0]b",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_json() {
        let read = |text: &str| text.parse::<Assigned>().map(|a| (a.place.to_string(), a.value));
        assert_eq!(read("a.b=1"), Ok(("a.b".to_owned(), json!(1))));
        assert_eq!(read("a=\"x=y\""), Ok(("a".to_owned(), json!("x=y"))));
        assert_eq!(read("\"a=b\"={}"), Ok(("\"a=b\"".to_owned(), json!({}))));
        let why = read("a=hello").unwrap_err();
        assert_eq!(why, "`hello` is not JSON; a text is written in quotes: 'a=\"hello\"'");
        assert!(read("a").unwrap_err().contains("write a=JSON"));
        assert!(added("a=\"1\"").is_err() && added("a=").is_err() && added("a=-1.5").is_ok());
    }

    #[test]
    fn whole_numbers_are_what_was_given_or_refused() {
        let read = |text: &str| text.parse::<Assigned>().map(|a| a.value.to_string());
        for (number, written) in [
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("10000000000000000000000", "1e+22"),
            ("-123000000000000000000000", "-1.23e+23"),
            ("{\"a\": [1.5, 2e30, \"12345678901234567890123\"]}", ""),
            ("{\"12345678901234567890123\": 3.14159265358979323846}", ""),
        ] {
            let read = read(&format!("n={number}"));
            assert!(read.as_ref().is_ok_and(|it| written.is_empty() || it == written), "{read:?}");
        }
        for number in [
            "12345678901234567890123",
            "-12345678901234567890123",
            "18446744073709551617",
            "-9223372036854775809",
            "10000000000000000000001",
            "[1, {\"\\\"9\": 12345678901234567890123}]",
        ] {
            let why = read(&format!("n={number}")).unwrap_err();
            assert!(why.contains(" would be rounded to "), "{why}");
        }
        let why = added("n=12345678901234567890123").unwrap_err();
        assert!(why.contains("12345678901234567890123 would be rounded to 1.2345"), "{why}");
    }

    #[test]
    fn numbers_are_added() {
        let add = |there: Value, more: Value| {
            let mut document = json!({ "n": there });
            super::add(&"n".parse().unwrap(), &mut document, &more).map(|()| document["n"].clone())
        };
        assert_eq!(add(json!(1), json!(2)), Ok(json!(3)));
        assert_eq!(add(json!(null), json!(2)), Ok(json!(2)));
        assert_eq!(add(json!(1.5), json!(2)), Ok(json!(3.5)));
        assert_eq!(add(json!(i64::MAX), json!(1)), Ok(json!(1_u64 << 63)));
        assert_eq!(add(json!(u64::MAX), json!(-1)), Ok(json!(u64::MAX - 1)));
        assert_eq!(add(json!(u64::MAX), json!(1)), Err("`n` + 1 is out of range".to_owned()));
        assert_eq!(add(json!("1"), json!(1)), Err("`n` is \"1\", not a number".to_owned()));
    }

    #[test]
    fn places_are_made_and_deleted() {
        let mut document = json!({"list": [1, 2, 3]});
        let make = |document: &mut Value, text: &str| {
            *text.parse::<Place>().unwrap().make(document)? = json!("x");
            Ok::<_, String>(())
        };
        make(&mut document, "a.b.c").unwrap();
        make(&mut document, "list[-1]").unwrap();
        make(&mut document, "new[+].y").unwrap();
        assert_eq!(
            document,
            json!({"list": [1, 2, "x"], "a": {"b": {"c": "x"}}, "new": [{"y": "x"}]})
        );
        let why = make(&mut document, "list[3]").unwrap_err();
        assert_eq!(why, "there is no `list[3]`: the list has 3 elements");
        assert_eq!(make(&mut document, "list.x").unwrap_err(), "`list` is a list, not an object");
        assert_eq!(make(&mut document, "[0]").unwrap_err(), "it is an object, not a list");
        let delete =
            |document: &mut Value, text: &str| text.parse::<Place>().unwrap().delete(document);
        for place in ["a.b", "list[0]", "list[-1]", "new"] {
            delete(&mut document, place).unwrap();
        }
        assert_eq!(document, json!({"list": [2], "a": {}}));
        assert_eq!(delete(&mut document, "a.b"), Err("there is no `a.b` to delete".to_owned()));
        assert!(
            delete(&mut document, "list[+]").is_err() && delete(&mut document, "list[-2]").is_err()
        );
    }
}
