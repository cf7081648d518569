//! `/v1/resonance/cascade`: the harmonic analysis of a signal, computed by a worker process.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use commonhold::systems::cascade::{
    Analysis, ArgsError, CascadeArgs, CascadeError, Options, Signal, Window, run_cascade,
};
use commonhold::workers::TaskError;
use serde::Deserialize;

use crate::app::App;
use crate::body::{JsonBytes, read, unprocessable};
use crate::conditions::Accept;
use crate::problem::{Kind, Problem};
use crate::routes::path::Strict;
use crate::routes::records::NoParams;

/// A signal and what is wanted of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CascadeJson {
    /// Samples a second.
    rate_hz: f64,
    /// Samples of each channel, all equally many.
    channels: Vec<Vec<f64>>,
    /// The weights.
    #[serde(default)]
    window: Window,
    /// How many harmonics, the fundamental included.
    #[serde(default = "ten")]
    harmonics: u32,
    /// The lowest frequency at which the fundamental is looked for.
    min_hz: Option<f64>,
    /// The highest.
    max_hz: Option<f64>,
    /// The samples of a segment of the coherence.
    segment: Option<u32>,
}

fn ten() -> u32 {
    10
}

impl CascadeJson {
    fn args(self) -> Result<CascadeArgs, Problem> {
        let Self { rate_hz, channels, window, harmonics, min_hz, max_hz, segment } = self;
        let signal = Signal::new(rate_hz, channels).map_err(|e| args_problem(&e))?;
        let options = Options { window, harmonics, min_hz, max_hz, segment };
        CascadeArgs::new(signal, options).map_err(|e| args_problem(&e))
    }
}

fn args_problem(error: &ArgsError) -> Problem {
    let pointer = match error {
        ArgsError::Empty
        | ArgsError::TooShort(_)
        | ArgsError::TooManyChannels(_)
        | ArgsError::TooLarge { .. } => "/channels".to_owned(),
        ArgsError::Ragged { channel, .. } => format!("/channels/{channel}"),
        ArgsError::Sample { channel, sample, .. } => format!("/channels/{channel}/{sample}"),
        ArgsError::Rate(_) => "/rate_hz".to_owned(),
        ArgsError::UnknownWindow(_) => "/window".to_owned(),
        ArgsError::Harmonics(_) => "/harmonics".to_owned(),
        ArgsError::Segment { .. } => "/segment".to_owned(),
        _ => String::new(),
    };
    unprocessable(&pointer, &error.to_string())
}

/// The problem of a task that has no result.
fn task_problem(error: TaskError) -> Problem {
    let detail = error.to_string();
    match error {
        TaskError::Full { .. } => Problem::new(Kind::Unavailable, detail).retry_after(1),
        TaskError::Arguments { .. } | TaskError::TooLarge { .. } => unprocessable("", &detail),
        TaskError::Runtime(error) => error.into(),
        _ => Problem::new(Kind::Internal, detail),
    }
}

/// Has a signal analysed by a worker process.
///
/// # Errors
/// [`Kind::Unprocessable`] naming the member; [`Kind::Unavailable`] when the queue is full, or nobody takes work;
/// [`Kind::Timeout`].
pub async fn cascade(
    State(app): State<Arc<App>>,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<Analysis>, Problem> {
    accept.json()?;
    let (of, limit) = (Arc::clone(&app), app.options().task_wait);
    // A megabyte of numbers takes a while to be read.
    let submit = move || {
        let args = read::<CascadeJson>(&bytes)?.args()?;
        of.with_pool(|pool| run_cascade(pool, &args)).ok_or_else(|| {
            let detail = "the daemon has no worker pool just now: the segment lacks its tables, or it is stopping";
            Problem::new(Kind::Unavailable, detail)
        })
    };
    let cascade = app.desk().blocking(submit).await?;
    match tokio::time::timeout(limit, cascade).await {
        Ok(Ok(analysis)) => Ok(Json(analysis)),
        Ok(Err(CascadeError::Args(error))) => Err(args_problem(&error)),
        Ok(Err(CascadeError::Task(error))) => Err(task_problem(error)),
        Err(_) => {
            let detail = format!("the analysis has not ended within {} s", limit.as_secs());
            Err(Problem::new(Kind::Timeout, detail))
        }
    }
}
