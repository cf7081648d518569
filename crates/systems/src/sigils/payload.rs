//! Payloads: any JSON, in one canonical form, so that equal payloads have one state.
//!
//! **Canonical form**: no space between tokens; an object's members sorted by the bytes of their names, and of several
//! members of one name the last; strings with the shortest escapes (`\"`, `\\`, `\b \f \n \r \t`, `\u00xx` for the
//! other control characters, everything else as it is); integers of 64 bits in decimal, every other number as the
//! shortest text that reads as the same `f64`, with `.0` or an exponent. `1` and `1.0` are two payloads.

use serde_json::Value;

use super::error::SigilError;

/// The most levels of arrays and objects in a payload: what every reader of JSON takes.
pub const DEPTH_MAX: usize = 100;

/// What is to be remembered.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// JSON that was read already.
    Value(&'a Value),
    /// JSON as text.
    Text(&'a str),
}

impl<'a> From<&'a Value> for Payload<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Value(value)
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl Payload<'_> {
    /// The canonical text.
    ///
    /// # Errors
    /// [`SigilError::NotJson`], [`SigilError::TooDeep`].
    pub fn canonical(self) -> Result<String, SigilError> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Value(value) => write(value, &mut out, 0)?,
            Self::Text(text) => {
                let value: Value = serde_json::from_str(text).map_err(not_json)?;
                write(&value, &mut out, 0)?;
            }
        }
        String::from_utf8(out).map_err(|e| SigilError::NotJson(e.to_string()))
    }
}

fn not_json(error: serde_json::Error) -> SigilError {
    SigilError::NotJson(error.to_string())
}

fn write(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), SigilError> {
    if depth > DEPTH_MAX {
        return Err(SigilError::TooDeep);
    }
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out, depth + 1)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Sorted already, unless some crate of the program switched serde_json's `preserve_order` on.
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            if !sorted.is_sorted_by_key(|(name, _)| *name) {
                sorted.sort_by_key(|(name, _)| *name);
            }
            out.push(b'{');
            for (at, (name, item)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, name).map_err(not_json)?;
                out.push(b':');
                write(item, out, depth + 1)?;
            }
            out.push(b'}');
        }
        plain => serde_json::to_writer(&mut *out, plain).map_err(not_json)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        Payload::Text(text).canonical().unwrap()
    }

    #[test]
    fn one_form_for_equal_payloads() {
        for (text, want) in [
            (" { \"b\" : 1 , \"a\" : [ 1.50 , 2e3, -0.0 ] } ", r#"{"a":[1.5,2000.0,-0.0],"b":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#""\u0041\/\u00e9\u0000\n\ud83d\ude00""#, "\"A/é\\u0000\\n😀\""),
            (r#"{"ä":0,"b":0,"B":0,"":0}"#, r#"{"":0,"B":0,"b":0,"ä":0}"#),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "1.8446744073709552e+19"),
            ("1", "1"),
            ("1.0", "1.0"),
            ("null", "null"),
            ("[]", "[]"),
        ] {
            assert_eq!(canonical(text), want, "{text}");
            assert_eq!(canonical(want), want, "{want} is canonical");
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(Payload::from(&value).canonical().unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_says_where() {
        for wrong in ["", "{", "nul", "[1,]", "\"\u{1}\"", "1e999", r#""\ud800""#, "NaN", "1 2"] {
            let refused = Payload::Text(wrong).canonical().unwrap_err();
            let text = refused.to_string();
            assert!(matches!(refused, SigilError::NotJson(_)), "{wrong}: {text}");
            assert!(text.contains("line 1 column"), "{wrong}: {text}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let most = nested(DEPTH_MAX + 1);
        assert_eq!(canonical(&most), most);
        let refused = Payload::Text(&nested(DEPTH_MAX + 2)).canonical();
        assert!(matches!(refused, Err(SigilError::TooDeep)), "{refused:?}");
        // Far more than a reader takes, made in memory: an error, not the end of the stack.
        let mut value = Value::Null;
        for _ in 0..1000 {
            value = Value::Array(vec![value]);
        }
        assert!(matches!(Payload::from(&value).canonical(), Err(SigilError::TooDeep)));
        assert!(Payload::Text(&nested(100_000)).canonical().is_err());
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((".{0,6}", inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_says_the_same_and_stays(value in json()) {
            let text = Payload::from(&value).canonical().unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), &value);
            prop_assert_eq!(&canonical(&text), &text);
            let spaced = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(&canonical(&spaced), &text);
        }
    }
}
