//! Changes: what a caller without a Rust type asks of a record, and applying it to the record's values.

use std::str::FromStr;

use commonhold_core::Error;
use commonhold_core::record::FieldError;
use commonhold_core::schema::Schema;
use commonhold_core::value::Value;

/// A comparison in a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// What must hold of a field for a change to happen.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirement {
    /// The field.
    pub field: String,
    /// How it compares.
    pub comparison: Comparison,
    /// With what, as text in the field's form.
    pub value: String,
}

/// A change of a record: what must hold, what is set, what is added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    pub(crate) set: Vec<(String, String)>,
    pub(crate) add: Vec<(String, String)>,
    pub(crate) require: Vec<Requirement>,
    pub(crate) if_version: Option<u64>,
    pub(crate) create: bool,
}

/// Why a change was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The record has another version.
    #[error("table `{table}`, key `{key}`: it has version {found}, not {wanted}; read it again")]
    Version {
        /// The table.
        table: String,
        /// The record.
        key: String,
        /// Its version; 0 when it is not there.
        found: u64,
        /// The version asked for.
        wanted: u64,
    },
    /// A requirement does not hold.
    #[error("table `{table}`, key `{key}`: `{field}` is {found}, which is not {requirement}")]
    Requirement {
        /// The table.
        table: String,
        /// The record.
        key: String,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What was required.
        requirement: String,
    },
    /// The sum does not fit.
    #[error("table `{table}`, key `{key}`: {found} + {add} does not fit in `{field}`")]
    Overflow {
        /// The table.
        table: String,
        /// The record.
        key: String,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What was to be added.
        add: String,
    },
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let operators = [
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("=", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let found =
            operators.iter().filter_map(|(sign, c)| text.find(sign).map(|at| (at, *sign, *c)));
        let Some((at, sign, comparison)) = found.min_by_key(|(at, sign, _)| (*at, 9 - sign.len()))
        else {
            return Err(format!(
                "`{text}` is not a requirement; write field>=value (= != < <= > >=)"
            ));
        };
        let field = text.get(..at).unwrap_or_default().trim().to_owned();
        let value = text.get(at + sign.len()..).unwrap_or_default().trim().to_owned();
        Ok(Self { field, comparison, value })
    }
}

impl Change {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `field` to `value`, given as text in the field's form.
    #[must_use]
    pub fn set(mut self, field: &str, value: &str) -> Self {
        self.set.push((field.to_owned(), value.to_owned()));
        self
    }

    /// Adds `value` to a number or timestamp.
    #[must_use]
    pub fn add(mut self, field: &str, value: &str) -> Self {
        self.add.push((field.to_owned(), value.to_owned()));
        self
    }

    /// Refuses the change unless `requirement` holds.
    #[must_use]
    pub fn require(mut self, requirement: Requirement) -> Self {
        self.require.push(requirement);
        self
    }

    /// Refuses the change unless the record has this version; 0: unless it is not there.
    #[must_use]
    pub fn if_version(mut self, version: Option<u64>) -> Self {
        self.if_version = version;
        self
    }

    /// Creates a missing record, its other fields zero or empty.
    #[must_use]
    pub fn or_create(mut self) -> Self {
        self.create = true;
        self
    }

    /// Changes only a record that is there.
    #[must_use]
    pub fn without_create(mut self) -> Self {
        self.create = false;
        self
    }
}

/// A change whose texts were read as values of the table.
pub(crate) struct Plan<'a> {
    pub(crate) table: &'a str,
    pub(crate) key: &'a str,
    pub(crate) set: Vec<(usize, Value)>,
    pub(crate) add: Vec<(usize, Value)>,
    pub(crate) require: Vec<(usize, Comparison, Value)>,
    pub(crate) if_version: Option<u64>,
    pub(crate) schema: &'a Schema,
}

/// Why a plan stopped: refused, or a value that may not be stored, or damage.
pub(crate) enum Stop {
    Refused(Box<Refusal>),
    Failed(Box<Error>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl Plan<'_> {
    fn field(&self, at: usize) -> &str {
        self.schema.fields().get(at).map_or("", |f| &f.name)
    }

    pub(crate) fn check_version(&self, found: u64) -> Result<(), Stop> {
        match self.if_version {
            Some(wanted) if wanted != found => Err(Stop::Refused(Box::new(Refusal::Version {
                table: self.table.to_owned(),
                key: self.key.to_owned(),
                found,
                wanted,
            }))),
            _ => Ok(()),
        }
    }

    /// What the change makes of `values`; appended encoded to `next` too.
    pub(crate) fn apply(
        &self,
        mut values: Vec<Value>,
        next: &mut Vec<u8>,
    ) -> Result<Vec<Value>, Stop> {
        for (at, comparison, wanted) in &self.require {
            let Some(found) = values.get(*at) else { continue };
            if !holds(found, *comparison, wanted) {
                return Err(Stop::Refused(Box::new(Refusal::Requirement {
                    table: self.table.to_owned(),
                    key: self.key.to_owned(),
                    field: self.field(*at).to_owned(),
                    found: found.to_string(),
                    requirement: format!("{comparison} {wanted}"),
                })));
            }
        }
        for (at, value) in &self.set {
            if let Some(place) = values.get_mut(*at) {
                place.clone_from(value);
            }
        }
        for (at, value) in &self.add {
            if let Some(place) = values.get_mut(*at) {
                *place = sum(place, value).ok_or_else(|| {
                    Stop::Refused(Box::new(Refusal::Overflow {
                        table: self.table.to_owned(),
                        key: self.key.to_owned(),
                        field: self.field(*at).to_owned(),
                        found: place.to_string(),
                        add: value.to_string(),
                    }))
                })?;
            }
        }
        for value in &mut values {
            if let Value::F64(number) = value {
                *number += 0.0; // -0.0 is stored as 0.0
            }
        }
        let encoded = self.schema.encode(&values, next).map_err(|(at, error)| {
            let field = self.field(at).to_owned();
            let (table, key) = (self.table.to_owned(), self.key.to_owned());
            Error::Field { table, key, error: FieldError { field, error } }.into()
        });
        encoded.map(|()| values)
    }
}

pub(crate) fn holds(found: &Value, comparison: Comparison, wanted: &Value) -> bool {
    use std::cmp::Ordering;
    let order = match (found, wanted) {
        (Value::I64(a), Value::I64(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => {
            a.partial_cmp(b)
        }
        (Value::U64(a), Value::U64(b)) => a.partial_cmp(b),
        (Value::F64(a), Value::F64(b)) => a.partial_cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.partial_cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) | (Value::Json(a), Value::Json(b)) => a.partial_cmp(b),
        _ => None,
    };
    match comparison {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

fn sum(a: &Value, b: &Value) -> Option<Value> {
    match (a, b) {
        (Value::I64(a), Value::I64(b)) => a.checked_add(*b).map(Value::I64),
        (Value::U64(a), Value::I64(b)) => a.checked_add_signed(*b).map(Value::U64),
        (Value::F64(a), Value::F64(b)) => Some(Value::F64(a + b)),
        (Value::Timestamp(a), Value::I64(b)) => a.checked_add(*b).map(Value::Timestamp),
        _ => None,
    }
}
