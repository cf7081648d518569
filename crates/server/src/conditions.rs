//! Conditional requests: a record's version as its ETag, `If-Match` and `If-None-Match` (RFC 9110, section 13).

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use crate::problem::{Kind, Problem};

/// So many tags are read of one header.
const TAGS_MAX: usize = 64;

/// What one of the two headers lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: any version that there is.
    Any,
    /// These versions; tags that are none of ours match nothing, and are left out.
    Versions(Vec<u64>),
}

/// What must hold of a record's version for a request to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// It must be one of these.
    pub if_match: Option<Tags>,
    /// It must be none of these.
    pub if_none_match: Option<Tags>,
}

/// Which of the two headers does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// `If-Match`.
    Match,
    /// `If-None-Match`.
    NoneMatch,
}

/// A version as an ETag.
#[must_use]
pub fn etag(version: u64) -> HeaderValue {
    let text = format!("\"{version}\"");
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

impl Tags {
    /// Whether `version` is among them; `None`: there is no record.
    fn has(&self, version: Option<u64>) -> bool {
        match (self, version) {
            (Self::Any, version) => version.is_some(),
            (Self::Versions(all), Some(version)) => all.contains(&version),
            (Self::Versions(_), None) => false,
        }
    }

    fn read(headers: &HeaderMap, name: &HeaderName, weak: bool) -> Result<Option<Self>, Problem> {
        let mut versions = None;
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| malformed(name, "?"))?.trim();
            if text == "*" {
                return Ok(Some(Self::Any));
            }
            let all: &mut Vec<u64> = versions.get_or_insert_default();
            read_tags(text, weak, all).map_err(|tag| malformed(name, tag))?;
            if all.len() > TAGS_MAX {
                let detail = format!("{name}: more than {TAGS_MAX} tags");
                return Err(Problem::new(Kind::BadRequest, detail).field(name.as_str()));
            }
        }
        Ok(versions.map(Self::Versions))
    }
}

/// Reads a list of tags; with `weak`, those marked as weak count too. The text that is none, if one is.
fn read_tags<'a>(text: &'a str, weak: bool, all: &mut Vec<u64>) -> Result<(), &'a str> {
    let mut rest = text;
    while !rest.is_empty() {
        let (is_weak, tag) = match rest.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let (tag, after) = tag.strip_prefix('"').and_then(|t| t.split_once('"')).ok_or(rest)?;
        let ours = tag.parse().ok().filter(|version: &u64| version.to_string() == tag);
        if let Some(version) = ours.filter(|_| weak || !is_weak) {
            all.push(version);
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return Err(after),
        };
    }
    Ok(())
}

fn malformed(name: &HeaderName, tag: &str) -> Problem {
    let tag: String = tag.chars().take(40).collect();
    let detail = format!(
        "{name}: `{tag}` is no entity tag; give the version in double quotes, such as \"3\", or *"
    );
    Problem::new(Kind::BadRequest, detail).field(name.as_str())
}

impl Conditions {
    /// Reads them from the headers.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] for what is no tag.
    pub fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            if_match: Tags::read(headers, &IF_MATCH, false)?,
            if_none_match: Tags::read(headers, &IF_NONE_MATCH, true)?,
        })
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Checks them against the record's version; `None`: there is no record.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self, version: Option<u64>) -> Result<(), Broken> {
        if self.if_match.as_ref().is_some_and(|tags| !tags.has(version)) {
            return Err(Broken::Match);
        }
        if self.if_none_match.as_ref().is_some_and(|tags| tags.has(version)) {
            return Err(Broken::NoneMatch);
        }
        Ok(())
    }
}

