//! `/v1/tables/{table}/records/{key}`: one record, read and changed by atomic steps.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use commonhold::core::Snapshot;
use commonhold::schema::Schema;
use commonhold::value::Value;
use commonhold::{Change, Commit, DynamicTable, Error, Handle, Refusal, UpdateError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::Body;
use crate::conditions::{Accept, Broken, Conditions, Tags, etag};
use crate::desk::Stop;
use crate::problem::{Kind, Problem};
use crate::routes::changes::{Patch, Put, patch_change, put_change, refused};
use crate::routes::path::{At, RecordPath, Strict, path_text};
use crate::routes::tables::is_read_only;
use crate::values::Fields;

/// So often a condition on several versions is tried again when the record changes under it.
const TRIES: usize = 1000;

/// Parameters of a write.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteParams {
    /// Whether to answer only when the store has the change.
    #[serde(default)]
    durable: bool,
    /// The longest wait for the store, in seconds.
    timeout: Option<u64>,
}

/// A record.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Record)]
pub struct RecordJson<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its fields: numbers, booleans and text as themselves, bytes as hexadecimal, times as microseconds since 1970.
    #[schema(value_type = Object, example = json!({"n": 1}))]
    pub fields: Fields<'a>,
    /// Its version, which is its ETag too.
    #[schema(example = 1)]
    pub version: u64,
    /// Its state hash.
    #[schema(example = "0123456789abcdef")]
    pub hash: String,
    /// Its vector clock.
    pub clock: &'a [u64],
    /// Who committed it.
    pub writer: String,
    /// The writer's how-manieth commit in this table it was.
    pub sequence: u64,
    /// When, in microseconds since 1970.
    pub committed_at: i64,
}

/// What a write committed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Written)]
pub(crate) struct WrittenJson<'a> {
    /// The record's key.
    key: &'a str,
    /// The fields as they were committed; not there when it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false, example = json!({"n": 1}))]
    fields: Option<Fields<'a>>,
    /// The version that was made.
    version: u64,
    /// Its state hash.
    hash: String,
    /// Its vector clock.
    clock: &'a [u64],
    /// Who committed it.
    writer: String,
    /// The writer's how-manieth commit in this table it was.
    sequence: u64,
    /// Whether the record was deleted.
    deleted: bool,
    /// Whether the store is known to have it.
    durable: bool,
}

/// A state hash as the store writes it.
fn hash_text(hash: u64) -> String {
    format!("{hash:016x}")
}

impl<'a> RecordJson<'a> {
    /// The record `key` as it was seen.
    pub fn new(key: &'a str, schema: &'a Schema, values: &'a [Value], seen: &'a Snapshot) -> Self {
        Self {
            key,
            fields: Fields { schema, values },
            version: seen.version,
            hash: hash_text(seen.hash),
            clock: &seen.clock,
            writer: seen.writer.to_string(),
            sequence: seen.sequence,
            committed_at: seen.committed_at,
        }
    }
}

/// The values of a state, of which a correct process wrote every byte.
///
/// # Errors
/// [`Kind::Internal`] when it is damaged.
pub fn decode(schema: &Schema, seen: &Snapshot) -> Result<Vec<Value>, Problem> {
    let values = schema.decode(&seen.payload);
    values.map_err(|e| Problem::new(Kind::Internal, format!("segment is damaged: {e}")))
}

/// Reads a record.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::PreconditionFailed`].
#[utoipa::path(get, path = "/v1/tables/{table}/records/{key}", operation_id = "get_record", tag = "records",
    params(
        ("table" = String, Path, description = "The table."),
        ("key" = String, Path, description = "The record's key, its bytes encoded by percent signs where a path needs it."),
        ("If-None-Match" = Option<String>, Header, description = "Answer 304 if the record has one of these versions.", example = "\"2\""),
        ("If-Match" = Option<String>, Header, description = "Answer 412 unless the record has one of these versions.", example = "\"3\"")
    ),
    responses(
        (status = 200, description = "The record.", body = RecordJson, headers(("ETag" = String, description = "The record's version, in quotes."))),
        (status = 304, description = "The record has a version that If-None-Match names."),
        (status = 404, description = "There is no such table or record."),
        (status = 412, description = "The record has another version than If-Match says.")
    )
)]
pub async fn get(
    State(app): State<Arc<App>>,
    At(path): At<RecordPath>,
    conditions: Conditions,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    accept.json()?;
    let RecordPath { table, key } = &path;
    let space = app.runtime().space();
    let position = space.find_table(table)?;
    let seen = space.peek(position, key)?;
    let version = seen.as_ref().map(|seen| seen.version);
    match conditions.check(version) {
        Err(Broken::NoneMatch) => {
            let tag = [(ETAG, etag(version.unwrap_or(0)))];
            return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
        }
        Err(broken) if version.is_some() => return Err(broken.problem(version)),
        _ => {}
    }
    let (Some(seen), Some(spec)) = (seen, space.catalogue().tables.get(position)) else {
        return Err(Error::NotFound { table: table.clone(), key: key.clone() }.into());
    };
    let values = decode(&spec.schema, &seen)?;
    let record = RecordJson::new(key, &spec.schema, &values, &seen);
    Ok(([(ETAG, etag(seen.version))], axum::Json(record)).into_response())
}

