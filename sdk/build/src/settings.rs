//! The manifest of a built plugin: that of its source, and the settings that
//! `souk_sdk::config!` left in the module.

use anyhow::{Context, Result, ensure};
use wasmparser::{Parser, Payload};

/// Holds a TOML table for each setting, named as its field is in Rust.
const SECTION: &str = "souk-config";

/// `source` is the text of a `plugin.toml`.
pub fn manifest(source: &str, module: &[u8]) -> Result<String> {
    let settings = schema(module)?;
    if settings.is_empty() {
        return Ok(source.to_owned());
    }
    let written: toml::Table = toml::from_str(source)?;
    ensure!(
        !written.contains_key("config"),
        "[config] is in plugin.toml, and settings are in the code (souk_sdk::config!): remove one of them"
    );
    let config = toml::Table::from_iter([("config".to_owned(), toml::Value::Table(settings))]);
    Ok(format!("{}\n\n# From `souk_sdk::config!` in the plugin's code.\n{}", source.trim_end(), toml::to_string(&config)?))
}

fn schema(module: &[u8]) -> Result<toml::Table> {
    let mut text = String::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CustomSection(section) = payload?
            && section.name() == SECTION
        {
            text += std::str::from_utf8(section.data()).context("the settings are not UTF-8")?;
        }
    }
    let mut settings: toml::Table = toml::from_str(&text).context("the settings of souk_sdk::config! cannot be read: does a text hold three quotes?")?;
    for (_, setting) in &mut settings {
        // Lines of a comment, as one.
        if let Some(toml::Value::String(description)) = setting.get_mut("description") {
            *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    }
    Ok(settings.into_iter().map(|(field, setting)| (field.replace('_', "-"), setting)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module that has nothing but this section.
    fn module(name: &str, text: &str) -> Vec<u8> {
        let content = [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), text.as_bytes()].concat();
        // A length below 2^14 in two bytes of LEB128.
        let length = [(content.len() & 0x7f) as u8 | 0x80, u8::try_from(content.len() >> 7).unwrap()];
        [b"\0asm\x01\0\0\0\0", &length[..], &content].concat()
    }

    const TEXT: &str = "[page_size]\ntype = \"integer\"\ndefault = 10\nmin = 1\nmax = 90\ndescription = ''' How many\n fit.\n'''\n";

    #[test]
    fn settings_of_the_code_are_written_into_the_manifest() {
        let built = manifest("name = \"demo\"\n\n[limits]\nmemory-mib = 8\n", &module(SECTION, TEXT)).unwrap();
        let built: toml::Table = toml::from_str(&built).unwrap();
        let wanted: toml::Table = toml::from_str(
            "name = \"demo\"\nlimits.memory-mib = 8\nconfig.page-size = { type = \"integer\", default = 10, min = 1, max = 90, description = \"How many fit.\" }",
        )
        .unwrap();
        assert_eq!(built, wanted);
    }

    #[test]
    fn a_manifest_is_left_as_it_is_where_the_code_has_no_settings() {
        let by_hand = "name = \"demo\" # mine\nconfig.x = { type = \"boolean\" }\n";
        assert_eq!(manifest(by_hand, &module("other", TEXT)).unwrap(), by_hand);
    }

    #[test]
    fn settings_in_both_places_are_refused() {
        let error = manifest("config.x = { type = \"boolean\" }", &module(SECTION, TEXT)).unwrap_err().to_string();
        assert!(error.contains("remove one of them"), "{error}");
    }
}
