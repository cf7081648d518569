//! The routes: what each path and method does.

pub mod health;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::get;

use crate::app::App;
use crate::problem::{Kind, Problem};

/// All routes, with JSON answers for those that there are not; no layers.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(health::healthz).fallback(|method| other_method(method, "GET, HEAD")),
        )
        .route("/readyz", get(health::readyz).fallback(|method| other_method(method, "GET, HEAD")))
        .route(
            "/metrics",
            get(health::metrics).fallback(|method| other_method(method, "GET, HEAD")),
        )
        .fallback(no_route)
        .with_state(app)
}

async fn no_route(uri: Uri) -> Problem {
    let detail =
        format!("there is no route `{}`; /openapi.json lists those that there are", uri.path());
    Problem::new(Kind::NotFound, detail)
}

async fn other_method(method: Method, allow: &'static str) -> Problem {
    let detail = format!("the method {method} is not known here; use {allow}");
    Problem::new(Kind::MethodNotAllowed, detail).allow(allow)
}