/// Creates a record or replaces it: all fields of the table must be named.
///
/// # Errors
/// [`Kind::Unprocessable`] naming the field; [`Kind::PreconditionFailed`].
#[utoipa::path(put, path = "/v1/tables/{table}/records/{key}", operation_id = "put_record", tag = "records",
    params(
        ("table" = String, Path, description = "The table."),
        ("key" = String, Path, description = "The record's key, its bytes encoded by percent signs where a path needs it."),
        ("durable" = Option<bool>, Query, description = "Whether to answer only when the store has the change."),
        ("timeout" = Option<u64>, Query, description = "The longest wait for the store, in seconds.", minimum = 1, maximum = 60),
        ("If-Match" = Option<String>, Header, description = "Only if the record has one of these versions; `*`: only if it is there.", example = "\"3\""),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if it is not there.", example = "\"2\"")
    ),
    request_body = Put,
    responses(
        (status = 200, description = "It was replaced.", body = WrittenJson, headers(("ETag" = String, description = "The new version, in quotes."))),
        (status = 201, description = "It was created.", body = WrittenJson, headers(("ETag" = String, description = "The new version, in quotes."), ("Location" = String, description = "The record."))),
        (status = 404, description = "There is no such table."),
        (status = 405, description = "The table belongs to a system, which alone changes it."),
        (status = 409, description = "The record is guarded."),
        (status = 412, description = "The record is not as If-Match or If-None-Match says.")
    )
)]
pub async fn put(
    State(app): State<Arc<App>>,
    At(path): At<RecordPath>,
    Strict(params): Strict<WriteParams>,
    conditions: Conditions,
    accept: Accept,
    Body(body): Body<Put>,
) -> Result<Response, Problem> {
    accept.json()?;
    let schema = writable(&app, &path)?;
    let change = put_change(&schema, &body)?;
    write(&app, path, params, conditions, Action::Change(change), Vec::new()).await
}

/// Changes fields of a record, if requirements hold, as one atomic step.
///
/// # Errors
/// [`Kind::Unprocessable`] naming the field; [`Kind::Conflict`] when a requirement does not hold or a sum does not
/// fit; [`Kind::PreconditionFailed`].
#[utoipa::path(patch, path = "/v1/tables/{table}/records/{key}", operation_id = "patch_record", tag = "records",
    params(
        ("table" = String, Path, description = "The table."),
        ("key" = String, Path, description = "The record's key, its bytes encoded by percent signs where a path needs it."),
        ("durable" = Option<bool>, Query, description = "Whether to answer only when the store has the change."),
        ("timeout" = Option<u64>, Query, description = "The longest wait for the store, in seconds.", minimum = 1, maximum = 60),
        ("If-Match" = Option<String>, Header, description = "Only if the record has one of these versions; `*`: only if it is there.", example = "\"3\""),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if it is not there.", example = "\"2\"")
    ),
    request_body = Patch,
    responses(
        (status = 200, description = "It was changed.", body = WrittenJson, headers(("ETag" = String, description = "The new version, in quotes."))),
        (status = 201, description = "It was created.", body = WrittenJson, headers(("ETag" = String, description = "The new version, in quotes."), ("Location" = String, description = "The record."))),
        (status = 404, description = "There is no such table or record."),
        (status = 405, description = "The table belongs to a system, which alone changes it."),
        (status = 409, description = "A requirement does not hold, or a sum does not fit in its field; nothing was changed."),
        (status = 412, description = "The record is not as If-Match or If-None-Match says.")
    )
)]
pub async fn patch(
    State(app): State<Arc<App>>,
    At(path): At<RecordPath>,
    Strict(params): Strict<WriteParams>,
    conditions: Conditions,
    accept: Accept,
    Body(body): Body<Patch>,
) -> Result<Response, Problem> {
    accept.json()?;
    let schema = writable(&app, &path)?;
    let (change, requirements) = patch_change(&schema, &body)?;
    write(&app, path, params, conditions, Action::Change(change), requirements).await
}

