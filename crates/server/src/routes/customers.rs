//! `/v1/customers/cap-and-access`: the reference operation of the customers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use commonhold::Error;
use commonhold::systems::customers::{Customers, Number, Query, Update};
use commonhold::{Text, UpdateError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{Body, Object, unprocessable};
use crate::conditions::Accept;
use crate::desk::Stop;
use crate::problem::{Kind, Problem};
use crate::routes::path::Strict;
use crate::routes::records::NoParams;

/// The most bytes of an access level.
const LEVEL_BYTES: usize = 16;

/// Which customer, what must still hold, and what to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CapAndAccess {
    /// Which customer, and what must still hold.
    #[schema(value_type = QueryJson)]
    query: Object<QueryJson>,
    /// What to change.
    #[schema(value_type = UpdateJson)]
    update: Object<UpdateJson>,
}

/// Which customer, and the fields that it must still have.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CustomerQuery)]
#[serde(deny_unknown_fields)]
struct QueryJson {
    /// The customer's key.
    #[schema(example = "c-42", min_length = 1, max_length = 48)]
    customer: String,
    /// The cap that it must have.
    cap: Option<i64>,
    /// The access level that it must have.
    #[schema(example = "basic", max_length = 16)]
    access_level: Option<String>,
}

/// What to change: cap, access level, or both.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CustomerUpdate, min_properties = 1)]
#[serde(deny_unknown_fields)]
struct UpdateJson {
    /// How the cap changes.
    cap: Option<CapJson>,
    /// The new access level.
    #[schema(example = "gold", max_length = 16)]
    access_level: Option<String>,
}

/// A number becomes the cap; an object says whether it is set or added to.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[schema(as = Cap)]
#[serde(untagged)]
enum CapJson {
    /// It becomes this.
    Number(i64),
    /// It is set or added to.
    Change(CapChange),
}

/// How the cap changes.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CapChange {
    /// It becomes this.
    Set(i64),
    /// This is added.
    Add(i64),
}

/// Whether somebody matched the query and was changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Updated)]
pub struct UpdatedJson {
    /// False when nobody matched; nothing was changed then.
    updated: bool,
}

fn level(text: Option<&String>, pointer: &str) -> Result<Option<Text<LEVEL_BYTES>>, Problem> {
    let read = |text: &String| Text::new(text).map_err(|e| unprocessable(pointer, &e.to_string()));
    text.map(read).transpose()
}

impl CapAndAccess {
    fn read(&self) -> Result<(Query, Update), Problem> {
        let Self { query: Object(query), update: Object(update) } = self;
        if update.cap.is_none() && update.access_level.is_none() {
            let why = "there is nothing to change; name cap or access_level";
            return Err(unprocessable("/update", why));
        }
        let cap = update.cap.map(|cap| match cap {
            CapJson::Number(cap) | CapJson::Change(CapChange::Set(cap)) => Number::Set(cap),
            CapJson::Change(CapChange::Add(add)) => Number::Add(add),
        });
        let query = Query {
            customer: query.customer.clone(),
            cap: query.cap,
            access_level: level(query.access_level.as_ref(), "/query/access_level")?,
        };
        let new_level = level(update.access_level.as_ref(), "/update/access_level")?;
        Ok((query, Update { cap, access_level: new_level }))
    }
}

/// Changes cap and access level of a customer whose fields still hold, as one atomic step.
///
/// # Errors
/// [`Kind::Unprocessable`] naming the member; [`Kind::Conflict`] when the sum does not fit.
#[utoipa::path(post, path = "/v1/customers/cap-and-access", operation_id = "cap_and_access", tag = "systems",
    request_body = CapAndAccess,
    responses(
        (status = 200, description = "Whether somebody matched and was changed.", body = UpdatedJson),
        (status = 404, description = "The segment has no customers."),
        (status = 409, description = "The sum does not fit in 64 bits; nothing was changed.")
    )
)]
pub async fn cap_and_access(
    State(app): State<Arc<App>>,
    accept: Accept,
    Strict(NoParams {}): Strict<NoParams>,
    Body(body): Body<CapAndAccess>,
) -> Result<Json<UpdatedJson>, Problem> {
    accept.json()?;
    let (query, update) = body.read()?;
    let updated = app.desk().work(move |handle| {
        let customers = Customers::new(handle)?;
        match customers.update_customer_cap_and_access(&query, &update) {
            Ok(done) => Ok(done.updated),
            Err(UpdateError::Refused(refusal)) => {
                let problem = Problem::new(Kind::Conflict, refusal.to_string());
                Err(Stop::Problem(problem.field("/update/cap")))
            }
            Err(UpdateError::Failed(error @ Error::BadKey { .. })) => {
                Err(Stop::Problem(unprocessable("/query/customer", &error.to_string())))
            }
            Err(UpdateError::Failed(error)) => Err(error.into()),
        }
    });
    Ok(Json(UpdatedJson { updated: updated.await? }))
}
