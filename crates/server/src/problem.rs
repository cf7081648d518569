//! Problems: what went wrong with a request, as `application/problem+json` (RFC 9457).

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What kind of problem it is: its `type`, title and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400: something of the request cannot be read.
    BadRequest,
    /// 401: no token, or a wrong one.
    Unauthorized,
    /// 404: no such route, table or record.
    NotFound,
    /// 405: the route is there, the method is not.
    MethodNotAllowed,
    /// 406: what the client accepts is not what there is.
    NotAcceptable,
    /// 408: the request did not come whole in time.
    RequestTimeout,
    /// 409: a requirement does not hold of the record, or a sum does not fit.
    Conflict,
    /// 412: the record has another version than `If-Match` says, or is there.
    PreconditionFailed,
    /// 413: the body is too large.
    TooLarge,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 421: the request names another host.
    Misdirected,
    /// 422: it can be read, and is not what is asked for here.
    Unprocessable,
    /// 431: too many headers, or too long ones.
    HeadersTooLarge,
    /// 500: a bug, or a damaged segment.
    Internal,
    /// 503: full, overloaded or stopping.
    Unavailable,
    /// 504: it was not done in time; what was committed stands.
    Timeout,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::RequestTimeout,
        Self::Conflict,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Misdirected,
        Self::Unprocessable,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::Unavailable,
        Self::Timeout,
    ];

    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The last word of its `type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::NotAcceptable => "not-acceptable",
            Self::RequestTimeout => "request-timeout",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "precondition-failed",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::Misdirected => "misdirected",
            Self::Unprocessable => "unprocessable",
            Self::HeadersTooLarge => "headers-too-large",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
        }
    }

    /// What it is, in few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "the request cannot be read",
            Self::Unauthorized => "a valid token is needed",
            Self::NotFound => "there is no such thing",
            Self::MethodNotAllowed => "the route does not know this method",
            Self::NotAcceptable => "the answer would be of a type that is not accepted",
            Self::RequestTimeout => "the request did not come whole in time",
            Self::Conflict => "the record's state does not allow it",
            Self::PreconditionFailed => "the record is not as the request says",
            Self::TooLarge => "the body is too large",
            Self::UnsupportedMediaType => "the body is not of type application/json",
            Self::Misdirected => "the request is for another host",
            Self::Unprocessable => "a value is not what is asked for",
            Self::HeadersTooLarge => "the headers are too large",
            Self::Internal => "the daemon failed",
            Self::Unavailable => "the daemon cannot do it just now",
            Self::Timeout => "it was not done in time",
        }
    }
}

/// What went wrong with a request.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    field: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What went wrong with a request (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemJson<'a> {
    /// Which kind it is, for programs.
    #[schema(example = "urn:commonhold:problem:unprocessable")]
    r#type: String,
    /// Which kind it is, for people.
    #[schema(example = "a value is not what is asked for")]
    title: &'a str,
    /// The status.
    #[schema(example = 422)]
    status: u16,
    /// What, where, what to do: one line.
    #[schema(example = "/fields/n: found a string; give a whole number")]
    detail: &'a str,
    /// The place: a JSON pointer into the body, or the name of a parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/fields/n")]
    field: Option<&'a str>,
}

impl Problem {
    /// A problem; `detail` is one line: what, where, what to do.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), field: None, headers: Vec::new() }
    }

    /// Names the place in the body: a JSON pointer (RFC 6901), or the name of a parameter or header.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The place in the request, if it was named.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// Says after how many seconds it may be tried again.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Names the methods that the route knows.
    #[must_use]
    pub fn allow(self, methods: &'static str) -> Self {
        self.header(ALLOW, HeaderValue::from_static(methods))
    }

    /// Asks for a bearer token.
    #[must_use]
    pub fn bearer(self) -> Self {
        self.header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What, where, what to do.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let body = ProblemJson {
            r#type: format!("urn:commonhold:problem:{}", self.kind.name()),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
            field: self.field.as_deref(),
        };
        // Strings and a number: there is nothing that could not be written.
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

impl From<commonhold::Error> for Problem {
    fn from(error: commonhold::Error) -> Self {
        use commonhold::Error as E;
        let detail = error.to_string();
        match error {
            E::UnknownTable { .. } | E::NotFound { .. } => Self::new(Kind::NotFound, detail),
            E::BadKey { .. } => Self::new(Kind::BadRequest, detail).field("key"),
            E::UnknownField { .. } | E::Field { .. } => Self::new(Kind::Unprocessable, detail),
            E::Exists { .. } | E::Guarded { .. } | E::CounterOverflow { .. } => {
                Self::new(Kind::Conflict, detail)
            }
            E::Full { .. } | E::Participants { .. } | E::IntentFull { .. } | E::Removed => {
                Self::new(Kind::Unavailable, detail).retry_after(1)
            }
            // No use to come again soon: a person has to decide.
            E::NotStorable { .. } => Self::new(Kind::Unavailable, detail),
            E::Timeout { .. } => Self::new(Kind::Timeout, detail),
            _ => Self::new(Kind::Internal, detail),
        }
    }
}
