//! Bodies: JSON read strictly, each mistake with its place.
//!
//! What is no JSON is a bad request, named by line and column. What is JSON and not what is asked for (an unknown or
//! doubled member, a wrong type, a missing member) is unprocessable, named by a JSON pointer.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use commonhold::schema::FIELDS_MAX;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};

use crate::app::App;
use crate::problem::{Kind, Problem};

/// A body that was read as JSON.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// The bytes of a body whose type is JSON, not read yet.
#[derive(Debug)]
pub struct JsonBytes(pub Vec<u8>);

impl FromRequest<Arc<App>> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        check_headers(request.headers())?;
        let limit = app.options().body_bytes;
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        if announced.and_then(|v| v.parse::<u64>().ok()).is_some_and(|n| n > limit as u64) {
            return Err(too_large(limit));
        }
        match Limited::new(request.into_body(), limit).collect().await {
            Ok(body) => Ok(Self(body.to_bytes().into())),
            Err(error) if is_too_long(&*error) => Err(too_large(limit)),
            Err(_) => Err(Problem::new(Kind::BadRequest, "the body did not come whole")),
        }
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let JsonBytes(bytes) = JsonBytes::from_request(request, app).await?;
        read(&bytes).map(Self)
    }
}

/// Only JSON is taken: a page of another site cannot make a browser send that unasked.
fn check_headers(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = Kind::UnsupportedMediaType;
    let found = headers.get(CONTENT_TYPE).map(|v| v.to_str().unwrap_or("?"));
    let essence = found.and_then(|v| v.split(';').next()).map(str::trim).unwrap_or_default();
    if !essence.eq_ignore_ascii_case("application/json") {
        let found = found.map_or("no type".to_owned(), |v| format!("type `{v}`"));
        let detail = format!("the body has {found}; send `Content-Type: application/json`");
        return Err(Problem::new(kind, detail).field("Content-Type"));
    }
    let plain = |v: &axum::http::HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        return Ok(());
    }
    let detail = "the body is encoded; send it without a Content-Encoding";
    Err(Problem::new(kind, detail).field("Content-Encoding"))
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::TooLarge, format!("the body has more than {limit} bytes; send less"))
}

fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<LengthLimitError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Reads a whole body.
///
/// # Errors
/// [`Kind::BadRequest`] for what is no JSON; [`Kind::Unprocessable`] for other JSON than is asked for.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(Kind::BadRequest, "the body is empty; send a JSON object"));
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        let at = error.valid_up_to();
        let detail = format!("the body is not UTF-8 at byte {at}; send JSON in UTF-8");
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut from).map_err(|error| {
        let pointer = pointer(error.path());
        problem(error.inner(), pointer)
    })?;
    from.end().map_err(|error| problem(&error, String::new()))?;
    Ok(value)
}

/// Reads a part of a body that was read as JSON already; `pointer` says which.
///
/// # Errors
/// [`Kind::Unprocessable`].
pub fn read_part<T: DeserializeOwned>(raw: &RawValue, pointer: &str) -> Result<T, Problem> {
    let mut from = serde_json::Deserializer::from_str(raw.get());
    serde_path_to_error::deserialize(&mut from).map_err(|error| {
        let pointer = format!("{pointer}{}", self::pointer(error.path()));
        // Its line and column would count from the part's beginning.
        let text = error.inner().to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        unprocessable(&pointer, text)
    })
}

fn problem(error: &serde_json::Error, pointer: String) -> Problem {
    match error.classify() {
        Category::Data => unprocessable(&pointer, &error.to_string()),
        _ => Problem::new(Kind::BadRequest, format!("the body is not valid JSON: {error}")),
    }
}

/// A value at `pointer` that is not what is asked for.
#[must_use]
pub fn unprocessable(pointer: &str, why: &str) -> Problem {
    let place = if pointer.is_empty() { "the body" } else { pointer };
    Problem::new(Kind::Unprocessable, format!("{place}: {why}")).field(pointer)
}

/// `name` as a step of a JSON pointer.
#[must_use]
pub fn step(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn pointer(path: &Path) -> String {
    let text = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => step(key),
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    };
    path.iter().map(text).collect()
}

/// A JSON object as a `T`; by itself, a structure would be read from an array of its values too.
#[derive(Debug, Clone, Copy)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visit<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Visit<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(Visit(PhantomData))
    }
}

/// The members of a JSON object in their order, none of them twice; their values are not read yet.
#[derive(Debug, Default)]
pub struct Members(pub Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut all: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if all.iter().any(|(other, _)| *other == name) {
                        let message = format!("duplicate field `{name}`");
                        return Err(serde::de::Error::custom(message));
                    }
                    if all.len() == FIELDS_MAX {
                        let message = format!(
                            "more than {FIELDS_MAX} members; no table has that many fields"
                        );
                        return Err(serde::de::Error::custom(message));
                    }
                    all.push((name, map.next_value()?));
                }
                Ok(Members(all))
            }
        }
        from.deserialize_map(Visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        n: i64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        list: Vec<Object<Inner>>,
        #[allow(dead_code)]
        #[serde(default)]
        set: Members,
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases: [(&[u8], Kind, &str, &str); 13] = [
            (b" ", Kind::BadRequest, "", "empty"),
            (b"{", Kind::BadRequest, "", "line 1 column 1"),
            (b"{\"list\":[}", Kind::BadRequest, "", "line 1 column 10"),
            (b"{\"list\":[]} x", Kind::BadRequest, "", "trailing"),
            (b"{\"list\":[\"\xff\"]}", Kind::BadRequest, "", "UTF-8 at byte 10"),
            (b"{\"list\":[],\"a~b/c\":1}", Kind::Unprocessable, "/a~0b~1c", "unknown field"),
            (
                b"{\"list\":[{\"n\":1},{\"m\":1}]}",
                Kind::Unprocessable,
                "/list/1/m",
                "unknown field",
            ),
            (b"{\"list\":[{\"n\":\"x\"}]}", Kind::Unprocessable, "/list/0/n", "expected i64"),
            (b"{\"list\":[{\"n\":1e30}]}", Kind::Unprocessable, "/list/0/n", "expected i64"),
            (b"{\"list\":[{}]}", Kind::Unprocessable, "/list/0", "missing field `n`"),
            (b"{\"list\":[[1]]}", Kind::Unprocessable, "/list/0", "expected an object"),
            (b"[]", Kind::Unprocessable, "", "the body: "),
            (b"{\"list\":[],\"set\":{\"a\":1,\"a\":2}}", Kind::Unprocessable, "/set", "duplicate"),
        ];
        for (text, kind, pointer, words) in cases {
            let problem = read::<Outer>(text).unwrap_err();
            let shown = String::from_utf8_lossy(text);
            assert_eq!(problem.kind(), kind, "{shown}: {problem}");
            assert_eq!(problem.place().unwrap_or_default(), pointer, "{shown}: {problem}");
            assert!(problem.detail().contains(words), "{shown}: {problem}");
        }
    }

    #[test]
    fn depth_stops_nobody() {
        let deep = format!("{{\"list\":[],\"set\":{{\"a\":{}", "[".repeat(900_000));
        assert_eq!(read::<Outer>(deep.as_bytes()).unwrap_err().kind(), Kind::BadRequest);
        let whole = format!(
            "{{\"list\":[],\"set\":{{\"a\":{}{}}}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(read::<Outer>(whole.as_bytes()).unwrap().set.0.len(), 1);
    }
}
