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

use crate::app::App;
use crate::body::{Body, unprocessable};
use crate::conditions::Accept;
use crate::desk::Stop;
use crate::problem::{Kind, Problem};
use crate::routes::path::{At, IdPath, Strict};
use crate::routes::records::NoParams;

/// What a new node is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewNodeJson {
    frequency: f64,
    #[serde(default = "one")]
    amplitude: f64,
    #[serde(default)]
    phase: f64,
}

fn one() -> f64 {
    1.0
}

/// A node.
#[derive(Debug, Serialize)]
pub struct NodeJson {
    id: u64,
    frequency: f64,
    amplitude: f64,
    phase: f64,
    coherence: f64,
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
