//! `/healthz`, `/readyz`, `/metrics`: for who watches the daemon.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use commonhold::metrics::CONTENT_TYPE as METRICS_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::problem::{Kind, Problem};

/// How the daemon is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok` or `ready`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Says that the daemon answers.
#[utoipa::path(get, path = "/healthz", tag = "watching", responses(
    (status = 200, description = "It answers.", body = Health)
))]
pub async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Says whether the daemon takes work.
///
/// # Errors
/// [`Kind::Unavailable`] while it starts, and from the moment that it stops.
#[utoipa::path(get, path = "/readyz", tag = "watching", responses(
    (status = 200, description = "It takes work.", body = Health),
    (status = 503, description = "It starts, or stops.")
))]
pub async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Health>, Problem> {
    if app.is_ready() {
        return Ok(Json(Health { status: "ready" }));
    }
    Err(Problem::new(Kind::Unavailable, "the daemon starts or stops; ask another one"))
}

/// Everything that the segment counts, of all processes that ever used it.
///
/// # Errors
/// [`Kind::Internal`] when the segment is damaged.
#[utoipa::path(get, path = "/metrics", tag = "watching", responses(
    (status = 200, description = "The text format of Prometheus.", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")
))]
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let of = Arc::clone(&app);
    let text = app.desk().blocking(move || Ok(of.metrics_text()?)).await?;
    Ok(([(CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}
