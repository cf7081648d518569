//! `/v1/resonance/cascade`: the harmonic analysis of a signal, computed by a worker process.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use commonhold::systems::cascade::{
    Analysis, ArgsError, CascadeArgs, CascadeError, Options, Signal, Window, run_cascade,
};
use commonhold::workers::TaskError;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{JsonBytes, read, unprocessable};
use crate::conditions::Accept;
use crate::problem::{Kind, Problem};
use crate::routes::path::Strict;
use crate::routes::records::NoParams;

/// A table of the queue.
const TASKS: &str = "tasks";

/// A signal and what is wanted of it.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CascadeRequest)]
#[serde(deny_unknown_fields)]
pub struct CascadeJson {
    /// Samples a second.
    #[schema(example = 8000.0, minimum = 1e-12, maximum = 1e12)]
    rate_hz: f64,
    /// Samples of each channel, all equally many.
    #[schema(value_type = Vec<ChannelSchema>, min_items = 1, max_items = 16)]
    channels: Vec<Vec<f64>>,
    /// The weights.
    #[serde(default)]
    #[schema(value_type = WindowSchema)]
    window: Window,
    /// How many harmonics, the fundamental included.
    #[serde(default = "ten")]
    #[schema(minimum = 1, maximum = 256)]
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

/// Samples of one channel.
#[derive(Debug, ToSchema)]
#[schema(as = Channel, min_items = 64)]
#[expect(dead_code, reason = "the document is made from it")]
pub(crate) struct ChannelSchema(Vec<f64>);

/// The weights of an analysis.
#[derive(Debug, ToSchema)]
#[schema(as = Window, rename_all = "kebab-case")]
#[expect(dead_code, reason = "the document is made from it")]
pub(crate) enum WindowSchema {
    Rectangular,
    Hann,
    BlackmanHarris,
}

/// What is found of a channel.
#[derive(Debug, ToSchema)]
#[schema(as = CascadeNode)]
#[expect(dead_code, reason = "the document is made from it")]
pub(crate) struct NodeSchema {
    /// Which channel it is, from 0.
    node: usize,
    /// Its mean, weighted with the window.
    mean: f64,
    /// The root mean square of what is left without the mean.
    rms: f64,
    /// Its fundamental; null when it is silent or has no peak in the band.
    #[schema(required)]
    fundamental_hz: Option<f64>,
    /// The fundamental first, then its multiples.
    harmonics: Vec<HarmonicSchema>,
    /// Total harmonic distortion; null when there is but one harmonic.
    #[schema(required)]
    thd: Option<f64>,
    /// The same in dB.
    #[schema(required)]
    thd_db: Option<f64>,
    /// The amplitude density between the harmonics, per √Hz.
    #[schema(required)]
    noise_density: Option<f64>,
    /// The rms of white noise of this density.
    #[schema(required)]
    noise_rms: Option<f64>,
    /// The fundamental's rms over the noise's, in dB.
    #[schema(required)]
    snr_db: Option<f64>,
}

/// A harmonic: `amplitude × cos(2π hz t + phase)`.
#[derive(Debug, ToSchema)]
#[schema(as = Harmonic)]
#[expect(dead_code, reason = "the document is made from it")]
pub(crate) struct HarmonicSchema {
    /// Its frequency.
    hz: f64,
    /// Its peak amplitude.
    amplitude: f64,
    /// Its phase at the first sample, in rad.
    phase: f64,
}

/// How two channels go together.
#[derive(Debug, ToSchema)]
#[schema(as = CascadePair)]
#[expect(dead_code, reason = "the document is made from it")]
pub(crate) struct PairSchema {
    /// One.
    a: usize,
    /// The other.
    b: usize,
    /// Their coherence at the strongest fundamental; null without one.
    #[schema(required)]
    at_fundamental: Option<f64>,
    /// Its mean over the band.
    mean: f64,
}

/// An analysis; the strongest channel's members stand in it too.
#[derive(Debug, ToSchema)]
#[schema(as = CascadeAnalysis)]
#[expect(dead_code, reason = "the document is made from it")]
pub(crate) struct AnalysisSchema {
    /// Samples a second.
    rate_hz: f64,
    /// Samples of each channel.
    samples: usize,
    /// How long they last.
    seconds: f64,
    /// The weights that were used.
    window: WindowSchema,
    /// The sample rate over the samples.
    bin_hz: f64,
    #[serde(flatten)]
    strongest: NodeSchema,
    /// All channels.
    nodes: Vec<NodeSchema>,
    /// Every two channels.
    coherence: Vec<PairSchema>,
    /// How many segments the coherence was averaged over.
    coherence_segments: usize,
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
#[utoipa::path(post, path = "/v1/resonance/cascade", operation_id = "run_cascade", tag = "systems",
    request_body = CascadeJson,
    responses(
        (status = 200, description = "The analysis.", body = AnalysisSchema),
        (status = 404, description = "The segment has no queue for workers.")
    )
)]
pub async fn cascade(
    State(app): State<Arc<App>>,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<Analysis>, Problem> {
    accept.json()?;
    app.runtime().space().find_table(TASKS)?;
    let (of, limit) = (Arc::clone(&app), app.options().task_wait);
    // A megabyte of numbers takes a while to be read.
    let submit = move || {
        let args = read::<CascadeJson>(&bytes)?.args()?;
        of.with_pool(|pool| run_cascade(pool, &args)).ok_or_else(|| {
            Problem::new(
                Kind::Unavailable,
                "the daemon has no workers just now: it starts or stops",
            )
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
