//! The routes: what each path and method does.

pub mod cascade;
pub mod changes;
pub mod customers;
pub mod health;
pub mod path;
pub mod records;
pub mod resonance;
pub mod tables;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::{get, post};

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
        .route("/v1/customers/cap-and-access", post(customers::cap_and_access))
        .route("/v1/resonance/nodes", post(resonance::create))
        .route("/v1/resonance/nodes/{id}", get(resonance::get))
        .route("/v1/resonance/cascade", post(cascade::cascade))
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
