//! `/v1/sigils`: payloads are remembered, looked at and recalled.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use commonhold::systems::sigils::{Payload, SIGILS, Sigil, SigilError, SigilId, SigilIdentity};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{Body, unprocessable};
use crate::conditions::Accept;
use crate::problem::{Kind, Problem};
use crate::routes::path::{At, IdPath, Strict};
use crate::routes::records::{NoParams, WriteParams};

/// What is to be remembered.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewSigil)]
#[serde(deny_unknown_fields)]
pub struct NewSigil {
    /// Any JSON; in its canonical form it has 1000 bytes at most, if the segment was not made for more.
    #[schema(value_type = Value, example = json!({"tone": 440, "of": "dawn"}))]
    payload: Box<RawValue>,
    /// The resonance node that it belongs to.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_u64)]
    node: Option<u64>,
}

/// A sigil that was made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EncodedSigil)]
pub(crate) struct Encoded {
    /// Its id: the state of its payload and a number that no other sigil has.
    #[schema(example = "85944171f73967e8-1f")]
    id: String,
    /// The sigil of the same state before it; null: there is none.
    #[schema(required)]
    twin: Option<String>,
    /// When it was made, in microseconds since 1970.
    created_at: i64,
    /// Whether the store is known to have it.
    durable: bool,
}

/// A link to another sigil.
#[derive(Debug, ToSchema)]
#[schema(as = SigilLink)]
#[expect(dead_code, reason = "the document is made from it")]
pub(crate) struct LinkSchema {
    /// The other one.
    to: String,
    /// Above 0, at most 1.
    strength: f64,
}

/// A sigil as it was when it was looked at.
#[derive(Debug, ToSchema)]
#[schema(as = Sigil)]
#[expect(dead_code, reason = "the document is made from it")]
pub(crate) struct SigilSchema {
    /// Its id.
    #[schema(example = "85944171f73967e8-1f")]
    id: String,
    /// What is remembered, in canonical form.
    payload: Value,
    /// 1 when it was just touched; half of it is left after each half-life.
    strength: f64,
    /// In seconds.
    half_life_s: f64,
    /// How often it was recalled.
    recalls: u64,
    /// Whether it neither fades nor is swept.
    permanent: bool,
    /// When it was made, in microseconds since 1970.
    created_at: i64,
    /// When it was made or last recalled.
    touched_at: i64,
    /// The sigil of the same state before it; it may have been swept since.
    #[schema(required)]
    twin: Option<String>,
    /// The resonance node that it belongs to.
    #[schema(required)]
    node: Option<u64>,
    /// Its links to others.
    links: Vec<LinkSchema>,
    /// The version of its record.
    version: u64,
}

impl From<SigilError> for Problem {
    fn from(error: SigilError) -> Self {
        let detail = error.to_string();
        if error.is_busy() {
            return Self::new(Kind::Unavailable, detail).retry_after(1);
        }
        match error {
            SigilError::NotJson(_) | SigilError::TooDeep | SigilError::TooLarge { .. } => {
                unprocessable("/payload", &detail)
            }
            SigilError::BadId { .. } => Self::new(Kind::BadRequest, detail).field("id"),
            SigilError::Unknown(_) | SigilError::NoTable(_) => Self::new(Kind::NotFound, detail),
            SigilError::Runtime(error) => error.into(),
            _ => Self::new(Kind::Internal, detail),
        }
    }
}

/// Does something with the sigils at once, or, when there is no room or the store has to be waited for, on a blocking
/// thread; there too if `waits`.
async fn work<R: Send + 'static>(
    app: &Arc<App>,
    waits: bool,
    work: impl Fn(&SigilIdentity) -> Result<R, SigilError> + Send + 'static,
) -> Result<R, Problem> {
    let Some(sigils) = app.sigils() else {
        app.runtime().space().find_table(SIGILS)?;
        let detail = "the tables of sigils are not those of this version; use another segment";
        return Err(Problem::new(Kind::NotFound, detail));
    };
    if !waits {
        match work(&sigils.waiting(Duration::ZERO)) {
            Err(error) if error.is_busy() => {}
            done => return Ok(done?),
        }
    }
    let sigils = sigils.waiting(app.options().room_wait);
    app.desk().blocking(move || Ok(work(&sigils)?)).await
}

