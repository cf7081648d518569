//! `/v1/tables` and `/v1/tables/{table}/records`: what tables and records there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use commonhold::core::Space;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::conditions::Accept;
use crate::problem::{Kind, Problem};
use crate::routes::path::{At, Strict, TablePath};
use crate::routes::records::{NoParams, RecordJson, decode};

/// The tables of systems that change several records together, or by rules: only they change them.
const READ_ONLY: [&str; 9] = [
    "resonance_nodes",
    "resonance_fields",
    "harmonic_patterns",
    "sigils",
    "sigil_states",
    "jobs",
    "tasks",
    "task_pages",
    "workers",
];
/// So many records a page has if none are asked for, and at most.
const LIMIT: (usize, usize) = (100, 1000);
/// A page ends behind the record that makes it larger.
const PAGE_BYTES: usize = 1 << 20;

/// Whether requests may only read the table.
#[must_use]
pub fn is_read_only(table: &str) -> bool {
    READ_ONLY.contains(&table)
}

/// A field of a table.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TableField)]
pub struct FieldJson {
    /// Its name.
    #[schema(example = "n")]
    name: String,
    /// Its type: i64, u64, f64, bool, text(n), bytes(n), json(n) or timestamp; n in bytes.
    #[schema(example = "i64")]
    r#type: String,
}

/// A table.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Table)]
pub struct TableJson {
    /// Its name.
    #[schema(example = "counters")]
    name: String,
    /// Its fields, in order.
    fields: Vec<FieldJson>,
    /// Whether the store keeps all versions (full) or the latest.
    #[schema(example = "full")]
    history: String,
    /// How many records fit.
    slots: u32,
    /// The longest key.
    key_bytes: u32,
    /// Whether it belongs to a system, which alone changes it.
    read_only: bool,
}

/// The tables of the segment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tables)]
pub struct TablesJson {
    /// In the segment's order.
    tables: Vec<TableJson>,
}

/// Parameters of a page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    limit: Option<usize>,
    after: Option<String>,
    #[serde(default)]
    prefix: String,
}

/// Lists the tables.
///
/// # Errors
/// [`Kind::NotAcceptable`].
#[utoipa::path(get, path = "/v1/tables", operation_id = "list_tables", tag = "records", responses(
    (status = 200, description = "The tables.", body = TablesJson)
))]
pub async fn tables(
    State(app): State<Arc<App>>,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<axum::Json<TablesJson>, Problem> {
    accept.json()?;
    let tables = app.runtime().catalogue().tables.iter().map(|table| TableJson {
        name: table.name.clone(),
        fields: table
            .schema
            .fields()
            .iter()
            .map(|f| FieldJson { name: f.name.clone(), r#type: f.ty.to_string() })
            .collect(),
        history: table.history.to_string(),
        slots: table.slots,
        key_bytes: table.key_bytes,
        read_only: is_read_only(&table.name),
    });
    Ok(axum::Json(TablesJson { tables: tables.collect() }))
}

/// Lists records in the order of their keys, byte by byte. Each is consistent in itself; together they are of no
/// single instant.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::BadRequest`] for a limit out of range.
#[utoipa::path(get, path = "/v1/tables/{table}/records", operation_id = "list_records", tag = "records",
    params(
        ("table" = String, Path, description = "The table."),
        ("limit" = Option<u32>, Query, description = "So many records at most; 100 if none is given.", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "Only keys behind this one: `next` of the page before."),
        ("prefix" = Option<String>, Query, description = "Only keys that begin with this.")
    ),
    responses(
        (status = 200, description = "A page.", body = PageJson),
        (status = 404, description = "There is no such table.")
    )
)]
pub async fn records(
    State(app): State<Arc<App>>,
    At(path): At<TablePath>,
    Strict(params): Strict<PageParams>,
    accept: Accept,
) -> Result<Response, Problem> {
    accept.json()?;
    let limit = params.limit.unwrap_or(LIMIT.0);
    if !(1..=LIMIT.1).contains(&limit) {
        let detail = format!("limit is {limit}; it must be 1 to {}", LIMIT.1);
        return Err(Problem::new(Kind::BadRequest, detail).field("limit"));
    }
    let space = Arc::clone(app.runtime().space());
    let position = space.find_table(&path.table)?;
    // It looks at every record of the table.
    app.desk().blocking(move || page(&space, position, &path.table, limit, &params)).await
}

/// Records of a table, in the order of their keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
pub(crate) struct PageJson<'a> {
    /// The table.
    table: &'a str,
    /// The records.
    records: Vec<RecordJson<'a>>,
    /// What to give as `after` for the next page; null: there is none.
    next: Option<&'a str>,
}

fn page(
    space: &Space,
    position: usize,
    table: &str,
    limit: usize,
    params: &PageParams,
) -> Result<Response, Problem> {
    let mut keys = BTreeSet::new();
    space.scan(position, |key, _| {
        let wanted = params.after.as_deref().is_none_or(|after| key > after);
        if wanted && key.starts_with(&params.prefix) {
            keys.insert(key.to_owned());
            if keys.len() > limit + 1 {
                keys.pop_last();
            }
        }
        Ok::<(), commonhold::Error>(())
    })?;
    let Some(spec) = space.catalogue().tables.get(position) else {
        return Err(Problem::new(Kind::NotFound, format!("no table `{table}`")));
    };
    let (mut all, mut bytes, mut next) = (Vec::new(), 0, None);
    let mut last = None;
    for key in &keys {
        if all.len() == limit || bytes > PAGE_BYTES {
            next = last;
            break;
        }
        last = Some(key.as_str());
        // It may have been deleted just now.
        if let Some(seen) = space.peek(position, key)? {
            bytes += key.len() + seen.payload.len();
            all.push((key, decode(&spec.schema, &seen)?, seen));
        }
    }
    let record = |(key, values, seen)| RecordJson::new(key, &spec.schema, values, seen);
    let records = all.iter().map(|(key, values, seen)| record((key, values, seen))).collect();
    Ok(axum::Json(PageJson { table, records, next }).into_response())
}