impl Broken {
    /// The problem of who asked for it.
    #[must_use]
    pub fn problem(self, version: Option<u64>) -> Problem {
        let is = version.map_or("is not there".to_owned(), |v| format!("has version {v}"));
        let (header, what) = match self {
            Self::Match => ("If-Match", "which If-Match does not name; read it again"),
            Self::NoneMatch => ("If-None-Match", "which If-None-Match rules out"),
        };
        let problem = Problem::new(Kind::PreconditionFailed, format!("the record {is}, {what}"));
        let problem = problem.field(header);
        match version {
            Some(version) => problem.header(axum::http::header::ETAG, etag(version)),
            None => problem,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(&parts.headers)
    }
}

/// What of the answer's types the client accepts.
#[derive(Debug, Clone)]
pub struct Accept(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Accept {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let all: Vec<&str> = parts
            .headers
            .get_all(axum::http::header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        Ok(Self((!all.is_empty()).then(|| all.join(","))))
    }
}

impl Accept {
    /// Checks that an answer of `kind`, such as `application/json`, is accepted.
    ///
    /// # Errors
    /// [`Kind::NotAcceptable`].
    pub fn check(&self, kind: &str) -> Result<(), Problem> {
        let Some(accept) = &self.0 else { return Ok(()) };
        let (of, _) = kind.split_once('/').unwrap_or((kind, ""));
        let takes = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let none = |p: &str| {
                p.strip_prefix("q=").is_some_and(|q| q.parse().is_ok_and(|q: f64| q <= 0.0))
            };
            let fits = name == kind || name == "*/*" || name == format!("{of}/*");
            fits && !parts.any(none)
        };
        if accept.trim().is_empty() || accept.split(',').any(takes) {
            return Ok(());
        }
        let detail = format!("the answer is of type {kind}, which Accept does not name");
        Err(Problem::new(Kind::NotAcceptable, detail).field("Accept"))
    }

    /// Checks that JSON is accepted.
    ///
    /// # Errors
    /// [`Kind::NotAcceptable`].
    pub fn json(&self) -> Result<(), Problem> {
        self.check("application/json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(lines: &[(&'static str, &'static str)]) -> Result<Conditions, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Conditions::read(&headers)
    }

    #[test]
    fn tags_are_compared_strongly_where_they_allow_a_write() {
        let one = conditions(&[("if-match", "\"3\"")]).unwrap();
        assert_eq!(one.check(Some(3)), Ok(()));
        assert_eq!(one.check(Some(4)), Err(Broken::Match));
        assert_eq!(one.check(None), Err(Broken::Match));
        let weak = conditions(&[("if-match", "W/\"3\"")]).unwrap();
        assert_eq!(weak.check(Some(3)), Err(Broken::Match));
        let many = conditions(&[("if-match", "\"x,y\" , \"3\""), ("if-match", "\"5\"")]).unwrap();
        assert_eq!([3, 4, 5].map(|v| many.check(Some(v)).is_ok()), [true, false, true]);
        let new = conditions(&[("if-none-match", "*")]).unwrap();
        assert_eq!((new.check(None), new.check(Some(1))), (Ok(()), Err(Broken::NoneMatch)));
        let read = conditions(&[("if-none-match", "W/\"3\"")]).unwrap();
        assert_eq!(read.check(Some(3)), Err(Broken::NoneMatch));
        let padded = conditions(&[("if-match", "\"03\"")]).unwrap();
        assert_eq!(padded.check(Some(3)), Err(Broken::Match), "the tag is another one");
    }

    #[test]
    fn what_is_no_tag_is_told() {
        for text in ["3", "\"3", "\"3\" \"4\"", "\"3\";", "x\"3\""] {
            let problem = conditions(&[("if-match", text)]).expect_err(text);
            assert_eq!((problem.kind(), problem.place()), (Kind::BadRequest, Some("if-match")));
        }
    }

    #[test]
    fn accept_is_heeded() {
        let json = |accept: &str| Accept(Some(accept.to_owned())).json().is_ok();
        assert!(
            ["*/*", "application/*", "text/html, application/json;q=0.1", ""]
                .map(json)
                .iter()
                .all(|b| *b)
        );
        assert!(!["text/html", "application/json;q=0", "image/*;q=1"].map(json).iter().any(|b| *b));
        assert!(Accept(None).json().is_ok());
    }
}
