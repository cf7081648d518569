//! The OpenAPI document: the routes as their handlers describe them, and the records of the tables that this segment
//! has, each with a path and schemas of its own.

use commonhold::catalogue::{Catalogue, TableSpec};
use commonhold::schema::{Field, FieldType};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::app::AppOptions;
use crate::problem::{Kind, MEDIA_TYPE, ProblemJson};
use crate::routes::tables::is_read_only;
use crate::routes::{
    cascade, concepts, customers, document, health, records, resonance, sigils, tables,
};

/// The path of a record in any table.
const RECORD: &str = "/v1/tables/{table}/records/{key}";
/// Paths that need no token.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];
/// What any request may be answered with.
const ALWAYS: [Kind; 9] = [
    Kind::BadRequest,
    Kind::NotAcceptable,
    Kind::RequestTimeout,
    Kind::TooLarge,
    Kind::Misdirected,
    Kind::Internal,
    Kind::Unavailable,
    Kind::Timeout,
    Kind::MethodNotAllowed,
];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Commonhold",
        description = "Records in shared memory: read and changed by atomic steps, and stored. A write is answered when it is committed in memory, where it survives the end of any process; with `durable=true`, when the store has it."
    ),
    paths(
        health::healthz,
        health::readyz,
        health::metrics,
        document::openapi,
        tables::tables,
        tables::records,
        records::get,
        records::put,
        records::patch,
        records::delete,
        customers::cap_and_access,
        resonance::create,
        resonance::get,
        cascade::cascade,
        concepts::learn,
        sigils::encode,
        sigils::get,
        sigils::recall
    ),
    components(schemas(ProblemJson)),
    tags(
        (name = "records", description = "Tables and records."),
        (name = "systems", description = "Systems built on records."),
        (name = "watching", description = "For who watches the daemon.")
    )
)]
struct Routes;

/// The document of a daemon for the tables of `catalogue`.
#[must_use]
pub fn document(catalogue: &Catalogue, options: &AppOptions) -> Value {
    let needs_token = options.needs_token;
    let mut document = serde_json::to_value(Routes::openapi()).unwrap_or_default();
    if let Some(schemas) = object(&mut document, &["components", "schemas"]) {
        for table in &catalogue.tables {
            add_schemas(schemas, table);
        }
    }
    if let Some(components) = object(&mut document, &["components"]) {
        components.insert("responses".to_owned(), responses());
        let bearer = json!({"type": "http", "scheme": "bearer"});
        components.insert("securitySchemes".to_owned(), json!({ "bearer": bearer }));
    }
    if let Some(paths) = object(&mut document, &["paths"]) {
        for (path, item) in paths.iter_mut() {
            let Some(item) = item.as_object_mut() else { continue };
            for operation in item.values_mut() {
                complete(path, operation, needs_token);
                plain_parameters(operation);
                limit_timeout(operation, options.durable_wait_max.as_secs());
            }
        }
        if let Some(of_any) = paths.get(RECORD).cloned() {
            for table in &catalogue.tables {
                let path = RECORD.replace("{table}", &table.name);
                paths.insert(path, of_table(of_any.clone(), table));
            }
        }
    }
    if needs_token && let Some(whole) = document.as_object_mut() {
        whole.insert("security".to_owned(), json!([{"bearer": []}]));
    }
    document
}

/// The object at `path` of `value`.
fn object<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut at = value;
    for step in path {
        at = at.get_mut(*step)?;
    }
    at.as_object_mut()
}

