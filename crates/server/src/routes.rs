//! The routes: what each path and method does.

pub mod cascade;
pub mod changes;
pub mod concepts;
pub mod customers;
pub mod document;
pub mod health;
pub mod path;
pub mod records;
pub mod resonance;
pub mod sigils;
pub mod tables;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::{MethodRouter, get, post};

use crate::app::App;
use crate::problem::{Kind, Problem};

/// Each path with its methods.
fn table() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    let record = get(records::get).put(records::put).patch(records::patch);
    vec![
        ("/healthz", get(health::healthz)),
        ("/readyz", get(health::readyz)),
        ("/metrics", get(health::metrics)),
        ("/openapi.json", get(document::openapi)),
        ("/v1/tables", get(tables::tables)),
        ("/v1/tables/{table}/records", get(tables::records)),
        ("/v1/tables/{table}/records/{key}", record.delete(records::delete)),
        ("/v1/customers/cap-and-access", post(customers::cap_and_access)),
        ("/v1/resonance/nodes", post(resonance::create)),
        ("/v1/resonance/nodes/{id}", get(resonance::get)),
        ("/v1/resonance/cascade", post(cascade::cascade)),
        ("/v1/concepts/human", post(concepts::learn)),
        ("/v1/sigils", post(sigils::encode)),
        ("/v1/sigils/{id}", get(sigils::get)),
        ("/v1/sigils/{id}/recall", post(sigils::recall)),
    ]
}

/// The paths that there are.
#[must_use]
pub fn paths() -> Vec<&'static str> {
    table().into_iter().map(|(path, _)| path).collect()
}

/// All routes, with JSON answers for those that there are not; no layers.
pub fn router(app: Arc<App>) -> Router {
    let add = |router: Router<Arc<App>>, (path, methods)| router.route(path, methods);
    table()
        .into_iter()
        .fold(Router::new(), add)
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
