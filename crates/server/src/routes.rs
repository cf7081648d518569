//! The routes: what each path and method does.

pub mod changes;
pub mod health;
pub mod path;
pub mod records;
pub mod tables;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::get;

use crate::app::App;
use crate::problem::{Kind, Problem};

/// All routes, with JSON answers for those that there are not; no layers.
pub fn router(app: Arc<App>) -> Router {
    let record = get(records::get).put(records::put).patch(records::patch).delete(records::delete);
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/v1/tables", get(tables::tables))
        .route("/v1/tables/{table}/records", get(tables::records))
        .route("/v1/tables/{table}/records/{key}", record)
        .fallback(no_route)
        .method_not_allowed_fallback(other_method)
        .with_state(app)
}

async fn no_route(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("there is no route `{path}`; /openapi.json lists those that there are");
    Problem::new(Kind::NotFound, detail)
}

async fn other_method(method: Method) -> Problem {
    let detail =
        format!("the method {method} is not known here; take one of those that Allow names");
    Problem::new(Kind::MethodNotAllowed, detail)
}
