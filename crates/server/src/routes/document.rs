//! `/openapi.json`: what can be asked, for programs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::conditions::Accept;
use crate::problem::Problem;

/// This document: every route, and the records of every table of the segment.
///
/// # Errors
/// [`crate::Kind::NotAcceptable`].
#[utoipa::path(get, path = "/openapi.json", tag = "watching", responses(
    (status = 200, description = "An OpenAPI 3.1 document.", body = Object)
))]
pub async fn openapi(State(app): State<Arc<App>>, accept: Accept) -> Result<Response, Problem> {
    accept.json()?;
    Ok(([(CONTENT_TYPE, "application/json")], app.document().to_owned()).into_response())
}
