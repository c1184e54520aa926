//! Values of the component model as JSON and back, by a component's own types:
//! what `souk plugin call` reads and prints. Knows neither plugins nor calls.
//!
//! | WIT | JSON |
//! | --- | --- |
//! | record | object with the WIT's names; an option may be left out |
//! | variant | `"case"`, or `{"case": payload}` |
//! | enum, flags | `"name"`, list of names |
//! | option | `null` or the value; an option of an option is `{"some": …}` |
//! | result | `{"ok": …}` or `{"err": …}` |
//! | tuple, map | list, list of pairs |
//! | `list<u8>` | text if it is UTF-8, else `{"base64": "…"}`; read is also `{"json": …}` |
//! | float | number, or `"nan"`, `"inf"`, `"-inf"` |

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use wasmtime::component::types::{ComponentFunc, Type};
use wasmtime::component::Val;

/// Where a value is not what its type takes, and what that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistyped {
    pub path: String,
    pub message: String,
}

impl fmt::Display for Mistyped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for Mistyped {}

impl Mistyped {
    fn new(message: String) -> Self {
        Self { path: String::new(), message }
    }

    fn within(self, part: impl fmt::Display) -> Self {
        Self { path: format!("{part}{}", self.path), ..self }
    }
}

/// All parameters of a function; errors name `parameters[0].…`.
pub fn parameters(ty: &ComponentFunc, given: &[Value]) -> Result<Vec<Val>, Mistyped> {
    let names: Vec<&str> = ty.params().map(|(name, _)| name).collect();
    if given.len() != names.len() {
        let message = format!("the function takes {} ({}), {} are given", names.len(), names.join(", "), given.len());
        return Err(Mistyped { path: "parameters".into(), message });
    }
    let each = ty.params().zip(given).enumerate();
    each.map(|(place, ((_, ty), json))| from_json(&ty, json).map_err(|error| error.within(format!("parameters[{place}]")))).collect()
}

