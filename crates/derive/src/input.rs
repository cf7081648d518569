//! What the derive reads from a struct, and what it refuses.

use std::collections::HashSet;

use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, Generics, Ident, LitStr, Path, Result, Type,
};

/// The longest name of a field, in bytes; `NAME_BYTES_MAX` of `commonhold-core`.
const NAME_BYTES_MAX: usize = 48;
/// The most fields of a record; `FIELDS_MAX` of `commonhold-core`.
const FIELDS_MAX: usize = 128;

/// A struct that can be a record.
pub(crate) struct RecordInput {
    /// The struct.
    pub(crate) ident: Ident,
    /// Its parameters; no lifetimes among them.
    pub(crate) generics: Generics,
    /// The crate with the modules `record` and `schema`.
    pub(crate) root: Path,
    /// Its fields, in order; 1 to 128, no name twice.
    pub(crate) fields: Vec<FieldInput>,
}

/// A field of such a struct.
pub(crate) struct FieldInput {
    /// The field in Rust.
    pub(crate) ident: Ident,
    /// Its type.
    pub(crate) ty: Type,
    /// Its name in the table.
    pub(crate) name: String,
}

impl RecordInput {
    /// Reads `input`; the error carries one message for each mistake, each where it stands.
    pub(crate) fn read(input: &DeriveInput) -> Result<Self> {
        let mut errors = Errors(None);
        for lifetime in input.generics.lifetimes() {
            errors
                .add(Error::new(lifetime.span(), "a record owns its values; it has no lifetimes"));
        }
        let root = read_root(&input.attrs).unwrap_or_else(|error| {
            errors.add(error);
            default_root()
        });
        let fields = read_fields(input, &mut errors);
        errors.finish()?;
        Ok(Self { ident: input.ident.clone(), generics: input.generics.clone(), root, fields })
    }
}

/// The errors found so far.
struct Errors(Option<Error>);

impl Errors {
    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }

    fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

fn read_fields(input: &DeriveInput, errors: &mut Errors) -> Vec<FieldInput> {
    let named = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => &fields.named,
            Fields::Unnamed(_) | Fields::Unit => {
                errors
                    .add(Error::new(input.ident.span(), "a record is a struct with named fields"));
                return Vec::new();
            }
        },
        Data::Enum(_) | Data::Union(_) => {
            errors.add(Error::new(input.ident.span(), "a record is a struct with named fields"));
            return Vec::new();
        }
    };
    if named.is_empty() || named.len() > FIELDS_MAX {
        let message = format!("{} fields; a record has 1 to {FIELDS_MAX}", named.len());
        errors.add(Error::new(input.ident.span(), message));
    }
    let mut fields = Vec::with_capacity(named.len());
    let mut names = HashSet::with_capacity(named.len());
    for field in named {
        match read_field(field, &mut names) {
            Ok(field) => fields.push(field),
            Err(error) => errors.add(error),
        }
    }
    fields
}

fn read_field(field: &syn::Field, names: &mut HashSet<String>) -> Result<FieldInput> {
    let ident = field.ident.clone();
    let ident = ident.ok_or_else(|| Error::new(field.span(), "a field without a name"))?;
    let rename = string_attribute(&field.attrs, "rename")?;
    let (name, span) = match rename {
        Some(literal) => (literal.value(), literal.span()),
        None => (ident.unraw().to_string(), ident.span()),
    };
    check_name(&name).map_err(|message| Error::new(span, message))?;
    if !names.insert(name.clone()) {
        return Err(Error::new(span, format!("field `{name}` stands twice in the record")));
    }
    Ok(FieldInput { ident, ty: field.ty.clone(), name })
}