/// Deletes a record. If it is ever created again, its versions go on above the deletion's.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::PreconditionFailed`].
#[utoipa::path(delete, path = "/v1/tables/{table}/records/{key}", operation_id = "delete_record", tag = "records",
    params(
        ("table" = String, Path, description = "The table."),
        ("key" = String, Path, description = "The record's key, its bytes encoded by percent signs where a path needs it."),
        ("durable" = Option<bool>, Query, description = "Whether to answer only when the store has the change."),
        ("timeout" = Option<u64>, Query, description = "The longest wait for the store, in seconds.", minimum = 1, maximum = 60),
        ("If-Match" = Option<String>, Header, description = "Only if the record has one of these versions.", example = "\"3\""),
        ("If-None-Match" = Option<String>, Header, description = "Only if the record has none of these versions.", example = "\"2\"")
    ),
    responses(
        (status = 200, description = "It was deleted.", body = WrittenJson),
        (status = 404, description = "There is no such table or record."),
        (status = 405, description = "The table belongs to a system, which alone changes it."),
        (status = 409, description = "The record is guarded."),
        (status = 412, description = "The record is not as If-Match or If-None-Match says.")
    )
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    At(path): At<RecordPath>,
    Strict(params): Strict<WriteParams>,
    conditions: Conditions,
    accept: Accept,
) -> Result<Response, Problem> {
    accept.json()?;
    writable(&app, &path)?;
    write(&app, path, params, conditions, Action::Delete, Vec::new()).await
}

/// No members.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Nothing)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// The fields of the table, if requests may change it.
fn writable(app: &App, path: &RecordPath) -> Result<Schema, Problem> {
    let space = app.runtime().space();
    let position = space.find_table(&path.table)?;
    if is_read_only(&path.table) {
        let detail = format!(
            "the records of table `{}` belong to one of the systems, which alone changes them; read them",
            path.table
        );
        return Err(Problem::new(Kind::MethodNotAllowed, detail).allow("GET, HEAD"));
    }
    let table = space.catalogue().tables.get(position);
    table.map(|t| t.schema.clone()).ok_or_else(|| {
        let (table, known) = (path.table.clone(), String::new());
        Error::UnknownTable { table, known }.into()
    })
}

/// What to do to a record.
#[derive(Debug)]
enum Action {
    Change(Change),
    Delete,
}

/// A write that is to be done, maybe twice.
#[derive(Debug)]
struct Write {
    path: RecordPath,
    action: Action,
    conditions: Conditions,
    /// The requirements as they stand in the body, to name the one that does not hold.
    requirements: Vec<commonhold::change::Requirement>,
    /// The longest wait for the store.
    durable: Option<Duration>,
}

async fn write(
    app: &Arc<App>,
    path: RecordPath,
    params: WriteParams,
    conditions: Conditions,
    action: Action,
    requirements: Vec<commonhold::change::Requirement>,
) -> Result<Response, Problem> {
    let durable = params.wait(app)?;
    let write = Write { path, action, conditions, requirements, durable };
    if durable.is_some() {
        return app.desk().waiting(move |handle| write.run(handle)).await;
    }
    app.desk().work(move |handle| write.run(handle)).await
}

impl WriteParams {
    /// How long to wait for the store, if that is asked for.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] when it is out of range.
    pub(crate) fn wait(&self, app: &App) -> Result<Option<Duration>, Problem> {
        durable_wait(app, self)
    }
}

fn durable_wait(app: &App, params: &WriteParams) -> Result<Option<Duration>, Problem> {
    let most = app.options().durable_wait_max;
    let wait = match params.timeout {
        Some(seconds) if seconds == 0 || Duration::from_secs(seconds) > most => {
            let detail =
                format!("timeout is {seconds}; it must be 1 to {} seconds", most.as_secs());
            return Err(Problem::new(Kind::BadRequest, detail).field("timeout"));
        }
        Some(seconds) => Duration::from_secs(seconds),
        None => app.options().durable_wait.min(most),
    };
    Ok(params.durable.then_some(wait))
}