pub fn from_json(ty: &Type, json: &Value) -> Result<Val, Mistyped> {
    let takes = |what: &str| Mistyped::new(format!("takes {what}, is {}", shown(json)));
    let signed = |min: i64, max: i64| json.as_i64().filter(|n| (min..=max).contains(n)).ok_or_else(|| takes(&format!("{min} to {max}")));
    let unsigned = |max: u64| json.as_u64().filter(|n| *n <= max).ok_or_else(|| takes(&format!("0 to {max}")));
    let text = |what: &str| json.as_str().ok_or_else(|| takes(what));
    let list = |what: &str| json.as_array().ok_or_else(|| takes(what));
    Ok(match ty {
        Type::Bool => Val::Bool(json.as_bool().ok_or_else(|| takes("true or false"))?),
        Type::S8 => Val::S8(signed(i8::MIN.into(), i8::MAX.into())? as i8),
        Type::S16 => Val::S16(signed(i16::MIN.into(), i16::MAX.into())? as i16),
        Type::S32 => Val::S32(signed(i32::MIN.into(), i32::MAX.into())? as i32),
        Type::S64 => Val::S64(signed(i64::MIN, i64::MAX)?),
        Type::U8 => Val::U8(unsigned(u8::MAX.into())? as u8),
        Type::U16 => Val::U16(unsigned(u16::MAX.into())? as u16),
        Type::U32 => Val::U32(unsigned(u32::MAX.into())? as u32),
        Type::U64 => Val::U64(unsigned(u64::MAX)?),
        Type::Float32 => Val::Float32(float(json).ok_or_else(|| takes("a number"))? as f32),
        Type::Float64 => Val::Float64(float(json).ok_or_else(|| takes("a number"))?),
        Type::Char => {
            let mut characters = text("one character")?.chars();
            match (characters.next(), characters.next()) {
                (Some(one), None) => Val::Char(one),
                _ => return Err(takes("one character")),
            }
        }
        Type::String => Val::String(text("text")?.to_owned()),
        Type::List(of) if of.ty() == Type::U8 => {
            let bytes = bytes(json).ok_or_else(|| takes(BYTES))?;
            Val::List(bytes.into_iter().map(Val::U8).collect())
        }
        Type::List(of) => Val::List(items(&of.ty(), list("a list")?)?),
        // How long it is to be, wasmtime tells.
        Type::FixedLengthList(of) => Val::FixedLengthList(items(&of.ty(), list("a list")?)?),
        Type::Map(map) => {
            let pair = |(place, pair): (usize, &Value)| match pair.as_array().map(Vec::as_slice) {
                Some([key, value]) => Ok((from_json(&map.key(), key)?, from_json(&map.value(), value)?)),
                _ => Err(Mistyped::new(format!("takes a pair, is {}", shown(pair)))),
            }
            .map_err(|error| error.within(format!("[{place}]")));
            Val::Map(list("a list of pairs")?.iter().enumerate().map(pair).collect::<Result<_, _>>()?)
        }
        Type::Record(record) => {
            let given = json.as_object().ok_or_else(|| takes("an object"))?;
            Val::Record(fields(record.fields().map(|field| (field.name, field.ty)), given)?)
        }
        Type::Tuple(tuple) => {
            let (types, given) = (tuple.types(), list("a list")?);
            if given.len() != types.len() {
                return Err(takes(&format!("a list of {}", types.len())));
            }
            let each = types.zip(given).enumerate();
            Val::Tuple(each.map(|(place, (ty, json))| from_json(&ty, json).map_err(|error| error.within(format!("[{place}]")))).collect::<Result<_, _>>()?)
        }
        Type::Variant(variant) => {
            let cases: Vec<(&str, Option<Type>)> = variant.cases().map(|case| (case.name, case.ty)).collect();
            let known = || takes(&format!("one of {}", cases.iter().map(|(name, ty)| written(name, ty.is_some())).collect::<Vec<_>>().join(", ")));
            let (name, payload) = case(json).ok_or_else(known)?;
            let (name, ty) = cases.iter().find(|(known, ty)| *known == name && ty.is_some() == payload.is_some()).ok_or_else(known)?;
            Val::Variant((*name).to_owned(), payload_of(ty.as_ref(), payload, name)?)
        }
        Type::Enum(names) => {
            let given = json.as_str().and_then(|given| names.names().find(|name| *name == given));
            Val::Enum(given.ok_or_else(|| takes(&format!("one of {}", quoted(names.names()))))?.to_owned())
        }
        Type::Flags(flags) => {
            let takes_flags = || takes(&format!("a list of {}", quoted(flags.names())));
            let flag = |json: &Value| json.as_str().and_then(|given| flags.names().find(|name| *name == given)).map(str::to_owned).ok_or_else(takes_flags);
            Val::Flags(json.as_array().ok_or_else(takes_flags)?.iter().map(flag).collect::<Result<_, _>>()?)
        }
        Type::Option(_) if json.is_null() => Val::Option(None),
        Type::Option(of) => match of.ty() {
            nested @ Type::Option(_) => {
                let some = json.as_object().filter(|object| object.len() == 1).and_then(|object| object.get("some"));
                let some = some.ok_or_else(|| takes("null, or {\"some\": …}"))?;
                Val::Option(Some(Box::new(from_json(&nested, some).map_err(|error| error.within(".some"))?)))
            }
            ty => Val::Option(Some(Box::new(from_json(&ty, json)?))),
        },
        Type::Result(result) => match case(json) {
            Some(("ok", payload)) => Val::Result(Ok(payload_of(result.ok().as_ref(), payload.filter(|payload| !payload.is_null() || result.ok().is_some()), "ok")?)),
            Some(("err", payload)) => Val::Result(Err(payload_of(result.err().as_ref(), payload.filter(|payload| !payload.is_null() || result.err().is_some()), "err")?)),
            _ => return Err(takes("{\"ok\": …} or {\"err\": …}")),
        },
        Type::Own(_) | Type::Borrow(_) | Type::Future(_) | Type::Stream(_) | Type::ErrorContext => {
            return Err(Mistyped::new("is a resource, a stream or a future, which cannot be written as JSON".into()));
        }
    })
}

