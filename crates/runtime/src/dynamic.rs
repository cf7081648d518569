//! Tables without a Rust type: fields by name, for the command line, HTTP and other languages.

use std::borrow::Borrow;
use std::time::Duration;

use commonhold_core::record::FieldError;
use commonhold_core::schema::Schema;
use commonhold_core::value::Value;
use commonhold_core::{Error, Handle, Inserted, RecordRef, Snapshot, UpdateError};

use crate::change::{Change, Plan, Refusal, Requirement, Stop, holds};
use crate::table::Commit;

/// A table whose fields are named at run time.
pub struct DynamicTable<H: Borrow<Handle> = Handle> {
    handle: H,
    position: usize,
    name: String,
    schema: Schema,
}

/// What a change made of a record.
#[derive(Debug)]
pub struct Applied<'a> {
    /// The commit.
    pub commit: Commit<'a>,
    /// The values that it committed, in schema order.
    pub values: Vec<Value>,
    /// Whether the record was not there before.
    pub created: bool,
}

/// One state of a record: its values in schema order, and the version's marks.
#[derive(Debug, Clone)]
pub struct DynamicRecord {
    /// The values, in schema order.
    pub values: Vec<Value>,
    /// Version, hash, clock, writer and time.
    pub version: Snapshot,
}

impl<H: Borrow<Handle>> std::fmt::Debug for DynamicTable<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DynamicTable({})", self.name)
    }
}

impl<H: Borrow<Handle>> DynamicTable<H> {
    /// The table `name` through `handle`.
    ///
    /// # Errors
    /// [`Error::UnknownTable`].
    pub fn new(handle: H, name: &str) -> Result<Self, Error> {
        let space = handle.borrow().space();
        let position = space.find_table(name)?;
        let schema = space.catalogue().tables.get(position).map(|t| t.schema.clone());
        let Some(schema) = schema else {
            return Err(Error::UnknownTable { table: name.to_owned(), known: String::new() });
        };
        Ok(Self { handle, position, name: name.to_owned(), schema })
    }

    /// The participant it works through.
    pub fn handle(&self) -> &Handle {
        self.handle.borrow()
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The table's position in the catalogue.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The fields.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The position of the field `name`.
    ///
    /// # Errors
    /// [`Error::UnknownField`] naming those that there are.
    pub fn field(&self, name: &str) -> Result<usize, Error> {
        self.schema.position(name).ok_or_else(|| {
            let known: Vec<&str> = self.schema.fields().iter().map(|f| f.name.as_str()).collect();
            let (table, field) = (self.name.clone(), name.to_owned());
            Error::UnknownField { table, field, known: known.join(", ") }
        })
    }

    /// The record `key`, if it is there.
    ///
    /// # Errors
    /// [`Error::BadKey`], [`Error::Corrupt`].
    pub fn get(&self, key: &str) -> Result<Option<DynamicRecord>, Error> {
        let handle = self.handle();
        let Some(record) = handle.locate(self.position, key)? else { return Ok(None) };
        handle.read_at(self.position, record, |seen| self.record(seen))?.transpose()
    }

    /// Makes `change` of `key` as one atomic step.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] when a requirement or the version does not hold or a sum does not fit;
    /// [`Error::NotFound`], [`Error::UnknownField`], [`Error::Field`], [`Error::Full`].
    pub fn apply(
        &self,
        key: &str,
        change: &Change,
    ) -> Result<Commit<'_>, UpdateError<Box<Refusal>>> {
        self.apply_whole(key, change).map(|applied| applied.commit)
    }

