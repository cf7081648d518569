//! The derive against the core: the same bytes as the schema writes, errors that name the field, and structs of
//! every permitted form.

#![allow(clippy::unwrap_used)]

use commonhold_core::record::{Bytes, FieldValue, Json, Record, Text, Timestamp};
use commonhold_core::schema::{DecodeError, Decoder, Encoder, Field, FieldType, Schema};
use commonhold_core::value::{Value, ValueError};
use commonhold_derive::Record;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "commonhold_core")]
struct Everything {
    signed: i64,
    unsigned: u64,
    ratio: f64,
    open: bool,
    name: Text<16>,
    raw: Bytes<4>,
    #[record(rename = "details")]
    json: Json<32>,
    r#type: Timestamp,
}

fn everything() -> Result<Everything, ValueError> {
    Ok(Everything {
        signed: -7,
        unsigned: 9,
        ratio: 0.5,
        open: true,
        name: Text::new("Ada")?,
        raw: Bytes::new(&[0, 255, 3])?,
        json: Json::new(r#"{"a":[1]}"#)?,
        r#type: Timestamp(1_700_000_000_000_000),
    })
}

/// The values of `everything`, as a caller without the Rust type gives them.
fn values() -> Vec<Value> {
    vec![
        Value::I64(-7),
        Value::U64(9),
        Value::F64(0.5),
        Value::Bool(true),
        Value::Text("Ada".to_owned()),
        Value::Bytes(vec![0, 255, 3]),
        Value::Json(r#"{"a":[1]}"#.to_owned()),
        Value::Timestamp(1_700_000_000_000_000),
    ]
}

fn schema_of<R: Record>() -> Schema {
    Schema::new(R::FIELDS.iter().copied().map(Field::from).collect()).unwrap()
}

fn payload_of<R: Record>(record: &R) -> Vec<u8> {
    let mut payload = Vec::new();
    record.encode(&mut Encoder::new(&mut payload)).unwrap();
    payload
}

#[test]
fn fields_are_those_of_the_struct_in_order() {
    let fields: Vec<String> =
        schema_of::<Everything>().fields().iter().map(ToString::to_string).collect();
    let wanted = "signed:i64 unsigned:u64 ratio:f64 open:bool name:text(16) raw:bytes(4) details:json(32) \
                  type:timestamp";
    assert_eq!(fields.join(" "), wanted);
}

#[test]
fn the_bytes_are_those_that_the_schema_writes() -> Outcome {
    let schema = schema_of::<Everything>();
    let mut by_schema = Vec::new();
    schema.encode(&values(), &mut by_schema).map_err(|(at, error)| format!("{at}: {error}"))?;
    let by_derive = payload_of(&everything()?);
    assert_eq!(by_derive, by_schema);
    assert_eq!(schema.decode(&by_derive)?, values());
    Ok(())
}

#[test]
fn a_record_comes_back_as_it_went_in() -> Outcome {
    let payload = payload_of(&everything()?);
    let mut decoder = Decoder::new(&payload);
    assert_eq!(Everything::decode(&mut decoder)?, everything()?);
    decoder.finish()?;
    Ok(())
}

#[test]
fn what_follows_the_record_is_left_to_the_caller() -> Outcome {
    let mut payload = payload_of(&everything()?);
    let length = payload.len();
    payload.push(1);
    let mut decoder = Decoder::new(&payload);
    Everything::decode(&mut decoder)?;
    assert_eq!(decoder.finish(), Err(DecodeError { at: length }));
    Ok(())
}

#[test]
fn every_cut_payload_is_refused() -> Outcome {
    let payload = payload_of(&everything()?);
    for length in 0..payload.len() {
        let cut = payload.get(..length).unwrap();
        assert!(Everything::decode(&mut Decoder::new(cut)).is_err(), "{length} bytes");
    }
    Ok(())
}

#[test]
fn a_refused_value_names_its_field() -> Outcome {
    let refused =
        |record: Everything| record.encode(&mut Encoder::new(&mut Vec::new())).unwrap_err();
    let error = refused(Everything { ratio: f64::NAN, ..everything()? });
    assert_eq!(
        (error.field.as_str(), error.error),
        ("ratio", ValueError::NotFinite("NaN".to_owned()))
    );
    let error = refused(Everything { unsigned: 1 << 63, ..everything()? });
    assert_eq!((error.field.as_str(), error.error), ("unsigned", ValueError::TooLarge(1 << 63)));
    Ok(())
}

/// A field type that refuses everything, under another name than the field's in Rust.
#[derive(Debug)]
struct Never;

impl FieldValue for Never {
    const TYPE: FieldType = FieldType::Bool;
    fn encode(&self, _: &mut Encoder<'_>) -> Result<(), ValueError> {
        Err(ValueError::Nul(4))
    }
    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError { at: 5 })
    }
}

#[test]
fn the_error_has_the_name_in_the_table_and_the_first_refusal() {
    #[derive(Record, Debug)]
    #[record(crate = "commonhold_core")]
    struct Refusing {
        n: i64,
        #[record(rename = "renamed")]
        first: Never,
        second: Never,
    }
    let record = Refusing { n: 1, first: Never, second: Never };
    let mut payload = Vec::new();
    let error = record.encode(&mut Encoder::new(&mut payload)).unwrap_err();
    assert_eq!((error.field.as_str(), error.error), ("renamed", ValueError::Nul(4)));
    assert_eq!(payload, 1_i64.to_le_bytes());
    assert_eq!(Refusing::decode(&mut Decoder::new(&payload)).unwrap_err(), DecodeError { at: 5 });
    assert_eq!(record.second.encode(&mut Encoder::new(&mut payload)), Err(ValueError::Nul(4)));
}

#[test]
fn parameters_of_types_and_constants_are_kept() -> Outcome {
    #[derive(Record, Debug, PartialEq)]
    #[record(crate = "commonhold_core")]
    struct Pair<T, const N: usize>
    where
        T: Copy,
    {
        left: T,
        right: Text<N>,
    }
    let pair = Pair { left: 5_u64, right: Text::<3>::new("abc")? };
    let payload = payload_of(&pair);
    assert_eq!(payload.len(), 8 + 4 + 3);
    assert_eq!(Pair::decode(&mut Decoder::new(&payload))?, pair);
    let types: Vec<FieldType> = Pair::<bool, 7>::FIELDS.iter().map(|f| f.ty).collect();
    assert_eq!(types, [FieldType::Bool, FieldType::Text(7)]);
    Ok(())
}

/// Names that the implementation uses, taken by the user: it must not care.
mod hygiene {
    use super::{Outcome, payload_of};

    macro_rules! record {
        ($name:ident { $($field:ident: $ty:ty),* }) => {
            #[derive(commonhold_derive::Record, Debug, PartialEq)]
            #[record(crate = "commonhold_core")]
            struct $name { $($field: $ty,)* added: i64 }
        };
    }
    record!(FromMacro { out: i64, input: bool, error: u64 });

    struct Result;
    struct String;
    struct Ok;
    struct Record;

    #[test]
    fn a_record_from_a_macro_with_awkward_names() -> Outcome {
        use commonhold_core::record::Record as _;
        let record = FromMacro { out: 1, input: true, error: 2, added: 3 };
        let payload = payload_of(&record);
        let decoded = FromMacro::decode(&mut commonhold_core::schema::Decoder::new(&payload))?;
        assert_eq!(decoded, record);
        let _unused = (Result, String, Ok, Record);
        std::result::Result::Ok(())
    }
}