pub fn to_json(ty: &Type, value: &Val) -> Value {
    let items = |ty: &Type, items: &[Val]| Value::Array(items.iter().map(|item| to_json(ty, item)).collect());
    let payload = |ty: Option<Type>, value: &Option<Box<Val>>| match (ty, value) {
        (Some(ty), Some(value)) => to_json(&ty, value),
        _ => Value::Null,
    };
    match (ty, value) {
        (_, Val::Bool(value)) => json!(value),
        (_, Val::S8(value)) => json!(value),
        (_, Val::U8(value)) => json!(value),
        (_, Val::S16(value)) => json!(value),
        (_, Val::U16(value)) => json!(value),
        (_, Val::S32(value)) => json!(value),
        (_, Val::U32(value)) => json!(value),
        (_, Val::S64(value)) => json!(value),
        (_, Val::U64(value)) => json!(value),
        (_, Val::Float32(value)) => float_to_json((*value).into()),
        (_, Val::Float64(value)) => float_to_json(*value),
        (_, Val::Char(value)) => json!(value),
        (_, Val::String(text)) => json!(text),
        (Type::List(of), Val::List(list)) if of.ty() == Type::U8 => {
            bytes_to_json(&list.iter().map(|byte| if let Val::U8(byte) = byte { *byte } else { 0 }).collect::<Vec<_>>())
        }
        (Type::List(of), Val::List(list)) => items(&of.ty(), list),
        (Type::FixedLengthList(of), Val::FixedLengthList(list)) => items(&of.ty(), list),
        (Type::Map(map), Val::Map(pairs)) => {
            Value::Array(pairs.iter().map(|(key, value)| json!([to_json(&map.key(), key), to_json(&map.value(), value)])).collect())
        }
        (Type::Record(record), Val::Record(fields)) => {
            Value::Object(record.fields().zip(fields).map(|(field, (name, value))| (name.clone(), to_json(&field.ty, value))).collect())
        }
        (Type::Tuple(tuple), Val::Tuple(values)) => Value::Array(tuple.types().zip(values).map(|(ty, value)| to_json(&ty, value)).collect()),
        (Type::Variant(variant), Val::Variant(name, value)) => match variant.cases().find(|case| case.name == name).and_then(|case| case.ty) {
            None => json!(name),
            ty => json!({ name: payload(ty, value) }),
        },
        (_, Val::Enum(name)) => json!(name),
        (_, Val::Flags(names)) => json!(names),
        (_, Val::Option(None)) => Value::Null,
        (Type::Option(of), Val::Option(Some(value))) => match of.ty() {
            nested @ Type::Option(_) => json!({ "some": to_json(&nested, value) }),
            ty => to_json(&ty, value),
        },
        (Type::Result(result), Val::Result(Ok(value))) => json!({ "ok": payload(result.ok(), value) }),
        (Type::Result(result), Val::Result(Err(value))) => json!({ "err": payload(result.err(), value) }),
        // Resources and the like: seen, not told.
        _ => json!("…"),
    }
}

/// What [`bytes`] reads.
pub const BYTES: &str = "text, {\"base64\": \"…\"} or {\"json\": …}";

/// As a `list<u8>` is written.
pub fn bytes_to_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": BASE64_STANDARD.encode(bytes) }),
    }
}

