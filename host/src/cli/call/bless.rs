//! `souk plugin test --bless`: what was seen becomes what is expected. All of
//! the file but the value of `expect` stays as it was written. Pure.

use std::ops::Range;

use anyhow::{Context, Result};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use super::expect;
use super::report::Report;

/// The scenario with what is expected now, if that is something else than before.
pub fn blessed(scenario: &str, report: &Report) -> Result<Option<String>> {
    let (members, end) = members(scenario)?;
    let place = members.iter().find(|(name, _)| name == "expect").map(|(_, place)| place.clone());
    let before: Map<String, Value> = place.clone().map_or(Ok(Map::new()), |place| serde_json::from_str(&scenario[place])).context("expect")?;
    let seen = expect::parts(report).into_iter();
    let after: Map<String, Value> = if before.is_empty() {
        seen.filter(|(part, is, _)| !["log", "http"].contains(part) && !is_nothing(is)).map(|(part, is, _)| (part.to_owned(), is)).collect()
    } else {
        let mut after = before.clone();
        for (part, is, whole) in seen {
            after.entry(part).and_modify(|expected| *expected = corrected(expected, &is, whole));
        }
        after
    };
    if after == before {
        return Ok(None);
    }
    let text = serde_json::to_string_pretty(&after)?.replace('\n', "\n  ");
    let (before, after) = match place {
        Some(place) => (&scenario[..place.start], text + &scenario[place.end..]),
        None => {
            let comma = if members.is_empty() { "" } else { "," };
            let last = members.last().map_or(end, |(_, place)| place.end);
            (&scenario[..last], format!("{comma}\n  \"expect\": {text}\n{}", &scenario[end..]))
        }
    };
    Ok(Some(format!("{before}{after}")))
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// As far as it was expected before: of objects the same fields, unless `whole`.
fn corrected(expected: &Value, is: &Value, whole: bool) -> Value {
    match (expected, is) {
        (Value::Object(expected), Value::Object(is)) if !whole => {
            let fields = expected.iter().filter_map(|(name, expected)| Some((name.clone(), corrected(expected, is.get(name)?, whole))));
            Value::Object(fields.collect())
        }
        (Value::Array(expected), Value::Array(is)) => {
            let known = expected.iter().zip(is).map(|(expected, is)| corrected(expected, is, whole));
            known.chain(is.iter().skip(expected.len()).cloned()).collect()
        }
        _ => is.clone(),
    }
}

/// Where the values of an object's members are, and its end.
fn members(object: &str) -> Result<(Vec<(String, Range<usize>)>, usize)> {
    let skip = |at: usize, skipped: &[u8]| at + object.bytes().skip(at).take_while(|byte| byte.is_ascii_whitespace() || skipped.contains(byte)).count();
    let mut members = Vec::new();
    let mut at = skip(0, b"{");
    while object[at..].starts_with('"') {
        let (name, end) = value::<String>(object, at)?;
        let start = skip(end, b":");
        let (IgnoredAny, end) = value(object, start)?;
        members.push((name, start..end));
        at = skip(end, b",");
    }
    Ok((members, at))
}

fn value<T: DeserializeOwned>(text: &str, at: usize) -> Result<(T, usize)> {
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<T>();
    let value = values.next().context("the file ends early")??;
    Ok((value, at + values.byte_offset()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_found_whatever_is_in_them() {
        let object = " {\n \"a\" : [1, {\"expect\": 2}],\"b\":3 , \"c}\": \"\\\"}\" }\n";
        let (found, end) = members(object).unwrap();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, place)| (name.as_str(), &object[place.clone()])).collect();
        assert_eq!(found, [("a", "[1, {\"expect\": 2}]"), ("b", "3"), ("c}", "\"\\\"}\"")]);
        assert_eq!(&object[end..], "}\n");
        assert_eq!(members("{}").unwrap(), (Vec::new(), 1));
    }

    #[test]
    fn what_was_not_expected_of_an_object_is_not_expected_afterwards() {
        let is = json!({ "status": 200, "body": "new", "list": [{ "a": 1, "b": 2 }, { "a": 3, "b": 4 }] });
        for (expected, whole, after) in [
            (json!({ "body": "old" }), false, json!({ "body": "new" })),
            (json!({ "list": [{ "a": 0 }] }), false, json!({ "list": [{ "a": 1 }, { "a": 3, "b": 4 }] })),
            (json!({ "gone": 1 }), false, json!({})),
            (json!({ "body": "old" }), true, is.clone()),
            (json!("text"), false, is.clone()),
        ] {
            assert_eq!(corrected(&expected, &is, whole), after, "{expected}");
        }
    }
}
