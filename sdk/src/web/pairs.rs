//! Reads what comes as pairs of name and text (path parameters, queries, forms)
//! into types: serde's view of them. Knows nothing of requests. Values are text
//! until the type says what they are; a name that repeats is a list.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::FieldError;

/// Which field does not fit, and why. The field is empty for the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Error(pub FieldError);

impl Error {
    fn new(field: &str, code: &str, message: impl Display) -> Self {
        Self(FieldError { field: field.into(), code: code.into(), message: message.to_string() })
    }

    /// The innermost name counts.
    fn of(mut self, field: &str) -> Self {
        if self.0.field.is_empty() {
            self.0.field = field.into();
        }
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.field, self.0.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self::new("", "invalid", message)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(field, "required", "is required")
    }

    fn unknown_variant(given: &str, known: &'static [&'static str]) -> Self {
        Self::new("", "unknown", format_args!("is `{given}`: use one of {}", known.join(", ")))
    }
}

/// Pairs in which those of one name stand together. To a type that is a value,
/// a single pair is its value.
pub struct Pairs<'de, S>(pub &'de [(S, S)]);

impl<'de, S> Pairs<'de, S> {
    fn single(self) -> Result<Values<'de, S>, Error> {
        if self.0.len() == 1 { Ok(Values(self.0)) } else { Err(Error::new("", "invalid", "takes a struct, because there is not one value")) }
    }
}

macro_rules! of_single {
    ($($function:ident)*) => {
        $(fn $function<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.single()?.$function(visitor)
        })*
    };
}

impl<'de, S: AsRef<str>> de::Deserializer<'de> for Pairs<'de, S> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Groups { rest: self.0, values: &[] })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, name: &'static str, known: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.single()?.deserialize_enum(name, known, visitor)
    }

    of_single! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
    }

    forward_to_deserialize_any! {
        bytes byte_buf option unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Groups<'de, S> {
    rest: &'de [(S, S)],
    values: &'de [(S, S)],
}

impl<'de, S: AsRef<str>> MapAccess<'de> for Groups<'de, S> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, _)) = self.rest.first() else { return Ok(None) };
        let name = name.as_ref();
        let end = self.rest.iter().position(|(other, _)| other.as_ref() != name).unwrap_or(self.rest.len());
        (self.values, self.rest) = self.rest.split_at(end);
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let name = self.values.first().map_or("", |(name, _)| name.as_ref());
        seed.deserialize(Values(self.values)).map_err(|error| error.of(name))
    }
}

/// All values of one name. What is no list is the first of them.
struct Values<'de, S>(&'de [(S, S)]);

impl<'de, S: AsRef<str>> Values<'de, S> {
    fn first(&self) -> &'de str {
        self.0.first().map_or("", |(_, value)| value.as_ref())
    }

    fn number<T: FromStr>(&self, range: impl Display) -> Result<T, Error> {
        let text = self.first().trim();
        text.parse().map_err(|_| Error::new("", "number", format_args!("is `{text}`: use a number{range}")))
    }
}

macro_rules! integers {
    ($($function:ident $visit:ident $integer:ident),* $(,)?) => {
        $(fn $function<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.number(format_args!(" from {} to {}", $integer::MIN, $integer::MAX))?)
        })*
    };
}

impl<'de, S: AsRef<str>> de::Deserializer<'de> for Values<'de, S> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.first())
    }

    integers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f32(self.number("")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.number("")?)
    }

    /// `on` is what a browser sends for a box that is ticked.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.first().trim() {
            "true" | "on" | "1" => visitor.visit_bool(true),
            "false" | "off" | "0" => visitor.visit_bool(false),
            other => Err(Error::new("", "boolean", format_args!("is `{other}`: use true or false"))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(List(self.0.chunks(1)))
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        visitor.visit_enum(self.first().trim().into_deserializer())
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

struct List<'de, S>(std::slice::Chunks<'de, (S, S)>);

impl<'de, S: AsRef<str>> SeqAccess<'de> for List<'de, S> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|one| seed.deserialize(Values(one))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}