/// What [`bytes_to_json`] has written, or somebody else.
pub fn bytes(json: &Value) -> Option<Vec<u8>> {
    match json {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Object(object) if object.len() == 1 => match (object.get("base64"), object.get("json")) {
            (Some(base64), _) => BASE64_STANDARD.decode(base64.as_str()?).ok(),
            (_, Some(json)) => serde_json::to_vec(json).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// Bytes of text and lists of bytes in a value.
pub fn size(value: &Val) -> usize {
    match value {
        Val::U8(_) => 1,
        Val::String(text) => text.len(),
        Val::List(items) | Val::Tuple(items) | Val::FixedLengthList(items) => items.iter().map(size).sum(),
        Val::Record(fields) => fields.iter().map(|(_, value)| size(value)).sum(),
        Val::Map(pairs) => pairs.iter().map(|(key, value)| size(key) + size(value)).sum(),
        Val::Variant(_, Some(value)) | Val::Option(Some(value)) | Val::Result(Ok(Some(value)) | Err(Some(value))) => size(value),
        _ => 0,
    }
}

fn items(ty: &Type, given: &[Value]) -> Result<Vec<Val>, Mistyped> {
    given.iter().enumerate().map(|(place, json)| from_json(ty, json).map_err(|error| error.within(format!("[{place}]")))).collect()
}

fn fields<'a>(of: impl Iterator<Item = (&'a str, Type)>, given: &Map<String, Value>) -> Result<Vec<(String, Val)>, Mistyped> {
    let of: Vec<(&str, Type)> = of.collect();
    if let Some(unknown) = given.keys().find(|given| !of.iter().any(|(name, _)| name == given)) {
        return Err(Mistyped::new(format!("there is no field `{unknown}`; there are {}", quoted(of.iter().map(|(name, _)| *name)))));
    }
    let field = |(name, ty): &(&str, Type)| match (given.get(*name), ty) {
        (Some(json), _) => Ok(((*name).to_owned(), from_json(ty, json).map_err(|error| error.within(format!(".{name}")))?)),
        (None, Type::Option(_)) => Ok(((*name).to_owned(), Val::Option(None))),
        (None, _) => Err(Mistyped::new(format!("the field `{name}` is missing"))),
    };
    of.iter().map(field).collect()
}

/// Name and payload of what may be a case.
fn case(json: &Value) -> Option<(&str, Option<&Value>)> {
    match json {
        Value::String(name) => Some((name, None)),
        Value::Object(object) if object.len() == 1 => object.iter().next().map(|(name, payload)| (name.as_str(), Some(payload))),
        _ => None,
    }
}

fn payload_of(ty: Option<&Type>, json: Option<&Value>, case: &str) -> Result<Option<Box<Val>>, Mistyped> {
    match (ty, json) {
        (None, None) => Ok(None),
        (Some(ty), Some(json)) => from_json(ty, json).map(|value| Some(Box::new(value))).map_err(|error| error.within(format!(".{case}"))),
        (Some(_), None) => Err(Mistyped::new(format!("`{case}` has a value: write {{\"{case}\": …}}"))),
        (None, Some(_)) => Err(Mistyped::new(format!("`{case}` has no value: write {{\"{case}\": null}}"))),
    }
}

fn float(json: &Value) -> Option<f64> {
    match json.as_str() {
        Some("nan") => Some(f64::NAN),
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        _ => json.as_f64(),
    }
}

fn float_to_json(value: f64) -> Value {
    match value {
        nan if nan.is_nan() => json!("nan"),
        f64::INFINITY => json!("inf"),
        f64::NEG_INFINITY => json!("-inf"),
        value => json!(value),
    }
}

fn written(case: &str, payload: bool) -> String {
    if payload { format!("{{\"{case}\": …}}") } else { format!("\"{case}\"") }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Short enough for a line.
fn shown(json: &Value) -> String {
    const CHARACTERS_MAX: usize = 60;
    let text = json.to_string();
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasmtime::component::types::ComponentItem;
    use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
    use wit_parser::{ManglingAndAbi, Resolve};

    use super::*;

    const CONTRACT: &str = "
        package test:values@0.1.0;

        interface all {
          record line { id: string, quantity: u32, note: option<string>, tags: list<string> }
          variant part { nothing, percent(u32), lines(list<line>), maybe(option<u8>) }
          enum size { small, large-one }
          flags marks { bold, thin }
          record everything {
            yes: bool, a: s8, b: u8, c: s16, d: u16, e: s32, f: u32, g: s64, h: u64, i: f32, j: f64, k: char, l: string,
            bytes: list<u8>, lines: list<line>, parts: list<part>, size: size, marks: marks,
            nested: option<option<u32>>, pair: tuple<string, s64>,
            done: result<u32, string>, nothing: result, failed: result<_, size>, only: result<list<u8>>,
          }
          take: func(everything: everything, line: line);
        }

        world values { export all; }
    ";

    /// The function's type, as wasmtime tells it of a component.
    fn take() -> ComponentFunc {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("values.wit", CONTRACT).unwrap();
        let world = resolve.select_world(&[package], Some("values")).unwrap();
        let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        let bytes = ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
        let engine = wasmtime::Engine::new(&super::super::config()).unwrap();
        let component = wasmtime::component::Component::from_binary(&engine, &bytes).unwrap();
        let item = component.component_type().get_export(&engine, "test:values/all@0.1.0").unwrap().ty;
        let ComponentItem::ComponentInstance(instance) = item else { panic!("not an instance") };
        let Some(ComponentItem::ComponentFunc(ty)) = instance.get_export(&engine, "take").map(|item| item.ty) else { panic!("not a function") };
        ty
    }

    fn types() -> &'static (ComponentFunc, Vec<Type>) {
        static TYPES: std::sync::LazyLock<(ComponentFunc, Vec<Type>)> = std::sync::LazyLock::new(|| {
            let take = take();
            let types = take.params().map(|(_, ty)| ty).collect();
            (take, types)
        });
        &TYPES
    }

    /// Any value of a type.
    fn value(ty: &Type) -> BoxedStrategy<Val> {
        let optional = |ty: Option<Type>| match ty {
            Some(ty) => value(&ty).prop_map(|value| Some(Box::new(value))).boxed(),
            None => Just(None).boxed(),
        };
        match ty {
            Type::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
            Type::S8 => any::<i8>().prop_map(Val::S8).boxed(),
            Type::U8 => any::<u8>().prop_map(Val::U8).boxed(),
            Type::S16 => any::<i16>().prop_map(Val::S16).boxed(),
            Type::U16 => any::<u16>().prop_map(Val::U16).boxed(),
            Type::S32 => any::<i32>().prop_map(Val::S32).boxed(),
            Type::U32 => any::<u32>().prop_map(Val::U32).boxed(),
            Type::S64 => any::<i64>().prop_map(Val::S64).boxed(),
            Type::U64 => any::<u64>().prop_map(Val::U64).boxed(),
            Type::Float32 => prop::num::f32::ANY.prop_map(Val::Float32).boxed(),
            Type::Float64 => prop::num::f64::ANY.prop_map(Val::Float64).boxed(),
            Type::Char => any::<char>().prop_map(Val::Char).boxed(),
            Type::String => any::<String>().prop_map(Val::String).boxed(),
            Type::List(of) => prop::collection::vec(value(&of.ty()), 0..4).prop_map(Val::List).boxed(),
            Type::Record(record) => {
                let fields: Vec<_> = record.fields().map(|field| (Just(field.name.to_owned()), value(&field.ty))).collect();
                fields.prop_map(Val::Record).boxed()
            }
            Type::Tuple(tuple) => tuple.types().map(|ty| value(&ty)).collect::<Vec<_>>().prop_map(Val::Tuple).boxed(),
            Type::Variant(variant) => {
                let cases = variant.cases().map(|case| {
                    let name = case.name.to_owned();
                    optional(case.ty).prop_map(move |payload| Val::Variant(name.clone(), payload)).boxed()
                });
                proptest::strategy::Union::new(cases.collect::<Vec<_>>()).boxed()
            }
            Type::Enum(names) => prop::sample::select(names.names().map(str::to_owned).collect::<Vec<_>>()).prop_map(Val::Enum).boxed(),
            Type::Flags(flags) => {
                let names = flags.names().map(str::to_owned).collect::<Vec<_>>();
                let all = names.len();
                prop::sample::subsequence(names, 0..=all).prop_map(Val::Flags).boxed()
            }
            Type::Option(of) => optional(Some(of.ty())).prop_flat_map(|some| prop_oneof![Just(Val::Option(None)), Just(Val::Option(some))]).boxed(),
            Type::Result(result) => {
                prop_oneof![optional(result.ok()).prop_map(|ok| Val::Result(Ok(ok))), optional(result.err()).prop_map(|err| Val::Result(Err(err)))].boxed()
            }
            _ => unreachable!("the contract has none"),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(value in value(&types().1[0])) {
            // Not by way of text: there serde_json takes the last digit of a float lightly.
            let json = to_json(&types().1[0], &value);
            prop_assert_eq!(from_json(&types().1[0], &json).unwrap(), value, "{}", json);
        }
    }

    fn line() -> Value {
        json!({ "id": "1", "quantity": 2, "tags": ["tea"] })
    }

    #[test]
    fn an_option_may_be_left_out_and_bytes_are_text_or_base64() {
        let [_, ty] = types().1.as_slice() else { panic!() };
        assert_eq!(to_json(ty, &from_json(ty, &line()).unwrap()), json!({ "id": "1", "quantity": 2, "note": null, "tags": ["tea"] }));
        for (written, read) in [(json!("a茶"), "a茶".as_bytes()), (json!({ "base64": "/w==" }), &[0xff])] {
            assert_eq!(bytes(&written).unwrap(), read);
            assert_eq!(bytes_to_json(read), written);
        }
        assert_eq!(bytes(&json!({ "json": { "a": [1] } })).unwrap(), b"{\"a\":[1]}");
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_path() {
        let (take, types) = types();
        for (given, told) in [
            (json!({ "id": 1, "quantity": 2, "tags": [] }), "parameters[0].id: takes text, is 1"),
            (json!({ "id": "1", "quantity": "x", "tags": [] }), "parameters[0].quantity: takes 0 to 4294967295, is \"x\""),
            (json!({ "id": "1", "quantity": -1, "tags": [] }), "parameters[0].quantity: takes 0 to 4294967295, is -1"),
            (json!({ "id": "1", "quantity": 1, "tags": ["a", 2] }), "parameters[0].tags[1]: takes text, is 2"),
            (json!({ "id": "1", "tags": [] }), "parameters[0]: the field `quantity` is missing"),
            (json!({ "id": "1", "Quantity": 1 }), "parameters[0]: there is no field `Quantity`; there are `id`, `quantity`, `note`, `tags`"),
            (json!([]), "parameters[0]: takes an object, is []"),
        ] {
            let everything = from_json(&types[1], &given).map_err(|error| error.within("parameters[0]")).unwrap_err();
            assert_eq!(everything.to_string(), told);
        }
        let Type::Record(everything) = &types[0] else { panic!() };
        let field = |name: &str| everything.fields().find(|field| field.name == name).unwrap().ty;
        for (name, given, told) in [
            ("parts", json!(["percent"]), "[0]: takes one of \"nothing\", {\"percent\": …}, {\"lines\": …}, {\"maybe\": …}, is \"percent\""),
            ("parts", json!([{ "lines": [line(), { "id": 0 }] }]), "[0].lines[1].id: takes text, is 0"),
            ("size", json!("large_one"), ": takes one of `small`, `large-one`, is \"large_one\""),
            ("marks", json!(["bold", "red"]), ": takes a list of `bold`, `thin`, is [\"bold\",\"red\"]"),
            ("nested", json!(3), ": takes null, or {\"some\": …}, is 3"),
            ("done", json!("ok"), ": `ok` has a value: write {\"ok\": …}"),
            ("nothing", json!({ "ok": 1 }), ": `ok` has no value: write {\"ok\": null}"),
            ("k", json!("ab"), ": takes one character, is \"ab\""),
            ("pair", json!(["a"]), ": takes a list of 2, is [\"a\"]"),
            ("bytes", json!([1, 2]), ": takes text, {\"base64\": \"…\"} or {\"json\": …}, is [1,2]"),
        ] {
            assert_eq!(from_json(&field(name), &given).unwrap_err().to_string(), told);
        }
        assert_eq!(
            parameters(take, &[]).unwrap_err().to_string(),
            "parameters: the function takes 2 (everything, line), 0 are given"
        );
    }
}