/// The rule of `commonhold_core::schema::check_name`, with the broken part named.
fn check_name(name: &str) -> std::result::Result<(), String> {
    let rule = if name == "key" {
        "`key` is the column of the record's key"
    } else if name.starts_with('_') {
        "names that begin with _ are columns of the runtime's own"
    } else if name.len() > NAME_BYTES_MAX {
        "a name has at most 48 bytes"
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        "a name has a-z, 0-9 and _ and begins with a letter"
    } else {
        return Ok(());
    };
    Err(format!(
        "`{name}` cannot name a field: {rule}; rename it, or give #[record(rename = \"…\")]"
    ))
}

fn default_root() -> Path {
    syn::parse_quote!(::commonhold)
}

/// The path in `#[record(crate = "…")]`, absolute unless it begins with `crate`, `self` or `super`.
fn read_root(attrs: &[Attribute]) -> Result<Path> {
    let Some(literal) = string_attribute(attrs, "crate")? else { return Ok(default_root()) };
    let mut path: Path = literal.parse_with(Path::parse_mod_style)?;
    let relative = path.segments.first().is_some_and(|first| {
        first.ident == "crate" || first.ident == "self" || first.ident == "super"
    });
    if !relative && path.leading_colon.is_none() {
        path.leading_colon = Some(syn::Token![::](literal.span()));
    }
    Ok(path)
}

