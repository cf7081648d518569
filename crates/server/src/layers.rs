//! What every request passes before a route sees it: it gets an id and a line in the log; host, token, size, number and
//! time are checked; a panic becomes an answer. Whatever is refused is refused by a [`Problem`].

pub(crate) mod host;

use std::any::Any;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;

use crate::conn::Conn;
use crate::options::ServerOptions;
use crate::problem::{Kind, Problem};
use crate::token::Token;
use host::Hosts;

/// The header with a request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client.
const ID_BYTES: usize = 64;
/// Routes that need no token and are answered however much there is to do: they say nothing but yes or no.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// What holds for requests.
#[derive(Debug)]
pub(crate) struct Rules {
    token: Option<Token>,
    /// Without a token: which hosts a request may be for.
    hosts: Hosts,
    body_bytes: u64,
    time: Duration,
    places: Semaphore,
    ids: RequestIds,
}

impl Rules {
    pub(crate) fn new(options: &ServerOptions, token: Option<Token>, hosts: Hosts) -> Self {
        Self {
            token,
            hosts,
            body_bytes: options.body_bytes.into(),
            time: options.request_time,
            places: Semaphore::new(options.requests as usize),
            ids: RequestIds::new(),
        }
    }

    /// Puts the routes behind the rules.
    pub(crate) fn guard(self, router: Router) -> Router {
        let body_bytes = usize::try_from(self.body_bytes).unwrap_or(usize::MAX);
        let rules = Arc::new(self);
        router
            .layer(CatchPanicLayer::custom(panicked))
            .layer(DefaultBodyLimit::max(body_bytes))
            .layer(from_fn_with_state(Arc::clone(&rules), admit))
            .layer(from_fn_with_state(rules, observe))
    }

    /// Whether the request comes from somebody who may ask.
    fn check_sender(&self, request: &Request) -> Result<(), Problem> {
        let Some(token) = &self.token else { return self.hosts.check(request) };
        let mut shown = request.headers().get_all(AUTHORIZATION).iter();
        let (first, second) = (shown.next(), shown.next());
        if first.is_some_and(|value| token.is_shown(value.as_bytes())) && second.is_none() {
            return Ok(());
        }
        let detail = if first.is_some() {
            "the token is wrong; use the one of the daemon's token file"
        } else {
            "no token; send the header `Authorization: Bearer TOKEN`"
        };
        Err(Problem::new(Kind::Unauthorized, detail).bearer())
    }

    fn check_size(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = length.and_then(|text| text.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.body_bytes) {
            let detail = format!(
                "the body has {} bytes; at most {} are taken",
                length.unwrap_or_default(),
                self.body_bytes
            );
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        Ok(())
    }
}

/// Lets a request through to its route, or refuses it.
async fn admit(State(rules): State<Arc<Rules>>, request: Request, next: Next) -> Response {
    if HEALTH.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let checked = rules.check_sender(&request).and_then(|()| rules.check_size(request.headers()));
    if let Err(problem) = checked {
        return problem.into_response();
    }
    let Ok(_place) = rules.places.try_acquire() else {
        let detail = "too many requests are under way; try again";
        return Problem::new(Kind::Unavailable, detail).retry_after(1).into_response();
    };
    let conn = request.extensions().get::<Arc<Conn>>().map(Arc::clone);
    match timeout(rules.time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => late(rules.time, conn.is_some_and(|conn| conn.has_open_body())).into_response(),
    }
}

fn late(limit: Duration, has_open_body: bool) -> Problem {
    let limit = format!("{} ms", limit.as_millis());
    if has_open_body {
        let detail =
            format!("the request's body had not come wholly after {limit}; nothing was done");
        return Problem::new(Kind::RequestTimeout, detail);
    }
    let detail =
        format!("not done within {limit}; it may still be done: look before you repeat it");
    Problem::new(Kind::Timeout, detail)
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(
        panic = text.unwrap_or_default(),
        "a request ended in a panic; this is a defect"
    );
    let detail = "the daemon has a defect; its log says more, with this request's id";
    Problem::new(Kind::Internal, detail).into_response()
}

/// Gives a request its id, and the log a line.
async fn observe(State(rules): State<Arc<Rules>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = rules.ids.of(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let route = route.as_ref().map_or("-", MatchedPath::as_str);
    let (status, bytes) = (response.status().as_u16(), response.body().size_hint().lower());
    let text = id.to_str().unwrap_or_default();
    if status >= 500 {
        tracing::warn!(target: "commonhold::request", %method, route, status, micros, bytes, id = text);
    } else {
        tracing::info!(target: "commonhold::request", %method, route, status, micros, bytes, id = text);
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Where requests' ids come from.
#[derive(Debug)]
struct RequestIds {
    start: u64,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        Self { start: RandomState::new().build_hasher().finish(), count: AtomicU64::new(0) }
    }

    /// The client's own, if it is short and of letters, digits and `-_.`; else a new one.
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let known = headers.get(&REQUEST_ID).filter(|value| {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
            (1..=ID_BYTES).contains(&value.len()) && value.as_bytes().iter().all(plain)
        });
        known.cloned().unwrap_or_else(|| self.next())
    }

    fn next(&self) -> HeaderValue {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:016x}-{number:x}", self.start);
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("-"))
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn ids_are_taken_over_or_made() {
        let ids = RequestIds::new();
        let of = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(id).unwrap());
            ids.of(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(of("a-B_9."), "a-B_9.");
        let long = "x".repeat(ID_BYTES + 1);
        for wrong in ["", "a b", "a\tb", "{x}", &long] {
            assert_ne!(of(wrong), wrong);
        }
        assert_ne!(ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
    }

    #[test]
    fn who_is_late_is_told_whose_fault_it_was() {
        let time = Duration::from_secs(1);
        assert_eq!(late(time, true).kind(), Kind::RequestTimeout);
        assert_eq!(late(time, false).kind(), Kind::Timeout);
    }

    #[test]
    fn a_panic_is_one_answer_and_no_end() {
        let options = ServerOptions::new(commonhold::Config::ephemeral());
        let hosts = Hosts::new(options.listen);
        async fn defect() -> &'static str {
            panic!("a planted one");
        }
        let routes = Router::new().route("/panic", axum::routing::get(defect));
        let router = Rules::new(&options, None, hosts).guard(routes);
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for _ in 0..2 {
            let request = Request::builder().uri("/panic").header("host", "localhost");
            let request = request.body(axum::body::Body::empty()).unwrap();
            let response = threads.block_on(router.clone().oneshot(request)).unwrap();
            assert_eq!(response.status(), 500);
            assert_eq!(response.headers()["content-type"], crate::problem::MEDIA_TYPE);
            assert!(response.headers().contains_key(REQUEST_ID));
        }
    }
}
