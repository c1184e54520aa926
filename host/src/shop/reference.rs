//! The reference of `plugin.toml`, from the types that read it: for editors as
//! a JSON Schema, for people as `docs/manifest.md`. Knows no plugin.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::manifest::Manifest;

const BEGINNING: &str = "\
<!-- Written by `souk plugin schema --markdown > docs/manifest.md`. -->

# plugin.toml

The manifest lies beside the component. Keys that are not listed here are refused, and so are values out of their bounds:
`souk plugin check FOLDER` tells all that is wrong with one. `souk plugin schema > plugin.schema.json` gives editors what this
page says; the first line `#:schema plugin.schema.json` in a manifest shows it to those that understand taplo's comments.
";

pub fn schema() -> Value {
    schemars::schema_for!(Manifest).to_value()
}

pub fn markdown() -> String {
    let schema = schema();
    let mut page = BEGINNING.to_owned();
    table(&mut page, &schema, &schema);
    let definitions = schema["$defs"].as_object().into_iter().flat_map(Map::values);
    for definition in definitions.filter(|definition| definition["properties"].is_object()) {
        let _ = writeln!(page, "\n## {}\n\n{}", text(definition, "title"), paragraph(definition));
        table(&mut page, definition, &schema);
    }
    page
}

/// Keys of a table of the manifest.
fn table(page: &mut String, of: &Value, schema: &Value) {
    page.push_str("\n| key | takes | unless given | |\n| --- | --- | --- | --- |\n");
    for (key, property) in of["properties"].as_object().into_iter().flatten() {
        let required = of["required"].as_array().is_some_and(|required| required.contains(&Value::from(key.as_str())));
        let default = match &property["default"] {
            _ if required => "must be given".into(),
            Value::Null => String::new(),
            Value::String(text) if text.is_empty() => "none".into(),
            Value::Array(list) if list.is_empty() => "none".into(),
            Value::Object(table) if table.is_empty() => "none".into(),
            Value::Object(_) => "the defaults below".into(),
            value => format!("`{value}`").replace('"', ""),
        };
        let _ = writeln!(page, "| `{key}` | {} | {default} | {}{} |", takes(property, schema), paragraph(property), choices(property, schema));
    }
}

/// The type of a property, with its bounds.
fn takes(property: &Value, schema: &Value) -> String {
    if let Some(target) = resolved(property, schema) {
        return match target["title"].as_str() {
            Some(title) if target["properties"].is_object() => format!("table [`{title}`](#{})", anchor(title)),
            _ => values(target).iter().map(|(value, _)| format!("`{value}`")).collect::<Vec<_>>().join(", "),
        };
    }
    // Options are what may be left out: there is no null in TOML.
    let kind = property["type"].as_str().or_else(|| property["type"].as_array()?.first()?.as_str());
    match kind {
        Some("array") if property["items"] == Value::Bool(true) => "list".into(),
        Some("array") => format!("list of {}", takes(&property["items"], schema)),
        Some("object") => format!("{} for each", takes(&property["additionalProperties"], schema)),
        Some("string") => "text".into(),
        Some(number @ ("integer" | "number")) => match (&property["minimum"], &property["maximum"]) {
            (Value::Number(min), Value::Number(max)) => format!("{number}, {min} to {max}"),
            _ => number.into(),
        },
        Some(other) => other.into(),
        None => "any value".into(),
    }
}

/// What each of a few values means, where that is said.
fn choices(property: &Value, schema: &Value) -> String {
    let Some(target) = resolved(property, schema) else { return String::new() };
    values(target).iter().filter(|(_, meaning)| !meaning.is_empty()).map(|(value, meaning)| format!(" `{value}`: {meaning}")).collect()
}

fn values(definition: &Value) -> Vec<(String, String)> {
    let documented = definition["oneOf"].as_array().into_iter().flatten();
    documented
        .flat_map(|choice| {
            let plain = choice["enum"].as_array().into_iter().flatten().map(|value| (value, String::new()));
            plain.chain(choice.get("const").map(|value| (value, paragraph(choice))))
        })
        .chain(definition["enum"].as_array().into_iter().flatten().map(|value| (value, String::new())))
        .filter_map(|(value, meaning)| Some((value.as_str()?.to_owned(), meaning)))
        .collect()
}

fn resolved<'a>(property: &Value, schema: &'a Value) -> Option<&'a Value> {
    let reference = property["$ref"].as_str()?;
    schema.pointer(reference.strip_prefix('#')?)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The lines of a comment, as one.
fn paragraph(value: &Value) -> String {
    text(value, "description").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As GitHub makes them from headings.
fn anchor(title: &str) -> String {
    title.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_what_the_types_say() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manifest.md");
        let written = std::fs::read_to_string(page).unwrap_or_default();
        assert!(written == markdown(), "docs/manifest.md is not up to date. Run: souk plugin schema --markdown > docs/manifest.md");
    }

    #[test]
    fn limits_defaults_and_choices_are_told() {
        let page = markdown();
        for line in [
            "| `memory-mib` | integer, 1 to 256 | `64` | All linear memories of an instance. |",
            "| `name` | text | must be given | Unique in a shop,",
            "| `routes` | list of table [`[[routes]]`](#routes) | none |",
            "| `kind` | `service`, `provider` | `service` | How the plugin runs. `service`: Linked",
            "| `deadline-ms` | integer, 1 to 30000 | `200` |",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }
}