/// The value of `#[record(wanted = "…")]`; anything else in `#[record(…)]` is refused.
fn string_attribute(attrs: &[Attribute], wanted: &str) -> Result<Option<LitStr>> {
    let mut found = None;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("record")) {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident(wanted) {
                return Err(meta.error(format!("only #[record({wanted} = \"…\")] stands here")));
            }
            if found.replace(meta.value()?.parse::<LitStr>()?).is_some() {
                return Err(meta.error(format!("`{wanted}` stands twice")));
            }
            Ok(())
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::ToTokens;
    use syn::parse_quote;

    /// The messages that the derive refuses `input` with.
    fn refused(input: &DeriveInput) -> Vec<String> {
        RecordInput::read(input).err().unwrap().into_iter().map(|e| e.to_string()).collect()
    }

    fn names(input: &DeriveInput) -> Vec<String> {
        RecordInput::read(input).unwrap().fields.into_iter().map(|f| f.name).collect()
    }

    #[test]
    fn fields_keep_their_order_and_take_their_new_names() {
        let input = parse_quote! {
            struct A { b: i64, r#type: u64, #[record(rename = "z_1")] Upper: bool }
        };
        assert_eq!(names(&input), ["b", "type", "z_1"]);
    }

    #[test]
    fn only_structs_with_named_fields() {
        let shape = "a record is a struct with named fields";
        assert_eq!(
            refused(&parse_quote!(
                enum A {
                    B { n: i64 },
                }
            )),
            [shape]
        );
        assert_eq!(refused(&parse_quote!(union A { n: i64 })), [shape]);
        assert_eq!(
            refused(&parse_quote!(
                struct A(i64);
            )),
            [shape]
        );
        assert_eq!(
            refused(&parse_quote!(
                struct A;
            )),
            [shape]
        );
        assert_eq!(
            refused(&parse_quote!(
                struct A {}
            )),
            ["0 fields; a record has 1 to 128"]
        );
    }

    #[test]
    fn at_most_128_fields() {
        let fields = |n: usize| (0..n).map(|i| quote::format_ident!("f{i}")).collect::<Vec<_>>();
        let (most, over) = (fields(128), fields(129));
        assert_eq!(names(&parse_quote!(struct A { #(#most: i64),* })).len(), 128);
        let messages = refused(&parse_quote!(struct A { #(#over: i64),* }));
        assert_eq!(messages, ["129 fields; a record has 1 to 128"]);
    }

    #[test]
    fn lifetimes_are_refused_and_other_parameters_stay() {
        let messages = refused(&parse_quote!(
            struct A<'a, 'b> {
                n: &'a &'b i64,
            }
        ));
        assert_eq!(messages, ["a record owns its values; it has no lifetimes"; 2]);
        let record = RecordInput::read(&parse_quote!(
            struct A<T, const N: usize> {
                t: T,
            }
        ));
        assert_eq!(record.unwrap().generics.params.len(), 2);
    }

    #[test]
    fn each_bad_name_is_told_with_its_rule() {
        let messages = refused(&parse_quote!(
            struct A {
                key: i64,
                good: i64,
                _n: i64,
                Big: i64,
            }
        ));
        assert_eq!(messages.len(), 3, "{messages:?}");
        for (message, rule) in messages.iter().zip(["record's key", "begin with _", "begins with"])
        {
            assert!(message.contains(rule), "{message}");
        }
        let long = "n".repeat(49);
        let messages = refused(&parse_quote!(
            struct A {
                #[record(rename = #long)]
                n: i64,
            }
        ));
        assert!(messages[0].contains("at most 48"), "{messages:?}");
    }

    #[test]
    fn the_rule_of_names_is_that_of_the_core() {
        let long = ["n".repeat(48), "n".repeat(49)];
        let short =
            ["", "a", "A", "_", "_a", "1", "a1", "a_", "a-b", "key", "keys", "é", "aé", "a b"];
        let mut verdicts = [0; 2];
        for name in long.iter().map(String::as_str).chain(short) {
            let core = commonhold_core::schema::check_name(name).is_ok();
            assert_eq!(check_name(name).is_ok(), core, "{name:?}");
            verdicts[usize::from(core)] += 1;
        }
        assert_eq!(verdicts, [11, 5]);
        assert_eq!(NAME_BYTES_MAX, commonhold_core::schema::NAME_BYTES_MAX);
        assert_eq!(FIELDS_MAX, commonhold_core::schema::FIELDS_MAX);
    }

    #[test]
    fn a_name_stands_once() {
        let twice = ["field `n` stands twice in the record"];
        assert_eq!(
            refused(&parse_quote!(
                struct A {
                    n: i64,
                    #[record(rename = "n")]
                    m: i64,
                }
            )),
            twice
        );
        assert_eq!(
            refused(&parse_quote!(
                struct A {
                    #[record(rename = "n")]
                    m: i64,
                    n: i64,
                }
            )),
            twice
        );
    }

    #[test]
    fn unknown_and_doubled_attributes_are_refused() {
        let messages = refused(&parse_quote!(
            struct A {
                #[record(name = "m")]
                n: i64,
            }
        ));
        assert_eq!(messages, ["only #[record(rename = \"…\")] stands here"]);
        let messages = refused(&parse_quote!(
            #[record(rename = "m")]
            struct A {
                n: i64,
            }
        ));
        assert_eq!(messages, ["only #[record(crate = \"…\")] stands here"]);
        let messages = refused(&parse_quote!(
            struct A {
                #[record(rename = "m", rename = "o")]
                n: i64,
            }
        ));
        assert_eq!(messages, ["`rename` stands twice"]);
    }

    #[test]
    fn the_root_is_absolute_unless_it_says_crate() {
        let root = |input: &DeriveInput| {
            let root = RecordInput::read(input).unwrap().root;
            root.to_token_stream().to_string().replace(' ', "")
        };
        assert_eq!(
            root(&parse_quote!(
                struct A {
                    n: i64,
                }
            )),
            "::commonhold"
        );
        assert_eq!(
            root(&parse_quote!(
                #[record(crate = "a::b")]
                struct A {
                    n: i64,
                }
            )),
            "::a::b"
        );
        assert_eq!(
            root(&parse_quote!(
                #[record(crate = "::a")]
                struct A {
                    n: i64,
                }
            )),
            "::a"
        );
        assert_eq!(
            root(&parse_quote!(
                #[record(crate = "crate")]
                struct A {
                    n: i64,
                }
            )),
            "crate"
        );
        let messages = refused(&parse_quote!(
            #[record(crate = "not a path")]
            struct A {
                n: i64,
            }
        ));
        assert_eq!(messages.len(), 1);
    }
}