/// Remembers a payload: a new sigil, whether an equal one is there or not.
///
/// # Errors
/// [`Kind::Unprocessable`] naming the member; [`Kind::Unavailable`] when there is no room.
#[utoipa::path(post, path = "/v1/sigils", operation_id = "encode_sigil", tag = "systems",
    params(
        ("durable" = Option<bool>, Query, description = "Whether to answer only when the store has it."),
        ("timeout" = Option<u64>, Query, description = "The longest wait for the store, in seconds.", minimum = 1, maximum = 60)
    ),
    request_body = NewSigil,
    responses(
        (status = 201, description = "The sigil.", body = Encoded, headers(("Location" = String, description = "The sigil."))),
        (status = 404, description = "The segment has no sigils.")
    )
)]
pub async fn encode(
    State(app): State<Arc<App>>,
    accept: Accept,
    Strict(params): Strict<WriteParams>,
    Body(new): Body<NewSigil>,
) -> Result<Response, Problem> {
    accept.json()?;
    let durable = params.wait(&app)?;
    if new.node.is_some_and(|node| node == 0 || i64::try_from(node).is_err()) {
        return Err(unprocessable("/node", "no node has this id; give that of one, or none"));
    }
    let encode = move |sigils: &SigilIdentity| {
        let payload = Payload::Text(new.payload.get());
        let sigil = match new.node {
            Some(node) => sigils.encode_for_node(payload, node)?,
            None => sigils.encode_sigil_memory(payload)?,
        };
        let late = durable.and_then(|limit| sigils.wait_durable(&sigil, limit).err());
        Ok((sigil, late))
    };
    let (sigil, late) = work(&app, durable.is_some(), encode).await?;
    let place = format!("/v1/sigils/{}", sigil.id);
    if let Some(error) = late {
        let detail = format!(
            "sigil {} is in memory, but not durable: {error}; it stands, and is stored as soon as the store can",
            sigil.id
        );
        return Err(Problem::new(Kind::Timeout, detail));
    }
    let (id, twin) = (sigil.id.to_string(), sigil.twin.map(|twin| twin.to_string()));
    let (created_at, durable) = (sigil.created_at, durable.is_some());
    let made = Encoded { id, twin, created_at, durable };
    Ok((StatusCode::CREATED, [(LOCATION, place)], Json(made)).into_response())
}

/// Looks at a sigil, without touching it.
///
/// # Errors
/// [`Kind::NotFound`].
#[utoipa::path(get, path = "/v1/sigils/{id}", operation_id = "get_sigil", tag = "systems",
    params(("id" = String, Path, description = "The sigil's id.")),
    responses(
        (status = 200, description = "The sigil.", body = SigilSchema),
        (status = 404, description = "There is no such sigil, or no more.")
    )
)]
pub async fn get(
    State(app): State<Arc<App>>,
    At(IdPath { id }): At<IdPath<String>>,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<Sigil>, Problem> {
    accept.json()?;
    let id: SigilId = id.parse()?;
    Ok(Json(work(&app, false, move |sigils| sigils.get(id)).await?))
}

/// Recalls a sigil: its strength is full again, and the recall is counted. The body is an empty object.
///
/// # Errors
/// [`Kind::NotFound`].
#[utoipa::path(post, path = "/v1/sigils/{id}/recall", operation_id = "recall_sigil", tag = "systems",
    params(("id" = String, Path, description = "The sigil's id.")),
    request_body = NoParams,
    responses(
        (status = 200, description = "The sigil, recalled.", body = SigilSchema),
        (status = 404, description = "There is no such sigil, or no more.")
    )
)]
pub async fn recall(
    State(app): State<Arc<App>>,
    At(IdPath { id }): At<IdPath<String>>,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
    Body(NoParams {}): Body<NoParams>,
) -> Result<Json<Sigil>, Problem> {
    accept.json()?;
    let id: SigilId = id.parse()?;
    Ok(Json(work(&app, false, move |sigils| sigils.recall(id)).await?))
}
