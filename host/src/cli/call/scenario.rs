//! The file that says what to call, what is there, and what to expect. Knows
//! its own form only: whether it fits a plugin, [`super::stage`] finds out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::work::rehearsal::Collections;

/// One call and what is around it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    pub call: Option<Named>,
    /// By the WIT types of the function: see `engine::values`.
    pub parameters: Vec<Value>,
    /// The call's instant, RFC 3339.
    pub now: Option<jiff::Timestamp>,
    /// As under `[config.NAME]` in `souk.toml`.
    pub settings: Map<String, Value>,
    pub secrets: BTreeMap<String, String>,
    /// Of the plugin that is called: collection, key, document.
    pub documents: Collections<Value>,
    pub counters: Collections<i64>,
    /// What the shopper's session holds for the plugin.
    pub session: BTreeMap<String, String>,
    /// What the web answers. Other requests fail.
    pub http: Vec<Exchange>,
    /// Built plugins that are called, or asked; relative to the file.
    pub with: Vec<PathBuf>,
    pub expect: Expect,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Named {
    pub interface: String,
    pub function: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exchange {
    pub method: String,
    pub url: String,
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// As a `list<u8>`.
    #[serde(default, deserialize_with = "given")]
    pub body: Option<Value>,
}

/// Parts that are not given are not compared.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    #[serde(deserialize_with = "given")]
    pub answer: Option<Value>,
    /// That the call fails, and how.
    #[serde(deserialize_with = "given")]
    pub failure: Option<Value>,
    /// All of them; the other parts are compared as far as they go.
    #[serde(deserialize_with = "given")]
    pub writes: Option<Value>,
    #[serde(deserialize_with = "given")]
    pub events: Option<Value>,
    #[serde(deserialize_with = "given")]
    pub effects: Option<Value>,
    #[serde(deserialize_with = "given")]
    pub jobs: Option<Value>,
    #[serde(deserialize_with = "given")]
    pub log: Option<Value>,
    #[serde(deserialize_with = "given")]
    pub http: Option<Value>,
    /// The same at each run of one build: holds against growing slow.
    pub instructions_max: Option<u64>,
}

/// `null` is a value like others.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Scenario {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("."))).with_context(|| path.display().to_string())
    }

    /// Errors name the field.
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let json = &mut serde_json::Deserializer::from_str(text);
        let mut scenario: Self = serde_path_to_error::deserialize(json).map_err(|error| match error.path().to_string() {
            whole if whole == "." => anyhow!("{}", error.inner()),
            path => anyhow!("{path}: {}", error.inner()),
        })?;
        scenario.with.iter_mut().for_each(|with| *with = folder.join(&*with));
        Ok(scenario)
    }
}