    /// As [`DynamicTable::apply`]; says also what was committed, and whether the record is new.
    ///
    /// # Errors
    /// As [`DynamicTable::apply`].
    pub fn apply_whole(
        &self,
        key: &str,
        change: &Change,
    ) -> Result<Applied<'_>, UpdateError<Box<Refusal>>> {
        let plan = self.plan(key, change)?;
        loop {
            if let Some(record) = self.handle().locate(self.position, key)?
                && let Some(applied) = self.update(record, &plan).map_err(unstop)?
            {
                return Ok(applied);
            }
            plan.check_version(0).map_err(unstop)?;
            if !change.create {
                let (table, key) = (self.name.clone(), key.to_owned());
                return Err(Error::NotFound { table, key }.into());
            }
            let zero = self.schema.fields().iter().map(|f| Value::zero(f.ty)).collect();
            let mut payload = Vec::new();
            let values = plan.apply(zero, &mut payload).map_err(unstop)?;
            if let Inserted::Committed(committed) =
                self.handle().insert(self.position, key, &payload)?
            {
                let commit = Commit::new(committed, self.handle());
                return Ok(Applied { commit, values, created: true });
            }
        }
    }

    fn update(&self, record: RecordRef, plan: &Plan<'_>) -> Result<Option<Applied<'_>>, Stop> {
        let mut values = Vec::new();
        let step = |seen: &Snapshot, next: &mut Vec<u8>| {
            plan.check_version(seen.version)?;
            values = plan.apply(self.record(seen)?.values, next)?;
            Ok(())
        };
        let committed = match self.handle().update_seen(self.position, record, step) {
            Ok(committed) => committed,
            Err(UpdateError::Refused(stop)) => return Err(stop),
            Err(UpdateError::Failed(e)) => return Err(e.into()),
        };
        let commit = committed.map(|committed| Commit::new(committed, self.handle()));
        Ok(commit.map(|commit| Applied { commit, values, created: false }))
    }

    /// Deletes `key`, if `if_version` is none or its version.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] when it has another version; [`Error::NotFound`].
    pub fn delete(
        &self,
        key: &str,
        if_version: Option<u64>,
    ) -> Result<Commit<'_>, UpdateError<Box<Refusal>>> {
        let plan = self.plan(key, &Change::new().if_version(if_version))?;
        let allow = |seen: &Snapshot| plan.check_version(seen.version);
        let deleted = self.handle().delete(self.position, key, allow);
        let committed = deleted.map_err(|e| match e {
            UpdateError::Refused(stop) => unstop(stop),
            UpdateError::Failed(e) => UpdateError::Failed(e),
        })?;
        Ok(Commit::new(committed, self.handle()))
    }

    /// Visits every record, in no order and at no single instant, until `visit` fails.
    ///
    /// # Errors
    /// [`Error::Corrupt`], or what `visit` returns.
    pub fn scan<E: From<Error>>(
        &self,
        mut visit: impl FnMut(&str, DynamicRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let space = self.handle().space();
        space.scan(self.position, |key, seen| visit(key, self.record(seen)?))
    }

    /// Waits until `key` is there and `ready` holds of it.
    ///
    /// # Errors
    /// [`Error::Timeout`] when `limit` passed first; [`Error::BadKey`].
    pub fn wait_for(
        &self,
        key: &str,
        limit: Duration,
        mut ready: impl FnMut(&DynamicRecord) -> bool,
    ) -> Result<DynamicRecord, Error> {
        let look =
            |seen: &Snapshot| self.record(seen).map(|record| Some(record).filter(|r| ready(r)));
        self.handle().wait_for(self.position, key, limit, look)
    }

    /// Reads a requirement's value as a value of its field: a test of records.
    ///
    /// # Errors
    /// [`Error::UnknownField`], [`Error::Field`].
    pub fn condition(
        &self,
        requirement: &Requirement,
    ) -> Result<impl Fn(&DynamicRecord) -> bool + use<H>, Error> {
        let (at, wanted) = self.value("", &requirement.field, &requirement.value)?;
        let comparison = requirement.comparison;
        Ok(move |r: &DynamicRecord| r.values.get(at).is_some_and(|v| holds(v, comparison, &wanted)))
    }

    fn record(&self, seen: &Snapshot) -> Result<DynamicRecord, Error> {
        let damaged = |at| Error::Corrupt { what: "a payload", offset: 0, found: at as u64 };
        let values = self.schema.decode(&seen.payload).map_err(|e| damaged(e.at))?;
        Ok(DynamicRecord { values, version: seen.clone() })
    }

    fn value(&self, key: &str, field: &str, text: &str) -> Result<(usize, Value), Error> {
        self.parse(key, field, text, Value::parse)
    }

    fn parse(
        &self,
        key: &str,
        field: &str,
        text: &str,
        parse: impl Fn(
            commonhold_core::schema::FieldType,
            &str,
        ) -> Result<Value, commonhold_core::value::ValueError>,
    ) -> Result<(usize, Value), Error> {
        let at = self.field(field)?;
        let ty = self.schema.fields().get(at).map(|f| f.ty);
        let ty = ty.unwrap_or(commonhold_core::schema::FieldType::I64);
        let value = parse(ty, text).map_err(|error| Error::Field {
            table: self.name.clone(),
            key: key.to_owned(),
            error: FieldError { field: field.to_owned(), error },
        })?;
        Ok((at, value))
    }

    fn plan<'a>(&'a self, key: &'a str, change: &Change) -> Result<Plan<'a>, Error> {
        use commonhold_core::schema::FieldType;
        let each = |list: &[(String, String)], add: bool| {
            let parse = |ty: FieldType, text: &str| match ty {
                // What is added to an unsigned number or a time is a signed number.
                FieldType::U64 | FieldType::Timestamp if add => Value::parse(FieldType::I64, text),
                FieldType::I64 | FieldType::F64 => Value::parse(ty, text),
                _ if add => Err(commonhold_core::value::ValueError::WrongType {
                    found: "number to add",
                    ty,
                }),
                _ => Value::parse(ty, text),
            };
            let one = |(field, text): &(String, String)| self.parse(key, field, text, parse);
            list.iter().map(one).collect::<Result<Vec<_>, Error>>()
        };
        let require = |r: &Requirement| {
            self.value(key, &r.field, &r.value).map(|(at, value)| (at, r.comparison, value))
        };
        Ok(Plan {
            table: &self.name,
            key,
            set: each(&change.set, false)?,
            add: each(&change.add, true)?,
            require: change.require.iter().map(require).collect::<Result<_, _>>()?,
            if_version: change.if_version,
            schema: &self.schema,
        })
    }
}

fn unstop(stop: Stop) -> UpdateError<Box<Refusal>> {
    match stop {
        Stop::Refused(refusal) => UpdateError::Refused(refusal),
        Stop::Failed(error) => UpdateError::Failed(*error),
    }
}