/// A response for each kind of problem.
fn responses() -> Value {
    let header =
        |description: &str, schema: Value| json!({"description": description, "schema": schema});
    let mut all = Map::new();
    for kind in Kind::ALL {
        let content = json!({MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}});
        let mut response = json!({"description": format!("{}.", kind.title()), "content": content});
        let headers = match kind {
            Kind::MethodNotAllowed => {
                json!({"Allow": header("The methods that are known.", json!({"type": "string"}))})
            }
            Kind::Unauthorized => {
                json!({"WWW-Authenticate": header("Bearer.", json!({"type": "string"}))})
            }
            Kind::Unavailable => {
                let seconds = json!({"type": "integer", "minimum": 0});
                json!({"Retry-After": header("After so many seconds, if it is known.", seconds)})
            }
            Kind::PreconditionFailed => {
                json!({"ETag": header("The version that there is, if there is one.", json!({"type": "string"}))})
            }
            _ => Value::Null,
        };
        if let (Some(response), false) = (response.as_object_mut(), headers.is_null()) {
            response.insert("headers".to_owned(), headers);
        }
        all.insert(kind.name().to_owned(), response);
    }
    Value::Object(all)
}

/// Adds what any request may be answered with, and says that refusals are problems.
fn complete(path: &str, operation: &mut Value, needs_token: bool) {
    let open = OPEN.contains(&path);
    let has_body = operation.get("requestBody").is_some();
    let mut also: Vec<Kind> = ALWAYS.into();
    if has_body {
        also.extend([Kind::UnsupportedMediaType, Kind::Unprocessable]);
    }
    if needs_token && !open {
        also.push(Kind::Unauthorized);
    }
    if needs_token
        && open
        && let Some(operation) = operation.as_object_mut()
    {
        operation.insert("security".to_owned(), json!([]));
    }
    let Some(responses) = object(operation, &["responses"]) else { return };
    for kind in Kind::ALL {
        let status = kind.status().as_u16().to_string();
        let reference = json!({"$ref": format!("#/components/responses/{}", kind.name())});
        match responses.get_mut(&status) {
            Some(response) => {
                // The handler says what it means here; what it looks like is said once.
                let said = response.get("description").cloned();
                *response = reference;
                if let (Some(response), Some(said)) = (response.as_object_mut(), said) {
                    response.insert("description".to_owned(), said);
                }
            }
            None if also.contains(&kind) => {
                responses.insert(status, reference);
            }
            None => {}
        }
    }
}

/// A parameter that may lack is never null; what names versions has one form.
fn plain_parameters(operation: &mut Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let tags = parameter.get("in") == Some(&json!("header"));
        let Some(schema) = object(parameter, &["schema"]) else { continue };
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        if tags {
            let form = "^(\\*|(W/)?\"[0-9]+\"( *, *(W/)?\"[0-9]+\")*)$";
            schema.insert("pattern".to_owned(), json!(form));
        }
    }
}

/// The longest wait for the store that may be asked for.
fn limit_timeout(operation: &mut Value, seconds: u64) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        if parameter.get("name") == Some(&json!("timeout"))
            && let Some(schema) = object(parameter, &["schema"])
        {
            schema.insert("maximum".to_owned(), json!(seconds));
        }
    }
}

/// A field of type `ty` as a schema.
fn field_schema(ty: FieldType) -> Value {
    let text = "^[^\\u0000]*$";
    match ty {
        FieldType::I64 => {
            json!({"type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX})
        }
        FieldType::Timestamp => json!({
            "type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX,
            "description": "Microseconds since 1970-01-01 UTC."
        }),
        FieldType::U64 => {
            json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX})
        }
        FieldType::F64 => json!({"type": "number", "format": "double"}),
        FieldType::Bool => json!({"type": "boolean"}),
        FieldType::Text(n) => json!({
            "type": "string", "maxLength": n, "pattern": text,
            "description": format!("At most {n} bytes of UTF-8, without NUL.")
        }),
        FieldType::Bytes(n) => json!({
            "type": "string", "maxLength": u64::from(n) * 2, "pattern": "^([0-9a-fA-F]{2})*$",
            "description": format!("At most {n} bytes, as hexadecimal.")
        }),
        FieldType::Json(n) => json!({
            "description": format!("Any JSON whose text has at most {n} bytes.")
        }),
    }
}