impl Write {
    fn run(&self, handle: &Handle) -> Result<Response, Stop> {
        let table = DynamicTable::new(handle, &self.path.table)?;
        for _ in 0..TRIES {
            let if_version = self.if_version(&table)?;
            let done = self.act(&table, if_version);
            match done {
                Ok(response) => return Ok(response),
                Err(UpdateError::Refused(refusal)) => match *refusal {
                    // Another one was faster: its version decides anew what holds.
                    Refusal::Version { found, .. }
                        if self.conditions.check(version(found)).is_ok() => {}
                    Refusal::Version { found, .. } => {
                        return Err(self.broken(version(found)).into());
                    }
                    refusal => return Err(refused(&refusal, &self.requirements).into()),
                },
                Err(UpdateError::Failed(Error::NotFound { .. }))
                    if self.conditions.if_match.is_some() =>
                {
                    return Err(Broken::Match.problem(None).into());
                }
                Err(UpdateError::Failed(Error::Field { error, .. })) => {
                    // The body's values were checked: it is a sum that does not fit.
                    return Err(Problem::new(Kind::Conflict, error.to_string()).into());
                }
                Err(UpdateError::Failed(error)) => return Err(error.into()),
            }
        }
        let detail = "others changed the record each time it was tried; try again";
        Err(Problem::new(Kind::Unavailable, detail).retry_after(1).into())
    }

    /// The one version that the conditions allow just now; none: any.
    fn if_version(&self, table: &DynamicTable<&Handle>) -> Result<Option<u64>, Stop> {
        let Conditions { if_match, if_none_match } = &self.conditions;
        match (if_match, if_none_match) {
            (None | Some(Tags::Any), None) => return Ok(None),
            (None, Some(Tags::Any)) => return Ok(Some(0)),
            (Some(Tags::Versions(all)), None) if all.len() == 1 => {
                return Ok(all.first().copied());
            }
            _ => {}
        }
        let space = table.handle().space();
        let seen = space.peek(table.position(), &self.path.key)?.map(|seen| seen.version);
        self.conditions.check(seen).map_err(|broken| broken.problem(seen))?;
        Ok(Some(seen.unwrap_or(0)))
    }

    fn broken(&self, version: Option<u64>) -> Problem {
        match self.conditions.check(version) {
            Err(broken) => broken.problem(version),
            Ok(()) => Broken::Match.problem(version),
        }
    }

    fn act(
        &self,
        table: &DynamicTable<&Handle>,
        if_version: Option<u64>,
    ) -> Result<Response, UpdateError<Box<Refusal>>> {
        let key = &self.path.key;
        match &self.action {
            Action::Delete => {
                let commit = table.delete(key, if_version)?;
                Ok(self.answer(&commit, None, false))
            }
            Action::Change(change) => {
                let mut change = change.clone().if_version(if_version);
                if matches!(self.conditions.if_match, Some(Tags::Any)) {
                    change = change.without_create();
                }
                let applied = table.apply_whole(key, &change)?;
                let fields = Fields { schema: table.schema(), values: &applied.values };
                Ok(self.answer(&applied.commit, Some(fields), applied.created))
            }
        }
    }

    /// What to answer when it is committed; before that, waits for the store, if that was asked for.
    fn answer(&self, commit: &Commit<'_>, fields: Option<Fields<'_>>, created: bool) -> Response {
        let tag = etag(commit.version());
        let deleted = fields.is_none();
        if let Some(Err(error)) = self.durable.map(|limit| commit.durable(limit)) {
            let detail = format!(
                "committed in memory as version {}, but not durable: {error}; it stands, and is stored as soon as \
                 the store can",
                commit.version()
            );
            return Problem::new(Kind::Timeout, detail).header(ETAG, tag).into_response();
        }
        let written = WrittenJson {
            key: &self.path.key,
            fields,
            version: commit.version(),
            hash: hash_text(commit.hash()),
            clock: commit.clock().lanes(),
            writer: commit.writer().to_string(),
            sequence: commit.sequence(),
            deleted,
            durable: self.durable.is_some(),
        };
        let mut response = axum::Json(written).into_response();
        let headers = response.headers_mut();
        if !deleted {
            headers.insert(ETAG, tag);
        }
        if created {
            let place = format!(
                "/v1/tables/{}/records/{}",
                path_text(&self.path.table),
                path_text(&self.path.key)
            );
            if let Ok(place) = HeaderValue::try_from(place) {
                headers.insert(LOCATION, place);
            }
            *response.status_mut() = StatusCode::CREATED;
        }
        response
    }
}

fn version(found: u64) -> Option<u64> {
    (found != 0).then_some(found)
}
