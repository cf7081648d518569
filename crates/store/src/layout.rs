//! The columns of every table, whatever the database calls their types.

use commonhold_core::catalogue::TableSpec;
use commonhold_core::schema::FieldType;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Bool,
    Real,
    Text,
    Json,
    Bytes,
}

/// The columns of `T` after its fields.
const ABOUT: [(&str, Kind); 6] = [
    ("_version", Kind::Integer),
    ("_hash", Kind::Text),
    ("_clock", Kind::Text),
    ("_writer", Kind::Text),
    ("_seq", Kind::Integer),
    ("_committed_at", Kind::Integer),
];
/// The columns that `T_history` has beyond those.
const ABOUT_HISTORY: [(&str, Kind); 3] =
    [("_deleted", Kind::Bool), ("_position", Kind::Integer), ("_link", Kind::Text)];

/// A column: its name and declared type.
pub(crate) type Column = (String, &'static str);

fn kind(ty: FieldType) -> Kind {
    match ty {
        FieldType::I64 | FieldType::U64 | FieldType::Timestamp => Kind::Integer,
        FieldType::Bool => Kind::Bool,
        FieldType::F64 => Kind::Real,
        FieldType::Text(_) => Kind::Text,
        FieldType::Json(_) => Kind::Json,
        FieldType::Bytes(_) => Kind::Bytes,
    }
}

/// The columns of `T`.
pub(crate) fn columns(spec: &TableSpec) -> Vec<(String, Kind)> {
    let key = std::iter::once(("key".to_owned(), Kind::Text));
    let fields = spec.schema.fields().iter().map(|f| (f.name.clone(), kind(f.ty)));
    let about = ABOUT.iter().map(|(name, kind)| ((*name).to_owned(), *kind));
    key.chain(fields).chain(about).collect()
}

/// The columns of `T_history`.
pub(crate) fn history_columns(spec: &TableSpec) -> Vec<(String, Kind)> {
    let mut all = columns(spec);
    all.extend(ABOUT_HISTORY.iter().map(|(name, kind)| ((*name).to_owned(), *kind)));
    all
}

/// The definition of one column. The fields of a history row may be NULL: they are in a deletion.
pub(crate) fn define(name: &str, ty: &str) -> String {
    let never_null = name == "key" || name.starts_with('_');
    format!("\"{name}\" {ty}{}", if never_null { " NOT NULL" } else { "" })
}

/// The first column of those found that is not as it must be.
pub(crate) fn difference(want: &[Column], found: &[(&str, &str)]) -> Option<String> {
    for (i, (name, ty)) in want.iter().enumerate() {
        match found.get(i) {
            None => return Some(format!("column `{name}` ({ty}) is missing")),
            Some((found, _)) if found != name => {
                return Some(format!("column {} is `{found}`, not `{name}`", i + 1));
            }
            Some((_, found)) if !found.eq_ignore_ascii_case(ty) => {
                return Some(format!("column `{name}` is {found}, not {ty}"));
            }
            Some(_) => {}
        }
    }
    let (extra, _) = found.get(want.len())?;
    Some(format!("column `{extra}` is not in the schema"))
}

/// A primary key, as quoted names joined by commas, that is not the one it must be.
pub(crate) fn other_key(found: &str, want: &str) -> Option<String> {
    (found != want).then(|| format!("its primary key is ({found}), not ({want})"))
}
