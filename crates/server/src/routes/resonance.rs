//! `/v1/resonance/nodes`: nodes of the resonance networks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use commonhold::systems::resonance::physics::PhysicsError;
use commonhold::systems::resonance::{NetworkError, NewNode, Node, ResonanceNetworks};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{Body, unprocessable};
use crate::conditions::Accept;
use crate::desk::Stop;
use crate::problem::{Kind, Problem};
use crate::routes::path::{At, IdPath, Strict};
use crate::routes::records::NoParams;

/// What a new node is.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewNode)]
#[serde(deny_unknown_fields)]
pub struct NewNodeJson {
    /// In Hz.
    #[schema(example = 440.0, minimum = 0, maximum = 1e9)]
    frequency: f64,
    /// Its square is energy.
    #[serde(default = "one")]
    #[schema(minimum = 0, maximum = 1e100)]
    amplitude: f64,
    /// In rad; it is brought into [0, 2π).
    #[serde(default)]
    phase: f64,
}

fn one() -> f64 {
    1.0
}

/// A node: one oscillator.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResonanceNode)]
pub struct NodeJson {
    /// Its id, which no other node ever has.
    id: u64,
    /// In Hz.
    frequency: f64,
    /// Its square is energy.
    amplitude: f64,
    /// In rad, in [0, 2π).
    phase: f64,
    /// With its neighbours, 0 to 1, as of the last tick.
    coherence: f64,
    /// How many ticks it was in.
    ticks: i64,
}

impl NodeJson {
    fn new(id: u64, node: &Node) -> Self {
        let Node { frequency, amplitude, phase, coherence, ticks } = *node;
        Self { id, frequency, amplitude, phase, coherence, ticks }
    }
}

impl From<NetworkError> for Stop {
    fn from(error: NetworkError) -> Self {
        let detail = error.to_string();
        match error {
            NetworkError::Runtime(error) => error.into(),
            NetworkError::Physics(error) => Self::Problem(physics_problem(&error)),
            NetworkError::UnknownNode(_) => Self::Problem(Problem::new(Kind::NotFound, detail)),
            _ => Self::Problem(Problem::new(Kind::Conflict, detail)),
        }
    }
}

fn physics_problem(error: &PhysicsError) -> Problem {
    let pointer = match error {
        PhysicsError::Frequency(_) => "/frequency",
        PhysicsError::Amplitude(_) => "/amplitude",
        PhysicsError::Phase(_) => "/phase",
        _ => "",
    };
    unprocessable(pointer, &error.to_string())
}

/// Creates a node under an id that no other node ever has.
///
/// # Errors
/// [`Kind::Unprocessable`] naming the quantity.
#[utoipa::path(post, path = "/v1/resonance/nodes", operation_id = "create_node", tag = "systems",
    request_body = NewNodeJson,
    responses(
        (status = 201, description = "The node.", body = NodeJson, headers(("Location" = String, description = "The node."))),
        (status = 404, description = "The segment has no resonance networks.")
    )
)]
pub async fn create(
    State(app): State<Arc<App>>,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
    Body(new): Body<NewNodeJson>,
) -> Result<Response, Problem> {
    accept.json()?;
    let NewNodeJson { frequency, amplitude, phase } = new;
    let create = move |handle: &commonhold::Handle| {
        let networks = ResonanceNetworks::new(handle)?;
        let id = networks.create_node(NewNode { frequency, amplitude, phase })?;
        Ok(NodeJson::new(id, &networks.node(id)?))
    };
    let node: NodeJson = app.desk().work(create).await?;
    let place = [(LOCATION, format!("/v1/resonance/nodes/{}", node.id))];
    Ok((StatusCode::CREATED, place, Json(node)).into_response())
}

/// Reads a node.
///
/// # Errors
/// [`Kind::NotFound`].
#[utoipa::path(get, path = "/v1/resonance/nodes/{id}", operation_id = "get_node", tag = "systems",
    params(("id" = u64, Path, description = "The node's id.")),
    responses(
        (status = 200, description = "The node.", body = NodeJson),
        (status = 404, description = "There is no such node.")
    )
)]
pub async fn get(
    State(app): State<Arc<App>>,
    At(IdPath { id }): At<IdPath<u64>>,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<NodeJson>, Problem> {
    accept.json()?;
    let node = app
        .desk()
        .with(|handle| -> Result<_, Stop> { Ok(ResonanceNetworks::new(handle)?.node(id)?) })?;
    Ok(Json(NodeJson::new(id, &node)))
}
