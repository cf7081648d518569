//! `/v1/concepts/human`: a concept is learned, in the file of the human concept map.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use commonhold::file::{FileError, LockError, Patience};
use commonhold::systems::concepts::{
    Concept, ConceptError, HumanMap, Learned, MAX_RETRIES, MapError,
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{Body, unprocessable};
use crate::conditions::Accept;
use crate::problem::{Kind, Problem};
use crate::routes::path::Strict;
use crate::routes::records::NoParams;

/// What somebody has learned of a concept. What is not there stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LearnedConcept)]
#[serde(deny_unknown_fields)]
pub struct LearnedJson {
    /// The concept's name.
    #[schema(example = "tides", min_length = 1)]
    name: String,
    /// What it means.
    description: Option<String>,
    /// How well it is known.
    #[schema(minimum = 0, maximum = 1)]
    level: Option<f64>,
    /// How sure that is; it is what the level weighs. 1 if never given.
    #[schema(minimum = 0, maximum = 1)]
    confidence: Option<f64>,
    /// Who learned it.
    #[schema(example = "maria")]
    learned_by: Option<String>,
}

/// A concept, with its other fields.
#[derive(Debug, ToSchema)]
#[schema(as = Concept)]
#[expect(dead_code, reason = "the document is made from it")]
pub(crate) struct ConceptSchema {
    /// Its name.
    name: String,
    /// What it means.
    #[schema(required)]
    description: Option<String>,
    /// The average of what was learned, weighted by confidence and recency.
    #[schema(required)]
    level: Option<f64>,
    /// How sure who learned it last was.
    #[schema(required)]
    confidence: Option<f64>,
    /// When it was last updated, in microseconds since 1970.
    #[schema(required)]
    updated_at: Option<i64>,
    /// Who updated it last.
    #[schema(required)]
    learned_by: Option<String>,
}

impl From<ConceptError> for Problem {
    fn from(error: ConceptError) -> Self {
        let pointer = match &error {
            ConceptError::NoName => "/name".to_owned(),
            ConceptError::Range { what, .. } => format!("/{what}"),
            _ => String::new(),
        };
        unprocessable(&pointer, &error.to_string())
    }
}

impl From<MapError<ConceptError>> for Problem {
    fn from(error: MapError<ConceptError>) -> Self {
        let detail = error.to_string();
        match error {
            MapError::Refused(error) => error.into(),
            MapError::Shape { .. }
            | MapError::File(
                FileError::Invalid { .. }
                | FileError::Emptied { .. }
                | FileError::Unmerged { .. }
                | FileError::TooLarge { .. }
                | FileError::Kind { .. },
            ) => Self::new(Kind::Conflict, detail),
            MapError::File(
                FileError::Lock(LockError::Held { .. } | LockError::Lost { .. })
                | FileError::Contended { .. },
            ) => Self::new(Kind::Unavailable, detail).retry_after(1),
            _ => Self::new(Kind::Internal, detail),
        }
    }
}

/// Learns a concept in the human concept map, as one atomic step; the concept as it is then.
///
/// # Errors
/// [`Kind::NotFound`] without a map; [`Kind::Unprocessable`] naming the member; [`Kind::Conflict`] when the file is not
/// a map; [`Kind::Unavailable`] when its lock was not to be had.
#[utoipa::path(post, path = "/v1/concepts/human", operation_id = "learn_concept", tag = "systems",
    request_body = LearnedJson,
    responses(
        (status = 200, description = "The concept as it is now.", body = ConceptSchema),
        (status = 404, description = "This daemon was started without a human concept map."),
        (status = 409, description = "The file is not a valid map, or none that can be changed; the detail says what was done.")
    )
)]
pub async fn learn(
    State(app): State<Arc<App>>,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
    Body(body): Body<LearnedJson>,
) -> Result<Json<Concept>, Problem> {
    accept.json()?;
    let Some(path) = &app.options().human_map else {
        let detail = "this daemon has no human concept map; start it with --human-map";
        return Err(Problem::new(Kind::NotFound, detail));
    };
    let patience = Patience::new().limit(app.options().room_wait / (MAX_RETRIES + 1));
    let map = HumanMap::open(path).patience(patience);
    let learned = body.learned();
    let done = app.desk().blocking(move || Ok(map.learn(&learned)?)).await?;
    Ok(Json(done.result))
}

impl LearnedJson {
    fn learned(self) -> Learned {
        let mut learned = Learned::new(self.name);
        if let Some(description) = self.description {
            learned = learned.description(description);
        }
        if let Some(level) = self.level {
            learned = learned.level(level);
        }
        if let Some(confidence) = self.confidence {
            learned = learned.confidence(confidence);
        }
        if let Some(persona) = self.learned_by {
            learned = learned.by(persona);
        }
        learned
    }
}
