//! Paths and parameters, read strictly.

use std::sync::Arc;

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::problem::{Kind, Problem};

/// Which record.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordPath {
    /// The table.
    pub table: String,
    /// The record's key.
    pub key: String,
}

/// Which table.
#[derive(Debug, Clone, Deserialize)]
pub struct TablePath {
    /// The table.
    pub table: String,
}

/// Which thing with an id.
#[derive(Debug, Clone, Deserialize)]
pub struct IdPath<T> {
    /// Its id.
    pub id: T,
}

/// What a path names.
#[derive(Debug)]
pub struct At<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, app).await {
            Ok(Path(path)) => Ok(Self(path)),
            Err(rejection) => Err(path_problem(&rejection)),
        }
    }
}

fn path_problem(rejection: &PathRejection) -> Problem {
    let PathRejection::FailedToDeserializePathParams(error) = rejection else {
        return Problem::new(Kind::Internal, rejection.to_string());
    };
    let problem = |detail| Problem::new(Kind::BadRequest, detail);
    match error.kind() {
        ErrorKind::InvalidUtf8InPathParam { key } => {
            problem(format!("the path's {key} is not UTF-8; encode UTF-8 by percent signs"))
                .field(key.as_str())
        }
        ErrorKind::ParseErrorAtKey { key, value, expected_type } => {
            problem(format!("the path's {key} is `{value}`, which is no {expected_type}"))
                .field(key.as_str())
        }
        ErrorKind::DeserializeError { key, message, .. } => {
            problem(format!("the path's {key}: {message}")).field(key.as_str())
        }
        other => problem(format!("the path: {other}")),
    }
}

/// Parameters behind the `?`; those that are not known are refused.
#[derive(Debug)]
pub struct Strict<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Strict<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, app).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let text = rejection.body_text();
                let why = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, why)| why);
                let detail = format!("the parameters behind the `?`: {why}");
                Err(Problem::new(Kind::BadRequest, detail).field("query"))
            }
        }
    }
}

/// `text` as a part of a path, by percent signs where it must be.
#[must_use]
pub fn path_text(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}
