//! What a body asks of a record, checked against the table's fields before anything is done.

use commonhold::Change;
use commonhold::change::{Comparison, Refusal, Requirement};
use commonhold::schema::{FieldType, Schema};
use commonhold::value::Value;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::body::{Members, Object, read_part, step, unprocessable};
use crate::problem::{Kind, Problem};
use crate::values;

/// So many requirements a change may have.
const REQUIREMENTS_MAX: usize = 128;

/// All fields of a record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// Each field of the table.
    #[schema(value_type = Object, example = json!({"n": 1}))]
    fields: Members,
}

/// A change of fields, made as one atomic step or not at all: first it is looked whether every requirement holds, then
/// fields are set, then added to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Fields to set.
    #[schema(value_type = Object)]
    #[serde(default)]
    set: Members,
    /// Numbers to add to fields that are numbers or times.
    #[schema(value_type = Object, example = json!({"n": 1}))]
    #[serde(default)]
    add: Members,
    /// What must hold of the record.
    #[schema(value_type = Vec<RequirementSchema>, max_items = 128)]
    #[serde(default)]
    require: Vec<Box<RawValue>>,
    /// Whether a record that is not there is made, its other fields zero or empty.
    #[serde(default)]
    create: bool,
}

/// What must hold of a record: as one string such as `n<=97` (= != < <= > >=), or in parts.
#[derive(Debug, ToSchema)]
#[schema(as = Requirement)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "the document is made from it; bodies are read by hand, to name places"
)]
pub(crate) enum RequirementSchema {
    /// The field, how it compares, and with what.
    #[schema(example = "n<=97")]
    Text(String),
    /// The same in parts.
    Parts(Parts),
}

/// A requirement in parts.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RequirementParts)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parts {
    /// The field.
    #[schema(example = "n")]
    field: String,
    /// How it compares: one of = != < <= > >=
    #[schema(value_type = String, example = "<=")]
    is: Box<RawValue>,
    /// With what, in the form of the field.
    #[schema(value_type = Value)]
    value: Box<RawValue>,
}

/// The type of the field `name`.
fn field(schema: &Schema, name: &str, pointer: &str) -> Result<FieldType, Problem> {
    let found = schema.fields().iter().find(|field| field.name == name);
    found.map(|field| field.ty).ok_or_else(|| {
        let known: Vec<String> = schema.fields().iter().map(ToString::to_string).collect();
        let why = format!("the table has no field `{name}` (it has: {})", known.join(", "));
        unprocessable(pointer, &why)
    })
}

fn value(
    schema: &Schema,
    (name, raw): &(String, Box<RawValue>),
    of: &str,
    read: fn(FieldType, &RawValue) -> Result<Value, String>,
) -> Result<Value, Problem> {
    let pointer = format!("{of}{}", step(name));
    let ty = field(schema, name, &pointer)?;
    read(ty, raw).map_err(|why| unprocessable(&pointer, &why))
}

/// Replaces all fields of a record, which must all be named, or creates it.
///
/// # Errors
/// [`Kind::Unprocessable`] naming the field.
pub fn put_change(schema: &Schema, body: &Put) -> Result<Change, Problem> {
    let mut change = Change::new().or_create();
    for member in &body.fields.0 {
        let value = value(schema, member, "/fields", values::read)?;
        change = change.set(&member.0, &value.to_string());
    }
    let given = |name: &str| body.fields.0.iter().any(|(given, _)| given == name);
    if let Some(missing) = schema.fields().iter().find(|field| !given(&field.name)) {
        let why = format!(
            "field `{missing}` is missing; PUT replaces all fields, PATCH changes those that it names"
        );
        return Err(unprocessable(&format!("/fields{}", step(&missing.name)), &why));
    }
    Ok(change)
}

/// Sets and adds to fields, if requirements hold; and the requirements.
///
/// # Errors
/// [`Kind::Unprocessable`] naming the field.
pub fn patch_change(schema: &Schema, body: &Patch) -> Result<(Change, Vec<Requirement>), Problem> {
    let mut change = Change::new();
    if body.create {
        change = change.or_create();
    }
    for member in &body.set.0 {
        let value = value(schema, member, "/set", values::read)?;
        change = change.set(&member.0, &value.to_string());
    }
    for member in &body.add.0 {
        let value = value(schema, member, "/add", values::read_addend)?;
        change = change.add(&member.0, &value.to_string());
    }
    if body.require.len() > REQUIREMENTS_MAX {
        let why = format!("{} requirements; at most {REQUIREMENTS_MAX}", body.require.len());
        return Err(unprocessable("/require", &why));
    }
    let requirements = body.require.iter().enumerate();
    let requirements: Vec<Requirement> = requirements
        .map(|(at, raw)| requirement(schema, raw, &format!("/require/{at}")))
        .collect::<Result<_, _>>()?;
    change = requirements.iter().cloned().fold(change, Change::require);
    Ok((change, requirements))
}

fn requirement(schema: &Schema, raw: &RawValue, pointer: &str) -> Result<Requirement, Problem> {
    if raw.get().starts_with('"') {
        let text: String = read_part(raw, pointer)?;
        let mut read: Requirement = text.parse().map_err(|e: String| unprocessable(pointer, &e))?;
        let ty = field(schema, &read.field, pointer)?;
        let value = Value::parse(ty, &read.value);
        read.value = value.map_err(|e| unprocessable(pointer, &e.to_string()))?.to_string();
        return Ok(read);
    }
    let Object(Parts { field: name, is, value }) = read_part(raw, pointer)?;
    let ty = field(schema, &name, &format!("{pointer}/field"))?;
    let comparison = comparison(&is, &format!("{pointer}/is"))?;
    let at_value = format!("{pointer}/value");
    let value = values::read(ty, &value).map_err(|why| unprocessable(&at_value, &why))?;
    Ok(Requirement { field: name, comparison, value: value.to_string() })
}

fn comparison(raw: &RawValue, pointer: &str) -> Result<Comparison, Problem> {
    let sign: String = read_part(raw, pointer)?;
    Ok(match sign.as_str() {
        "=" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        _ => {
            let why = format!("`{sign}` is no comparison; give one of = != < <= > >=");
            return Err(unprocessable(pointer, &why));
        }
    })
}

/// The problem of a change that was refused; names the first requirement that it was for.
#[must_use]
pub fn refused(refusal: &Refusal, requirements: &[Requirement]) -> Problem {
    let problem = Problem::new(Kind::Conflict, refusal.to_string());
    match refusal {
        Refusal::Requirement { field, requirement, .. } => {
            let same = |r: &Requirement| {
                r.field == *field && format!("{} {}", r.comparison, r.value) == *requirement
            };
            match requirements.iter().position(same) {
                Some(at) => problem.field(format!("/require/{at}")),
                None => problem,
            }
        }
        Refusal::Overflow { field, .. } => problem.field(format!("/add{}", step(field))),
        Refusal::Version { .. } => problem,
    }
}
