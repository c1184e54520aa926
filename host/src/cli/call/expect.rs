//! Compares what came of a call with what a scenario expects of it. Pure.

use serde_json::Value;

use super::report::Report;
use super::scenario::Expect;

/// What of a report can be expected, and whether that is all of it.
pub fn parts(report: &Report) -> [(&'static str, Value, bool); 8] {
    [
        ("failure", serde_json::to_value(&report.failure).unwrap_or_default(), false),
        ("answer", report.answer.clone(), false),
        ("writes", report.writes.clone(), true),
        ("events", report.events.clone(), false),
        ("effects", report.effects.clone(), false),
        ("jobs", report.jobs.clone(), false),
        ("log", report.log.clone(), false),
        ("http", report.http.clone(), false),
    ]
}

/// Where they differ, each with its path.
pub fn differences(expect: &Expect, report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let Expect { failure, answer, writes, events, effects, jobs, log, http, instructions_max } = expect;
    let expected = [failure, answer, writes, events, effects, jobs, log, http];
    for (expected, (part, is, whole)) in expected.into_iter().zip(parts(report)) {
        if let Some(expected) = expected {
            compare(part, expected, &is, whole, &mut found);
        }
    }
    let used = report.spent.instructions.used;
    if let Some(max) = *instructions_max
        && used.is_none_or(|used| used > max)
    {
        found.push(format!("instructions: {}, expected at most {max}", used.map_or("unknown".into(), |used| used.to_string())));
    }
    found
}

/// Objects in the fields that are expected, or in all if `whole`; lists in all.
fn compare(path: &str, expected: &Value, is: &Value, whole: bool, found: &mut Vec<String>) {
    match (expected, is) {
        (Value::Object(expected), Value::Object(is)) => {
            for (name, expected) in expected {
                match is.get(name) {
                    Some(is) => compare(&format!("{path}.{name}"), expected, is, whole, found),
                    None => found.push(format!("{path}.{name}: is missing, expected {expected}")),
                }
            }
            for (name, is) in is.iter().filter(|(name, _)| whole && !expected.contains_key(*name)) {
                found.push(format!("{path}.{name}: is {is}, expected nothing"));
            }
        }
        (Value::Array(expected), Value::Array(is)) => {
            if expected.len() != is.len() {
                found.push(format!("{path}: has {} items, expected {}", is.len(), expected.len()));
            }
            for (place, (expected, is)) in expected.iter().zip(is).enumerate() {
                compare(&format!("{path}[{place}]"), expected, is, whole, found);
            }
            for (place, is) in is.iter().enumerate().skip(expected.len()) {
                found.push(format!("{path}[{place}]: is {is}, expected nothing"));
            }
        }
        (expected, is) if expected != is => found.push(format!("{path}: is {is}, expected {expected}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_expected_is_compared_but_of_writes_all() {
        for (expected, is, whole, differences) in [
            (json!({ "a": 1 }), json!({ "a": 1, "b": 2 }), false, &[][..]),
            (json!({ "a": 1 }), json!({ "a": 1, "b": 2 }), true, &["x.b: is 2, expected nothing"]),
            (json!({ "a": { "b": [1, 2] } }), json!({ "a": { "b": [1, 3] } }), false, &["x.a.b[1]: is 3, expected 2"]),
            (json!([1]), json!([1, 2]), false, &["x: has 2 items, expected 1", "x[1]: is 2, expected nothing"]),
            (json!({ "a": null }), json!({}), false, &["x.a: is missing, expected null"]),
            (json!(null), json!(null), false, &[]),
            (json!("1"), json!(1), false, &["x: is 1, expected \"1\""]),
        ] {
            let mut found = Vec::new();
            compare("x", &expected, &is, whole, &mut found);
            assert_eq!(found, differences, "{expected} {is}");
        }
    }
}
