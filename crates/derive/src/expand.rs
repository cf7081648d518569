//! The implementation that the derive writes. It names nothing but `core`, `std::string::String` and, below the
//! root crate, `record::{Record, StaticField, FieldValue, FieldError}` and
//! `schema::{Encoder, Decoder, DecodeError}`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use crate::input::{FieldInput, RecordInput};

/// `impl Record for …`.
pub(crate) fn implementation(input: &RecordInput) -> TokenStream {
    let RecordInput { ident, generics, root, fields } = input;
    let mut generics = generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(syn::parse_quote!(#root::record::FieldValue));
    }
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let statics = fields.iter().map(|field| static_field(input, field));
    let encodes = fields.iter().map(|field| encode_field(input, field));
    let decodes = fields.iter().map(|field| decode_field(input, field));
    quote! {
        #[automatically_derived]
        impl #parameters #root::record::Record for #ident #arguments #conditions {
            const FIELDS: &'static [#root::record::StaticField] = &[#(#statics),*];

            #[inline]
            fn encode(
                &self,
                out: &mut #root::schema::Encoder<'_>,
            ) -> ::core::result::Result<(), #root::record::FieldError> {
                #(#encodes)*
                ::core::result::Result::Ok(())
            }

            #[inline]
            fn decode(
                input: &mut #root::schema::Decoder<'_>,
            ) -> ::core::result::Result<Self, #root::schema::DecodeError> {
                ::core::result::Result::Ok(Self { #(#decodes),* })
            }
        }
    }
}

/// Where errors about a field's type are shown: at the type, while names still mean what they mean here, even in
/// a struct that a macro wrote.
fn shown_at(field: &FieldInput) -> Span {
    Span::call_site().located_at(field.ty.span())
}

/// An element of `FIELDS`.
fn static_field(RecordInput { root, .. }: &RecordInput, field: &FieldInput) -> TokenStream {
    let FieldInput { ty, name, .. } = field;
    quote_spanned! {shown_at(field)=>
        #root::record::StaticField { name: #name, ty: <#ty as #root::record::FieldValue>::TYPE }
    }
}

/// The statement that encodes one field.
fn encode_field(RecordInput { root, .. }: &RecordInput, field: &FieldInput) -> TokenStream {
    let FieldInput { ident, ty, name } = field;
    quote_spanned! {shown_at(field)=>
        if let ::core::result::Result::Err(error) =
            <#ty as #root::record::FieldValue>::encode(&self.#ident, out)
        {
            return ::core::result::Result::Err(#root::record::FieldError {
                field: ::std::string::String::from(#name),
                error,
            });
        }
    }
}

/// The initializer that decodes one field. Rust evaluates initializers in the order in which they are written,
/// which is the order of the fields.
fn decode_field(RecordInput { root, .. }: &RecordInput, field: &FieldInput) -> TokenStream {
    let FieldInput { ident, ty, .. } = field;
    quote_spanned! {shown_at(field)=>
        #ident: <#ty as #root::record::FieldValue>::decode(input)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn expanded(input: &syn::DeriveInput) -> String {
        implementation(&RecordInput::read(input).unwrap()).to_string().replace(' ', "")
    }

    #[test]
    fn the_only_names_below_the_root_are_those_promised() {
        let input = parse_quote!(
            #[record(crate = "rt")]
            struct A<T> {
                n: i64,
                t: T,
            }
        );
        let text =
            implementation(&RecordInput::read(&input).unwrap()).to_string().replace(']', " ]");
        let mut named: Vec<String> = text
            .split(":: rt :: ")
            .skip(1)
            .map(|rest| rest.split_whitespace().take(3).collect())
            .collect();
        named.sort_unstable();
        named.dedup();
        let promised = [
            "record::FieldError",
            "record::FieldValue",
            "record::Record",
            "record::StaticField",
            "schema::DecodeError",
            "schema::Decoder",
            "schema::Encoder",
        ];
        assert_eq!(named, promised);
        assert_eq!(text.matches(" rt ").count(), text.matches(":: rt :: ").count());
    }

    #[test]
    fn type_parameters_are_bounded_and_const_ones_kept() {
        let text = expanded(&parse_quote!(
            struct A<T: Copy, const N: usize>
            where
                T: Eq,
            {
                t: T,
            }
        ));
        let head = "impl<T:Copy+::commonhold::record::FieldValue,constN:usize>\
                    ::commonhold::record::RecordforA<T,N>whereT:Eq";
        assert!(text.contains(head), "{text}");
    }

    #[test]
    fn both_functions_are_inline() {
        let text = expanded(&parse_quote!(
            struct A {
                n: i64,
            }
        ));
        assert_eq!(text.matches("#[inline]fn").count(), 2, "{text}");
    }
}
