//! `#[derive(Record)]`: a Rust struct as the record of a table.
//!
//! Two steps, each a pure function that tests can call: `input` reads the struct and refuses what cannot be a
//! record, with an error at the very field; `expand` writes the implementation. What a name may be is decided
//! by `check_name` of `commonhold-core`; the derive repeats the rule so that a bad name fails at compile time,
//! and a test holds the two together.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod expand;
mod input;

use proc_macro::TokenStream;
use syn::DeriveInput;

/// Implements `Record` for a struct with named fields: its fields, in their order, are the fields of the table.
///
/// Every field's type must implement `FieldValue`: `i64`, `u64`, `f64`, `bool`, `Text<N>`, `Bytes<N>`,
/// `Json<N>`, `Timestamp`, or a type of yours. Const and type parameters may stand on the struct (a type
/// parameter is bounded by `FieldValue`), lifetimes may not: a record owns its values.
///
/// A field's name becomes a database column, so it has a-z, 0-9 and `_`, begins with a letter, has at most 48
/// bytes and is not `key`.
///
/// # Attributes
/// - `#[record(rename = "name")]` on a field: its name in the table.
/// - `#[record(crate = "path")]` on the struct: the crate that has the modules `record` and `schema`;
///   `commonhold` when absent.
///
/// # Examples
/// ```
/// use commonhold_core::record::{Record, Text};
/// use commonhold_core::schema::{Decoder, Encoder};
/// use commonhold_derive::Record;
///
/// #[derive(Record, Debug, PartialEq)]
/// # #[record(crate = "commonhold_core")]
/// struct Customer {
///     name: Text<32>,
///     used: i64,
///     #[record(rename = "cap")]
///     limit: i64,
/// }
///
/// let customer = Customer { name: Text::new("Ada")?, used: 3, limit: 10 };
/// let mut payload = Vec::new();
/// customer.encode(&mut Encoder::new(&mut payload))?;
/// assert_eq!(Customer::decode(&mut Decoder::new(&payload))?, customer);
/// assert_eq!(Customer::FIELDS[2].name, "cap");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(tokens: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(tokens as DeriveInput);
    match input::RecordInput::read(&input) {
        Ok(record) => expand::implementation(&record).into(),
        Err(error) => error.into_compile_error().into(),
    }
}

/// What the derive refuses; each block fails to compile, and stops failing when its one mistake is mended. That
/// they fail for the right reason, the tests of [`input`] show from the messages.
///
/// A type that is no `FieldValue` (`String` has no limit in bytes):
/// ```compile_fail,E0277
/// #[derive(commonhold_derive::Record)]
/// #[record(crate = "commonhold_core")]
/// struct Wrong { name: String }
/// ```
/// An enum:
/// ```compile_fail
/// #[derive(commonhold_derive::Record)]
/// #[record(crate = "commonhold_core")]
/// enum Wrong { A { n: i64 } }
/// ```
/// A tuple struct:
/// ```compile_fail
/// #[derive(commonhold_derive::Record)]
/// #[record(crate = "commonhold_core")]
/// struct Wrong(i64);
/// ```
/// A unit struct:
/// ```compile_fail
/// #[derive(commonhold_derive::Record)]
/// #[record(crate = "commonhold_core")]
/// struct Wrong;
/// ```
/// A lifetime:
/// ```compile_fail
/// #[derive(commonhold_derive::Record)]
/// #[record(crate = "commonhold_core")]
/// struct Wrong<'a> { n: i64, m: std::marker::PhantomData<&'a ()> }
/// ```
/// A reserved name, and one that begins with `_`:
/// ```compile_fail
/// #[derive(commonhold_derive::Record)]
/// #[record(crate = "commonhold_core")]
/// struct Wrong { key: i64 }
/// ```
/// ```compile_fail
/// #[derive(commonhold_derive::Record)]
/// #[record(crate = "commonhold_core")]
/// struct Wrong { _n: i64 }
/// ```
/// The same name twice:
/// ```compile_fail
/// #[derive(commonhold_derive::Record)]
/// #[record(crate = "commonhold_core")]
/// struct Wrong { n: i64, #[record(rename = "n")] m: i64 }
/// ```
/// With all of it mended:
/// ```
/// #[derive(commonhold_derive::Record)]
/// #[record(crate = "commonhold_core")]
/// struct Right { n: i64, #[record(rename = "o")] m: i64 }
/// ```
#[cfg(doctest)]
mod refused {}