/// An object with the fields of `table` that `keep` keeps, each as `schema` says.
fn fields_schema(
    table: &TableSpec,
    all_needed: bool,
    schema: impl Fn(FieldType) -> Option<Value>,
) -> Value {
    let fields = table.schema.fields().iter();
    let properties: Map<String, Value> =
        fields.filter_map(|f| Some((f.name.clone(), schema(f.ty)?))).collect();
    let mut whole = json!({"type": "object", "additionalProperties": false});
    if let Some(whole) = whole.as_object_mut() {
        if all_needed {
            let names: Vec<&String> = properties.keys().collect();
            whole.insert("required".to_owned(), json!(names));
        }
        whole.insert("properties".to_owned(), Value::Object(properties));
    }
    whole
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schemas of a table's records: what is read, what a write answers, and what it takes.
fn add_schemas(schemas: &mut Map<String, Value>, table: &TableSpec) {
    let name = |what: &str| format!("{}.{what}", table.name);
    let addend = |ty| match ty {
        FieldType::I64 | FieldType::U64 | FieldType::Timestamp => {
            Some(field_schema(FieldType::I64))
        }
        FieldType::F64 => Some(field_schema(ty)),
        _ => None,
    };
    let any = |ty| Some(field_schema(ty));
    schemas.insert(name("fields"), fields_schema(table, true, any));
    for general in ["Record", "Written", "Put", "Patch"] {
        let Some(mut of_table) = schemas.get(general).cloned() else { continue };
        if let Some(properties) = object(&mut of_table, &["properties"]) {
            for (property, schema) in [
                ("fields", reference(&name("fields"))),
                ("set", fields_schema(table, false, any)),
                ("add", fields_schema(table, false, addend)),
                ("require", requirements(table)),
            ] {
                if let Some(place) = properties.get_mut(property) {
                    *place = schema;
                }
            }
        }
        schemas.insert(name(&general.to_lowercase()), of_table);
    }
}

/// Requirements of a table's records.
fn requirements(table: &TableSpec) -> Value {
    let part = |field: &Field| {
        let properties = json!({
            "field": {"const": field.name},
            "is": reference("Comparison"),
            "value": field_schema(field.ty)
        });
        json!({
            "type": "object", "required": ["field", "is", "value"], "properties": properties,
            "additionalProperties": false
        })
    };
    let names: Vec<&str> = table.schema.fields().iter().map(|f| f.name.as_str()).collect();
    let text = json!({
        "type": "string", "pattern": format!("^ *({}) *(!=|<=|>=|=|<|>)", names.join("|")),
        "description": "A field, how it compares, and with what, such as n<=97."
    });
    let all: Vec<Value> =
        std::iter::once(text).chain(table.schema.fields().iter().map(part)).collect();
    json!({"type": "array", "maxItems": 128, "items": {"oneOf": all}})
}

/// The operations on a record of any table, as those on one of `table`.
fn of_table(mut item: Value, table: &TableSpec) -> Value {
    if let Some(item) = item.as_object_mut() {
        if is_read_only(&table.name) {
            item.retain(|method, _| method == "get");
        }
        for operation in item.values_mut() {
            let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
            let id = format!("{id}_{}", table.name);
            let Some(operation) = operation.as_object_mut() else { continue };
            operation.insert("operationId".to_owned(), json!(id));
            if let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut)
            {
                parameters.retain(|parameter| parameter.get("name") != Some(&json!("table")));
                for parameter in parameters {
                    if parameter.get("name") == Some(&json!("key"))
                        && let Some(schema) = object(parameter, &["schema"])
                    {
                        schema.insert("minLength".to_owned(), json!(1));
                        schema.insert("maxLength".to_owned(), json!(table.key_bytes));
                    }
                }
            }
        }
    }
    refer_to_table(&mut item, table);
    item
}

/// Puts the table's own schemas in the place of the general ones.
fn refer_to_table(value: &mut Value, table: &TableSpec) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref")
                && let Some(general) = to.strip_prefix("#/components/schemas/")
                && ["Record", "Written", "Put", "Patch"].contains(&general)
            {
                *to = format!("#/components/schemas/{}.{}", table.name, general.to_lowercase());
            }
            map.values_mut().for_each(|value| refer_to_table(value, table));
        }
        Value::Array(all) => all.iter_mut().for_each(|value| refer_to_table(value, table)),
        _ => {}
    }
}
